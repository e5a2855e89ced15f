// Official documents on the phone: the documents of an order that belong to one
// point of approval stand together. The last of them is the point's own record;
// a point is left out as a whole, or its record would speak of unsigned files.

import type { OrderDocument } from "../shared/device-api";
import { h } from "./dom";
import { t } from "./texts";

export type Point = { documents: OrderDocument[]; record: OrderDocument; what: string; reference: string; title: string; returned: boolean };

const record = /^(代理簽核點|簽核點|退件) \d+ /;
const separator = "｜";
// Up to how many documents are all shown at once.
const openUpTo = 12;

/** pointsOf groups documents by point; undefined when they are not of such an order. */
export function pointsOf(documents: OrderDocument[]): Point[] | undefined {
  const points: Point[] = [];
  let files: OrderDocument[] = [];
  for (const d of documents) {
    if (d.form !== "raw" || d.media_type !== "application/xml" || !record.test(d.name)) {
      files.push(d);
      continue;
    }
    const [what = "", reference = "", ...title] = d.name.split(separator);
    points.push({ documents: [...files, d], record: d, what, reference, title: title.join(separator) || d.name, returned: d.name.startsWith("退件") });
    files = [];
  }
  return points.length && !files.length ? points : undefined;
}

/** pointList shows points, each with a box when there are several. */
export function pointList(points: Point[], approve: HTMLButtonElement, body: (d: OrderDocument, name?: string, more?: string) => HTMLElement, digestHint: HTMLElement) {
  const boxes = new Map<Point, HTMLInputElement>();
  const total = points.reduce((n, p) => n + p.documents.length, 0);
  const count = h("p", { class: "app-hint" });
  const chosen = () => points.filter((p) => boxes.get(p)?.checked ?? true);
  const update = () => {
    const now = chosen();
    count.textContent = now.length
      ? t("order.points.count", { n: now.length, total: points.length, documents: now.reduce((n, p) => n + p.documents.length, 0) })
      : t("order.points.none");
    approve.toggleAttribute("data-none-chosen", now.length === 0);
  };
  const rows = points.map((p, i) => {
    const head = h("span", { class: "app-document__body" },
      h("span", { class: "app-document__name", dir: "auto" }, p.title),
      h("span", { class: "app-sub", dir: "auto" }, [p.reference, p.what].filter(Boolean).join(t("common.separator"))));
    const list = h("ul", { class: "app-plain app-point__documents" }, ...p.documents.map((d) => h("li", {},
      d === p.record ? body(d, t("order.points.record"), t(p.returned ? "order.points.return.text" : "order.points.record.text")) : body(d))));
    const files = h("details", { open: total <= openUpTo },
      h("summary", {}, t("order.points.files", { n: p.documents.length }), h("span", { class: "visually-hidden" }, ` ${p.title}`)), list);
    if (points.length === 1) return h("li", { class: "app-document app-point" }, h("div", { class: "app-point__head" }, head), files);
    const box = h("input", { type: "checkbox", id: `point-${i}`, onchange: update });
    box.checked = true;
    boxes.set(p, box);
    return h("li", { class: "app-document app-point" }, h("label", { for: `point-${i}` }, box, head), files);
  });
  const list = h("ul", { class: "app-plain" }, ...rows);
  const leftOut = () => points.filter((p) => !chosen().includes(p)).flatMap((p) => p.documents.map((d) => d.index)).sort((a, b) => a - b);
  if (points.length === 1) return { leftOut: () => [], node: h("section", { class: "app-documents" }, h("h2", {}, t("order.documents")), list, digestHint) };
  update();
  return {
    leftOut,
    node: h("fieldset", { class: "app-documents" }, h("legend", {}, t("order.points.choose")), count,
      h("p", { class: "app-hint" }, t("order.points.whole")), list, digestHint),
  };
}
