// Text of the supervisor and of servers, and the names that lead on from it.

import { address } from "../words/route.ts";
import { line } from "../words/escape.ts";
import { ago, clock } from "../words/format.ts";

/** Text whose parts between backticks are code, as in the supervisor's messages. Always text, never markup. */
export function Words({ text }: { text: string }) {
  const parts = line(text).split("`");
  // An odd number of backticks is no pair of them: the text of a server, most likely.
  if (parts.length % 2 === 0) return <>{line(text)}</>;
  return <>{parts.map((part, i) => (i % 2 === 1 ? <code key={i}>{part}</code> : part))}</>;
}

export function WorkerLink({ id }: { id: string | null }) {
  return id === null ? <span class="faint">–</span> : <a href={address("workers", id)}>{line(id)}</a>;
}

export function TenantLink({ name }: { name: string | null }) {
  return name === null || name === "" ? <span class="faint">–</span> : <a class="name" href={address("tenants", name)}>{line(name)}</a>;
}

export function ServerLink({ name }: { name: string | null }) {
  return name === null ? <span class="faint">–</span> : <a class="name" href={address("servers", name)}>{line(name)}</a>;
}

/** When something was: how long ago by `now`, the clock's time beside it for who points at it. */
export function When({ ms, now }: { ms: number; now: number }) {
  return (
    <time dateTime={new Date(ms).toISOString()} title={new Date(ms).toLocaleString("en-GB")}>
      {now - ms < 3_600_000 ? ago(ms, now) : clock(ms, now)}
    </time>
  );
}
