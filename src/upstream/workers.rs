//! All workers: the connections to them, and what starting them takes.

use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::connection::WorkerConnection;
use super::events::ConnectionEvents;
use super::lease::WorkerPool;
use super::services::Services;
use super::spare_slot::SpareSlot;
use super::template_set::TemplateSet;
use super::worker_events::{WorkerEvent, WorkerEventSink};
use super::worker_launcher::{Lifecycle, WorkerLauncher};
use crate::held::Ledger;
use crate::ids::{ServerName, WorkerId};
use crate::launch::packages::{Installer, UnderWay};
use crate::pool::{Observer, Pool, PoolLimits};
use crate::routing::{CurrentConfig, Knowledge};
use crate::telemetry::audit::Audit;
use crate::telemetry::labels::Observed;
use crate::telemetry::{Metrics, TraceRecorder};
use crate::usage::Usage;
use crate::worker::Guardian;

/// Page-outs at once.
const PAGE_OUTS: usize = 2;

/// The services that workers are started with and told to.
#[derive(Debug)]
pub(crate) struct WorkerDependencies {
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
    /// Starts processes.
    pub(crate) guardian: Guardian,
    /// Installs what workers are started from.
    pub(crate) installer: Arc<Installer>,
    /// Is told what happens at connections.
    pub(crate) events: Weak<dyn ConnectionEvents>,
    /// Is told what happens to workers.
    pub(crate) sink: Arc<dyn WorkerEventSink>,
}

/// The workers there are, those being started or stopped included.
#[derive(Debug)]
pub struct Workers {
    pub(super) services: Arc<Services>,
    pub(super) guardian: Guardian,
    /// Installs what workers are started from.
    pub(super) installer: Arc<Installer>,
    /// Workers that may be paged out at once.
    pub(super) page_outs: Semaphore,
    /// What starts of packages may be forked from.
    pub(super) templates: TemplateSet,
    sink: Arc<dyn WorkerEventSink>,
    connections: RwLock<FxHashMap<WorkerId, Arc<WorkerConnection>>>,
    /// Where the processes of spares can be handed over, of those that are nobody's yet.
    spares: Mutex<FxHashMap<WorkerId, Arc<SpareSlot>>>,
}

impl Workers {
    /// A pool without workers.
    pub(crate) fn new(
        limits: PoolLimits,
        observer: Arc<dyn Observer>,
        dependencies: WorkerDependencies,
    ) -> Arc<Self> {
        Arc::new_cyclic(|workers: &Weak<Self>| {
            let lifecycle = Weak::clone(workers) as Weak<dyn Lifecycle>;
            let services = Services {
                pool: Pool::new(limits, Arc::new(WorkerLauncher(lifecycle)), observer),
                knowledge: dependencies.knowledge,
                config: dependencies.config,
                ledger: dependencies.ledger,
                metrics: dependencies.metrics,
                usage: dependencies.usage,
                audit: dependencies.audit,
                trace: dependencies.trace,
                tasks: TaskTracker::new(),
                events: dependencies.events,
            };
            Self {
                services: Arc::new(services),
                guardian: dependencies.guardian,
                installer: dependencies.installer,
                page_outs: Semaphore::new(PAGE_OUTS),
                templates: TemplateSet::default(),
                sink: dependencies.sink,
                connections: RwLock::default(),
                spares: Mutex::default(),
            }
        })
    }

    /// Hands out slots on workers.
    pub fn pool(&self) -> &WorkerPool {
        &self.services.pool
    }

    /// What goes on beside requests; waited for at the end.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.services.tasks
    }

    /// Where requests are recorded for `stdiopool tune`.
    pub(crate) fn trace(&self) -> Option<&TraceRecorder> {
        self.services.trace.as_ref()
    }

    /// The connection to that worker.
    pub fn connection(&self, id: WorkerId) -> Option<Arc<WorkerConnection>> {
        self.connections.read().get(&id).cloned()
    }

    /// The connections to all workers.
    pub fn connections(&self) -> Vec<Arc<WorkerConnection>> {
        self.connections.read().values().cloned().collect()
    }

    /// Installs of packages under way, the one that was begun first at the front.
    pub fn installs(&self) -> Vec<UnderWay> {
        self.installer.under_way()
    }

    /// What is held for tenants.
    pub fn ledger(&self) -> &Ledger {
        &self.services.ledger
    }

    /// Where what tenants use is counted.
    pub fn usage(&self) -> &Usage {
        &self.services.usage
    }

    /// Records what a worker holds, in bytes, for `stdiopool tune`.
    pub fn record_memory(&self, server: &ServerName, bytes: u64, asleep: bool) {
        if let Some(trace) = self.trace() {
            trace.memory(server, bytes, asleep);
        }
    }

    pub(super) fn add_connection(&self, connection: Arc<WorkerConnection>) {
        self.connections.write().insert(connection.id(), connection);
    }

    pub(super) fn remove_connection(&self, id: WorkerId) {
        self.connections.write().remove(&id);
        self.spares.lock().remove(&id);
    }

    /// Notes where the process of a spare can be handed over.
    pub(super) fn keep_spare(&self, id: WorkerId, spare_slot: &Arc<SpareSlot>) {
        self.spares.lock().insert(id, Arc::clone(spare_slot));
    }

    /// Where the process of that spare can be handed over, once.
    pub(super) fn take_spare(&self, id: WorkerId) -> Option<Arc<SpareSlot>> {
        self.spares.lock().remove(&id)
    }

    /// Tells that a worker with `sandbox = "observe"` does what it would be refused with "strict".
    pub(crate) fn tell_observed(&self, id: WorkerId, kind: Observed, how: &str) {
        if let Some(connection) = self.connection(id) {
            self.tell(WorkerEvent::Observed(&connection, kind, how));
        }
    }

    pub(super) fn tell(&self, event: WorkerEvent<'_>) {
        self.sink.worker_event(event);
    }
}
