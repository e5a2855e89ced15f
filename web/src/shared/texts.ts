// Texts and values that the server wrote into the page.

/** Reads a JSON data block: <script type="application/json" id="…">. */
export function block<T>(id: string): T {
  const el = document.getElementById(id);
  return JSON.parse(el?.textContent || "{}") as T;
}

let texts: Record<string, string> | undefined;

/** Gives a text of the page's "texts" block with its {placeholders} filled. */
export function t(key: string, params: Record<string, string | number> = {}): string {
  texts ??= block<Record<string, string>>("texts");
  const text = texts[key];
  if (text === undefined) return key;
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => (name in params ? String(params[name]) : whole));
}

/** The language of the page. */
export function lang(): string {
  return document.documentElement.lang || "zh-Hant";
}

/** Chooses the language of a pair of names that an agency gave. */
export function name(names: Record<string, string> | undefined): string {
  return names?.[lang()] || names?.["zh-Hant"] || "";
}
