import type { LiveOverview } from "../parts/overview_stream.ts";
import { address, type Route } from "../words/route.ts";

export interface ViewProps {
  route: Route;
  live: LiveOverview;
  /** The time as the supervisor has it, in milliseconds since 1970. */
  now: number;
}

/** Changes what the address says of a view, without a step of the history for each letter that is written. */
export function steer(route: Route, change: Record<string, string>): void {
  history.replaceState(null, "", address(route.page, route.id, { ...route.query, ...change }));
  dispatchEvent(new HashChangeEvent("hashchange"));
}
