// The panel of an order on a computer: QR picture, time left, what the person
// can press, and what became of it. The server writes all its parts; the
// attribute data-state on the panel decides which of them are shown.

import { post, Problem } from "../shared/api";
import { t } from "../shared/texts";
import { follow, over, type OrderState } from "./follow";
import { byId, on, say, title } from "./live";
import { Picture } from "./qr";

export interface PanelOptions {
  state: OrderState;
  frame?: string;
  site: string;
  /** False on pages that only show a state (/dev/states). */
  live: boolean;
  /** Called after each state, before the panel's own reaction to an end. */
  changed?: (state: OrderState) => void;
  /** Where an approved or ended login goes by itself; false stays. */
  leave?: boolean;
}

const slow = 8000;
const leaveAfter = 700;

/** What an approved order waits for, in the words of the texts qr.waiting.*; "" for nothing. */
function waiting(state: OrderState): string {
  if (state.state !== "approved" || !state.wait_reason) return "";
  return /^ts[ap]_/.test(state.wait_reason) ? "time_stamp" : "other";
}

export class Panel {
  private readonly root = byId("order")!;
  private readonly pictures: Picture[] = [];
  private now: OrderState;
  private frame = "";
  private offset = 0;
  private warned = 0; // the last warning that was given, in seconds left
  private stop: () => void = () => {};
  private left = false;

  constructor(private readonly o: PanelOptions) {
    this.now = o.state;
    const place = byId("qr");
    if (place) this.pictures.push(new Picture(place));
    this.buttons();
    this.take(o.state, true);
    if (o.frame) this.show(o.frame);
    if (!o.live || over(o.state)) return;
    this.stop = follow(o.state.order, {
      frame: (text) => this.show(text),
      state: (s) => this.take(s, false),
      connection: (ok) => this.connection(ok),
      refused: (p) => this.refused(p),
    });
    setInterval(() => this.clock(), 1000);
    setTimeout(() => this.frame || this.now.state !== "created" || !this.pictures.length || say(t("qr.slow")), slow);
    this.watchHidden();
    addEventListener("offline", () => this.connection(false));
    addEventListener("online", () => this.connection(true));
  }

  private show(text: string): void {
    if (text === this.frame) return;
    const first = !this.frame;
    this.frame = text;
    for (const p of this.pictures) p.show(text);
    if (first && this.now.state === "created") {
      this.ready();
    }
  }

  private ready(): void {
    // On a phone the picture is folded away; the first thing there is to go on on the phone itself.
    if (this.root.dataset["mobile"] === "yes") return;
    say(t("qr.ready"));
    title(t("qr.title.ready"));
  }

  private take(state: OrderState, first: boolean): void {
    const before = this.now;
    this.now = state;
    this.offset = Date.parse(state.server_time) - Date.now();
    this.root.dataset["state"] = state.state;
    this.root.dataset["check"] = state.check?.required ? "open" : "";
    this.root.dataset["frozen"] = state.frozen_until ? "yes" : "";
    const extend = byId<HTMLButtonElement>("extend");
    if (extend) extend.hidden = state.extend_left <= 0;
    this.clock();
    this.end(state);
    this.o.changed?.(state);
    const changed = first || before.state !== state.state || Boolean(before.check?.required) !== Boolean(state.check?.required) || waiting(before) !== waiting(state);
    if (changed) this.tell(state);
    if (!first && !before.frozen_until && state.frozen_until) say(t("qr.paused"));
    if (state.other_phone && !before.other_phone) {
      say(t("qr.other_phone"), true);
      title(t("qr.title.attention"));
    }
    if (state.next && this.o.leave !== false && (state.state === "approved" || state.state === "completed")) this.leave(state.next);
  }

  /** The button behind the panel: back to who asked. */
  private end(state: OrderState): void {
    const row = document.querySelector<HTMLElement>(".end-row");
    if (row) row.dataset["end"] = state.state;
    const next = byId<HTMLAnchorElement>("next");
    if (!next) return;
    next.hidden = !state.next;
    if (state.next) next.href = state.next;
  }

  private tell(state: OrderState): void {
    const kind = state.kind;
    switch (state.state) {
      case "created":
        return;
      case "scanned":
        byId<HTMLDialogElement>("qr-big")?.close();
        if (state.check?.required) {
          say(t("qr.check"));
          title(t("qr.title.check"));
        } else {
          say(t(kind === "enrol" ? "qr.scanned.enrol" : "qr.scanned"));
          title(t("qr.title.scanned"));
        }
        return;
      case "approved":
        say(waiting(state) ? t(`qr.waiting.${waiting(state)}`) : t(`qr.approved.${kind}`, { site: this.o.site }));
        title(t("qr.title.approved"));
        return;
      case "completed":
        say(t(`qr.completed.${kind}`, { site: this.o.site }));
        title(t("qr.title.completed"));
        return;
      default:
        byId<HTMLDialogElement>("qr-big")?.close();
        say(t(state.state === "rejected" ? `qr.rejected.${kind}` : `qr.${state.state}`), true);
        title(t(`qr.title.${state.state}`));
    }
  }

  /** Goes to who asked, a moment later, so that the outcome can be heard and seen. */
  private leave(next: string): void {
    if (this.left || !this.o.live) return;
    this.left = true;
    this.stop();
    setTimeout(() => location.replace(next), leaveAfter);
  }

