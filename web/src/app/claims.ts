// The claim this phone holds, kept for as long as the tab lives, so that a
// reload continues. Only the order's id and the claim token are kept: what the
// order says is asked from the server again.

const key = "sealgate.claim";

export type Kept = { order: string; token: string };

export function keep(claim: Kept): void {
  try {
    sessionStorage.setItem(key, JSON.stringify(claim));
  } catch {
    // Storage may be off (private mode). Then a reload has to scan again.
  }
}

export function kept(order?: string): Kept | undefined {
  try {
    const found = JSON.parse(sessionStorage.getItem(key) ?? "null") as Kept | null;
    return found && (!order || found.order === order) ? found : undefined;
  } catch {
    return undefined;
  }
}

export function forget(): void {
  try {
    sessionStorage.removeItem(key);
  } catch {
    // Nothing was kept then.
  }
}
