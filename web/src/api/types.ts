// What the admin API answers, as far as the page reads it. Its contract: `src/admin` of the supervisor.

import type { WorkerState } from "../words/states.ts";

export interface Rows<Row> {
  /** All that match; `rows` are the first of them. */
  total: number;
  rows: Row[];
}

export interface LongestWait {
  seconds: number;
  tenant: string;
  server: string;
  message: string;
}

export interface Status {
  version: string;
  uptime_seconds: number;
  state: "ready" | "draining";
  config: string | null;
  workers: Record<WorkerState, number>;
  limits: {
    max_workers: number;
    max_workers_per_tenant: number;
    max_starting: number;
    max_memory_bytes: number;
    queue_limit: number;
    queue_timeout_seconds: number;
    idle_timeout_seconds: number;
  };
  queue_depth: number;
  longest_wait: LongestWait | null;
  sessions: number;
  starts: { ok: number; failed: number };
}

export interface Binding {
  /** How it shows: the supervisor drains; a request waits; idle workers were stopped for it; the next start evicts or waits. */
  shows: "draining" | "waits" | "evicts" | "reached";
  limit: string;
  /** The key of pool.toml to raise. */
  key: string | null;
  since_seconds: number | null;
  tenant: string | null;
  server: string | null;
  message: string;
}

interface Use {
  name: string;
  workers: number;
  in_flight: number;
  queued: number;
  calls_per_minute: number;
  errors_per_minute: number;
  cpu_cores: number;
  memory_awake_bytes: number;
  memory_asleep_bytes: number;
}

export interface TenantUse extends Use {
  max_workers: number;
}

export interface LastError {
  at_ms: number;
  tenant: string | null;
  worker: string | null;
  message: string;
}

export interface ServerUse extends Use {
  starts: { ok: number; failed: number };
  circuit: "closed" | "open" | "half_open";
  retry_in_seconds: number | null;
  last_error: LastError | null;
}

export interface WorkerUse {
  id: string;
  server: string;
  tenant: string;
  state: WorkerState;
  in_flight: number;
  cpu_cores: number;
  memory_bytes: number | null;
  requests: number;
  age_seconds: number;
  idle_seconds: number | null;
  pinned: boolean;
}

export interface Starts {
  warm: number;
  woken: number;
  adopted: number;
  primed: number;
  cold: number;
  failed: number;
}

export interface Rejection {
  reason: string;
  total: number;
  lately: number;
  about: string;
}

export interface Circuit {
  server: string;
  tenant?: string;
  configuration?: boolean;
  failures_in_a_row?: number;
  failing_configurations?: number;
  retry_in_seconds: number;
  message: string;
}

export interface Install {
  package: string;
  server: string;
  stage: "waiting" | "resolving" | "installing";
  seconds: number;
}

export interface Grant {
  tenant: string;
  server: string;
  ends_at_ms: number | null;
  message: string;
}

export interface PoolEvent {
  at_ms: number;
  kind: string;
  server: string | null;
  tenant: string | null;
  worker: string | null;
  reason?: string;
  message: string;
}

export interface Overview {
  at_ms: number;
  every_ms: number;
  status: Status;
  memory: { charged_bytes: number; awake_bytes: number; asleep_bytes: number; saved_bytes: number; max_bytes: number | null };
  binding: Binding | null;
  rates: { over_seconds: number; calls_per_minute: number; errors_per_minute: number; cpu_cores: number };
  tenants: Rows<TenantUse>;
  servers: Rows<ServerUse>;
  workers: Rows<WorkerUse>;
  starts: { since_start: Starts; lately: Starts & { over_seconds: number } };
  rejections: { total: number; lately: number; over_seconds: number; rows: Rejection[] };
  evictions: { since_start: Record<string, number>; lately: number };
  circuits: Rows<Circuit>;
  installs: Rows<Install>;
  oauth: Rows<Grant>;
  events: { rows: PoolEvent[] };
}

type Column = (number | null)[];

export interface History {
  at_ms: number;
  step_seconds: number;
  len: number;
  workers: Record<WorkerState, Column>;
  memory: { awake_mib: Column; asleep_mib: Column };
  queue_depth: Column;
  counts: Record<"calls" | "errors" | "rejections" | "evictions" | keyof Starts, Column>;
}

export interface StartPlan {
  program: string;
  args: string[];
  env: string[];
  cwd: string;
  is_callers: boolean;
}

export interface TimelineStep {
  at_ms: number;
  state: string;
  message: string;
}

interface Life {
  timeline?: TimelineStep[];
  timeline_left_out?: number;
}

export interface WorkerRow extends Life {
  id: string;
  server: string;
  tenant: string;
  state: WorkerState;
  pid: number | null;
  processes: number[];
  in_flight: number;
  pinned: boolean;
  requests: number;
  age_seconds: number;
  idle_seconds: number | null;
  key: string;
  memory_bytes: number | null;
  stderr_lines: number;
  start?: StartPlan;
}

export interface EndedRow extends Life {
  id: string;
  server: string;
  tenant: string | null;
  ended_at_ms: number;
  reason: string;
  message: string;
  exit: string | null;
  age_seconds: number;
  stderr_lines: number;
}

export interface RequestRow {
  id: string;
  began: string;
  age_ms: number;
  tenant: string | null;
  server: string | null;
  method: string | null;
  session: string | null;
  worker: string | null;
  outcome: "open" | "ok" | "error" | "failed" | "cancelled";
  reason: string | null;
  before_ms: number | null;
  waited_ms: number;
  worker_ms: number | null;
  after_ms: number | null;
  total_ms: number;
}
