// /app/scan: the camera scanner. The camera is never started without a press.

import { browserName, gate } from "../environment";
import { Camera, CameraError } from "../camera";
import type { CameraFailure } from "../camera";
import { actions, announce, button, h, heading, link, notice, show, title } from "../dom";
import { take } from "../order";
import { page, t } from "../texts";
import { registerWorker } from "../worker-registration";

const hintAfter = 10_000;
const foreignAgain = 4000;

let camera: Camera | undefined;

function intro(focus = false): void {
  camera?.close();
  show(
    { state: t("scan.title"), say: "", focus },
    heading(t("scan.title")),
    h("p", {}, t("scan.intro")),
    actions(button(t("scan.open"), () => void open(), "primary"), link(t("common.code"), "/app/code")),
    h("p", { class: "app-hint" }, t("home.intro")),
  );
}

async function open(): Promise<void> {
  const video = h("video", { class: "app-video", playsinline: true, muted: true, "aria-label": t("scan.video") });
  video.muted = true;
  const hint = h("p", { class: "app-hint" }, t("scan.aim"));
  const foreign = h("p", { class: "app-error" });
  show(
    { state: t("scan.starting"), focus: true, say: t("scan.starting") },
    heading(t("scan.title")),
    h("div", { class: "app-viewfinder" }, video),
    foreign, hint,
    actions(button(t("scan.stop"), () => intro(true)), link(t("common.code"), "/app/code")),
  );
  camera?.close();
  const assets = page().assets ?? {};
  camera = new Camera(video, { worker: assets["worker"] ?? "", wasm: assets["wasm"] ?? "" });
  try {
    await camera.open();
  } catch (err) {
    return refused(err instanceof CameraError ? err.failure : "none");
  }
  title(t("scan.title"));
  announce(t("scan.aim"));
  const slow = setTimeout(() => {
    hint.textContent = t("scan.hint");
    announce(t("scan.hint"));
  }, hintAfter);
  let lastForeign = 0;
  await camera.scan((text) => {
    const frame = ownFrame(text);
    if (frame) {
      camera?.close();
      announce(t("scan.found"));
      void take({ frame, source: "scanner" }, true);
      return true;
    }
    if (Date.now() - lastForeign > foreignAgain) {
      lastForeign = Date.now();
      foreign.textContent = t("scan.foreign");
      announce(t("scan.foreign"), true);
    }
    return false;
  });
  clearTimeout(slow);
}

/** ownFrame accepts only links of this host to /q/: what a code says is never opened. */
function ownFrame(text: string): string | undefined {
  if (text.length > 200) return undefined;
  try {
    const url = new URL(text);
    return url.origin === location.origin && /^\/q\/[\w.-]+$/.test(url.pathname) ? url.origin + url.pathname : undefined;
  } catch {
    return undefined;
  }
}

function refused(failure: CameraFailure): void {
  const texts: Record<CameraFailure, [string, string]> = {
    refused: ["scan.refused", "CAM-01"], none: ["scan.none", "CAM-02"], busy: ["scan.busy", "CAM-03"], decoder: ["scan.decoder", "CAM-04"],
  };
  const [key, code] = texts[failure];
  notice({
    tone: "warn", title: t(`${key}.title`), text: t(`${key}.text`, { browser: browserName() }), code, focus: true,
    actions: failure === "none" || failure === "decoder"
      ? [link(t("common.code"), "/app/code", "primary"), button(t("common.again"), () => void open())]
      : [button(t("common.again"), () => void open(), "primary"), link(t("common.code"), "/app/code")],
  });
}

if (gate()) intro();
addEventListener("pagehide", () => camera?.close());
registerWorker();
