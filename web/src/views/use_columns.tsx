// The columns of tenants, servers and workers, wherever they are listed.

import type { ServerUse, TenantUse, WorkerUse } from "../api/types.ts";
import { Marked, type Sign } from "../parts/glyph.tsx";
import type { Column } from "../parts/table.tsx";
import { ServerLink, TenantLink, WorkerLink } from "../parts/text.tsx";
import { bytes, count, duration, level, short } from "../words/format.ts";
import { STATE_WORDS } from "../words/states.ts";

type Use = Omit<TenantUse, "max_workers">;

/** Columns of whoever is ranked by use. */
const used: readonly Column<Use>[] = [
  { key: "in_flight", title: "In flight", isNumber: true, isWide: true, sort: "in_flight", cell: (row) => zero(row.in_flight), about: "Requests that workers have not answered yet" },
  { key: "queued", title: "Queued", isNumber: true, isWide: true, sort: "queued", cell: (row) => zero(row.queued), about: "Requests that wait for a worker" },
  { key: "calls", title: "Calls/min", isNumber: true, sort: "calls", cell: (row) => rate(row.calls_per_minute, 1) },
  { key: "errors", title: "Errors/min", isNumber: true, isWide: true, sort: "errors", cell: (row) => errors(row.errors_per_minute) },
  { key: "cpu", title: "CPU", isNumber: true, sort: "cpu", cell: (row) => rate(row.cpu_cores, 2), about: "Processors in use" },
  {
    key: "memory",
    title: "Memory",
    isNumber: true,
    sort: "memory",
    cell: (row) => size(row.memory_awake_bytes + row.memory_asleep_bytes),
    about: "What its workers hold, the hibernated ones included",
  },
];

export const tenantColumns: readonly Column<TenantUse>[] = [
  { key: "name", title: "Tenant", sort: "name", cell: (row) => <TenantLink name={row.name} /> },
  {
    key: "workers",
    title: "Workers",
    isNumber: true,
    sort: "workers",
    about: "Of as many as the tenant may have",
    cell: (row) => (
      <span class={row.workers >= row.max_workers ? "at-limit" : ""}>
        {count(row.workers)}
        <span class="faint"> / {count(row.max_workers)}</span>
      </span>
    ),
  },
  ...used,
];

export const CIRCUITS: Record<ServerUse["circuit"], { sign: Sign; word: string; about: string }> = {
  closed: { sign: "good", word: "tried", about: "Starts are tried." },
  open: { sign: "bad", word: "left alone", about: "Starts failed repeatedly, and none is tried for a while." },
  half_open: { sign: "warn", word: "tried once", about: "The next request tries one start." },
};

export const serverColumns: readonly Column<ServerUse>[] = [
  { key: "name", title: "Server", sort: "name", cell: (row) => <ServerLink name={row.name} /> },
  {
    key: "circuit",
    title: "Starts",
    isWide: true,
    cell: ({ circuit, starts }) => (
      <span title={`${CIRCUITS[circuit].about} ${count(starts.ok)} succeeded, ${count(starts.failed)} failed.`}>
        <Marked of={circuit === "closed" && starts.failed > 0 ? "warn" : CIRCUITS[circuit].sign}>
          <span>{circuit === "closed" ? (starts.failed > 0 ? `${count(starts.failed)} failed` : "all well") : CIRCUITS[circuit].word}</span>
        </Marked>
      </span>
    ),
  },
  { key: "workers", title: "Workers", isNumber: true, sort: "workers", cell: (row) => zero(row.workers) },
  ...used,
];

export const workerColumns: readonly Column<WorkerUse>[] = [
  { key: "id", title: "Worker", sort: "name", cell: (row) => <WorkerLink id={row.id} /> },
  {
    key: "state",
    title: "State",
    cell: (row) => (
      <span title={STATE_WORDS[row.state]}>
        <Marked of={row.state}>
          <span>{row.state}</span>
        </Marked>
      </span>
    ),
  },
  {
    key: "tenant",
    title: "Tenant",
    cell: (row) => (
      <>
        <TenantLink name={row.tenant} />
        <div class="second">
          at <ServerLink name={row.server} />
        </div>
      </>
    ),
  },
  { key: "server", title: "Server", isWide: true, cell: (row) => <ServerLink name={row.server} /> },
  { key: "in_flight", title: "In flight", isNumber: true, isWide: true, sort: "in_flight", cell: (row) => zero(row.in_flight) },
  { key: "requests", title: "Requests", isNumber: true, isWide: true, sort: "calls", cell: (row) => zero(row.requests), about: "That it was given in its life" },
  { key: "cpu", title: "CPU", isNumber: true, isWide: true, sort: "cpu", cell: (row) => rate(row.cpu_cores, 2), about: "Processors in use" },
  { key: "memory", title: "Memory", isNumber: true, sort: "memory", cell: (row) => bytes(row.memory_bytes) },
  { key: "age", title: "Age", isNumber: true, isWide: true, cell: (row) => duration(Math.round(row.age_seconds)) },
];

/** Nothing is written faintly: what there is stands out. */
function zero(n: number) {
  return n === 0 ? <span class="faint">0</span> : short(n);
}

function size(n: number) {
  return n === 0 ? <span class="faint">0</span> : bytes(n);
}

/** What is too little to be written is not nothing. */
function rate(n: number, digits: number) {
  if (n === 0) return <span class="faint">0</span>;
  return n < 0.5 / 10 ** digits ? `<${(1 / 10 ** digits).toFixed(digits)}` : level(n, digits);
}

function errors(n: number) {
  return n === 0 ? <span class="faint">0</span> : <span class="is-bad">{level(n, 1)}</span>;
}
