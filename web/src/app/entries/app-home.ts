// /app: the start page is written by the server; this adds what only the phone knows.

import { kept } from "../claims";
import { offerInstall } from "../install";
import { remind } from "../renewal";
import { registerWorker } from "../worker-registration";

const held = kept();
const pending = document.getElementById("pending");
const none = document.getElementById("none");
if (held && pending) {
  pending.querySelector("a")?.setAttribute("href", `/app/order/${held.order}`);
  pending.hidden = false;
  if (none) none.hidden = true;
}
const ends = document.getElementById("renew");
if (ends) remind(ends);
const install = document.getElementById("install");
if (install) offerInstall(install);
registerWorker();
