// From a refusal by the server, or no answer at all, to the page that says
// what happened and what to do next.

import { Problem, Unreachable } from "../shared/device-api";
import { button, link, notice } from "./dom";
import type { Notice } from "./dom";
import { has, t } from "./texts";

type Step = "rescan" | "code" | "home" | "help" | "history" | "lost" | "register" | "devices" | "again";
type Ending = { key: string; tone: Notice["tone"]; next: Step[] };

const endings: Record<string, Ending> = {
  expired: { key: "end.expired", tone: "warn", next: ["home"] },
  cancelled: { key: "end.cancelled", tone: "warn", next: ["home"] },
  failed: { key: "end.failed", tone: "danger", next: ["home", "help"] },
  rejected: { key: "end.rejected", tone: "warn", next: ["home"] },
  finished: { key: "end.finished", tone: "info", next: ["history"] },
  claimed: { key: "end.claimed", tone: "danger", next: ["rescan"] },
  stale: { key: "end.stale", tone: "warn", next: ["rescan", "code"] },
  badframe: { key: "end.badframe", tone: "warn", next: ["rescan", "code"] },
  notfound: { key: "end.notfound", tone: "warn", next: ["rescan"] },
  browser: { key: "end.browser", tone: "warn", next: ["home"] },
  frozen: { key: "end.frozen", tone: "danger", next: ["help", "lost"] },
  unknown_device: { key: "end.unknown_device", tone: "warn", next: ["register", "lost"] },
  code: { key: "end.code", tone: "warn", next: ["code"] },
  closed: { key: "end.closed", tone: "info", next: ["rescan"] },
  card: { key: "end.card", tone: "danger", next: ["register", "help"] },
  registered: { key: "fail.registered", tone: "info", next: ["devices"] },
};

// The server's stable codes, and the ending each one is.
const codes: Record<string, string> = {
  order_expired: "expired", order_cancelled: "cancelled", order_failed: "failed", order_rejected: "rejected",
  order_approved: "finished", order_completed: "finished", order_claimed: "claimed", order_not_found: "notfound",
  order_wrong_browser: "browser", order_wrong_claim: "closed",
  frame_stale: "stale", frame_forged: "badframe", frame_unknown: "badframe", code_unknown: "code",
  device_suspended: "frozen", device_model: "frozen", device_inactive: "frozen", device_counter: "frozen", citizen_frozen: "frozen", citizen_inactive: "frozen",
  device_unknown: "unknown_device", passkey_unknown_credential: "unknown_device", passkey_user_mismatch: "unknown_device",
  enrol_phone_bound: "registered", card_revoked: "card", card_expired: "card",
};

/** endOf gives the ending for an order's final state or a fault code, if there is one of its own. */
export function endOf(stateOrCode: string): string | undefined {
  const name = codes[stateOrCode] ?? stateOrCode;
  return name in endings ? name : undefined;
}

/** showEnding shows one of the endings by its name. */
export function showEnding(name: string, code: string, focus = false): void {
  const e = endings[name] ?? endings["failed"]!;
  notice({ tone: e.tone, title: t(`${e.key}.title`), text: t(`${e.key}.text`), actions: steps(e.next), code, focus });
}

/** showError shows any error of a call; again repeats what was tried. */
export function showError(err: unknown, again: () => void, focus = false): void {
  if (err instanceof Problem) return showProblem(err, again, focus);
  const network = err instanceof Unreachable;
  notice({
    tone: "warn",
    title: t(network ? "common.offline.title" : "fail.other.title"),
    text: t(network ? "common.offline.text" : "fail.other.text"),
    actions: steps(["again", "home"], again),
    code: network ? "NET-01" : "APP-09",
    focus,
  });
}

function showProblem(p: Problem, again: () => void, focus: boolean): void {
  const ending = endOf(p.code);
  if (ending && has(`${endings[ending]!.key}.title`)) return showEnding(ending, p.code, focus);
  if (p.status === 429 || p.status === 503) {
    return notice({
      tone: "warn", title: t("end.busy.title"),
      text: p.retryAfter ? t("common.busy", { n: p.retryAfter }) : t("end.busy.text"),
      actions: steps(["again"], again), code: p.code, focus,
    });
  }
  if (p.status >= 500 || !p.title) {
    return notice({ tone: "warn", title: t("end.server.title"), text: t("end.server.text"), actions: steps(["again", "home"], again), code: p.code, focus });
  }
  if (p.code === "passkey_overtaken") { // a later answer of this phone was faster: nothing is wrong
    return notice({ tone: "warn", title: p.detail || p.title, text: p.nextStep, actions: steps(["again", "home"], again), code: p.code, focus });
  }
  // A refusal without a page of its own: the server's words are in the page's language.
  notice({
    tone: "warn", title: p.detail || p.title, text: p.nextStep,
    actions: steps(p.code === "device_cooldown" ? ["devices", "home"] : ["rescan", "home"]), code: p.code, focus,
  });
}

const places: Record<Exclude<Step, "again">, [string, string]> = {
  rescan: ["common.rescan", "/app/scan"],
  code: ["common.code", "/app/code"],
  home: ["common.done", "/app"],
  help: ["common.help", "/help"],
  history: ["done.history", "/app/history"],
  lost: ["common.lost", "/lost"],
  register: ["fail.no_key.bind", "/enrol"],
  devices: ["nav.devices", "/app/devices"],
};

/** steps makes the buttons of a notice; the first is the main one. */
export function steps(list: Step[], again?: () => void): HTMLElement[] {
  return list.map((step, i) => {
    const kind = i === 0 ? "primary" : "quiet";
    if (step === "again") return button(t("common.again"), () => again?.(), kind);
    const [key, href] = places[step];
    return link(t(key), href, kind);
  });
}
