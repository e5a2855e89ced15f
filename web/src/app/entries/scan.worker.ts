// Reads QR codes off the main thread. The page sends the address of the
// WebAssembly file once, then one picture at a time.

import { prepareZXingModule, readBarcodes } from "zxing-wasm/reader";

type Message = { wasm?: string; picture?: ImageData };

const scope = self as unknown as {
  onmessage: ((event: MessageEvent<Message>) => void) | null;
  postMessage(answer: { text?: string; error?: string }): void;
};

scope.onmessage = (event) => {
  handle(event.data).then(
    (text) => scope.postMessage(text === undefined ? {} : { text }),
    (err: unknown) => scope.postMessage({ error: String(err) }),
  );
};

async function handle(message: Message): Promise<string | undefined> {
  if (message.wasm) {
    const address = message.wasm;
    // Without this the library would fetch its code from a public CDN.
    await prepareZXingModule({ overrides: { locateFile: () => address }, fireImmediately: true });
    return undefined;
  }
  if (!message.picture) return undefined;
  const found = await readBarcodes(message.picture, { formats: ["QRCode"], maxNumberOfSymbols: 1, tryInvert: false });
  return found[0]?.text;
}
