// The main road, as people walk it: a citizen binds a phone with a card, logs
// in at an agency, signs documents; openssl checks them. Everything is real
// but the card (a test component with the real protocol) and the fingerprint
// (Chromium's virtual authenticator).
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch } from "./browser.mjs";
import { Dev } from "./dev.mjs";

const pin = "12345678";
const id = "A123000018";
const shots = process.env.SHOTS; // a directory: pictures of every step go there

let dev, browser, desk, phone, phonePage;

before(async () => {
  [dev, browser] = await Promise.all([Dev.start(), launch()]);
  desk = await browser.newContext({ locale: "zh-TW", viewport: { width: 1366, height: 900 }, acceptDownloads: true });
  phone = await browser.newContext({ locale: "zh-TW", viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true,
    userAgent: "Mozilla/5.0 (Linux; Android 16; Pixel 10) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Mobile Safari/537.36" });
  phonePage = await phone.newPage();
  await authenticator(phone, phonePage);
});
after(async () => { await browser?.close(); await dev?.stop(); });

/** authenticator gives a page a platform authenticator with a fingerprint that always fits. */
async function authenticator(context, page) {
  const cdp = await context.newCDPSession(page);
  await cdp.send("WebAuthn.enable");
  await cdp.send("WebAuthn.addVirtualAuthenticator", { options: { protocol: "ctap2", ctap2Version: "ctap2_1", transport: "internal",
    hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true } });
}

async function picture(page, name) {
  if (!shots) return;
  mkdirSync(shots, { recursive: true });
  await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
}

/** frame reads the link that the QR code on a page shows now. */
async function frame(page) {
  const order = new URL(page.url()).pathname.match(/[A-Za-z0-9_-]{22}/)[0];
  const state = await page.evaluate(async (o) => (await fetch(`/o/${o}/state`)).json(), order);
  assert.match(state.frame, new RegExp(`^${dev.origin}/q/`));
  assert.ok(state.frame.length <= 64, "the link is short");
  return state.frame;
}

const approveButton = ".app-actions .button.primary";

/** scan opens the frame's link on the phone, as its camera does, and carries the two digits to the computer. */
async function scan(page, name) {
  await page.waitForSelector("#qr svg");
  await picture(page, `${name}-1-qr`);
  await phonePage.goto(await frame(page));
  await phonePage.waitForSelector(".app-digits");
  await picture(phonePage, `${name}-2-phone-digits`);
  const digits = (await phonePage.locator(".app-digits").innerText()).match(/\d\s*\d/)[0].replace(/\s/g, "");
  await page.waitForSelector("#digits:visible");
  await page.fill("#digits", digits);
  await picture(page, `${name}-3-check`);
  await page.click("#check-form button");
  await phonePage.waitForSelector(`${approveButton}:not([aria-disabled=true])`);
}

test("bind a phone with the card", async () => {
  await dev.insert(1);
  const page = await desk.newPage();
  await page.goto(`${dev.origin}/enrol`);
  await picture(page, "enrol-0-start");
  await page.click("#check-button");
  await page.waitForSelector("#read:not([hidden])");
  await page.fill("#national-id", id);
  await picture(page, "enrol-0-read");
  await page.click("#read-button");
  await page.waitForSelector("#confirm:not([hidden])");
  await picture(page, "enrol-0-confirm");
  await page.click("#confirm-yes");
  await page.waitForURL(/\/enrol\/[A-Za-z0-9_-]{22}(\?.*)?$/);
  await scan(page, "enrol");
  await phonePage.fill("#device-name", "測試手機一號");
  await phonePage.click(approveButton);
  await phonePage.waitForFunction(() => document.querySelector("h1")?.textContent.includes("準備好了"));
  await picture(phonePage, "enrol-4-phone-done");
  await page.waitForSelector("#sign-card:not([hidden])");
  await page.fill("#pin", "00000000");
  await page.click("#sign-button");
  await page.waitForFunction(() => /2/.test(document.querySelector("#card-error:not([hidden])")?.textContent ?? ""));
  await picture(page, "enrol-5-wrong-pin");
  await page.fill("#pin", pin);
  await page.click("#sign-button");
  await page.waitForSelector("#done:not([hidden])");
  assert.match(await page.innerText("#done-name"), /測試手機一號/);
  await picture(page, "enrol-6-done");
  await page.close();
});

test("log in at an agency", async () => {
  const page = await desk.newPage();
  await page.goto(`${dev.demo}/`);
  await picture(page, "login-0-agency");
  await page.click("a[href='/tax']");
  await page.click("form[action='/login'] button");
  await page.waitForURL(/\/o\/[A-Za-z0-9_-]{22}(\?.*)?$/);
  await scan(page, "login");
  await picture(phonePage, "login-4-phone-card");
  const card = await phonePage.innerText("main");
  assert.match(card, /示範機關/);
  assert.match(card, new RegExp(new URL(dev.demo).host));
  await phonePage.click(approveButton);
  await page.waitForURL((u) => u.href.startsWith(dev.demo));
  await page.waitForFunction(() => document.body.innerText.includes("urn:sealgate:acr:qr"));
  const text = await page.innerText("body");
  assert.match(text, /測試甲/);
  assert.doesNotMatch(page.url(), /code=/);
  await picture(page, "login-5-logged-in");
  await picture(phonePage, "login-5-phone-done");
  await page.close();
});

