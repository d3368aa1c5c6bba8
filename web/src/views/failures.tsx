// Requests that failed of late: each leads to the worker's stderr.

import type { RequestRow } from "../api/types.ts";
import { usePolled } from "../parts/live.ts";
import { Empty, Panel } from "../parts/panel.tsx";
import { OutcomeMark } from "../parts/outcome.tsx";
import { ServerLink, TenantLink, When, WorkerLink } from "../parts/text.tsx";
import { line } from "../words/escape.ts";
import { address } from "../words/route.ts";
import { REASON_WORDS } from "../words/states.ts";

const EVERY_MS = 4_000;

export function Failures({ now, of = {} }: { now: number; of?: Record<string, string> }) {
  const search = new URLSearchParams({ state: "failed", limit: "6", ...of });
  const { value, error } = usePolled<RequestRow[]>(`api/v1/requests?${search}`, EVERY_MS);
  return (
    <Panel title="Failed lately" note={<a href={address("requests", null, { state: "failed", ...of })}>All requests</a>}>
      {error && <Empty>{error.message}</Empty>}
      {value !== null && value.length === 0 && <Empty>No request of those remembered has failed.</Empty>}
      {value !== null && value.length > 0 && (
        <ul class="items">
          {value.map((row) => (
            <li key={row.id}>
              <p class="item-head">
                <OutcomeMark row={row} />
                <span class="note">
                  <When ms={Date.parse(row.began)} now={now} />
                </span>
              </p>
              <p>
                <TenantLink name={row.tenant} /> at <ServerLink name={row.server} />, <code>{line(row.method ?? "–")}</code>.{" "}
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
