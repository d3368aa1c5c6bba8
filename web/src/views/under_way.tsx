// What takes its time: installs of packages, and authorisations that come to their end.

import type { Grant, Install, Rows } from "../api/types.ts";
import { Marked } from "../parts/glyph.tsx";
import { Panel } from "../parts/panel.tsx";
import { ServerLink, TenantLink, Words } from "../parts/text.tsx";
import { shownOf } from "../parts/table.tsx";
import { line } from "../words/escape.ts";
import { duration } from "../words/format.ts";
import { sentence } from "../words/verdict.ts";

const STAGES: Record<Install["stage"], string> = {
  waiting: "waits for other installs",
  resolving: "looks for its version",
  installing: "is being installed",
};

const MOST = 8;

export function Installs({ rows }: { rows: Rows<Install> }) {
  if (rows.total === 0) return null;
  return (
    <Panel title="Packages being installed" note={shownOf(Math.min(rows.rows.length, MOST), rows.total, "package")}>
      <ul class="items">
        {rows.rows.slice(0, MOST).map((row) => (
          <li key={`${row.package} ${row.server}`}>
            <p class="item-head">
              <Marked of="open">
                <code>{line(row.package)}</code>
              </Marked>
              <span class="note">for {duration(Math.round(row.seconds))}</span>
            </p>
            <p>
              {STAGES[row.stage] ?? row.stage}, for <ServerLink name={row.server} />. Its callers wait for that.
            </p>
          </li>
        ))}
      </ul>
    </Panel>
  );
}

export function Grants({ rows, now }: { rows: Rows<Grant>; now: number }) {
  if (rows.total === 0) return null;
  return (
    <Panel title="Authorisations about to end" note={shownOf(Math.min(rows.rows.length, MOST), rows.total, "authorisation")}>
      <ul class="items">
        {rows.rows.slice(0, MOST).map((row) => (
          <li key={`${row.tenant} ${row.server}`}>
            <p class="item-head">
              <Marked of="warn">
                <span>
                  <TenantLink name={row.tenant} /> at <ServerLink name={row.server} />
                </span>
              </Marked>
              <span class="note">{row.ends_at_ms === null ? "may end" : row.ends_at_ms <= now ? "has ended" : `ends in ${duration(Math.round((row.ends_at_ms - now) / 1e3))}`}</span>
            </p>
            <p>
              <Words text={sentence(row.message)} />
            </p>
          </li>
        ))}
      </ul>
    </Panel>
  );
}
