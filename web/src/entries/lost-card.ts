// /lost/card: the card's holder stops all phones at once, or takes that back.
// The card signs a statement that says so; nothing changes before.

import { Component, CardError } from "../desk/card";
import { byId, on, say, title } from "../desk/live";
import { post, Problem } from "../shared/api";
import { clock, dateTime } from "../shared/format";
import { block, lang, t } from "../shared/texts";

type Purpose = "report-loss" | "undo-loss";

const page = block<{ card: { origin: string } }>("page");
const component = new Component(page.card.origin);
let slot = "";
let purpose: Purpose = "report-loss";
let statement: { id: string; tbs: string; nonce: string } | undefined;

function go(id: string): void {
  document.querySelectorAll<HTMLElement>("[data-section]").forEach((el) => (el.hidden = el.id !== id));
  const heading = byId(id)?.querySelector<HTMLElement>("h2");
  heading?.focus();
  if (heading?.textContent) say(heading.textContent);
}

function failed(e: unknown): void {
  const words = e instanceof CardError ? [t(`card.${e.reason}`, e.params), t(`card.${e.reason}.next`, e.params), e.reason]
    : e instanceof Problem ? [e.body.detail ?? t("qr.offline"), e.body.next_step ?? t("enrol.offline.next"), e.code] : undefined;
  if (!words) throw e;
  byId("card-error-title")!.textContent = words[0]!;
  byId("card-error-next")!.textContent = words[1]!;
  byId("card-error-code")!.textContent = `${words[2]}・${clock(Date.now())}`;
  byId("card-error")!.hidden = false;
  title(t("enrol.title.error"));
  byId("card-error")!.focus();
}

async function busy(id: string, run: () => Promise<void>): Promise<void> {
  const b = byId(id)!;
  if (b.getAttribute("aria-disabled") === "true") return;
  b.setAttribute("aria-disabled", "true");
  byId("card-error")!.hidden = true;
  try {
    await run();
  } catch (e) {
    failed(e);
  } finally {
    b.removeAttribute("aria-disabled");
  }
}

async function begin(wanted: Purpose): Promise<void> {
  purpose = wanted;
  say(t("enrol.reading"));
  const card = await component.read();
  slot = card.slot;
  statement = await post("/lost/statements", { purpose, certificate: card.certificate, card_number: card.cardNumber });
  byId("sign-text")!.textContent = t(purpose === "report-loss" ? "lostcard.sign.report" : "lostcard.sign.undo");
  go("sign-card");
  title(t("enrol.title.card"));
}

async function sign(): Promise<void> {
  const input = byId<HTMLInputElement>("pin")!;
  const pin = input.value;
  const wrong = byId("pin-error")!;
  wrong.hidden = /^[0-9A-Za-z]{4,12}$/.test(pin);
  if (!wrong.hidden) {
    wrong.textContent = t("enrol.pin.format");
    input.setAttribute("aria-invalid", "true");
    input.focus();
    return;
  }
  input.removeAttribute("aria-invalid");
  say(t("enrol.signing"));
  const signing = component.sign(statement!.tbs, statement!.nonce, pin, slot);
  input.value = ""; // the PIN does not stay on the page
  const signed = await signing;
  finish(await post(`/lost/statements/${statement!.id}/proof`, {
    signature: signed.signature, certificate: signed.certificate, card_number: signed.cardNumber,
  }));
}

function finish(out: { code: string; at: string; until: string; devices: string[] }): void {
  const report = purpose === "report-loss";
  byId("done-title")!.textContent = t(report ? "lostcard.done.report" : "lostcard.done.undo");
  byId("done-text")!.textContent = t(report ? "lostcard.done.report.text" : "lostcard.done.undo.text");
  byId("done-devices")!.replaceChildren(...out.devices.map((name) => Object.assign(document.createElement("li"), { textContent: name, dir: "auto" })));
  byId("done-code")!.textContent = out.code;
  byId("done-at")!.textContent = dateTime(out.at, lang());
  byId("done-until")!.textContent = dateTime(out.until, lang());
  for (const id of ["until-label", "done-until", "done-next"]) byId(id)!.hidden = !report;
  go("done");
  title(byId("done-title")!.textContent ?? "");
}

on("report-button", "click", () => void busy("report-button", () => begin("report-loss")));
on("undo-button", "click", () => void busy("undo-button", () => begin("undo-loss")));
on("sign-form", "submit", (e) => {
  e.preventDefault();
  void busy("sign-button", sign);
});
