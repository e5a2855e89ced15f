// Talks to the citizen card's local component (HiPKI) by its popup: the
// component answers no cross-origin requests, so a window of its own asks this
// page what to do and hands the raw answer back. One request a window; each
// needs a press of the person.
//
// The PIN is given to the component's window only, by postMessage to exactly
// the component's origin. It is never sent to our server.

/** Why the card could not be used; the texts are card.<reason> and card.<reason>.next. */
export type CardReason =
  | "popup" | "missing" | "closed" | "timeout" | "untrusted" | "forbidden" | "cancelled" | "old"
  | "no_reader" | "no_card" | "no_certificate" | "not_citizen" | "expired" | "not_yet" | "changed"
  | "pin_missing" | "pin_wrong" | "pin_wrong_unknown" | "pin_last" | "pin_length" | "pin_locked" | "failed";

export class CardError extends Error {
  constructor(readonly reason: CardReason, readonly params: Record<string, string | number> = {}) {
    super(reason);
  }
}

interface Answer {
  func: string;
  ret_code: number;
  last_error?: number;
  message?: string;
  serverVersion?: string;
}

interface Certificate {
  certb64: string;
  usage?: string;
  notBeforeT?: number;
  notAfterT?: number;
  subjectID?: string;
}

interface Slot {
  slotDescription: string;
  token?: { serialNumber?: string; certs?: Certificate[]; pinTriesLeft?: number };
}

interface Info extends Answer {
  slots?: Slot[];
}

interface Signed extends Answer {
  signature?: string;
  certb64?: string;
  cardSN?: string;
  pinTriesLeft?: number;
}

/** What was read of the card that will be used. */
export interface ReadCard {
  slot: string;
  certificate: string;
  cardNumber: string;
  version: string;
}

const hello = 3500; // the component's window must ask within this, else it is not there
const answers = { CheckEnvir: 20_000, GetUserCert: 170_000, MakeSignature: 170_000 };
const minimum: Record<string, string> = { Windows: "1.3.4.103328", macOS: "1.3.4.13", Linux: "1.3.4.3" };

export class Component {
  constructor(private readonly origin: string) {}

  /** Checks component, version, reader and card, telling each step as it is known. */
  async check(step: (name: "component" | "version" | "reader" | "card", ok: boolean, value?: string) => void): Promise<string> {
    const info = await this.call<Info>({ func: "CheckEnvir" }, answers.CheckEnvir);
    const version = info.serverVersion ?? "";
    step("component", true);
    const least = minimum[platform()];
    if (least && older(version, least)) {
      step("version", false, version);
      throw new CardError("old", { a: version, b: least });
    }
    step("version", true, version);
    const slots = info.slots ?? [];
    const cards = slots.filter((s) => s.token);
    const refusal = reasonOf(info);
    if (refusal?.reason === "no_reader" || (!refusal && slots.length === 0)) {
      step("reader", false);
      throw new CardError("no_reader");
    }
    if (refusal && refusal.reason !== "no_card") throw refusal;
    step("reader", true, slots[0]?.slotDescription);
    if (cards.length === 0) {
      step("card", false);
      throw new CardError("no_card");
    }
    step("card", true);
    return version;
  }

  /** Reads the signing certificate of the card. */
  async read(): Promise<ReadCard> {
    const info = await this.call<Info>({ func: "GetUserCert" }, answers.GetUserCert);
    throwRefusal(info);
    const slots = (info.slots ?? []).filter((s) => s.token);
    if (slots.length === 0) throw new CardError((info.slots ?? []).length ? "no_card" : "no_reader");
    for (const slot of slots) {
      const certificate = slot.token?.certs?.find((c) => /digitalSignature/i.test(c.usage ?? ""));
      if (!certificate) continue;
      return {
        slot: slot.slotDescription,
        certificate: certificate.certb64.replace(/\s/g, ""),
        cardNumber: slot.token?.serialNumber ?? "",
        version: info.serverVersion ?? "",
      };
    }
    throw new CardError("no_certificate");
  }

  /** Lets the card sign bytes (base64) as CMS with the content inside. */
  async sign(tbs: string, nonce: string, pin: string, slot: string): Promise<{ signature: string; certificate: string; cardNumber: string }> {
    const request: Record<string, unknown> = {
      func: "MakeSignature", tbs, tbsEncoding: "base64", hashAlgorithm: "SHA256", signatureType: "PKCS7",
      pin, withCardSN: "true", nonce,
    };
    if (slot) request["slotDescription"] = slot;
    const answer = await this.call<Signed>(request, answers.MakeSignature);
    throwRefusal(answer, answer.pinTriesLeft);
    if (!answer.signature) throw new CardError("failed", { code: hex(answer.ret_code) });
    return {
      signature: answer.signature.replace(/\s/g, ""), certificate: (answer.certb64 ?? "").replace(/\s/g, ""),
      cardNumber: answer.cardSN ?? "",
    };
  }

