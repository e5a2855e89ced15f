// The phone app in a real browser, with a virtual authenticator, against the
// mock device API: node --test e2e/app.test.mjs (needs go, chromium, a built dist).
import assert from "node:assert/strict";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { fileURLToPath } from "node:url";
import esbuild from "esbuild";
import { encode } from "uqr";
import { axe, basics, enrolledPhone, launch, phone } from "./app-browser.mjs";
import { Mock } from "./app-mock.mjs";

const here = dirname(fileURLToPath(import.meta.url));
let mock, browser;
before(async () => { [mock, browser] = await Promise.all([new Mock().start(), launch()]); });
after(async () => { await browser?.close(); await mock?.stop(); });
beforeEach(() => { mock.requests = []; mock.drop = () => false; mock.refuseApprove = undefined; mock.session = false; mock.down = false; });

const asked = (end, method = "POST") => mock.requests.filter((r) => r.method === method && r.path.endsWith(end));
const approve = ".app-actions .button.primary";
const reject = ".app-actions .button:not(.primary)";

/** open opens a page on a phone that has a credential, and closes it after the test. */
async function open(t, path, { bare = false, en = true, ...options } = {}) {
  const p = await (bare ? phone : enrolledPhone)(browser, ...(bare ? [] : [mock]), { locale: en ? "en-GB" : "zh-TW", ...options });
  t.after(async () => {
    assert.deepEqual(p.errors, [], "errors in the page");
    await p.context.close();
  });
  await p.page.goto(mock.origin + path);
  return p;
}
const heading = (page, text) => page.waitForFunction((want) => document.querySelector("h1")?.textContent.includes(want), text, { timeout: 5000 });
const failKey = (page, name, after) => page.evaluate(([n, ms]) => {
  navigator.credentials.get = () => new Promise((_, no) => setTimeout(() => no(new DOMException("", n)), ms));
}, [name, after]);

test("a phone registers, then approves a login with the new credential", async (t) => {
  const { page } = await open(t, "/q/enrol", { bare: true });
  await page.waitForSelector("#device-name");
  assert.equal(await page.locator(approve).getAttribute("aria-disabled"), "true", "registering waits for the digits");
  await page.locator(approve).dispatchEvent("click");
  assert.equal(asked("/credential").length, 0);
  mock.last.claim.check.passed = true;
  mock.wake(mock.last);
  await page.waitForSelector(".app-digits--passed");
  await page.fill("#device-name", "小美的手機");
  await page.locator(approve).click();
  await heading(page, "This phone is ready");
  const made = asked("/credential")[0].input;
  assert.equal(made.device_name, "小美的手機");
  assert.ok(made.credential.response.attestationObject.length > 100);

  await page.goto(`${mock.origin}/q/login`);
  await page.locator(approve).click();
  await heading(page, "Logged in to “Tax filing”");
  const { input } = asked("/approve")[0];
  const data = Buffer.from(input.assertion.response.authenticatorData, "base64url");
  assert.equal(data[32] & 0x05, 0x05, "user present and verified");
  assert.deepEqual(input.left_out, []);
  assert.equal(asked("/options").length, 0, "the options of the claim are enough");
  assert.match(await page.title(), /^Logged in to “Tax filing” – Confirm a request – Mobile ID$/);
});

test("opening the link claims nothing by itself", async (t) => {
  const quiet = await browser.newContext({ javaScriptEnabled: false });
  t.after(() => quiet.close());
  const page = await quiet.newPage();
  await page.goto(`${mock.origin}/q/login`);
  assert.equal(mock.requests.length, 0);
  assert.equal(await page.locator("noscript .notice").count() + await page.locator(".notice").count() > 0, true, "says that it needs scripts");

  await open(t, "/q/login").then(({ page: p }) => p.waitForSelector(approve)); // control
  assert.equal(asked("/claims").length, 1);
  assert.deepEqual(asked("/claims")[0].input, { frame: `${mock.origin}/q/login`, source: "link" });
});

