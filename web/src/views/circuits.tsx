// Servers that are left alone for a while, and when they are tried again.

import type { Circuit, Rows } from "../api/types.ts";
import { Marked } from "../parts/glyph.tsx";
import { Panel } from "../parts/panel.tsx";
import { ServerLink, TenantLink, Words } from "../parts/text.tsx";
import { shownOf } from "../parts/table.tsx";
import { duration, plural } from "../words/format.ts";
import { sentence } from "../words/verdict.ts";

export function Circuits({ rows }: { rows: Rows<Circuit> }) {
  if (rows.total === 0) return null;
  return (
    <Panel title="Circuits open" note={shownOf(Math.min(rows.rows.length, 12), rows.total, "circuit")}>
      <ul class="items">
        {rows.rows.slice(0, 12).map((row) => (
          <li key={`${row.server} ${row.tenant ?? ""} ${row.message}`}>
            <p class="item-head">
              <Marked of={row.tenant === undefined ? "bad" : "warn"}>
                <span>
                  <ServerLink name={row.server} /> for {row.tenant === undefined ? "everyone" : <TenantLink name={row.tenant} />}
                </span>
              </Marked>
              <span class="note">{row.retry_in_seconds > 0 ? `tried again in ${duration(Math.ceil(row.retry_in_seconds))}` : "tried again with the next request"}</span>
            </p>
            <p>
              {row.failures_in_a_row !== undefined && <>{plural(row.failures_in_a_row, "start")} failed in a row. </>}
              <Words text={sentence(row.message)} />
            </p>
          </li>
        ))}
      </ul>
    </Panel>
  );
}