test("log in on the same phone, without a QR code", async () => {
  await phonePage.goto(`${dev.demo}/tax`);
  await phonePage.click("form[action='/login'] button");
  await phonePage.waitForURL(/\/o\/[A-Za-z0-9_-]{22}(\?.*)?$/);
  await picture(phonePage, "same-1-page");
  await phonePage.click("a[href^='/app/order/']");
  await phonePage.waitForSelector(`${approveButton}:not([aria-disabled=true])`);
  await picture(phonePage, "same-2-card");
  await phonePage.click(approveButton);
  await phonePage.waitForURL((u) => u.href.startsWith(dev.demo));
  assert.match(await phonePage.innerText("body"), /phr/);
  await picture(phonePage, "same-3-logged-in");
});

/** openAndClose makes an empty file and gives its path. */
function openAndClose(path) {
  writeFileSync(path, "");
  return path;
}

/** verified says whether openssl accepts a detached signature over a file. */
function verified(signature, file) {
  return spawnSync("openssl", ["cms", "-verify", "-binary", "-inform", "DER", "-in", signature, "-content", file,
    "-CAfile", dev.anchors, "-purpose", "any", "-cades", "-out", "/dev/null"]).status === 0;
}

test("sign two own files; openssl accepts them and refuses one changed byte", async () => {
  const page = await desk.newPage();
  const letters = ["letter-1.txt", "letter-2.txt"].map((name, i) => {
    const path = join(dev.dir, name);
    writeFileSync(path, `公文內容 ${i}\n`.repeat(1000));
    return path;
  });
  await page.goto(`${dev.origin}/sign`);
  if (!page.url().endsWith("/sign")) {
    if (!/\/o\//.test(page.url())) await page.click("main a.button.primary, main form button.primary");
    await page.waitForURL(/\/o\/[A-Za-z0-9_-]{22}(\?.*)?$/);
    await scan(page, "session");
    await phonePage.click(approveButton);
    await page.waitForURL(/\/sign$/);
  }
  await page.setInputFiles("#files", letters);
  await page.waitForSelector("#sign-button:not([aria-disabled=true])");
  await picture(page, "sign-0-files");
  await page.click("#sign-button");
  await page.waitForURL(/\/sign\/[A-Za-z0-9_-]{22}(\?.*)?$/);
  await scan(page, "sign");
  await picture(phonePage, "sign-4-phone-card");
  await phonePage.click(approveButton);
  await page.waitForSelector("[data-document='1'][data-state='signed']");
  await picture(page, "sign-5-done");
  await phonePage.waitForFunction(() => document.querySelector("h1")?.textContent.includes("已簽署"));
  await picture(phonePage, "sign-5-phone-done");
  for (const [i, letter] of letters.entries()) {
    const [download] = await Promise.all([page.waitForEvent("download"), page.click(`[data-document='${i}'] a[href$='.p7s']`)]);
    const signature = join(dev.dir, `letter-${i}.p7s`);
    await download.saveAs(signature);
    assert.ok(verified(signature, letter), "openssl accepts the signature");
    const changed = join(dev.dir, "changed.txt");
    const bytes = readFileSync(letter);
    bytes[100] ^= 1;
    writeFileSync(changed, bytes);
    assert.ok(!verified(signature, changed), "openssl refuses one changed byte");
    assert.ok(!verified(signature, letters[1 - i]), "openssl refuses the other file");
  }
  await page.close();
});

test("a file of 1 GiB is hashed in bounded memory and stays here", async () => {
  const big = join(dev.dir, "big.bin");
  truncateSync(openAndClose(big), 2 ** 30);
  const want = execFileSync("openssl", ["dgst", "-sha256", "-r", big]).toString().slice(0, 8).toUpperCase();
  const page = await desk.newPage();
  let sent = 0;
  page.on("request", (r) => { sent += r.postDataBuffer()?.length ?? 0; });
  await page.goto(`${dev.origin}/sign`);
  await page.setInputFiles("#files", big);
  await page.waitForFunction((code) => document.body.innerText.replace(/\s/g, "").includes(code), want, { timeout: 60_000 });
  const heap = await page.evaluate(() => performance.memory?.usedJSHeapSize ?? 0);
  assert.ok(heap < 64 * 2 ** 20, `the page holds ${heap} bytes`);
  assert.ok(sent < 4096, `${sent} bytes were sent for it`);
  await picture(page, "sign-big");
  await page.close();
});

test("approve documents for an agency, one left out", async () => {
  const page = await desk.newPage();
  await page.goto(`${dev.demo}/documents`);
  await picture(page, "documents-0-agency");
  await page.click("form[action='/sign/documents'] button.main");
  await page.waitForURL(/\/o\/[A-Za-z0-9_-]{22}(\?.*)?$/);
  await scan(page, "documents");
  await phonePage.uncheck("#document-1");
  await picture(phonePage, "documents-4-phone-card");
  await phonePage.click(approveButton);
  await page.waitForURL((u) => u.href.startsWith(dev.demo));
  await page.waitForSelector("a[href$='/signature']");
  await picture(page, "documents-5-signed");
  assert.equal(await page.locator("a[href$='/signature']").count(), 1, "the document left out has no signature");
  await page.close();
});

test("no personal data in the server's output", () => {
  assert.doesNotMatch(dev.output.split("Ctrl-C stops everything")[1] ?? "", /A123000018|測試甲|12345678|assertion|BEGIN/);
});
