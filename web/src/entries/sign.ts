// /sign: choose own files, hash them here, and make a sign order. The files
// themselves never leave this computer; name, size and digest do. A PDF can get
// its signature inside: then what is added to it is made here too.

import { post, Problem } from "../shared/api";
import { toBase64url } from "../shared/bytes";
import { digestCode, size } from "../shared/format";
import { block, t } from "../shared/texts";
import { forget, forgetOld, keep, rename, type Kept } from "../desk/kept";
import { byId, on, say } from "../desk/live";
import { clearAtLogout } from "../desk/pdf";
import type { Answer, Prepared } from "./pdf.worker";

interface Row {
  id: number;
  file: File;
  digest?: Uint8Array; // of what will be signed
  plain?: Uint8Array; // of the file
  inside?: HTMLInputElement; // for a PDF: whether the signature goes inside
  prepared?: Prepared;
  el: HTMLLIElement;
  progress: HTMLProgressElement;
  code: HTMLElement;
}

const page = block<{ worker: string; pdf?: { worker: string; program: string }; most: number; samples?: { name: string; size: number; read: number; code: string }[] }>("page");
const most = page.most || 50;
const rows: Row[] = [];
let nextID = 1;
let worker: Worker | undefined;
let pdfWorker: Worker | undefined;

function hash(row: Row): void {
  worker ??= startWorker();
  worker.postMessage({ id: row.id, file: row.file });
}

function startWorker(): Worker {
  const w = new Worker(page.worker);
  w.addEventListener("message", (e: MessageEvent<{ id: number; read?: number; digest?: Uint8Array; error?: boolean }>) => {
    const row = rows.find((r) => r.id === e.data.id);
    if (!row) return;
    if (e.data.read !== undefined) row.progress.value = e.data.read;
    if (e.data.digest) {
      row.plain = e.data.digest;
      settle(row);
    }
    if (e.data.error) {
      remove(row);
      say(t("sign.unreadable", { name: row.file.name }));
      complain(t("sign.unreadable", { name: row.file.name }));
    }
  });
  return w;
}

/** settle shows the digest that counts for a row, as soon as it is there. */
function settle(row: Row): void {
  const digest = row.inside?.checked ? row.prepared?.digest : row.plain;
  if (digest) row.digest = digest;
  else delete row.digest;
  row.progress.hidden = !!digest;
  if (!digest && row.inside?.checked) row.progress.removeAttribute("value"); // how long it takes is not known
  row.code.textContent = digest ? digestCode(digest) : "";
  row.code.parentElement!.hidden = !digest;
  row.el.dataset["state"] = digest ? "ready" : "";
  update();
  if (digest && rows.every((r) => r.digest)) say(t("sign.ready", { n: rows.length }));
}

/** prepare has a PDF's addition made, or gives the file's own digest back. */
function prepare(row: Row): void {
  if (row.inside?.checked && !row.prepared && page.pdf) {
    pdfWorker ??= startPDFWorker();
    pdfWorker.postMessage({ id: row.id, file: row.file, program: page.pdf.program });
  }
  settle(row);
}

function startPDFWorker(): Worker {
  const w = new Worker(page.pdf!.worker);
  w.addEventListener("message", (e: MessageEvent<Answer>) => {
    const row = rows.find((r) => r.id === e.data.id);
    if (!row) return;
    if (e.data.prepared) row.prepared = e.data.prepared;
    else if (row.inside) {
      row.inside.checked = false;
      const code = e.data.error;
      const why = code?.startsWith("pdf_") ? [t(`fault.${code}`), t(`fault.${code}.next`)].join(" ") : t("sign.pdf.unreadable");
      const text = t("sign.pdf.not_inside", { name: row.file.name, why });
      say(text, true);
      complain(text);
    }
    settle(row);
  });
  return w;
}

/** choice offers, for a PDF, to put the signature inside. */
function choice(row: Row): HTMLElement | undefined {
  if (!page.pdf || !(row.file.type === "application/pdf" || /\.pdf$/i.test(row.file.name))) return undefined;
  row.inside = document.createElement("input");
  row.inside.type = "checkbox";
  row.inside.addEventListener("change", () => {
    complain("");
    prepare(row);
  });
  const label = make("label", "choice");
  const words = make("span", "");
  words.append(t("sign.pdf.inside"), make("span", "choice-note muted small", t("sign.pdf.inside_note")));
  label.append(row.inside, words);
  row.inside.setAttribute("aria-describedby", `name-${row.id}`);
  return label;
}

function make<K extends keyof HTMLElementTagNameMap>(tag: K, className: string, text = ""): HTMLElementTagNameMap[K] {
  const el = document.createElement(tag);
  if (className) el.className = className;
  if (text) el.textContent = text;
  return el;
}

