// The report on signatures as people read it: one sentence, then facts, then
// everything that was looked at, folded.

import { dateTime } from "../shared/format";
import { lang, t } from "../shared/texts";
import { byId } from "./live";

export interface Fact { key: string; label: string; value: string }
export interface Line { outlook: string; title: string; sentence: string; next: string; facts: Fact[] }
interface Check { name: string; outcome: string; reason?: string }
interface Certificate { subject: string; issuer: string; serial: string; not_before: string; not_after: string; sha256: string; anchor?: boolean }
interface Revocation { source: string; from: string; status: string; this_update: string; next_update?: string }
interface Timestamp { kind: string; indication: string; time?: string; authority?: string; checks: Check[] }
interface Signature { checks: Check[]; chain: Certificate[]; revocation: Revocation[]; timestamps: Timestamp[]; algorithms: { digest?: string; signature?: string; key?: string } }
export interface Answer {
  outlook: string;
  simple: Line & { signatures: Line[] };
  report: { input: { format: string; sha256: string; digests?: Record<string, string> }; checks: Check[]; signatures: Signature[] };
}

export function make<K extends keyof HTMLElementTagNameMap>(tag: K, className = "", text = ""): HTMLElementTagNameMap[K] {
  const el = document.createElement(tag);
  if (className) el.className = className;
  if (text) el.textContent = text;
  return el;
}

const tones: Record<string, string> = { valid: "ok", invalid: "danger", unknown: "warn", none: "warn" };
const icons: Record<string, string> = { ok: "icon-ok", danger: "icon-stop", warn: "icon-warn" };

export function showResult(a: Answer): void {
  const tone = tones[a.outlook] ?? "warn";
  const box = byId("verdict")!;
  box.className = `notice verdict ${tone}`;
  const icon = byId<HTMLTemplateElement>(icons[tone]!)!.content.cloneNode(true);
  box.querySelector("svg")?.remove();
  box.prepend(icon);
  byId("result-title")!.textContent = a.simple.title;
  byId("result-sentence")!.textContent = a.simple.sentence;
  byId("result-next")!.textContent = a.simple.next;
  byId("result-facts")!.replaceChildren(facts(a.simple.facts));
  const list = byId("result-signatures")!;
  list.replaceChildren(...(a.simple.signatures.length > 1 ? a.simple.signatures.map(one) : []));
  byId("result-many")!.hidden = a.simple.signatures.length < 2;
  byId("result-details")!.replaceChildren(...details(a));
  byId("result")!.hidden = false;
}

function facts(all: Fact[]): DocumentFragment {
  const out = document.createDocumentFragment();
  for (const f of all) out.append(make("dt", "", f.label), make("dd", "", f.value));
  return out;
}

function one(s: Line): HTMLLIElement {
  const li = make("li");
  const head = make("div", "document-head");
  head.append(make("span", `badge ${tones[s.outlook] ?? ""}`, s.title));
  const list = make("dl", "facts");
  list.append(facts(s.facts));
  li.append(head, make("p", "", s.sentence), list);
  return li;
}

function when(text?: string): string {
  return text ? dateTime(text, lang()) : "–";
}

/** A table that may be wider than a phone scrolls by itself; the keyboard reaches it. */
function table(caption: string, head: string[], rows: string[][]): HTMLElement {
  const box = make("div", "scroll");
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", caption);
  const el = make("table", "small");
  el.append(make("caption", "", caption));
  const top = make("tr");
  for (const h of head) {
    const th = make("th", "", h);
    th.scope = "col";
    top.append(th);
  }
  const thead = make("thead");
  thead.append(top);
  const body = make("tbody");
  for (const row of rows) {
    const tr = make("tr");
    for (const cell of row) tr.append(make("td", "", cell));
    body.append(tr);
  }
  el.append(thead, body);
  box.append(el);
  return box;
}

function checks(caption: string, all: Check[]): HTMLElement {
  return table(caption, [t("verifypage.col.check"), t("verifypage.col.outcome"), t("verifypage.col.reason")],
    all.map((c) => [t(`verifypage.check.${c.name}`), t(`verifypage.outcome.${c.outcome}`), c.reason ?? ""]));
}

function details(a: Answer): HTMLElement[] {
  const out: HTMLElement[] = [];
  if (a.report.checks.length) out.push(checks(t("verifypage.checks.file"), a.report.checks));
  for (const [i, s] of a.report.signatures.entries()) {
    const n = a.report.signatures.length > 1 ? ` ${i + 1}` : "";
    out.push(make("h3", "", t("verifypage.signature") + n));
    out.push(make("p", "muted small", [s.algorithms.key, s.algorithms.signature, s.algorithms.digest].filter(Boolean).join(" · ")));
    out.push(checks(t("verifypage.checks") + n, s.checks));
    if (s.chain.length) {
      out.push(table(t("verifypage.chain") + n, [t("verifypage.col.subject"), t("verifypage.col.valid"), t("verifypage.col.serial")],
        s.chain.map((c) => [c.subject + (c.anchor ? ` (${t("verifypage.anchor")})` : ""), `${when(c.not_before)} – ${when(c.not_after)}`, c.serial])));
    }
    if (s.revocation.length) {
      out.push(table(t("verifypage.revocation") + n, [t("verifypage.col.source"), t("verifypage.col.status"), t("verifypage.col.time")],
        s.revocation.map((r) => [`${r.source.toUpperCase()} · ${t(`verifypage.from.${r.from}`)}`, t(`verifypage.status.${r.status}`), when(r.this_update)])));
    }
    if (s.timestamps.length) {
      out.push(table(t("verifypage.timestamps") + n, [t("verifypage.col.kind"), t("verifypage.col.time"), t("verifypage.col.authority"), t("verifypage.col.outcome")],
        s.timestamps.map((x) => [t(`verifypage.stamp.${x.kind}`), when(x.time), x.authority ?? "–", t(`verifypage.indication.${x.indication}`)])));
    }
  }
  return out;
}
