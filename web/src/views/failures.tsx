// Requests that failed of late: each leads to the worker's stderr.

import type { RequestRow } from "../api/types.ts";
import { usePolled } from "../parts/live.ts";
import { Empty, Panel } from "../parts/panel.tsx";
import { OutcomeMark } from "../parts/outcome.tsx";
import { ServerLink, TenantLink, When, WorkerLink } from "../parts/text.tsx";
import { alike } from "../words/alike.ts";
import { line } from "../words/escape.ts";
import { address } from "../words/route.ts";
import { REASON_WORDS } from "../words/states.ts";

const EVERY_MS = 4_000;
const ASKED = "40";
const SHOWN = 6;

export function Failures({ now, of = {} }: { now: number; of?: Record<string, string> }) {
  const search = new URLSearchParams({ state: "failed", limit: ASKED, ...of });
  const { value, error } = usePolled<RequestRow[]>(`api/v1/requests?${search}`, EVERY_MS);
  const groups = alike(value ?? []);
  return (
    <Panel title="Failed lately" note={<a href={address("requests", null, { state: "failed", ...of })}>All requests</a>}>
      {error && <Empty>{error.message}</Empty>}
      {value !== null && value.length === 0 && <Empty>No request of those remembered has failed.</Empty>}
      {value !== null && value.length > 0 && (
        <ul class="items">
          {groups.slice(0, SHOWN).map(({ row, count }) => (
            <li key={`${row.outcome} ${row.reason} ${row.tenant} ${row.server} ${row.method} ${row.worker}`}>
              <p class="item-head">
                <span>
                  <OutcomeMark row={row} />
                  {count > 1 && <span class="note"> {count} times</span>}
                </span>
                <span class="note">
                  <When ms={Date.parse(row.began)} now={now} />
                </span>
              </p>
              <p>
                {row.tenant !== null && <TenantLink name={row.tenant} />}
                {row.server !== null && (
                  <>
                    {" "}
                    at <ServerLink name={row.server} />
                  </>
                )}
                {row.method !== null && (
                  <>
                    {row.tenant !== null && ", "}
                    <code>{line(row.method)}</code>
                  </>
                )}
                {(row.tenant !== null || row.method !== null) && ". "}
                {row.worker !== null ? (
                  <>
                    Stderr of <WorkerLink id={row.worker} />.
                  </>
                ) : (
                  REASON_WORDS[row.reason ?? ""]
                )}
              </p>
            </li>
          ))}
        </ul>
      )}
    </Panel>
  );
}
