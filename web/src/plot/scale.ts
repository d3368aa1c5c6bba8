// Where things of a plot are, without drawing them.

/** Ticks from 0 to at least `max`, at most `most` steps, at 1, 2 or 5 times a power of `base`. */
export function ticks(max: number, most: number, base: 10 | 1024 = 10): number[] {
  if (!(max > 0)) return [0, 1];
  // Sizes are read in binary units: within one, steps are those of ten.
  const unit = base === 1024 ? 1024 ** Math.max(0, Math.floor(Math.log(max) / Math.log(1024))) : 1;
  const top = max / unit;
  const power = 10 ** Math.floor(Math.log10(top / most));
  const step = [1, 2, 5, 10].map((n) => n * power).find((step) => Math.ceil(top / step - 1e-9) <= most) ?? 10 * power;
  const whole = base === 10 ? step : step;
  const steps = Math.max(1, Math.ceil(top / whole - 1e-9));
  return Array.from({ length: steps + 1 }, (_, i) => Number((i * whole).toPrecision(12)) * unit);
}

/** Times for a time axis, in milliseconds since 1970, at whole local hours or minutes; at most `most`. */
export function timeTicks(from: number, to: number, most: number): number[] {
  const minute = 60_000;
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 180, 240, 360, 720, 1440].map((n) => n * minute);
  const step = steps.find((step) => (to - from) / step <= most) ?? 1440 * minute;
  const offset = new Date(from).getTimezoneOffset() * minute;
  const first = Math.ceil((from - offset) / step) * step + offset;
  const all: number[] = [];
  for (let at = first; at <= to; at += step) all.push(at);
  return all;
}

/** Sums of the series up to each, point by point; what is not known counts as nothing. */
export function stacked(series: readonly (readonly (number | null)[])[]): number[][] {
  const sums: number[][] = [];
  for (const values of series) {
    const below = sums[sums.length - 1];
    sums.push(values.map((value, i) => (value ?? 0) + (below?.[i] ?? 0)));
  }
  return sums;
}

/** The index of the value nearest to `at` in `times`, which ascend; -1 where there is none. */
export function nearest(times: readonly number[], at: number): number {
  let low = 0;
  let high = times.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((times[middle] ?? 0) < at) low = middle + 1;
    else high = middle;
  }
  const before = times[low - 1];
  const after = times[low];
  if (before !== undefined && after !== undefined && at - before < after - at) return low - 1;
  return high;
}

/** The path of a line, broken where nothing is known. Half pixels at most, to keep it short. */
export function linePath(xs: readonly number[], ys: readonly (number | null)[]): string {
  let path = "";
  let isDown = false;
  for (let i = 0; i < xs.length; i++) {
    const x = xs[i];
    const y = ys[i];
    if (x === undefined || y === null || y === undefined) {
      isDown = false;
      continue;
    }
    path += `${isDown ? "L" : "M"}${near(x)} ${near(y)}`;
    isDown = true;
  }
  return path;
}

/** The path of the area between two lines. */
export function areaPath(xs: readonly number[], above: readonly number[], below: readonly number[]): string {
  if (xs.length === 0) return "";
  const forth = xs.map((x, i) => `${near(x)} ${near(above[i] ?? 0)}`);
  const back = xs.map((x, i) => `${near(x)} ${near(below[i] ?? 0)}`).reverse();
  return `M${forth.join("L")}L${back.join("L")}Z`;
}

function near(n: number): number {
  return Math.round(n * 10) / 10;
}
