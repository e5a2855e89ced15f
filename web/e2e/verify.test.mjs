// /verify as a stranger uses it: signatures made by openssl under an authority
// that the service is told to believe, detached and attached, and in a PDF; and
// a log of every request, which must not carry the document.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch } from "./browser.mjs";
import { Dev } from "./dev.mjs";
import { axeSource, complaints } from "./rules.mjs";

const shots = process.env.SHOTS;
const marker = `秘密-${randomBytes(12).toString("hex")}`;
let dir, dev, browser, context, page, sent;

const path = (name) => join(dir, name);
const openssl = (...args) => execFileSync("openssl", args, { cwd: dir, stdio: ["ignore", "pipe", "pipe"] });

/** authority makes a root and a signer below it. */
function authority() {
  mkdirSync(path("anchors"));
  writeFileSync(path("ca.cnf"), `[req]\ndistinguished_name=dn\n[dn]\n[root]\nbasicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n[signer]\nkeyUsage=critical,digitalSignature,nonRepudiation\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n`);
  openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "root.key", "-out", "anchors/root.pem", "-subj", "/CN=Verify test root", "-days", "30", "-config", "ca.cnf", "-extensions", "root");
  openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "signer.key", "-out", "signer.csr", "-subj", "/CN=Wang Test", "-config", "ca.cnf");
  openssl("x509", "-req", "-in", "signer.csr", "-CA", "anchors/root.pem", "-CAkey", "root.key", "-out", "signer.pem", "-days", "20", "-extfile", "ca.cnf", "-extensions", "signer");
}

before(async () => {
  dir = mkdtempSync(join(tmpdir(), "sealgate-verify-"));
  authority();
  writeFileSync(path("letter.txt"), `${marker}\n`.repeat(200_000)); // 8 MB
  writeFileSync(path("other.txt"), "another letter\n");
  writeFileSync(path("note.txt"), "no signature\n");
  for (const [out, ...args] of [["letter.txt.p7s"], ["attached.p7m", "-nodetach"], ["stream.p7m", "-nodetach", "-stream"], ["bare.p7s", "-noattr"]]) {
    openssl("cms", "-sign", "-binary", "-in", "letter.txt", "-signer", "signer.pem", "-inkey", "signer.key", "-certfile", "anchors/root.pem", "-outform", "DER", "-md", "sha256", "-out", out, ...args);
  }
  execFileSync("go", ["run", "./web/e2e/sign", "-cert", path("signer.pem"), "-key", path("signer.key"), "-text", marker, "-dir", dir],
    { cwd: join(import.meta.dirname, "..", "..") });
  openssl("crl2pkcs7", "-nocrl", "-certfile", "signer.pem", "-outform", "DER", "-out", "certs.p7b");
  [dev, browser] = await Promise.all([Dev.start({ env: { SEALGATE_VERIFY_ANCHORS_DIR: path("anchors") } }), launch()]);
  context = await browser.newContext({ locale: "zh-TW", viewport: { width: 1366, height: 900 }, acceptDownloads: true });
  page = await context.newPage();
  page.on("pageerror", (e) => assert.fail(e.message));
  sent = [];
  page.on("request", (r) => sent.push({ url: r.url(), method: r.method(), body: r.postDataBuffer() ?? Buffer.alloc(0) }));
});
after(async () => {
  await browser?.close();
  await dev?.stop();
  rmSync(dir, { recursive: true, force: true });
});

async function picture(name) {
  if (!shots) return;
  mkdirSync(shots, { recursive: true });
  await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
}

/** verify chooses files, presses the button and gives what the page then says. */
async function verify(...names) {
  sent.length = 0;
  await page.goto(`${dev.origin}/verify`);
  await page.setInputFiles("#files", names.map(path));
  await page.waitForFunction((n) => document.querySelectorAll("#chosen li .badge:not(:empty)").length === n, names.length);
  await page.click("#verify-button");
  await page.waitForFunction(() => document.getElementById("doing").hidden && (!document.getElementById("result").hidden || !document.getElementById("verify-error").hidden));
  const error = page.locator("#verify-error:visible");
  if (await error.count()) return { error: await error.innerText() };
  return { tone: (await page.locator("#verdict").getAttribute("class")).split(" ").at(-1), title: await page.locator("#result-title").innerText(),
    sentence: await page.locator("#result-sentence").innerText(), next: await page.locator("#result-next").innerText(),
    focus: await page.evaluate(() => document.activeElement.id) };
}

