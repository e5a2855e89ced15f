// PDFs on their way to being signed, in this browser only: between choosing and
// downloading the pages change, and the signature can be put only into the very
// file. Kept for a day at most, and until the session's end.

import type { Prepared } from "../entries/pdf.worker";

export interface Kept extends Pick<Prepared, "update" | "hole"> {
  name: string;
  file: Blob;
}

interface Entry {
  at: number;
  files: Record<number, Kept>; // by the document's place in the order
}

const day = 24 * 3600 * 1000;
const store = "orders";

function open(): Promise<IDBDatabase> {
  return new Promise((done, failed) => {
    const r = indexedDB.open("sealgate-pdf", 1);
    r.onupgradeneeded = () => r.result.createObjectStore(store);
    r.onsuccess = () => done(r.result);
    r.onerror = () => failed(r.error);
    r.onblocked = () => failed(new Error("blocked"));
  });
}

async function within<T>(mode: IDBTransactionMode, run: (s: IDBObjectStore) => IDBRequest<T> | void): Promise<T | undefined> {
  const db = await open();
  try {
    return await new Promise((done, failed) => {
      const tx = db.transaction(store, mode);
      const r = run(tx.objectStore(store));
      tx.oncomplete = () => done(r ? r.result : undefined);
      tx.onabort = tx.onerror = () => failed(tx.error);
    });
  } finally {
    db.close();
  }
}

/** keep stores the files under a name; it fails where the browser has no room. */
export async function keep(key: string, files: Record<number, Kept>): Promise<void> {
  await within("readwrite", (s) => void s.put({ at: Date.now(), files } satisfies Entry, key));
}

/** rename moves what was kept before the order had its name. */
export async function rename(from: string, to: string): Promise<void> {
  await within("readwrite", (s) => {
    const r = s.get(from);
    r.onsuccess = () => {
      if (r.result) s.put(r.result, to);
      s.delete(from);
    };
  });
}

export async function kept(order: string): Promise<Record<number, Kept>> {
  return ((await within<Entry>("readonly", (s) => s.get(order))) as Entry | undefined)?.files ?? {};
}

export async function forget(key: string): Promise<void> {
  await within("readwrite", (s) => void s.delete(key));
}

/** forgetAll removes everything, at the end of a session. */
export async function forgetAll(): Promise<void> {
  await within("readwrite", (s) => void s.clear());
}

/** forgetOld removes what nobody downloaded within a day. */
export async function forgetOld(): Promise<void> {
  await within("readwrite", (s) => {
    const r = s.openCursor();
    r.onsuccess = () => {
      const c = r.result;
      if (!c) return;
      if (!((c.value as Entry).at > Date.now() - day)) c.delete();
      c.continue();
    };
  });
}

/** embed puts the signature into its place: the file, then its addition. */
export function embed(k: Kept, signature: Uint8Array): Blob {
  const [start, end] = k.hole;
  if (2 * signature.length > end - start) throw new Error("no room");
  const update = k.update.slice();
  for (let i = 0; i < signature.length; i++) {
    const pair = signature[i]!.toString(16).padStart(2, "0");
    update[start + 2 * i] = pair.charCodeAt(0);
    update[start + 2 * i + 1] = pair.charCodeAt(1);
  }
  return new Blob([k.file, update], { type: "application/pdf" });
}
