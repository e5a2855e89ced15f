// A phone bound in person: two registrars at their own computers, the citizen's
// phone at the counter; then a login with it, and a loss reported by the desk.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch } from "./browser.mjs";
import { Dev } from "./dev.mjs";
import { axeSource, complaints } from "./rules.mjs";

const shots = process.env.SHOTS;
const id = "A123000018";
const primary = ".app-actions .button.primary";
let dev, browser, officer, a, b, support, oldPhone, phone, desk;
let n = 0;

/** person gives a browser of its own with an authenticator of its own. */
async function person(options = {}) {
  const context = await browser.newContext({ locale: "zh-TW", viewport: { width: 1366, height: 900 }, ...options });
  const page = await context.newPage();
  page.on("pageerror", (e) => assert.fail(e));
  page.on("console", (m) => assert.doesNotMatch(m.text(), /Content.Security.Policy/i));
  const cdp = await context.newCDPSession(page);
  await cdp.send("WebAuthn.enable");
  await cdp.send("WebAuthn.addVirtualAuthenticator", { options: { protocol: "ctap2", ctap2Version: "ctap2_1", transport: "internal",
    hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true } });
  return page;
}

const handset = { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true,
  userAgent: "Mozilla/5.0 (Linux; Android 16; Pixel 10) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Mobile Safari/537.36" };

before(async () => {
  [dev, browser] = await Promise.all([Dev.start(), launch()]);
  [officer, a, b, support, oldPhone, phone] = await Promise.all([person(), person(), person(), person(), person(handset), person(handset)]);
  desk = await browser.newContext({ locale: "zh-TW", viewport: { width: 1366, height: 900 } });
});
after(async () => { await browser?.close(); await dev?.stop(); });

/** look checks a console page in both languages, wide and narrow, and leaves it as it was. */
async function look(page, name, { reload = true } = {}) {
  const check = async (suffix) => {
    await page.evaluate(axeSource);
    assert.deepEqual(await page.evaluate(complaints), [], `${name}${suffix}`);
    if (shots) {
      mkdirSync(shots, { recursive: true });
      await page.screenshot({ path: join(shots, `console-${String(n).padStart(2, "0")}-${name}${suffix}.png`), fullPage: true });
    }
  };
  n++;
  await check("");
  await page.setViewportSize({ width: 360, height: 740 });
  await check("-360");
  if (reload) {
    const at = page.url();
    const english = at + (at.includes("?") ? "&" : "?") + "lang=en";
    await page.goto(english);
    await check("-360-en");
    await page.setViewportSize({ width: 1366, height: 900 });
    await check("-en");
    await page.goto(at + (at.includes("?") ? "&" : "?") + "lang=zh-Hant");
    await page.goto(at);
  } else {
    await page.setViewportSize({ width: 1366, height: 900 });
  }
}

async function join_(page, link, name, key) {
  await page.goto(link);
  await page.waitForSelector("#join-form:not([hidden])");
  if (!(await page.locator("#join-name").getAttribute("readonly") !== null)) await page.fill("#join-name", name);
  await page.fill("#join-passkey", key);
  await page.click("#join-button");
  await page.waitForURL(/\/admin$/);
}

async function approve(page) {
  await page.waitForSelector("#approve-button");
  await page.click("#approve-button");
}

async function invite(page, name, role) {
  await officer.goto(`${dev.origin}/admin/administrators`);
  await officer.fill("#invite-name", name);
  await officer.check(`#role-${role}`);
  await officer.click("form[action$='invite/prepare'] button");
  await approve(officer);
  await officer.waitForSelector("#approve-link:not([hidden])");
  await join_(page, await officer.inputValue("#invite-link"), name, "test key");
}

/** scan lets a phone scan an order's QR code, shown on a page of the desk, and make its passkey. */
async function scan(handset, page, name) {
  await page.waitForSelector("#qr svg");
  const order = new URL(page.url()).pathname.match(/[A-Za-z0-9_-]{22}/)[0];
  const { frame } = await page.evaluate(async (o) => (await fetch(`/o/${o}/state`)).json(), order);
  await handset.goto(frame);
  await handset.waitForSelector(".app-digits");
  const digits = (await handset.locator(".app-digits").innerText()).match(/\d\s*\d/)[0].replace(/\s/g, "");
  await page.waitForSelector("#digits:visible");
  await page.fill("#digits", digits);
  await page.click("#check-form button");
  await handset.waitForSelector(`${primary}:not([aria-disabled=true])`);
  if (name) await handset.fill("#device-name", name);
  await handset.click(primary);
}

