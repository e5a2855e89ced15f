// The administrators' console: passkey ceremonies. What refreshes itself is
// htmx's; everything else is plain forms.
import "htmx.org";
import { byId, on, say } from "../desk/live";
import { post, Problem } from "../shared/api";
import { clock } from "../shared/format";
import { block, t } from "../shared/texts";
import { CeremonyError, createCredential, getAssertion, type OptionsJSON } from "../shared/webauthn";

interface Page {
  kind?: string;
  ticket?: string;
  statement?: string;
  public_key?: OptionsJSON;
  act?: string;
}
interface Options {
  ticket: string;
  statement?: string;
  public_key: OptionsJSON;
}
type Next = { next?: string; link?: string };

const page = document.getElementById("page") ? block<Page>("page") : {};

function fail(text: string, next: string, code: string): void {
  const box = byId("console-error");
  if (!box) return;
  byId("console-error-title")!.textContent = text;
  byId("console-error-next")!.textContent = next;
  byId("console-error-code")!.textContent = `${code}・${clock(Date.now())}`;
  box.hidden = false;
  box.focus();
}

async function busy(id: string, run: () => Promise<void>): Promise<void> {
  const b = byId<HTMLButtonElement>(id);
  if (b?.getAttribute("aria-disabled") === "true") return;
  b?.setAttribute("aria-disabled", "true");
  const box = byId("console-error");
  if (box) box.hidden = true;
  say(t("console.ceremony.wait"));
  try {
    await run();
  } catch (e) {
    if (e instanceof CeremonyError) fail(t(`console.ceremony.${e.failure}`), t(`console.ceremony.${e.failure}.next`), e.failure);
    else if (e instanceof Problem) fail(e.body.detail ?? t("console.ceremony.offline"), e.body.next_step ?? t("console.ceremony.offline.next"), e.code);
    else throw e;
    say("");
  } finally {
    b?.removeAttribute("aria-disabled");
  }
}

async function signIn(): Promise<void> {
  const o = await post<Options>("/admin/sign-in/options");
  const assertion = await getAssertion(o.public_key);
  const done = await post<Next>("/admin/sign-in", { ticket: o.ticket, assertion });
  location.assign(done.next ?? "/admin");
}

/** The statement on the page is approved with the options made for it. They
 *  serve once: after a refusal the page is loaded again by going back. */
async function approve(): Promise<void> {
  const assertion = await getAssertion(page.public_key!);
  const done = await post<Next>("/admin/approve", { act: page.act ?? "", ticket: page.ticket, statement: page.statement, assertion });
  if (done.link) {
    byId("approve-ask")!.hidden = true;
    byId<HTMLInputElement>("invite-link")!.value = done.link;
    byId("approve-link")!.hidden = false;
    byId("link-title")!.focus();
    return;
  }
  location.assign(done.next ?? "/admin");
}

async function join(): Promise<void> {
  const token = location.hash.slice(1);
  const o = await post<Options>("/admin/join/options", { token, name: byId<HTMLInputElement>("join-name")!.value });
  const credential = await createCredential(o.public_key);
  const done = await post<Next>("/admin/join", {
    token, ticket: o.ticket, statement: o.statement, credential, passkey_name: byId<HTMLInputElement>("join-passkey")!.value,
  });
  location.replace(done.next ?? "/admin");
}

async function look(): Promise<void> {
  const invite = await post<{ name: string; roles: string[] }>("/admin/join/look", { token: location.hash.slice(1) });
  const input = byId<HTMLInputElement>("join-name")!;
  if (invite.name) {
    input.value = invite.name;
    input.readOnly = true;
  }
  byId("join-roles")!.textContent = invite.roles.map((r) => t(`console.role.${r}`)).join("、");
  byId("join-form")!.hidden = false;
  say("");
}

if (page.kind === "sign-in") on("sign-in", "click", () => void busy("sign-in", signIn));
if (page.kind === "join") {
  void busy("join-button", look);
  on("join-form", "submit", (e) => {
    e.preventDefault();
    void busy("join-button", join);
  });
}
on("approve-button", "click", () => void busy("approve-button", approve));
