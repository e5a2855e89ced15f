// A PDF is signed with the signature inside, on the page for own files, and
// does not leave the browser: poppler's pdfsig accepts it, refuses one changed
// byte, and a second signature keeps the first.
import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch } from "./browser.mjs";
import { Dev } from "./dev.mjs";
import { axeSource, complaints } from "./rules.mjs";

const shots = process.env.SHOTS;
const root = new URL("../..", import.meta.url).pathname;
const canary = "CANARY-of-the-document-9f3c";

let dev, browser, desk, page, keys;
let sent = [];

before(async () => {
  [dev, browser] = await Promise.all([Dev.start(), launch()]);
  keys = join(dev.dir, "softphone.json");
  await dev.insert(1);
  sealctl("softphone", "enrol", "--component", dev.cards, "--card", "1", "--id", "A123000018");
  desk = await browser.newContext({ locale: "zh-TW", viewport: { width: 1366, height: 900 }, acceptDownloads: true });
  page = await desk.newPage();
  page.on("request", (r) => sent.push(r.url() + (r.postData() ?? "")));
  page.on("pageerror", (e) => assert.fail(String(e)));
});
after(async () => { await browser?.close(); await dev?.stop(); });

function sealctl(...args) {
  return execFileSync(join(root, "bin", "sealctl"), [...args, "--server", dev.origin, "--keys", keys], { encoding: "utf8" });
}

/** writePDF writes a document of one page with a text. */
function writePDF(name) {
  let out = "%PDF-1.7\n%\u00e2\u00e3\u00cf\u00d3\n";
  const at = [];
  const text = `BT /F 24 Tf 20 100 Td (${canary}) Tj ET`;
  const objects = ["<</Type/Catalog/Pages 2 0 R>>", "<</Type/Pages/Kids[3 0 R]/Count 1>>",
    "<</Type/Page/Parent 2 0 R/MediaBox[0 0 500 200]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>",
    `<</Length ${text.length}>>\nstream\n${text}\nendstream`, "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"];
  objects.forEach((o, i) => { at.push(out.length); out += `${i + 1} 0 obj\n${o}\nendobj\n`; });
  const start = out.length;
  out += `xref\n0 ${at.length + 1}\n0000000000 65535 f \n${at.map((n) => `${String(n).padStart(10, "0")} 00000 n \n`).join("")}`;
  out += `trailer\n<</Size ${at.length + 1}/Root 1 0 R>>\nstartxref\n${start}\n%%EOF\n`;
  const path = join(dev.dir, name);
  writeFileSync(path, Buffer.from(out, "latin1"));
  return path;
}

async function picture(name) {
  if (!shots) return;
  mkdirSync(shots, { recursive: true });
  for (const width of [1366, 360]) {
    await page.setViewportSize({ width, height: 800 });
    await page.screenshot({ path: join(shots, `pdf-${name}-${width}.png`), fullPage: true });
  }
  await page.setViewportSize({ width: 1366, height: 900 });
}

async function accessible() {
  await page.evaluate(axeSource);
  assert.deepEqual(await page.evaluate(complaints), []);
}

/** approve plays the phone. */
async function approve() {
  await page.waitForSelector("#qr svg");
  const order = new URL(page.url()).pathname.match(/[A-Za-z0-9_-]{22}/)[0];
  const { frame } = await page.evaluate(async (o) => (await fetch(`/o/${o}/state`)).json(), order);
  const phone = spawn(join(root, "bin", "sealctl"), ["softphone", "approve", "--server", dev.origin, "--keys", keys, "--frame", frame]);
  let said = "";
  phone.stdout.on("data", (d) => { said += d; });
  phone.stderr.on("data", (d) => { said += d; });
  const ended = new Promise((done) => phone.on("exit", done));
  for (let i = 0; i < 200 && phone.exitCode === null; i++) {
    const digits = said.match(/computer: (\d)\s?(\d)/);
    if (digits && await page.locator("#digits:visible").count()) {
      await page.fill("#digits", digits[1] + digits[2]);
      await page.click("#check-form button");
      break;
    }
    await new Promise((r) => setTimeout(r, 50));
  }
  assert.equal(await ended, 0, said);
}

