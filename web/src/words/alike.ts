// Failures that are the same are told once, with their number: a server that cannot be started is asked for again and again.

import type { RequestRow } from "../api/types.ts";

export interface Alike {
  /** The newest of them. */
  row: RequestRow;
  count: number;
}

/** Groups of requests with one outcome, reason, tenant, server, method and worker; in the order of their newest, which come first. */
export function alike(rows: readonly RequestRow[]): Alike[] {
  const groups = new Map<string, Alike>();
  for (const row of rows) {
    const key = JSON.stringify([row.outcome, row.reason, row.tenant, row.server, row.method, row.worker]);
    const group = groups.get(key);
    if (group) group.count += 1;
    else groups.set(key, { row, count: 1 });
  }
  return [...groups.values()];
}
