// A stand-in for the server, for looking at and testing the phone app alone:
// the pages come from the real page handlers (a Go test binary), the device
// API is played here. Never shipped; assertions are not verified.
//
// Which order a frame leads to is its name: /q/login, /q/batch, /q/stale, …
import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const here = dirname(fileURLToPath(import.meta.url));
const packageDir = join(here, "../../internal/front/pages");

const names = {
  tax: { "zh-Hant": "電子申報網", en: "Tax filing" },
  ministry: { "zh-Hant": "範例財稅機關", en: "Example tax agency" },
  oa: { "zh-Hant": "公文線上簽核", en: "Document approval" },
};

const documents = (n) =>
  ["113年度預算執行報告（附件一）.pdf", "會議紀錄.odt", "採購契約書-最終版.pdf"].slice(0, n).map((name, index) => ({
    index, name, media_type: "application/pdf", size: [482_113, 18_204, 2_713_998][index], digest_algorithm: "SHA-256",
    digest: "x".repeat(43), digest_code: ["A1B2 C3D4", "09FE 77AC", "5D20 B8E1"][index],
  }));

const refusals = {
  stale: [410, "frame_stale"], forged: [403, "frame_forged"], claimed: [409, "order_claimed"], expired: [410, "order_expired"],
  cancelled: [410, "order_cancelled"], unknown: [404, "frame_unknown"], busy: [429, "rate_limited"], broken: [500, "internal"],
  road: [403, "order_road_refused"],
};

export class Mock {
  orders = new Map();
  requests = [];
  session = false;
  /** (method, path) → true drops the connection before, "answer" after handling. */
  drop = () => false;
  /** code of a refusal for the next approve. */
  refuseApprove = undefined;
  /** no answer to anything, as without a network. */
  down = false;
  history = [];
  devices = [];

  async start() {
    this.server = http.createServer((req, res) => this.#serve(req, res).catch((e) => res.destroy(e)));
    await new Promise((ok) => this.server.listen(0, "127.0.0.1", ok));
    this.origin = `http://localhost:${this.server.address().port}`;
    const binary = join(mkdtempSync(join(tmpdir(), "app-pages-")), "pages.test");
    await promisify(execFile)("go", ["test", "-c", "-o", binary, "."], { cwd: packageDir });
    this.pages = spawn(binary, ["-test.run", "^TestServeApp$"], { cwd: packageDir, env: { ...process.env, SEALGATE_APP_ORIGIN: this.origin }, stdio: ["pipe", "pipe", "inherit"] });
    this.pagesURL = await new Promise((ok, no) => {
      let out = "";
      this.pages.stdout.on("data", (d) => {
        out += d;
        const m = /serving (\S+)/.exec(out);
        if (m) ok(m[1]);
      });
      this.pages.on("exit", () => no(new Error(`the page server ended: ${out}`)));
    });
    return this;
  }

  async stop() {
    this.pages?.stdin.end();
    this.server.closeAllConnections();
    await new Promise((ok) => this.server.close(ok));
  }

  /** wake ends every waiting poll, as a change of the order does. */
  wake(order) {
    for (const go of order.waiting.splice(0)) go();
  }

  async #serve(req, res) {
    if (this.down) return res.destroy();
    const url = new URL(req.url, this.origin);
    if (!url.pathname.startsWith("/api/device/v1/")) return this.#proxy(req, res);
    const path = url.pathname.slice("/api/device/v1".length);
    let body = "";
    for await (const chunk of req) body += chunk;
    const input = body ? JSON.parse(body) : {};
    this.requests.push({ method: req.method, path: path + url.search, input });
    const drop = this.drop(req.method, path);
    const [status, answer] = drop === true ? [] : await this.#answer(req, path, url, input);
    // With headers on their way the browser does not quietly send the request again.
    if (drop) {
      res.writeHead(200, { "Content-Length": 1000 });
      res.flushHeaders();
      return setTimeout(() => res.destroy(), 50);
    }
    res.writeHead(status, { "Content-Type": status < 400 ? "application/json" : "application/problem+json", ...(status === 429 ? { "Retry-After": "7" } : {}) });
    res.end(status === 204 ? undefined : JSON.stringify(answer));
  }

