// /app/add/ORDER: the first phone shows the QR code to the new one, and then
// agrees to it with a fingerprint or face over the statement that names it.

import { CeremonyError, getAssertion } from "../shared/webauthn";
import * as api from "../shared/device-api";
import { dateTime } from "../shared/format";
import { lang, t } from "../shared/texts";
import { Panel } from "../desk/panel";
import type { OrderState } from "../desk/follow";
import { byId, on, say, title } from "../desk/live";

interface Page {
  order: string;
  state: OrderState;
  frame?: string;
  live?: boolean;
  newcomer?: api.Newcomer; // shown at once (/dev/states)
  done?: api.Added;
}

const page = JSON.parse(byId("page")!.textContent ?? "{}") as Page;
const askEvery = 1500;

let newcomer: api.Newcomer | undefined;
let asking = false;
let ended = false;

function show(name: "scan" | "agree" | "done", focus: boolean): void {
  for (const section of document.querySelectorAll<HTMLElement>("[data-section]")) section.hidden = section.id !== name;
  if (focus) byId(`${name}-title`)?.focus();
}

/** ask looks whether the new phone has made its passkey. */
async function ask(): Promise<void> {
  if (asking || newcomer || ended || page.live === false) return;
  asking = true;
  try {
    present(await api.newcomer(page.order));
  } catch (e) {
    if (e instanceof api.Problem && e.code !== "enrol_no_credential" && e.code !== "order_check_needed" && e.code !== "order_not_claimed") fail(e);
  } finally {
    asking = false;
  }
}

function present(n: api.Newcomer): void {
  newcomer = n;
  const d = n.device;
  byId("new-name")!.textContent = d.name;
  byId("new-browser")!.textContent = [d.browser, d.os].filter(Boolean).join(" · ") || t("addphone.unproven");
  byId("new-model")!.textContent = d.model || t("addphone.unproven");
  show("agree", true);
  say(t("addphone.check"));
  title(t("addphone.check"));
}

async function agree(): Promise<void> {
  const button = byId<HTMLButtonElement>("agree-button")!;
  if (!newcomer || button.getAttribute("aria-disabled") === "true" || page.live === false) return;
  button.setAttribute("aria-disabled", "true");
  try {
    const assertion = await getAssertion(newcomer.public_key);
    say(t("addphone.working"));
    finish(await api.approveAddition(page.order, assertion));
  } catch (e) {
    // Fresh options: the old challenge serves again, but the phone may have moved on.
    button.removeAttribute("aria-disabled");
    fail(e);
  }
}

function finish(added: api.Added): void {
  ended = true;
  byId("done-text")!.textContent = t("addphone.done.text", { name: added.device.name });
  if (added.cooldown_until) {
    byId("done-time")!.textContent = dateTime(added.cooldown_until, lang());
    byId("done-cooldown")!.hidden = false;
  }
  byId("done-pending")!.hidden = !added.certificate_pending;
  byId("fault")!.hidden = true;
  show("done", true);
  say(t("addphone.done"));
  title(t("addphone.done"));
}

/** fail says what went wrong and what comes next, above what is shown. */
function fail(e: unknown): void {
  const box = byId("fault")!;
  const words = (head: string, next: string) => {
    byId("fault-title")!.textContent = head;
    byId("fault-next")!.textContent = next;
  };
  if (e instanceof CeremonyError) {
    const name = ({ no_key: "no_key", lock_missing: "lock", wrong_host: "host", timeout: "timeout", cancelled: "cancelled" } as Record<string, string>)[e.failure] ?? "other";
    words(t(`app.fail.${name}.title`), t(`app.fail.${name}.text`));
  } else if (e instanceof api.Problem) {
    words(e.detail || e.title, e.status === 401 ? t("addphone.session") : e.nextStep);
  } else {
    words(t("app.common.offline.title"), t("app.common.offline.text"));
  }
  box.hidden = false;
  box.focus();
  say(byId("fault-title")!.textContent ?? "", true);
}

function changed(s: OrderState): void {
  if (s.state === "scanned") void ask();
  else if (["rejected", "expired", "cancelled", "failed"].includes(s.state)) {
    ended = true;
    newcomer = undefined;
    show("scan", false);
    byId("again")!.hidden = false;
  }
}

let now = page.state;
new Panel({
  state: page.state, frame: page.frame || "", site: "", live: page.live !== false, leave: false,
  changed: (s) => {
    now = s;
    changed(s);
  },
});
if (page.live !== false) setInterval(() => now.state === "scanned" && void ask(), askEvery);
on("agree-form", "submit", (e) => {
  e.preventDefault();
  void agree();
});
if (page.newcomer) present(page.newcomer);
if (page.done) finish(page.done);
