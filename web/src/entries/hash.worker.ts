// Computes SHA-256 of a file piece by piece: WebCrypto would need the whole
// file in memory, this needs one piece, however large the file is.

import { createSHA256 } from "hash-wasm";

const piece = 4 << 20;

interface Job {
  id: number;
  file: File;
}

const scope = self as unknown as DedicatedWorkerGlobalScope;
const stopped = new Set<number>();

async function run({ id, file }: Job): Promise<void> {
  const hash = await createSHA256();
  hash.init();
  let last = 0;
  for (let at = 0; at < file.size; at += piece) {
    if (stopped.delete(id)) return;
    hash.update(new Uint8Array(await file.slice(at, at + piece).arrayBuffer()));
    const now = Date.now();
    if (now - last > 100) {
      last = now;
      scope.postMessage({ id, read: Math.min(at + piece, file.size) });
    }
  }
  scope.postMessage({ id, digest: hash.digest("binary") });
}

// One file after the other, so that memory stays bounded.
let queue = Promise.resolve();
scope.addEventListener("message", (e: MessageEvent<Job | { id: number; stop: true }>) => {
  const job = e.data;
  if ("stop" in job) {
    stopped.add(job.id);
    return;
  }
  queue = queue.then(() => run(job)).catch(() => scope.postMessage({ id: job.id, error: true }));
});
