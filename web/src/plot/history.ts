// The columns of `/api/v1/history`, cut to a span and made the series of plots.

import type { History, Starts } from "../api/types.ts";
import { STATES } from "../words/states.ts";
import type { Series } from "./plot.tsx";

export const SPANS = { "1h": 3_600, "6h": 6 * 3_600, "24h": 86_400 } as const;
export type Span = keyof typeof SPANS;

/** The most points that are drawn of a span; a day comes in as few already. */
export function points(span: Span): number {
  return span === "24h" ? 360 : 1440;
}

type Column = readonly (number | null)[];

export interface Plots {
  times: number[];
  stepSeconds: number;
  workers: Series[];
  memory: Series[];
  calls: Series[];
  queue: Series[];
  starts: Series[];
  refused: Series[];
}

export const START_KINDS: readonly (readonly [keyof Starts, string])[] = [
  ["cold", "cold"],
  ["primed", "primed"],
  ["adopted", "from spares"],
  ["woken", "woken"],
];

const MIB = 1024 * 1024;

/** The last `span` of `history`. Counts are made to be a minute's, whatever the step. */
export function plots(history: History, span: Span): Plots {
  const step = history.step_seconds;
  const kept = Math.min(history.len, Math.ceil(SPANS[span] / step));
  const from = history.len - kept;
  const times = Array.from({ length: kept }, (_, i) => history.at_ms - (kept - 1 - i) * step * 1e3);
  const cut = (column: Column): (number | null)[] => column.slice(from);
  const scaled = (column: Column, by: number) => cut(column).map((value) => (value === null ? null : value * by));
  const one = (kind: string, name: string, values: (number | null)[]): Series => ({ kind, name, values });
  const rate = (column: Column) => scaled(column, 60 / step);
  const { counts, memory, workers } = history;
  return {
    times,
    stepSeconds: step,
    workers: [...STATES].map((state) => one(state, state, cut(workers[state]))).filter((series) => series.values.some((n) => n !== null && n > 0)),
    memory: [one("awake", "awake", scaled(memory.awake_mib, MIB)), one("hibernated", "hibernated", scaled(memory.asleep_mib, MIB))],
    calls: [one("calls", "calls", rate(counts.calls)), one("errors", "errors", rate(counts.errors))],
    queue: [one("waiting", "waiting", cut(history.queue_depth))],
    starts: START_KINDS.map(([kind, name]) => one(kind, name, cut(counts[kind]))),
    refused: [one("errors", "refused", cut(counts.rejections)), one("evictions", "evicted", cut(counts.evictions)), one("failed", "failed starts", cut(counts.failed))],
  };
}
