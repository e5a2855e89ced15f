// A second phone, added from the first: two phones, each a browser of its own
// with a virtual authenticator. Added, held back for a while, and removed by the
// first with "this was not me".
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch } from "./browser.mjs";
import { Dev } from "./dev.mjs";
import { axeSource, complaints } from "./rules.mjs";

const pin = "12345678";
const id = "A123000018";
const shots = process.env.SHOTS;
let dev, browser, desk, first, second;

/** phone is a browser on a phone, with an authenticator. */
async function phone() {
  const context = await browser.newContext({ locale: "zh-TW", viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true,
    userAgent: "Mozilla/5.0 (Linux; Android 16; Pixel 10) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Mobile Safari/537.36" });
  const page = await context.newPage();
  const cdp = await context.newCDPSession(page);
  await cdp.send("WebAuthn.enable");
  await cdp.send("WebAuthn.addVirtualAuthenticator", { options: { protocol: "ctap2", ctap2Version: "ctap2_1", transport: "internal",
    hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true } });
  return page;
}

before(async () => {
  [dev, browser] = await Promise.all([Dev.start(), launch()]);
  desk = await browser.newContext({ locale: "zh-TW", viewport: { width: 1366, height: 900 } });
  [first, second] = [await phone(), await phone()];
});
after(async () => { await browser?.close(); await dev?.stop(); });

async function picture(page, name) {
  if (!shots) return;
  mkdirSync(shots, { recursive: true });
  await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
}

const primary = ".app-actions .button.primary";
const says = (page, text) => page.waitForFunction((t) => document.querySelector("main")?.innerText.includes(t), text);
const fits = async (page) => assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "nothing is cut off at 360");

async function axe(page) {
  await page.evaluate(axeSource);
  assert.deepEqual(await page.evaluate(complaints), []);
}

/** take lets a phone take the order of a page, with the two digits. */
async function take(page, on) {
  await page.waitForSelector("#qr svg");
  const order = new URL(page.url()).pathname.match(/[A-Za-z0-9_-]{22}/)[0];
  const { frame } = await page.evaluate(async (o) => (await fetch(`/o/${o}/state`)).json(), order);
  await on.goto(frame);
  await on.waitForSelector(`.app-digits, ${primary}`);
  if (await on.locator(".app-digits").count()) {
    const digits = (await on.locator(".app-digits").innerText()).match(/\d\s*\d/)[0].replace(/\s/g, "");
    await page.waitForSelector("#digits:visible");
    await page.fill("#digits", digits);
    await page.click("#check-form button");
  }
  await on.waitForSelector(`${primary}:not([aria-disabled=true])`);
}

async function openDevices(page, query = "") {
  await page.goto(`${dev.origin}/app/devices${query}`);
  await page.waitForSelector(`.app-card, ${primary}`);
  if (!(await page.locator(".app-card").count())) await page.click(primary);
  await page.waitForSelector(".app-card");
}

test("the first phone, bound with the card", async () => {
  await dev.insert(1);
  const page = await desk.newPage();
  await page.goto(`${dev.origin}/enrol`);
  await page.click("#check-button");
  await page.waitForSelector("#read:not([hidden])");
  await page.fill("#national-id", id);
  await page.click("#read-button");
  await page.waitForSelector("#confirm:not([hidden])");
  await page.click("#confirm-yes");
  await take(page, first);
  await first.fill("#device-name", "一號機");
  await first.click(primary);
  await page.waitForSelector("#sign-card:not([hidden])");
  await page.fill("#pin", pin);
  await page.click("#sign-button");
  await page.waitForSelector("#done:not([hidden])");
  await page.close();
});

test("the first adds the second", async () => {
  await openDevices(first);
  await first.click("text=新增另一支手機");
  await fits(first);
  await picture(first, "add-1-before");
  await first.click(primary);
  await first.waitForURL(/\/app\/add\//);
  await first.waitForSelector("#qr svg");
  await fits(first);
  await picture(first, "add-2-qr");
  await axe(first);
  await take(first, second);
  await says(second, "另一支手機");
  await fits(second);
  await picture(second, "add-3-new-phone");
  await second.fill("#device-name", "二號機");
  await second.click(primary);
  await says(second, "原來的手機");
  await picture(second, "add-4-new-phone-done");
  await first.waitForSelector("#agree:not([hidden])");
  assert.equal(await first.innerText("#new-name"), "二號機");
  assert.match(await first.innerText("#new-browser"), /Chrome.*Android/);
  assert.match(await first.innerText("#new-model"), /未經證明/);
  await fits(first);
  await picture(first, "add-5-agree");
  await axe(first);
  await first.click("#agree-button");
  await first.waitForSelector("#done:not([hidden])");
  await says(first, "完整功能開始時間");
  await picture(first, "add-6-done");
  await axe(first);
});

test("until its time has come the second logs in but does not sign", async () => {
  await openDevices(second);
  await says(second, "從「一號機」新增");
  await says(second, "完整功能開始時間");
  assert.equal(await second.locator("text=新增另一支手機").count(), 0);
  await fits(second);
  await picture(second, "cool-1-devices");
  const page = await desk.newPage();
  await page.goto(`${dev.origin}/session/login?return=/sign`);
  await take(page, second);
  await second.click(primary);
  await page.waitForURL(/\/sign$/);
  await page.setInputFiles("input[type=file]", { name: "公文.txt", mimeType: "text/plain", buffer: Buffer.from("公文") });
  await page.click("#sign-button[aria-disabled=false], #sign-button:not([aria-disabled])");
  await take(page, second);
  await second.click(primary);
  await says(second, "之後才能簽署");
  await fits(second);
  await picture(second, "cool-2-refused");
  await page.close();
});

test("this was not me: the first removes the second", async () => {
  await openDevices(first, "?lang=en");
  await says(first, "was added");
  await fits(first);
  await picture(first, "notme-1-en");
  await first.click("text=This was not me");
  await says(first, "was removed");
  await picture(first, "notme-2-en");
  await second.goto(`${dev.origin}/app/devices`);
  await second.waitForSelector(primary);
  assert.equal(await second.locator(".app-card").count(), 0);
});
