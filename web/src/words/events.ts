// Kinds of events in words.

import type { PoolEvent } from "../api/types.ts";
import type { Sign } from "../parts/glyph.tsx";
import { isFailedEnd } from "./states.ts";

const KINDS: Record<string, readonly [string, Sign]> = {
  worker_starting: ["Starting", "starting"],
  worker_ready: ["Ready", "good"],
  worker_start_failed: ["Start failed", "bad"],
  worker_limited: ["At a limit", "warn"],
  worker_observed: ["Would be refused", "warn"],
  worker_hibernated: ["Hibernated", "hibernated"],
  worker_woken: ["Woken", "busy"],
  worker_exited: ["Ended", "off"],
  circuit_opened: ["Circuit opened", "bad"],
  circuit_closed: ["Circuit closed", "good"],
  package_installing: ["Installing", "open"],
  package_installed: ["Installed", "good"],
  package_failed: ["Install failed", "bad"],
  package_files_left: ["Files left behind", "warn"],
  oauth_authorised: ["Authorised", "good"],
  oauth_failed: ["Authorisation failed", "bad"],
  oauth_ended: ["Authorisation ended", "warn"],
  rule_unmatched: ["Rule without effect", "warn"],
  session_opened: ["Session opened", "idle"],
  session_closed: ["Session closed", "off"],
  reloaded: ["Reloaded", "good"],
  reload_failed: ["Reload failed", "bad"],
  draining: ["Draining", "draining"],
};

export function eventWords(kind: string): string {
  return KINDS[kind]?.[0] ?? kind.replaceAll("_", " ");
}

export function eventSign(event: Pick<PoolEvent, "kind" | "reason">): Sign {
  if (event.kind === "worker_exited" && isFailedEnd(event.reason ?? "")) return "bad";
  return KINDS[event.kind]?.[1] ?? "off";
}

/** What an operator may want to see alone. */
export const EVENT_GROUPS = {
  all: () => true,
  troubles: (event: PoolEvent) => ["bad", "warn"].includes(eventSign(event)),
  workers: (event: PoolEvent) => event.kind.startsWith("worker_") || event.kind.startsWith("circuit_"),
  packages: (event: PoolEvent) => event.kind.startsWith("package_"),
  sessions: (event: PoolEvent) => event.kind.startsWith("session_"),
} satisfies Record<string, (event: PoolEvent) => boolean>;
export type EventGroup = keyof typeof EVENT_GROUPS;
