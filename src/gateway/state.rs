//! What the gateway knows and uses.

use std::sync::{Arc, Weak};

use tokio_util::task::TaskTracker;

use super::gateway_event::{EventSink, GatewayEvent};
use super::known_tools::KnownTools;
use super::late_lists::LateLists;
use super::rules::Finding;
use super::session_table::SessionTable;
use crate::config::Config;
use crate::held::Ledger;
use crate::ids::{ServerName, WorkerId};
use crate::launch::packages::Installer;
use crate::pool::{Observer, PoolLimits};
use crate::routing::{CurrentConfig, DialectCache, Knowledge, RuntimeConfig, ToolList};
use crate::store::SessionStore;
use crate::telemetry::audit::Audit;
use crate::telemetry::{Metrics, TraceRecorder};
use crate::upstream::{
    ConnectionEvents, WorkerConnection, WorkerDependencies, WorkerEventSink, WorkerPool, Workers,
};
use crate::usage::Usage;
use crate::worker::{Guardian, can_make_read_only};

/// The parts that the gateway is made of.
pub(super) struct GatewayParts {
    /// What follows from the first pool.toml.
    pub(super) runtime: Arc<RuntimeConfig>,
    /// Bounds of the pool.
    pub(super) limits: PoolLimits,
    /// Starts processes.
    pub(super) guardian: Guardian,
    /// Where things are counted.
    pub(super) metrics: Arc<Metrics>,
    /// Where what tenants use is counted.
    pub(super) usage: Arc<Usage>,
    /// Is told what the pool does.
    pub(super) observer: Arc<dyn Observer>,
    /// Is told what happens.
    pub(super) sink: Arc<dyn EventSink>,
    /// Where sessions are written down.
    pub(super) store: Option<SessionStore>,
    /// What an earlier run has learnt of dialects.
    pub(super) dialects: DialectCache,
    /// Where requests are recorded.
    pub(super) trace: Option<TraceRecorder>,
    /// The audit log, which is told what workers reach.
    pub(super) audit: Option<Arc<Audit>>,
    /// Installs what workers are started from.
    pub(super) installer: Arc<Installer>,
}

/// State behind [`Gateway`]. Each part has its own small lock, none is held across an await or while another is taken.
#[derive(Debug)]
pub(super) struct GatewayState {
    /// The sessions that there are.
    pub(super) sessions: Arc<SessionTable>,
    /// What servers have told, as far as the route of a request depends on it.
    pub(super) knowledge: Arc<Knowledge>,
    /// What servers' tools are called.
    pub(super) tools: KnownTools,
    /// Lists of all servers that some are missing in until their packages are there.
    pub(super) late_lists: LateLists,
    /// What is held for tenants.
    pub(super) ledger: Ledger,
    pub(super) metrics: Arc<Metrics>,
    /// Where what tenants use is counted.
    pub(super) usage: Arc<Usage>,
    pub(super) tasks: TaskTracker,
    pub(super) sink: Arc<dyn EventSink>,
    /// Installs what workers are started from.
    pub(super) installer: Arc<Installer>,
    pub(super) workers: Arc<Workers>,
    config: Arc<CurrentConfig>,
    /// The state itself, for what goes on beside what it is told.
    pub(super) me: Weak<Self>,
}

