//! The rows of the overview. Field names are a contract.

use serde::{Deserialize, Serialize};

use crate::admin::model::{CircuitRow, CircuitState, LastError, StartCounts};
use crate::admin::worker_ids::worker_id;
use crate::ids::{ServerName, TenantId, WorkerId};
use crate::telemetry::labels::WorkerState;

/// What workers hold, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct MemoryUse {
    /// What counts against the limit: measured, or expected where nothing was measured yet, and what workers are forked from.
    pub charged_bytes: u64,
    /// What workers hold that are awake, as last measured.
    pub awake_bytes: u64,
    /// What hibernated workers hold, as last measured.
    pub asleep_bytes: u64,
    /// What hibernated workers held awake and do not hold now.
    pub saved_bytes: u64,
    /// What all may hold (`pool.max_memory`); `None` without a limit.
    pub max_bytes: Option<u64>,
}

/// The limit that binds now.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Binding {
    /// How that shows: `draining`, `waits` (a request waits because of it), `evicts` (idle workers were stopped because of it
    /// within the last minute) or `reached`.
    pub shows: String,
    /// The limit: a word, such as `max_workers`.
    pub limit: String,
    /// The key of pool.toml to raise, where there is one.
    pub key: Option<String>,
    /// How long the request has waited that waits because of it.
    pub since_seconds: Option<f64>,
    /// The tenant of that request.
    pub tenant: Option<TenantId>,
    /// The server of that request.
    pub server: Option<ServerName>,
    /// The limit in words.
    pub message: String,
}

/// What all use, per minute.
#[derive(Clone, Copy, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct Rates {
    /// The span of the rates, here and in rows of tenants and servers. At most 60 s, less after somebody has begun to look.
    pub over_seconds: f64,
    /// Requests for tools, prompts, resources and completions.
    pub calls_per_minute: f64,
    /// Requests that were answered with an error, the server's or stdiopool's.
    pub errors_per_minute: f64,
    /// Processor time of workers: seconds in a second.
    pub cpu_cores: f64,
}

/// What a tenant uses.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TenantUse {
    /// The tenant's name.
    pub name: TenantId,
    /// Live workers.
    pub workers: usize,
    /// The most it may have.
    pub max_workers: usize,
    /// Requests that its workers have and have not answered.
    pub in_flight: usize,
    /// Requests waiting.
    pub queued: usize,
    /// As in [`Rates`].
    pub calls_per_minute: f64,
    /// As in [`Rates`].
    pub errors_per_minute: f64,
    /// As in [`Rates`].
    pub cpu_cores: f64,
    /// What its workers hold that are awake, in bytes.
    pub memory_awake_bytes: u64,
    /// What its hibernated workers hold, in bytes.
    pub memory_asleep_bytes: u64,
}

/// What a server uses.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ServerUse {
    /// The server's name under `[servers]`.
    pub name: ServerName,
    /// Live workers.
    pub workers: usize,
    /// Requests that its workers have and have not answered.
    pub in_flight: usize,
    /// Requests waiting.
    pub queued: usize,
    /// As in [`Rates`].
    pub calls_per_minute: f64,
    /// As in [`Rates`].
    pub errors_per_minute: f64,
    /// As in [`Rates`].
    pub cpu_cores: f64,
    /// What its workers hold that are awake, in bytes.
    pub memory_awake_bytes: u64,
    /// What its hibernated workers hold, in bytes.
    pub memory_asleep_bytes: u64,
    /// Starts since the supervisor started.
    pub starts: StartCounts,
    /// Whether starts of the server are tried.
    pub circuit: CircuitState,
    /// Seconds until a start of the server is tried again, when its circuit is open or its last start failed.
    pub retry_in_seconds: Option<f64>,
    /// The last thing that went wrong with the server, whenever that was.
    pub last_error: Option<LastError>,
}

/// What a worker uses.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WorkerUse {
    /// The worker's id.
    #[serde(with = "worker_id")]
    pub id: WorkerId,
    /// The server that the worker runs.
    pub server: ServerName,
    /// The tenant with whose config the worker was started; empty for a spare, which is nobody's yet.
    pub tenant: TenantId,
    /// What the worker is doing.
    pub state: WorkerState,
    /// Requests it has not answered yet.
    pub in_flight: usize,
    /// Processor time in the last ten to twenty seconds: seconds in a second.
    pub cpu_cores: f64,
    /// Memory of the tree at the last sample, in bytes.
    pub memory_bytes: Option<u64>,
    /// Requests it was given in its life.
    pub requests: u64,
    /// Seconds since the worker was spawned.
    pub age_seconds: f64,
    /// Seconds since the worker's last request ended; none while one is in flight.
    pub idle_seconds: Option<f64>,
    /// Whether the worker is kept from eviction.
    pub pinned: bool,
}

/// How requests came to their workers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Mix {
    /// Requests that an awake worker had which had served before.
    pub warm: u64,
    /// Requests for which a hibernated worker was woken.
    pub woken: u64,
    /// Spares that became a tenant's worker.
    pub adopted: u64,
    /// Starts that were forked from a template, or were of a process that had waited.
    pub primed: u64,
    /// Starts that ran all of a server's start.
    pub cold: u64,
    /// Starts that failed.
    pub failed: u64,
}

/// Something that was counted of late.
#[derive(Clone, Copy, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct Lately<T> {
    /// What was counted.
    #[serde(flatten)]
    pub counted: T,
    /// In how many seconds until now; about five minutes.
    pub over_seconds: f64,
}

/// A reason for which requests were answered with a failure of stdiopool's own.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Rejection {
    /// `data.reason` of the error.
    pub reason: String,
    /// How many since the start.
    pub total: u64,
    /// How many of late.
    pub lately: u64,
    /// What the reason says (docs/errors.md).
    pub about: String,
}

/// Idle workers that were stopped to make room, by the limit that needed it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Evictions {
    /// `pool.max_workers`.
    pub max_workers: u64,
    /// `pool.max_workers_per_tenant`, or a tenant's own limit.
    pub max_workers_per_tenant: u64,
    /// A server's `max_workers`.
    pub max_workers_per_server: u64,
    /// `pool.max_memory`.
    pub max_memory: u64,
}

/// A circuit that is open.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CircuitInWords {
    /// The circuit, as in `GET /api/v1/status`.
    #[serde(flatten)]
    pub circuit: CircuitRow,
    /// For whom starts are refused, or how the last one failed.
    pub message: String,
}

/// An install of a package that is under way.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct InstallRow {
    /// The package, without credentials.
    pub package: String,
    /// A server that runs it.
    pub server: ServerName,
    /// `waiting`, `resolving` or `installing`.
    pub stage: String,
    /// How long it has taken until now.
    pub seconds: f64,
}

/// An authorisation upstream that ends soon, or of which no other token can be had.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct GrantInDanger {
    /// The tenant that gave it.
    pub tenant: TenantId,
    /// The server that it is for.
    pub server: ServerName,
    /// When it ends, in milliseconds since 1970, where that is known.
    pub ends_at_ms: Option<u64>,
    /// What the matter is.
    pub message: String,
}
