// /app/devices: the phones bound to this citizen, and what may be done to them.

import * as api from "../../shared/device-api";
import type { Device, DeviceList, DeviceNotice, DeviceStep } from "../../shared/device-api";
import { gate } from "../environment";
import { actions, announce, button, h, heading, icon, link, notice, shapes, show } from "../dom";
import { timeElement } from "../format";
import { due, remember } from "../renewal";
import { signOut, withSession } from "../session";
import { has, t } from "../texts";
import { forget } from "../../shared/webauthn";
import { registerWorker } from "../worker-registration";

const load = (byPress = false) => void withSession(t("devices.title"), api.devices, render, byPress);
const reload = () => load(true);

function render({ items, notices, removed_passkeys: gone }: DeviceList, byPress: boolean): void {
  remember(items);
  if (gone) forget(gone.rp_id, gone.ids);
  const active = items.filter((d) => d.state === "active").length;
  const cooling = items.find((d) => d.this)?.cooldown_until;
  show(
    { state: t("devices.title"), focus: byPress, say: t("devices.loaded", { n: items.length }) },
    heading(t("devices.title")),
    ...told(notices, items),
    cooling && h("p", { class: "app-caution app-caution--info" }, icon(shapes.info), h("span", {}, t("devices.cooling"), " ", timeElement(cooling))),
    items.length === 0 ? h("p", {}, t("devices.empty")) : h("ul", { class: "app-plain app-cards" }, ...items.map((d) => card(d, active, Boolean(cooling) && !d.this))),
    active === 1 && h("p", { class: "app-caution app-caution--info" }, icon(shapes.info), h("span", {}, t("devices.second"))),
    actions(!cooling && button(t("devices.add"), add), link(t("devices.lost"), "/lost")),
    signOut(t("devices.title"), load),
  );
}

// What happened to other phones is told once; reading the list is reading it.
function told(notices: DeviceNotice[], items: Device[]): Node[] {
  if (notices.length === 0) return [];
  void api.noticesSeen(notices[0]!.id).catch(() => undefined);
  const line = (n: DeviceNotice) => {
    const key = `devices.notice.${n.kind}`;
    const about = n.kind === "device_added" ? items.find((d) => d.id === n.device.id) : undefined;
    return h("li", {}, t(has(key) ? key : "devices.notice.other", { name: n.device.name }), " ", timeElement(n.at),
      about && actions(button(t("devices.not_me", { name: about.name }), () => act(about, "remove"))));
  };
  const box = (title: string, list: DeviceNotice[], next: string) => list.length > 0 && h("div", { class: "notice warn" }, icon(shapes.warn), h("div", {},
    h("h2", {}, title), h("ul", {}, ...list.map(line)), next && h("p", {}, next)));
  const ends = (n: DeviceNotice) => /^(certificate|card)_ends_/.test(n.kind);
  return [
    box(t("devices.notice.title"), notices.filter((n) => !ends(n)), t("devices.notice.next")),
    box(t("devices.notice.ends.title"), notices.filter(ends), ""),
  ].filter((b): b is HTMLDivElement => Boolean(b));
}

// A phone that was just added manages no other phone: locked.
function card(d: Device, active: number, locked: boolean): HTMLElement {
  const key = `devices.state.${d.state}`;
  const facts = h("dl", { class: "app-facts" });
  const fact = (label: string, ...content: (Node | string)[]) =>
    facts.append(h("div", {}, h("dt", {}, label), h("dd", {}, ...content)));
  fact(t("devices.state"), icon(d.state === "active" ? shapes.ok : shapes.stop), has(key) ? t(key) : d.state);
  if (d.reason) fact(t("devices.reason"), t(has(`devices.reason.${d.reason}`) ? `devices.reason.${d.reason}` : "devices.reason.other"));
  fact(t("devices.created"), timeElement(d.created_at));
  fact(t("devices.used"), d.last_used_at ? timeElement(d.last_used_at) : t("devices.never"));
  if (d.certificate) fact(t("devices.certificate"), timeElement(d.certificate.not_after));
  else fact(t("devices.certificate.word"), t(d.certificate_pending ? "devices.certificate.pending" : "devices.certificate.none"));
  if (d.certificate && d.certificate_pending) fact(t("devices.certificate.new"), t("devices.certificate.renewing"));
  if (d.added_by) fact(t("devices.added_by"), t(d.added_by.name ? "devices.added_by.phone" : "devices.added_by.gone", { name: d.added_by.name ?? "" }));
  if (d.cooldown_until) fact(t("devices.new"), t("devices.new.text"), " ", timeElement(d.cooldown_until));
  const last = d.state === "active" && active === 1;
  const act = (label: string, press: () => void) => {
    const b = button(label, press);
    b.setAttribute("aria-label", t("devices.act", { act: label, name: d.name }));
    return b;
  };
  return h("li", { class: "app-card" },
    h("h2", {}, icon(shapes.phone), h("span", { dir: "auto" }, d.name), d.this && h("span", { class: "app-tag" }, t("devices.this"))),
    facts,
    due(d, reload),
    !locked && actions(
      act(t("devices.rename"), () => rename(d)),
      d.state === "active" && act(t("devices.suspend"), () => confirm(d, "suspend", last)),
      d.state === "suspended" && d.resumable && act(t("devices.resume"), () => confirm(d, "resume", last)),
      act(t("devices.remove"), () => confirm(d, "remove", last)),
    ));
}