test("the card shows who asks, from where, and hostile text as text", async (t) => {
  const { page } = await open(t, "/q/text");
  await page.waitForSelector(approve);
  const card = await page.locator(".app-facts").innerText();
  for (const want of ["Example tax agency", "efiling.example.gov.tw", "National ID number", "Windows", "Edge", "Taiwan", "On another network than this phone", "<b>綜合所得稅</b>"]) assert.ok(card.includes(want), want);
  const order = await page.locator(".app-actions .button").allInnerTexts();
  assert.deepEqual(order, ["Not me, refuse", "Confirm with fingerprint or face"]);
  const sizes = await page.locator(".app-actions .button").evaluateAll((all) => all.map((e) => [e.offsetWidth, e.offsetHeight]));
  assert.deepEqual(sizes[0], sizes[1], "refusing and confirming have the same size");
});

test("documents left out are bound into new options before approving", async (t) => {
  const { page } = await open(t, "/q/batch");
  await page.waitForSelector(approve);
  for (const n of [0, 1, 2]) await page.uncheck(`#document-${n}`);
  await page.locator(approve).click();
  assert.equal(asked("/approve").length, 0, "nothing chosen, nothing sent");
  await page.check("#document-1");
  await page.locator(approve).click();
  await heading(page, "You signed 1 document");
  assert.deepEqual(asked("/options").map((r) => r.input.left_out), [[0, 2]]);
  assert.deepEqual(asked("/approve")[0].input.left_out, [0, 2]);
});

test("refusing, then reporting a scam", async (t) => {
  const { page } = await open(t, "/q/login");
  await page.locator(reject).click();
  await heading(page, "Refused");
  assert.equal(asked("/reject")[0].input.reason, "not_me");
  assert.equal(await page.evaluate(() => document.activeElement?.tagName), "H1", "focus follows the person's own act");
  await page.getByText("Report a scam").click();
  await page.getByText("the report was received").first().waitFor();
  assert.equal(asked("/reject")[1].input.reason, "fraud");
  assert.equal(asked("/approve").length, 0);
});

test("the two digits must reach the computer first", async (t) => {
  const { page } = await open(t, "/q/login-check");
  await page.waitForSelector(".app-digits__number");
  assert.equal(await page.locator(".app-digits__number").innerText(), "47");
  await page.locator(approve).dispatchEvent("click");
  assert.equal(asked("/approve").length, 0);
  assert.equal(await page.locator("#status").innerText(), "Type 47 on the computer");
  mock.last.claim.check.passed = true;
  mock.wake(mock.last);
  await page.waitForSelector(".app-digits--passed");
  await page.locator(approve).click();
  await heading(page, "Logged in");
});

test("ceremony failures have their own words and let the person try again", async (t) => {
  const { page, authenticator } = await open(t, "/q/login");
  await page.waitForSelector(approve);
  await authenticator.send("setUserVerified", { isUserVerified: false }); // fails at once, as with no key
  await page.locator(approve).click();
  await page.getByRole("heading", { name: "No registration was found on this phone" }).waitFor();
  await authenticator.send("setUserVerified", { isUserVerified: true });
  const real = await page.evaluate(() => { window.realGet = navigator.credentials.get.bind(navigator.credentials); return true; });
  assert.ok(real);
  await failKey(page, "NotAllowedError", 1100);
  await page.locator(approve).click();
  await page.getByRole("heading", { name: "You cancelled" }).waitFor();
  assert.equal(await page.locator("h1").innerText(), "Log in to “Tax filing”?", "what is asked stays in sight");
  assert.equal(asked("/approve").length, 0);
  await page.evaluate(() => { navigator.credentials.get = window.realGet; });
  await page.locator(approve).click();
  await heading(page, "Logged in");
});

