// The browser's side of WebAuthn Level 3: options from JSON, results to JSON,
// and one error type that says what a person can do about a failure.
//
// Browsers answer almost every failure with the same NotAllowedError, on
// purpose (WebAuthn L3 §14.5.1). The only hint left is how long it took, so
// that is what tells "there is no key here" from "the person said no".

/** Why a ceremony ended without a result. */
export type CeremonyFailure =
  | "unsupported" // this browser has no WebAuthn
  | "no_key" // ended at once: nothing on this phone fits
  | "cancelled" // the person closed the dialog
  | "timeout" // the dialog was left alone
  | "lock_missing" // no screen lock, fingerprint or face is set up
  | "already_registered" // the phone holds a credential of this account
  | "wrong_host" // the page's host may not use this relying party id
  | "aborted" // we ended it ourselves
  | "failed"; // anything else

/** CeremonyError is the only error the two ceremony functions throw. */
export class CeremonyError extends Error {
  constructor(readonly failure: CeremonyFailure, cause?: unknown) {
    super(failure, { cause });
    this.name = "CeremonyError";
  }
}

/** A JSON object as the server sends or takes it (WebAuthn L3 §5.1.8 to §5.1.10). */
export type OptionsJSON = { [name: string]: unknown };
export type CredentialJSON = { [name: string]: unknown };

// Below this a person cannot have seen, let alone answered, a dialog.
const instant = 1000;
// Above this the dialog was most likely left alone until it gave up.
const patience = 30_000;

/** available tells whether the browser has WebAuthn at all. */
export function available(): boolean {
  return typeof PublicKeyCredential === "function" && typeof navigator.credentials?.get === "function";
}

/** lockAvailable tells whether the phone can check its user (fingerprint, face, screen lock). */
export async function lockAvailable(): Promise<boolean> {
  try {
    return await PublicKeyCredential.isUserVerifyingPlatformAuthenticatorAvailable();
  } catch {
    return false;
  }
}

/** getAssertion asks for an approval with any credential that fits the options. */
export async function getAssertion(options: OptionsJSON, signal?: AbortSignal): Promise<CredentialJSON> {
  return ceremony(async () => {
    const publicKey = parseRequestOptions(unwrap(options));
    return navigator.credentials.get({ publicKey, ...(signal ? { signal } : {}) });
  });
}

/** createCredential makes a new credential on this phone. */
export async function createCredential(options: OptionsJSON, signal?: AbortSignal): Promise<CredentialJSON> {
  return ceremony(async () => {
    const publicKey = parseCreationOptions(unwrap(options));
    return navigator.credentials.create({ publicKey, ...(signal ? { signal } : {}) });
  });
}

async function ceremony(run: () => Promise<Credential | null>): Promise<CredentialJSON> {
  if (!available()) throw new CeremonyError("unsupported");
  const started = performance.now();
  let credential: Credential | null;
  try {
    credential = await run();
  } catch (err) {
    const failure = classify(err, performance.now() - started);
    if (failure === "no_key" && !(await lockAvailable())) throw new CeremonyError("lock_missing", err);
    throw new CeremonyError(failure, err);
  }
  if (!credential) throw new CeremonyError("failed");
  return credentialToJSON(credential as PublicKeyCredential);
}

/** classify maps a ceremony's error and its duration in ms to a reason. */
export function classify(err: unknown, elapsed: number): CeremonyFailure {
  switch (err instanceof Error || err instanceof DOMException ? err.name : "") {
    case "NotAllowedError":
      if (elapsed < instant) return "no_key";
      return elapsed < patience ? "cancelled" : "timeout";
    case "TimeoutError":
      return "timeout";
    case "AbortError":
      return "aborted";
    case "InvalidStateError":
      return "already_registered";
    case "ConstraintError":
      return "lock_missing";
    case "SecurityError":
      return "wrong_host";
    case "NotSupportedError":
      return "unsupported";
    default:
      return "failed";
  }
}

