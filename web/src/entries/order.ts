// /o/{order}: a login or an agency's sign order on the computer where it began.

import { Panel } from "../desk/panel";
import { offer } from "../desk/nearby";
import type { OrderState } from "../desk/follow";
import { block, name } from "../shared/texts";
import { showDocuments } from "../desk/documents";

const page = block<{ state: OrderState; frame?: string; site: Record<string, string>; live: boolean; qr: boolean }>("page");
new Panel({
  state: page.state, frame: page.frame || "", site: name(page.site), live: page.live !== false,
  changed: (s) => showDocuments(s),
});
if (page.live !== false && page.state.state === "created") void offer(page.state.order, () => undefined);
