// The offer to put the app on the home screen: after the second success, and
// silent for 90 days once it was turned down. A counter and a date are all
// that is stored.

import { actions, button, h } from "./dom";
import { t } from "./texts";

const key = "sealgate.install";
const silence = 90 * 86_400_000;

type Memory = { successes: number; silentUntil: number };

function read(): Memory {
  try {
    return { successes: 0, silentUntil: 0, ...(JSON.parse(localStorage.getItem(key) ?? "{}") as Partial<Memory>) };
  } catch {
    return { successes: 0, silentUntil: 0 };
  }
}

function write(m: Memory): void {
  try {
    localStorage.setItem(key, JSON.stringify(m));
  } catch {
    // Without storage the offer is simply never made.
  }
}

/** countSuccess notes that an order was approved on this phone. */
export function countSuccess(): void {
  const m = read();
  write({ ...m, successes: Math.min(m.successes + 1, 99) });
}

type InstallEvent = Event & { prompt(): Promise<unknown> };

/** offerInstall adds the hint to the page when its time has come. */
export function offerInstall(into: HTMLElement): void {
  const m = read();
  const installed = matchMedia("(display-mode: standalone)").matches;
  if (installed || m.successes < 2 || Date.now() < m.silentUntil) return;
  const dismiss = () => {
    write({ ...m, silentUntil: Date.now() + silence });
    box.remove();
  };
  const box = h("section", { class: "app-install", "aria-label": t("install.title") },
    h("h2", {}, t("install.title")), h("p", {}, t("install.text")));
  if (/iPhone|iPad/.test(navigator.userAgent)) {
    box.append(h("p", {}, t("install.ios")), actions(button(t("install.dismiss"), dismiss)));
    into.append(box);
    return;
  }
  addEventListener("beforeinstallprompt", (event) => {
    event.preventDefault();
    const add = button(t("install.add"), () => void (event as InstallEvent).prompt().then(() => box.remove()), "primary");
    box.append(actions(button(t("install.dismiss"), dismiss), add));
    into.append(box);
  }, { once: true });
}
