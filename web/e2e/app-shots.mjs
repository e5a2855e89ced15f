// Pictures of every state of the phone app, with axe and the basic checks on
// each: node e2e/app-shots.mjs DIRECTORY [state] [width]
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { axe, basics, enrolledPhone, launch, phone } from "./app-browser.mjs";
import { Mock } from "./app-mock.mjs";

const out = process.argv[2] ?? "shots";
const only = process.argv[3];
const width = Number(process.argv[4]) || 0;
mkdirSync(out, { recursive: true });
const mock = await new Mock().start();
const browser = await launch(["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]);

const at = (n) => new Date(Date.now() - n * 3_600_000).toISOString();
const item = (kind, state, hours, more = {}) => ({
  order: "AZq0cv3GcTqXqUVK1x5Zrg", kind, state, at: at(hours), agency: { name: { "zh-Hant": "範例財稅機關", en: "Example tax agency" } },
  client: { name: { "zh-Hant": "電子申報網", en: "Tax filing" }, host: "efiling.example.gov.tw" }, device: { name: "iPhone" }, ...more });
mock.history = [item("login", "completed", 1), item("sign", "completed", 2, { documents: [{ name: "會議紀錄.odt", digest_code: "09FE 77AC" }] }),
  item("login", "rejected", 26), item("login", "expired", 27), item("enrol", "completed", 60)];
mock.devices = [
  { id: "1", name: "小美的 iPhone", state: "active", created_at: at(900), last_used_at: at(1), this: true, certificate_pending: true },
  { id: "2", name: "Pixel 9", state: "suspended", created_at: at(1900), this: false, certificate: { not_after: at(-700), state: "held" }, certificate_pending: true },
  { id: "3", name: "平板", state: "active", created_at: at(1900), this: false }];

const card = (page) => page.waitForSelector(".app-caution");
const notice = (page) => page.waitForSelector(".notice h1");
const press = (page) => page.click(".app-actions .button.primary");
const failAs = (name, after) => `navigator.credentials.get = () => new Promise((_, no) => setTimeout(() => no(new DOMException("", "${name}")), ${after}))`;

const states = {
  home: ["/app", async () => {}],
  code: ["/app/code", (p) => p.waitForSelector("#code")],
  "code-error": ["/app/code", async (p) => { await p.fill("#code", "12"); await p.click("button[type=submit]"); }],
  scan: ["/app/scan", (p) => p.waitForSelector("#view .button")],
  scanning: ["/app/scan", async (p) => { await p.click("#view .button.primary"); await p.waitForSelector("video"); await p.waitForTimeout(800); }],
  login: ["/q/login", card], text: ["/q/text", card], sign: ["/q/sign", card], batch: ["/q/batch", card],
  check: ["/q/login-check", card], enrol: ["/q/enrol", card],
  "batch-none": ["/q/batch", async (p) => { await card(p); for (const b of await p.$$("input[type=checkbox]")) await b.uncheck(); await press(p); }],
  "check-passed": ["/q/login-check", async (p) => { await card(p); mock.last.claim.check.passed = true; mock.wake(mock.last); await p.waitForSelector(".app-digits--passed"); }],
  cancelled: ["/q/login", async (p) => { await card(p); await p.evaluate(failAs("NotAllowedError", 1200)); await press(p); await p.waitForSelector(".app-slot h2"); }],
  "no-key": ["/q/login", async (p) => { await card(p); await p.evaluate(failAs("NotAllowedError", 10)); await press(p); await p.waitForSelector(".app-slot h2"); }],
  network: ["/q/login", async (p) => { await card(p); mock.drop = (m, path) => path.endsWith("/approve") || (m === "GET" && path.startsWith("/orders")); await press(p); await p.waitForSelector(".app-slot h2"); mock.drop = () => false; }],
  approved: ["/q/login", async (p) => { await card(p); await press(p); await notice(p); }],
  "approved-batch": ["/q/batch", async (p) => { await card(p); await p.uncheck("#document-1"); await press(p); await notice(p); }],
  enrolled: ["/q/enrol", async (p) => { await card(p); mock.last.claim.check.passed = true; mock.wake(mock.last); await p.waitForSelector(".app-digits--passed"); await press(p); await notice(p); }],
  refused: ["/q/login", async (p) => { await card(p); await p.click(".app-actions .button:not(.primary)"); await notice(p); }],
  ...Object.fromEntries(["stale", "forged", "claimed", "expired", "busy", "broken", "road"].map((n) => [n, [`/q/${n}`, notice]])),
  "wrong-browser": ["/app/order/foreignforeignforeign1", notice],
  "cancelled-there": ["/q/login", async (p) => { await card(p); mock.last.state = "cancelled"; mock.wake(mock.last); await notice(p); }],
  frozen: ["/q/login", async (p) => { await card(p); mock.refuseApprove = "device_suspended"; await press(p); await notice(p); mock.refuseApprove = undefined; }],
  session: ["/app/history", async (p) => p.waitForSelector("#view .button.primary")],
  history: ["/app/history", async (p) => { await press(p); await p.waitForSelector(".app-entry"); await p.click(".app-entry:nth-of-type(1) summary"); }],
  devices: ["/app/devices", async (p) => { await press(p); await p.waitForSelector(".app-card"); }],
  lost: ["/lost", async () => {}], offline: ["/app/offline", async () => {}],
  line: ["/q/login", (p) => p.waitForSelector("#address"), { userAgent: "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Safari Line/15.0.0" }],
  facebook: ["/q/login", (p) => p.waitForSelector("#address"), { userAgent: "Mozilla/5.0 (Linux; Android 15; Pixel 9 Build/X) AppleWebKit/537.36 Chrome/130 Mobile Safari/537.36 [FB_IAB/FB4A;FBAV/500]" }],
};

// Text at 200 % with the spacing of WCAG 1.4.12; a constructed sheet passes the page's policy.
const enlarge = () => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync("html{font-size:200%} *{line-height:1.5!important;letter-spacing:.12em!important;word-spacing:.16em!important} p{margin-bottom:2em!important}");
  document.adoptedStyleSheets = [sheet];
};

const looks = [
  { width: 360, locale: "zh-TW", colorScheme: "light" }, { width: 360, locale: "en-GB", colorScheme: "dark" },
  { width: 1366, locale: "zh-TW", colorScheme: "dark" }, { width: 1366, locale: "en-GB", colorScheme: "light" },
  { width: 320, locale: "en-GB", colorScheme: "light" }, { width: 640, locale: "en-GB", colorScheme: "light", large: true },
];
let bad = 0;
for (const look of looks.filter((l) => !width || l.width === width)) {
  for (const [name, [path, act, more]] of Object.entries(states)) {
    if (only && only !== "all" && !name.startsWith(only)) continue;
    const { context, page, errors } = await enrolledPhone(browser, mock, { ...look, height: look.width === 360 ? 740 : 768, reducedMotion: "reduce", ...more });
    mock.session = false;
    const tag = `${name}-${look.width}-${look.locale.slice(0, 2)}-${look.colorScheme}`;
    try {
      await page.goto(mock.origin + path);
      await act(page);
      if (look.large) await page.evaluate(enlarge);
    const wrong = [...errors, ...(await basics(page)), ...(await axe(page))];
      if (wrong.length) { bad++; console.log(tag, wrong); }
    } catch (e) {
      bad++;
      console.log(tag, String(e).split("\n")[0], errors);
    }
    await page.screenshot({ path: join(out, `${tag}.png`), fullPage: true });
    await context.close();
  }
}
console.log(`${Object.keys(states).length} states, ${bad} with faults`);
await browser.close();
await mock.stop();
