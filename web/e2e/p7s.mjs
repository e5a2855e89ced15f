// Verifies a detached .p7s with a CMS library that is not ours:
//   node p7s.mjs signature.p7s document anchor.der…
// Prints one line a signer, "good" or "bad" with a reason; the exit status is 0
// only when all are good.
import { readFile } from "node:fs/promises";
import { webcrypto } from "node:crypto";
import * as asn1js from "asn1js";
import * as pkijs from "pkijs";

pkijs.setEngine("node", new pkijs.CryptoEngine({ name: "node", crypto: webcrypto }));

const bytes = async (path) => {
  const b = await readFile(path);
  return b.buffer.slice(b.byteOffset, b.byteOffset + b.byteLength);
};
const parse = (der) => {
  const { result, offset } = asn1js.fromBER(der);
  if (offset !== der.byteLength) throw new Error("not one DER element");
  return result;
};

const [signature, document, ...anchors] = process.argv.slice(2);
const info = new pkijs.ContentInfo({ schema: parse(await bytes(signature)) });
const signed = new pkijs.SignedData({ schema: info.content });
const data = await bytes(document);
const trustedCerts = await Promise.all(anchors.map(async (path) => new pkijs.Certificate({ schema: parse(await bytes(path)) })));

let bad = signed.signerInfos.length === 0;
for (let signer = 0; signer < signed.signerInfos.length; signer++) {
  try {
    const r = await signed.verify({ signer, data, trustedCerts, checkChain: true, extendedMode: true });
    console.log(r.signatureVerified && r.signerCertificateVerified ? "good" : `bad: ${r.message}`);
    bad ||= !(r.signatureVerified && r.signerCertificateVerified);
  } catch (e) {
    console.log(`bad: ${e.message ?? e}`);
    bad = true;
  }
}
process.exitCode = bad ? 1 : 0;
