// Single requests of late, and where their time went.

import type { RequestRow } from "../api/types.ts";
import { Choice, Filter } from "../parts/controls.tsx";
import { usePolled } from "../parts/live.ts";
import { OutcomeMark } from "../parts/outcome.tsx";
import { Empty } from "../parts/panel.tsx";
import { Phases } from "../parts/phases.tsx";
import { filter } from "../words/filter.ts";
import { type Column, Table } from "../parts/table.tsx";
import { ServerLink, TenantLink, When, WorkerLink } from "../parts/text.tsx";
import { line } from "../words/escape.ts";
import { millis } from "../words/format.ts";
import { sentence } from "../words/verdict.ts";
import { steer, type ViewProps } from "./view.ts";

const EVERY_MS = 3_000;
const MOST = "60";

export const requestColumns = (now: number): readonly Column<RequestRow>[] => [
  {
    key: "when",
    title: "Came",
    cell: (row) => <When ms={Date.parse(row.began)} now={now} />,
  },
  { key: "outcome", title: "Outcome", cell: (row) => <Outcome row={row} /> },
  { key: "tenant", title: "Tenant", isWide: true, cell: (row) => <TenantLink name={row.tenant} /> },
  { key: "server", title: "Server", isWide: true, cell: (row) => <ServerLink name={row.server} /> },
  { key: "method", title: "Method", isWide: true, cell: (row) => <code>{line(row.method ?? "–")}</code> },
  { key: "worker", title: "Worker", cell: (row) => <WorkerLink id={row.worker} /> },
  { key: "phases", title: "Before, waited, at the worker, after", isWide: true, cell: (row) => <Phases row={row} /> },
  { key: "total", title: "Time", isNumber: true, cell: (row) => millis(row.total_ms) },
  { key: "id", title: "Id", isWide: true, cell: (row) => <code>{line(row.id)}</code> },
];

/** With whose it is, where there is no room for a column of that. */
function Outcome({ row }: { row: RequestRow }) {
  return (
    <>
      <OutcomeMark row={row} />
      <div class="second">
        <TenantLink name={row.tenant} /> at <ServerLink name={row.server} />
      </div>
    </>
  );
}

const STATES = [
  ["", "All"],
  ["open", "Open"],
  ["failed", "Failed"],
  ["slow", "Slow"],
] as const;

export function RequestsView({ route, now }: ViewProps) {
  const { state = "", search = "", tenant = "", server = "" } = route.query;
  const given = Object.entries({ state, tenant, server }).filter(([, value]) => value !== "");
  const { value, error } = usePolled<RequestRow[]>(`api/v1/requests?${new URLSearchParams([...given, ["limit", MOST]])}`, EVERY_MS);
  const rows = value?.filter(filter(search, ({ id, tenant, server, method, worker, outcome, reason }) => ({ id, tenant, server, method, worker, outcome, reason })));
  const of = [tenant && `of ${tenant}`, server && `at ${server}`].filter((part) => part !== "").join(" ");
  return (
    <>
      <header class="view-head">
        <h1>Requests {of && line(of)}</h1>
        <p class="note">
          {rows && `${rows.length} of the last ${value?.length ?? 0}`}
          {of !== "" && <> · <a href="#/requests">of all</a></>}
        </p>
        <Choice label="Which requests" options={STATES} value={STATES.find(([name]) => name === state)?.[0] ?? ""} onChange={(state) => steer(route, { state })} />
        <Filter label="Filter these requests" value={search} onChange={(search) => steer(route, { search })} />
      </header>
      {error && <Empty>{sentence(error.message)}</Empty>}
      {rows?.length === 0 && <Empty>{search === "" ? "None of those remembered." : "None of these matches."}</Empty>}
      {rows && rows.length > 0 && (
        <section class="panel flush">
          <Table caption="Requests, the newest first" columns={requestColumns(now)} rows={rows} id={(row) => row.id} />
        </section>
      )}
    </>
  );
}
