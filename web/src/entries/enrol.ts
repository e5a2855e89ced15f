// /enrol: binds a phone. Before the order: check the card component, read the
// card. With the order: QR code, then the card signs what the phone made.
// Nothing touches the component before the person presses a button.

import { Component, CardError, type ReadCard } from "../desk/card";
import type { OrderState } from "../desk/follow";
import { byId, on, say, title } from "../desk/live";
import { Panel } from "../desk/panel";
import { post, Problem, request } from "../shared/api";
import { clock, dateTime } from "../shared/format";
import { block, lang, t } from "../shared/texts";

interface Page {
  order: string;
  state: OrderState | null;
  frame?: string;
  live: boolean;
  card: { origin: string; download?: string };
  error?: { reason: string; params?: Record<string, string> };
}

const page = block<Page>("page");
const component = new Component(page.card.origin);
const statementEvery = 3000;

// The slot that was read is remembered for the signature, in this tab only.
const slotKey = "sealgate-card-slot";

function step(n: number): void {
  document.querySelectorAll<HTMLElement>(".stepper li").forEach((li, i) => {
    li.dataset["state"] = i + 1 < n ? "done" : i + 1 === n ? "now" : "";
    if (i + 1 === n) li.setAttribute("aria-current", "step");
    else li.removeAttribute("aria-current");
  });
}

function show(id: string): HTMLElement | undefined {
  document.querySelectorAll<HTMLElement>("[data-section]").forEach((el) => (el.hidden = el.id !== id));
  return byId(id);
}

/** Moves on because the person pressed something: focus goes to the new heading. */
function go(id: string): void {
  const heading = show(id)?.querySelector<HTMLElement>("h2");
  heading?.focus();
  if (heading?.textContent) say(heading.textContent);
}

function fail(text: string, next: string, code: string, focus = true): void {
  const box = byId("card-error");
  if (!box) return;
  byId("card-error-title")!.textContent = text;
  byId("card-error-next")!.textContent = next;
  byId("card-error-code")!.textContent = `${code}・${clock(Date.now())}`;
  const download = byId("card-download");
  if (download) download.hidden = !["missing", "old"].includes(code);
  box.hidden = false;
  title(t("enrol.title.error"));
  if (focus) box.focus();
}

function failed(e: unknown): void {
  if (e instanceof CardError) {
    fail(t(`card.${e.reason}`, e.params), t(`card.${e.reason}.next`, e.params), e.reason);
  } else if (e instanceof Problem) {
    fail(e.body.detail ?? t("qr.offline"), e.body.next_step ?? t("enrol.offline.next"), e.code);
  } else {
    throw e;
  }
}

function clear(): void {
  const box = byId("card-error");
  if (box) box.hidden = true;
}

async function busy(button: string, run: () => Promise<void>): Promise<void> {
  const b = byId<HTMLButtonElement>(button);
  if (b?.getAttribute("aria-disabled") === "true" || page.live === false) return;
  b?.setAttribute("aria-disabled", "true");
  clear();
  try {
    await run();
  } catch (e) {
    failed(e);
  } finally {
    b?.removeAttribute("aria-disabled");
  }
}

function tick(name: string, ok: boolean | undefined, value = ""): void {
  const li = document.querySelector<HTMLElement>(`[data-check-item="${name}"]`);
  if (!li) return;
  li.dataset["state"] = ok === undefined ? "wait" : ok ? "ok" : "fail";
  li.querySelector(".check-word")!.textContent = t(ok === undefined ? "enrol.check.wait" : ok ? "enrol.check.ok" : "enrol.check.fail");
  li.querySelector(".check-value")!.textContent = value;
}

// ---- before the order ----

async function check(): Promise<void> {
  byId("check-list")!.hidden = false;
  for (const n of ["component", "version", "reader", "card"]) tick(n, undefined);
  tick("browser", true);
  say(t("enrol.check.running"));
  try {
    await component.check(tick);
  } catch (e) {
    if (e instanceof CardError && ["popup", "missing", "closed", "timeout"].includes(e.reason)) tick(e.reason === "popup" ? "browser" : "component", false);
    throw e;
  }
  go("read");
}

let begun: { order: string } | undefined;

