// The one live region of a page, and its title. Only what a person must hear
// goes through here: the time left does not.

import { t } from "../shared/texts";

const base = document.querySelector("h1")?.dataset["title"] ?? document.querySelector("h1")?.textContent?.trim() ?? "";

/** Says a sentence. Outcomes interrupt (assertive); everything else waits its turn. */
export function say(text: string, assertive = false): void {
  const region = document.getElementById("status");
  if (!region || region.textContent === text) return;
  region.setAttribute("aria-live", assertive ? "assertive" : "polite");
  region.textContent = text;
  const copy = document.getElementById("dialog-status");
  if (copy) copy.textContent = text;
}

/** Puts a state before the page's name in the title. */
export function title(prefix: string): void {
  document.title = [prefix, base, t("site.name")].filter(Boolean).join(" – ");
}

export function byId<T extends HTMLElement>(id: string): T | undefined {
  return (document.getElementById(id) as T | null) ?? undefined;
}

export function on(id: string, event: string, run: (e: Event) => void): void {
  document.getElementById(id)?.addEventListener(event, run);
}