async function logIn() {
  await page.goto(`${dev.origin}/sign`);
  if (page.url().endsWith("/sign")) return;
  await approve();
  await page.waitForURL(/\/sign$/);
}

/** signPDF has a file signed on the page, and gives where the browser saved it. */
async function signPDF(path, name) {
  await page.goto(`${dev.origin}/sign`);
  await page.setInputFiles("#files", path);
  await page.waitForSelector("#chosen li[data-state=ready]");
  const plain = await page.innerText("#chosen .mono");
  await page.check("#chosen input[type=checkbox]");
  await page.waitForFunction((was) => {
    const row = document.querySelector("#chosen li");
    return row?.dataset.state === "ready" && row.querySelector(".mono").textContent !== was;
  }, plain);
  await picture(`${name}-chosen`);
  await accessible();
  await page.click("#sign-button");
  await page.waitForURL(/\/sign\/[A-Za-z0-9_-]{22}$/);
  await approve();
  await page.waitForSelector("[data-document='0'][data-state='signed']");
  await page.reload(); // what is kept outlives the page
  await page.waitForSelector("[data-document='0'][data-state='signed']");
  await picture(`${name}-signed`);
  await accessible();
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("[data-document='0'] [data-download]")]);
  const to = join(dev.dir, `${name}.pdf`);
  await download.saveAs(to);
  return { to, suggested: download.suggestedFilename() };
}

/** pdfsig counts the valid signatures of a document. */
function pdfsig(path) {
  const { stdout } = spawnSync("pdfsig", ["-nocert", path], { encoding: "utf8" });
  return (stdout.match(/Signature is Valid/g) ?? []).length;
}

let once;

test("the signature goes into the PDF, and the PDF stays here", async () => {
  const path = writePDF("公文.pdf");
  await logIn();
  sent = [];
  const { to, suggested } = await signPDF(path, "once");
  once = to;
  assert.equal(suggested, "公文-signed.pdf");
  const original = readFileSync(path), signed = readFileSync(to);
  assert.ok(signed.subarray(0, original.length).equals(original), "the original's bytes stand unaltered in front");
  assert.equal(pdfsig(to), 1);
  const changed = join(dev.dir, "changed.pdf");
  const bytes = Buffer.from(signed);
  bytes[original.indexOf("CANARY")] ^= 1;
  writeFileSync(changed, bytes);
  assert.equal(pdfsig(changed), 0, "one changed byte is refused");
  assert.ok(sent.some((s) => s.includes("/sign/orders")), "the log of requests was read");
  assert.ok(!sent.some((s) => s.includes("CANARY") || s.includes("%PDF")), "nothing of the document was sent");
});

test("a second signature keeps the first", async () => {
  const { to } = await signPDF(once, "twice");
  assert.equal(pdfsig(to), 2);
  const first = readFileSync(once);
  assert.ok(readFileSync(to).subarray(0, first.length).equals(first));
});

test("a file that only says it is a PDF is signed beside, with the reason told", async () => {
  const path = join(dev.dir, "broken.pdf");
  writeFileSync(path, "%PDF-1.7\nnot really\n");
  await page.goto(`${dev.origin}/sign`);
  await page.setInputFiles("#files", path);
  await page.waitForSelector("#chosen li[data-state=ready]");
  await page.click("#chosen input[type=checkbox]");
  await page.waitForSelector("#sign-error:not([hidden])");
  assert.match(await page.innerText("#sign-error-text"), /不是可以讀取的 PDF/);
  assert.equal(await page.isChecked("#chosen input[type=checkbox]"), false);
  await page.waitForSelector("#sign-button:not([aria-disabled=true])");
  await picture("broken");
});

test("what the browser kept is gone with the session", async () => {
  const left = () => page.evaluate(() => new Promise((done) => {
    const open = indexedDB.open("sealgate-pdf");
    open.onsuccess = () => {
      const count = open.result.transaction("orders").objectStore("orders").count();
      count.onsuccess = () => { open.result.close(); done(count.result); };
    };
  }));
  assert.equal(await left(), 2);
  await page.click("form[action='/session/logout'] button");
  await page.waitForURL(`${dev.origin}/`);
  assert.equal(await left(), 0);
});
