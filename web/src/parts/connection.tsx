// Whether what is shown is what is. The words are told to screen readers when they change, the seconds are not.

import { duration } from "../words/format.ts";
import { Glyph } from "./glyph.tsx";
import type { LiveOverview } from "./overview_stream.ts";

/** Updates that may be missed before it is said that nothing comes. */
const MISSED = 4;

export function isStale({ overview, heardAt, state }: LiveOverview, now: number): boolean {
  const every = overview?.every_ms ?? 2_000;
  return state.kind === "lost" || state.kind === "over" || (heardAt > 0 && now - heardAt > MISSED * every);
}

export function Connection({ live, now }: { live: LiveOverview; now: number }) {
  const { state, heardAt } = live;
  const stale = isStale(live, now);
  const word = stale ? "Not live" : heardAt > 0 ? "Live" : "Connecting";
  const since = heardAt > 0 ? `last heard ${duration(Math.round((now - heardAt) / 1e3))} ago` : "";
  const again = state.kind === "lost" ? `tried again in ${duration(Math.max(0, Math.round((state.retryAt - now) / 1e3)))}` : "";
  const why = state.kind === "lost" || state.kind === "over" ? state.why : "";
  return (
    <p class={stale ? "connection is-stale" : "connection"} title={why}>
      <Glyph of={stale ? "warn" : heardAt > 0 ? "good" : "open"} />
      <span role="status">{word}</span>
      {stale && <span class="connection-why">{[since, again].filter((part) => part !== "").join(", ")}</span>}
    </p>
  );
}
