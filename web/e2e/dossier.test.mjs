// Official documents (公文) as people sign them: three citizens with a phone each,
// a clerk, a head of section and a director. One document goes all the way, one is
// returned and submitted again, one is signed by a deputy, and several at once
// with one gesture. xmlsec1 checks what comes out.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch } from "./browser.mjs";
import { Dev } from "./dev.mjs";
import { axeSource, complaints } from "./rules.mjs";

const pin = "12345678";
const shots = process.env.SHOTS; // a directory: pictures of every step go there
const people = [["承辦", "A123000018"], ["科長", "B223000020"], ["局長", "F123000031"]];
const approveButton = ".app-actions .button.primary";

let dev, browser, token;
const who = []; // of each person: their phone's page, their computer's, and their subject at the agency

before(async () => {
  [dev, browser] = await Promise.all([Dev.start(), launch()]);
  const secret = readFileSync(join(dev.dir, "demo-agency.secret"), "utf8").trim();
  const { token_endpoint } = await (await fetch(`${dev.origin}/.well-known/openid-configuration`)).json();
  const answer = await fetch(token_endpoint, { method: "POST", body: new URLSearchParams({ grant_type: "client_credentials", scope: "sign" }),
    headers: { Authorization: `Basic ${Buffer.from(`demo-agency:${secret}`).toString("base64")}` } });
  token = (await answer.json()).access_token;
  assert.ok(token, "the agency has a token");
});
after(async () => { await browser?.close(); await dev?.stop(); });

async function person() {
  const context = await browser.newContext({ locale: "zh-TW", viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true,
    userAgent: "Mozilla/5.0 (Linux; Android 16; Pixel 10) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Mobile Safari/537.36" });
  const phone = await context.newPage();
  const cdp = await context.newCDPSession(phone);
  await cdp.send("WebAuthn.enable");
  await cdp.send("WebAuthn.addVirtualAuthenticator", { options: { protocol: "ctap2", ctap2Version: "ctap2_1", transport: "internal",
    hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true } });
  const desk = await browser.newContext({ locale: "zh-TW", viewport: { width: 1366, height: 900 } });
  return { phone, page: await desk.newPage() };
}

async function picture(page, name) {
  if (!shots) return;
  mkdirSync(shots, { recursive: true });
  await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
}

/** axe and the basic rules; a deep link keeps to them as the invented states do. */
async function rules(page) {
  await page.evaluate(axeSource);
  assert.deepEqual(await page.evaluate(complaints), []);
}

/** scan lets a phone take the order of a page, with the two digits. */
async function scan(page, phone) {
  await page.waitForSelector("#qr svg");
  const order = new URL(page.url()).pathname.match(/[A-Za-z0-9_-]{22}/)[0];
  const { frame } = await page.evaluate(async (o) => (await fetch(`/o/${o}/state`)).json(), order);
  await phone.goto(frame);
  await phone.waitForSelector(`.app-digits, ${approveButton}`);
  if (await phone.locator(".app-digits").count()) {
    const digits = (await phone.locator(".app-digits").innerText()).match(/\d\s*\d/)[0].replace(/\s/g, "");
    await page.waitForSelector("#digits:visible");
    await page.fill("#digits", digits);
    await page.click("#check-form button");
  }
  await phone.waitForSelector(`${approveButton}:not([aria-disabled=true])`);
}

/** inbox opens the list of a person, who logs in with their phone the first time. */
async function inbox({ page, phone }) {
  await page.goto(`${dev.origin}/documents`);
  if (/\/o\//.test(page.url())) {
    await scan(page, phone);
    await phone.click(approveButton);
    await page.waitForURL(/\/documents$/);
  }
}

/** settled waits until the page says of each point what became of it. */
const settled = (page) => page.waitForFunction(() => [...document.querySelectorAll("[data-point]")].every((p) => p.dataset.state !== "out"));

async function api(method, path, body) {
  const answer = await fetch(`${dev.origin}/api/v1${path}`, { method,
    headers: { Authorization: `Bearer ${token}`, ...(body ? { "Content-Type": "application/json" } : {}) }, ...(body ? { body: JSON.stringify(body) } : {}) });
  const text = await answer.text();
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
  return answer.headers.get("Content-Type")?.includes("json") ? JSON.parse(text) : text;
}

