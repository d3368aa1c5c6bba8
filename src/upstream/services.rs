//! What the connections to all workers share.

use std::sync::{Arc, Weak};

use tokio_util::task::TaskTracker;

use super::events::ConnectionEvents;
use super::lease::WorkerPool;
use crate::held::Ledger;
use crate::routing::{CurrentConfig, Knowledge};
use crate::telemetry::audit::Audit;
use crate::telemetry::{Metrics, TraceRecorder};
use crate::usage::Usage;

/// The services that a connection uses beside its own worker. All stand below connections, but for those who are told what
/// happens.
#[derive(Debug)]
pub(crate) struct Services {
    /// Hands out slots on workers.
    pub(crate) pool: WorkerPool,
    /// What servers have told.
    pub(crate) knowledge: Arc<Knowledge>,
    /// The pool.toml in force.
    pub(crate) config: Arc<CurrentConfig>,
    /// What is held for tenants.
    pub(crate) ledger: Ledger,
    /// Where things are counted.
    pub(crate) metrics: Arc<Metrics>,
    /// Where what tenants use is counted.
    pub(crate) usage: Arc<Usage>,
    /// The audit log, which is told what workers reach.
    pub(crate) audit: Option<Arc<Audit>>,
    /// Where requests are recorded for `stdiopool tune`.
    pub(crate) trace: Option<TraceRecorder>,
    /// What goes on beside requests; waited for at the end.
    pub(crate) tasks: TaskTracker,
    /// Is told what happens at the connections.
    pub(crate) events: Weak<dyn ConnectionEvents>,
}
