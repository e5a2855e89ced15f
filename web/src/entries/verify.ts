// /verify: have signatures judged. Documents stay on this computer: digests are
// made here, PDFs are taken apart here. What is sent is said before it is sent.

import { post, Problem } from "../shared/api";
import { toBase64 } from "../shared/bytes";
import { split } from "../shared/cms-split";
import { size } from "../shared/format";
import { block, lang, t } from "../shared/texts";
import { byId, on, say, title } from "../desk/live";
import { make, showResult, type Answer } from "../desk/verdict";

/** What a chosen file turned out to be. */
type Kind = "cms" | "pdf" | "xml" | "content";

interface Chosen {
  file: File;
  kind: Kind;
  /** cms: the signature without content, and the content that was inside. */
  signature?: Blob;
  inside?: Blob[];
  /** cms that could not be taken apart. */
  whole?: boolean;
  el: HTMLLIElement;
}

interface Needs {
  format: string;
  attached: boolean;
  whole: boolean;
  digests: string[];
  files: { uri: string; algorithm: string }[];
  parts: string[][];
}

interface Part {
  type: string;
  cms: string;
  byte_range: [number, number, number, number];
  later: string;
  time?: string;
  broken: boolean;
  digests?: Record<string, string>;
}

interface Question {
  signature?: string;
  pdf?: { bytes: number; sha256: string; signatures: Part[] };
  digests?: Record<string, string>;
  content?: string;
  files?: { uri: string; algorithm: string; digest: string }[];
}

const page = block<{ worker: string; wasm: string; most: number; sample?: Record<string, Answer>; samples?: { name: string; size: number; kind: Kind }[] }>("page");
const api = "/api/v1/verifications";
const chosen: Chosen[] = [];
let busy = false;

// ---------------------------------------------------------------- the worker

interface Reply {
  id: number;
  read?: number;
  digests?: Record<string, Uint8Array>;
  pdf?: { signatures?: Part[]; error?: string };
  error?: boolean;
}

class Unreadable extends Error {}

let worker: Worker | undefined;
let nextID = 1;
const waiting = new Map<number, { done: (r: Reply) => void; failed: (e: Error) => void; read?: (n: number) => void }>();

function work(job: Record<string, unknown>, read?: (n: number) => void): Promise<Reply> {
  if (!worker) {
    worker = new Worker(page.worker);
    worker.addEventListener("message", (e: MessageEvent<Reply>) => {
      const w = waiting.get(e.data.id);
      if (!w) return;
      if (e.data.read !== undefined) {
        w.read?.(e.data.read);
        return;
      }
      waiting.delete(e.data.id);
      if (e.data.error) w.failed(new Unreadable());
      else w.done(e.data);
    });
    worker.addEventListener("error", () => {
      for (const w of waiting.values()) w.failed(new Unreadable());
      waiting.clear();
    });
  }
  const id = nextID++;
  return new Promise((done, failed) => {
    waiting.set(id, { done, failed, ...(read ? { read } : {}) });
    worker!.postMessage({ id, ...job });
  });
}

async function digests(blobs: Blob[], algorithms: string[], name: string): Promise<Record<string, string>> {
  const bar = byId<HTMLProgressElement>("progress")!;
  bar.max = Math.max(1, blobs.reduce((n, b) => n + b.size, 0));
  bar.value = 0;
  doing(t("verifypage.hashing", { name }));
  const reply = await work({ kind: "hash", blobs, algorithms }, (n) => { bar.value = n; });
  return Object.fromEntries(Object.entries(reply.digests ?? {}).map(([a, d]) => [a, toBase64(d)]));
}

async function base64(blob: Blob): Promise<string> {
  return toBase64(new Uint8Array(await blob.arrayBuffer()));
}

// ------------------------------------------------------------------ choosing

