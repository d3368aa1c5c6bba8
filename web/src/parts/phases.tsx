import type { RequestRow } from "../api/types.ts";
import { millis } from "../words/format.ts";
import { Bar, type Part } from "./bar.tsx";

/** Where the time of a request went. */
export function Phases({ row }: { row: RequestRow }) {
  const parts: Part[] = [
    { kind: "before", name: "before", value: row.before_ms ?? 0 },
    { kind: "waiting", name: "waited", value: row.waited_ms },
    { kind: "at-worker", name: "worker", value: row.worker_ms ?? 0 },
    { kind: "after", name: "after", value: row.after_ms ?? 0 },
  ];
  const words = parts.map((part) => `${part.name} ${millis(part.value)}`).join(", ");
  return (
    <span class="phases" title={words}>
      <Bar parts={parts} whole={row.total_ms} label={words} />
    </span>
  );
}