function add(file: File): Row {
  const row: Row = {
    id: nextID++, file, el: make("li", ""), progress: document.createElement("progress"), code: make("span", "mono"),
  };
  const head = make("div", "document-head");
  head.append(make("span", "document-name", file.name));
  head.firstElementChild!.id = `name-${row.id}`;
  const drop = make("button", "button small quiet", t("sign.remove"));
  drop.type = "button";
  drop.setAttribute("aria-label", t("sign.remove.name", { name: file.name }));
  drop.addEventListener("click", () => {
    worker?.postMessage({ id: row.id, stop: true });
    remove(row);
    say(t("sign.removed", { name: file.name }));
    byId("files")?.focus();
  });
  head.append(drop);
  const facts = make("div", "document-facts muted small", size(file.size));
  const code = make("span", "");
  code.hidden = true;
  code.append(` · ${t("sign.digest_code")} `, row.code);
  facts.append(code);
  row.progress.max = Math.max(file.size, 1);
  row.progress.value = 0;
  row.progress.setAttribute("aria-label", t("sign.hashing", { name: file.name }));
  row.el.append(head, facts, row.progress, ...[choice(row)].filter((e) => e !== undefined));
  byId("chosen")!.append(row.el);
  rows.push(row);
  return row;
}

function remove(row: Row): void {
  rows.splice(rows.indexOf(row), 1);
  row.el.remove();
  update();
}

function choose(files: Iterable<File>): void {
  complain("");
  for (const file of files) {
    if (rows.length >= most) {
      complain(t("sign.too_many", { n: most }));
      break;
    }
    if (rows.some((r) => r.file.name === file.name && r.file.size === file.size && r.file.lastModified === file.lastModified)) continue;
    hash(add(file));
  }
  update();
}

function complain(text: string): void {
  const box = byId("sign-error");
  if (!box) return;
  box.hidden = !text;
  byId("sign-error-text")!.textContent = text;
}

function update(): void {
  const ready = rows.length > 0 && rows.every((r) => r.digest);
  byId("sign-button")?.setAttribute("aria-disabled", String(!ready));
  byId("none")!.hidden = rows.length > 0;
  byId("count")!.textContent = rows.length ? t("sign.count", { n: rows.length, size: size(rows.reduce((n, r) => n + r.file.size, 0)) }) : "";
}

async function sign(): Promise<void> {
  if (byId("sign-button")?.getAttribute("aria-disabled") === "true") {
    say(t(rows.length ? "sign.wait" : "sign.none"));
    return;
  }
  byId("sign-button")?.setAttribute("aria-disabled", "true");
  const pdfs: Record<number, Kept> = {};
  rows.forEach((r, i) => {
    if (r.inside?.checked && r.prepared) pdfs[i] = { name: r.file.name, file: r.file, update: r.prepared.update, hole: r.prepared.hole };
  });
  const draft = Object.keys(pdfs).length ? `draft ${crypto.randomUUID()}` : "";
  if (draft) {
    try {
      await keep(draft, pdfs); // before there is an order: without room for them, none is made
    } catch {
      complain(t("sign.pdf.no_room"));
      byId("sign-error")?.focus();
      update();
      return;
    }
  }
  try {
    const answer = await post<{ order: string; page: string }>("/sign/orders", {
      documents: rows.map((r, i) => ({
        form: pdfs[i] ? "pades" : "",
        name: r.file.name, media_type: r.file.type || "application/octet-stream", size: r.file.size,
        digest_algorithm: "SHA-256", digest: toBase64url(r.digest!),
      })),
    });
    if (draft) await rename(draft, answer.order);
    location.assign(answer.page);
  } catch (e) {
    if (draft) void forget(draft).catch(() => {});
    if (!(e instanceof Problem)) throw e;
    if (e.code === "session_required") {
      location.assign("/session/login?return=/sign");
      return;
    }
    complain([e.body.detail ?? t("qr.offline"), e.body.next_step].filter(Boolean).join(" "));
    byId("sign-error")?.focus();
    update();
  }
}

const input = byId<HTMLInputElement>("files");
input?.addEventListener("change", () => {
  choose(input.files ?? []);
  input.value = "";
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
  choose(e.dataTransfer?.files ?? []);
});
on("sign-form", "submit", (e) => {
  e.preventDefault();
  void sign();
});
for (const s of page.samples ?? []) {
  const row = add(Object.defineProperty(new File([], s.name), "size", { value: s.size }));
  row.progress.value = s.read;
  if (s.code) {
    row.digest = new Uint8Array(32);
    row.progress.hidden = true;
    row.code.textContent = s.code;
    row.code.parentElement!.hidden = false;
  }
}
update();
clearAtLogout();
void forgetOld().catch(() => {});
