// One order on the phone, from the claim to its outcome.

import * as api from "../shared/device-api";
import type { Claim, ClaimRequest, OrderStatus } from "../shared/device-api";
import { CeremonyError, createCredential, getAssertion } from "../shared/webauthn";
import type { CeremonyFailure, CredentialJSON } from "../shared/webauthn";
import { actions, announce, busy, button, h, icon, link, notice, reference, shapes, show, title } from "./dom";
import { makeCard, adding } from "./card";
import type { Card } from "./card";
import { forget, keep } from "./claims";
import { countSuccess } from "./install";
import { pointsOf } from "./points";
import { endOf, showEnding, showError } from "./refusals";
import { named, t } from "./texts";

const pollSeconds = 25;
const afterFailure = 3000;
// Making the signatures takes a moment; after this the phone says that they are being made.
const signingSeconds = 5;
const lastMinute = 60_000;

/** take claims an order and shows it. byPress says that a press of the person led here. */
export async function take(request: ClaimRequest, byPress: boolean): Promise<void> {
  const done = busy(t("order.claiming"));
  try {
    const claim = await api.claim(request);
    keep({ order: claim.order, token: claim.claim_token });
    settleAddress(`/app/order/${claim.order}`);
    navigator.vibrate?.(30);
    new Flow(claim, byPress).start();
  } catch (err) {
    if (err instanceof api.Problem) forget();
    showError(err, () => void take(request, true), byPress);
  } finally {
    done();
  }
}

// From here on a reload, or the language switch, continues the claim instead
// of scanning again.
function settleAddress(path: string): void {
  history.replaceState(null, "", path);
  document.querySelectorAll<HTMLAnchorElement>("a[hreflang]").forEach((a) => {
    a.href = `${path}?lang=${a.hreflang}`;
  });
}

class Flow {
  private card!: Card;
  private working = false;
  private ended = false;
  private checkOpen: boolean;
  /** Options are used once; undefined means that new ones must be asked for. */
  private options: Claim["public_key"] | undefined;
  private optionsFor = "";
  private made: CredentialJSON | undefined;
  /** What the approved order waits for, in the words of done.waiting.*. */
  private waits = "";
  private readonly watching = new AbortController();

  constructor(private readonly claim: Claim, private readonly byPress: boolean) {
    this.options = claim.public_key;
    this.checkOpen = Boolean(claim.check?.required && !claim.check.passed);
  }

  start(): void {
    this.showCard(this.byPress);
    void this.watch();
    this.watchClock();
  }

  private showCard(focus: boolean): void {
    this.card = makeCard(this.claim, { approve: () => void this.approve(), reject: () => void this.reject() });
    const spoken = this.checkOpen ? t(adding(this.claim) ? "order.check.spoken.add" : "order.check.spoken", { digits: this.claim.check?.digits ?? "" }) : "";
    show({ state: this.card.state, focus, say: focus ? spoken : `${this.card.state} ${spoken}`.trim() }, ...this.card.nodes);
    this.setWorking(false);
  }

  // aria-disabled keeps the button reachable, so that a press can say why it does nothing.
  private setWorking(working: boolean): void {
    this.working = working;
    this.card.approve.setAttribute("aria-disabled", String(working || this.checkOpen));
    this.card.reject.setAttribute("aria-disabled", String(working));
  }

  private async approve(): Promise<void> {
    if (this.working || this.ended || !this.ready()) return;
    this.setWorking(true);
    this.card.slot.replaceChildren();
    announce(t("order.before"));
    const leftOut = this.card.leftOut();
    try {
      const result = await this.ceremony(leftOut);
      announce(t("order.sending"));
      await this.send(result, leftOut);
    } catch (err) {
      if (!this.ended) this.failed(err);
    }
  }

  /** ready tells whether the button may act, and says why not. */
  private ready(): boolean {
    if (this.checkOpen) {
      announce(t(adding(this.claim) ? "order.check.spoken.add" : "order.check.spoken", { digits: this.claim.check?.digits ?? "" }), true);
      return false;
    }
    if (this.card.approve.hasAttribute("data-none-chosen")) {
      announce(t("order.documents.none"), true);
      return false;
    }
    if (this.claim.kind === "enrol" && !this.card.name()) {
      const field = document.getElementById("device-name") as HTMLInputElement;
      field.setAttribute("aria-invalid", "true");
      field.focus();
      announce(t("order.device.empty"), true);
      return false;
    }
    return true;
  }

  private async ceremony(leftOut: number[]): Promise<CredentialJSON> {
    const wanted = leftOut.join(",");
    if (!this.options || wanted !== this.optionsFor) {
      this.options = await api.options(this.claim.order, this.claim.claim_token, leftOut);
      this.optionsFor = wanted;
    }
    if (this.claim.kind !== "enrol") return getAssertion(this.options);
    // A credential that was made but perhaps not received is sent again, not made again.
    this.made ??= await createCredential(this.options);
    return this.made;
  }

