// /app/history: what was asked of this citizen and what became of it, by day.

import * as api from "../../shared/device-api";
import type { HistoryItem } from "../../shared/device-api";
import { gate } from "../environment";
import { h, heading, icon, link, actions, shapes, show } from "../dom";
import { dayKey, daysAgo, hostElement, timeElement } from "../format";
import { signOut, withSession } from "../session";
import { foreignLang, named, t } from "../texts";
import { registerWorker } from "../worker-registration";

const load = () => void withSession(t("history.title"), api.history, render);

function render(items: HistoryItem[], byPress: boolean): void {
  const days = new Map<string, HistoryItem[]>();
  for (const item of items) {
    const key = dayKey(new Date(item.at));
    days.set(key, [...(days.get(key) ?? []), item]);
  }
  show(
    { state: t("history.title"), focus: byPress, say: t("history.loaded", { n: items.length }) },
    heading(t("history.title")),
    ...(items.length === 0
      ? [h("p", {}, t("history.empty")), actions(link(t("common.scan"), "/app/scan", "primary"))]
      : [...days.values()].map(daySection)),
    signOut(t("history.title"), load),
  );
}

function daySection(items: HistoryItem[]): HTMLElement {
  const at = items[0]!.at;
  const ago = daysAgo(new Date(at));
  const word = ago === 0 ? t("history.today") : ago === 1 ? t("history.yesterday") : "";
  return h("section", { class: "app-day" },
    h("h2", {}, word && `${word} `, timeElement(at, "day")),
    h("ul", { class: "app-plain" }, ...items.map((i) => h("li", {}, row(i)))));
}

function row(item: HistoryItem): HTMLElement {
  const [word, shape, tone] = outcome(item);
  const detail = h("dl", { class: "app-facts" });
  const fact = (label: string, ...content: (Node | string)[]) =>
    detail.append(h("div", {}, h("dt", {}, label), h("dd", {}, ...content)));
  fact(t("history.site"), hostElement(item.client.host));
  if (item.device?.name) fact(t("history.device"), item.device.name);
  if (item.documents?.length) {
    fact(t("history.documents"), h("ul", { class: "app-plain" }, ...item.documents.map((d) =>
      h("li", {}, h("span", { dir: "auto" }, d.name), " ", d.digest_code ? h("code", { class: "app-code" }, d.digest_code) : null,
        d.left_out && h("span", { class: "app-sub" }, t("history.leftOut"))))));
  }
  fact(t("history.order"), h("code", { class: "app-code" }, item.order));
  return h("details", { class: "app-entry" },
    h("summary", {},
      h("span", { class: `app-entry__mark app-entry__mark--${tone}` }, icon(shape)),
      h("span", { class: "app-entry__text" },
        h("span", { class: "app-entry__word" }, word),
        h("span", { lang: foreignLang(item.client.name) }, named(item.client.name))),
      timeElement(item.at, "clock")),
    detail,
    actions(link(t("history.notMe"), "/lost")));
}

function outcome(item: HistoryItem): [string, string, "ok" | "warn" | "muted"] {
  switch (item.state) {
    case "approved":
    case "completed":
      return [t(`history.${item.kind}`), item.kind === "sign" ? shapes.pen : item.kind === "enrol" ? shapes.phone : shapes.enter, "ok"];
    case "rejected":
      return [t("history.rejected"), shapes.stop, "warn"];
    case "failed":
      return [t("history.failed"), shapes.warn, "warn"];
    case "expired":
      return [t("history.expired"), shapes.wait, "muted"];
    case "cancelled":
      return [t("history.cancelled"), shapes.stop, "muted"];
    default:
      return [t("history.pending"), shapes.wait, "muted"];
  }
}

if (gate()) load();
registerWorker();
