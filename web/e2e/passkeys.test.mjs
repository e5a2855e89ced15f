// Passkeys that open nothing any more: the browser is told, where it can be, and
// the page goes on the same where it cannot.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { build } from "esbuild";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { createServer } from "node:http";
import { launch } from "./browser.mjs";

const source = join(dirname(fileURLToPath(import.meta.url)), "..", "src", "shared", "webauthn.ts");
let browser, server, origin, code;

before(async () => {
  const made = await build({ entryPoints: [source], bundle: true, write: false, format: "iife", globalName: "webauthn" });
  code = made.outputFiles[0].text;
  server = createServer((_, answer) => answer.setHeader("Content-Type", "text/html").end("<!doctype html><title>x</title>"));
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  origin = `http://localhost:${server.address().port}`;
  browser = await launch();
});
after(async () => { await browser?.close(); server?.close(); });

async function page() {
  const context = await browser.newContext();
  const one = await context.newPage();
  await one.goto(origin);
  await one.addScriptTag({ content: code });
  return [context, one];
}

test("a passkey that was removed leaves the authenticator, the others stay", async (t) => {
  const [context, one] = await page();
  const cdp = await context.newCDPSession(one);
  await cdp.send("WebAuthn.enable");
  const { authenticatorId } = await cdp.send("WebAuthn.addVirtualAuthenticator", { options: { protocol: "ctap2", ctap2Version: "ctap2_1",
    transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true } });
  const ids = await one.evaluate(async () => {
    const made = [];
    for (const n of [1, 2]) {
      const c = await navigator.credentials.create({ publicKey: { challenge: new Uint8Array(32), rp: { id: "localhost", name: "x" },
        user: { id: new Uint8Array(32).fill(n), name: `x${n}`, displayName: "x" }, pubKeyCredParams: [{ type: "public-key", alg: -7 }],
        authenticatorSelection: { residentKey: "required", userVerification: "required" } } });
      made.push(c.id);
    }
    return made;
  });
  const held = async () => (await cdp.send("WebAuthn.getCredentials", { authenticatorId })).credentials.map((c) => c.credentialId);
  assert.equal((await held()).length, 2);
  if (!(await one.evaluate(() => typeof PublicKeyCredential.signalUnknownCredential === "function"))) return t.skip("this browser has no signals");
  await one.evaluate((id) => webauthn.forget("localhost", [id]), ids[0]);
  const base64 = (id) => Buffer.from(id, "base64url").toString("base64");
  for (let i = 0; i < 50 && (await held()).length > 1; i++) await new Promise((r) => setTimeout(r, 50));
  assert.deepEqual(await held(), [base64(ids[1])]);
  await context.close();
});

test("browsers without it, or that refuse, make no difference", async () => {
  const [context, one] = await page();
  const calls = await one.evaluate(async () => {
    const calls = [];
    const stub = (f) => Object.defineProperty(PublicKeyCredential, "signalUnknownCredential", { value: f, configurable: true, writable: true });
    addEventListener("unhandledrejection", () => calls.push("unhandled"));
    stub(undefined);
    webauthn.forget("localhost", ["a"]);
    stub(() => { throw new TypeError("no"); });
    webauthn.forget("localhost", ["a", "b"]);
    stub(() => undefined);
    webauthn.forget("localhost", ["a"]);
    stub((o) => { calls.push(`${o.rpId} ${o.credentialId}`); return Promise.reject(new Error("no")); });
    webauthn.forget("localhost", ["a", "b"]);
    stub(() => new Promise(() => undefined));
    webauthn.forget("localhost", ["never answers"]);
    await new Promise((r) => setTimeout(r, 50));
    return calls;
  });
  assert.deepEqual(calls, ["localhost a", "localhost b"]);
  await context.close();
});
