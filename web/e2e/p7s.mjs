// Verifies detached .p7s files with a CMS library that is not ours:
//   node p7s.mjs anchor.der signature.p7s document [signature.p7s document …]
// Prints one line a pair: "good" with the number of signers, or "bad" with a
// reason. A file counts as good only when every signer in it does.
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

async function judge(signature, document, trustedCerts) {
  const info = new pkijs.ContentInfo({ schema: parse(await bytes(signature)) });
  const signed = new pkijs.SignedData({ schema: info.content });
  const data = await bytes(document);
  if (signed.signerInfos.length === 0) throw new Error("no signer");
  for (let signer = 0; signer < signed.signerInfos.length; signer++) {
    const r = await signed.verify({ signer, data, trustedCerts, checkChain: true, extendedMode: true });
    if (!r.signatureVerified || !r.signerCertificateVerified) throw new Error(r.message || "not verified");
  }
  return signed.signerInfos.length;
}

const [anchor, ...pairs] = process.argv.slice(2);
const trusted = [new pkijs.Certificate({ schema: parse(await bytes(anchor)) })];
for (let i = 0; i + 1 < pairs.length; i += 2) {
  try {
    console.log(`good ${await judge(pairs[i], pairs[i + 1], trusted)}`);
  } catch (e) {
    console.log(`bad ${String(e?.message ?? e).split("\n")[0]}`);
  }
}