/**
 * forget tells the browser of passkeys that open nothing any more, so that it no
 * longer offers them (WebAuthn L3 §5.1.10.2). It never waits and never fails:
 * browsers without the method, and what they answer, make no difference here.
 */
export function forget(rpId: string, ids: string[]): void {
  const signal = typeof PublicKeyCredential === "function"
    && (PublicKeyCredential as { signalUnknownCredential?: (o: { rpId: string; credentialId: string }) => Promise<void> }).signalUnknownCredential;
  if (typeof signal !== "function") return;
  for (const credentialId of ids) {
    try {
      void signal.call(PublicKeyCredential, { rpId, credentialId }).catch(() => undefined);
    } catch {
      // A browser that refuses the call offers the passkey as before.
    }
  }
}

// Some servers wrap the options the way CredentialCreationOptions does.
function unwrap(options: OptionsJSON): OptionsJSON {
  const inner = options["publicKey"];
  return typeof inner === "object" && inner !== null ? (inner as OptionsJSON) : options;
}

type DescriptorJSON = { id: string; type: PublicKeyCredentialType; transports?: AuthenticatorTransport[] };

function parseRequestOptions(o: OptionsJSON): PublicKeyCredentialRequestOptions {
  if (typeof PublicKeyCredential.parseRequestOptionsFromJSON === "function") {
    return PublicKeyCredential.parseRequestOptionsFromJSON(o as unknown as PublicKeyCredentialRequestOptionsJSON);
  }
  return {
    ...o,
    challenge: bytes(o["challenge"]),
    allowCredentials: descriptors(o["allowCredentials"]),
  } as PublicKeyCredentialRequestOptions;
}

function parseCreationOptions(o: OptionsJSON): PublicKeyCredentialCreationOptions {
  if (typeof PublicKeyCredential.parseCreationOptionsFromJSON === "function") {
    return PublicKeyCredential.parseCreationOptionsFromJSON(o as unknown as PublicKeyCredentialCreationOptionsJSON);
  }
  const user = o["user"] as { id: string; name: string; displayName: string };
  return {
    ...o,
    challenge: bytes(o["challenge"]),
    user: { ...user, id: bytes(user.id) },
    excludeCredentials: descriptors(o["excludeCredentials"]),
  } as unknown as PublicKeyCredentialCreationOptions;
}

function descriptors(list: unknown): PublicKeyCredentialDescriptor[] {
  return ((list as DescriptorJSON[] | undefined) ?? []).map((d) => ({ ...d, id: bytes(d.id) }));
}

function credentialToJSON(c: PublicKeyCredential): CredentialJSON {
  if (typeof c.toJSON === "function") return c.toJSON() as unknown as CredentialJSON;
  const common = {
    id: c.id,
    rawId: text(c.rawId),
    type: c.type,
    authenticatorAttachment: c.authenticatorAttachment ?? undefined,
    clientExtensionResults: c.getClientExtensionResults(),
  };
  const r = c.response;
  if ("attestationObject" in r) {
    const made = r as AuthenticatorAttestationResponse;
    return {
      ...common,
      response: {
        clientDataJSON: text(made.clientDataJSON),
        attestationObject: text(made.attestationObject),
        transports: made.getTransports?.() ?? [],
      },
    };
  }
  const given = r as AuthenticatorAssertionResponse;
  return {
    ...common,
    response: {
      clientDataJSON: text(given.clientDataJSON),
      authenticatorData: text(given.authenticatorData),
      signature: text(given.signature),
      ...(given.userHandle ? { userHandle: text(given.userHandle) } : {}),
    },
  };
}

/** bytes reads base64url without padding (RFC 4648 §5). */
export function bytes(value: unknown): Uint8Array<ArrayBuffer> {
  const raw = atob(String(value).replace(/-/g, "+").replace(/_/g, "/"));
  const out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
}

/** text writes base64url without padding (RFC 4648 §5). */
export function text(data: ArrayBuffer): string {
  let raw = "";
  for (const b of new Uint8Array(data)) raw += String.fromCharCode(b);
  return btoa(raw).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}
