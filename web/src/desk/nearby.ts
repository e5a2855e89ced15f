// "Phone nearby": the computer's browser and the phone prove to each other that
// they are close (WebAuthn hybrid transport), which a picture cannot do.

import { post, Problem } from "../shared/api";
import { CeremonyError, getAssertion, type OptionsJSON } from "../shared/webauthn";
import { t } from "../shared/texts";
import { byId, on, say } from "./live";
import type { OrderState } from "./follow";

interface Capabilities {
  hybridTransport?: boolean;
}

/** Says whether this browser can reach for a phone. */
export async function able(): Promise<boolean> {
  if (typeof PublicKeyCredential !== "function") return false;
  const ask = (PublicKeyCredential as unknown as { getClientCapabilities?: () => Promise<Capabilities> }).getClientCapabilities;
  if (typeof ask !== "function") return false;
  try {
    return (await ask.call(PublicKeyCredential)).hybridTransport === true;
  } catch {
    return false;
  }
}

interface Claimed {
  claim_token: string;
  public_key: OptionsJSON;
}

/** Wires the button #nearby; it stays hidden where the browser cannot do it. */
export async function offer(order: string, done: (state: Partial<OrderState>) => void): Promise<void> {
  const box = byId("nearby-box");
  if (!box) return;
  if (!(await able())) {
    if (box.dataset["only"] === "yes") say(t("qr.nearby.unable"));
    return;
  }
  box.hidden = false;
  let claim: Claimed | undefined;
  on("nearby", "click", () => void run());

  const run = async (): Promise<void> => {
    const button = byId<HTMLButtonElement>("nearby")!;
    button.disabled = true;
    try {
      claim ??= await post<Claimed>("/api/device/v1/claims", { order, source: "hybrid" });
      say(t("qr.nearby.wait"));
      const assertion = await getAssertion({ ...claim.public_key, hints: ["hybrid"] });
      const outcome = await post<Partial<OrderState>>(`/api/device/v1/orders/${order}/approve`, {
        claim_token: claim.claim_token, assertion, left_out: [],
      });
      done(outcome);
    } catch (e) {
      if (e instanceof CeremonyError) say(t(e.failure === "timeout" ? "qr.nearby.timeout" : "qr.nearby.cancelled"));
      else if (e instanceof Problem) say([e.body.detail ?? t("qr.offline"), e.body.next_step].filter(Boolean).join(" "));
      else throw e;
    } finally {
      button.disabled = false;
    }
  };
}
