// How requests came to a worker: without waiting, by waking one, or by starting one.

import { useState } from "preact/hooks";
import type { Overview, Starts } from "../api/types.ts";
import { Bar, type Part } from "../parts/bar.tsx";
import { Choice } from "../parts/controls.tsx";
import { Empty, Panel } from "../parts/panel.tsx";
import { count, duration, percent } from "../words/format.ts";

const KINDS: readonly (readonly [keyof Starts, string, string])[] = [
  ["warm", "Warm", "a worker was awake"],
  ["woken", "Woken", "a hibernated worker was paged in, in milliseconds"],
  ["adopted", "From spares", "a worker that waited for whoever needs it"],
  ["primed", "Primed", "forked from a template, without its imports"],
  ["cold", "Cold", "the whole start of a server"],
];

export function StartMix({ starts }: { starts: Overview["starts"] }) {
  const [span, setSpan] = useState<"lately" | "all">("lately");
  const shown: Starts = span === "lately" ? starts.lately : starts.since_start;
  const parts: Part[] = KINDS.map(([kind, name]) => ({ kind, name, value: shown[kind] }));
  const all = parts.reduce((sum, part) => sum + part.value, 0);
  const choice = (
    <Choice
      label="Span of the mix"
      value={span}
      onChange={setSpan}
      options={[
        ["lately", duration(starts.lately.over_seconds)],
        ["all", "since the start"],
      ]}
    />
  );
  return (
    <Panel title="How requests came to a worker" note={choice}>
      {all === 0 ? (
        <Empty>No request needed a worker in that time.</Empty>
      ) : (
        <>
          <Bar parts={parts} whole={0} label="Shares of warm, woken, adopted, primed and cold" />
          <dl class="mix">
            {KINDS.map(([kind, name, about]) => (
              <div key={kind}>
                <dt>
                  <i class={`swatch fill-${kind}`} />
                  {name} <span class="note">{about}</span>
                </dt>
                <dd>
                  {count(shown[kind])} <span class="share">{percent(shown[kind], all)}</span>
                </dd>
              </div>
            ))}
          </dl>
        </>
      )}
      {shown.failed > 0 && (
        <p class="aside is-bad">
          {count(shown.failed)} {shown.failed === 1 ? "start" : "starts"} failed.
        </p>
      )}
    </Panel>
  );
}