test("the time a ceremony took tells the failures apart", async () => {
  const { outputFiles } = await esbuild.build({ entryPoints: [join(here, "../src/shared/webauthn.ts")], bundle: true, format: "esm", write: false });
  const { classify, bytes, text } = await import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`);
  const error = (name) => new DOMException("", name);
  for (const [name, elapsed, want] of [
    ["NotAllowedError", 50, "no_key"], ["NotAllowedError", 999, "no_key"], ["NotAllowedError", 1000, "cancelled"], ["NotAllowedError", 15_000, "cancelled"],
    ["NotAllowedError", 30_000, "timeout"], ["AbortError", 5000, "aborted"], ["InvalidStateError", 5000, "already_registered"],
    ["ConstraintError", 10, "lock_missing"], ["SecurityError", 10, "wrong_host"], ["NotSupportedError", 10, "unsupported"], ["DataError", 10, "failed"],
  ]) assert.equal(classify(error(name), elapsed), want, `${name} after ${elapsed} ms`);
  assert.equal(classify("not an error", 10), "failed");
  const all = Uint8Array.from({ length: 256 }, (_, i) => i);
  assert.deepEqual(bytes(text(all.buffer)), all);
  assert.equal(text(all.buffer), Buffer.from(all).toString("base64url"));
});

test("no network: nothing is lost, and the next try uses new options", async (t) => {
  const { page } = await open(t, "/q/login");
  await page.waitForSelector(approve);
  mock.drop = (method, path) => path.endsWith("/approve") || (method === "GET" && path.startsWith("/orders"));
  await page.locator(approve).click();
  await page.getByRole("heading", { name: "Not sent yet" }).waitFor();
  mock.drop = () => false;
  await page.locator(approve).click();
  await heading(page, "Logged in");
  assert.equal(asked("/options").length, 1, "an answer is never used twice");
  const [first, second] = asked("/approve").map((r) => r.input.assertion.response.clientDataJSON);
  assert.notEqual(first, second);
});

test("a lost answer is found again without asking the person twice", async (t) => {
  const { page } = await open(t, "/q/login");
  await page.waitForSelector(approve);
  mock.drop = (_, path) => (path.endsWith("/approve") ? "answer" : false);
  await page.locator(approve).click();
  await heading(page, "Logged in");
  assert.equal(asked("/approve").length, 1);
});

test("registering: a lost answer sends the same credential again", async (t) => {
  const { page } = await open(t, "/q/enrol", { bare: true });
  await page.waitForSelector("#device-name");
  mock.last.claim.check.passed = true;
  mock.wake(mock.last);
  await page.waitForSelector(".app-digits--passed");
  mock.drop = (_, path) => (path.endsWith("/credential") ? "answer" : false);
  await page.locator(approve).click();
  await page.getByRole("heading", { name: "Not sent yet" }).waitFor();
  mock.drop = () => false;
  await page.locator(approve).click();
  await heading(page, "This phone is ready");
  const [first, second] = asked("/credential").map((r) => r.input.credential.id);
  assert.equal(first, second);
});

test("approved twice by a nervous network is still a success", async (t) => {
  const { page } = await open(t, "/q/login");
  await page.waitForSelector(approve);
  mock.refuseApprove = "order_approved";
  mock.last.state = "approved";
  await page.locator(approve).click();
  await heading(page, "Logged in");
});

test("an answer that a later one overtook is given again on the same card", async (t) => {
  for (const en of [true, false]) {
    const { page } = await open(t, "/q/login", { en });
    await page.waitForSelector(approve);
    mock.refuseApprove = "passkey_overtaken";
    await page.locator(approve).click();
    await page.locator("h2", { hasText: en ? "This one did not count" : "這一次沒有生效" }).waitFor();
    assert.equal(await page.locator(approve).innerText(), en ? "Try again" : "再試一次");
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth), false);
    if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/overtaken-${en ? "en" : "zh"}.png`, fullPage: true });
    mock.refuseApprove = undefined;
    await page.locator(approve).click();
    await heading(page, en ? "Logged in" : "登入");
    const [first, again] = asked("/approve").slice(-2).map((r) => r.input.assertion.response.signature);
    assert.notEqual(first, again, "a new answer");
  }
});

test("same device: claims with the browser and goes back", async (t) => {
  const { page } = await open(t, "/app/order/AZq0cv3GcTqXqUVK1x5Zrg");
  await page.waitForSelector(approve);
  assert.deepEqual(asked("/claims")[0].input, { order: "AZq0cv3GcTqXqUVK1x5Zrg", source: "same_device" });
  await Promise.all([page.waitForURL("**/o/AZq0cv3GcTqXqUVK1x5Zrg/return"), page.locator(approve).click()]);
});

