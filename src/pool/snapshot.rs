//! The pool at one moment, for people.

use std::time::{Duration, Instant};

use super::policy::{Grants, LongestWait, Phase, Policy, Sleep, StartFailure};
use crate::ids::{PoolKey, ServerName, TenantId, WorkerId};

/// Where a worker is in its life, as people are told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum WorkerState {
    /// Started, not ready.
    Starting,
    /// Ready, nothing in flight.
    Idle,
    /// Ready, and nobody's yet.
    Spare,
    /// Ready, nothing in flight, its memory paged out.
    Hibernated,
    /// Ready, something in flight.
    Busy,
    /// Gets no new requests; stops when it is idle.
    Draining,
    /// Told to stop, or dead.
    Stopping,
}

/// One worker.
#[derive(Clone, Debug)]
pub struct WorkerView {
    /// The worker's id.
    pub id: WorkerId,
    /// The key of all that the worker is interchangeable with.
    pub key: PoolKey,
    /// The tenant.
    pub tenant: TenantId,
    /// The server that the worker runs.
    pub server: ServerName,
    /// Where the worker is in its life.
    pub state: WorkerState,
    /// Requests it works on.
    pub in_flight: usize,
    /// Bytes it is charged with: what it was last measured to hold, or is expected to.
    pub memory: u64,
    /// Bytes it was last measured to hold; `None` before that.
    pub measured: Option<u64>,
    /// Bytes it held when it was last measured awake; with [`Self::memory`] what sleep has saved.
    pub awake_memory: u64,
    /// Kept from being evicted.
    pub is_pinned: bool,
    /// Requests it was given since its start.
    pub requests: u64,
    /// Time since the worker's start.
    pub age: Duration,
    /// Since nothing is in flight; `None` while something is.
    pub idle_for: Option<Duration>,
}

/// The pool at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The pool's workers, by id.
    pub workers: Vec<WorkerView>,
    /// Bytes that are held against the limit on memory: by workers, measured or expected, and by what they are forked from.
    pub memory: u64,
    /// How requests came to their workers since the pool began.
    pub grants: Grants,
    /// How many requests wait.
    pub queue_depth: usize,
    /// How many requests wait, by tenant.
    pub waiting: Vec<(TenantId, usize)>,
    /// How many requests wait, by server.
    pub waiting_for: Vec<(ServerName, usize)>,
    /// The one of these requests that has waited for longest.
    pub longest_wait: Option<LongestWait>,
    /// The keys of these requests, in any order.
    pub wanted: Vec<PoolKey>,
    /// Servers that are not started because they keep failing.
    pub open_circuits: Vec<OpenCircuit>,
    /// Configurations that are not started because they keep failing, by server and tenant.
    pub open_configurations: Vec<OpenConfiguration>,
    /// When the next start is due of servers whose last one failed, by name: the soonest of their keys.
    pub next_tries: Vec<(ServerName, Duration)>,
}

/// A server whose circuit is open.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OpenCircuit {
    /// The server whose starts are refused.
    pub server: ServerName,
    /// The tenant for whom starts are refused; `None` for everyone.
    pub tenant: Option<TenantId>,
    /// How many keys of the server or tenant failed to start.
    pub failing_keys: usize,
    /// For how much longer.
    pub retry_in: Duration,
}

/// A configuration of a tenant whose starts keep failing: one key, that is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OpenConfiguration {
    /// The server whose starts fail.
    pub server: ServerName,
    /// The tenant.
    pub tenant: TenantId,
    /// For how much longer it is left alone; nothing if its next start is to be tried.
    pub retry_in: Duration,
    /// How many starts in a row failed.
    pub failures: u32,
    /// How the last one failed, if that is remembered.
    pub last: Option<StartFailure>,
}

impl Snapshot {
    pub(super) fn of(policy: &Policy, now: Instant) -> Self {
        let mut workers: Vec<_> = policy
            .workers()
            .map(|(id, worker)| WorkerView {
                id,
                key: worker.key,
                tenant: worker.facts.tenant.clone(),
                server: worker.facts.server.clone(),
                state: match worker.phase {
                    Phase::Starting => WorkerState::Starting,
                    Phase::Ready if worker.retiring.is_some() => WorkerState::Draining,
                    Phase::Ready if worker.facts.is_spare => WorkerState::Spare,
                    Phase::Ready if worker.in_flight > 0 => WorkerState::Busy,
                    Phase::Ready if worker.sleep == Sleep::Asleep => WorkerState::Hibernated,
                    Phase::Ready => WorkerState::Idle,
                    Phase::Stopping => WorkerState::Stopping,
                },
                in_flight: worker.in_flight,
                memory: worker.memory,
                measured: worker.is_measured.then_some(worker.memory),
                awake_memory: worker.awake_memory,
                is_pinned: worker.pins > 0,
                requests: worker.granted,
                age: now.saturating_duration_since(worker.started),
                idle_for: worker
                    .idle_since
                    .map(|at| now.saturating_duration_since(at)),
            })
            .collect();
        workers.sort_by_key(|worker| worker.id);
        let mut waiting: Vec<_> = policy.waiting().map(|(id, n)| (id.clone(), n)).collect();
        waiting.sort();
        let mut open_circuits: Vec<_> = policy
            .open_circuits(now)
            .map(|(server, open)| OpenCircuit {
                server: server.clone(),
                tenant: open.tenant.cloned(),
                failing_keys: open.failing,
                retry_in: open.until.saturating_duration_since(now),
            })
            .collect();
        open_circuits.sort();
        let mut open_configurations: Vec<_> = policy
            .open_configurations(now)
            .map(|refused| OpenConfiguration {
                server: refused.facts.server.clone(),
                tenant: refused.facts.tenant.clone(),
                retry_in: refused.until.saturating_duration_since(now),
                failures: refused.failures,
                last: refused.last.cloned(),
            })
            .collect();
        open_configurations.sort();
        Self {
            workers,
            memory: policy.in_use(),
            grants: policy.grants(),
            queue_depth: policy.queue_depth(),
            waiting,
            waiting_for: policy.waiting_for(),
            longest_wait: policy.longest_wait(now),
            wanted: policy.wanted_keys().collect(),
            open_circuits,
            open_configurations,
            next_tries: policy.next_tries(now),
        }
    }
}