  #proxy(req, res) {
    const to = new URL(this.pagesURL);
    const out = http.request({ host: to.hostname, port: to.port, path: req.url, method: req.method, headers: req.headers }, (back) => {
      res.writeHead(back.statusCode, back.headers);
      back.pipe(res);
    });
    out.on("error", () => res.destroy());
    req.pipe(out);
  }

  #problem(status, code) {
    return [status, { type: "about:blank", title: "Not allowed", status, detail: `Refused: ${code}.`, code, next_step: "Do something else.", instance: "r1" }];
  }

  async #answer(req, path, url, input) {
    const at = `${req.method} ${path}`;
    if (at === "POST /claims") return this.#claim(input);
    if (at === "POST /sessions/options") return [200, { challenge_token: "t", public_key: this.#request() }];
    if (at === "POST /sessions") return (this.session = true), [204];
    if (at === "DELETE /sessions") return (this.session = false), [204];
    if (at === "GET /history") return this.session ? [200, { items: this.history }] : this.#problem(401, "session_required");
    if (at === "GET /devices") return this.session ? [200, { items: this.devices }] : this.#problem(401, "session_required");
    const [, , id, act] = path.split("/");
    const order = this.orders.get(id);
    if (!order) return this.#problem(404, "order_not_found");
    const token = input.claim_token ?? (req.headers.authorization ?? "").replace("Claim ", "");
    if (token !== order.claim.claim_token) return this.#problem(403, "order_wrong_claim");
    return this.#act(act, order, input, url);
  }

  async #act(act, order, input, url) {
    switch (act) {
      case undefined:
        if (url.searchParams.has("wait") && ["scanned", "approved"].includes(order.state)) {
          await new Promise((go) => { order.waiting.push(go); setTimeout(go, Number(url.searchParams.get("wait")) * 1000).unref(); });
        }
        return [200, { state: order.state, check: order.claim.check, end_reason: order.endReason }];
      case "options":
        order.leftOut = input.left_out;
        return [200, { public_key: order.claim.kind === "enrol" ? this.#creation() : this.#request() }];
      case "approve":
        if (this.refuseApprove) return this.#problem(403, this.refuseApprove);
        if (order.claim.check?.required && !order.claim.check.passed) return this.#problem(409, "order_check_needed");
        order.state = order.claim.kind === "sign" ? "completed" : "approved";
        order.assertion = input.assertion;
        this.wake(order);
        return [200, { state: "approved", device: { name: "iPhone" }, ...(order.claim.source === "same_device" ? { next: `/o/${order.claim.order}/return` } : {}) }];
      case "credential":
        order.credential = input;
        return [200, { state: "scanned" }];
      case "reject":
        order.state = "rejected";
        order.reason = input.reason;
        this.wake(order);
        return [200, { state: "rejected" }];
    }
    return this.#problem(404, "not_found");
  }

  #claim(input) {
    if (input.claim_token) {
      const order = this.orders.get(input.order);
      if (!order || order.claim.claim_token !== input.claim_token) return this.#problem(403, "order_wrong_claim");
      return [200, order.claim];
    }
    const name = input.frame ? input.frame.split("/q/")[1] : input.code ? (input.code === "12345678" ? "login" : "code") : "same";
    if (name === "code") return this.#problem(404, "code_unknown");
    if (name === "same" && input.order.startsWith("foreign")) return this.#problem(403, "order_wrong_browser");
    if (refusals[name]) return this.#problem(...refusals[name]);
    const order = { claim: this.#order(name, input), state: "scanned", waiting: [], name };
    this.orders.set(order.claim.order, order);
    this.last = order;
    return [200, order.claim];
  }

  #order(name, input) {
    const now = Date.now();
    const sign = /^(sign|batch)/.test(name);
    const enrol = name.startsWith("enrol");
    const check = name.endsWith("check") || enrol;
    return {
      order: input.order ?? randomBytes(16).toString("base64url"), kind: enrol ? "enrol" : sign ? "sign" : "login",
      claim_token: randomBytes(32).toString("base64url"),
      expires_at: new Date(now + (name === "short" ? 2000 : 180_000)).toISOString(), server_time: new Date(now).toISOString(),
      agency: { name: names.ministry },
      client: { name: sign ? names.oa : names.tax, host: sign ? "oa.example.gov.tw" : "efiling.example.gov.tw" },
      text: sign ? "請核對後簽署。" : name === "text" ? "<b>綜合所得稅</b>\n申報 ‮txt" : "",
      ...(sign || enrol ? {} : { data: ["openid", "profile", "national_id"] }),
      ...(sign ? { documents: documents(name.startsWith("batch") ? 3 : 1) } : {}),
      started: { browser: "Edge", os: "Windows", country: "TW", at: new Date(now - 20_000).toISOString(), ip_class: "other" },
      source: input.source, acr: "urn:sealgate:acr:qr",
      check: { required: check, digits: check ? "47" : undefined, passed: false },
      public_key: enrol ? this.#creation() : this.#request(),
      ...(enrol ? { enrol: { masked_name: "王○明" } } : {}),
    };
  }

  #request() {
    return { challenge: randomBytes(32).toString("base64url"), rpId: "localhost", timeout: 120_000, userVerification: "required", allowCredentials: [] };
  }

  #creation() {
    return {
      challenge: randomBytes(32).toString("base64url"), rp: { id: "localhost", name: "行動身分" },
      user: { id: randomBytes(32).toString("base64url"), name: "王○明", displayName: "王○明" },
      pubKeyCredParams: [{ type: "public-key", alg: -7 }, { type: "public-key", alg: -257 }], timeout: 120_000, attestation: "direct",
      authenticatorSelection: { residentKey: "required", requireResidentKey: true, userVerification: "required" },
    };
  }
}
