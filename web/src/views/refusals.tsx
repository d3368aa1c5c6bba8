// What was refused, and who had to go, by the reason.

import type { Overview } from "../api/types.ts";
import { Empty, Panel } from "../parts/panel.tsx";
import { count, duration, plural } from "../words/format.ts";
import { LIMIT_WORDS, REASON_WORDS } from "../words/states.ts";

type Props = Pick<Overview, "rejections" | "evictions">;

export function Refusals({ rejections, evictions }: Props) {
  const rows = rejections.rows.filter((row) => row.total > 0).sort((a, b) => b.lately - a.lately || b.total - a.total);
  const limits = Object.entries(evictions.since_start).filter(([, n]) => n > 0);
  return (
    <Panel title="Refused, and why" note={`${count(rejections.lately)} in ${duration(rejections.over_seconds)}, ${count(rejections.total)} since the start`}>
      {rows.length === 0 ? (
        <Empty>Nothing was refused since the start.</Empty>
      ) : (
        <dl class="mix">
          {rows.map((row) => (
            <div key={row.reason}>
              <dt>
                <code>{row.reason}</code> <span class="note">{REASON_WORDS[row.reason] ?? row.about}</span>
              </dt>
              <dd class={row.lately > 0 ? "is-bad" : ""}>
                {count(row.lately)} <span class="share">{count(row.total)}</span>
              </dd>
            </div>
          ))}
        </dl>
      )}
      {limits.length > 0 && (
        <p class="aside">
          Idle workers that made room for others: {limits.map(([limit, n]) => `${count(n)} for ${LIMIT_WORDS[limit] ?? limit}`).join(", ")}; {plural(evictions.lately, "worker")} lately. Each costs its tenant a start later on.
        </p>
      )}
    </Panel>
  );
}
