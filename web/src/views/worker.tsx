// One worker's life: what it does, what it was started with, what it writes.

import type { ComponentChildren } from "preact";
import { get } from "../api/client.ts";
import type { EndedRow, RequestRow, StartPlan, WorkerRow } from "../api/types.ts";
import { Actions, type Action } from "../parts/confirm.tsx";
import { Glyph } from "../parts/glyph.tsx";
import { useAsked, usePolled } from "../parts/live.ts";
import { Empty, Facts, Panel } from "../parts/panel.tsx";
import { Table } from "../parts/table.tsx";
import { ServerLink, TenantLink, Words } from "../parts/text.tsx";
import { Timeline } from "../parts/timeline.tsx";
import { line, visible } from "../words/escape.ts";
import { bytes, clock, count, duration } from "../words/format.ts";
import { address } from "../words/route.ts";
import { commandLine } from "../words/shell.ts";
import { endWords, isFailedEnd, STATE_WORDS } from "../words/states.ts";
import { sentence } from "../words/verdict.ts";
import { requestColumns } from "./requests.tsx";
import { Stderr } from "./stderr.tsx";
import type { ViewProps } from "./view.ts";

const EVERY_MS = 2_000;
const REQUESTS_SHOWN = 20;

export function WorkerView({ id, now }: ViewProps & { id: string }) {
  const path = `api/v1/workers/${encodeURIComponent(id)}`;
  const { value, error, again } = useAsked(path, EVERY_MS, (signal) => lookUp(id, path, signal));
  const living = value?.living ?? null;
  const past = value?.past ?? null;
  const row = living ?? past;
  const isGone = living === null;
  const tenant = row?.tenant ?? null;
  return (
    <>
      <header class="view-head">
        <p class="crumb">
          <a href={address("workers", null, past !== null ? { which: "ended" } : {})}>Workers</a>
        </p>
        <h1>{line(id)}</h1>
        {row && (
          <p class="note">
            <ServerLink name={row.server} />
            {tenant ? (
              <>
                {" "}
                of <TenantLink name={tenant} />
              </>
            ) : (
              ", no tenant's yet"
            )}
          </p>
        )}
        {living && <Actions of={actions(living, path)} onDone={again} />}
      </header>
      {error && <Empty>{sentence(error.message)}</Empty>}
      {living && <Living row={living} now={now} />}
      {past && <Past row={past} now={now} />}
      {row && (
        <>
          {/* Its last words matter most of one that has failed. */}
          <Stderr id={id} isGone={isGone} />
          <Requests id={id} server={row.server} tenant={tenant} now={now} />
        </>
      )}
    </>
  );
}

/** The worker as it lives, or as it is remembered. */
async function lookUp(id: string, path: string, signal: AbortSignal): Promise<{ living: WorkerRow | null; past: EndedRow | null }> {
  // The list has one at most. It is asked first: a worker that has ended is no error.
  const ended = await get<EndedRow[]>(`api/v1/ended?worker=${encodeURIComponent(id)}`, signal);
  const past = ended.find((row) => row.id === id) ?? null;
  return past === null ? { living: await get<WorkerRow>(path, signal), past } : { living: null, past };
}

function actions(row: WorkerRow, path: string): Action[] {
  const inFlight = row.in_flight === 0 ? "It has nothing in flight." : row.in_flight === 1 ? "It has one request in flight" : `It has ${count(row.in_flight)} requests in flight`;
  const isEnding = row.state === "stopping";
  return [
    {
      name: "Hibernate",
      path: `${path}/hibernate`,
      question: `Hibernate ${row.id}?`,
      consequence: "Its memory is paged out. The next request wakes it, within milliseconds to a second.",
      isDisabled: row.state !== "idle",
      about: row.state === "idle" ? "Page its memory out" : "Only an idle worker is hibernated",
    },
    {
      name: "Restart",
      path: `${path}/restart`,
      question: `Restart ${row.id}?`,
      consequence: `${row.in_flight === 0 ? inFlight : `${inFlight}, which it finishes.`} It takes no new ones; the next request starts another worker.`,
      isDisabled: isEnding || row.state === "draining",
    },
    {
      name: "Stop",
      path: `${path}/stop`,
      question: `Stop ${row.id} now?`,
      consequence: row.in_flight === 0 ? `${inFlight} The next request starts another worker.` : `${inFlight}; what is in flight fails for its callers.`,
      isDangerous: true,
      isDisabled: isEnding,
    },
  ];
}

