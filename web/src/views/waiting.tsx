import type { LiveOverview } from "../parts/overview_stream.ts";
import { Empty } from "../parts/panel.tsx";
import { sentence } from "../words/verdict.ts";

/** Stands where the first answer has not come yet. */
export function Waiting({ live }: { live: LiveOverview }) {
  const { state } = live;
  const isBroken = state.kind === "lost" || state.kind === "over";
  return <Empty>{isBroken && state.why !== "" ? sentence(state.why) : "Waiting for the first answer."}</Empty>;
}
