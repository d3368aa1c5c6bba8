// One tenant: what it uses, its workers, and what went wrong for it.

import { Empty, Facts, Panel } from "../parts/panel.tsx";
import { Table } from "../parts/table.tsx";
import { line } from "../words/escape.ts";
import { bytes, count, plural, short } from "../words/format.ts";
import { Circuits } from "./circuits.tsx";
import { EventList } from "./event_list.tsx";
import { Failures } from "./failures.tsx";
import { Grants } from "./under_way.tsx";
import { serverColumns, workerColumns } from "./use_columns.tsx";
import type { ViewProps } from "./view.ts";
import { Waiting } from "./waiting.tsx";

export function TenantView({ name, live, now }: ViewProps & { name: string }) {
  const head = (
    <header class="view-head">
      <p class="crumb">
        <a href="#/tenants">Tenants</a>
      </p>
      <h1>{line(name)}</h1>
    </header>
  );
  const { overview } = live;
  if (overview === null || !live.isCurrent) return <>{head}<Waiting live={live} /></>;
  const row = overview.tenants.rows.find((row) => row.name === name);
  if (row === undefined) return <>{head}<Empty>There is no tenant of that name.</Empty></>;
  const { workers, servers } = overview;
  return (
    <>
      {head}
      <Facts
        of={[
          ["Workers", <>{count(row.workers)} of {count(row.max_workers)} it may have</>],
          ["In flight", count(row.in_flight)],
          ["Queued", count(row.queued)],
          ["Calls", `${short(row.calls_per_minute)} a minute`],
          ["Errors", `${short(row.errors_per_minute)} a minute`],
          ["Processors", short(row.cpu_cores)],
          ["Memory", `${bytes(row.memory_awake_bytes)} awake, ${bytes(row.memory_asleep_bytes)} hibernated`],
        ]}
      />
      <Panel title="Its workers" note={plural(workers.total, "worker")} class="flush">
        {workers.total === 0 ? (
          <Empty>It has none now. Its next request starts one.</Empty>
        ) : (
          <Table caption={`Workers of ${line(name)}`} rows={workers.rows} id={(row) => row.id} columns={workerColumns.filter(({ key }) => key !== "tenant").map(({ sort: _, ...column }) => column)} />
        )}
      </Panel>
      <div class="columns">
        <Failures now={now} of={{ tenant: name }} />
        <Circuits rows={overview.circuits} />
        <Grants rows={overview.oauth} now={now} />
        {servers.total > 0 && (
          <Panel title="Servers it uses now" note="use of all tenants" class="flush">
            <Table caption={`Servers that ${line(name)} uses`} rows={servers.rows} id={(row) => row.name} columns={serverColumns.filter(({ key }) => ["name", "circuit", "workers", "calls"].includes(key)).map(({ sort: _, ...column }) => column)} />
          </Panel>
        )}
        <Panel title="What happened">
          <EventList events={overview.events.rows} now={now} />
        </Panel>
      </div>
    </>
  );
}
