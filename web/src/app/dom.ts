// Building and changing the page: elements, the one view, the one live region.

import { page, t } from "./texts";

type Child = Node | string | false | null | undefined;
type Attributes = Record<string, string | number | boolean | undefined | ((e: Event) => void)>;

/** h makes an element: attributes as written in HTML, functions as listeners ("onclick"). */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K, attributes: Attributes = {}, ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.replace(/^on/, ""), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) if (child || child === "") element.append(child);
  return element;
}

/** icon gives a small picture beside a word; it is hidden from screen readers. */
export function icon(path: string): SVGSVGElement {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "app-icon");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("focusable", "false");
  const shape = document.createElementNS(ns, "path");
  shape.setAttribute("d", path);
  svg.append(shape);
  return svg;
}

/** The shapes used on the phone pages, on a 24 × 24 grid. */
export const shapes = {
  ok: "M4 12.5l5.5 5.5L20 6.5",
  stop: "M6 6l12 12M18 6L6 18",
  warn: "M12 3.5L21.5 20h-19zM12 10v4.5M12 17.2v.3",
  info: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 11v5.5M12 7.6v.3",
  wait: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 7v5l3.5 2",
  phone: "M7.5 2.5h9v19h-9zM11 18.5h2",
  enter: "M10 4H5v16h5M9 12h11M16 8l4 4-4 4",
  pen: "M4 20l1-4.5L16.5 4 20 7.5 8.5 19z",
} as const;

const view = () => document.getElementById("view") as HTMLElement;
const status = () => document.getElementById("status") as HTMLElement;

/** announce puts a sentence into the page's only live region; urgent ones interrupt. */
export function announce(sentence: string, urgent = false): void {
  const region = status();
  region.setAttribute("aria-live", urgent ? "assertive" : "polite");
  region.textContent = sentence;
}

export type ViewOptions = {
  /** Words for the document title, before the page's and the service's name. */
  state: string;
  /** Moves focus to the heading: only after something the person did. */
  focus?: boolean;
  urgent?: boolean;
  /** What the live region says; the state when missing, nothing when empty. */
  say?: string;
};

/** show replaces the view, names the document after it and announces it. */
export function show({ state, focus = false, urgent = false, say }: ViewOptions, ...children: Child[]): void {
  const root = view();
  root.removeAttribute("aria-busy");
  root.replaceChildren(...children.filter((c): c is Node | string => Boolean(c)));
  title(state);
  // Moving focus to the heading speaks it; saying it twice would be noise.
  announce(say ?? (focus ? "" : state), urgent);
  window.scrollTo(0, 0);
  if (focus) root.querySelector<HTMLElement>("h1")?.focus({ preventScroll: true });
}

/** title names the document: state, page, service. */
export function title(state: string): void {
  const here = page().title;
  document.title = [state, here === state ? "" : here, page().service].filter(Boolean).join(" – ");
}

/** heading makes the view's only h1, ready to take focus. */
export function heading(text: string): HTMLHeadingElement {
  return h("h1", { tabindex: -1 }, text);
}

type Kind = "primary" | "quiet";

const look = (kind: Kind) => (kind === "primary" ? "button primary" : "button");

/** button makes a button; kind is the look, primary or quiet. */
export function button(label: string, onclick: () => void, kind: Kind = "quiet"): HTMLButtonElement {
  return h("button", { type: "button", class: look(kind), onclick: () => onclick() }, label);
}

/** link makes a link that looks like a button. */
export function link(label: string, href: string, kind: Kind = "quiet"): HTMLAnchorElement {
  return h("a", { href, class: look(kind) }, label);
}

/** actions stacks buttons in the order given. */
export function actions(...children: Child[]): HTMLDivElement {
  return h("div", { class: "buttons app-actions" }, ...children);
}

/** busy shows a working page; after 8 s it admits that it takes long. */
export function busy(sentence: string): () => void {
  const root = view();
  root.setAttribute("aria-busy", "true");
  const line = h("p", { class: "app-busy" }, icon(shapes.wait), h("span", {}, sentence));
  root.replaceChildren(heading(sentence), line);
  line.lastElementChild!.textContent = t("common.loading");
  announce(sentence);
  title(sentence);
  const timer = setTimeout(() => {
    line.lastElementChild!.textContent = t("common.slow");
    announce(t("common.slow"));
  }, 8000);
  return () => clearTimeout(timer);
}

export type Notice = {
  tone: "ok" | "warn" | "danger" | "info";
  title: string;
  text?: string;
  more?: Child[];
  actions?: Child[];
  /** A short code for the help desk; the time is added. */
  code?: string;
  focus?: boolean;
};

const noticeShape = { ok: shapes.ok, warn: shapes.warn, danger: shapes.stop, info: shapes.info };

/** notice is the one shape of every outcome and every error: what, so what, what next. */
export function notice(n: Notice): void {
  show(
    { state: n.title, focus: n.focus ?? false, urgent: n.tone === "danger", ...(n.focus ? {} : { say: [n.title, n.text].filter(Boolean).join(" ") }) },
    h("div", { class: `notice ${n.tone}` },
      icon(noticeShape[n.tone]),
      h("div", {}, heading(n.title), n.text && h("p", {}, n.text), ...(n.more ?? [])),
    ),
    n.actions?.length ? actions(...n.actions) : null,
    n.code && reference(n.code),
  );
}

/** reference is the line to read to the help desk: a short code and the time. */
export function reference(code: string): HTMLParagraphElement {
  return h("p", { class: "app-reference" }, t("common.reference", { code, time: clock() }));
}

function clock(): string {
  return new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: "Asia/Taipei" }).format(new Date());
}
