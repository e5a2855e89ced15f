// A Chromium with a virtual authenticator, and the checks every page gets.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export function launch(args = []) {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-dev-shm-usage", ...args] });
}

/** phone opens a page with a platform authenticator whose user is present and verified. */
export async function phone(browser, { width = 360, height = 740, locale = "zh-TW", colorScheme = "light", key = true, ...more } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, locale, colorScheme, ...more });
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (e) => errors.push(String(e)));
  page.on("console", (m) => { if (/Content Security Policy|Permissions policy violation/i.test(m.text())) errors.push(m.text()); });
  let authenticator;
  if (key) {
    const cdp = await context.newCDPSession(page);
    await cdp.send("WebAuthn.enable");
    const { authenticatorId } = await cdp.send("WebAuthn.addVirtualAuthenticator", { options: {
      protocol: "ctap2", ctap2Version: "ctap2_1", transport: "internal", hasResidentKey: true, hasUserVerification: true,
      isUserVerified: true, automaticPresenceSimulation: true } });
    authenticator = { send: (method, params = {}) => cdp.send(`WebAuthn.${method}`, { authenticatorId, ...params }) };
  }
  return { context, page, errors, authenticator };
}

/** axe gives the violations as short lines. */
export async function axe(page) {
  await page.evaluate(axeSource);
  // The bar at the bottom covers whatever has scrolled under it; a scroll away it is free.
  await page.evaluate(() => document.querySelector(".app-bar")?.style.setProperty("position", "static"));
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, {
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
  return violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.target.join(" ")).join(" | ")}`);
}

/** basics checks what every state must have; it gives what is wrong. */
export async function basics(page) {
  return page.evaluate(() => {
    const wrong = [];
    const count = (q) => document.querySelectorAll(q).length;
    if (count("h1") !== 1) wrong.push(`${count("h1")} h1`);
    if (count("[role=status],[aria-live]") !== 1) wrong.push(`${count("[role=status],[aria-live]")} live regions`);
    if (document.documentElement.scrollWidth > innerWidth) wrong.push(`scrolls sideways: ${document.documentElement.scrollWidth} > ${innerWidth}`);
    for (const e of document.querySelectorAll("button, .button, input:not([type=checkbox]), summary, .app-bar a")) {
      const box = e.getBoundingClientRect();
      if (box.width && box.height < 44) wrong.push(`target ${e.textContent.trim().slice(0, 20)} is ${Math.round(box.height)} px high`);
    }
    if (/\bapp\.\w|undefined|\[object/.test(document.body.innerText)) wrong.push("a text is missing");
    if (/(?:^|[^\w.])(?:order|fail|end|common|gate|done|scan|code|history|devices)\.[a-z]/.test(document.body.innerText)) wrong.push("a key is shown");
    return wrong;
  });
}

export async function enrolledPhone(browser, mock, options) {
  const p = await phone(browser, options);
  await p.authenticator.send("addCredential", { credential: {
    credentialId: Buffer.from("credential-of-a-test-citizen").toString("base64"), isResidentCredential: true, rpId: "localhost",
    privateKey: testKey, userHandle: Buffer.from("test-citizen").toString("base64"), signCount: 1 } });
  return p;
}

// A throw-away P-256 key made for this run.
import { generateKeyPairSync } from "node:crypto";
const testKey = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ type: "pkcs8", format: "der" }).toString("base64");