function rename(d: Device): void {
  const field = h("input", { id: "device-name", class: "input", maxlength: 60, value: d.name, autocomplete: "off", "aria-describedby": "device-name-error" });
  const wrong = h("p", { id: "device-name-error", class: "error", hidden: true }, t("devices.rename.empty"));
  const save = () => {
    const name = field.value.trim();
    if (!name) {
      wrong.hidden = false;
      field.setAttribute("aria-invalid", "true");
      field.focus();
      return announce(t("devices.rename.empty"), true);
    }
    void withSession(t("devices.rename"), () => api.renameDevice(d.id, name), reload, true);
  };
  const form = h("form", { onsubmit: (e) => { e.preventDefault(); save(); } },
    h("div", { class: "field" }, h("label", { for: "device-name" }, t("devices.rename.label")), field, wrong),
    actions(button(t("devices.back"), reload), h("button", { class: "button primary" }, t("devices.save"))));
  show({ state: t("devices.rename"), focus: true }, heading(t("devices.rename.title", { name: d.name })), form);
}

// Every act that stops or starts a phone is shown first: what follows from it,
// and after the last phone, the way back.
function confirm(d: Device, step: DeviceStep, last: boolean): void {
  const effects = (has(`devices.${step}.effects`) ? t(`devices.${step}.effects`) : "").split("\n").filter(Boolean);
  if (step === "suspend") effects.push(t(last ? "devices.suspend.none" : "devices.suspend.other"));
  const yes = button(t(`devices.${step}.yes`), () => act(d, step), "primary");
  show(
    { state: t(`devices.${step}`), focus: true },
    heading(t(`devices.${step}.title`, { name: d.name })),
    effects.length > 0 && h("ul", {}, ...effects.map((e) => h("li", {}, e))),
    d.this && step !== "resume" && h("p", { class: "app-caution" }, icon(shapes.warn), h("span", {}, t("devices.self"))),
    last && step !== "resume" && h("p", { class: "app-caution" }, icon(shapes.warn), h("span", {}, t("devices.last"))),
    h("p", {}, t("devices.confirmNext")),
    actions(button(t("devices.back"), reload), yes),
  );
}

// Another phone is added from this one: first what follows, then the QR code on
// a page of its own.
function add(): void {
  show(
    { state: t("devices.add"), focus: true },
    heading(t("devices.add.title")),
    h("ul", {}, ...t("devices.add.effects").split("\n").map((e) => h("li", {}, e))),
    h("p", {}, t("devices.confirmNext")),
    actions(button(t("devices.back"), reload), button(t("devices.add.yes"), begin, "primary")),
  );
}

const begin = () => void withSession(t("devices.add"), api.beginAddition, ({ order }) => location.assign(`/app/add/${order}`), true);

function act(d: Device, step: DeviceStep): void {
  void withSession(t(`devices.${step}`), () => api.changeDevice(d.id, step), () => {
    notice({
      tone: "ok", title: t(`devices.${step}.done`, { name: d.name }), focus: true,
      actions: [d.this && step !== "resume" ? link(t("common.done"), "/app", "primary") : button(t("devices.back"), reload, "primary")],
    });
  }, true);
}

if (gate()) load();
registerWorker();
