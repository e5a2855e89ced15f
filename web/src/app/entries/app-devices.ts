// /app/devices: the phones bound to this citizen.

import * as api from "../../shared/device-api";
import type { Device } from "../../shared/device-api";
import { gate } from "../environment";
import { h, heading, icon, link, actions, shapes, show } from "../dom";
import { timeElement } from "../format";
import { signOut, withSession } from "../session";
import { has, t } from "../texts";
import { registerWorker } from "../worker-registration";

const load = () => void withSession(t("devices.title"), api.devices, render);

function render(devices: Device[], byPress: boolean): void {
  const active = devices.filter((d) => d.state === "active").length;
  show(
    { state: t("devices.title"), focus: byPress, say: t("devices.loaded", { n: devices.length }) },
    heading(t("devices.title")),
    devices.length === 0 ? h("p", {}, t("devices.empty")) : h("ul", { class: "app-plain app-cards" }, ...devices.map(card)),
    active === 1 && h("p", { class: "app-caution app-caution--info" }, icon(shapes.info), h("span", {}, t("devices.second"))),
    actions(link(t("devices.lost"), "/lost")),
    signOut(t("devices.title"), load),
  );
}

function card(d: Device): HTMLElement {
  const key = `devices.state.${d.state}`;
  const facts = h("dl", { class: "app-facts" });
  const fact = (label: string, ...content: (Node | string)[]) =>
    facts.append(h("div", {}, h("dt", {}, label), h("dd", {}, ...content)));
  fact(t("devices.state"), icon(d.state === "active" ? shapes.ok : shapes.stop), has(key) ? t(key) : d.state);
  fact(t("devices.created"), timeElement(d.created_at));
  fact(t("devices.used"), d.last_used_at ? timeElement(d.last_used_at) : t("devices.never"));
  return h("li", { class: "app-card" },
    h("h2", {}, icon(shapes.phone), h("span", { dir: "auto" }, d.name), d.this && h("span", { class: "app-tag" }, t("devices.this"))),
    facts);
}

if (gate()) load();
registerWorker();
