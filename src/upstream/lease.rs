//! The pool and its slots, for workers that are connections.

use super::worker_launcher::WorkerLauncher;
use crate::pool::{Lease, Pool};

/// A slot on a worker of a session.
pub(crate) type WorkerLease = Lease<WorkerLauncher>;

/// The pool of workers.
pub(crate) type WorkerPool = Pool<WorkerLauncher>;