test("administrators come by links", async () => {
  await officer.goto(`${dev.origin}/admin`);
  await officer.waitForURL(/sign-in/);
  await look(officer, "sign-in");
  const link = dev.output.match(/http\S+\/admin\/join#\S+/)[0];
  await join_(officer, link, "測試資安", "辦公室電腦");
  await look(officer, "home");
  await invite(a, "測試註冊甲", "registrar");
  await invite(b, "測試註冊乙", "registrar");
  await invite(support, "測試客服", "support");
  await officer.goto(`${dev.origin}/admin/administrators`);
  await look(officer, "administrators");
  await officer.click("header form button");
  await officer.waitForURL(/sign-in/);
  await officer.click("#sign-in");
  await officer.waitForURL(/\/admin$/);
});

test("the card binds a phone, once, at home", async () => {
  await dev.insert(1);
  const page = await desk.newPage();
  await page.goto(`${dev.origin}/enrol`);
  await page.click("#check-button");
  await page.waitForSelector("#read:not([hidden])");
  await page.fill("#national-id", id);
  await page.click("#read-button");
  await page.waitForSelector("#confirm:not([hidden])");
  await page.click("#confirm-yes");
  await scan(oldPhone, page, "舊手機");
  await page.waitForSelector("#sign-card:not([hidden])");
  await page.fill("#pin", "12345678");
  await page.click("#sign-button");
  await page.waitForSelector("#done:not([hidden])");
  await page.close();
});

test("two registrars bind another at the counter", async () => {
  await a.goto(`${dev.origin}/admin/in-person`);
  await look(a, "in-person");
  await a.fill("#national-id", id);
  await a.fill("#name", dev.output.match(new RegExp(`^ +\\d+ +(\\S.*?) +${id}`, "m"))[1]);
  await a.check("#doc-id_card");
  await a.fill("#document-tail", "12ab");
  await a.check("#card-locked");
  await a.click("#begin");
  await a.waitForSelector("#qr svg");
  await look(a, "in-person-qr", { reload: false });
  await scan(phone, a, "臨櫃綁定的手機");
  await a.waitForSelector("#prepare-button");
  await a.click("#prepare-button");
  await a.waitForSelector("#approve-button");
  assert.match(await a.innerText("main"), /臨櫃綁定的手機/);
  await look(a, "in-person-approve", { reload: false });
  await approve(a);
  await a.waitForSelector("#counter-digits");
  await look(a, "in-person-second", { reload: false });
  const digits = (await a.innerText("#counter-digits")).trim();

  await b.goto(`${dev.origin}/admin`);
  await b.click("#waiting a");
  await look(b, "act");
  await b.fill("#digits", digits);
  await b.click("#confirm-button");
  await look(b, "act-approve", { reload: false });
  await approve(b);
  await b.waitForURL(/done=confirmed/);
  await look(b, "act-done");
  await a.waitForSelector("#in-person-done");
  await look(a, "in-person-done", { reload: false });
  await b.goto(`${dev.origin}/admin/acts`);
  await look(b, "acts");
});

/** logIn logs in at the demonstration agency with a phone, or sees that the phone is refused. */
async function logIn(handset, { refused = false } = {}) {
  const context = await browser.newContext({ locale: "zh-TW", viewport: { width: 1366, height: 900 } });
  const page = await context.newPage();
  try {
    await page.goto(`${dev.demo}/tax`);
    await page.click("form[action='/login'] button");
    await page.waitForSelector("#qr svg");
    const order = new URL(page.url()).pathname.match(/[A-Za-z0-9_-]{22}/)[0];
    const { frame } = await page.evaluate(async (o) => (await fetch(`/o/${o}/state`)).json(), order);
    await handset.goto(frame);
    await handset.waitForSelector(".app-digits");
    const digits = (await handset.locator(".app-digits").innerText()).match(/\d\s*\d/)[0].replace(/\s/g, "");
    await page.waitForSelector("#digits:visible");
    await page.fill("#digits", digits);
    await page.click("#check-form button");
    await handset.waitForSelector(`${primary}:not([aria-disabled=true])`);
    await handset.click(primary);
    if (refused) {
      await handset.waitForFunction(() => document.querySelector("main")?.innerText.includes("停用"));
      assert.ok(page.url().startsWith(dev.origin), "the computer is still waiting");
    } else {
      await page.waitForURL((u) => u.href.startsWith(dev.demo));
    }
  } finally {
    await context.close();
  }
}

test("the phone logs in", async () => {
  await logIn(phone);
});

test("a loss reported by the desk stops it, and the card takes that back", async () => {
  await support.goto(`${dev.origin}/admin/people`);
  await look(support, "people");
  await support.fill("#query", id);
  await support.check("#look-loss");
  await support.click("form[action='/admin/people'] button");
  await support.waitForSelector("#stop-all");
  assert.doesNotMatch(await support.innerText("main"), new RegExp(id));
  await look(support, "person");
  await support.fill("#stop-reason", "電話通報，今天上午");
  await support.click("#stop-all");
  await support.waitForSelector("#approve-button");
  await look(support, "stop-approve", { reload: false });
  await approve(support);
  await support.waitForURL(/done=stopped/);
  await look(support, "stopped");
  await logIn(phone, { refused: true });

  await dev.insert(1);
  const page = await desk.newPage();
  await page.goto(`${dev.origin}/lost/card`);
  await page.click("#undo-button");
  await page.waitForSelector("#sign-card:not([hidden])");
  await page.fill("#pin", "12345678");
  await page.click("#sign-button");
  await page.waitForSelector("#done:not([hidden])");
  await page.close();
  await logIn(phone);
});