test("another browser's order cannot be continued here", async (t) => {
  const { page } = await open(t, "/app/order/foreignforeignforeign1");
  await heading(page, "You cannot continue here");
});

test("a reload and the language switch continue the claim; only the token is kept", async (t) => {
  const { page } = await open(t, "/q/login");
  await page.waitForSelector(approve);
  const { order, claim_token } = mock.last.claim;
  assert.equal(new URL(page.url()).pathname, `/app/order/${order}`);
  assert.deepEqual(await page.evaluate(() => [JSON.parse(sessionStorage["sealgate.claim"]), sessionStorage.length, localStorage.length]),
    [{ order, token: claim_token }, 1, 0]);
  await page.locator("a[hreflang]").click();
  await heading(page, "要登入「電子申報網」嗎？");
  assert.deepEqual(asked("/claims")[1].input, { order, claim_token });
  await page.locator(approve).click();
  await heading(page, "已登入");
  assert.equal(await page.evaluate(() => sessionStorage.length), 0, "nothing is kept after the end");
});

test("browsers inside other apps are sent out before anything is claimed", async (t) => {
  const { page } = await open(t, "/q/login", { userAgent: "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Safari Line/15.0.0" });
  await heading(page, "Open this in Safari or Chrome");
  assert.equal(mock.requests.length, 0);
  const out = new URL(await page.locator("a.button.primary").getAttribute("href"));
  assert.equal(out.pathname + out.search, "/q/login?openExternalBrowser=1");
});

test("refusals by the server each have words and a next step", async (t) => {
  for (const [frame, want] of [["stale", "This code is too old"], ["forged", "This code is not right"], ["claimed", "Another phone scanned this code"],
    ["expired", "This request has expired"], ["busy", "The service is busy"], ["broken", "The service does not answer"], ["road", "Refused: order_road_refused."]]) {
    const { page } = await open(t, `/q/${frame}`);
    await heading(page, want);
    assert.ok(await page.locator(".app-actions .button.primary").count() === 1, `${frame}: one main step`);
    assert.match(await page.locator(".app-reference").innerText(), /[A-Za-z_-]{3,}/);
  }
});

test("what the computer does ends the card without moving focus", async (t) => {
  for (const [state, want] of [["cancelled", "Cancelled on the computer"], ["expired", "This request has expired"], ["completed", "This request is already done"]]) {
    const { page } = await open(t, "/q/login");
    await page.locator(approve).focus();
    mock.last.state = state;
    mock.wake(mock.last);
    await heading(page, want);
    assert.notEqual(await page.evaluate(() => document.activeElement?.tagName), "H1");
  }
});

test("the request ends by its own clock", async (t) => {
  const { page } = await open(t, "/q/short");
  await page.waitForSelector(approve);
  await heading(page, "This request has expired");
});

test("typed code", async (t) => {
  const { page } = await open(t, "/app/code");
  await page.fill("#code", "1234");
  await page.getByRole("button", { name: "Next" }).click();
  assert.equal(await page.locator("#code").getAttribute("aria-invalid"), "true");
  assert.equal(mock.requests.length, 0);
  await page.fill("#code", "");
  await page.locator("#code").pressSequentially("12345678");
  assert.equal(await page.inputValue("#code"), "1234 5678");
  await page.getByRole("button", { name: "Next" }).click();
  await heading(page, "Log in to “Tax filing”?");
  assert.deepEqual(asked("/claims")[0].input, { code: "12345678", source: "code" });
});

test("history asks who you are, then shows days", async (t) => {
  const at = (hours) => new Date(Date.now() - hours * 3_600_000).toISOString();
  const item = (state, hours) => ({ order: "x", kind: "login", state, at: at(hours), agency: { name: { "zh-Hant": "甲", en: "A" } }, client: { name: { "zh-Hant": "乙", en: "B" }, host: "b.example" } });
  mock.history = [item("completed", 0), item("rejected", 72)];
  const { page } = await open(t, "/app/history");
  await page.getByRole("button", { name: "Sign in with fingerprint or face" }).click();
  await page.waitForSelector(".app-entry");
  assert.equal(await page.locator(".app-day").count(), 2);
  assert.match(await page.locator(".app-day h2").first().innerText(), /^Today, \d/);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("button", { name: "Sign in with fingerprint or face" }).waitFor();
});

