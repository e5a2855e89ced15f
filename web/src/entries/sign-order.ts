// /sign/{order}: own files on their way to being signed, then the signatures.

import { Panel } from "../desk/panel";
import type { OrderState } from "../desk/follow";
import { showDocuments } from "../desk/documents";
import { offerPDFs } from "../desk/pdf";
import { block, name } from "../shared/texts";

const page = block<{ state: OrderState; frame?: string; site: Record<string, string>; live: boolean }>("page");
new Panel({
  state: page.state, frame: page.frame || "", site: name(page.site), live: page.live !== false, leave: false,
  changed: (s) => showDocuments(s),
});
void offerPDFs(page.state.order);