  private async send(result: CredentialJSON, leftOut: number[]): Promise<void> {
    const { order, claim_token: token } = this.claim;
    this.options = undefined; // an answer is given to one challenge once
    try {
      const outcome = this.claim.kind === "enrol"
        ? await api.credential(order, token, result, this.card.name())
        : await api.approve(order, token, result, leftOut);
      await this.finish(outcome, leftOut.length);
    } catch (err) {
      // Perhaps only the answer was lost, or the browser itself sent the request
      // twice. Nobody but this phone can approve, so an approved order is our success.
      const unsure = err instanceof api.Unreachable || (err instanceof api.Problem && endOf(err.code) === "finished");
      if (!unsure) throw err;
      const now = await api.status(order, token).catch(() => undefined);
      if (now && this.succeeded(now.state)) return await this.finish(now, leftOut.length);
      throw err;
    }
  }

  private succeeded(state: string): boolean {
    return state === "approved" || state === "completed";
  }

  private end(): void {
    this.ended = true;
    this.watching.abort();
    forget();
  }

  private async finish(outcome: api.Outcome, leftOut: number): Promise<void> {
    this.end();
    if (this.claim.kind !== "enrol") countSuccess();
    if (this.claim.kind === "sign" && outcome.state === "approved") {
      const { order, claim_token: token } = this.claim;
      const now = await api.status(order, token, signingSeconds).catch(() => undefined);
      if (now?.state === "failed") return showEnding("failed", now.end_reason ?? "order_failed", true);
      if (now) outcome = { ...outcome, state: now.state };
      if (now?.state === "approved" && now.wait_reason) this.waits = /^ts[ap]_/.test(now.wait_reason) ? "time_stamp" : "other";
    }
    this.showOutcome(outcome, leftOut);
  }

  private showOutcome(outcome: api.Outcome, leftOut: number): void {
    const next = sameOrigin(outcome.next);
    const client = named(this.claim.client.name);
    const device = outcome.device?.name ? h("p", { class: "app-sub" }, t("done.device", { name: outcome.device.name })) : null;
    if (next) {
      notice({ tone: "ok", title: this.doneTitle(outcome, leftOut), text: t("done.back", { client }), actions: [link(t("done.backLink"), next, "primary")], focus: true });
      location.assign(next);
      return;
    }
    notice({
      tone: "ok", title: this.doneTitle(outcome, leftOut),
      text: this.waits ? t(`done.waiting.${this.waits}`) : t(adding(this.claim) ? "done.add.text" : this.claim.kind === "enrol" ? "done.enrol.text" : "done.computer"),
      more: [device],
      actions: this.claim.kind === "enrol"
        ? [link(t("common.done"), "/app", "primary")]
        : [link(this.claim.kind === "sign" ? t("done.history") : t("common.done"), this.claim.kind === "sign" ? "/app/history" : "/app", "primary"),
          link(t("done.notMe"), "/lost")],
      focus: true,
    });
  }

  private doneTitle(outcome: api.Outcome, leftOut: number): string {
    if (this.claim.kind === "enrol") return t("done.enrol.h1");
    if (this.claim.kind === "login") return t("done.login.h1", { client: named(this.claim.client.name) });
    if (outcome.state !== "completed") return t("done.pending");
    const points = pointsOf(this.claim.documents ?? []);
    if (points?.[0]?.returned) return t("done.return.h1");
    if (points) {
      const out = new Set(this.card.leftOut());
      const chosen = points.filter((p) => !out.has(p.record.index)).length;
      return chosen === 1 ? t("done.point.h1") : t("done.points.h1", { n: chosen });
    }
    const n = (this.claim.documents?.length ?? 0) - leftOut;
    return n === 1 ? t("done.sign.h1") : t("done.batch.h1", { n });
  }

  private failed(err: unknown): void {
    this.setWorking(false);
    if (err instanceof CeremonyError) return this.ceremonyFailed(err.failure);
    if (err instanceof api.Unreachable) {
      this.options = undefined;
      return this.inline("network", "NET-02", [], t("fail.network.send"));
    }
    if (err instanceof api.Problem && err.code === "passkey_overtaken") return this.inline("overtaken", err.code, []);
    if (err instanceof api.Problem && err.code === "order_check_needed") {
      this.checkOpen = true;
      return this.showCard(true);
    }
    this.end();
    showError(err, () => location.reload(), true);
  }

