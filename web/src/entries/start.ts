// /start/{order}#token: opens an order that was made over the API in this
// browser. The token stands in the fragment, which no server ever sees in a log.

import { post, Problem } from "../shared/api";
import { block, t } from "../shared/texts";
import { byId, say } from "../desk/live";

const { order } = block<{ order: string }>("page");
const token = location.hash.slice(1);
history.replaceState(null, "", location.pathname);

async function open(): Promise<void> {
  try {
    await post(`/o/${order}/open`, { start_token: token });
    location.replace(`/o/${order}`);
  } catch (e) {
    if (!(e instanceof Problem)) throw e;
    const box = byId("failed");
    if (box) box.hidden = false;
    byId("waiting")?.remove();
    const text = [e.body.detail ?? t("qr.offline"), e.body.next_step].filter(Boolean).join(" ");
    byId("failed-text")!.textContent = text;
    say(text, true);
  }
}

void open();
