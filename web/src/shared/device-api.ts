// A typed client of the device API (/api/device/v1): what a phone may ask of
// the server. It is used by the phone pages, and by the desktop order page
// where the browser itself reaches for the phone (hybrid transport).

import type { CredentialJSON, OptionsJSON } from "./webauthn";

const base = "/api/device/v1";
// Longer than the server's own longest long poll (25 s).
const requestTimeout = 40_000;

/** A name in both languages of the service. */
export type Names = { "zh-Hant": string; en: string };

export type OrderKind = "login" | "sign" | "enrol";
export type OrderState =
  | "created" | "scanned" | "approved" | "completed" | "rejected" | "expired" | "cancelled" | "failed";
export type ClaimSource = "scanner" | "link" | "code" | "same_device" | "hybrid";
export type RejectReason = "not_me" | "changed_mind" | "fraud";

/** The two digits a person carries from the phone to the computer. */
export type Check = { required: boolean; digits?: string; passed?: boolean; tries_left?: number };

export type OrderDocument = {
  index: number;
  name: string;
  media_type: string;
  size: number;
  digest_algorithm: string;
  digest: string;
  digest_code: string;
  /** "raw" for records such as a point of approval; absent for files. */
  form?: string;
  earlier_signers?: string[];
};

/** Claim is the answer to the phone that took an order: all that is shown before approving. */
export type Claim = {
  order: string;
  kind: OrderKind;
  claim_token: string;
  expires_at: string;
  server_time: string;
  agency: { name: Names };
  client: { name: Names; host: string };
  text?: string;
  data?: string[];
  documents?: OrderDocument[];
  started?: { browser?: string; os?: string; country?: string; at?: string; ip_class?: string };
  source: ClaimSource;
  acr?: string;
  check?: Check;
  public_key: OptionsJSON;
  enrol?: { masked_name?: string; suggested_name?: string; proof?: "card" | "device" };
};

/** What a claim is asked for with; an order and its claim token ask again for the claim this phone holds. */
export type ClaimRequest =
  | { frame: string; source: "scanner" | "link" }
  | { code: string; source: "code" }
  | { order: string; source: "same_device" | "hybrid" }
  | { order: string; claim_token: string };

export type OrderStatus = { state: OrderState; check?: Check; end_reason?: string; wait_reason?: string; next?: string };
export type Outcome = { state: OrderState; device?: { id: string; name: string }; next?: string };

export type HistoryItem = {
  order: string;
  kind: OrderKind;
  state: OrderState;
  agency: { name: Names };
  client: { name: Names; host: string };
  at: string;
  device?: { id?: string; name?: string };
  documents?: { name: string; digest_code?: string; left_out?: boolean }[];
};

export type Device = {
  id: string;
  name: string;
  state: string;
  created_at: string;
  last_used_at?: string;
  this?: boolean;
  /** Why it is suspended, as a fixed word. */
  reason?: string;
  resumable?: boolean;
  /** Until then it is new, and trusted less. */
  cooldown_until?: string;
  /** The phone that added it; without a name when that is gone. */
  added_by?: { id: string; name?: string };
  certificate?: { not_after: string; state: string; renew?: boolean };
  /** Another authority is being asked for a certificate. */
  certificate_pending?: boolean;
  card?: { state: string; not_after: string };
};

/** A notice is told once on each of a person's phones. */
export type DeviceNotice = { id: string; kind: string; device: { id: string; name: string }; at: string };
export type Passkeys = { rp_id: string; ids: string[] };
export type DeviceList = { items: Device[]; notices: DeviceNotice[]; removed_passkeys?: Passkeys };
export type DeviceStep = "suspend" | "resume" | "remove";

/** Problem is a refusal by the server (RFC 9457). Its texts are in the page's language. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly title: string,
    readonly detail: string,
    readonly nextStep: string,
    readonly instance: string,
    readonly retryAfter: number,
  ) {
    super(code);
    this.name = "Problem";
  }
}

/** Unreachable means that no answer came: nobody knows whether the request arrived. */
export class Unreachable extends Error {
  constructor(cause: unknown) {
    super("unreachable", { cause });
    this.name = "Unreachable";
  }
}

type Call = { body?: unknown; token?: string; signal?: AbortSignal; keepalive?: boolean };

async function call<T>(method: string, path: string, { body, token, signal, keepalive }: Call = {}): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json, application/problem+json" };
  if (document.documentElement.lang) headers["Accept-Language"] = document.documentElement.lang;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (token) headers["Authorization"] = `Claim ${token}`;
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), requestTimeout);
  const stop = () => limit.abort();
  signal?.addEventListener("abort", stop);
  try {
    const response = await fetch(base + path, {
      method,
      headers,
      body: body === undefined ? null : JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
      redirect: "error",
      keepalive: keepalive ?? false,
      signal: limit.signal,
    });
    if (!response.ok) throw await problem(response);
    return (response.status === 204 ? undefined : await response.json()) as T;
  } catch (err) {
    throw err instanceof Problem ? err : new Unreachable(err);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
}