/** nothingLeft: no request carries the document, in any of the forms that it could have. */
function nothingLeft() {
  const forms = [marker, Buffer.from(marker).toString("hex")];
  for (const shift of [0, 1, 2]) forms.push(Buffer.from("x".repeat(shift) + marker).toString("base64").slice(4, -4));
  for (const r of sent) {
    const text = decodeURIComponent(r.url) + r.body.toString("latin1") + r.body.toString("utf8");
    for (const f of forms) assert.ok(!text.includes(f), `${r.method} ${r.url} carries the document`);
    assert.ok(r.body.length < 64 << 10, `${r.url}: ${r.body.length} bytes`);
  }
  assert.ok(sent.some((r) => r.url.endsWith("/api/v1/verifications")), "something was asked");
}

test("a detached signature: the document does not leave the browser", async () => {
  const r = await verify("letter.txt.p7s", "letter.txt");
  assert.equal(r.focus, "result-title");
  assert.match(r.sentence, /Wang Test/);
  nothingLeft();
  const posted = JSON.parse(sent.find((x) => x.url.endsWith("/api/v1/verifications")).body);
  assert.equal(posted.digests["SHA-256"], createHash("sha256").update(readFileSync(path("letter.txt"))).digest("base64"));
  await picture("verify-detached");
});

test("the content inside a signature stays too, in DER and in BER", async () => {
  for (const name of ["attached.p7m", "stream.p7m"]) {
    const r = await verify(name);
    assert.match(r.sentence, /Wang Test/, name);
    assert.doesNotMatch(r.title, /無效/, name);
    nothingLeft();
  }
});

test("a PDF is taken apart in the browser; what was added later is seen", async () => {
  for (const [name, many] of [["signed.pdf", 1], ["twice.pdf", 2]]) {
    const r = await verify(name);
    assert.match(r.sentence, /Wang Test/, name);
    assert.doesNotMatch(r.title, /無效/, name);
    nothingLeft();
    const posted = JSON.parse(sent.find((x) => x.url.endsWith("/api/v1/verifications")).body);
    assert.deepEqual(posted.pdf.signatures.map((s) => s.later), many === 1 ? ["none"] : ["signatures", "none"]);
    const raw = readFileSync(path(name));
    const [a, b, c, d] = posted.pdf.signatures[0].byte_range;
    assert.equal(posted.pdf.signatures[0].digests["SHA-256"],
      createHash("sha256").update(raw.subarray(a, a + b)).update(raw.subarray(c, c + d)).digest("base64"));
  }
  const raw = readFileSync(path("signed.pdf"), "latin1");
  writeFileSync(path("changed.pdf"), raw.replace("595", "594"), "latin1");
  const r = await verify("changed.pdf");
  assert.match(r.title, /無效/);
  assert.match(r.sentence, /被改過/);
  writeFileSync(path("later.pdf"), raw + "4 0 obj\n<<>>\nendobj\n", "latin1");
  const later = await verify("later.pdf");
  assert.ok(later.error || later.tone !== "ok", "something was added after the signature");
});

test("an SI file is sent, which is said before; the files it names are not", async () => {
  await page.goto(`${dev.origin}/verify`);
  await page.setInputFiles("#files", [path("flow.si"), path("draft.di")]);
  await page.waitForSelector("#sends:visible");
  assert.match(await page.locator("#sends").innerText(), /flow\.si.*整個送出/);
  const r = await verify("flow.si", "draft.di");
  assert.match(r.sentence, /Wang Test/);
  assert.doesNotMatch(r.title, /無效/);
  nothingLeft();
  const missing = await verify("flow.si");
  assert.equal(missing.tone, "warn");
});

test("another document, and a document that is missing", async () => {
  const r = await verify("letter.txt.p7s", "other.txt");
  assert.equal(r.tone, "danger");
  assert.match(r.sentence, /被改過/);
  await picture("verify-changed");
  assert.match((await verify("letter.txt.p7s")).error, /需要原檔/);
});

