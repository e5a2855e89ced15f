// The panel with the QR code on a registrar's page. What the registrar has to do
// beside it comes from the server every two seconds.
import { stateOf } from "../desk/follow";
import { Panel } from "../desk/panel";
import { block } from "../shared/texts";

const page = block<{ order: string }>("page");

void stateOf(page.order).then((state) => {
  new Panel({ state, frame: state.frame ?? "", site: "", live: true, leave: false });
});
