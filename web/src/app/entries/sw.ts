// The service worker of the phone app. It keeps the shell (scripts, styles,
// icons, the scanner) and one page for when there is no network. Orders, frames
// and the API are never kept, and never even looked at.
//
// The server puts one line before this file: self.SHELL = {version, files, offline}.

type Shell = { version: string; files: string[]; offline: string };
type ExtendableEvent = Event & { waitUntil(work: Promise<unknown>): void };
type FetchEvent = ExtendableEvent & { request: Request; respondWith(answer: Promise<Response>): void };
type WorkerScope = {
  SHELL: Shell;
  addEventListener(type: "install" | "activate", listener: (event: ExtendableEvent) => void): void;
  addEventListener(type: "fetch", listener: (event: FetchEvent) => void): void;
  skipWaiting(): Promise<void>;
  clients: { claim(): Promise<void> };
  location: Location;
};

const scope = self as unknown as WorkerScope;
const { version, files, offline } = scope.SHELL;
const name = `shell-${version}`;

scope.addEventListener("install", (event) => {
  event.waitUntil(
    caches.open(name)
      .then((cache) => cache.addAll([...files, offline].map((url) => new Request(url, { cache: "reload" }))))
      .then(() => scope.skipWaiting()),
  );
});

scope.addEventListener("activate", (event) => {
  event.waitUntil(
    caches.keys()
      .then((all) => Promise.all(all.filter((n) => n.startsWith("shell-") && n !== name).map((n) => caches.delete(n))))
      .then(() => scope.clients.claim()),
  );
});

scope.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== scope.location.origin) return;
  // The names of assets carry a hash of their content: what is kept is never stale.
  if (url.pathname.startsWith("/assets/")) event.respondWith(fromShell(request));
  else if (request.mode === "navigate") event.respondWith(fetch(request).catch(() => offlinePage()));
});

async function fromShell(request: Request): Promise<Response> {
  const cache = await caches.open(name);
  const found = await cache.match(request, { ignoreVary: true });
  if (found) return found;
  const answer = await fetch(request);
  if (answer.ok) await cache.put(request, answer.clone());
  return answer;
}

async function offlinePage(): Promise<Response> {
  const page = await caches.match(offline, { ignoreVary: true });
  return page ?? Response.error();
}
export {};
