// The request card: everything a person must see before deciding, in one
// fixed order, with refusing first.

import type { Claim, OrderDocument } from "../shared/device-api";
import { actions, button, h, heading, icon, shapes } from "./dom";
import { countryText, hostElement, sizeText, timeElement } from "./format";
import { deviceName } from "./environment";
import { pointList, pointsOf } from "./points";
import { foreignLang, has, named, t } from "./texts";

export type Card = {
  nodes: Node[];
  state: string;
  approve: HTMLButtonElement;
  reject: HTMLButtonElement;
  /** Where failures appear: between what is asked and the buttons. */
  slot: HTMLElement;
  /** The two digits, when the computer must be given them. */
  digits?: HTMLElement;
  /** Indexes of documents that the person unticked, in ascending order. */
  leftOut(): number[];
  /** The device name as typed (enrolment), trimmed. */
  name(): string;
};

/** heading1 is the question the card asks. */
export function question(c: Claim): string {
  const documents = c.documents?.length ?? 0;
  if (c.kind === "enrol") return t("order.enrol.h1");
  const points = pointsOf(c.documents ?? []);
  if (points?.[0]?.returned) return t("order.return.h1");
  if (points) return points.length > 1 ? t("order.points.h1", { n: points.length }) : t("order.point.h1");
  if (c.kind === "sign") return documents > 1 ? t("order.batch.h1", { n: documents }) : t("order.sign.h1");
  return t("order.login.h1", { client: named(c.client.name) });
}

export function makeCard(c: Claim, on: { approve(): void; reject(): void }): Card {
  const state = question(c);
  const enrol = c.kind === "enrol";
  const approve = button(t(enrol ? "order.create" : "order.approve"), on.approve, "primary");
  const reject = button(t("order.reject"), on.reject);
  const documents = documentList(c.documents ?? [], approve);
  const name = enrol ? nameField(c.enrol?.suggested_name || deviceName()) : undefined;
  const digits = c.check?.required && !c.check.passed ? digitsBox(c.check.digits ?? "", adding(c)) : undefined;
  const slot = h("div", { class: "app-slot" });
  return {
    state, approve, reject, slot,
    ...(digits ? { digits } : {}),
    leftOut: documents.leftOut,
    name: () => name?.input.value.trim() ?? "",
    nodes: [
      heading(state),
      facts(c),
      ...(documents.node ? [documents.node] : []),
      caution(c),
      ...(name ? [name.node] : []),
      ...(digits ? [digits] : []),
      slot,
      h("p", { class: "app-hint" }, t("order.before")),
      actions(reject, approve),
      h("p", { class: "app-hint" }, ...sentenceWith(t("order.deadline"), "{time}", timeElement(c.expires_at, "clock"))),
    ],
  };
}

function sentenceWith(text: string, placeholder: string, node: Node): (Node | string)[] {
  const [before = "", after = ""] = text.split(placeholder);
  return [before, node, after];
}

function facts(c: Claim): HTMLElement {
  const list = h("dl", { class: "app-facts" });
  const row = (key: string, ...content: (Node | string | false | undefined)[]) =>
    list.append(h("div", {}, h("dt", {}, t(key)), h("dd", {}, ...content)));
  row("order.agency", h("span", { lang: foreignLang(c.agency.name) }, named(c.agency.name)));
  row("order.site",
    hostElement(c.client.host),
    h("span", { class: "app-sub", lang: foreignLang(c.client.name) }, named(c.client.name)));
  if (c.kind === "enrol" && c.enrol?.masked_name) row("order.person", c.enrol.masked_name);
  if (c.kind === "login") row("order.data", dataList(c.data ?? []));
  // What an agency writes is shown as it came; dir keeps it from turning the line around it.
  if (c.text) row("order.text", h("span", { class: "app-text", dir: "auto" }, c.text));
  row(adding(c) ? "order.other_phone" : "order.computer", ...computer(c));
  row("order.time", timeElement(c.started?.at ?? c.server_time));
  return list;
}

function dataList(scopes: string[]): HTMLElement {
  const given = scopes.filter((s) => s !== "openid");
  if (given.length === 0) return h("span", {}, t("order.data.none"));
  return h("ul", { class: "app-plain" }, ...given.map((s) =>
    has(`data.${s}`) ? h("li", {}, t(`data.${s}`)) : h("li", {}, h("code", {}, s))));
}

