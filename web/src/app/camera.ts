// The camera and the reading of its pictures. Nothing leaves the phone: a
// picture is decoded in this page (native detector) or in our worker.

export type CameraFailure = "refused" | "none" | "busy" | "decoder";

export class CameraError extends Error {
  constructor(readonly failure: CameraFailure, cause?: unknown) {
    super(failure, { cause });
    this.name = "CameraError";
  }
}

/** Decoder reads the QR codes of one picture. */
type Decoder = { read(video: HTMLVideoElement): Promise<string | undefined>; close(): void };

export type Assets = { worker: string; wasm: string };

// About 8 pictures a second: quick to the eye, and light on an old phone.
const interval = 120;
const longestSide = 1280;

export class Camera {
  private stream: MediaStream | undefined;
  private decoder: Decoder | undefined;
  private running = false;

  constructor(private readonly video: HTMLVideoElement, private readonly assets: Assets) {}

  /** open asks for the camera; it throws CameraError. */
  async open(): Promise<void> {
    if (!navigator.mediaDevices?.getUserMedia) throw new CameraError("none");
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({
        audio: false,
        video: { facingMode: { ideal: "environment" }, width: { ideal: 1280 }, height: { ideal: 720 } },
      });
    } catch (err) {
      throw new CameraError(failureOf(err), err);
    }
    this.video.srcObject = this.stream;
    await this.video.play().catch(() => undefined);
    try {
      this.decoder = (await nativeDecoder()) ?? (await workerDecoder(this.assets));
    } catch (err) {
      this.close();
      throw new CameraError("decoder", err);
    }
  }

  /** scan calls found with each code it reads until found gives true or the camera is closed. */
  async scan(found: (text: string) => boolean): Promise<void> {
    this.running = true;
    while (this.running && this.decoder) {
      const started = performance.now();
      if (this.video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA) {
        let text: string | undefined;
        try {
          text = await this.decoder.read(this.video);
        } catch {
          // One bad picture (camera just turned, tab hidden) is no reason to stop.
        }
        if (this.running && text && found(text)) return;
      }
      await new Promise((next) => setTimeout(next, Math.max(20, interval - (performance.now() - started))));
    }
  }

  /** close turns the camera off; its light goes out. */
  close(): void {
    this.running = false;
    this.decoder?.close();
    this.decoder = undefined;
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = undefined;
    this.video.srcObject = null;
  }
}

function failureOf(err: unknown): CameraFailure {
  switch (err instanceof Error || err instanceof DOMException ? err.name : "") {
    case "NotAllowedError":
    case "SecurityError":
      return "refused";
    case "NotReadableError":
    case "AbortError":
      return "busy";
    default:
      return "none";
  }
}

type NativeDetector = { detect(source: CanvasImageSource): Promise<{ rawValue: string }[]> };
type NativeDetectorClass = {
  new (options: { formats: string[] }): NativeDetector;
  getSupportedFormats(): Promise<string[]>;
};

async function nativeDecoder(): Promise<Decoder | undefined> {
  const detectorClass = (globalThis as { BarcodeDetector?: NativeDetectorClass }).BarcodeDetector;
  if (!detectorClass) return undefined;
  try {
    if (!(await detectorClass.getSupportedFormats()).includes("qr_code")) return undefined;
    const detector = new detectorClass({ formats: ["qr_code"] });
    return { read: async (video) => (await detector.detect(video))[0]?.rawValue, close: () => undefined };
  } catch {
    return undefined;
  }
}

async function workerDecoder(assets: Assets): Promise<Decoder> {
  const worker = new Worker(assets.worker);
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("no canvas");
  const ask = (message: unknown, transfer: Transferable[] = []) =>
    new Promise<string | undefined>((resolve, reject) => {
      worker.onmessage = (e: MessageEvent<{ text?: string; error?: string }>) =>
        e.data.error ? reject(new Error(e.data.error)) : resolve(e.data.text);
      worker.onerror = (e) => reject(new Error(e.message || "worker"));
      worker.postMessage(message, transfer);
    });
  await ask({ wasm: new URL(assets.wasm, location.href).href });
  return {
    read: (video) => {
      const scale = Math.min(1, longestSide / Math.max(video.videoWidth, video.videoHeight, 1));
      canvas.width = Math.round(video.videoWidth * scale);
      canvas.height = Math.round(video.videoHeight * scale);
      if (!canvas.width || !canvas.height) return Promise.resolve(undefined);
      context.drawImage(video, 0, 0, canvas.width, canvas.height);
      const picture = context.getImageData(0, 0, canvas.width, canvas.height);
      return ask({ picture }, [picture.data.buffer]);
    },
    close: () => worker.terminate(),
  };
}