  private ceremonyFailed(failure: CeremonyFailure): void {
    switch (failure) {
      case "no_key":
        return this.inline("no_key", "KEY-01", [actions(link(t("fail.no_key.bind"), "/enrol"), link(t("fail.no_key.changed"), "/lost"))]);
      case "lock_missing":
        return this.inline("lock", "KEY-02", [h("p", {}, t("fail.lock.how"))]);
      case "already_registered":
        return this.inline("registered", "KEY-03", [link(t("nav.devices"), "/app/devices")]);
      case "wrong_host":
        return this.inline("host", "KEY-04", []);
      case "timeout":
        return this.inline("timeout", "KEY-05", []);
      case "cancelled":
        return this.inline("cancelled", "KEY-06", []);
      default:
        return this.inline("other", "KEY-09", []);
    }
  }

  /** inline shows a failure on the card, so that what was asked stays in sight. */
  private inline(key: string, code: string, more: Node[], label = t("common.again")): void {
    const head = h("h2", { tabindex: -1 }, t(`fail.${key}.title`));
    this.card.slot.replaceChildren(
      h("div", { class: "notice warn" }, icon(shapes.warn),
        h("div", {}, head, h("p", {}, t(`fail.${key}.text`)), ...more,
          reference(code))));
    this.card.approve.textContent = label;
    title(t(`fail.${key}.title`));
    announce(t(`fail.${key}.text`));
    head.focus();
  }

  private async reject(): Promise<void> {
    if (this.working || this.ended) return;
    this.setWorking(true);
    announce(t("order.sending"));
    const { order, claim_token: token } = this.claim;
    try {
      await api.reject(order, token, "not_me");
    } catch (err) {
      if (err instanceof api.Problem && endOf(err.code) === "rejected") {
        this.end();
        return this.refused();
      }
      this.setWorking(false);
      if (err instanceof api.Unreachable) return this.inline("network", "NET-03", []);
      this.end();
      return showError(err, () => location.reload(), true);
    }
    this.end();
    this.refused();
  }

  private refused(): void {
    const answered = (sentence: string) => {
      report.parentElement?.after(h("p", {}, sentence));
      (report.previousElementSibling as HTMLElement | null)?.focus(); // the pressed button goes away
      report.remove();
      announce(sentence);
    };
    const report = button(t("refused.report"), () => {
      report.disabled = true;
      api.reject(this.claim.order, this.claim.claim_token, "fraud").then(
        () => answered(t("refused.reported")),
        () => answered(t("refused.unreported")),
      );
    });
    notice({
      tone: "ok", title: t("refused.title"), text: t("refused.text"),
      actions: [link(t("common.done"), "/app", "primary"), report], focus: true,
    });
  }

  /** watch follows the order while the card is shown: the computer may cancel, the digits may arrive. */
  private async watch(): Promise<void> {
    const { order, claim_token: token } = this.claim;
    while (!this.ended) {
      const asked = Date.now();
      try {
        this.changed(await api.status(order, token, pollSeconds, this.watching.signal));
        if (Date.now() - asked < 500) await pause(500);
      } catch (err) {
        if (this.ended) return;
        if (err instanceof api.Problem && err.status !== 429 && err.status < 500) {
          if (!this.working) { this.end(); showError(err, () => location.reload()); }
          return;
        }
        await pause(afterFailure);
      }
    }
  }

  private changed(now: OrderStatus): void {
    if (this.ended || this.working) return;
    if (now.state !== "scanned" && now.state !== "created") {
      this.end();
      if (this.succeeded(now.state)) return showEnding("finished", `order_${now.state}`);
      return showEnding(endOf(now.state) ?? "failed", now.end_reason ?? `order_${now.state}`);
    }
    if (this.checkOpen && now.check?.passed) {
      this.checkOpen = false;
      this.card.digits?.replaceChildren(icon(shapes.ok), h("p", {}, t(adding(this.claim) ? "order.check.passed.add" : "order.check.passed")));
      this.card.digits?.classList.add("app-digits--passed");
      this.card.digits?.removeAttribute("aria-label");
      this.setWorking(false);
      announce(t(adding(this.claim) ? "order.check.passed.add" : "order.check.passed"));
    }
  }

  /** watchClock ends the card when the order's time is over, by the server's clock. */
  private watchClock(): void {
    const left = Date.parse(this.claim.expires_at) - Date.parse(this.claim.server_time);
    if (!(left > 0)) return;
    if (left > lastMinute) setTimeout(() => { if (!this.ended && !this.working) announce(t("order.deadline.soon")); }, left - lastMinute);
    setTimeout(() => {
      if (this.ended || this.working) return;
      this.end();
      showEnding("expired", "order_expired");
    }, left + 1000);
  }
}

/** sameOrigin accepts only a path on this host: the way back is never an outside address. */
function sameOrigin(next: string | undefined): string | undefined {
  if (!next) return undefined;
  try {
    const url = new URL(next, location.origin);
    return url.origin === location.origin ? url.pathname + url.search : undefined;
  } catch {
    return undefined;
  }
}

const pause = (ms: number) => new Promise((resume) => setTimeout(resume, ms));
