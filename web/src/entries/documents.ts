// /documents: official documents that wait. The forms work without this script;
// it counts, chooses all, and stops what the server would refuse.

import { say } from "../desk/live";
import { block, t } from "../shared/texts";

const most = block<{ most: number }>("page").most;

for (const form of document.querySelectorAll<HTMLFormElement>(".point-group")) {
  const boxes = [...form.querySelectorAll<HTMLInputElement>("input[name=point]")];
  const all = form.querySelector<HTMLInputElement>("[data-all]");
  const count = form.querySelector<HTMLElement>("[data-count]")!;
  const sign = form.querySelector<HTMLButtonElement>("[data-sign]")!;
  const chosen = () => boxes.filter((b) => b.checked);
  const documents = (of: HTMLInputElement[]) => of.reduce((n, b) => n + Number(b.dataset["documents"]), 0);
  const words = () => {
    const now = chosen();
    const params = { n: now.length, documents: documents(now), most };
    if (!now.length) return t("inbox.chosen.none");
    return t(params.documents > most ? "inbox.chosen.too_many" : "inbox.chosen", params);
  };
  const update = () => {
    const n = chosen().length;
    count.textContent = words();
    sign.setAttribute("aria-disabled", String(n === 0 || documents(chosen()) > most));
    if (all) {
      all.checked = n === boxes.length;
      all.indeterminate = n > 0 && n < boxes.length;
    }
  };
  // As many as one gesture may sign, from the oldest.
  all?.addEventListener("change", () => {
    let left = all.checked ? most : 0;
    for (const box of boxes) {
      const wants = Number(box.dataset["documents"]);
      box.checked = wants <= left;
      left -= box.checked ? wants : 0;
    }
    update();
    const some = all.indeterminate ? t("inbox.chosen.most", { most }) : "";
    if (some) count.textContent = `${count.textContent} ${some}`;
    say(count.textContent ?? "");
  });
  for (const box of boxes) box.addEventListener("change", update);
  form.addEventListener("submit", (e) => {
    if (sign.getAttribute("aria-disabled") !== "true") {
      // A second press would make a second order.
      setTimeout(() => sign.setAttribute("aria-disabled", "true"), 0);
      return;
    }
    e.preventDefault();
    say(words());
  });
  update();
}

// Coming back with the browser's own button: what was pressed can be pressed again.
addEventListener("pageshow", (e: PageTransitionEvent) => {
  if (e.persisted) location.reload();
});
