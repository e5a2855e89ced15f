// The life of a phone after its binding, as people walk it: looked at, stopped
// and resumed by its holder, reported lost with the card and taken back.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch } from "./browser.mjs";
import { Dev } from "./dev.mjs";

const pin = "12345678";
const id = "A123000018";
const shots = process.env.SHOTS;
let dev, browser, desk, phone, phonePage, cdp, authenticatorId;

before(async () => {
  [dev, browser] = await Promise.all([Dev.start(), launch()]);
  desk = await browser.newContext({ locale: "zh-TW", viewport: { width: 1366, height: 900 } });
  phone = await browser.newContext({ locale: "zh-TW", viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true,
    userAgent: "Mozilla/5.0 (Linux; Android 16; Pixel 10) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Mobile Safari/537.36" });
  phonePage = await phone.newPage();
  cdp = await phone.newCDPSession(phonePage);
  await cdp.send("WebAuthn.enable");
  ({ authenticatorId } = await cdp.send("WebAuthn.addVirtualAuthenticator", { options: { protocol: "ctap2", ctap2Version: "ctap2_1", transport: "internal",
    hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true } }));
});
after(async () => { await browser?.close(); await dev?.stop(); });

async function picture(page, name) {
  if (!shots) return;
  mkdirSync(shots, { recursive: true });
  await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
}

const primary = ".app-actions .button.primary";
const says = (page, text) => page.waitForFunction((t) => document.querySelector("main")?.innerText.includes(t), text);
// No page is wider than the phone.
const fits = async (page) => assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "nothing is cut off at 360");

/** bind lets the card bind the phone under a name. */
async function bind(name) {
  await dev.insert(1);
  const page = await desk.newPage();
  await page.goto(`${dev.origin}/enrol`);
  await page.click("#check-button");
  await page.waitForSelector("#read:not([hidden])");
  await page.fill("#national-id", id);
  await page.click("#read-button");
  await page.waitForSelector("#confirm:not([hidden])");
  await page.click("#confirm-yes");
  await page.waitForSelector("#qr svg");
  const order = new URL(page.url()).pathname.match(/[A-Za-z0-9_-]{22}/)[0];
  const { frame } = await page.evaluate(async (o) => (await fetch(`/o/${o}/state`)).json(), order);
  await phonePage.goto(frame);
  await phonePage.waitForSelector(".app-digits");
  const digits = (await phonePage.locator(".app-digits").innerText()).match(/\d\s*\d/)[0].replace(/\s/g, "");
  await page.waitForSelector("#digits:visible");
  await page.fill("#digits", digits);
  await page.click("#check-form button");
  await phonePage.waitForSelector(`${primary}:not([aria-disabled=true])`);
  await phonePage.fill("#device-name", name);
  await phonePage.click(primary);
  await page.waitForSelector("#sign-card:not([hidden])");
  return page;
}

async function sign(page) {
  await page.fill("#pin", pin);
  await page.click("#sign-button");
  await page.waitForSelector("#done:not([hidden])");
}

async function openDevices(query = "") {
  await phonePage.goto(`${dev.origin}/app/devices${query}`);
  await phonePage.waitForSelector(`.app-card, ${primary}`);
  if (!(await phonePage.locator(".app-card").count())) await phonePage.click(primary);
  await phonePage.waitForSelector(".app-card");
}

test("look at the devices, rename one", async () => {
  const page = await bind("一號機");
  await sign(page);
  await page.close();
  await openDevices();
  await fits(phonePage);
  await picture(phonePage, "devices-1-list");
  await phonePage.click("button[aria-label^='改名']");
  await phonePage.fill("#device-name", "爸爸的手機");
  await picture(phonePage, "devices-2-rename");
  await phonePage.click(primary);
  await says(phonePage, "爸爸的手機");
  await phonePage.click("button[aria-label^='停用']");
  await says(phonePage, "最後一支");
  await fits(phonePage);
  await picture(phonePage, "devices-3-suspend");
  await openDevices("?lang=en");
  await fits(phonePage);
  await picture(phonePage, "devices-4-list-en");
  await phonePage.click("button[aria-label^='Remove']");
  await says(phonePage, "last working phone");
  await fits(phonePage);
  await picture(phonePage, "devices-5-remove-en");
});

test("bind again after the passkey was lost", async () => {
  await cdp.send("WebAuthn.clearCredentials", { authenticatorId });
  const page = await bind("爸爸的手機");
  await page.waitForSelector("#replace-field:not([hidden])");
  await picture(page, "rebind-1");
  await sign(page);
  await page.close();
  await openDevices("?lang=zh-Hant");
  assert.equal(await phonePage.locator(".app-card").count(), 1);
});

test("lost: stop with the card, and take it back", async () => {
  const page = await desk.newPage();
  await page.goto(`${dev.origin}/lost`);
  await page.click("a[href='/lost/card']");
  await picture(page, "lost-1");
  await page.click("#report-button");
  await page.waitForSelector("#sign-card:not([hidden])");
  await picture(page, "lost-2-sign");
  await sign(page);
  assert.match(await page.innerText("#done"), /爸爸的手機/);
  assert.match(await page.innerText("#done-code"), /^[2-9A-Z]{4}-[2-9A-Z]{4}$/);
  await picture(page, "lost-3-done");
  await phonePage.goto(`${dev.origin}/app/devices?lang=zh-Hant`);
  await phonePage.waitForSelector(primary);
  await phonePage.click(primary);
  await says(phonePage, "停用");
  await fits(phonePage);
  await picture(phonePage, "lost-4-phone");
  await page.goto(`${dev.origin}/lost/card`);
  await page.click("#undo-button");
  await page.waitForSelector("#sign-card:not([hidden])");
  await sign(page);
  await openDevices();
  await says(phonePage, "已通報遺失");
  await picture(phonePage, "lost-5-notice");
  await page.setViewportSize({ width: 360, height: 740 });
  await page.goto(`${dev.origin}/lost/card?lang=en`);
  await fits(page);
  await picture(page, "lost-6-360-en");
  await page.close();
});