  private clock(): void {
    if (this.now.state !== "created") return;
    const seconds = Math.max(0, Math.round((Date.parse(this.now.expires_at) - Date.now() - this.offset) / 1000));
    const el = byId("time-left");
    if (el) el.textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    const short = seconds <= 30;
    byId("extend")?.classList.toggle("primary", short);
    this.root.dataset["short"] = short ? "yes" : "";
    if (!this.o.live || !this.frame || seconds === 0) return;
    const step = short ? 30 : seconds <= 60 ? 60 : 0;
    if (step && step !== this.warned) {
      say(t(this.now.extend_left > 0 ? "qr.left" : "qr.left.last", { n: seconds }));
      if (short) title(t("qr.title.left", { n: 30 }));
    }
    this.warned = step;
  }

  private connection(ok: boolean): void {
    const was = this.root.dataset["offline"] === "yes";
    this.root.dataset["offline"] = ok ? "" : "yes";
    if (!ok && !was) {
      say(t("qr.offline"));
      title(t("qr.title.offline"));
    } else if (ok && was) {
      if (this.now.state === "created") this.ready();
      else this.tell(this.now);
    }
  }

  private refused(p: Problem): void {
    if (p.status === 429 || p.status === 503) say(t("qr.busy", { n: 5 }));
    else say([p.body.detail, p.body.next_step].filter(Boolean).join(" ") || t("qr.slow"), true);
  }

  /** Says once when part of the picture stays off the screen. */
  private watchHidden(): void {
    const place = byId("qr");
    if (!place || !("IntersectionObserver" in window)) return;
    const hidden = () => {
      const r = place.getBoundingClientRect();
      return r.width > 0 && (r.top < 0 || r.left < 0 || r.bottom > innerHeight || r.right > innerWidth);
    };
    // What the observer sees while the page is still being laid out does not count.
    const seen = new IntersectionObserver(() => {
      setTimeout(() => {
        if (!this.frame || this.now.state !== "created" || !hidden()) return;
        say(t("qr.hidden"));
        seen.disconnect();
      }, 1000);
    }, { threshold: [0, 0.5, 0.98, 1] });
    seen.observe(place);
  }

  private buttons(): void {
    on("bigger", "click", () => this.bigger());
    on("extend", "click", () => void this.act("extend", () => say(t("qr.extended"))));
    on("freeze", "click", () => void this.act("freeze"));
    for (const el of document.querySelectorAll("[data-act=cancel]")) {
      el.addEventListener("click", (e) => {
        e.preventDefault();
        void this.act("cancel");
      });
    }
    on("code-form", "submit", (e) => {
      e.preventDefault();
      void this.typedCode();
    });
    on("check-form", "submit", (e) => {
      e.preventDefault();
      void this.check();
    });
  }

  private async act(step: string, then?: () => void): Promise<void> {
    if (!this.o.live) return;
    try {
      const state = await post<OrderState>(`/o/${this.now.order}/${step}`);
      this.warned = 0;
      this.take(state, false);
      if (step === "extend") title(t("qr.title.ready"));
      then?.();
    } catch (e) {
      this.refusedStep(e);
    }
  }

  private refusedStep(e: unknown): void {
    if (e instanceof Problem) say([e.body.detail ?? t("qr.offline"), e.body.next_step].filter(Boolean).join(" "));
    else throw e;
  }

  private async typedCode(): Promise<void> {
    if (!this.o.live) return;
    try {
      const state = await post<OrderState & { code: string }>(`/o/${this.now.order}/code`);
      this.take(state, false);
      const out = byId("code");
      if (!out) return;
      out.textContent = state.code;
      // Read digit by digit and not as a number of millions.
      out.setAttribute("aria-label", state.code.replaceAll(" ", "").split("").join(" "));
      byId("code-shown")!.hidden = false;
      say(`${t("qr.code.ready")} ${state.code.split("").join(" ")}`);
    } catch (e) {
      this.refusedStep(e);
    }
  }

  private async check(): Promise<void> {
    const input = byId<HTMLInputElement>("digits");
    const error = byId("digits-error");
    if (!input || !error || !this.o.live) return;
    const fail = (text: string) => {
      error.textContent = text;
      error.hidden = false;
      input.setAttribute("aria-invalid", "true");
      input.select();
      input.focus();
    };
    if (!/^[0-9０-９]{2}$/.test(input.value.trim())) return fail(t("qr.check.format"));
    try {
      const state = await post<OrderState>(`/o/${this.now.order}/check`, { digits: input.value.trim() });
      error.hidden = true;
      input.removeAttribute("aria-invalid");
      this.take(state, false);
    } catch (e) {
      if (!(e instanceof Problem)) throw e;
      if (e.code === "order_check_wrong") fail([e.body.detail, e.body.next_step].filter(Boolean).join(" "));
      else this.refusedStep(e);
    }
  }

  /** Fills the window with the picture; Esc or the button closes it. */
  private bigger(): void {
    const dialog = byId<HTMLDialogElement>("qr-big");
    const place = byId("qr-big-picture");
    if (!dialog || !place) return;
    if (!place.firstChild) {
      const big = new Picture(place);
      this.pictures.push(big);
      const region = document.createElement("p");
      region.id = "dialog-status";
      region.className = "visually-hidden";
      region.setAttribute("role", "status");
      dialog.append(region);
      if (this.frame) big.show(this.frame);
      on("qr-big-close", "click", () => dialog.close());
    }
    dialog.showModal();
  }
}
