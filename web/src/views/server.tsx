// One server: whether it is started, how it failed last, and who uses it.

import { Empty, Facts, Panel } from "../parts/panel.tsx";
import { Glyph } from "../parts/glyph.tsx";
import { Table } from "../parts/table.tsx";
import { TenantLink, When, Words, WorkerLink } from "../parts/text.tsx";
import { line } from "../words/escape.ts";
import { bytes, count, duration, plural, short } from "../words/format.ts";
import { sentence } from "../words/verdict.ts";
import { Circuits } from "./circuits.tsx";
import { EventList } from "./event_list.tsx";
import { Failures } from "./failures.tsx";
import { Grants, Installs } from "./under_way.tsx";
import { CIRCUITS, tenantColumns, workerColumns } from "./use_columns.tsx";
import type { ViewProps } from "./view.ts";
import { Waiting } from "./waiting.tsx";

export function ServerView({ name, live, now }: ViewProps & { name: string }) {
  const head = (
    <header class="view-head">
      <p class="crumb">
        <a href="#/servers">Servers</a>
      </p>
      <h1>{line(name)}</h1>
    </header>
  );
  const { overview } = live;
  if (overview === null || !live.isCurrent) return <>{head}<Waiting live={live} /></>;
  const row = overview.servers.rows.find((row) => row.name === name);
  if (row === undefined) return <>{head}<Empty>There is no server of that name under [servers].</Empty></>;
  const { workers, tenants } = overview;
  const circuit = CIRCUITS[row.circuit];
  const last = row.last_error;
  return (
    <>
      {head}
      {(row.circuit !== "closed" || row.retry_in_seconds !== null) && (
        <div class={`verdict is-${row.circuit === "open" ? "bad" : "warn"}`}>
          <Glyph of={row.circuit === "open" ? "bad" : "warn"} />
          <div>
            <p class="headline" role="status">
              {row.circuit === "closed" ? "Some of its starts failed, and are tried again after a pause." : circuit.about}
            </p>
            {row.retry_in_seconds !== null && <p>Tried again in {duration(Math.ceil(row.retry_in_seconds))}.</p>}
          </div>
        </div>
      )}
      <Facts
        of={[
          ["Starts", `${count(row.starts.ok)} succeeded, ${count(row.starts.failed)} failed`],
          ["Workers", count(row.workers)],
          ["In flight", count(row.in_flight)],
          ["Queued", count(row.queued)],
          ["Calls", `${short(row.calls_per_minute)} a minute`],
          ["Errors", `${short(row.errors_per_minute)} a minute`],
          ["Processors", short(row.cpu_cores)],
          ["Memory", `${bytes(row.memory_awake_bytes)} awake, ${bytes(row.memory_asleep_bytes)} hibernated`],
        ]}
      />
      {last !== null && (
        <Panel title="The last thing that went wrong" note={<When ms={last.at_ms} now={now} />}>
          <p><Words text={sentence(last.message)} /></p>
          <p class="aside">
            {last.tenant !== null && <>For <TenantLink name={last.tenant} />. </>}
            {last.worker !== null && <>Its stderr: <WorkerLink id={last.worker} />.</>}
          </p>
        </Panel>
      )}
      <div class="columns">
        <Circuits rows={overview.circuits} />
        <Installs rows={overview.installs} />
        <Failures now={now} of={{ server: name }} />
        <Grants rows={overview.oauth} now={now} />
      </div>
      <Panel title="Its workers" note={plural(workers.total, "worker")} class="flush">
        {workers.total === 0 ? (
          <Empty>None runs now. The next request starts one.</Empty>
        ) : (
          <Table caption={`Workers of ${line(name)}`} rows={workers.rows} id={(row) => row.id} columns={workerColumns.filter(({ key }) => key !== "server").map(({ sort: _, ...column }) => column)} />
        )}
      </Panel>
      {tenants.total > 0 && (
        <Panel title="Tenants that use it now" note="their use of all servers" class="flush">
          <Table caption={`Tenants that use ${line(name)}`} rows={tenants.rows} id={(row) => row.name} columns={tenantColumns.map(({ sort: _, ...column }) => column)} />
        </Panel>
      )}
      <Panel title="What happened">
        <EventList events={overview.events.rows} now={now} />
      </Panel>
    </>
  );
}
