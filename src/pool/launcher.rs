//! What the pool asks of the world around it.

use std::sync::Arc;
use std::time::Duration;

use super::policy::{CircuitChange, Claim, KeyFacts, StopReason};
use crate::ids::{PoolKey, ServerName, TenantId, WorkerId};

/// Starts and stops workers.
pub trait Launcher: Send + Sync + 'static {
    /// What a start needs.
    type Spec: Send + Sync + 'static;
    /// The handle that a lease gives access to.
    type Worker: Clone + Send + Sync + 'static;

    /// Begins to start a worker and returns at once. Answers later with [`super::Pool::ready`] or
    /// [`super::Pool::start_failed`], and in every case with [`super::Pool::exited`] when the last
    /// process is gone.
    fn start(&self, id: WorkerId, key: PoolKey, spec: Arc<Self::Spec>);

    /// Begins to make a worker of that key of a ready spare, and returns at once. Answers later as
    /// [`Self::start`] does.
    fn adopt(&self, id: WorkerId, key: PoolKey, spec: Arc<Self::Spec>);

    /// Begins to page a worker out and returns at once. Answers later with
    /// [`super::Pool::hibernated`].
    fn hibernate(&self, id: WorkerId);

    /// A worker that was told to hibernate is needed: a page-out under way must end.
    fn wake(&self, id: WorkerId);

    /// Begins to stop a worker, also one that is still starting, and returns at once.
    fn stop(&self, id: WorkerId, stop: Stop);
}

/// Why a worker is told to stop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stop {
    /// The reason for which the worker is stopped.
    pub reason: StopReason,
    /// The tenant whose worker needs its capacity or its memory, where it is evicted for that.
    pub makes_room_for: Option<TenantId>,
    /// The worker had `pool.drain_timeout` for what it has in flight, and others wait for the next of its key.
    pub is_cut_short: bool,
}

impl From<StopReason> for Stop {
    fn from(reason: StopReason) -> Self {
        Self {
            reason,
            makes_room_for: None,
            is_cut_short: false,
        }
    }
}

/// How a worker ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExitCause {
    /// The worker was told to.
    Requested,
    /// By itself.
    Crashed,
    /// Before it was ready.
    StartFailed,
}

/// A request for a slot on a worker of a key.
#[derive(Debug)]
pub struct AcquireRequest<S> {
    /// Interchangeable workers.
    pub key: PoolKey,
    /// What the policy must know of the key.
    pub facts: Arc<KeyFacts>,
    /// The claimant of the slot.
    pub claim: Claim,
    /// What a start needs.
    pub spec: Arc<S>,
}

/// Hears what happens, to count it. Called without a lock held; must not block.
pub trait Observer: Send + Sync + 'static {
    /// A request that had to wait was granted or refused after that long.
    fn waited(&self, _wait: Duration) {}
    /// A start ended, well or not.
    fn started(&self, _server: &ServerName, _succeeded: bool, _took: Duration) {}
    /// A worker is gone: it was to stop for that reason, or has ended by itself.
    fn gone(&self, _server: &ServerName, _stopped: Option<StopReason>) {}
    /// A worker was told to stop so that another can start.
    fn evicted(&self, _server: &ServerName, _reason: StopReason) {}
    /// A circuit opens or closes.
    fn circuit(&self, _change: &CircuitChange) {}
}

/// Hears nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoObserver;

impl Observer for NoObserver {}