  /** One request in one window. Must be called while a press is being handled. */
  private call<T extends Answer>(request: Record<string, unknown>, patience: number): Promise<T> {
    const popup = window.open(`${this.origin}/popupForm`, "sealgate-card", "popup,width=480,height=420");
    if (!popup) return Promise.reject(new CardError("popup"));
    return new Promise<T>((resolve, reject) => {
      let asked = false;
      const finish = (run: () => void) => {
        clearTimeout(timer);
        clearInterval(closed);
        removeEventListener("message", receive);
        popup.close();
        run();
      };
      let timer = setTimeout(() => finish(() => reject(new CardError("missing"))), hello);
      // A window that is closed without an answer: the person did it, or the browser refused to show it.
      const closed = setInterval(() => {
        if (popup.closed) finish(() => reject(new CardError(asked ? "closed" : "missing")));
      }, 400);
      const receive = (e: MessageEvent) => {
        if (e.origin !== this.origin || e.source !== popup) return;
        const message = parse(e.data);
        if (!message) return;
        if (message["func"] === "getTbs") {
          asked = true;
          clearTimeout(timer);
          timer = setTimeout(() => finish(() => reject(new CardError("timeout"))), patience);
          popup.postMessage(formSafe(JSON.stringify(request)), this.origin);
        } else if (asked && typeof message["ret_code"] === "number") {
          finish(() => resolve(message as unknown as T));
        }
      };
      addEventListener("message", receive);
    });
  }
}

// The window puts the text into a form body as it is, so what a form would
// change must be written as a form writes it.
function formSafe(json: string): string {
  return json.replaceAll("%", "%25").replaceAll("+", "%2B").replaceAll("&", "%26");
}

function parse(data: unknown): Record<string, unknown> | undefined {
  if (typeof data === "object" && data !== null) return data as Record<string, unknown>;
  if (typeof data !== "string" || data.length > 1 << 20) return undefined;
  try {
    const v: unknown = JSON.parse(data);
    return typeof v === "object" && v !== null ? (v as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** The PKCS#11 codes in last_error that concern the PIN. */
const wrongPIN = 0xa0;
const lengthPIN = 0xa2;
const lockedPIN = 0xa4;

function reasonOf(a: Answer, left?: number): CardError | undefined {
  if (a.ret_code === 0) return undefined;
  switch (a.last_error) {
    case wrongPIN:
      if (left === undefined) return new CardError("pin_wrong_unknown");
      return left === 1 ? new CardError("pin_last") : new CardError("pin_wrong", { n: left });
    case lengthPIN:
      return new CardError("pin_length");
    case lockedPIN:
      return new CardError("pin_locked");
  }
  const byCode: Record<number, CardReason> = {
    0x76000002: "no_certificate", 0x7610000c: "no_certificate", 0x76100009: "no_certificate",
    0x76000006: "no_card", 0x76100003: "no_reader", 0x7600000d: "timeout",
    0x7600000f: "forbidden", 0x76000031: "untrusted",
    0x76000998: "pin_missing", 0x76000999: "cancelled", 0x76500001: "not_yet", 0x76500002: "expired",
    3501: "changed",
  };
  const reason = byCode[a.ret_code];
  return reason ? new CardError(reason) : new CardError("failed", { code: hex(a.ret_code) });
}

function throwRefusal(a: Answer, left?: number): void {
  const reason = reasonOf(a, left);
  if (reason) throw reason;
}

function hex(n: number): string {
  return n > 0xffff ? `0x${n.toString(16).toUpperCase()}` : String(n);
}

function platform(): string {
  const ua = navigator.userAgent;
  return /Windows/.test(ua) ? "Windows" : /Mac OS X/.test(ua) ? "macOS" : /Linux/.test(ua) ? "Linux" : "";
}

/** Compares versions of numbers and dots. */
export function older(version: string, least: string): boolean {
  const a = version.split(".").map((p) => parseInt(p, 10));
  const b = least.split(".").map((p) => parseInt(p, 10));
  for (let i = 0; i < b.length; i++) {
    const x = a[i] ?? 0;
    const y = b[i] ?? 0;
    if (Number.isNaN(x)) return false;
    if (x !== y) return x < y;
  }
  return false;
}
