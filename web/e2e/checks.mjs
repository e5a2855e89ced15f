// Checks in a browser what axe cannot see: keyboard, focus, reflow, text
// spacing, and that a QR picture reads the same in every theme.
//
//   go run ./web/e2e/states -run "node web/e2e/checks.mjs"
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { prepareZXingModule, readBarcodes } from "zxing-wasm/reader";
import { launch } from "./browser.mjs";

const at = process.argv.indexOf("--base");
const base = at < 0 ? "http://127.0.0.1:8099" : process.argv[at + 1];
const screens = ["order/created", "order/check", "order/mobile", "order/expired", "enrol/start", "enrol/missing", "sign/files",
  "sign-order/partly", "error/wrong-browser", "home/home"];
const frame = "https://id.gov.tw/q/AZqsVd0mfKOnNmxyM29wAQ.42.q0X2bV9kTzE";
let failures = 0;
const fail = (text) => { failures++; console.log(text); };

const wasm = readFileSync(createRequire(import.meta.url).resolve("zxing-wasm/reader/zxing_reader.wasm"));
prepareZXingModule({ overrides: { wasmBinary: wasm.buffer.slice(wasm.byteOffset, wasm.byteOffset + wasm.byteLength) } });

const browser = await launch();

async function open(options, path) {
  const context = await browser.newContext({ viewport: { width: 1366, height: 768 }, locale: "zh-TW", reducedMotion: "reduce", ...options });
  const page = await context.newPage();
  await page.goto(`${base}/dev/states/${path}`);
  await page.waitForTimeout(80);
  return page;
}

/** Tab reaches everything once, begins at the skip link, and each stop is seen. */
async function keyboard(path) {
  const page = await open({}, path);
  const all = await page.evaluate(() => [...document.querySelectorAll("a[href],button,input,summary,[tabindex='0']")]
    .filter((e) => e.checkVisibility({ visibilityProperty: true }) && !e.disabled && e.tabIndex >= 0).length);
  const seen = [];
  for (let i = 0; i < all + 5; i++) {
    await page.keyboard.press("Tab");
    const stop = await page.evaluate(() => {
      const e = document.activeElement;
      if (!e || e === document.body) return null;
      e.dataset.stop ??= String(Math.random());
      const shown = e.matches("input[type=file]") ? e.closest(".drop").querySelector("label") : e;
      const style = getComputedStyle(shown);
      const r = shown.getBoundingClientRect();
      const top = document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2);
      return { id: e.dataset.stop, name: (e.id || e.textContent).trim().slice(0, 30), skip: e.classList.contains("skip"),
        ring: parseFloat(style.outlineWidth) >= 2 && style.outlineStyle !== "none", covered: !(top && (shown.contains(top) || top.contains(shown))) };
    });
    if (!stop || seen.some((s) => s.id === stop.id)) break;
    seen.push(stop);
  }
  if (!seen[0]?.skip) fail(`${path}: the first stop is not the skip link`);
  if (seen.length !== all) fail(`${path}: Tab reaches ${seen.length} of ${all}`);
  for (const s of seen) {
    if (!s.ring) fail(`${path}: no focus ring on ${s.name}`);
    if (s.covered) fail(`${path}: ${s.name} is covered when focused`);
  }
  await page.context().close();
}

/** 320 px wide, text at 200 %, text spacing of WCAG 1.4.12: nothing scrolls sideways, nothing is cut. */
async function reflow(path) {
  const page = await open({ viewport: { width: 320, height: 640 } }, path);
  const wide = () => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (await wide() > 0) fail(`${path}: scrolls sideways at 320 px`);
  const style = (css) => page.evaluate((text) => {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(text);
    document.adoptedStyleSheets = [sheet];
  }, css);
  await style("* { line-height: 1.5 !important; letter-spacing: .12em !important; word-spacing: .16em !important } p { margin-bottom: 2em !important }");
  if (await wide() > 0) fail(`${path}: scrolls sideways with text spacing`);
  await page.setViewportSize({ width: 1280, height: 800 });
  await style("html { font-size: 200% !important }");
  if (await wide() > 0) fail(`${path}: scrolls sideways with text at 200 %`);
  const cut = await page.evaluate(() => [...document.querySelectorAll("button, .button, h1, h2, p, dd, li, .badge")]
    .filter((e) => e.checkVisibility() && getComputedStyle(e).overflow === "hidden" && !e.classList.contains("visually-hidden") && e.scrollHeight > e.clientHeight + 2).length);
  if (cut) fail(`${path}: ${cut} texts are cut at 200 %`);
  await page.context().close();
}

/** The picture on the screen, in each theme, is read by a decoder that may not invert it. */
async function picture(options, name) {
  const page = await open(options, "order/created");
  const png = await page.locator("#qr").screenshot();
  const found = await readBarcodes(new Blob([png]), { formats: ["QRCode"], tryInvert: false, tryHarder: false });
  if (found[0]?.text !== frame) fail(`QR picture, ${name}: read as ${found[0]?.text}`);
  await page.click("#bigger");
  const big = await page.locator("#qr-big-picture").screenshot();
  const again = await readBarcodes(new Blob([big]), { formats: ["QRCode"], tryInvert: false });
  if (again[0]?.text !== frame) fail(`big QR picture, ${name}: read as ${again[0]?.text}`);
  await page.keyboard.press("Escape");
  if (await page.evaluate(() => document.activeElement?.id) !== "bigger") fail("the focus does not come back from the big picture");
  if (await page.evaluate(() => document.getAnimations().length)) fail(`${name}: something moves although motion is reduced`);
  await page.context().close();
}

for (const path of screens) {
  await keyboard(path);
  await reflow(path);
}
await picture({ colorScheme: "light" }, "light");
await picture({ colorScheme: "dark" }, "dark");
await picture({ forcedColors: "active", colorScheme: "dark" }, "forced colours");
await picture({ viewport: { width: 360, height: 740 }, deviceScaleFactor: 2 }, "phone");
await browser.close();
console.log(failures ? `${failures} failures` : "all checks passed");
process.exit(failures ? 1 : 0);
