// Numbers, sizes and times as people read them. Widths are bounded, so that tables do not move.

const NONE = "–";

/** A count with separated thousands: `12,345`. */
export function count(n: number | null | undefined): string {
  return n == null || !Number.isFinite(n) ? NONE : Math.round(n).toLocaleString("en-US");
}

/** A count in at most five characters: `987`, `12.3k`, `4.5M`. */
export function short(n: number | null | undefined): string {
  if (n == null || !Number.isFinite(n)) return NONE;
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]] as const) {
    // From 999.5 on a count would be rounded to four digits.
    if (Math.abs(n) >= size * 0.9995) return `${three(n / size)}${unit}`;
  }
  return three(n);
}

/** A rate or a share of processors, with as many digits after the point wherever it stands: `0.42`, `7.5`, `131`. */
export function level(n: number | null | undefined, digits: number): string {
  if (n == null || !Number.isFinite(n)) return NONE;
  return n > 0 && n < 99.95 ? n.toFixed(digits) : short(n);
}

/** At most three digits, and no zeros at the end of a fraction. */
function three(n: number): string {
  const size = Math.abs(n);
  const digits = size >= 99.95 || Number.isInteger(n) ? 0 : size >= 9.995 ? 1 : 2;
  return `${Number(n.toFixed(digits))}`;
}

/** Bytes in binary units: `512 B`, `1.5 MiB`. */
export function bytes(n: number | null | undefined): string {
  if (n == null || !Number.isFinite(n)) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (Math.abs(n) >= 999.5 && unit < units.length - 1) {
    n /= 1024;
    unit += 1;
  }
  return `${three(n)} ${units[unit]}`;
}

/** A time in seconds, by its two largest units: `3.2 s`, `4 min 5 s`, `2 d 3 h`. */
export function duration(seconds: number | null | undefined): string {
  if (seconds == null || !Number.isFinite(seconds)) return NONE;
  if (seconds < 0) return `−${duration(-seconds)}`;
  if (seconds < 0.9995) return `${three(seconds * 1e3)} ms`;
  if (seconds < 59.95) return `${Number(seconds.toFixed(seconds < 9.95 ? 1 : 0))} s`;
  const whole = Math.round(seconds);
  const units = [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]] as const;
  const first = units.findIndex(([size]) => whole >= size);
  const [size, name] = units[first] ?? [1, "s"];
  const next = units[first + 1];
  const rest = next ? Math.floor((whole % size) / next[0]) : 0;
  return `${Math.floor(whole / size)} ${name}${next && rest > 0 ? ` ${rest} ${next[1]}` : ""}`;
}

/** Milliseconds, as {@link duration} writes seconds. */
export function millis(ms: number | null | undefined): string {
  return ms == null ? NONE : duration(ms / 1e3);
}

/** A part of a whole: `12 %`; what is not nothing is not written as nothing. */
export function percent(part: number, whole: number): string {
  if (!(whole > 0)) return NONE;
  const p = (100 * part) / whole;
  if (p > 0 && p < 0.5) return "<1 %";
  if (p < 100 && p > 99.5) return "99 %";
  return `${Math.round(p)} %`;
}

/** A count and its noun: `1 worker`, `2 workers`. */
export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${Math.round(n) === 1 ? one : many}`;
}

/** How long ago, from milliseconds since 1970, by one unit: `5 s ago`, `12 min ago`. */
export function ago(ms: number, now: number): string {
  const seconds = Math.max(0, Math.floor((now - ms) / 1e3));
  if (seconds < 1) return "just now";
  const size = seconds < 60 ? 1 : seconds < 3_600 ? 60 : seconds < 86_400 ? 3_600 : 86_400;
  return `${duration(seconds - (seconds % size))} ago`;
}

/** The clock's time, with the day where that is not today: `14:02:07`, `29 Nov 14:02`. */
export function clock(ms: number, now: number): string {
  const at = new Date(ms);
  const two = (n: number) => `${n}`.padStart(2, "0");
  const minutes = `${two(at.getHours())}:${two(at.getMinutes())}`;
  if (at.toDateString() === new Date(now).toDateString()) return `${minutes}:${two(at.getSeconds())}`;
  return `${at.getDate()} ${at.toLocaleString("en-US", { month: "short" })} ${minutes}`;
}

/** A list in words, cut after `most`: `a, b and 3 more`. */
export function list(names: readonly string[], most = 3): string {
  if (names.length > most) return `${names.slice(0, most).join(", ")} and ${count(names.length - most)} more`;
  const last = names[names.length - 1] ?? "";
  return names.length < 2 ? last : `${names.slice(0, -1).join(", ")} and ${last}`;
}
