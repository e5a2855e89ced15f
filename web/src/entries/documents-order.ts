// /documents/orders/{order}: points of official documents on their way to being
// signed, then what became of each.

import { Panel } from "../desk/panel";
import { over, type OrderState } from "../desk/follow";
import { offer } from "../desk/nearby";
import { showDocuments } from "../desk/documents";
import { say } from "../desk/live";
import { block, name, t } from "../shared/texts";

const page = block<{ state: OrderState; frame?: string; site: Record<string, string>; live: boolean }>("page");
interface Point { key: string; state: "out" | "attached" | "left_out" | "lost" | "void"; word: string; why: string }
const tones: Record<string, string> = { attached: "ok", left_out: "warn", lost: "danger", void: "danger" };
const pollEvery = 1000;
const polls = 60;
let asked = false;

/** Takes over what this very page, asked for again, says of each point; true when all is known. */
async function look(): Promise<boolean> {
  const answer = await fetch(location.href, { credentials: "same-origin", cache: "no-store" }).catch(() => undefined);
  // Its data block is all that is read of it: nothing is parsed as HTML.
  const data = answer?.ok ? /<script type="application\/json" id="points">(.*?)<\/script>/s.exec(await answer.text())?.[1] : undefined;
  if (!data) return false;
  const points = JSON.parse(data) as Point[];
  for (const p of points) {
    const row = document.querySelector<HTMLElement>(`[data-point="${p.key}"]`);
    if (!row) continue;
    row.dataset["state"] = p.state;
    const badge = row.querySelector<HTMLElement>("[data-word]")!;
    badge.textContent = p.word;
    badge.className = `badge ${tones[p.state] ?? ""}`.trim();
    const why = row.querySelector<HTMLElement>("[data-why]")!;
    why.textContent = p.why;
    why.hidden = !p.why;
  }
  return points.every((p) => p.state !== "out");
}

/** Asks what became of the points until it is known of each. */
async function settle(): Promise<void> {
  for (let i = 0; i < polls; i++) {
    if (await look()) {
      const all = document.querySelectorAll("[data-point]").length;
      const done = document.querySelectorAll("[data-point][data-state=attached]").length;
      say(done === all ? t("inbox.result.all", { n: done }) : t("inbox.result.partly", { a: done, b: all - done }));
      return;
    }
    await new Promise((next) => setTimeout(next, pollEvery));
  }
  say(t("inbox.result.slow"));
}

new Panel({
  state: page.state, frame: page.frame || "", site: name(page.site), live: page.live !== false, leave: false,
  changed: (s) => {
    showDocuments(s, false);
    if (over(s) && page.live !== false && !asked) {
      asked = true;
      void settle();
    }
  },
});
if (page.live !== false && page.state.state === "created") void offer(page.state.order, () => undefined);
