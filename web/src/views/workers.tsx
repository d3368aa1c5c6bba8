import type { EndedRow } from "../api/types.ts";
import { Choice } from "../parts/controls.tsx";
import { Marked } from "../parts/glyph.tsx";
import { usePolled } from "../parts/live.ts";
import { Empty } from "../parts/panel.tsx";
import { type Column, Table } from "../parts/table.tsx";
import { ServerLink, TenantLink, When, Words, WorkerLink } from "../parts/text.tsx";
import { duration } from "../words/format.ts";
import { endWords, isFailedEnd } from "../words/states.ts";
import { sentence } from "../words/verdict.ts";
import { ListView } from "./list_view.tsx";
import { workerColumns } from "./use_columns.tsx";
import { steer, type ViewProps } from "./view.ts";

const EVERY_MS = 5_000;
const MOST = 100;

export function WorkersView(props: ViewProps) {
  const { route } = props;
  const which = route.query.which === "ended" ? "ended" : "live";
  const choice = (
    <Choice
      label="Which workers"
      value={which}
      onChange={(which) => steer(route, { which: which === "live" ? "" : which })}
      options={[
        ["live", "Live"],
        ["ended", "Ended"],
      ]}
    />
  );
  if (which === "ended") return <Ended {...props}>{choice}</Ended>;
  return (
    <ListView {...props} title="Workers" noun="worker" about="live" none="No worker runs. The next request starts one." rows={props.live.overview?.workers} columns={workerColumns} id={(row) => row.id}>
      {choice}
    </ListView>
  );
}

function Ended({ now, children }: ViewProps & { children: preact.ComponentChildren }) {
  const { value, error } = usePolled<EndedRow[]>("api/v1/ended", EVERY_MS);
  const rows = value && [...value].sort((a, b) => b.ended_at_ms - a.ended_at_ms).slice(0, MOST);
  const columns: readonly Column<EndedRow>[] = [
    { key: "id", title: "Worker", cell: (row) => <WorkerLink id={row.id} /> },
    {
      key: "why",
      title: "Why it ended",
      cell: (row) => (
        <span title={endWords(row.reason)}>
          <Marked of={isFailedEnd(row.reason) ? "bad" : "off"}>
            <span>{row.reason}</span>
          </Marked>
        </span>
      ),
    },
    { key: "tenant", title: "Tenant", cell: (row) => <TenantLink name={row.tenant} /> },
    { key: "server", title: "Server", cell: (row) => <ServerLink name={row.server} /> },
    { key: "message", title: "In words", isWide: true, cell: (row) => <span class="clip"><Words text={sentence(row.message)} /></span> },
    { key: "age", title: "Lived", isNumber: true, isWide: true, cell: (row) => duration(row.age_seconds) },
    { key: "when", title: "Ended", isNumber: true, cell: (row) => <When ms={row.ended_at_ms} now={now} /> },
  ];
  return (
    <>
      <header class="view-head">
        <h1>Workers</h1>
        <p class="note">{rows && `the last ${rows.length} of those remembered`}</p>
        {children}
      </header>
      {error && <Empty>{sentence(error.message)}</Empty>}
      {rows?.length === 0 && <Empty>No worker has ended yet.</Empty>}
      {rows && rows.length > 0 && (
        <section class="panel flush">
          <Table caption="Workers that have ended" columns={columns} rows={rows} id={(row) => row.id} />
        </section>
      )}
    </>
  );
}