async function read(): Promise<void> {
  const input = byId<HTMLInputElement>("national-id")!;
  const typed = input.value.normalize("NFKC").replace(/\s/g, "").toUpperCase();
  const wrong = byId("national-id-error")!;
  if (!/^[A-Z][0-9A-D][0-9]{8}$/.test(typed)) {
    wrong.textContent = t("enrol.id.format");
    wrong.hidden = false;
    input.setAttribute("aria-invalid", "true");
    input.focus();
    return;
  }
  wrong.hidden = true;
  input.removeAttribute("aria-invalid");
  say(t("enrol.reading"));
  const card: ReadCard = await component.read();
  sessionStorage.setItem(slotKey, card.slot);
  const answer = await post<{ order: string; masked_name: string; not_after: string }>("/enrol/card", {
    national_id: typed, certificate: card.certificate, component_version: card.version, card_number: card.cardNumber,
  });
  begun = answer;
  byId("card-name")!.textContent = answer.masked_name;
  byId("card-until")!.textContent = dateTime(answer.not_after, lang()).replace(/[, ]+[0-9:]+$/, "");
  go("confirm");
}

// ---- with the order ----

let asking = false;
let statement: { tbs: string; nonce: string; replaces?: string } | undefined;

async function askStatement(): Promise<void> {
  if (asking || statement) return;
  asking = true;
  try {
    statement = await request<{ tbs: string; nonce: string; replaces?: string }>(`/enrol/${page.order}/statement`);
    if (statement.replaces) {
      byId("replace-label")!.textContent = t("enrol.replace", { name: statement.replaces });
      byId("replace-field")!.hidden = false;
    }
    step(3);
    show("sign-card");
    say(t("enrol.card_ready"));
    title(t("enrol.title.card"));
  } catch (e) {
    if (!(e instanceof Problem)) throw e;
  } finally {
    asking = false;
  }
}

async function signCard(): Promise<void> {
  const input = byId<HTMLInputElement>("pin")!;
  const pin = input.value;
  const wrong = byId("pin-error")!;
  if (!/^[0-9A-Za-z]{4,12}$/.test(pin)) {
    wrong.textContent = t("enrol.pin.format");
    wrong.hidden = false;
    input.setAttribute("aria-invalid", "true");
    input.focus();
    return;
  }
  wrong.hidden = true;
  input.removeAttribute("aria-invalid");
  if (!statement) throw new Problem({ status: 409, code: "enrol_no_credential" });
  say(t("enrol.signing"));
  const signing = component.sign(statement.tbs, statement.nonce, pin, sessionStorage.getItem(slotKey) ?? "");
  input.value = ""; // the PIN does not stay on the page
  const signed = await signing;
  const bound = await post<{ device: { name: string }; mobile_certificate?: unknown }>(`/enrol/${page.order}/proof`, {
    signature: signed.signature, certificate: signed.certificate, card_number: signed.cardNumber,
    replace: Boolean(statement.replaces && byId<HTMLInputElement>("replace")?.checked),
  });
  finish(bound.device.name, !bound.mobile_certificate);
}

/** pending says that another authority has yet to issue the certificate. */
function finish(name: string, pending: boolean): void {
  sessionStorage.removeItem(slotKey);
  byId("done-pending")!.hidden = !pending;
  byId("done-bound")!.hidden = !pending;
  byId("done-text")!.hidden = pending;
  if (name) byId("done-name")!.textContent = name;
  step(4);
  go("done");
  say(t("enrol.done"));
  title(t("enrol.title.done"));
}

function changed(s: OrderState): void {
  if (s.state === "scanned") {
    if (page.live !== false) void askStatement();
  } else if (s.state === "completed" && byId("done")!.hidden) {
    step(4);
    show("done");
    title(t("enrol.title.done"));
  } else if (["rejected", "expired", "cancelled", "failed"].includes(s.state)) {
    statement = undefined;
    show("scan");
    byId("again")!.hidden = false;
  }
}

if (page.order && page.state) {
  step(page.state.state === "completed" ? 4 : 2);
  show(page.state.state === "completed" ? "done" : "scan");
  let now = page.state;
  new Panel({
    state: page.state, frame: page.frame || "", site: "", live: page.live !== false, leave: false,
    changed: (s) => {
      now = s;
      changed(s);
    },
  });
  if (page.live !== false) setInterval(() => now.state === "scanned" && void askStatement(), statementEvery);
  on("sign-form", "submit", (e) => {
    e.preventDefault();
    void busy("sign-button", signCard);
  });
} else {
  step(1);
  on("check-button", "click", () => void busy("check-button", check));
  on("read-form", "submit", (e) => {
    e.preventDefault();
    void busy("read-button", read);
  });
  on("confirm-yes", "click", () => begun && location.assign(`/enrol/${begun.order}`));
  on("confirm-no", "click", () => {
    if (begun) void post(`/o/${begun.order}/cancel`).catch(() => undefined);
    begun = undefined;
    go("read");
  });
}
if (page.error) fail(t(`card.${page.error.reason}`, page.error.params), t(`card.${page.error.reason}.next`, page.error.params), page.error.reason, false);
