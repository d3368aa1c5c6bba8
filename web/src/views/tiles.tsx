// Four numbers with their limits, and the limit that binds.

import type { ComponentChildren } from "preact";
import type { Overview } from "../api/types.ts";
import { Bar, Legend, type Part } from "../parts/bar.tsx";
import { ServerLink, TenantLink, Words } from "../parts/text.tsx";
import { bytes, count, duration, level, percent, plural, short } from "../words/format.ts";
import { STATE_WORDS, STATES } from "../words/states.ts";
import { bindingWords } from "../words/verdict.ts";

export function Tiles({ overview }: { overview: Overview }) {
  return (
    <div class="tiles">
      <Workers overview={overview} />
      <Memory overview={overview} />
      <Queue overview={overview} />
      <Calls overview={overview} />
    </div>
  );
}

interface TileProps {
  title: string;
  value: string;
  of?: string;
  children: ComponentChildren;
}

function Tile({ title, value, of, children }: TileProps) {
  return (
    <section class="panel tile">
      <h2>{title}</h2>
      <p class="big">
        {value} {of !== undefined && <span>{of}</span>}
      </p>
      {children}
    </section>
  );
}

function Workers({ overview }: { overview: Overview }) {
  const { workers, limits } = overview.status;
  const parts: Part[] = STATES.map((state) => ({ kind: state, name: state, value: workers[state], sign: state, about: STATE_WORDS[state] }));
  const total = parts.reduce((sum, part) => sum + part.value, 0);
  return (
    <Tile title="Workers" value={count(total)} of={`of ${count(limits.max_workers)}`}>
      <Bar parts={parts} whole={limits.max_workers} label={`${count(total)} of ${count(limits.max_workers)} workers`} />
      <Legend parts={parts} />
    </Tile>
  );
}

function Memory({ overview }: { overview: Overview }) {
  const { charged_bytes, awake_bytes, asleep_bytes, saved_bytes, max_bytes } = overview.memory;
  const expected = Math.max(0, charged_bytes - awake_bytes - asleep_bytes);
  const parts: Part[] = [
    { kind: "awake", name: "awake", value: awake_bytes, shown: bytes(awake_bytes) },
    { kind: "hibernated", name: "hibernated", value: asleep_bytes, shown: bytes(asleep_bytes) },
    { kind: "expected", name: "expected, not measured yet", value: expected, shown: bytes(expected), about: "Workers that are being started, and templates" },
  ];
  const whole = max_bytes ?? charged_bytes;
  return (
    <Tile title="Memory" value={bytes(charged_bytes)} of={max_bytes === null ? "without a limit" : `of ${bytes(max_bytes)}`}>
      <Bar parts={parts} whole={whole} label={`${bytes(charged_bytes)} of ${bytes(max_bytes)}`} />
      <Legend parts={parts} />
      {saved_bytes > 0 && <p class="aside">Hibernation saves {bytes(saved_bytes)}.</p>}
    </Tile>
  );
}

function Queue({ overview }: { overview: Overview }) {
  const { queue_depth, longest_wait, limits } = overview.status;
  const { title, text } = bindingWords(overview);
  const { binding } = overview;
  const parts: Part[] = [{ kind: "waiting", name: "waiting", value: queue_depth }];
  return (
    <Tile title="Queue" value={count(queue_depth)} of={`of ${count(limits.queue_limit)} may wait`}>
      <Bar parts={parts} whole={limits.queue_limit} label={`${plural(queue_depth, "request")} of ${count(limits.queue_limit)} wait`} />
      {longest_wait && (
        <p class="aside">
          Longest wait <b>{duration(longest_wait.seconds)}</b>: <TenantLink name={longest_wait.tenant} /> at <ServerLink name={longest_wait.server} />. Refused after {duration(limits.queue_timeout_seconds)}.
        </p>
      )}
      <p class={binding ? "aside binding" : "aside"}>
        <b>{title}.</b>
        {" "}
        <Words text={text} />
      </p>
    </Tile>
  );
}

function Calls({ overview }: { overview: Overview }) {
  const { rates, status } = overview;
  const answered = Math.max(0, rates.calls_per_minute - rates.errors_per_minute);
  const parts: Part[] = [
    { kind: "calls", name: "answered a minute", value: answered, shown: short(answered) },
    { kind: "errors", name: "errors a minute", value: rates.errors_per_minute, shown: short(rates.errors_per_minute) },
  ];
  return (
    <Tile title="Calls" value={short(rates.calls_per_minute)} of="a minute">
      <Bar parts={parts} whole={0} label={`${percent(rates.errors_per_minute, rates.calls_per_minute)} of calls are errors`} />
      <Legend parts={parts} />
      <p class="aside">
        {level(rates.cpu_cores, 2)} processors in use by workers, {plural(status.sessions, "open session")}, up for {duration(status.uptime_seconds)}.
      </p>
    </Tile>
  );
}