async function problem(response: Response): Promise<Problem> {
  let p: Record<string, unknown> = {};
  try {
    p = (await response.json()) as Record<string, unknown>;
  } catch {
    // A proxy in between may answer with a page; the status still tells enough.
  }
  const word = (name: string) => (typeof p[name] === "string" ? (p[name] as string) : "");
  return new Problem(
    response.status,
    word("code") || `http_${response.status}`,
    word("title"),
    word("detail"),
    word("next_step"),
    word("instance"),
    Number(response.headers.get("Retry-After")) || 0,
  );
}

const path = (order: string) => `/orders/${encodeURIComponent(order)}`;

export function claim(request: ClaimRequest): Promise<Claim> {
  return call("POST", "/claims", { body: request });
}

/** options gives fresh ceremony options, bound to the documents that are left out. */
export async function options(order: string, token: string, leftOut: number[]): Promise<OptionsJSON> {
  const answer = await call<{ public_key: OptionsJSON }>("POST", `${path(order)}/options`, {
    body: { claim_token: token, left_out: leftOut },
  });
  return answer.public_key;
}

export function approve(order: string, token: string, assertion: CredentialJSON, leftOut: number[]): Promise<Outcome> {
  return call("POST", `${path(order)}/approve`, { body: { claim_token: token, assertion, left_out: leftOut } });
}

export function credential(order: string, token: string, made: CredentialJSON, deviceName: string): Promise<Outcome> {
  return call("POST", `${path(order)}/credential`, {
    body: { claim_token: token, credential: made, device_name: deviceName },
  });
}

export function reject(order: string, token: string, reason: RejectReason): Promise<Outcome> {
  return call("POST", `${path(order)}/reject`, { body: { claim_token: token, reason }, keepalive: true });
}

/** status reads the order; with wait (seconds, at most 25) it answers when something changed. */
export function status(order: string, token: string, wait = 0, signal?: AbortSignal): Promise<OrderStatus> {
  return call("GET", path(order) + (wait ? `?wait=${wait}` : ""), { token, ...(signal ? { signal } : {}) });
}

export type SessionOptions = { challenge_token: string; public_key: OptionsJSON };

export function sessionOptions(): Promise<SessionOptions> {
  return call("POST", "/sessions/options", { body: {} });
}

export function openSession(challengeToken: string, assertion: CredentialJSON): Promise<unknown> {
  return call("POST", "/sessions", { body: { challenge_token: challengeToken, assertion } });
}

export function closeSession(): Promise<void> {
  return call("DELETE", "/sessions");
}

export async function history(): Promise<HistoryItem[]> {
  return list(await call("GET", "/history"), "history");
}

export async function devices(): Promise<DeviceList> {
  const answer = await call<Record<string, unknown>>("GET", "/devices");
  return { items: list(answer, "devices"), notices: (answer["notices"] ?? []) as DeviceNotice[], removed_passkeys: answer["removed_passkeys"] as Passkeys };
}

export function renameDevice(id: string, name: string): Promise<void> {
  return call("PATCH", `/devices/${encodeURIComponent(id)}`, { body: { name } });
}

/** changeDevice needs a session that was opened moments ago; else the Problem is session_stale (401). */
export function changeDevice(id: string, step: DeviceStep): Promise<void> {
  return call("POST", `/devices/${encodeURIComponent(id)}/${step}`, { body: {} });
}

/** What a new phone says of itself; model is there when it is proved. */
export type Newcomer = {
  device: { name: string; browser?: string; os?: string; country?: string; model?: string };
  public_key: OptionsJSON;
};
export type Added = { device: { id: string; name: string }; cooldown_until?: string; certificate_pending?: true };

/** beginAddition makes the order by which this phone adds another; it may ask to sign in anew (401). */
export function beginAddition(): Promise<{ order: string }> {
  return call("POST", "/additions", { body: {} });
}

export function newcomer(order: string): Promise<Newcomer> {
  return call("GET", `/additions/${encodeURIComponent(order)}`);
}

export function approveAddition(order: string, assertion: CredentialJSON): Promise<Added> {
  return call("POST", `/additions/${encodeURIComponent(order)}/approve`, { body: { assertion } });
}

export function noticesSeen(last: string): Promise<void> {
  return call("POST", "/notices/seen", { body: { last } });
}

export type RenewalRequest = { renewal: string; statement: string; expires_at: string; public_key: OptionsJSON };

/** beginRenewal gives what this phone signs for a new mobile certificate. */
export function beginRenewal(): Promise<RenewalRequest> {
  return call("POST", "/renewals", { body: {} });
}

export function completeRenewal(renewal: string, assertion: CredentialJSON): Promise<{ certificate: { not_after: string; state: string }; pending?: true }> {
  return call("POST", `/renewals/${encodeURIComponent(renewal)}`, { body: { assertion } });
}

// Lists come as {"items":[…]} or under their own name.
function list<T>(answer: Record<string, unknown>, name: string): T[] {
  return (answer["items"] ?? answer[name] ?? []) as T[];
}