impl GatewayState {
    /// A gateway without sessions, and a pool without workers.
    pub(super) fn new(beginning: GatewayParts) -> Arc<Self>
    where
        Self: ConnectionEvents,
    {
        let GatewayParts {
            runtime,
            limits,
            guardian,
            metrics,
            usage,
            observer,
            sink,
            store,
            dialects,
            trace,
            audit,
            installer,
        } = beginning;
        let ledger = Ledger::new(runtime.config.held_limits());
        set_up(&installer, &runtime.config);
        ledger.set_limits(
            runtime.config.held_limits(),
            runtime.config.own_held_limits(),
        );
        let knowledge = Arc::new(Knowledge::new(dialects, ledger.clone()));
        let config = Arc::new(CurrentConfig::new(runtime));
        Arc::new_cyclic(|state: &Weak<Self>| {
            let dependencies = WorkerDependencies {
                knowledge: Arc::clone(&knowledge),
                config: Arc::clone(&config),
                ledger: ledger.clone(),
                metrics: Arc::clone(&metrics),
                usage: Arc::clone(&usage),
                trace,
                audit,
                guardian,
                installer: Arc::clone(&installer),
                events: Weak::clone(state) as Weak<dyn ConnectionEvents>,
                sink: Arc::clone(&sink) as Arc<dyn WorkerEventSink>,
            };
            let workers = Workers::new(limits, observer, dependencies);
            let sessions = SessionTable::new(
                ledger.clone(),
                Arc::clone(&config),
                Arc::clone(&workers),
                Arc::clone(&sink),
                store,
            );
            Self {
                sessions: Arc::new(sessions),
                knowledge,
                tools: KnownTools::default(),
                late_lists: LateLists::default(),
                ledger,
                metrics,
                usage,
                tasks: workers.tasks().clone(),
                sink,
                installer,
                workers,
                config,
                me: Weak::clone(state),
            }
        })
    }

    pub(super) fn pool(&self) -> &WorkerPool {
        self.workers.pool()
    }

    pub(super) fn runtime_config(&self) -> Arc<RuntimeConfig> {
        self.config.get()
    }

    pub(super) fn replace_runtime_config(&self, runtime: Arc<RuntimeConfig>) {
        let config = &runtime.config;
        let own = config.own_held_limits();
        self.ledger.set_limits(config.held_limits(), own);
        set_up(&self.installer, config);
        let found = self.tools.reconsider(config);
        self.tell_findings(&found);
        self.config.replace(runtime);
    }

    pub(super) fn connection(&self, id: WorkerId) -> Option<Arc<WorkerConnection>> {
        self.workers.connection(id)
    }

    pub(super) fn connections(&self) -> Vec<Arc<WorkerConnection>> {
        self.workers.connections()
    }

    /// Looks at a page of a server's list of tools: whether rules about them do what they say.
    pub(crate) fn learn_tools(&self, server: &ServerName, result: &str) {
        let runtime = self.runtime_config();
        if runtime.is_selective(server) {
            let found = self.tools.learn(&runtime.config, server, result);
            self.tell_findings(&found);
        }
    }

    /// Looks at a whole list of a server's tools: whether what is set for them can be.
    pub(crate) fn learn_tool_list(&self, server: &ServerName, list: &Arc<ToolList>) {
        let runtime = self.runtime_config();
        let found = self.tools.learn_list(&runtime.config, server, list);
        self.tell_findings(&found);
    }

    /// Whether arguments are set for callers of that server's tools.
    pub(super) fn binds(&self, server: &ServerName) -> bool {
        self.runtime_config().binds(server)
    }

    fn tell_findings(&self, findings: &[Finding]) {
        for finding in findings {
            let server = finding.server.as_ref();
            tracing::warn!(
                server = server.map(ServerName::as_str),
                "{}",
                finding.message
            );
            let unmatched = GatewayEvent::RuleUnmatched(server, &finding.message);
            self.sink.gateway_event(unmatched);
        }
    }
}

/// Sets what pool.toml says of installs and of the package cache.
fn set_up(installer: &Installer, config: &Config) {
    installer.set_timeout(config.packages.install_timeout);
    let is_open = config.without_sandbox().next().is_some();
    installer.set_within_reach(is_open || !can_make_read_only());
}

/// Serves requests: finds or starts the worker that each is for. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gateway {
    pub(super) state: Arc<GatewayState>,
}

/// A handle that does not keep the gateway alive.
#[derive(Clone, Debug)]
pub struct WeakGateway(Weak<GatewayState>);

impl WeakGateway {
    /// The gateway, if it is still there.
    pub fn upgrade(&self) -> Option<Gateway> {
        self.0.upgrade().map(|state| Gateway { state })
    }
}

impl Gateway {
    /// A handle that does not keep the gateway alive.
    pub fn downgrade(&self) -> WeakGateway {
        WeakGateway(Arc::downgrade(&self.state))
    }
}
