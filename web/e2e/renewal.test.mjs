// A mobile certificate is renewed on the phone, as people walk it. The service
// issues for a day first and for a year after a restart: nothing is pretended.
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
let dev, browser, desk, phone, phonePage, cdp, authenticator;

before(async () => {
  [dev, browser] = await Promise.all([Dev.start({ env: { SEALGATE_MOBILE_CERTIFICATE_LIFETIME: "24h" } }), launch()]);
  desk = await browser.newContext({ locale: "zh-TW", viewport: { width: 1366, height: 900 } });
  phone = await browser.newContext({ locale: "zh-TW", viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true,
    userAgent: "Mozilla/5.0 (Linux; Android 16; Pixel 10) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Mobile Safari/537.36" });
  phonePage = await phone.newPage();
  cdp = await phone.newCDPSession(phonePage);
  await cdp.send("WebAuthn.enable");
  ({ authenticatorId: authenticator } = await cdp.send("WebAuthn.addVirtualAuthenticator", { options: { protocol: "ctap2", ctap2Version: "ctap2_1", transport: "internal",
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

test("a certificate that has just been issued is not to be renewed", async () => {
  const page = await bind("我的手機");
  await sign(page);
  await page.close();
  await openDevices();
  assert.equal(await phonePage.locator(".app-card .app-caution").count(), 0);
  await phonePage.goto(`${dev.origin}/app`);
  assert.equal(await phonePage.locator("#renew").isVisible(), false);
});

test("it ends soon: told on the devices page and on the start page", async () => {
  await dev.kill();
  dev.env = {};
  await dev.run();
  await openDevices();
  await says(phonePage, "行動憑證快到期了");
  await says(phonePage, "1 天內到期");
  await fits(phonePage);
  await audit(phonePage);
  await picture(phonePage, "renew-1-devices");
  await phonePage.goto(`${dev.origin}/app`);
  await phonePage.waitForSelector("#renew:not([hidden])");
  assert.match(await phonePage.locator("#renew time").innerText(), /^\d+年\d+月\d+日$/);
  await fits(phonePage);
  await audit(phonePage);
  await picture(phonePage, "renew-2-home");
  for (const [path, name] of [["/app?lang=en", "home"], ["/app/devices", "devices"]]) {
    await phonePage.goto(`${dev.origin}${path}`);
    await says(phonePage, name === "home" ? "Renew this phone" : "The mobile certificate ends soon");
    await fits(phonePage);
    await picture(phonePage, `renew-3-${name}-en`);
    await wide(name);
  }
  await phonePage.goto(`${dev.origin}/app?lang=zh-Hant`);
});

test("the person turns back: nothing is renewed", async () => {
  await cdp.send("WebAuthn.setUserVerified", { authenticatorId: authenticator, isUserVerified: false });
  await openDevices();
  await phonePage.click(".app-caution .button.primary");
  await says(phonePage, "沒有更新");
  await fits(phonePage);
  await audit(phonePage);
  await picture(phonePage, "renew-4-cancelled");
  await cdp.send("WebAuthn.setUserVerified", { authenticatorId: authenticator, isUserVerified: true });
});

test("one press renews; the new certificate lasts a year", async () => {
  await phonePage.locator(".app-actions .button:not(.primary)").first().click(); // back to the list
  await phonePage.waitForSelector(".app-caution .button.primary");
  await phonePage.click(".app-caution .button.primary");
  await says(phonePage, "行動憑證已更新");
  await fits(phonePage);
  await audit(phonePage);
  await picture(phonePage, "renew-5-done");
  const end = new Date(await phonePage.locator(".notice time").getAttribute("datetime"));
  assert.ok(end - Date.now() > 364 * 86_400_000, `it ends ${end}`);
  await phonePage.click(primary);
  await phonePage.waitForSelector(".app-card");
  assert.equal(await phonePage.locator(".app-card .app-caution").count(), 0);
  await phonePage.goto(`${dev.origin}/app`);
  assert.equal(await phonePage.locator("#renew").isVisible(), false);
});

test("renewed elsewhere meanwhile: said, with a way on", async () => {
  await openDevices();
  const answer = await phonePage.evaluate(async () => (await fetch("/api/device/v1/renewals", { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" })).json());
  assert.equal(answer.code, "renewal_early");
  assert.ok(answer.detail && answer.next_step);
});

/** audit holds the rules of every page. */
async function audit(page) {
  await page.evaluate(axeSource);
  assert.deepEqual(await page.evaluate(complaints), []);
}

/** wide looks at the same page on a computer's screen. */
async function wide(name) {
  await phonePage.setViewportSize({ width: 1366, height: 900 });
  await picture(phonePage, `renew-3-${name}-en-wide`);
  await phonePage.setViewportSize({ width: 360, height: 740 });
}
