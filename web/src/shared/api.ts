// Requests to our own server. A refusal becomes a Problem (RFC 9457) with a
// stable code and a next step; no answer at all becomes the code "offline".

export interface ProblemBody {
  status: number;
  code: string;
  title?: string;
  detail?: string;
  next_step?: string;
  instance?: string;
  params?: Record<string, string>;
}

export class Problem extends Error {
  readonly body: ProblemBody;
  constructor(body: ProblemBody) {
    super(body.code);
    this.body = body;
  }
  get code(): string {
    return this.body.code;
  }
  get status(): number {
    return this.body.status;
  }
}

export interface RequestOptions {
  method?: string;
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/** Sends JSON and reads JSON. Throws Problem. */
export async function request<T>(path: string, options: RequestOptions = {}): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json", ...options.headers };
  const init: RequestInit = { method: options.method ?? "GET", headers, credentials: "same-origin", cache: "no-store" };
  if (options.signal) init.signal = options.signal;
  if (options.body !== undefined) {
    headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(options.body);
  }
  let answer: Response;
  try {
    answer = await fetch(path, init);
  } catch (e) {
    if (e instanceof DOMException && e.name === "AbortError") throw e;
    throw new Problem({ status: 0, code: "offline" });
  }
  if (answer.status === 204) return undefined as T;
  let value: unknown;
  try {
    value = await answer.json();
  } catch {
    throw new Problem({ status: answer.status, code: answer.ok ? "answer_malformed" : "internal" });
  }
  if (!answer.ok) {
    const p = value as Partial<ProblemBody>;
    throw new Problem({ ...p, status: answer.status, code: p.code ?? "internal" });
  }
  return value as T;
}

export function post<T>(path: string, body: unknown = {}, options: RequestOptions = {}): Promise<T> {
  return request<T>(path, { ...options, method: "POST", body });
}
