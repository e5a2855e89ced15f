// Walks the main road in a real browser against `sealgate dev`: bind a phone
// with a test card, log in to our own pages with it, sign two files.
//
//   node web/e2e/walk.mjs --base http://localhost:8080 --id NATIONALID --pin PIN [--out DIR] [--lang en]
//
// The phone is a second browser context with a virtual authenticator.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { launch } from "./browser.mjs";

const arg = (name, otherwise) => {
  const i = process.argv.indexOf(`--${name}`);
  return i < 0 ? otherwise : process.argv[i + 1];
};
const base = arg("base", "http://localhost:8080");
const out = arg("out", "walk");
const lang = arg("lang", "zh-Hant");
const card = arg("card", "");
mkdirSync(out, { recursive: true });

const browser = await launch();
const headers = { "Accept-Language": lang };
const desktop = await (await browser.newContext({ viewport: { width: 1366, height: 768 }, extraHTTPHeaders: headers })).newPage();
const phoneContext = await browser.newContext({
  viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true, extraHTTPHeaders: headers,
  userAgent: "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36",
});
const phone = await phoneContext.newPage();
for (const [who, p] of [["desktop", desktop], ["phone", phone]]) {
  p.on("pageerror", (e) => console.log(`${who} ERROR ${e.message}`));
  p.on("console", (m) => m.type() === "error" && console.log(`${who} console: ${m.text()}`));
  p.on("requestfailed", (r) => console.log(`${who} failed: ${r.url().slice(0, 120)} ${r.failure()?.errorText}`));
}
const cdp = await phoneContext.newCDPSession(phone);
await cdp.send("WebAuthn.enable");
const { authenticatorId } = await cdp.send("WebAuthn.addVirtualAuthenticator", { options: {
  protocol: "ctap2", ctap2Version: "ctap2_1", transport: "internal", hasResidentKey: true,
  hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true } });

const shot = (p, name) => p.screenshot({ path: join(out, `${name}.png`), fullPage: true });
const step = (text) => console.log(`${new Date().toISOString().slice(14, 23)} ${text}`);
const frameOf = (p) => p.evaluate(async () => {
  const id = location.pathname.split("/").filter(Boolean).pop();
  return (await (await fetch(`/o/${id}/state`)).json()).frame;
});

/** The component's window opens; where it asks which card, the wanted one is chosen. */
async function withPopup(press) {
  const opened = desktop.context().waitForEvent("page");
  await press();
  const popup = await opened;
  popup.on("console", (m) => m.type() === "error" && console.log(`popup console: ${m.text()}`));
  const choice = popup.locator("button[data-card]");
  await Promise.race([popup.waitForEvent("close"), choice.first().waitFor({ state: "visible" }).then(() => (card ? popup.locator(`button[data-card="${card}"]`) : choice.first()).click())]).catch(() => {});
}

async function approveOnPhone(frame) {
  await phone.goto(frame.replace(/^https?:\/\/[^/]+/, base));
  await phone.waitForSelector("button.primary", { timeout: 15000 });
}

async function digits() {
  await desktop.waitForSelector("#digits", { state: "visible", timeout: 15000 });
  const text = await phone.locator("main").innerText();
  const two = /(?<!\d)(\d) ?(\d)(?!\d)/.exec(text.split("\n").find((l) => /^\s*\d ?\d\s*$/.test(l)) ?? text);
  await desktop.fill("#digits", two[1] + two[2]);
  await desktop.locator("#check-form button").click();
}

step("enrol");
await desktop.goto(`${base}/enrol`);
await shot(desktop, "01-enrol");
await withPopup(() => desktop.click("#check-button"));
await desktop.waitForSelector("#read:not([hidden])", { timeout: 10000 });
await desktop.fill("#national-id", arg("id"));
await shot(desktop, "02-read");
await withPopup(() => desktop.click("#read-button"));
await desktop.waitForSelector("#confirm:not([hidden])", { timeout: 15000 });
await shot(desktop, "03-confirm");
await desktop.click("#confirm-yes");
await desktop.waitForSelector("#qr svg path[d]");
await shot(desktop, "04-qr");
step("phone scans");
await approveOnPhone(await frameOf(desktop));
await shot(phone, "05-phone");
await digits();
await phone.waitForTimeout(500);
await phone.locator("button.primary").first().click();
step("card signs");
await desktop.waitForSelector("#sign-card:not([hidden])", { timeout: 20000 });
await desktop.fill("#pin", arg("pin"));
await shot(desktop, "06-card");
await withPopup(() => desktop.click("#sign-button"));
await desktop.waitForSelector("#done:not([hidden])", { timeout: 20000 });
await shot(desktop, "07-done");
await phone.waitForTimeout(1000);
await shot(phone, "08-phone-done");

step("log in to our own pages");
await desktop.goto(`${base}/session/login?return=/sign`);
await desktop.waitForSelector("#qr svg path[d]");
await shot(desktop, "09-login");
await approveOnPhone(await frameOf(desktop));
await shot(phone, "10-phone-login");
await digits();
await phone.waitForTimeout(500);
await phone.locator("button.primary").first().click();
await desktop.waitForURL(/\/sign$/, { timeout: 15000 });

