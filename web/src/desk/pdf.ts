// Signed documents that have their signature inside: the page puts it there.

import { t } from "../shared/texts";
import { say } from "./live";
import { embed, forgetAll, kept, type Kept } from "./kept";

/** signedName is what the signed document is called. */
export function signedName(name: string): string {
  return name.replace(/\.pdf$/i, "") + "-signed.pdf";
}

function save(blob: Blob, name: string): void {
  const a = document.createElement("a");
  a.href = URL.createObjectURL(blob);
  a.download = name;
  a.click();
  setTimeout(() => URL.revokeObjectURL(a.href), 60_000);
}

function complain(row: HTMLElement, text: string): void {
  const note = row.querySelector<HTMLElement>("[data-pdf-note]");
  if (note) {
    note.textContent = text;
    note.hidden = false;
  }
  say(text, true);
}

async function download(link: HTMLAnchorElement, row: HTMLElement, k: Kept): Promise<void> {
  try {
    const answer = await fetch(link.href, { credentials: "same-origin" });
    if (!answer.ok) throw new Error(String(answer.status));
    const signed = embed(k, new Uint8Array(await answer.arrayBuffer()));
    await k.file.slice(0, 1).arrayBuffer(); // the browser may have thrown the file away
    save(signed, signedName(k.name));
    say(t("sign.pdf.saved", { name: signedName(k.name) }));
  } catch {
    complain(row, t("sign.pdf.failed"));
  }
}

/** offerPDFs makes the download buttons of such documents give the whole PDF. */
export async function offerPDFs(order: string): Promise<void> {
  const rows = [...document.querySelectorAll<HTMLElement>("[data-form=pades]")];
  if (!rows.length) return;
  const files = await kept(order).catch((): Record<number, Kept> => ({}));
  for (const row of rows) {
    const link = row.querySelector<HTMLAnchorElement>("[data-download]");
    const k = files[Number(row.dataset["document"])];
    if (!link) continue;
    link.addEventListener("click", (e) => {
      e.preventDefault();
      if (k) void download(link, row, k);
      else complain(row, t("sign.pdf.gone"));
    });
  }
}

/** clearAtLogout leaves nothing to the next person at this computer. */
export function clearAtLogout(): void {
  document.querySelector<HTMLFormElement>("form[action='/session/logout']")?.addEventListener("submit", (e) => {
    const form = e.target as HTMLFormElement;
    e.preventDefault();
    void forgetAll().catch(() => {}).finally(() => form.submit());
  });
}