function computer(c: Claim): (Node | string)[] {
  if (c.source === "same_device") return [t("order.computer.same")];
  const s = c.started ?? {};
  const words = [s.os, s.browser].filter(Boolean).join(t("common.separator"));
  const place = s.country ? `${countryText(s.country)} (${t("order.computer.guess")})` : "";
  const network = s.ip_class === "same" || s.ip_class === "other" ? t(`order.network.${s.ip_class}`) : "";
  return [h("span", {}, words || "–"), ...[place, network].filter(Boolean).map((line) => h("span", { class: "app-sub" }, line))];
}

function caution(c: Claim): HTMLElement {
  return h("p", { class: "app-caution" }, icon(shapes.warn), h("span", {}, t(adding(c) ? "order.caution.add" : `order.caution.${c.kind}`)));
}

/** adding says that another phone of the person adds this one, without a computer. */
export const adding = (c: Claim): boolean => c.enrol?.proof === "device";

function digitsBox(digits: string, add: boolean): HTMLElement {
  return h("section", { class: "app-digits", "aria-label": t(add ? "order.check.spoken.add" : "order.check.spoken", { digits: digits.split("").join(" ") }) },
    h("p", { "aria-hidden": "true" }, t(add ? "order.check.text.add" : "order.check.text")),
    h("p", { class: "app-digits__number", "aria-hidden": "true" }, digits),
    h("p", { class: "app-hint" }, t("order.check.wait")));
}

function nameField(suggestion: string): { node: HTMLElement; input: HTMLInputElement } {
  const input = h("input", {
    id: "device-name", class: "input", type: "text", maxlength: 64, autocomplete: "off",
    "aria-describedby": "device-name-hint", required: true,
  });
  input.value = suggestion;
  return {
    input,
    node: h("div", { class: "field" },
      h("label", { for: "device-name" }, t("order.device.label")),
      input,
      h("p", { id: "device-name-hint", class: "app-hint" }, t("order.device.hint"))),
  };
}

type Documents = { node?: HTMLElement; leftOut(): number[] };

function documentList(documents: OrderDocument[], approve: HTMLButtonElement): Documents {
  if (documents.length === 0) return { leftOut: () => [] };
  const points = pointsOf(documents);
  if (points) return pointList(points, approve, documentBody, digestHint());
  if (documents.length === 1) {
    return {
      leftOut: () => [],
      node: h("section", { class: "app-documents" }, h("h2", {}, t("order.documents")),
        h("div", { class: "app-document" }, documentBody(documents[0]!)), digestHint()),
    };
  }
  const boxes = new Map<number, HTMLInputElement>();
  const count = h("p", { class: "app-hint" });
  const leftOut = () => [...boxes].filter(([, box]) => !box.checked).map(([index]) => index).sort((a, b) => a - b);
  const update = () => {
    const chosen = documents.length - leftOut().length;
    count.textContent = chosen ? t("order.documents.count", { n: chosen, total: documents.length }) : t("order.documents.none");
    approve.toggleAttribute("data-none-chosen", chosen === 0);
  };
  const rows = documents.map((d) => {
    const box = h("input", { type: "checkbox", id: `document-${d.index}`, onchange: update });
    box.checked = true;
    boxes.set(d.index, box);
    return h("li", { class: "app-document" },
      h("label", { for: `document-${d.index}` }, box, documentBody(d)));
  });
  update();
  return {
    leftOut,
    node: h("fieldset", { class: "app-documents" }, h("legend", {}, t("order.documents.choose")),
      count, h("ul", { class: "app-plain" }, ...rows), digestHint()),
  };
}

function documentBody(d: OrderDocument, name = d.name, more = ""): HTMLElement {
  return h("span", { class: "app-document__body" },
    h("span", { class: "app-document__name", dir: "auto" }, name),
    more ? h("span", { class: "app-sub" }, more) : null,
    h("span", { class: "app-sub" }, ...(d.size > 0 ? [sizeText(d.size), t("common.separator")] : []), t("order.digest"), " ",
      h("code", { class: "app-code" }, d.digest_code)),
    ...(more ? [] : documentNotes(d)));
}

/** What is unlike a plain signature over the document. */
function documentNotes(d: OrderDocument): HTMLElement[] {
  const notes: HTMLElement[] = [];
  if (d.form === "raw" || d.form === "pkcs1") notes.push(h("span", { class: "app-sub" }, t("order.document.bare")));
  if (d.earlier_signers?.length) notes.push(h("span", { class: "app-sub", dir: "auto" }, t("order.document.joins", { names: d.earlier_signers.join(t("common.separator")) })));
  return notes;
}

function digestHint(): HTMLElement {
  return h("p", { class: "app-hint" }, t("order.digest.hint"));
}