test("what is no signature is told with a next step", async () => {
  assert.match((await verify("certs.p7b")).title, /沒有簽章/);
  writeFileSync(path("broken.p7s"), Buffer.concat([readFileSync(path("letter.txt.p7s")).subarray(0, 600)]));
  assert.match((await verify("broken.p7s", "letter.txt")).error, /不是簽章檔/);
  await page.goto(`${dev.origin}/verify`);
  await page.setInputFiles("#files", [path("note.txt")]);
  await page.waitForSelector("#chosen li");
  await page.focus("#verify-button"); // which says that it will not, and answers why when it is pressed
  await page.keyboard.press("Enter");
  assert.match(await page.locator("#verify-error").innerText(), /沒有簽章檔/);
  assert.equal(await page.evaluate(() => document.activeElement.id), "verify-error");
});

test("a signature straight over the content needs all of it, and the person agrees first", async () => {
  await page.goto(`${dev.origin}/verify`);
  sent.length = 0;
  writeFileSync(path("small.txt"), marker);
  openssl("cms", "-sign", "-binary", "-noattr", "-in", "small.txt", "-signer", "signer.pem", "-inkey", "signer.key", "-outform", "DER", "-md", "sha256", "-out", "small.p7s");
  await page.setInputFiles("#files", [path("small.p7s"), path("small.txt")]);
  await page.waitForFunction(() => document.querySelectorAll("#chosen li .badge:not(:empty)").length === 2);
  await page.click("#verify-button");
  await page.waitForSelector("#agree[open]");
  await picture("verify-agree");
  await page.keyboard.press("Escape");
  await page.waitForSelector("#verify-error:visible");
  assert.ok(sent.every((r) => !r.body.includes(Buffer.from(marker).toString("base64"))), "not sent");
  await page.click("#verify-button");
  await page.waitForSelector("#agree[open]");
  await page.click("#agree .primary");
  await page.waitForSelector("#result:not([hidden])");
  assert.ok(sent.some((r) => r.body.includes(Buffer.from(marker).toString("base64"))), "sent after the person agreed");
});

test("reports can be taken home, and the signed one is a signature", async () => {
  await verify("letter.txt.p7s", "letter.txt");
  const [json] = await Promise.all([page.waitForEvent("download"), page.click("#save-json")]);
  const report = JSON.parse(readFileSync(await json.path()));
  assert.equal(report.type, "sealgate.verification/1");
  const [signed] = await Promise.all([page.waitForEvent("download"), page.click("#save-signed")]);
  await signed.saveAs(path("report.p7m"));
  execFileSync("openssl", ["cms", "-verify", "-binary", "-inform", "DER", "-in", path("report.p7m"), "-CAfile", dev.anchors, "-purpose", "any", "-out", path("report.json")], { stdio: "pipe" });
  assert.equal(JSON.parse(readFileSync(path("report.json"))).indication, report.indication);
  nothingLeft();
});

test("keyboard alone, English, narrow; axe finds nothing", async () => {
  const phone = await browser.newContext({ locale: "en-GB", viewport: { width: 360, height: 740 }, colorScheme: "dark" });
  const p = await phone.newPage();
  await p.goto(`${dev.origin}/verify`);
  await p.setInputFiles("#files", [path("letter.txt.p7s"), path("letter.txt")]);
  await p.waitForFunction(() => document.querySelectorAll("#chosen li .badge:not(:empty)").length === 2);
  await p.focus("#files");
  for (let i = 0; i < 8 && (await p.evaluate(() => document.activeElement.id)) !== "verify-button"; i++) await p.keyboard.press("Tab");
  await p.keyboard.press("Enter");
  await p.waitForSelector("#result:not([hidden])");
  for (let i = 0; i < 4 && (await p.evaluate(() => document.activeElement.tagName)) !== "SUMMARY"; i++) await p.keyboard.press("Tab");
  await p.keyboard.press("Enter");
  assert.ok(await p.locator("#result-details table").first().isVisible());
  await p.evaluate(axeSource);
  assert.deepEqual(await p.evaluate(complaints), []);
  if (shots) await p.screenshot({ path: join(shots, "verify-phone-en.png"), fullPage: true });
  await phone.close();
});
