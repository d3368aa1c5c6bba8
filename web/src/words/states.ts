// What a worker's state, its end and a failure's reason mean, for somebody who does not know the source.

export const STATES = ["busy", "idle", "hibernated", "spare", "starting", "draining", "stopping"] as const;
export type WorkerState = (typeof STATES)[number];

export const STATE_WORDS: Record<WorkerState, string> = {
  starting: "Its process runs and has not answered the handshake yet. A start counts against max_workers and max_starting.",
  spare: "Ready and nobody's yet: the next tenant that needs its server gets it without waiting for a start.",
  idle: "Ready, with nothing in flight. It answers at once, and may be stopped when another tenant needs its place.",
  hibernated: "Ready, with nothing in flight; its memory is paged out. A request wakes it within milliseconds.",
  busy: "Ready, with requests in flight.",
  draining: "Finishes what it has in flight, takes no new requests, and ends then.",
  stopping: "Being stopped: its stdin is closed; what does not end by itself is killed after some seconds.",
};

/** Ends of workers that are nobody's fault. */
const NORMAL_ENDS: Record<string, string> = {
  idle: "Was idle for idle_timeout.",
  evicted: "Was idle, and made room for another worker.",
  lifetime: "Was older than max_lifetime.",
  requests: "Had served max_requests.",
  released: "The only session or request that it was for has ended.",
  declined: "Did not speak the protocol's era of its client; another that does was started instead.",
  config: "The config that it was started with has changed.",
  drained: "stdiopool shut down.",
  admin: "Stopped or restarted by an operator.",
};

const FAILED_ENDS: Record<string, string> = {
  memory: "Held more memory than it may (limits.memory).",
  limit_pids: "Had more processes than it may (limits.pids).",
  limit_disk: "Its folders took more of the disk than they may (limits.disk).",
  crashed: "Ended by itself after it was ready.",
  unanswered: "Did not answer a request that was cancelled, and could not be trusted with another.",
  start_failed: "Never became ready.",
};

export function isFailedEnd(reason: string): boolean {
  return reason in FAILED_ENDS;
}

export function endWords(reason: string): string {
  return FAILED_ENDS[reason] ?? NORMAL_ENDS[reason] ?? reason;
}

/** What a refusal means, and what to do. */
export const REASON_WORDS: Record<string, string> = {
  pool_exhausted: "No place in the pool in time: workers, starts at once, or memory are used up. Raise what the message names.",
  installing: "The server's package was still being installed. stdiopool prefetch does that before anyone waits.",
  starting: "The server takes longer to start than its callers wait.",
  busy: "All workers that may serve it have as many requests as they may (max_in_flight, max_workers_per_key).",
  tenant_limit: "A tenant is at a limit of its own.",
  quota_exhausted: "A tenant has used all of its month.",
  memory_exhausted: "All tenants together hold what http.memory allows.",
  body_timeout: "A request's body stopped coming.",
  start_failed: "A worker ended before it was ready. Its stderr says why.",
  circuit_open: "The server is left alone for a while, after failures.",
  worker_exited: "A worker ended with the request in flight.",
  request_timeout: "No answer in time; the worker was told that the request is cancelled.",
  config_invalid: "A caller's config does not fit the server's schema, or a needed value is missing.",
  unauthorized: "No credentials, or wrong ones.",
  auth_unavailable: "The issuer's keys, or a provider's access token, are not to be had.",
  insufficient_scope: "Credentials without the scope that is needed.",
  forbidden: "A known caller that may not do this.",
  not_found: "No such thing, or not the caller's.",
  session_ended: "The session ended while its request was under way.",
  message_too_large: "A message over its bound.",
  parse_error: "A body that is not JSON.",
  invalid_request: "JSON, but no request that is accepted.",
  invalid_params: "Parameters that fit no method.",
  answer_invalid: "The worker answered with something that is no message.",
  answer_too_large: "The worker's answer is over its bound.",
  session_required: "Neither initialize nor a session id.",
  unsupported_version: "A protocol revision that is not served.",
  not_acceptable: "Accept excludes what the endpoint answers with.",
  unsupported_media_type: "A body that is not application/json.",
  draining: "stdiopool is shutting down.",
  internal: "A fault of stdiopool. Please report it.",
};

/** Limits by which workers had to go or requests wait, with the key to raise. */
export const LIMIT_WORDS: Record<string, string> = {
  max_workers: "processes of all tenants together (pool.max_workers)",
  max_workers_per_tenant: "processes of one tenant (pool.max_workers_per_tenant)",
  max_workers_per_server: "processes of one server (max_workers)",
  max_workers_per_key: "processes with one configuration (max_workers_per_key)",
  max_memory: "memory of all workers (pool.max_memory)",
  max_starting: "starts at once (pool.max_starting)",
  queue_limit: "requests that wait (pool.queue_limit)",
};
