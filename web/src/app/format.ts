// Dates, sizes and host names as people read them.

import { page } from "./texts";
import { h } from "./dom";

const zone = "Asia/Taipei";
const rocOffset = 1911; // year of the common era minus year of the Republic of China calendar
const day = 86_400_000;

type Parts = { year: number; month: number; day: number; hour: string; minute: string };

function parts(at: Date): Parts {
  const found: Record<string, string> = {};
  const format = new Intl.DateTimeFormat("en-GB", {
    timeZone: zone, year: "numeric", month: "numeric", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23",
  });
  for (const p of format.formatToParts(at)) found[p.type] = p.value;
  return {
    year: Number(found["year"]), month: Number(found["month"]), day: Number(found["day"]),
    hour: found["hour"] ?? "", minute: found["minute"] ?? "",
  };
}

const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** dateText writes a day: 115年11月23日 or 23 Nov 2026. */
export function dateText(at: Date): string {
  const p = parts(at);
  if (page().lang === "en") return `${p.day} ${months[p.month - 1]} ${p.year}`;
  return `${p.year - rocOffset}年${p.month}月${p.day}日`;
}

/** clockText writes hours and minutes: 14:02. */
export function clockText(at: Date): string {
  const p = parts(at);
  return `${p.hour}:${p.minute}`;
}

/** dayKey groups times by the calendar day people in Taiwan see. */
export function dayKey(at: Date): string {
  const p = parts(at);
  return `${p.year}-${p.month}-${p.day}`;
}

/** daysAgo counts calendar days back from today. */
export function daysAgo(at: Date): number {
  const midnight = (d: Date) => { const p = parts(d); return Date.UTC(p.year, p.month - 1, p.day); };
  return Math.round((midnight(new Date()) - midnight(at)) / day);
}

/** timeElement writes a moment with its machine-readable form (+08:00). */
export function timeElement(iso: string, form: "moment" | "clock" | "day" = "moment"): HTMLElement {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return h("span", {}, iso);
  const words = form === "clock" ? clockText(at) : form === "day" ? dateText(at)
    : dateText(at) + (page().lang === "en" ? ", " : " ") + clockText(at);
  const machine = new Date(at.getTime() + 8 * 3_600_000).toISOString().replace(/\.\d+Z$/, "+08:00");
  return h("time", { datetime: machine }, words);
}

/** sizeText writes a number of bytes: 812 B, 4.2 kB, 1.0 GB (powers of 1000). */
export function sizeText(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = -1;
  while (value >= 999.5 && unit + 1 < units.length) {
    value /= 1000;
    unit++;
  }
  return `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ${units[unit]}`;
}

/** hostText writes a host in its ASCII form: a name in look-alike letters must not pass for another. */
export function hostText(host: string): string {
  try {
    return new URL(`https://${host}`).host;
  } catch {
    return host;
  }
}

/** hostElement shows a host; a long one breaks before a dot, so that its parts stay readable. */
export function hostElement(host: string): HTMLElement {
  const shown = h("span", { class: "app-host" });
  hostText(host).split(".").forEach((label, i) => (i ? shown.append(h("wbr"), `.${label}`) : shown.append(label)));
  return shown;
}

/** countryText writes a country code in the page's language. */
export function countryText(code: string): string {
  if (!/^[A-Za-z]{2}$/.test(code)) return code;
  try {
    return new Intl.DisplayNames([page().lang], { type: "region" }).of(code.toUpperCase()) ?? code;
  } catch {
    return code;
  }
}
