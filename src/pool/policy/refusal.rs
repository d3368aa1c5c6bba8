//! Why a request is not granted, as values: what is said of it to whom is decided above the pool.

use std::time::Duration;

use super::circuit_change::CircuitOf;
use super::start_failure::StartFailure;
use crate::ids::{ServerName, TenantId};

/// The state of the worker that has to be gone before the next of its lineage is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Predecessor {
    /// The predecessor was told to stop, and has not ended yet.
    Stopping,
    /// The predecessor starts.
    Starting,
    /// The predecessor serves.
    Serving,
    /// The predecessor takes no new requests.
    Draining {
        /// Requests that the predecessor still works on.
        in_flight: usize,
        /// How long the predecessor may go on at most: it is stopped then.
        left: Duration,
    },
}

/// Why a request is refused, with what was in its way. `waited`: how long a ticket may wait, and did.
#[derive(Clone, PartialEq, Debug)]
pub enum Refusal {
    /// The pool takes no new work.
    Draining,
    /// The queue of the pool has as many tickets as it may.
    QueueFull {
        /// Tickets that may wait.
        limit: usize,
    },
    /// The queue was full, and most of it that tenant's: another's ticket displaced this one.
    QueueShare {
        /// How many may wait.
        limit: usize,
        /// The tenant of the ticket that displaced it.
        tenant: TenantId,
    },
    /// The session has its share of the slots of a worker.
    SessionShare {
        /// The worker's server.
        server: ServerName,
        /// The session's share of those slots.
        share: usize,
        /// The slots of a worker.
        max_in_flight: usize,
    },
    /// The worker that is being started for the key is not ready.
    NotReady {
        /// The worker's server.
        server: ServerName,
        /// How long the worker was waited for.
        waited: Duration,
    },
    /// The key's launch has changed while it started.
    Changed {
        /// The key's server.
        server: ServerName,
    },
    /// The key has as many workers as it may, and all were busy.
    KeyBusy {
        /// The key's server.
        server: ServerName,
        /// The slots of a worker.
        max_in_flight: usize,
        /// How long a free slot was waited for.
        waited: Duration,
    },
    /// A worker of the lineage is still there, and the next is started when it is gone.
    Follows {
        /// The worker's server.
        server: ServerName,
        /// What that worker does.
        predecessor: Predecessor,
        /// Whether the predecessor is there for clients that declare something else; it has an earlier configuration otherwise.
        is_sibling: bool,
    },
    /// The tenant has as many workers as it may.
    TenantFull {
        /// The tenant.
        tenant: TenantId,
        /// How many workers the tenant has.
        in_use: usize,
        /// How many workers the tenant may have.
        limit: usize,
        /// How long a worker was waited for.
        waited: Duration,
    },
    /// The server has as many workers as it may.
    ServerFull {
        /// The server.
        server: ServerName,
        /// How many workers the server has.
        in_use: usize,
        /// How many workers the server may have.
        limit: usize,
        /// How long a worker was waited for.
        waited: Duration,
    },
    /// The limits allowed another worker, and there was no room in memory.
    MemoryFull {
        /// The server of the worker that was to start.
        server: ServerName,
        /// Bytes that it is expected to hold.
        needs: u64,
        /// Bytes that all workers are charged with.
        held: u64,
        /// Bytes that they may hold.
        limit: u64,
        /// How long room was waited for.
        waited: Duration,
    },
    /// The start permits are taken: by starts of the tenant's own, or by those of others.
    StartsFull {
        /// The tenant.
        tenant: TenantId,
        /// How many of those are the tenant's.
        own: usize,
        /// How many permits there are.
        limit: usize,
        /// How long a permit was waited for.
        waited: Duration,
    },
    /// The limits allowed no other worker.
    PoolFull {
        /// How many workers there are.
        in_use: usize,
        /// How many workers the pool may have.
        limit: usize,
        /// How many of the pool's workers are starting.
        starting: usize,
        /// How long a worker was waited for.
        waited: Duration,
    },
    /// The start that the request waited for has failed, or the next one is too far away.
    StartFailed {
        /// How the start failed.
        failure: StartFailure,
        /// Until the next start is tried, if there is a wait.
        retry_in: Option<Duration>,
    },
    /// Starts of the key, its tenant or everyone fail, and are left alone for a while.
    CircuitOpen {
        /// The server whose starts fail.
        server: ServerName,
        /// For whom the server's starts are left alone.
        of: CircuitOf,
        /// How many starts in a row failed: of a configuration.
        failures: u32,
        /// Until the next start is tried.
        retry_in: Duration,
        /// How the key's own last start failed, if one did.
        last: Option<StartFailure>,
    },
    /// The pool is gone, and has said nothing.
    Dropped,
}
