//! The pool's launcher, as a name without what it starts: leases of the pool name their launcher, and connections hold leases, so
//! that a launcher which named connections would be in a circle with them. [`Lifecycle`] is what it asks for;
//! [`Workers`](super::Workers) carries it out (`launcher`).

use std::fmt;
use std::sync::{Arc, Weak};

use crate::ids::{PoolKey, WorkerId};
use crate::pool::Stop;
use crate::routing::StartPlan;

/// The life of workers, as the pool has it done. Each call begins something and returns at once.
pub(super) trait Lifecycle: fmt::Debug + Send + Sync {
    /// Starts a worker of that key.
    fn start(self: Arc<Self>, id: WorkerId, key: PoolKey, plan: Arc<StartPlan>);

    /// Makes a worker of that key of a ready spare.
    fn adopt(self: Arc<Self>, id: WorkerId, key: PoolKey, plan: Arc<StartPlan>);

    /// Pages a worker out.
    fn hibernate(self: Arc<Self>, id: WorkerId);

    /// Ends a page-out that is under way: the worker is needed.
    fn wake(&self, id: WorkerId);

    /// Stops a worker.
    fn stop(&self, id: WorkerId, stop: Stop);
}

/// The pool's launcher: passes on what the pool decides, as long as somebody is there to carry it out.
#[derive(Debug)]
pub struct WorkerLauncher(pub(super) Weak<dyn Lifecycle>);