function StateLine({ sign, children }: { sign: WorkerRow["state"] | "bad" | "off"; children: ComponentChildren }) {
  return (
    <div class="verdict is-plain">
      <Glyph of={sign} />
      <div>{children}</div>
    </div>
  );
}

function Living({ row, now }: { row: WorkerRow; now: number }) {
  return (
    <>
      <StateLine sign={row.state}>
        <p class="headline" role="status">
          {row.state.charAt(0).toUpperCase() + row.state.slice(1)}
        </p>
        <p>
          {STATE_WORDS[row.state]}
          {row.idle_seconds !== null && row.state !== "busy" && ` Its last request ended ${duration(Math.round(row.idle_seconds))} ago.`}
          {row.pinned && " It is kept from eviction."}
        </p>
      </StateLine>
      <Facts
        of={[
          ["In flight", count(row.in_flight)],
          ["Requests in its life", count(row.requests)],
          ["Memory", row.memory_bytes === null ? "not measured yet" : bytes(row.memory_bytes)],
          ["Age", duration(Math.round(row.age_seconds))],
          ["Processes", row.processes.length > 0 ? `${count(row.processes.length)} (${row.processes.slice(0, 6).join(" ")}${row.processes.length > 6 ? " …" : ""})` : (row.pid ?? "–")],
          ["Lines on stderr", count(row.stderr_lines)],
        ]}
      />
      <div class="columns">
        <Life {...row} now={now} />
        {row.start && <Start plan={row.start} poolKey={row.key} />}
      </div>
    </>
  );
}

function Past({ row, now }: { row: EndedRow; now: number }) {
  return (
    <>
      <StateLine sign={isFailedEnd(row.reason) ? "bad" : "off"}>
        <p class="headline" role="status">
          Ended: {row.reason}
        </p>
        <p>
          {endWords(row.reason)} <Words text={sentence(row.message)} />
        </p>
      </StateLine>
      <Facts
        of={[
          ["Ended", clock(row.ended_at_ms, now)],
          ["Its first process", row.exit ?? "there was none"],
          ["Lived for", duration(row.age_seconds)],
          ["Lines on stderr", count(row.stderr_lines)],
        ]}
      />
      <Life {...row} now={now} />
    </>
  );
}

function Life({ timeline = [], timeline_left_out = 0, now }: Pick<WorkerRow, "timeline" | "timeline_left_out"> & { now: number }) {
  if (timeline.length === 0) return null;
  return (
    <Panel title="Its life">
      <Timeline steps={timeline} leftOut={timeline_left_out} now={now} />
    </Panel>
  );
}

function Start({ plan, poolKey }: { plan: StartPlan; poolKey: string }) {
  return (
    <Panel title="Started with" note="secrets masked, the environment by name alone">
      <pre class="command">{visible(commandLine(plan.program, plan.args))}</pre>
      <Facts
        of={[
          ["Folder", plan.cwd === "" ? "its own" : <code class="break">{line(plan.cwd)}</code>],
          ["Environment", plan.env.length === 0 ? "nothing" : <code class="break">{plan.env.map((name) => line(name)).join(" ")}</code>],
          ["For", plan.is_callers ? "values that its caller sets" : "the tenant's config"],
          ["Key", <code class="break" key="key">{line(poolKey)}</code>],
        ]}
      />
    </Panel>
  );
}

function Requests({ id, server, tenant, now }: { id: string; server: string; tenant: string | null; now: number }) {
  const of = new URLSearchParams({ server, ...(tenant ? { tenant } : {}), limit: "200" });
  const { value } = usePolled<RequestRow[]>(`api/v1/requests?${of}`, 3_000);
  const rows = value?.filter((row) => row.worker === id).slice(0, REQUESTS_SHOWN);
  return (
    <Panel title="Its requests" note={rows && rows.length > 0 ? `the last ${rows.length} of those remembered` : undefined} class="flush">
      {rows === undefined || rows.length === 0 ? (
        <Empty>None of those remembered.</Empty>
      ) : (
        <Table caption={`Requests of ${line(id)}`} columns={requestColumns(now).filter(({ key }) => !["tenant", "server", "worker"].includes(key))} rows={rows} id={(row) => row.id} />
      )}
    </Panel>
  );
}
