// Small signs. Each state has a shape of its own, so that none is told apart by its colour alone.

import type { WorkerState } from "../words/states.ts";

export type Sign = WorkerState | "good" | "warn" | "bad" | "off" | "error" | "cancelled" | "open";

const SHAPES: Record<Sign, string> = {
  busy: "M6 1a5 5 0 1 0 0 10a5 5 0 0 0 0-10z",
  idle: "M6 1a5 5 0 1 0 0 10a5 5 0 0 0 0-10zM6 2.7a3.3 3.3 0 1 1 0 6.6a3.3 3.3 0 0 1 0-6.6z",
  hibernated: "M8.8 8.9A5 5 0 1 1 6.4 1A4.2 4.2 0 0 0 8.8 8.9z",
  spare: "M6 .6 11.4 6 6 11.4.6 6zM6 3 3 6l3 3 3-3z",
  starting: "M3 1.2 10.6 6 3 10.8z",
  draining: "M1 2h10L6 11z",
  stopping: "M2 2h8v8H2z",
  good: "M4.6 10.4.8 6.6l1.4-1.4 2.4 2.4 5.2-5.8 1.5 1.4z",
  warn: "M6 .8 11.6 11H.4zM5.3 4.4v3.2h1.4V4.4zM5.3 8.5v1.3h1.4V8.5z",
  bad: "M2.4 1 6 4.6 9.6 1 11 2.4 7.4 6 11 9.6 9.6 11 6 7.4 2.4 11 1 9.6 4.6 6 1 2.4z",
  off: "M1 5.2h10v1.6H1z",
  error: "M5 1h2v6.4H5zM5 8.8h2V11H5z",
  cancelled: "M1 5.2h10v1.6H1z",
  open: "M6 1a5 5 0 1 0 0 10a5 5 0 0 0 0-10zM6 2.7v3.6l2.6 1.5-.8 1.2L4.6 7.2V2.7z",
};

/** The sign alone; its word has to stand beside it. */
export function Glyph({ of }: { of: Sign }) {
  return (
    <svg class={`glyph is-${of}`} viewBox="0 0 12 12" aria-hidden="true">
      <path fill-rule="evenodd" d={SHAPES[of]} />
    </svg>
  );
}

export function Marked({ of, children }: { of: Sign; children: preact.ComponentChildren }) {
  return (
    <span class="marked">
      <Glyph of={of} />
      {children}
    </span>
  );
}
