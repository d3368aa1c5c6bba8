//! The rows of the admin API. Field names are a contract: scripts read them. Fields may be added;
//! times are in seconds, sizes in bytes.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::timeline::Timeline;
use super::worker_ids::{optional_worker_id, worker_id};
use crate::ids::{ServerName, TenantId, WorkerId, session_fingerprint};
use crate::protocol::{ExitClass, ExitReason};
use crate::telemetry::labels::{Era, WorkerState};

/// Stands for a session id, which is a credential and never shown: the first 8 hex digits of its
/// SHA-256. A session has one fingerprint in lists, events and the log.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The fingerprint of a session id.
    pub fn of(session_id: &str) -> Self {
        Self(session_fingerprint(session_id))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether the supervisor takes work.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupervisorState {
    /// Work is taken.
    Ready,
    /// No work is taken: what is in flight is finished, then the supervisor ends.
    Draining,
}

/// `GET /api/v1/status`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Version of the running binary.
    pub version: String,
    /// Process id of the supervisor.
    pub pid: u32,
    /// Seconds since stdiopool started.
    pub uptime_seconds: f64,
    /// Whether the supervisor takes work.
    pub state: SupervisorState,
    /// The file the config came from; none for `serve -- COMMAND`.
    pub config: Option<String>,
    /// Live workers.
    pub workers: WorkerCounts,
    /// The pool's limits as they are in force.
    pub limits: LimitsInForce,
    /// What all workers are charged with, in bytes; see `max_memory`.
    #[serde(default)]
    pub memory_bytes: u64,
    /// Requests waiting for a slot.
    pub queue_depth: usize,
    /// The one of them that has waited for longest; none if none waits.
    #[serde(default)]
    pub longest_wait: Option<LongestWait>,
    /// Open sessions, all servers.
    pub sessions: usize,
    /// Starts of workers since the supervisor started.
    pub starts: StartCounts,
    /// Servers whose circuit is open.
    pub circuits: Vec<CircuitRow>,
}

/// The request that has waited for a slot for longest.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LongestWait {
    /// How long the request has waited.
    pub seconds: f64,
    /// The tenant of the request.
    pub tenant: TenantId,
    /// The server of the request.
    pub server: ServerName,
    /// What stands in the request's way, with the limit and the key to raise: what it would be told if it were refused now.
    pub message: String,
}

/// Live workers by state.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct WorkerCounts {
    /// Not yet initialised.
    pub starting: usize,
    /// Ready, no tenant's yet.
    #[serde(default)]
    pub spare: usize,
    /// Ready, nothing in flight.
    pub idle: usize,
    /// Ready, nothing in flight, memory paged out.
    #[serde(default)]
    pub hibernated: usize,
    /// Ready, requests in flight.
    pub busy: usize,
    /// Finishing.
    pub draining: usize,
    /// Being stopped.
    pub stopping: usize,
}

impl WorkerCounts {
    /// All workers together; what `max_workers` bounds.
    pub fn total(&self) -> usize {
        let ready = self.spare + self.idle + self.hibernated + self.busy;
        self.starting + ready + self.draining + self.stopping
    }

    /// Counts one more worker in `state`.
    pub fn add(&mut self, state: WorkerState) {
        *match state {
            WorkerState::Starting => &mut self.starting,
            WorkerState::Spare => &mut self.spare,
            WorkerState::Idle => &mut self.idle,
            WorkerState::Hibernated => &mut self.hibernated,
            WorkerState::Busy => &mut self.busy,
            WorkerState::Draining => &mut self.draining,
            WorkerState::Stopping => &mut self.stopping,
        } += 1;
    }
}

/// The `[pool]` limits in force.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LimitsInForce {
    /// Processes, all tenants.
    pub max_workers: usize,
    /// Processes of one tenant, unless it has a limit of its own.
    pub max_workers_per_tenant: usize,
    /// Starts at once.
    pub max_starting: usize,
    /// Memory of all workers, in bytes.
    #[serde(default)]
    pub max_memory_bytes: u64,
    /// Waiting requests, all tenants.
    pub queue_limit: usize,
    /// How long a request may wait.
    pub queue_timeout_seconds: f64,
    /// How long a worker may be idle.
    pub idle_timeout_seconds: f64,
}

/// Starts of workers since stdiopool began.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct StartCounts {
    /// Starts that led to a ready worker.
    pub ok: u64,
    /// Starts that did not.
    pub failed: u64,
}

