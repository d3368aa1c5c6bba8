import type { RequestRow } from "../api/types.ts";
import { line } from "../words/escape.ts";
import { REASON_WORDS } from "../words/states.ts";
import { Marked, type Sign } from "./glyph.tsx";

const SIGNS: Record<RequestRow["outcome"], Sign> = { ok: "good", error: "error", failed: "bad", cancelled: "cancelled", open: "open" };

export const OUTCOME_WORDS: Record<RequestRow["outcome"], string> = {
  ok: "Answered.",
  error: "The server answered with an error of its own.",
  failed: "stdiopool answered with a failure.",
  cancelled: "Its caller cancelled it or went away.",
  open: "Not answered yet.",
};

/** What became of a request, with the reason of a failure. */
export function OutcomeMark({ row }: { row: RequestRow }) {
  const about = REASON_WORDS[row.reason ?? ""] ?? OUTCOME_WORDS[row.outcome];
  return (
    <span title={about}>
      <Marked of={SIGNS[row.outcome] ?? "off"}>
        <span>{line(row.reason ?? row.outcome)}</span>
      </Marked>
    </span>
  );
}