const file = (name, content) => ({ name, media_type: "text/plain", size: Buffer.byteLength(content), digest_algorithm: "SHA-256",
  digest: createHash("sha256").update(content).digest("base64url") });
const point = (stage, n, more = {}) => ({ stage, title: people[n][0], subject: who[n].sub, ...more });
const files = (title) => ["函稿", "附件"].map((name) => ({ name: `${name}.txt`, content: `${title}：${name}` }));
const body = (title, points) => ({ title, files: files(title).map((f) => file(f.name, f.content)), points });

/** checked says of each point of an SI file whether xmlsec1 accepts it, with the files that it names beside it. */
async function checked(id, title, change = (x) => x) {
  const dir = join(dev.dir, `si-${id}`);
  mkdirSync(dir, { recursive: true });
  const { previous, revision } = await api("GET", `/dossiers/${id}`);
  if (previous) writeFileSync(join(dir, `SI-${revision - 1}.xml`), await api("GET", `/dossiers/${previous}/si`));
  for (const f of files(title)) writeFileSync(join(dir, f.name), f.content);
  writeFileSync(join(dir, "si.xml"), change(await api("GET", `/dossiers/${id}/si`)));
  const anchors = readFileSync(dev.anchors, "utf8").match(/-----BEGIN[^]*?-----END CERTIFICATE-----\n?/g).flatMap((pem, i) => {
    writeFileSync(join(dir, `ca${i}.pem`), pem);
    return ["--trusted-pem", `ca${i}.pem`];
  });
  const points = readFileSync(join(dir, "si.xml"), "utf8").match(/<(\w+:)?SignatureValue\b/g).length;
  return Array.from({ length: points }, (_, i) => spawnSync("xmlsec1", ["--verify", "--id-attr:Id", "簽核點定義", "--id-attr:Id", "Object", ...anchors,
    "--node-xpath", `(//*[local-name()='Signature'])[${i + 1}]`, "si.xml"], { cwd: dir }).status === 0);
}

test("three people bind a phone each and are known to the agency", async () => {
  for (const [i, [name, id]] of people.entries()) {
    const one = await person();
    who.push(one);
    await dev.insert(i + 1);
    const { page, phone } = one;
    await page.goto(`${dev.origin}/enrol`);
    await page.click("#check-button");
    await page.waitForSelector("#read:not([hidden])");
    await page.fill("#national-id", id);
    await page.click("#read-button");
    await page.waitForSelector("#confirm:not([hidden])");
    await page.click("#confirm-yes");
    await scan(page, phone);
    await phone.fill("#device-name", `${name}的手機`);
    await phone.click(approveButton);
    await page.waitForSelector("#sign-card:not([hidden])");
    await page.fill("#pin", pin);
    await page.click("#sign-button");
    await page.waitForSelector("#done:not([hidden])");
    await phone.goto(`${dev.demo}/tax`);
    await phone.click("form[action='/login'] button");
    await phone.click("a[href^='/app/order/']");
    await phone.waitForSelector(`${approveButton}:not([aria-disabled=true])`);
    await phone.click(approveButton);
    await phone.waitForURL((u) => u.href.startsWith(`${dev.demo}/tax`));
    one.sub = await phone.locator("dl.facts .mono").first().innerText();
    assert.ok(one.sub.length > 20);
  }
});

test("nothing waits at first", async () => {
  await inbox(who[0]);
  assert.match(await who[0].page.innerText("main"), /目前沒有待簽公文/);
  await rules(who[0].page);
});

let first, chain;