/** camera writes a picture of a code as a video file that the browser's fake camera plays. */
function camera(text) {
  const [width, height, scale] = [640, 480, 8];
  const { data, size } = encode(text, { ecc: "M", border: 4 });
  const y = Buffer.alloc(width * height, 235);
  const [left, top] = [(width - size * scale) >> 1, (height - size * scale) >> 1];
  for (let r = 0; r < size * scale; r++) {
    for (let c = 0; c < size * scale; c++) if (data[Math.floor(r / scale)][Math.floor(c / scale)]) y[(top + r) * width + left + c] = 16;
  }
  const file = join(mkdtempSync(join(tmpdir(), "app-camera-")), "code.y4m");
  writeFileSync(file, Buffer.concat([Buffer.from(`YUV4MPEG2 W${width} H${height} F10:1 Ip A1:1 C420jpeg\nFRAME\n`), y, Buffer.alloc((width * height) / 2, 128)]));
  return ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", `--use-file-for-fake-video-capture=${file}`];
}

test("the scanner reads our code and claims as a scanner", async (t) => {
  const eye = await launch(camera(`${mock.origin}/q/login`));
  t.after(() => eye.close());
  const { page, errors } = await enrolledPhone(eye, mock, { locale: "en-GB" });
  await page.goto(`${mock.origin}/app/scan`);
  await page.waitForSelector("#view .button.primary");
  assert.equal(await page.locator("video").count(), 0, "the camera waits for a press");
  await page.click("#view .button.primary");
  await heading(page, "Log in to “Tax filing”?");
  assert.deepEqual(asked("/claims").map((r) => r.input), [{ frame: `${mock.origin}/q/login`, source: "scanner" }]);
  await page.locator(approve).click();
  await heading(page, "Logged in");
  assert.deepEqual(errors, []);
});

test("a code of somebody else is named as such and never opened", async (t) => {
  const eye = await launch(camera("https://prizes.example.com/q/login"));
  t.after(() => eye.close());
  const { page } = await enrolledPhone(eye, mock, { locale: "en-GB" });
  await page.goto(`${mock.origin}/app/scan`);
  await page.click("#view .button.primary");
  await page.getByText("This is not a Mobile ID code.").first().waitFor();
  assert.equal(mock.requests.length, 0);
  assert.ok(page.url().endsWith("/app/scan"));
});

test("without a camera there is another way", async (t) => {
  const { page } = await open(t, "/app/scan");
  await page.click("#view .button.primary");
  await heading(page, "amera");
  await page.locator("a[href='/app/code']").first().waitFor();
});

test("offline: the kept page appears, and nothing personal was kept", async (t) => {
  const { page } = await open(t, "/app");
  await page.evaluate(() => navigator.serviceWorker.ready.then(() => true));
  await page.goto(`${mock.origin}/app/history`);
  await page.waitForFunction(() => Boolean(navigator.serviceWorker.controller));
  await page.goto(`${mock.origin}/q/login`);
  await page.waitForSelector(approve);
  const kept = await page.evaluate(async () => {
    const out = [];
    for (const name of await caches.keys()) for (const r of await (await caches.open(name)).keys()) out.push(new URL(r.url).pathname);
    return out;
  });
  assert.ok(kept.length > 5);
  for (const path of kept) assert.ok(path.startsWith("/assets/") || path === "/app/offline", path);
  mock.down = true;
  await page.goto(`${mock.origin}/app/devices`);
  await heading(page, "You are offline");
  mock.down = false;
  await page.click("#again");
  await heading(page, "My devices");
});

test("every page passes axe and the basic checks, in both languages", async (t) => {
  for (const en of [true, false]) {
    for (const path of ["/q/batch", "/q/login-check", "/q/enrol", "/q/stale", "/app", "/app/code", "/lost"]) {
      const { page } = await open(t, path, { en, reducedMotion: "reduce" });
      await page.waitForSelector("h1");
      await page.waitForFunction(() => !document.querySelector("[aria-busy]"));
      assert.deepEqual([...(await basics(page)), ...(await axe(page))], [], `${path} en=${en}`);
    }
  }
});
