//! A worker that is told to hibernate, whatever its timer says.

use super::event::Action;
use super::footprint::Sleep;
use super::state::{Phase, Policy};
use crate::ids::WorkerId;

/// Why a worker is not hibernated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotHibernated {
    /// There is no worker of that id.
    NoSuchWorker,
    /// The worker is not ready.
    Starting,
    /// The worker has so many requests in flight.
    Busy(usize),
    /// The worker is hibernated, or on the way.
    Asleep,
    /// The worker takes no new requests, or is being stopped.
    Leaving,
    /// The worker could not be paged out before.
    Unsupported,
}

impl Policy {
    /// Whether the worker could be told to hibernate now.
    ///
    /// # Errors
    /// Why it could not.
    pub fn may_hibernate(&self, id: WorkerId) -> Result<(), NotHibernated> {
        let worker = self.worker(id).ok_or(NotHibernated::NoSuchWorker)?;
        match worker.phase {
            Phase::Starting => return Err(NotHibernated::Starting),
            Phase::Stopping => return Err(NotHibernated::Leaving),
            Phase::Ready => {}
        }
        if worker.retiring.is_some() {
            return Err(NotHibernated::Leaving);
        }
        if worker.in_flight > 0 {
            return Err(NotHibernated::Busy(worker.in_flight));
        }
        match worker.sleep {
            Sleep::Awake if worker.is_page_out_unsupported => Err(NotHibernated::Unsupported),
            Sleep::Awake => Ok(()),
            Sleep::FallingAsleep | Sleep::Asleep => Err(NotHibernated::Asleep),
        }
    }

    /// The worker falls asleep, if it may.
    pub(super) fn hibernate(&mut self, id: WorkerId, out: &mut Vec<Action>) {
        if self.may_hibernate(id).is_ok() {
            self.falls_asleep(id, out);
        }
    }
}