async function kindOf(file: File): Promise<Omit<Chosen, "file" | "el">> {
  const head = new Uint8Array(await file.slice(0, 1024).arrayBuffer());
  const text = new TextDecoder("latin1").decode(head);
  if (text.includes("%PDF-")) return { kind: "pdf" };
  const trimmed = text.replace(/^\u00ef\u00bb\u00bf/, "").trimStart();
  if (trimmed.startsWith("-----BEGIN ")) {
    const der = file.size <= page.most ? unarmor(await file.text()) : undefined;
    const parts = der && (await split(der));
    return parts ? { kind: "cms", signature: parts.signature, ...(parts.content ? { inside: parts.content } : {}) } : { kind: "content" };
  }
  if (head[0] === 0x30) {
    const parts = await split(file);
    if (parts) return { kind: "cms", signature: parts.signature, ...(parts.content ? { inside: parts.content } : {}) };
  }
  if (trimmed.startsWith("<")) return { kind: (await xmlSigned(file)) ? "xml" : "content" };
  if (/\.(p7s|p7m|p7b|sig)$/i.test(file.name)) return { kind: "cms", signature: file, whole: true };
  return { kind: "content" };
}

function unarmor(text: string): Blob | undefined {
  const body = /-----BEGIN (?:CMS|PKCS7|PKCS #7 SIGNED DATA)-----([A-Za-z0-9+/=\s]+)-----END/.exec(text)?.[1];
  if (!body) return undefined;
  try {
    return new Blob([Uint8Array.from(atob(body.replace(/\s/g, "")), (c) => c.charCodeAt(0))]);
  } catch {
    return undefined;
  }
}

async function xmlSigned(file: File): Promise<boolean> {
  return file.size <= page.most && (await file.text()).includes("http://www.w3.org/2000/09/xmldsig#");
}

async function choose(files: Iterable<File>): Promise<void> {
  complain("");
  hideResult();
  for (const file of files) {
    if (chosen.some((c) => c.file.name === file.name && c.file.size === file.size && c.file.lastModified === file.lastModified)) continue;
    let what: Omit<Chosen, "file" | "el">;
    try {
      what = await kindOf(file);
    } catch {
      complain(t("sign.unreadable", { name: file.name }));
      continue;
    }
    add({ file, ...what, el: make("li") });
  }
  update();
}

function add(c: Chosen): void {
  const head = make("div", "document-head");
  head.append(make("span", "document-name", c.file.name));
  const drop = make("button", "button small quiet", t("sign.remove"));
  drop.type = "button";
  drop.setAttribute("aria-label", t("sign.remove.name", { name: c.file.name }));
  drop.addEventListener("click", () => {
    chosen.splice(chosen.indexOf(c), 1);
    c.el.remove();
    hideResult();
    complain("");
    update();
    say(t("sign.removed", { name: c.file.name }));
    byId("files")?.focus();
  });
  head.append(drop);
  const role = make("span", "badge");
  c.el.append(head, make("div", "document-facts muted small", size(c.file.size) + " · "));
  c.el.lastElementChild!.append(role);
  c.el.dataset["kind"] = c.kind;
  byId("chosen")!.append(c.el);
  chosen.push(c);
}

/** The one file whose signatures are judged: a signature file, else SI XML, else a PDF. */
function subject(): Chosen | undefined {
  for (const kind of ["cms", "xml", "pdf"] as const) {
    const found = chosen.filter((c) => c.kind === kind);
    if (found.length) return found[0];
  }
  return undefined;
}

function rivals(): boolean {
  const s = subject();
  return !!s && s.kind === "cms" && chosen.filter((c) => c.kind === "cms").length > 1;
}

/** Says what will be sent, before it is. */
function notice(): string {
  const s = subject();
  if (!s) return "";
  const n = size(s.file.size);
  if (s.kind === "xml") return t("verifypage.sends.xml", { name: s.file.name, size: n });
  if (s.kind === "pdf") return t("verifypage.sends.pdf");
  if (s.whole) return t("verifypage.sends.whole", { name: s.file.name, size: n });
  return t(s.inside ? "verifypage.sends.inside" : "verifypage.sends.digest");
}

function update(): void {
  const s = subject();
  for (const c of chosen) {
    const role = c === s ? "signature" : "content";
    const badge = c.el.querySelector(".badge")!;
    badge.textContent = t(`verifypage.role.${c === s && c.kind === "pdf" ? "pdf" : c === s && c.inside ? "inside" : role}`);
  }
  byId("none")!.hidden = chosen.length > 0;
  const sends = byId("sends")!;
  sends.hidden = !s;
  sends.textContent = notice();
  byId("verify-button")!.setAttribute("aria-disabled", String(!s || busy));
}

// ----------------------------------------------------------------- verifying

/** A reason to stop that the person can do something about. */
class Stop extends Error {}

async function question(): Promise<Question> {
  const s = subject();
  if (!s) throw new Stop(t(chosen.length ? "verifypage.no_signature" : "verifypage.choose_first"));
  if (rivals()) throw new Stop(t("verifypage.one"));
  if (s.kind === "pdf") return pdfQuestion(s);
  const signature = s.whole || s.kind === "xml" ? s.file : s.signature!;
  if (signature.size > page.most) throw new Stop(t("verifypage.too_large", { size: size(page.most) }));
  const q: Question = { signature: await base64(signature) };
  doing(t("verifypage.asking"));
  const needs = await post<Needs>(`${api}/needs`, q);
  if (needs.format === "xmldsig") return { ...q, files: await references(needs) };
  if (needs.attached || (!needs.digests.length && !needs.whole)) return q;
  const others = chosen.filter((c) => c !== s);
  if (!s.inside && others.length > 1) throw new Stop(t("verifypage.one_content"));
  const content = s.inside ?? (others[0] ? [others[0].file] : undefined);
  if (!content) throw new Stop(t("verifypage.content_missing"));
  if (!needs.whole) return { ...q, digests: await digests(content, needs.digests, others[0]?.file.name ?? s.file.name) };
  // A signature straight over the content: a digest would not do.
  const all = new Blob(content);
  if (all.size > page.most / 2) throw new Stop(t("verifypage.whole_large", { size: size(page.most / 2) }));
  if (!(await agreed(t("verifypage.whole_needed", { size: size(all.size) })))) throw new Stop(t("verifypage.not_sent"));
  return { ...q, content: await base64(all) };
}

async function references(needs: Needs): Promise<NonNullable<Question["files"]>> {
  const out: NonNullable<Question["files"]> = [];
  for (const f of needs.files) {
    const name = decodeURIComponent(f.uri.split("/").pop() ?? "");
    const found = chosen.find((c) => c.file.name === name);
    if (!found) continue;
    const d = await digests([found.file], [f.algorithm], found.file.name);
    out.push({ uri: f.uri, algorithm: f.algorithm, digest: d[f.algorithm]! });
  }
  return out;
}

async function pdfQuestion(s: Chosen): Promise<Question> {
  doing(t("verifypage.reading", { name: s.file.name }));
  const { pdf } = await work({ kind: "pdf", file: s.file, wasm: new URL(page.wasm, location.href).href });
  if (!pdf?.signatures) throw new Stop(t("verifypage.pdf_unreadable"));
  if (!pdf.signatures.length) throw new Stop(t("verifypage.pdf_none"));
  const signatures = pdf.signatures.map((p) => ({ ...p, cms: p.cms ?? "" }));
  const whole = await digests([s.file], ["SHA-256"], s.file.name);
  const q = { pdf: { bytes: s.file.size, sha256: whole["SHA-256"]!, signatures } };
  doing(t("verifypage.asking"));
  const needs = await post<Needs>(`${api}/needs`, q);
  for (const [i, p] of signatures.entries()) {
    const r = p.byte_range;
    const algorithms = needs.parts[i] ?? [];
    if (p.broken || !algorithms.length) continue;
    p.digests = await digests([s.file.slice(r[0], r[0] + r[1]), s.file.slice(r[2], r[2] + r[3])], algorithms, s.file.name);
  }
  return q;
}

let asked: Question | undefined;

async function verify(): Promise<void> {
  if (busy) return;
  if (!subject()) {
    complain(t(chosen.length ? "verifypage.no_signature" : "verifypage.choose_first"));
    byId("verify-error")?.focus();
    return;
  }
  busy = true;
  complain("");
  hideResult();
  update();
  try {
    asked = await question();
    doing(t("verifypage.judging"));
    show(await post<Answer>(api, asked));
  } catch (e) {
    complain(reason(e));
    byId("verify-error")?.focus();
  } finally {
    busy = false;
    doing("");
    update();
  }
}

function reason(e: unknown): string {
  if (e instanceof Stop) return e.message;
  if (e instanceof Unreadable || (e instanceof DOMException && e.name === "NotReadableError")) return t("verifypage.unreadable");
  if (e instanceof Problem) {
    if (e.code.startsWith("cms_") || e.code.startsWith("xml_")) return t("verifypage.not_signature");
    return [e.body.detail ?? t("qr.offline"), e.body.next_step].filter(Boolean).join(" ");
  }
  throw e;
}

/** Asks in the page, so that the words can be read twice. */
function agreed(text: string): Promise<boolean> {
  const box = byId<HTMLDialogElement>("agree")!;
  byId("agree-text")!.textContent = text;
  box.showModal();
  return new Promise((done) => box.addEventListener("close", () => done(box.returnValue === "yes"), { once: true }));
}

function doing(text: string): void {
  byId("doing")!.hidden = !text;
  if (!text) return;
  byId("doing-text")!.textContent = text;
  say(text);
}

function complain(text: string): void {
  byId("verify-error")!.hidden = !text;
  byId("verify-error-text")!.textContent = text;
}

function hideResult(): void {
  byId("result")!.hidden = true;
}

let answer: Answer | undefined;

function show(a: Answer): void {
  answer = a;
  showResult(a);
  title(a.simple.title);
  say(`${a.simple.title} ${a.simple.sentence}`, true);
  byId("result-title")?.focus();
}

// --------------------------------------------------------------- taking home

function save(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  const a = make("a");
  a.href = url;
  a.download = name;
  a.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

on("save-json", "click", () => {
  if (answer) save(new Blob([JSON.stringify(answer.report, null, 2)], { type: "application/json" }), "verification-report.json");
});

async function saveSigned(): Promise<void> {
  if (!asked) return;
  complain("");
  try {
    const got = await fetch(`${api}?report=signed`, { method: "POST", credentials: "same-origin", cache: "no-store",
      headers: { "Content-Type": "application/json", Accept: "application/pkcs7-mime, application/json" }, body: JSON.stringify(asked) });
    if (!got.ok) throw new Problem((await got.json()) as Problem["body"]);
    save(await got.blob(), "verification-report.p7m");
    say(t("verifypage.saved"));
  } catch (e) {
    complain(e instanceof Problem ? reason(e) : t("qr.offline"));
    byId("verify-error")?.focus();
  }
}
on("save-signed", "click", () => void saveSigned());
on("print", "click", () => print());

const input = byId<HTMLInputElement>("files");
input?.addEventListener("change", () => {
  const files = [...(input.files ?? [])];
  input.value = "";
  void choose(files);
});
const zone = byId("drop");
zone?.addEventListener("dragover", (e) => {
  e.preventDefault();
  zone.classList.add("over");
});
zone?.addEventListener("dragleave", () => zone.classList.remove("over"));
zone?.addEventListener("drop", (e) => {
  e.preventDefault();
  zone.classList.remove("over");
  void choose([...(e.dataTransfer?.files ?? [])]);
});
on("verify-form", "submit", (e) => {
  e.preventDefault();
  void verify();
});
for (const s of page.samples ?? []) {
  add({ file: Object.defineProperty(new File([], s.name), "size", { value: s.size }), kind: s.kind, el: make("li") });
}
update();
if (page.sample) showResult(page.sample[lang()]!);
