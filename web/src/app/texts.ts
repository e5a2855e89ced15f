// The texts and facts that the server wrote into the page.
//
// Each phone page carries two data blocks: #page with a few facts, #texts with
// the messages of its language. Nothing else is read from the HTML.

export type Lang = "zh-Hant" | "en";

export type PageData = {
  lang: Lang;
  title: string;
  service: string;
  order?: string;
  frame?: string;
  assets?: Record<string, string>;
};

let data: PageData | undefined;
let texts: Record<string, string> | undefined;

const block = (id: string): unknown => JSON.parse(document.getElementById(id)?.textContent || "{}");

const lookUp = (key: string): string | undefined => {
  texts ??= block("texts") as Record<string, string>;
  return texts[`app.${key}`];
};

/** page gives what the server wrote for this page. */
export function page(): PageData {
  data ??= block("page") as PageData;
  return data;
}

/** t gives the text of a key (without its "app." prefix) with {placeholders} filled. */
export function t(key: string, params: Record<string, string | number> = {}): string {
  const raw = lookUp(key);
  if (raw === undefined) return key;
  return raw.replace(/\{(\w+)\}/g, (whole, name: string) => (name in params ? String(params[name]) : whole));
}

/** has tells whether the page carries a text. */
export function has(key: string): boolean {
  return lookUp(key) !== undefined;
}

/** named picks a name in the page's language, or whichever there is. */
export function named(names: Partial<Record<Lang, string>> | undefined): string {
  if (!names) return "";
  return names[page().lang] || names["zh-Hant"] || names.en || "";
}

/** foreignLang gives the lang attribute for a name that exists only in the other language. */
export function foreignLang(names: Partial<Record<Lang, string>> | undefined): Lang | undefined {
  if (!names || names[page().lang]) return undefined;
  return names["zh-Hant"] ? "zh-Hant" : names.en ? "en" : undefined;
}
