// Follows an order: an event stream, and when that cannot be had, a question
// every two seconds.

import { Problem, request } from "../shared/api";

export interface OrderState {
  order: string;
  kind: "login" | "sign" | "enrol";
  state: "created" | "scanned" | "approved" | "completed" | "rejected" | "expired" | "cancelled" | "failed";
  expires_at: string;
  server_time: string;
  extend_left: number;
  frozen_until?: string;
  check?: { required: boolean; tries_left: number };
  other_phone?: boolean;
  next?: string;
  end_reason?: string;
  /** The code of what an approved order waits for. */
  wait_reason?: string;
  documents?: { index: number; name: string; state: "pending" | "signed" | "left_out" | "failed" }[];
}

export interface Listener {
  frame(text: string): void;
  state(state: OrderState): void;
  /** The connection was lost or is back. */
  connection(ok: boolean): void;
  /** The server refuses: busy, or the order is not ours any more. */
  refused(problem: Problem): void;
}

const pollEvery = 2000;
const retryStream = 15_000;

export function over(state: OrderState): boolean {
  return ["completed", "rejected", "expired", "cancelled", "failed"].includes(state.state);
}

/** Starts to follow; call the result to stop. */
export function follow(order: string, listener: Listener): () => void {
  let source: EventSource | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let stopped = false;
  let etag = "";

  const stop = () => {
    stopped = true;
    source?.close();
    clearTimeout(timer);
  };
  const take = (state: OrderState) => {
    listener.state(state);
    if (over(state)) stop();
  };

  const listen = () => {
    if (stopped) return;
    source = new EventSource(`/o/${order}/events`);
    source.addEventListener("open", () => listener.connection(true));
    source.addEventListener("frame", (e) => listener.frame((e as MessageEvent<string>).data));
    source.addEventListener("state", (e) => take(JSON.parse((e as MessageEvent<string>).data) as OrderState));
    source.addEventListener("error", () => {
      if (stopped) return;
      // A stream that broke is opened again by the browser; one that was refused is not.
      if (source?.readyState === EventSource.CLOSED) {
        source.close();
        const began = Date.now();
        void poll(() => Date.now() - began > retryStream);
      } else {
        listener.connection(false);
      }
    });
  };

  const poll = async (enough: () => boolean): Promise<void> => {
    if (stopped) return;
    let wait = pollEvery;
    try {
      const state = await ask();
      listener.connection(true);
      if (state) {
        if (state.frame) listener.frame(state.frame);
        take(state);
      }
      if (enough()) return listen();
    } catch (e) {
      const p = e instanceof Problem ? e : new Problem({ status: 0, code: "offline" });
      if (p.status === 0) {
        listener.connection(false);
      } else {
        listener.refused(p);
        if (p.status !== 429 && p.status !== 503) return stop();
        wait = 5000;
      }
    }
    timer = setTimeout(() => void poll(enough), wait);
  };

  const ask = async (): Promise<(OrderState & { frame?: string }) | undefined> => {
    // fetch and not request(): 304 has no body.
    let answer: Response;
    try {
      answer = await fetch(`/o/${order}/state`, { headers: etag ? { "If-None-Match": etag } : {}, cache: "no-store" });
    } catch {
      throw new Problem({ status: 0, code: "offline" });
    }
    if (answer.status === 304) return undefined;
    if (!answer.ok) {
      const body = (await answer.json().catch(() => ({}))) as { code?: string };
      throw new Problem({ ...body, status: answer.status, code: body.code ?? "internal" });
    }
    etag = answer.headers.get("ETag") ?? "";
    return (await answer.json()) as OrderState & { frame?: string };
  };

  listen();
  return stop;
}

/** Asks for the state once. */
export function stateOf(order: string): Promise<OrderState & { frame?: string }> {
  return request(`/o/${order}/state`);
}
