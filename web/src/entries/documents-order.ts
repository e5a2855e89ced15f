// /documents/orders/{order}: points of official documents on their way to being
// signed, then what became of each.

import { Panel } from "../desk/panel";
import { over, type OrderState } from "../desk/follow";
import { offer } from "../desk/nearby";
import { showDocuments } from "../desk/documents";
import { say } from "../desk/live";
import { request } from "../shared/api";
import { block, name, t } from "../shared/texts";

interface Point { key: string; state: "out" | "attached" | "left_out" | "lost" | "void"; word: string; why?: string }

const page = block<{ state: OrderState; frame?: string; site: Record<string, string>; live: boolean; points: Point[] }>("page");
const tones: Record<string, string> = { attached: "ok", left_out: "warn", lost: "danger", void: "danger" };
const pollEvery = 1000;
const polls = 60;
let asked = false;

function show(points: Point[]): void {
  for (const p of points) {
    const row = document.querySelector<HTMLElement>(`[data-point="${p.key}"]`);
    if (!row) continue;
    row.dataset["state"] = p.state;
    const badge = row.querySelector<HTMLElement>("[data-word]")!;
    badge.textContent = p.word;
    badge.className = `badge ${tones[p.state] ?? ""}`.trim();
    const why = row.querySelector<HTMLElement>("[data-why]")!;
    why.textContent = p.why ?? "";
    why.hidden = !p.why;
  }
}

/** Asks what became of the points until it is known of each. */
async function settle(): Promise<void> {
  for (let i = 0; i < polls; i++) {
    const answer = await request<{ points: Point[] }>(`/documents/orders/${page.state.order}/progress`).catch(() => undefined);
    if (answer) {
      show(answer.points);
      if (answer.points.every((p) => p.state !== "out")) {
        const done = answer.points.filter((p) => p.state === "attached").length;
        say(done === answer.points.length ? t("inbox.result.all", { n: done }) : t("inbox.result.partly", { a: done, b: answer.points.length - done }));
        return;
      }
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
