//! A slot on a worker, for as long as it is held.

use std::fmt;
use std::sync::Arc;

use super::launcher::Launcher;
use super::policy::{Event, StopReason};
use super::runtime::Inner;
use crate::ids::WorkerId;

/// A slot on a worker; dropping it gives the slot back. Harmless to drop when the worker is gone.
pub struct Lease<L: Launcher> {
    pub(super) pool: Arc<Inner<L>>,
    pub(super) id: WorkerId,
    pub(super) worker: L::Worker,
    /// The session whose request the slot is for.
    pub(super) session: u64,
    pub(super) served: bool,
}

impl<L: Launcher> Lease<L> {
    /// The worker.
    pub fn worker(&self) -> &L::Worker {
        &self.worker
    }

    /// The worker's id.
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// Gives the slot back after the worker has answered: what failed before is forgiven.
    pub fn served(mut self) {
        self.served = true;
    }

    /// Gives the slot back of a request that was cancelled and is not answered, and lets nobody else use
    /// the worker.
    pub fn give_up(self) {
        self.pool.on(Event::Retire(self.id, StopReason::Unanswered));
    }
}

impl<L: Launcher> Drop for Lease<L> {
    fn drop(&mut self) {
        self.pool.on(Event::Release {
            worker: self.id,
            session: self.session,
            served: self.served,
        });
    }
}

impl<L: Launcher> fmt::Debug for Lease<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", self.id)
    }
}
