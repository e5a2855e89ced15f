// What can go wrong at the computer, in a real browser against `sealgate dev`:
// the card and its component, the picture and its time, a lost connection,
// no scripts, another browser; and a phone that is nearby.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch } from "./browser.mjs";
import { Dev } from "./dev.mjs";

const pin = "12345678";
let dev, browser;
before(async () => { [dev, browser] = await Promise.all([Dev.start(), launch()]); });
after(async () => { await browser?.close(); await dev?.stop(); });

async function open(t, options = {}) {
  const context = await browser.newContext({ locale: "zh-TW", viewport: { width: 1366, height: 768 }, ...options });
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (e) => errors.push(e.message));
  page.on("console", (m) => /Content Security Policy/.test(m.text()) && errors.push(m.text()));
  t.after(async () => {
    assert.deepEqual(errors, [], "errors in the page");
    await context.close();
  });
  return page;
}

const text = (page, selector) => page.locator(selector).innerText();
const status = (page, want) => page.waitForFunction((w) => document.getElementById("status")?.textContent.includes(w), want, { timeout: 8000 });

/** gets past the check of the component, with one card in the reader. */
async function toRead(page, card) {
  await dev.insert(card);
  await page.goto(`${dev.origin}/enrol`);
  await page.click("#check-button");
  await page.waitForSelector("#read:not([hidden])");
}

/** waits for the error, which must have the focus, a title and a next step. */
async function cardError(page, code) {
  await page.waitForSelector("#card-error:not([hidden])", { timeout: 15000 });
  assert.equal(await page.evaluate(() => document.activeElement?.id), "card-error");
  assert.ok((await text(page, "#card-error-title")).length > 4);
  assert.ok((await text(page, "#card-error-next")).length > 4);
  assert.match(await text(page, "#card-error-code"), new RegExp(`^${code}・\\d\\d:\\d\\d$`));
  assert.match(await page.title(), /^需要處理 – 綁定手機/);
}

test("a card that does not fit is refused with its reason", async (t) => {
  for (const [card, id, code] of [[2, "A123000018", "enrol_id_mismatch"], [5, "A123000054", "cert_expired"], [6, "A223000065", "cert_revoked"]]) {
    const page = await open(t);
    await toRead(page, card);
    await page.fill("#national-id", id);
    await page.click("#read-button");
    await cardError(page, code);
  }
});

test("a national ID of another form is told at the field, and nothing is asked of the card", async (t) => {
  const page = await open(t);
  await toRead(page, 1);
  await page.fill("#national-id", "12345");
  await page.click("#read-button");
  assert.equal(await page.getAttribute("#national-id", "aria-invalid"), "true");
  assert.equal(await page.evaluate(() => document.activeElement?.id), "national-id");
  assert.ok((await text(page, "#national-id-error")).includes("格式"));
  assert.equal(page.context().pages().length, 1);
});

test("no component, and no window: each has its own words", async (t) => {
  const missing = await open(t);
  await missing.context().route(`${dev.cards}/**`, (r) => r.abort());
  await missing.goto(`${dev.origin}/enrol`);
  assert.equal(missing.context().pages().length, 1, "nothing touches the component before a press");
  await missing.click("#check-button");
  await cardError(missing, "missing");
  const blocked = await open(t);
  await blocked.addInitScript(() => { window.open = () => null; });
  await blocked.goto(`${dev.origin}/enrol`);
  await blocked.click("#check-button");
  await cardError(blocked, "popup");
});

test("the PIN goes to the component's window only", async (t) => {
  const page = await open(t);
  const bodies = [];
  page.on("request", (r) => r.url().startsWith(dev.origin) && bodies.push(r.url() + (r.postData() ?? "")));
  const { phone } = await bind(t, page, 3, "F123000031");
  assert.ok(bodies.some((b) => b.includes("/proof")), "control: the proof was sent");
  assert.ok(!bodies.some((b) => b.includes(pin)), "the PIN was sent to the server");
  await phone.context().close();
});

/** binds a phone with a card and gives it, with its authenticator. */
async function bind(t, page, card, id) {
  const phone = await open(t, { viewport: { width: 360, height: 740 } });
  const cdp = await phone.context().newCDPSession(phone);
  await cdp.send("WebAuthn.enable");
  const { authenticatorId } = await cdp.send("WebAuthn.addVirtualAuthenticator", { options: { protocol: "ctap2", ctap2Version: "ctap2_1",
    transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true } });
  await toRead(page, card);
  await page.fill("#national-id", id);
  await page.click("#read-button");
  await page.waitForSelector("#confirm:not([hidden])");
  await page.click("#confirm-yes");
  await page.waitForSelector("#qr svg path[d]");
  await scan(page, phone);
  await phone.click(".app-actions .button.primary");
  await page.waitForSelector("#sign-card:not([hidden])");
  await page.fill("#pin", pin);
  await page.click("#sign-button");
  await page.waitForSelector("#done:not([hidden])");
  assert.equal(await page.inputValue("#pin"), "", "the PIN does not stay on the page");
  return { phone, cdp, authenticatorId };
}

/** opens the frame's link on the phone and carries the two digits to the computer, once wrongly. */
async function scan(page, phone) {
  const order = new URL(page.url()).pathname.match(/[A-Za-z0-9_-]{22}/)[0];
  const { frame } = await page.evaluate(async (o) => (await fetch(`/o/${o}/state`)).json(), order);
  await phone.goto(frame);
  await phone.waitForSelector(".app-digits");
  const digits = (await text(phone, ".app-digits")).match(/(\d)\s*(\d)/).slice(1).join("");
  await page.waitForSelector("#check-form", { state: "visible" });
  assert.match(await page.title(), /^請輸入數字/);
  await page.fill("#digits", digits === "00" ? "11" : "00");
  await page.click("#check-form button");
  await page.waitForSelector("#digits-error:not([hidden])");
  assert.equal(await page.getAttribute("#digits", "aria-invalid"), "true");
  await page.fill("#digits", digits);
  await page.click("#check-form button");
  await status(page, "手機");
  await phone.waitForSelector(".app-actions .button.primary:not([aria-disabled=true])");
}

