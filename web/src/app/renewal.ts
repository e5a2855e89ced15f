// Renewing this phone's mobile certificate: one press, one fingerprint.

import * as api from "../shared/device-api";
import type { Device } from "../shared/device-api";
import { CeremonyError, getAssertion } from "../shared/webauthn";
import { actions, announce, busy, button, h, icon, link, notice, shapes } from "./dom";
import { dateText, timeElement } from "./format";
import { showError } from "./refusals";
import { withSession } from "./session";
import { t } from "./texts";

const key = "sealgate.renewal";

/** due is the part of a phone's card that says that its certificate ends. */
export function due(d: Device, back: () => void): HTMLElement | null {
  if (!d.certificate?.renew) return null;
  const past = new Date(d.certificate.not_after) < new Date();
  return h("div", { class: "app-caution" }, icon(shapes.warn), h("div", {},
    h("p", {}, t(past ? "devices.renew.past" : "devices.renew.ends"), " ", timeElement(d.certificate.not_after, "day")),
    h("p", {}, t(d.this ? "devices.renew.how" : "devices.renew.there")),
    d.this && actions(button(t("devices.renew"), () => renew(back), "primary"))));
}

function renew(back: () => void): void {
  void withSession(t("devices.renew"), begin, (r) => void sign(r, back), true);
}

async function begin(): Promise<api.RenewalRequest | api.Problem> {
  try {
    return await api.beginRenewal();
  } catch (err) {
    if (err instanceof api.Problem && err.status !== 401 && err.status < 500) return err;
    throw err; // asks to sign in, or to try again
  }
}

async function sign(r: api.RenewalRequest | api.Problem, back: () => void): Promise<void> {
  if (r instanceof api.Problem) return refused(r, back);
  const done = busy(t("devices.renew.working"));
  announce(t("order.before"));
  try {
    const made = await api.completeRenewal(r.renewal, await getAssertion(r.public_key));
    notice({
      tone: "ok", title: t(made.pending ? "devices.renew.pending" : "devices.renew.done"), focus: true, actions: [button(t("devices.back"), back, "primary")],
      more: [h("p", {}, t("devices.renew.until"), " ", timeElement(made.certificate.not_after, "day")), h("p", {}, t("devices.renew.old"))],
    });
  } catch (err) {
    if (err instanceof CeremonyError) cancelled(back);
    else if (err instanceof api.Problem && err.status < 500) refused(err, back);
    else showError(err, () => renew(back), true);
  } finally {
    done();
  }
}

function refused(p: api.Problem, back: () => void): void {
  notice({
    tone: "warn", title: p.detail || p.title, text: p.nextStep, code: p.code, focus: true,
    actions: [button(t("devices.back"), back, "primary"), link(t("common.help"), "/help")],
  });
}

function cancelled(back: () => void): void {
  notice({
    tone: "warn", title: t("devices.renew.cancelled"), text: t("devices.renew.cancelled.text"), focus: true,
    actions: [button(t("common.again"), () => renew(back), "primary"), button(t("devices.back"), back)],
  });
}

/** remember keeps on this phone until when its certificate should be renewed, for the start page. */
export function remember(items: Device[]): void {
  const mine = items.find((d) => d.this);
  try {
    if (mine?.certificate?.renew) localStorage.setItem(key, mine.certificate.not_after);
    else localStorage.removeItem(key);
  } catch {
    // Storage may be off. The list of devices still says it.
  }
}

/** remind shows on the start page what the list of devices said last. */
export function remind(box: HTMLElement): void {
  try {
    const end = new Date(localStorage.getItem(key) ?? "");
    if (Number.isNaN(end.getTime())) return;
    box.querySelector("time")?.replaceWith(h("time", { datetime: end.toISOString() }, dateText(end)));
    box.hidden = false;
  } catch {
    // As above.
  }
}
