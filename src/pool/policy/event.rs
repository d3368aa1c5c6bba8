//! What happens to the policy, and what it wants done.

use std::sync::Arc;

use super::circuit_change::CircuitChange;
use super::limits::{KeyFacts, PoolLimits};
use super::refusal::Refusal;
use super::start_failure::StartFailure;
use super::stock::Stock;
use crate::ids::{PoolKey, ServerName, WorkerId};

/// A request for a slot, until it is granted or refused. Unique while the supervisor runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TicketId(pub u64);

/// The claim to a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The owner of the slot, where workers are exclusive.
    pub owner: u64,
    /// The session whose request it is for: it has a share of each worker's slots.
    pub session: u64,
    /// The worker that knows something of the request: it is taken if it has a free slot, and
    /// otherwise it is as if this had not been said.
    pub prefers: Option<WorkerId>,
}

impl From<u64> for Claim {
    fn from(owner: u64) -> Self {
        Self {
            owner,
            session: owner,
            prefers: None,
        }
    }
}

/// An event of the pool.
#[derive(Clone, Debug)]
pub enum Event {
    /// Someone wants a slot on a worker of that key.
    Acquire {
        /// Names the request in the answer.
        ticket: TicketId,
        /// Interchangeable workers.
        key: PoolKey,
        /// What must be known of the key.
        facts: Arc<KeyFacts>,
        /// The claim to the slot.
        claim: Claim,
    },
    /// The request is withdrawn. Ignored for one that has been answered.
    Withdraw(TicketId),
    /// A started worker can serve.
    Ready(WorkerId),
    /// A worker that is being started waits for something else than the CPU: it takes no start permit
    /// any more.
    Waits(WorkerId),
    /// A started worker will never serve; [`Event::Exited`] still follows.
    StartFailed(WorkerId, StartFailure),
    /// A started worker cannot be spoken to in the way of its key; [`Event::Exited`] still follows.
    /// Whoever waits for it is told, and nothing is held against the key or its server.
    Declined(WorkerId, StartFailure),
    /// The last process of the worker is gone. `asked`: because it was told to stop.
    Exited {
        /// The worker whose processes are gone.
        worker: WorkerId,
        /// The worker was told to end.
        asked: bool,
    },
    /// A granted slot is given back.
    Release {
        /// Of which worker.
        worker: WorkerId,
        /// Of which session's request.
        session: u64,
        /// Whether the worker answered a request.
        served: bool,
    },
    /// The worker must neither be evicted nor stopped for being idle. Counted.
    Pin(WorkerId),
    /// Takes one pin back.
    Unpin(WorkerId),
    /// An awake worker holds so many bytes, or a sleeping one still does.
    Measured(WorkerId, u64),
    /// What workers are forked from holds so many bytes, beside all workers.
    Reserved(u64),
    /// A page-out has ended: so many bytes are still held; `None` if it could not be done.
    Hibernated(WorkerId, Option<u64>),
    /// A worker said something unasked: if it was asleep, it is not any more.
    SpontaneousWake(WorkerId),
    /// The worker is paged out now, if nothing is in flight on it.
    Hibernate(WorkerId),
    /// The host runs out of memory: idle workers shed so many bytes.
    Pressure(u64),
    /// The worker gets no new requests and is stopped when it has none in flight.
    Retire(WorkerId, StopReason),
    /// Every worker of the key gets no new requests and is stopped when it has none in flight.
    RetireKey(PoolKey, StopReason),
    /// So many spares are wanted of each of these keys, and none of others.
    Stock(Vec<Stock>),
    /// Other limits hold from now on.
    Reconfigure(PoolLimits),
    /// No new work: waiting requests are refused, workers stop when nothing is in flight.
    Drain,
    /// Every worker stops now, busy or not.
    StopAll(StopReason),
    /// Time has passed.
    Tick,
}

/// A thing that the policy wants done.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// Start a worker.
    Start(WorkerId, PoolKey),
    /// A spare becomes a worker of that key. Comes to [`Event::Ready`] or [`Event::StartFailed`] once
    /// more.
    Adopt(WorkerId, PoolKey),
    /// Stop a worker, also one that is still starting.
    Stop(WorkerId, StopReason),
    /// Page the worker out. Comes to [`Event::Hibernated`], unless [`Action::Wake`] comes first.
    Hibernate(WorkerId),
    /// The worker is needed again: a page-out under way must end.
    Wake(WorkerId),
    /// The request is granted: a slot of that worker is taken.
    Grant(TicketId, WorkerId),
    /// The request is refused.
    Refuse(TicketId, Refusal),
    /// A worker is gone for good.
    Gone {
        /// The worker that is gone.
        worker: WorkerId,
        /// The worker's server.
        server: ServerName,
        /// What the worker was to stop for; `None`: it ended by itself.
        stopped: Option<StopReason>,
    },
    /// Nothing is known of the key any more.
    Forget(PoolKey),
    /// Requests for a server are refused from now on because its starts fail, or no longer are.
    Circuit(Box<CircuitChange>),
}

/// Why a worker is stopped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StopReason {
    /// Idle for the idle timeout.
    Idle,
    /// The worker's part of `max_workers` was needed.
    Evicted,
    /// The worker's part of its tenant's limit was needed.
    EvictedOfTenant,
    /// The worker's part of its server's limit was needed.
    EvictedOfServer,
    /// The worker's memory was needed.
    EvictedForMemory,
    /// The worker held more memory than it may.
    Memory,
    /// The worker has more processes than it may.
    Pids,
    /// The worker's folders take more of the disk than they may.
    Disk,
    /// The worker reached its maximum lifetime.
    Lifetime,
    /// The worker served as many requests as it may.
    Requests,
    /// One of its siblings is waited for, and only one of them may be there.
    Sibling,
    /// The worker's launch has changed.
    Config,
    /// The worker's package is there in another version.
    Package,
    /// stdiopool shuts down.
    Drained,
    /// An operator stopped it.
    Admin,
    /// The session it belonged to has ended.
    Session,
    /// The worker cannot be trusted with further requests, or is dead already.
    Invalidated,
    /// The worker did not answer a request that was cancelled.
    Unanswered,
    /// The worker never became ready.
    StartFailed,
    /// The worker is not spoken to in the way of its key.
    Declined,
    /// The worker does not start beside another process of its server.
    NotBeside,
}

impl StopReason {
    /// Every reason.
    pub const ALL: &'static [Self] = &[
        Self::Idle,
        Self::Evicted,
        Self::EvictedOfTenant,
        Self::EvictedOfServer,
        Self::EvictedForMemory,
        Self::Memory,
        Self::Pids,
        Self::Disk,
        Self::Lifetime,
        Self::Requests,
        Self::Sibling,
        Self::Config,
        Self::Package,
        Self::Drained,
        Self::Admin,
        Self::Session,
        Self::Invalidated,
        Self::Unanswered,
        Self::StartFailed,
        Self::Declined,
        Self::NotBeside,
    ];

    /// Whether the worker goes so that another can start, for which any other could go as well.
    pub const fn is_eviction(self) -> bool {
        matches!(
            self,
            Self::Evicted | Self::EvictedOfTenant | Self::EvictedOfServer | Self::EvictedForMemory
        )
    }
}
