// The part of /verify that reads files, apart from the page: digests piece by
// piece, however large a file is, and what signatures stand in a PDF.

import "go-wasm-glue";
import { createSHA1, createSHA224, createSHA256, createSHA384, createSHA512, type IHasher } from "hash-wasm";

const piece = 4 << 20;

type HashJob = { id: number; kind: "hash"; blobs: Blob[]; algorithms: string[] };
type PDFJob = { id: number; kind: "pdf"; file: Blob; wasm: string };

const makers: Record<string, () => Promise<IHasher>> = {
  "SHA-1": createSHA1, "SHA-224": createSHA224, "SHA-256": createSHA256, "SHA-384": createSHA384, "SHA-512": createSHA512,
};

const scope = self as unknown as DedicatedWorkerGlobalScope;

async function hash({ id, blobs, algorithms }: HashJob): Promise<void> {
  const hashers: Record<string, IHasher> = {};
  for (const a of algorithms) hashers[a] = await makers[a]!();
  for (const h of Object.values(hashers)) h.init();
  let done = 0;
  let last = 0;
  for (const blob of blobs) {
    for (let at = 0; at < blob.size; at += piece) {
      const bytes = new Uint8Array(await blob.slice(at, at + piece).arrayBuffer());
      for (const h of Object.values(hashers)) h.update(bytes);
      done += bytes.length;
      const now = Date.now();
      if (now - last > 100) {
        last = now;
        scope.postMessage({ id, read: done });
      }
    }
  }
  const digests: Record<string, Uint8Array> = {};
  for (const [a, h] of Object.entries(hashers)) digests[a] = h.digest("binary");
  scope.postMessage({ id, digests });
}

declare const Go: new () => { importObject: WebAssembly.Imports; run(i: WebAssembly.Instance): Promise<void> };

let reading: Promise<(read: (at: number, n: number) => Uint8Array, size: number) => string> | undefined;

async function pdfReader(wasm: string): Promise<(read: (at: number, n: number) => Uint8Array, size: number) => string> {
  const go = new Go();
  const { instance } = await WebAssembly.instantiateStreaming(fetch(wasm), go.importObject);
  void go.run(instance);
  return (self as unknown as { sealgatePDF: (read: (at: number, n: number) => Uint8Array, size: number) => string }).sealgatePDF;
}

async function pdf({ id, file, wasm }: PDFJob): Promise<void> {
  reading ??= pdfReader(wasm);
  const reader = new FileReaderSync();
  const signatures = await reading;
  const answer = signatures((at, n) => new Uint8Array(reader.readAsArrayBuffer(file.slice(at, at + n))), file.size);
  scope.postMessage({ id, pdf: JSON.parse(answer) as unknown });
}

// One job after the other, so that memory stays bounded.
let queue = Promise.resolve();
scope.addEventListener("message", (e: MessageEvent<HashJob | PDFJob>) => {
  const job = e.data;
  queue = queue.then(() => (job.kind === "pdf" ? pdf(job) : hash(job))).catch(() => scope.postMessage({ id: job.id, error: true }));
});
