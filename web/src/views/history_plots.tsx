// The last hours, as plots beside each other.

import { useMemo, useState } from "preact/hooks";
import type { History } from "../api/types.ts";
import { Choice } from "../parts/controls.tsx";
import { usePolled } from "../parts/live.ts";
import { Empty, Panel } from "../parts/panel.tsx";
import { plots, points, type Span } from "../plot/history.ts";
import { Plot } from "../plot/plot.tsx";
import { bytes, short } from "../words/format.ts";

const EVERY_MS = 60_000;

export function HistoryPlots() {
  const [span, setSpan] = useState<Span>("24h");
  const { value, error } = usePolled<History>(`api/v1/history?points=${points(span)}`, EVERY_MS);
  const all = useMemo(() => (value === null ? null : plots(value, span)), [value, span]);
  const choice = (
    <Choice
      label="Span of the plots"
      value={span}
      onChange={setSpan}
      options={[
        ["1h", "1 h"],
        ["6h", "6 h"],
        ["24h", "24 h"],
      ]}
    />
  );
  return (
    <Panel title="The last hours" note={choice}>
      {error && <Empty>{error.message}</Empty>}
      {all !== null && all.times.length < 2 && <Empty>A point is taken each minute; the first plots appear after two of them.</Empty>}
      {all !== null && all.times.length >= 2 && (
        <div class="plots">
          <Plot title="Workers" about="by state" series={all.workers} isStacked format={short} {...timesOf(all)} />
          <Plot title="Memory" about="of all workers" series={all.memory} isStacked format={bytes} base={1024} {...timesOf(all)} />
          <Plot title="Calls" about="a minute" series={all.calls} isStacked={false} format={short} {...timesOf(all)} />
          <Plot title="Queue" about="requests waiting, the most" series={all.queue} isStacked={false} format={short} {...timesOf(all)} />
          <Plot title="Starts and wakes" about={`in ${all.stepSeconds / 60} min`} series={all.starts} isStacked format={short} {...timesOf(all)} />
          <Plot title="Refused and lost" about={`in ${all.stepSeconds / 60} min`} series={all.refused} isStacked={false} format={short} {...timesOf(all)} />
        </div>
      )}
    </Panel>
  );
}

function timesOf({ times, stepSeconds }: { times: number[]; stepSeconds: number }) {
  return { times, stepSeconds };
}