test("a document is returned, with a reason that a phone signs", async () => {
  first = await api("POST", "/dossiers", { reference: "測字第1號", ...body("檢送測試計畫", [point(1, 0), point(2, 1), point(3, 2)]) });
  const { page, phone } = who[0];
  await inbox(who[0]);
  await picture(page, "dossier-1-inbox");
  await rules(page);
  await page.click("text=退件");
  await page.click("button.danger");
  assert.match(await page.innerText("#reason-error"), /退件事由/);
  assert.equal(await page.evaluate(() => document.activeElement?.id), "reason");
  await page.fill("#reason", "附件不是最新版");
  await page.click("button.danger");
  await page.waitForURL(/\/documents\/orders\//);
  await scan(page, phone);
  assert.match(await phone.innerText("main"), /要退回這件公文嗎？[\s\S]*附件不是最新版/);
  await picture(phone, "dossier-2-return-phone");
  await phone.click(approveButton);
  await settled(page);
  assert.match(await page.innerText("[data-point]"), /已退件/);
  await picture(page, "dossier-3-returned");
  const now = await api("GET", `/dossiers/${first.dossier}`);
  assert.equal(now.state, "returned");
  assert.equal(now.points[0].comment, "附件不是最新版");
});

test("submitted again, it is signed by three phones, one after the other", async () => {
  chain = await api("POST", `/dossiers/${first.dossier}/resubmit`, body("檢送測試計畫（修正）", [point(1, 0), point(2, 1), point(3, 2)]));
  assert.equal(chain.revision, 2);
  for (const [i, one] of who.entries()) {
    const { page, phone } = one;
    if (i < 2) {
      await inbox(who[i + 1]);
      assert.doesNotMatch(await who[i + 1].page.innerText("main"), /修正/, "it is not their turn yet");
    }
    await inbox(one);
    await page.check("input[name=point]");
    await page.fill("input[name=comment]", `${people[i][0]}：擬如擬`);
    await page.click("[data-sign]");
    await page.waitForURL(/\/documents\/orders\//);
    await scan(page, phone);
    assert.match(await phone.innerText("main"), /要簽核這件公文嗎？[\s\S]*函稿\.txt[\s\S]*附件\.txt[\s\S]*簽核紀錄/);
    if (i === 1) {
      await picture(page, "dossier-4-order");
      await picture(phone, "dossier-5-phone");
      await rules(page);
    }
    await phone.click(approveButton);
    await settled(page);
    assert.match(await page.innerText("[data-point]"), /已簽核/);
    if (i === 2) await picture(page, "dossier-6-done");
  }
  const now = await api("GET", `/dossiers/${chain.dossier}`);
  assert.equal(now.state, "completed");
  assert.deepEqual(now.points.map((p) => p.comment), people.map(([name]) => `${name}：擬如擬`));
});

test("xmlsec1 accepts its SI file and refuses a changed one", async () => {
  const title = "檢送測試計畫（修正）";
  assert.deepEqual(await checked(chain.dossier, title), [true, true, true]);
  assert.deepEqual(await checked(chain.dossier, title, (si) => si.replaceAll("<異動時間>20", "<異動時間>21")), [false, false, false]);
  assert.deepEqual(await checked(chain.dossier, "另一件"), [false, false, false], "other files");
});

test("a deputy signs in the head's place", async () => {
  const now = Date.now();
  const deputies = [{ subject: who[0].sub, reason: "公出", not_before: new Date(now - 60_000).toISOString(), not_after: new Date(now + 3_600_000).toISOString() }];
  const made = await api("POST", "/dossiers", { reference: "測字第2號", ...body("代理的公文", [point(1, 1, { deputies })]) });
  const { page, phone } = who[0];
  await inbox(who[0]);
  assert.match(await page.innerText("main"), /代理\s*您代理測.乙簽核，到 .* 為止。事由：公出/);
  await picture(page, "dossier-7-deputy");
  await page.check("input[name=point]");
  await page.click("[data-sign]");
  await scan(page, phone);
  assert.match(await phone.innerText("main"), /代理簽核點 1 科長/);
  await phone.click(approveButton);
  await settled(page);
  const after = await api("GET", `/dossiers/${made.dossier}`);
  assert.equal(after.state, "completed");
  assert.equal(after.points[0].deputy, true);
  assert.equal(after.points[0].signed_by, who[0].sub);
  assert.deepEqual(await checked(made.dossier, "代理的公文"), [true]);
});

test("a day's documents with one gesture; one is left out as a whole", async () => {
  const made = [];
  for (let i = 0; i < 4; i++) made.push(await api("POST", "/dossiers", { reference: `測字第${10 + i}號`, ...body(`例行公文 ${i}`, [point(1, 2)]) }));
  const { page, phone } = who[2];
  await inbox(who[2]);
  await page.check("[data-all]");
  assert.match(await page.innerText("[data-count]"), /已選 4 個簽核點，共 12 份文件/);
  await picture(page, "dossier-8-batch");
  await page.click("[data-sign]");
  await scan(page, phone);
  assert.match(await phone.innerText("main"), /要簽核 4 個簽核點嗎？/);
  await phone.uncheck("#point-3");
  assert.match(await phone.innerText("main"), /已選 3 個簽核點（9 份文件），共 4 個/);
  await picture(phone, "dossier-9-batch-phone");
  await phone.click(approveButton);
  await settled(page);
  await phone.waitForFunction(() => /已簽核 3 個簽核點|正在製作/.test(document.querySelector("main")?.innerText ?? ""));
  const words = await page.locator("[data-word]").allInnerTexts();
  assert.deepEqual(words, ["已簽核", "已簽核", "已簽核", "您留下不簽"]);
  await picture(page, "dossier-10-batch-done");
  await rules(page);
  for (const [i, one] of made.entries()) {
    const now = await api("GET", `/dossiers/${one.dossier}`);
    assert.equal(now.state, i < 3 ? "completed" : "open");
    if (i < 3) assert.deepEqual(await checked(one.dossier, `例行公文 ${i}`), [true]);
  }
  await inbox(who[2]);
  assert.match(await page.innerText("main"), /例行公文 3[\s\S]*上次沒有完成/);
  await page.goto(`${dev.origin}/documents/signed`);
  assert.equal(await page.locator(".points > li").count(), 4);
  await picture(page, "dossier-11-signed");
  await rules(page);
});

test("on the phone itself, without a QR code", async () => {
  const { phone } = who[2];
  await phone.goto(`${dev.origin}/documents`);
  if (/\/o\//.test(phone.url())) {
    await phone.click("a[href^='/app/order/']");
    await phone.waitForSelector(`${approveButton}:not([aria-disabled=true])`);
    await phone.click(approveButton);
    await phone.waitForURL(/\/documents$/);
  }
  await picture(phone, "dossier-12-phone-inbox");
  await rules(phone);
  await phone.check("input[name=point]");
  await phone.click("[data-sign]");
  await phone.click("a[href^='/app/order/']");
  await phone.waitForSelector(`${approveButton}:not([aria-disabled=true])`);
  await phone.click(approveButton);
  await phone.waitForURL(/\/documents\/orders\//);
  await settled(phone);
  assert.match(await phone.innerText("[data-point]"), /已簽核/);
  await picture(phone, "dossier-13-phone-done");
});

test("somebody else's order and point are not to be had", async () => {
  const made = await api("POST", "/dossiers", { reference: "測字第99號", ...body("局長的公文", [point(1, 2)]) });
  const clerk = who[0].page, head = who[2];
  await inbox(who[0]);
  assert.equal((await clerk.goto(`${dev.origin}/documents/${made.dossier}/1/return`)).status(), 404);
  const status = await clerk.evaluate(async (value) => (await fetch("/documents/orders", { method: "POST", body: new URLSearchParams({ point: value }) })).status, `${made.dossier}.1`);
  assert.equal(status, 404);
  await inbox(head);
  await head.page.check("input[name=point]");
  await head.page.click("[data-sign]");
  await head.page.waitForURL(/\/documents\/orders\//);
  assert.ok((await clerk.goto(head.page.url())).status() >= 400);
  assert.equal((await head.page.goto(head.page.url())).status(), 200, "the control: their own is");
});

test("no personal data in the server's output", () => {
  assert.doesNotMatch(dev.output.split("Ctrl-C stops everything")[1] ?? "", /[ABF][12]230000|測試[甲乙丙]|擬如擬|BEGIN/);
});
