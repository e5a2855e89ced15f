// The phone's own session: history and devices are shown to the citizen whose
// credential signed in here. The session itself is a cookie that scripts cannot read.

import * as api from "../shared/device-api";
import { CeremonyError, forget, getAssertion } from "../shared/webauthn";
import { actions, announce, busy, button, h, heading, link, notice, show } from "./dom";
import { showError } from "./refusals";
import { t } from "./texts";

/** withSession loads something that needs the session, and asks to sign in when there is none. */
export async function withSession<T>(name: string, load: () => Promise<T>, render: (value: T, byPress: boolean) => void, byPress = false): Promise<void> {
  const done = busy(t("common.loading"));
  const again = () => void withSession(name, load, render, true);
  try {
    render(await load(), byPress);
  } catch (err) {
    if (err instanceof api.Problem && err.status === 401) signIn(name, again, byPress);
    else showError(err, again, byPress);
  } finally {
    done();
  }
}

function signIn(name: string, then: () => void, focus: boolean): void {
  const open = button(t("session.open"), () => void run(), "primary");
  const run = async () => {
    if (open.getAttribute("aria-disabled") === "true") return;
    open.setAttribute("aria-disabled", "true");
    announce(t("order.before"));
    try {
      const { challenge_token, public_key } = await api.sessionOptions();
      const assertion = await getAssertion(public_key);
      try {
        await api.openSession(challenge_token, assertion);
      } catch (err) {
        // The server does not know it: a phone that was removed or replaced.
        if (err instanceof api.Problem && err.code === "device_unknown") forget(String(public_key["rpId"] ?? location.hostname), [String(assertion["id"])]);
        throw err;
      }
      then();
    } catch (err) {
      if (!(err instanceof CeremonyError)) return showError(err, then, true);
      failed(name, err, then);
    }
  };
  show({ state: name, focus, say: t("session.text") }, heading(name), h("p", {}, t("session.text")), actions(open));
}

function failed(name: string, err: CeremonyError, then: () => void): void {
  const again = button(t("common.again"), () => signIn(name, then, true), "primary");
  const keys: Partial<Record<CeremonyError["failure"], [string, string]>> = {
    no_key: ["no_key", "KEY-01"], lock_missing: ["lock", "KEY-02"], wrong_host: ["host", "KEY-04"], timeout: ["timeout", "KEY-05"], cancelled: ["cancelled", "KEY-06"],
  };
  const [key, code] = keys[err.failure] ?? ["other", "KEY-09"];
  notice({
    tone: "warn", title: t(`fail.${key}.title`), text: t(`fail.${key}.text`), code, focus: true,
    actions: key === "no_key" ? [again, link(t("fail.no_key.bind"), "/enrol"), link(t("fail.no_key.changed"), "/lost")] : [again],
  });
}

/** signOut is the button at the foot of the pages that need a session. */
export function signOut(name: string, then: () => void): HTMLElement {
  return actions(button(t("session.close"), () => {
    api.closeSession().then(
      () => {
        signIn(name, then, true);
        announce(t("session.closed"));
      },
      (err: unknown) => showError(err, then, true),
    );
  }));
}
