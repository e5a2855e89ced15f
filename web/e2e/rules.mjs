// The rules that every page keeps, told by the page itself.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

/** axe-core's source; page.evaluate(axeSource) puts it into a page. */
export const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Runs inside a page that has axe and lists what is wrong with it. */
export async function complaints() {
  const complaints = [];
  const result = await window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] });
  for (const v of result.violations) complaints.push(`axe ${v.id}: ${v.nodes.map((n) => n.target.join(" ")).slice(0, 3).join(" | ")}`);
  if (!["zh-Hant", "en"].includes(document.documentElement.lang)) complaints.push("lang");
  if (document.querySelectorAll("h1").length !== 1) complaints.push("not exactly one h1");
  const regions = document.querySelectorAll("[role=status],[role=alert],[aria-live=polite],[aria-live=assertive]");
  if (regions.length !== 1) complaints.push(`${regions.length} live regions`);
  const link = document.querySelector("a[hreflang]");
  if (!link || link.lang !== link.hreflang) complaints.push("language link");
  if (document.documentElement.scrollWidth > document.documentElement.clientWidth) complaints.push("scrolls sideways");
  for (const el of document.querySelectorAll("button, input:not([type=file]), summary, a.button")) {
    const r = el.getBoundingClientRect();
    if (r.width && (r.height < 24 || r.width < 24)) complaints.push(`small target ${el.id || el.textContent.trim()}`);
  }
  const qr = document.querySelector("#qr svg");
  if (qr?.checkVisibility()) {
    const r = qr.getBoundingClientRect();
    if (r.width < 240 || r.width / 41 < 5) complaints.push(`QR picture is ${Math.round(r.width)} px`);
    if (innerWidth >= 1024 && r.bottom > innerHeight) complaints.push(`QR picture ends at ${Math.round(r.bottom)} of ${innerHeight}`);
  }
  if (/[a-z]+\.[a-z_]+\.[a-z_]+/.test(document.querySelector("main").innerText.replace(/[\w.-]+\.(tw|pdf|docx|xlsx|mp4|p7s)\b/g, ""))) complaints.push("a key without a text? " + document.querySelector("main").innerText.match(/[a-z]+\.[a-z_]+\.[a-z_]+/)[0]);
  return complaints;
}
