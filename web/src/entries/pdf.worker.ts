// Prepares a PDF for a signature inside it: package pades of the server, as
// WebAssembly, reads the file piece by piece. Nothing of the file goes anywhere.

import "go-wasm-glue";

interface Job {
  id: number;
  file: File;
  program: string;
}

/** What signs the document: an addition to it, with a place for the signature. */
export interface Prepared {
  update: Uint8Array;
  digest: Uint8Array;
  hole: [number, number];
}

export type Answer = { id: number; prepared?: Prepared; error?: string };

type Prepare = (read: (at: number, n: number) => Uint8Array, size: number) => Prepared | { error: string };

const scope = self as unknown as DedicatedWorkerGlobalScope & { sealgatePreparePDF: Prepare };

declare const Go: new () => { importObject: WebAssembly.Imports; run(i: WebAssembly.Instance): Promise<void> };

let started: Promise<Prepare> | undefined;

async function load(program: string): Promise<Prepare> {
  const go = new Go();
  const { instance } = await WebAssembly.instantiateStreaming(fetch(program), go.importObject);
  void go.run(instance);
  return scope.sealgatePreparePDF;
}

function start(program: string): Promise<Prepare> {
  started ??= load(program);
  started.catch(() => (started = undefined)); // the next one tries again
  return started;
}

async function run({ id, file, program }: Job): Promise<Answer> {
  const prepare = await start(program);
  const reader = new FileReaderSync();
  const made = prepare((at, n) => new Uint8Array(reader.readAsArrayBuffer(file.slice(at, at + n))), file.size);
  return "error" in made ? { id, error: made.error } : { id, prepared: made };
}

let queue = Promise.resolve();
scope.addEventListener("message", (e: MessageEvent<Job>) => {
  const { id } = e.data;
  queue = queue.then(() => run(e.data)).catch((): Answer => ({ id, error: "" })).then((answer) => scope.postMessage(answer));
});
