// Where the page runs: browsers inside other apps cannot use passkeys, and
// must be left before an order is claimed.

import { available } from "../shared/webauthn";
import { actions, announce, button, h, heading, link, notice, show } from "./dom";
import { t } from "./texts";

const inApp: [RegExp, string][] = [
  [/\bLine\//i, "LINE"],
  [/\bFB(?:AN|AV|IOS|_IAB)\b/, "Facebook"],
  [/\bInstagram\b/, "Instagram"],
  [/\bMicroMessenger\b/i, "WeChat"],
  [/\bTelegram\b/i, "Telegram"],
  [/; wv\)/, "App"],
];

/** inAppBrowser names the app whose built-in browser shows the page, if any. */
export function inAppBrowser(agent = navigator.userAgent): string | undefined {
  return inApp.find(([pattern]) => pattern.test(agent))?.[1];
}

/** gate shows a way out and gives false when this browser cannot confirm anything. */
export function gate(): boolean {
  const app = inAppBrowser();
  if (app) {
    leaveApp(app);
    return false;
  }
  if (available() && window.isSecureContext) return true;
  notice({
    tone: "warn",
    title: t("gate.unsupported.title"),
    text: window.isSecureContext ? t("gate.unsupported.text") : t("gate.insecure.text"),
    more: [addressField()],
    actions: [copyButton()],
    code: window.isSecureContext ? "APP-02" : "APP-03",
  });
  return false;
}

function leaveApp(app: string): void {
  const way = outsideLink(app);
  show(
    { state: t("gate.inapp.title") },
    heading(t("gate.inapp.title")),
    h("p", {}, t("gate.inapp.text", { app })),
    actions(way ? link(t("gate.inapp.open"), way, "primary") : null, copyButton(way ? "quiet" : "primary")),
    addressField(),
    h("p", {}, t("gate.inapp.manual")),
    h("p", { class: "app-hint" }, t("gate.inapp.hurry")),
  );
}

// LINE opens its own links outside when asked by this parameter; Android takes
// an intent link; elsewhere only copying is left.
function outsideLink(app: string): string | undefined {
  const here = new URL(location.href);
  if (app === "LINE") {
    here.searchParams.set("openExternalBrowser", "1");
    return here.href;
  }
  if (/Android/i.test(navigator.userAgent)) {
    const scheme = here.protocol.replace(":", "");
    return `intent://${here.host}${here.pathname}${here.search}#Intent;scheme=${scheme};action=android.intent.action.VIEW;category=android.intent.category.BROWSABLE;end`;
  }
  return undefined;
}

function addressField(): HTMLElement {
  return h("p", { class: "field" },
    h("label", { for: "address" }, t("gate.inapp.address")),
    h("input", { id: "address", type: "text", readonly: true, value: location.href, class: "input mono" }));
}

function copyButton(kind: "primary" | "quiet" = "primary"): HTMLButtonElement {
  return button(t("gate.inapp.copy"), () => {
    const field = document.getElementById("address") as HTMLInputElement | null;
    const copied = () => announce(t("gate.inapp.copied"));
    const byHand = () => {
      field?.select();
      if (document.execCommand("copy")) copied();
    };
    if (navigator.clipboard) navigator.clipboard.writeText(location.href).then(copied, byHand);
    else byHand();
  }, kind);
}

/** deviceName guesses a name that a person would recognise in a list of phones. */
export function deviceName(agent = navigator.userAgent): string {
  if (/iPhone/.test(agent)) return "iPhone";
  if (/iPad/.test(agent)) return "iPad";
  const android = /Android [\d.]+; ([^;)]+?)(?: Build|[;)])/.exec(agent)?.[1];
  if (android && !/^(K|wv|Mobile)$/.test(android)) return android;
  if (/Android/.test(agent)) return "Android";
  if (/Macintosh/.test(agent)) return "Mac";
  if (/Windows/.test(agent)) return "Windows";
  return t("order.device.default");
}

/** browserName names the browser for "Settings › … › Camera". */
export function browserName(agent = navigator.userAgent): string {
  if (/SamsungBrowser/.test(agent)) return "Samsung Internet";
  if (/EdgA?|EdgiOS/.test(agent)) return "Edge";
  if (/FxiOS|Firefox/.test(agent)) return "Firefox";
  if (/CriOS|Chrome/.test(agent)) return "Chrome";
  return "Safari";
}
