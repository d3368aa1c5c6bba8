// The pool at a glance: is everybody served, and if not, why.

import { Circuits } from "./circuits.tsx";
import { EventList } from "./event_list.tsx";
import { Failures } from "./failures.tsx";
import { Grants, Installs } from "./under_way.tsx";
import { HistoryPlots } from "./history_plots.tsx";
import { Refusals } from "./refusals.tsx";
import { StartMix } from "./start_mix.tsx";
import { Tiles } from "./tiles.tsx";
import type { ViewProps } from "./view.ts";
import { TopServers, TopTenants } from "./top_users.tsx";
import { VerdictLine } from "./verdict_line.tsx";
import { Waiting } from "./waiting.tsx";
import { Panel } from "../parts/panel.tsx";
import { address } from "../words/route.ts";

const EVENTS_SHOWN = 8;

export function OverviewView({ live, now }: ViewProps) {
  const { overview } = live;
  if (overview === null) return <Waiting live={live} />;
  return (
    <>
      <h1 class="unseen">The pool at a glance</h1>
      <VerdictLine overview={overview} />
      <Tiles overview={overview} />
      <div class="columns">
        <div class="stack">
          <Circuits rows={overview.circuits} />
          <Installs rows={overview.installs} />
          <Grants rows={overview.oauth} now={now} />
          <Refusals rejections={overview.rejections} evictions={overview.evictions} />
        </div>
        <Failures now={now} />
      </div>
      <HistoryPlots />
      <div class="columns">
        <TopTenants rows={overview.tenants} />
        <TopServers rows={overview.servers} />
        <StartMix starts={overview.starts} />
        <Panel title="What happened" note={<a href={address("events")}>All events</a>}>
          <EventList events={overview.events.rows.slice(0, EVENTS_SHOWN)} now={now} />
        </Panel>
      </div>
    </>
  );
}
