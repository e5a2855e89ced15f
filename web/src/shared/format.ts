// Numbers and times as people read them; the server's internal/i18n writes the same.

/** Writes bytes: 812 B, 4.2 kB, 1.0 GB (powers of 1000). */
export function size(n: number): string {
  if (n < 1000) return `${n} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let i = -1;
  while (n >= 999.5 && i + 1 < units.length) {
    n /= 1000;
    i++;
  }
  return `${n < 10 ? n.toFixed(1) : n.toFixed(0)} ${units[i]}`;
}

/** The short digest code that people compare: the first four bytes as "A1B2 C3D4". */
export function digestCode(digest: Uint8Array): string {
  const hex = Array.from(digest.slice(0, 4), (b) => b.toString(16).padStart(2, "0")).join("").toUpperCase();
  return `${hex.slice(0, 4)} ${hex.slice(4)}`;
}

/** Writes hours and minutes in Taiwan's time: 14:02. */
export function clock(value: number): string {
  return new Date(value + 8 * 3600_000).toISOString().slice(11, 16);
}

/** Writes a day with hours and minutes in Taiwan's time: 115年11月23日 14:02, 23 Nov 2026, 14:02. */
export function dateTime(value: string | number | Date, lang: string): string {
  const d = new Date(new Date(value).getTime() + 8 * 3600_000);
  const clock = `${String(d.getUTCHours()).padStart(2, "0")}:${String(d.getUTCMinutes()).padStart(2, "0")}`;
  const year = d.getUTCFullYear();
  if (lang === "en" || year <= 1911) {
    const month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][d.getUTCMonth()];
    return `${d.getUTCDate()} ${month} ${year}, ${clock}`;
  }
  return `${year - 1911}年${d.getUTCMonth() + 1}月${d.getUTCDate()}日 ${clock}`;
}