const toOrder = async (page) => {
  await page.goto(`${dev.origin}/session/login?return=/sign`);
  await page.waitForSelector("#qr svg path[d]");
};
const shown = (page) => page.getAttribute("#qr path", "d");

test("the picture changes, can be stopped, made bigger and extended ten times", async (t) => {
  const page = await open(t);
  await toOrder(page);
  await status(page, "QR Code 已顯示");
  const first = await shown(page);
  await page.waitForFunction((d) => document.querySelector("#qr path").getAttribute("d") !== d, first, { timeout: 6000 });
  await page.click("#freeze");
  await status(page, "已停止更換");
  await page.waitForTimeout(300);
  const frozen = await shown(page);
  await page.waitForTimeout(4500);
  assert.equal(await shown(page), frozen, "a stopped picture changed");
  await page.click("#bigger");
  const box = await page.locator("#qr-big-picture").boundingBox();
  assert.ok(box.height > 600, `the big picture has ${box.height} px`);
  await page.keyboard.press("Escape");
  for (let i = 0; i < 10; i++) {
    const answered = page.waitForResponse((r) => r.url().endsWith("/extend"));
    await page.click("#extend");
    assert.equal((await answered).status(), 200);
  }
  await status(page, "已延長");
  await page.waitForSelector("#extend", { state: "hidden" });
});

test("a code to type, then cancelling, then the way back", async (t) => {
  const page = await open(t);
  await toOrder(page);
  await page.click("details.fold summary");
  await page.click("#code-form button");
  await page.waitForSelector("#code-shown:not([hidden])");
  assert.match(await text(page, "#code"), /^\d{4} \d{4}$/);
  assert.match(await page.getAttribute("#code", "aria-label"), /^(\d ){7}\d$/);
  await page.click("[data-act=cancel]");
  await status(page, "已取消");
  assert.match(await page.title(), /^已取消/);
  assert.equal(await page.getAttribute("#status", "aria-live"), "assertive");
  await page.click("#next");
  await page.waitForURL(/\/return$/);
  assert.match(await text(page, "main"), /order_cancelled・\d\d:\d\d/);
});

test("without the event stream it asks every two seconds; a lost connection is told and comes back", async (t) => {
  const page = await open(t);
  await page.route("**/events", (r) => r.fulfill({ status: 503, body: "{}" }));
  await toOrder(page);
  const first = await shown(page);
  await page.waitForFunction((d) => document.querySelector("#qr path").getAttribute("d") !== d, first, { timeout: 8000 });
  await page.context().setOffline(true);
  await status(page, "網路中斷");
  assert.match(await page.title(), /^離線/);
  await page.context().setOffline(false);
  await status(page, "QR Code 已顯示");
});

test("without scripts: a picture, and a button to look again", async (t) => {
  const page = await open(t, { javaScriptEnabled: false });
  await page.goto(`${dev.origin}/session/login?return=/sign`);
  const picture = page.locator("img.qr");
  assert.ok(await picture.isVisible());
  assert.ok(await page.evaluate(() => 1).catch(() => true));
  const answer = await page.request.get(new URL(await picture.getAttribute("src"), page.url()).href);
  assert.equal(answer.headers()["content-type"], "image/png");
  await page.locator("a.button.primary", { hasText: "檢查狀態" }).click();
  assert.match(page.url(), /\/o\/[A-Za-z0-9_-]{22}$/);
});

test("on a phone the first thing is to go on with this phone", async (t) => {
  const page = await open(t, { viewport: { width: 360, height: 740 },
    userAgent: "Mozilla/5.0 (Linux; Android 16; Pixel 10) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Mobile Safari/537.36" });
  await page.goto(`${dev.origin}/session/login?return=/sign`);
  assert.ok(await page.locator("a[href^='/app/order/']").isVisible());
  assert.ok(!(await page.locator("#qr").isVisible()), "the picture is folded away");
});

test("another browser gets nothing of an order", async (t) => {
  const mine = await open(t);
  await toOrder(mine);
  const other = await open(t);
  const answer = await other.goto(mine.url());
  assert.equal(answer.status(), 403);
  assert.match(await text(other, "main"), /不是開始作業的瀏覽器/);
});

test("a phone nearby needs no picture and no digits, and reaches a higher level", async (t) => {
  const page = await open(t);
  const { cdp, authenticatorId } = await bind(t, page, 4, "H223000044");
  // The hybrid transport itself cannot be played here: the computer gets an
  // authenticator that says it is one, with the phone's credential.
  const near = await page.context().newCDPSession(page);
  await near.send("WebAuthn.enable");
  const cable = await near.send("WebAuthn.addVirtualAuthenticator", { options: { protocol: "ctap2", ctap2Version: "ctap2_1",
    transport: "cable", hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true } });
  const { credentials } = await cdp.send("WebAuthn.getCredentials", { authenticatorId });
  for (const credential of credentials) await near.send("WebAuthn.addCredential", { authenticatorId: cable.authenticatorId, credential });
  await page.addInitScript(() => { PublicKeyCredential.getClientCapabilities = async () => ({ hybridTransport: true }); });
  await page.goto(`${dev.demo}/tax`);
  await page.click("form[action='/login'] button");
  await page.click("#nearby");
  await page.waitForURL((u) => u.href.startsWith(dev.demo));
  await page.waitForFunction(() => /\bphr\b/.test(document.body.innerText));
});
