// Registers the service worker. Its scope is /app, so it never sees what the
// desktop pages or the API do.

export function registerWorker(): void {
  if (!("serviceWorker" in navigator) || !window.isSecureContext) return;
  addEventListener("load", () => {
    navigator.serviceWorker.register("/sw.js", { scope: "/app" }).catch(() => {
      // Without it everything works; only the offline page is missing.
    });
  });
}
