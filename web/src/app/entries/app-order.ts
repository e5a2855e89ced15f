// /q/{frame} (a link from the phone's camera) and /app/order/{oid}.
// Opening the page changes nothing on the server: this script takes the order.

import { gate } from "../environment";
import { kept } from "../claims";
import { take } from "../order";
import { page } from "../texts";
import { registerWorker } from "../worker-registration";

const { frame, order } = page();

if (gate()) {
  if (frame) {
    void take({ frame: `${location.origin}${location.pathname}`, source: "link" }, false);
  } else if (order) {
    const held = kept(order);
    void take(held ? { order, claim_token: held.token } : { order, source: "same_device" }, false);
  }
}
registerWorker();
