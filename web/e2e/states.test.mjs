// Every state of every screen at a computer, with invented data: axe and the
// basic rules; and on some of them what axe cannot see: keyboard, focus,
// reflow, text spacing, and that a QR picture reads the same in every theme.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { prepareZXingModule, readBarcodes } from "zxing-wasm/reader";
import { launch } from "./browser.mjs";
import { axeSource, complaints } from "./rules.mjs";

const screens = ["documents/waiting", "documents-order/partly", "order/created", "order/check", "order/mobile", "order/expired", "enrol/start", "enrol/missing", "sign/files",
  "sign-order/partly", "verify/files", "verify/valid", "error/wrong-browser", "home/home"];
const frame = "https://id.gov.tw/q/AZqsVd0mfKOnNmxyM29wAQ.42.q0X2bV9kTzE";
const wasm = readFileSync(createRequire(import.meta.url).resolve("zxing-wasm/reader/zxing_reader.wasm"));
prepareZXingModule({ overrides: { wasmBinary: wasm.buffer.slice(wasm.byteOffset, wasm.byteOffset + wasm.byteLength) } });

let base, browser, server, dir;
let found = [];
const fail = (text) => found.push(text);

before(async () => {
  dir = mkdtempSync(join(tmpdir(), "sealgate-states-"));
  const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
  const built = spawnSync("go", ["build", "-o", join(dir, "states"), "./web/e2e/states"], { cwd: root, stdio: "inherit" });
  assert.equal(built.status, 0);
  server = spawn(join(dir, "states"), ["-addr", "127.0.0.1:0"], { stdio: ["ignore", "pipe", "inherit"] });
  base = await new Promise((resolve) => server.stdout.once("data", (line) => resolve(String(line).trim())));
  browser = await launch();
});
after(async () => {
  await browser?.close();
  server?.kill();
  rmSync(dir, { recursive: true, force: true });
});

async function open(options, path) {
  const context = await browser.newContext({ viewport: { width: 1366, height: 768 }, locale: "zh-TW", reducedMotion: "reduce", ...options });
  const page = await context.newPage();
  page.on("pageerror", (e) => fail(`${path}: ${e.message}`));
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

/** gathers what the checks complained about while run was running. */
async function none(run) {
  found = [];
  await run();
  assert.deepEqual(found, []);
}

test("the keyboard reaches everything, and the focus is seen", () => none(async () => {
  for (const path of screens) await keyboard(path);
}));

test("narrow windows, large text and text spacing", () => none(async () => {
  for (const path of screens) await reflow(path);
}));

test("a QR picture reads the same in every theme", () => none(async () => {
  await picture({ colorScheme: "light" }, "light");
  await picture({ colorScheme: "dark" }, "dark");
  await picture({ forcedColors: "active", colorScheme: "dark" }, "forced colours");
  await picture({ viewport: { width: 360, height: 740 }, deviceScaleFactor: 2 }, "phone");
}));

for (const [name, options] of [
  ["at a computer, Chinese, light", { viewport: { width: 1366, height: 768 }, locale: "zh-TW", colorScheme: "light" }],
  ["at a phone's width, English, dark", { viewport: { width: 360, height: 740 }, locale: "en-GB", colorScheme: "dark" }],
]) {
  test(`every state: axe and the basic rules, ${name}`, () => none(async () => {
    const states = await (await fetch(`${base}/dev/states`)).json();
    const context = await browser.newContext({ reducedMotion: "reduce", ...options });
    const page = await context.newPage();
    page.on("pageerror", (e) => fail(`${page.url()}: ${e.message}`));
    page.on("console", (m) => /Content Security Policy/.test(m.text()) && fail(`${page.url()}: ${m.text()}`));
    for (const [screen, names] of Object.entries(states)) {
      for (const state of names) {
        await page.goto(`${base}/dev/states/${screen}/${state}`);
        await page.waitForTimeout(40);
        await page.evaluate(axeSource);
        for (const complaint of await page.evaluate(complaints)) fail(`${screen}/${state}: ${complaint}`);
      }
    }
    await context.close();
  }));
}
