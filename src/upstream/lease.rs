//! A slot on a worker of a session, and the launcher as far as a slot names it.

use std::fmt;
use std::sync::{Arc, Weak};

use crate::ids::{PoolKey, WorkerId};
use crate::pool::{Lease, Pool, Stop};
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

/// The pool's launcher.
///
/// A connection holds leases of the pool whose workers are connections. Here nothing is known of connections, so that they
/// can be told apart from what starts them.
#[derive(Debug)]
pub struct WorkerLauncher(pub(super) Weak<dyn Lifecycle>);

/// A slot on a worker of a session.
pub(crate) type WorkerLease = Lease<WorkerLauncher>;

/// The pool of workers.
pub(crate) type WorkerPool = Pool<WorkerLauncher>;