step("sign");
const files = ["契約.txt", "contract-2.bin"].map((name, i) => ({ name, mimeType: "text/plain", buffer: Buffer.from(`content ${i}\n`.repeat(1000 * (i + 1))) }));
files.forEach((f) => writeFileSync(join(out, f.name), f.buffer));
await desktop.setInputFiles("#files", files);
await desktop.waitForSelector("#sign-button[aria-disabled=false]");
await shot(desktop, "11-sign");
await desktop.click("#sign-button");
await desktop.waitForSelector("#qr svg path[d]");
await shot(desktop, "12-sign-qr");
await approveOnPhone(await frameOf(desktop));
await digits();
await shot(phone, "13-phone-sign");
await phone.waitForTimeout(500);
await phone.locator("button.primary").first().click();
await desktop.waitForSelector("#order[data-state=completed]", { timeout: 20000 });
await desktop.waitForTimeout(300);
await shot(desktop, "14-signed");
await shot(phone, "15-phone-signed");
for (const [i, f] of files.entries()) {
  const [download] = await Promise.all([desktop.waitForEvent("download"), desktop.locator("[data-download]").nth(i).click()]);
  await download.saveAs(join(out, download.suggestedFilename()));
  step(`downloaded ${download.suggestedFilename()} for ${f.name}`);
}

const demo = arg("demo", "");
if (demo) {
  step("log in at the demonstration agency");
  await desktop.goto(`${demo}/tax`);
  await desktop.locator("form[action*=login] button").first().click();
  await desktop.waitForSelector("#qr svg path[d]");
  await approveOnPhone(await frameOf(desktop));
  await digits();
  await phone.waitForTimeout(500);
  await phone.locator("button.primary").first().click();
  await desktop.waitForURL((u) => u.href.startsWith(demo), { timeout: 15000 });
  await desktop.waitForLoadState();
  await shot(desktop, "16-agency");
  step(`agency says: ${(await desktop.locator("main").innerText()).slice(0, 300).replace(/\s+/g, " ")}`);

  step("on the same phone");
  await phone.goto(`${demo}/tax`);
  await phone.locator("form[action*=login] button").first().click();
  await phone.waitForSelector(".same-device a");
  await shot(phone, "17-same-device");
  await phone.locator(".same-device a").click();
  await phone.waitForSelector("button.primary:not([aria-disabled=true])");
  await shot(phone, "18-same-device-card");
  await phone.locator("button.primary").first().click();
  await phone.waitForURL((u) => u.href.startsWith(demo), { timeout: 15000 });
  await shot(phone, "19-same-device-agency");
  step(`agency says: ${(await phone.locator("main").innerText()).slice(0, 300).replace(/\s+/g, " ")}`);

  step("a phone nearby");
  await desktop.context().clearCookies();
  // The browser's own hybrid transport cannot be played here: the computer gets an
  // authenticator that says it is one, with the phone's credential.
  const near = await desktop.context().newCDPSession(desktop);
  await near.send("WebAuthn.enable");
  const cable = await near.send("WebAuthn.addVirtualAuthenticator", { options: {
    protocol: "ctap2", ctap2Version: "ctap2_1", transport: "cable", hasResidentKey: true,
    hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true } });
  const { credentials } = await cdp.send("WebAuthn.getCredentials", { authenticatorId });
  for (const credential of credentials) {
    await near.send("WebAuthn.addCredential", { authenticatorId: cable.authenticatorId, credential: { ...credential, signCount: credential.signCount + 1000 } });
  }
  await desktop.addInitScript(() => { PublicKeyCredential.getClientCapabilities = async () => ({ hybridTransport: true }); });
  await desktop.goto(`${demo}/tax`);
  await desktop.locator("form[action*=login] button").first().click();
  await desktop.waitForSelector("#nearby", { state: "visible" });
  await shot(desktop, "20-nearby");
  await desktop.click("#nearby");
  await desktop.waitForURL((u) => u.href.startsWith(demo), { timeout: 15000 });
  step(`agency says: ${(await desktop.locator("main").innerText()).slice(150, 420).replace(/\s+/g, " ")}`);
  await near.detach();
  for (const credential of credentials) {
    await cdp.send("WebAuthn.setUserVerified", { authenticatorId, isUserVerified: true });
    await cdp.send("WebAuthn.removeCredential", { authenticatorId, credentialId: credential.credentialId });
    await cdp.send("WebAuthn.addCredential", { authenticatorId, credential: { ...credential, signCount: credential.signCount + 2000 } });
  }

  step("refused on the phone");
  await desktop.context().clearCookies();
  await desktop.goto(`${demo}/tax`);
  await desktop.locator("form[action*=login] button").first().click();
  await desktop.waitForSelector("#qr svg path[d]");
  await approveOnPhone(await frameOf(desktop));
  await phone.getByRole("button", { name: /refuse|reject|拒絕/i }).click();
  await desktop.waitForSelector("#order[data-state=rejected]");
  step(`${await desktop.title()} / ${await desktop.locator("#status").innerText()}`);
  await desktop.click("#next");
  await desktop.waitForURL((u) => u.href.startsWith(demo), { timeout: 15000 });
  step(`agency says: ${(await desktop.locator("main").innerText()).slice(0, 200).replace(/\s+/g, " ")}`);
}
await browser.close();