/// A server that is not started for now, because it failed repeatedly.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CircuitRow {
    /// The server whose starts are refused.
    pub server: ServerName,
    /// The tenant whose starts are refused; absent for everyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// Whether the circuit is that of one configuration of the tenant: one of those with which its processes are started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub configuration: bool,
    /// Starts that failed in a row, of a configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures_in_a_row: Option<u32>,
    /// Configurations that fail, of a circuit for a tenant or for everyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_configurations: Option<u32>,
    /// Seconds until the next start is tried.
    pub retry_in_seconds: f64,
}

/// `GET /api/v1/workers`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WorkerRow {
    /// The worker's id, for `logs` and `stop`.
    #[serde(with = "worker_id")]
    pub id: WorkerId,
    /// The server that the worker runs.
    pub server: ServerName,
    /// The tenant with whose config the worker was started.
    pub tenant: TenantId,
    /// What the worker is doing.
    pub state: WorkerState,
    /// Process id of the leader; none before it is spawned.
    pub pid: Option<u32>,
    /// Process ids of the whole tree, the leader's included; empty with `?processes=false`.
    pub processes: Vec<u32>,
    /// Requests it has not answered yet.
    pub in_flight: usize,
    /// Whether the worker is kept from eviction.
    pub pinned: bool,
    /// Requests it was given in its life.
    pub requests: u64,
    /// Seconds since the worker was spawned.
    pub age_seconds: f64,
    /// Seconds since the worker's last request ended; none while one is in flight.
    pub idle_seconds: Option<f64>,
    /// The worker's pool key: workers with equal keys are interchangeable.
    pub key: String,
    /// Memory of the tree at the last sample.
    pub memory_bytes: Option<u64>,
    /// Lines it has written to stderr.
    pub stderr_lines: u64,
    /// What the worker was started with; of `GET /api/v1/workers/{id}` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartRow>,
    /// What the worker went through; of `GET /api/v1/workers/{id}` alone.
    #[serde(flatten)]
    pub life: Timeline,
}

/// What a worker was started with, as its server's config and its tenant's values come to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StartRow {
    /// The program, as it is looked up; of a package's line, the launcher.
    pub program: String,
    /// Arguments after the program, secrets redacted; at most 256 of them, of up to 2 KiB each.
    pub args: Vec<String>,
    /// The names of the environment's variables. Values are not shown.
    pub env: Vec<String>,
    /// The working directory.
    pub cwd: String,
    /// Whether the worker was started for values that its caller sets.
    pub is_callers: bool,
}

/// `GET /api/v1/sessions`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SessionRow {
    /// Stands for the id.
    pub session: Fingerprint,
    /// The server it talks to.
    pub server: ServerName,
    /// The tenant whose session this is.
    pub tenant: TenantId,
    /// The era in which the session was opened.
    pub era: Era,
    /// The MCP revision agreed with the client.
    pub revision: String,
    /// Name and version the client gave itself: text of a stranger, cut to a sensible length.
    pub client: Option<String>,
    /// The worker it is bound to now.
    #[serde(with = "optional_worker_id")]
    pub worker: Option<WorkerId>,
    /// Requests without an answer.
    pub in_flight: usize,
    /// Open GET streams.
    pub streams: usize,
    /// Seconds since the session was opened.
    pub age_seconds: f64,
    /// Since the client was last heard of.
    pub idle_seconds: f64,
}

/// `GET /api/v1/servers`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ServerRow {
    /// The server's name under `[servers]`.
    pub name: ServerName,
    /// The program; arguments may hold secrets and are not shown.
    pub command: String,
    /// The sharing of a worker: `tenant`, `session` or `request`.
    pub share: String,
    /// Live workers.
    pub workers: usize,
    /// Open sessions.
    pub sessions: usize,
    /// Requests waiting.
    pub queued: usize,
    /// Starts since the supervisor started.
    pub starts: StartCounts,
    /// Seconds until a start of the server is tried again, when its circuit is open, or until the soonest of its starts that
    /// wait after a failure.
    pub retry_in_seconds: Option<f64>,
    /// Whether starts of the server are tried: `closed` if everybody's are, else everyone's are not, those of `circuit_tenants`, or
    /// those of `circuit_configurations`.
    #[serde(default)]
    pub circuit: CircuitState,
    /// The tenants for whom no start is tried, where that is not everyone.
    #[serde(default)]
    pub circuit_tenants: Vec<TenantId>,
    /// How many configurations are not tried by themselves, whatever is with the others of their tenants.
    #[serde(default)]
    pub circuit_configurations_total: usize,
    /// The first of these by tenant, at most [`MAX_CONFIGURATIONS`].
    #[serde(default)]
    pub circuit_configurations: Vec<OpenConfiguration>,
    /// The last thing that went wrong with the server, whenever that was.
    #[serde(default)]
    pub last_error: Option<LastError>,
    /// What "strict" would have refused the server; `None` unless its `sandbox` is "observe".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<ObservedServer>,
}

