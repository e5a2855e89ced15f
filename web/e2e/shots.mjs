// Takes pictures of every state of every screen, and runs axe on each.
//
//   go run ./web/e2e/states -run "node web/e2e/shots.mjs --pictures"
//   node web/e2e/shots.mjs [--base http://127.0.0.1:8099] [--out DIR] [--only order/created] [--pictures] [--quick]
//
// Without --pictures only the checks run. Exit status 1 when a check fails.
import { mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { launch } from "./browser.mjs";
import { axeSource, complaints } from "./rules.mjs";

const arg = (name, otherwise) => {
  const i = process.argv.indexOf(`--${name}`);
  return i < 0 ? otherwise : process.argv[i + 1];
};
const base = arg("base", "http://127.0.0.1:8099");
const out = arg("out", join(tmpdir(), "sealgate-shots"));
const only = arg("only", "");
const pictures = process.argv.includes("--pictures");
const quick = process.argv.includes("--quick");

const widths = { wide: { width: 1366, height: 768 }, phone: { width: 360, height: 740 } };
const variants = [];
for (const lang of ["zh-Hant", "en"])
  for (const size of Object.keys(widths))
    for (const scheme of ["light", "dark"]) {
      if (quick && (scheme === "dark") !== (lang === "en")) continue;
      variants.push({ lang, size, scheme });
    }

const states = await (await fetch(`${base}/dev/states`)).json();
const browser = await launch();
let failures = 0;
mkdirSync(out, { recursive: true });

for (const { lang, size, scheme } of variants) {
  const context = await browser.newContext({
    viewport: widths[size], colorScheme: scheme, reducedMotion: "reduce", locale: lang === "en" ? "en-GB" : "zh-TW",
    extraHTTPHeaders: { "Accept-Language": lang },
  });
  const page = await context.newPage();
  page.on("pageerror", (e) => { failures++; console.log(`ERROR ${page.url()} ${e.message}`); });
  page.on("console", (m) => { if (m.type() === "error" && !/status of [45]/.test(m.text())) { failures++; console.log(`CONSOLE ${page.url()} ${m.text()}`); } });
  for (const [screen, names] of Object.entries(states)) {
    for (const name of names) {
      if (only && !`${screen}/${name}`.startsWith(only)) continue;
      await page.goto(`${base}/dev/states/${screen}/${name}`);
      await page.waitForTimeout(60);
      const where = `${screen}/${name} ${lang} ${size} ${scheme}`;
      for (const complaint of await check(page, size)) {
        failures++;
        console.log(`${where}: ${complaint}`);
      }
      if (pictures) await page.screenshot({ path: join(out, `${screen}-${name}-${lang}-${size}-${scheme}.png`), fullPage: true });
    }
  }
  await context.close();
}
await browser.close();
console.log(failures ? `${failures} failures` : "all checks passed");
process.exit(failures ? 1 : 0);

async function check(page, size) {
  await page.evaluate(axeSource);
  const found = await page.evaluate(complaints);
  if (size === "wide") {
    for (const [w, h] of [[1280, 720], [1024, 600]]) {
      await page.setViewportSize({ width: w, height: h });
      const bottom = await page.evaluate(() => {
        const qr = document.querySelector("#qr svg");
        return qr?.checkVisibility() && !document.querySelector(".stepper") ? qr.getBoundingClientRect().bottom : 0;
      });
      if (bottom > h) found.push(`QR picture ends at ${Math.round(bottom)} of ${h} at ${w}x${h}`);
    }
    await page.setViewportSize(widths.wide);
  } else {
    await page.setViewportSize({ width: 320, height: 640 });
    if (await page.evaluate(() => document.documentElement.scrollWidth > 320)) found.push("scrolls sideways at 320 px");
    await page.setViewportSize(widths.phone);
  }
  return found;
}
