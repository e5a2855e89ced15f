// The list of documents of a sign order: each row carries its state, and its
// signature once there is one.

import { say } from "./live";
import { t } from "../shared/texts";
import type { OrderState } from "./follow";

/** Shows the documents' states; the sum is said at the end unless the page says another. */
export function showDocuments(state: OrderState, tell = true): void {
  for (const d of state.documents ?? []) {
    const row = document.querySelector<HTMLElement>(`[data-document="${d.index}"]`);
    if (!row) continue;
    const word = d.state === "pending" && state.state === "approved" ? "signing" : d.state;
    row.dataset["state"] = word;
    const badge = row.querySelector(".badge");
    if (badge) {
      badge.textContent = t(`sign.state.${word}`);
      badge.className = `badge ${word === "signed" ? "ok" : word === "failed" ? "danger" : word === "left_out" ? "warn" : ""}`.trim();
    }
    const link = row.querySelector<HTMLElement>("[data-download]");
    if (link) link.hidden = d.state !== "signed";
  }
  if (tell && state.kind === "sign" && state.state === "completed") {
    const signed = state.documents?.filter((d) => d.state === "signed").length ?? 0;
    const not = (state.documents?.length ?? 0) - signed;
    setTimeout(() => say(not ? t("sign.partly", { a: signed, b: not }) : t("sign.all", { n: signed })), 0);
  }
}