/// What a server with `sandbox = "observe"` did since the supervisor started that "strict", with its keys, would have refused.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ObservedServer {
    /// Paths to add to the server's `readable`, at most [`MAX_OBSERVED`].
    pub readable: Vec<String>,
    /// How many paths there are to add to the server's `readable`.
    pub readable_total: usize,
    /// Paths to add to the server's `writable`, at most [`MAX_OBSERVED`].
    pub writable: Vec<String>,
    /// How many paths there are to add to the server's `writable`.
    pub writable_total: usize,
    /// What the server used and no key gives it, a sentence each.
    pub notes: Vec<String>,
}

impl ObservedServer {
    /// Whether "strict" would have refused the server nothing.
    pub fn is_empty(&self) -> bool {
        self.readable.is_empty() && self.writable.is_empty() && self.notes.is_empty()
    }
}

/// Most paths of an observed server that are shown of each kind.
pub const MAX_OBSERVED: usize = 32;

/// Most configurations of a server that are shown with their errors.
pub const MAX_CONFIGURATIONS: usize = 32;

/// A configuration of a tenant whose starts are left alone for a while: one of those with which the tenant's processes
/// of a server are started.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct OpenConfiguration {
    /// The tenant whose row this is.
    pub tenant: TenantId,
    /// Starts that failed in a row; `starts.failed` of its server counts all since stdiopool began.
    pub failures_in_a_row: u32,
    /// Seconds until the next start is tried; 0: with the next request.
    pub retry_in_seconds: f64,
    /// How the last start failed, secrets redacted, at most 2 KiB.
    pub last_error: String,
}

/// Whether a server is started, for whoever is affected.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CircuitState {
    /// Starts are tried.
    #[default]
    Closed,
    /// Starts failed repeatedly, and none is tried for a while.
    Open,
    /// The circuit's time is over: the next request tries one start.
    HalfOpen,
}

/// `GET /api/v1/rules`: whether rules about tools (`bind`, `tools`, `[policy]`) match the tools there are.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct RuleCheck {
    /// The rules that match no tool, in words.
    pub unmatched: Vec<String>,
    /// Servers with such rules whose tools nobody has listed since the start.
    pub unknown: Vec<ServerName>,
}

/// The last error of a server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LastError {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// The tenant for whom the worker was started; none for a spare or an install.
    pub tenant: Option<TenantId>,
    /// The worker, for its log.
    #[serde(with = "optional_worker_id")]
    pub worker: Option<WorkerId>,
    /// What went wrong, secrets redacted, at most 2 KiB.
    pub message: String,
}

/// `GET /api/v1/ended`: a worker that is over, remembered for a while.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EndedRow {
    /// The worker's id, for `logs`.
    #[serde(with = "worker_id")]
    pub id: WorkerId,
    /// The server that the worker ran.
    pub server: ServerName,
    /// The tenant with whose config the worker was started; none for a spare that was nobody's.
    pub tenant: Option<TenantId>,
    /// When the last of its processes was gone, in milliseconds since 1970.
    pub ended_at_ms: u64,
    /// The reason of the worker's end, as `reason` of `stdiopool_worker_exits_total`.
    pub reason: String,
    /// The worker's end in words, secrets redacted, at most 2 KiB.
    pub message: String,
    /// How the worker's first process ended, such as `exit 1` or `SIGKILL`; none if there was none.
    pub exit: Option<String>,
    /// How many seconds the worker lived.
    pub age_seconds: f64,
    /// Lines it wrote to stderr; the last of them are kept.
    pub stderr_lines: u64,
    /// What the worker went through; of `?worker=` alone.
    #[serde(flatten)]
    pub life: Timeline,
}

/// Workers that have ended and are remembered of one tenant.
pub const REMEMBERED_OF_TENANT: usize = 32;
/// Workers that have ended and are remembered, of all tenants.
pub const REMEMBERED_OF_ALL: usize = 1024;

impl EndedRow {
    /// Whether the worker ended by a fault of its own, and not because it was told to.
    pub fn is_failure(&self) -> bool {
        let mut reasons = ExitReason::ALL.iter();
        reasons.any(|reason| reason.as_str() == self.reason && reason.class() == ExitClass::Failure)
    }

