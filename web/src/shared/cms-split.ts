// Takes the content out of a CMS signature (RFC 5652 §5.1, DER or BER), without
// reading it: what is left is a detached signature, and the content can be hashed
// where it lies, however large it is.

interface Header {
  tag: number;
  size: number; // of the header
  length: number; // -1: indefinite
}

export interface Split {
  /** The signature without its content; the whole of it when there was none inside. */
  signature: Blob;
  /** The content, or undefined for a detached signature. */
  content?: Blob[];
}

const signedData = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const maxPieces = 2_000_000;

class Malformed extends Error {}

async function bytes(file: Blob, at: number, n: number): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await file.slice(at, at + n).arrayBuffer());
}

/** Reads headers through a window, so that small steps do not each read the file. */
class Window {
  private at = 0;
  private have = new Uint8Array(0);
  constructor(private readonly file: Blob) {}

  async header(at: number): Promise<Header> {
    if (at < this.at || at + 16 > this.at + this.have.length) {
      this.have = await bytes(this.file, at, 64 << 10);
      this.at = at;
    }
    const b = this.have.subarray(at - this.at);
    const tag = b[0];
    const first = b[1];
    if (tag === undefined || first === undefined || (tag & 0x1f) === 0x1f) throw new Malformed();
    if (first < 0x80) return { tag, size: 2, length: first };
    if (first === 0x80) return { tag, size: 2, length: -1 };
    const n = first & 0x7f;
    if (n > 6 || b.length < 2 + n) throw new Malformed();
    let length = 0;
    for (let i = 0; i < n; i++) length = length * 256 + b[2 + i]!;
    if (at + 2 + n + length > this.file.size) throw new Malformed();
    return { tag, size: 2 + n, length };
  }

  async want(at: number, ...tags: number[]): Promise<Header> {
    const h = await this.header(at);
    if (!tags.includes(h.tag)) throw new Malformed();
    return h;
  }

  /** Reads an element that must have a definite length and gives where it ends. */
  async skip(at: number, tag: number): Promise<number> {
    const h = await this.want(at, tag);
    if (h.length < 0) throw new Malformed();
    return at + h.size + h.length;
  }
}

function encoded(h: Header, length: number): Uint8Array<ArrayBuffer> {
  if (h.length < 0) return Uint8Array.of(h.tag, 0x80);
  if (length < 0x80) return Uint8Array.of(h.tag, length);
  const out: number[] = [];
  for (let n = length; n > 0; n = Math.floor(n / 256)) out.unshift(n % 256);
  return Uint8Array.of(h.tag, 0x80 | out.length, ...out);
}

/** The pieces of an OCTET STRING and where it ends. */
async function octets(w: Window, file: Blob, at: number, depth = 0): Promise<{ pieces: Blob[]; end: number }> {
  const h = await w.want(at, 0x04, 0x24);
  const start = at + h.size;
  if (h.tag === 0x04) {
    if (h.length < 0) throw new Malformed();
    return { pieces: [file.slice(start, start + h.length)], end: start + h.length };
  }
  if (depth > 4) throw new Malformed();
  const pieces: Blob[] = [];
  let next = start;
  while (h.length < 0 || next < start + h.length) {
    const inner = await w.header(next);
    if (h.length < 0 && inner.tag === 0 && inner.length === 0) return { pieces, end: next + 2 };
    const part = await octets(w, file, next, depth + 1);
    for (const p of part.pieces) pieces.push(p);
    if (pieces.length > maxPieces) throw new Malformed();
    next = part.end;
  }
  if (next !== start + h.length) throw new Malformed();
  return { pieces, end: next };
}

/** Closes an element: its own end, or past the end marks of an indefinite one. */
async function close(w: Window, h: Header, start: number, at: number): Promise<number> {
  if (h.length >= 0) {
    if (at !== start + h.length) throw new Malformed();
    return at;
  }
  await w.want(at, 0);
  return at + 2;
}

/** Gives undefined when the file is no CMS SignedData. */
export async function split(file: Blob): Promise<Split | undefined> {
  try {
    return await take(file);
  } catch (e) {
    if (e instanceof Malformed) return undefined;
    throw e;
  }
}

async function take(file: Blob): Promise<Split> {
  const w = new Window(file);
  const info = await w.want(0, 0x30);
  const type = await bytes(file, info.size, signedData.length);
  if (!signedData.every((b, i) => type[i] === b)) throw new Malformed();
  const explicitAt = info.size + signedData.length;
  const explicit = await w.want(explicitAt, 0xa0);
  const bodyAt = explicitAt + explicit.size;
  const body = await w.want(bodyAt, 0x30);
  const first = bodyAt + body.size;
  const encapAt = await w.skip(await w.skip(first, 0x02), 0x31);
  const encap = await w.want(encapAt, 0x30);
  const oidAt = encapAt + encap.size;
  const oidEnd = await w.skip(oidAt, 0x06);
  const after = await w.header(oidEnd).catch(() => undefined);
  const empty = encap.length >= 0 ? oidEnd === oidAt + encap.length : after?.tag === 0;
  if (empty) return { signature: file };
  const holder = await w.want(oidEnd, 0xa0);
  const found = await octets(w, file, oidEnd + holder.size);
  const encapEnd = await close(w, encap, oidAt, await close(w, holder, oidEnd + holder.size, found.end));

  const oid = file.slice(oidAt, oidEnd);
  const newEncap = encoded({ ...encap, length: 0 }, oid.size);
  let delta = encapEnd - encapAt - newEncap.length - oid.size;
  const headers: Uint8Array<ArrayBuffer>[] = [];
  for (const h of [body, explicit, info]) {
    const header = encoded(h, h.length - delta);
    headers.unshift(header);
    delta += h.size - header.length;
  }
  const signature = new Blob([headers[0]!, file.slice(info.size, explicitAt), headers[1]!, headers[2]!,
    file.slice(first, encapAt), newEncap, oid, file.slice(encapEnd)]);
  return { signature, content: found.pieces };
}