    /// The worker's end as a sentence without a full stop: `w8 ended at 14:02 UTC (exit 1)`.
    pub fn sentence(&self) -> String {
        let ended = UNIX_EPOCH + Duration::from_millis(self.ended_at_ms);
        let stamp = humantime::format_rfc3339_seconds(ended).to_string();
        let time = stamp.get(11..16).unwrap_or_default();
        let how = match (self.is_failure(), &self.exit) {
            (true, Some(exit)) if self.reason != "memory" => exit,
            (true, None) => "it could not be started",
            _ => &self.message,
        };
        format!("{} ended at {time} UTC ({how})", self.id)
    }
}

/// `GET /api/v1/tenants`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TenantRow {
    /// The tenant's name.
    pub name: TenantId,
    /// Live workers.
    pub workers: usize,
    /// The most it may have.
    pub max_workers: usize,
    /// Open sessions.
    pub sessions: usize,
    /// Requests waiting.
    pub queued: usize,
    /// The tenant's share of the pool under contention.
    pub weight: u32,
}

/// The kind of an [`Event`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A worker is being started.
    WorkerStarting,
    /// A worker is ready.
    WorkerReady,
    /// A worker never became ready.
    WorkerStartFailed,
    /// A worker reached one of its limits, and is kept from going further.
    WorkerLimited,
    /// A worker with `sandbox = "observe"` does what it would be refused with "strict".
    WorkerObserved,
    /// A worker is gone.
    WorkerExited,
    /// A server failed repeatedly and is left alone for a while.
    CircuitOpened,
    /// Starts of a server are tried again.
    CircuitClosed,
    /// A package is being installed.
    PackageInstalling,
    /// A package is installed.
    PackageInstalled,
    /// A package cannot be installed.
    PackageFailed,
    /// Another version of a package was run, without what its server wrote beside its code.
    PackageFilesLeft,
    /// A tenant authorised a server upstream.
    OauthAuthorised,
    /// A tenant's authorisation failed, or no access token could be had.
    OauthFailed,
    /// A tenant's authorisation is over: the provider says so, or it was revoked.
    OauthEnded,
    /// A rule about tools does not do what it says.
    RuleUnmatched,
    /// A client opened a session.
    SessionOpened,
    /// A session ended.
    SessionClosed,
    /// The config was read again.
    Reloaded,
    /// The config could not be read again.
    ReloadFailed,
    /// The supervisor takes no new work.
    Draining,
}

/// Something that happened; `GET /api/v1/events` streams such events.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// What kind of thing.
    pub kind: EventKind,
    /// The server it is about.
    pub server: Option<ServerName>,
    /// The tenant it is about.
    pub tenant: Option<TenantId>,
    /// The worker it is about.
    #[serde(with = "optional_worker_id")]
    pub worker: Option<WorkerId>,
    /// The reason of a worker's end, as `reason` of `stdiopool_worker_exits_total`; `None` of other events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What happened, in words, secrets redacted.
    pub message: String,
}

/// One line of a worker's log, as `…/logs?follow=true` streams them. An object, because a line may
/// hold a carriage return, which would end a line of the stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogLine {
    /// Without the line end.
    pub line: String,
}

/// `api/v1/templates`: what starts of Python packages are forked from.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct PrimedStarts {
    /// The templates there are.
    pub templates: Vec<TemplateRow>,
    /// Versions that are not primed any more.
    pub barred: Vec<BarredRow>,
    /// Servers whose last start was not primed, and why, as far as the launch told.
    pub unprimed: std::collections::BTreeMap<ServerName, String>,
}

/// A template.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TemplateRow {
    /// The server for which it was started.
    pub server: ServerName,
    /// The entry of the package cache, which is one version.
    pub entry: String,
    /// The program in it.
    pub program: String,
    /// `starting`, `ready` or `stopping`.
    pub state: String,
    /// The process of the template, or the one that waits.
    pub pid: Option<u32>,
    /// Bytes that the template holds, as measured when it became ready.
    pub memory_bytes: u64,
    /// Workers that were forked from it, or that processes of its version have become.
    pub forked: u64,
    /// Time of the template's imports, in milliseconds: about what a primed start saves.
    pub imports_ms: u64,
    /// Modules that it has imported.
    pub modules: Vec<String>,
    /// Modules that each worker imports for itself, and why.
    pub left_out: std::collections::BTreeMap<String, String>,
}

/// A version that is not primed any more.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct BarredRow {
    /// The entry of the package cache, which is one version.
    pub entry: String,
    /// The program in it.
    pub program: String,
    /// Why.
    pub why: String,
}
