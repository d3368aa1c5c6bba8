//! The gateway as a whole: how it begins, what is in force, and what passes between a session and the workers that it has.

use std::fmt;
use std::sync::Arc;

use super::gateway_event::EventSink;
use super::packages;
use super::rules::Finding;
use super::session_table::SessionTable;
use super::state::{Gateway, GatewayParts, GatewayState};
use crate::bridge::AskRef;
use crate::held::Ledger;
use crate::ids::ServerName;
use crate::launch::packages::Installer;
use crate::pool::{Observer, PoolLimits};
use crate::protocol::{Envelope, Failure};
use crate::routing::{DialectCache, RuntimeConfig, StartPlan, spares};
use crate::session::Session;
use crate::store::OpenedState;
use crate::telemetry::audit::Audit;
use crate::telemetry::{Metrics, TraceRecorder};
use crate::upstream::Workers;
use crate::usage::Usage;
use crate::worker::Guardian;

/// The records that are written to disk while stdiopool runs.
#[derive(Debug)]
pub struct Records {
    /// Sessions, so that they survive a restart, and which era programs speak.
    pub kept: Option<OpenedState>,
    /// Requests, for `stdiopool tune`.
    pub trace: Option<TraceRecorder>,
    /// What workers reach, where that is listed.
    pub audit: Option<Arc<Audit>>,
    /// Packages that workers are started from.
    pub packages: Arc<Installer>,
}

/// Who is told what happens.
pub struct Observers {
    /// Where things are counted.
    pub metrics: Arc<Metrics>,
    /// Is told what the pool does.
    pub pool: Arc<dyn Observer>,
    /// Is told what happens to sessions, workers and packages.
    pub events: Arc<dyn EventSink>,
    /// Where what tenants use is counted.
    pub usage: Arc<Usage>,
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observers").finish_non_exhaustive()
    }
}

impl Gateway {
    /// A gateway with the sessions of an earlier run, if any were kept, and a pool without workers.
    pub fn new(
        runtime: Arc<RuntimeConfig>,
        limits: PoolLimits,
        guardian: Guardian,
        observers: Observers,
        records: Records,
    ) -> Self {
        let Records {
            kept,
            trace,
            audit,
            packages,
        } = records;
        let (store, rows, dialects) = match kept {
            Some(kept) => (
                Some(kept.sessions),
                kept.session_rows,
                DialectCache::new(Some(kept.eras), kept.era_rows),
            ),
            None => (None, vec![], DialectCache::default()),
        };
        let state = GatewayState::new(GatewayParts {
            runtime,
            limits,
            guardian,
            metrics: observers.metrics,
            usage: observers.usage,
            observer: observers.pool,
            sink: observers.events,
            store,
            dialects,
            trace,
            audit,
            installer: packages,
        });
        state.sessions.add_dormant(rows);
        let gateway = Self { state };
        gateway.stock();
        gateway
    }

    /// The sessions that there are.
    pub fn sessions(&self) -> &Arc<SessionTable> {
        &self.state.sessions
    }

    /// The workers that serve the sessions, and the pool that decides on workers.
    pub fn workers(&self) -> &Arc<Workers> {
        &self.state.workers
    }

    /// The runtime config of the current pool.toml.
    pub fn runtime_config(&self) -> Arc<RuntimeConfig> {
        self.state.runtime_config()
    }

    /// Where things are counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.state.metrics
    }

    /// Where what tenants use is counted.
    pub fn usage(&self) -> &Arc<Usage> {
        &self.state.usage
    }

    /// The memory that is held for tenants.
    pub fn ledger(&self) -> &Ledger {
        &self.state.ledger
    }

    /// Puts a new pool.toml in force. Sessions of servers and tenants that are gone end; the
    /// others go on, with workers started anew where what they are started with has changed.
    pub fn replace_runtime_config(&self, runtime: Arc<RuntimeConfig>) {
        let servers = |runtime: &RuntimeConfig| -> Vec<_> {
            runtime.config.servers.keys().cloned().collect()
        };
        let before = servers(&self.runtime_config());
        self.state.replace_runtime_config(Arc::clone(&runtime));
        self.state.sessions.end_unserved();
        self.stock();
        if before != servers(&runtime) {
            self.aggregate().offer_has_changed();
        }
    }

    /// Whether spares can be started as that plan says. If their package has to be installed first,
    /// they are once it is.
    fn is_installed_or_later(&self, plan: &StartPlan) -> bool {
        let installer = &self.state.installer;
        let Some(slot) = plan.slot(installer).filter(|slot| slot.settled().is_none()) else {
            return true;
        };
        let (gateway, generation) = (self.clone(), self.runtime_config().generation);
        // The operator's own, of each server by itself.
        let whose = format!("(spare) {}", plan.server);
        installer.ensure(&slot, &whose, &self.state.workers.install_events());
        self.state.tasks.spawn(async move {
            packages::until_settled(&slot).await;
            // A reload meanwhile has looked at the spares itself.
            if gateway.runtime_config().generation == generation {
                gateway.stock();
            }
        });
        false
    }

    /// Tells the pool which spares to keep.
    fn stock(&self) {
        let runtime = self.runtime_config();
        let names = runtime.config.servers.keys();
        let spares = names.filter_map(|name| {
            spares(&runtime, name, self.metrics()).unwrap_or_else(|failure| {
                tracing::error!(server = %name, "no spares can be kept: {failure}");
                None
            })
        });
        let spares = spares.filter(|spare| self.is_installed_or_later(&spare.spec));
        self.state.pool().stock(spares.collect());
    }

    /// Passes a session's notification on to the workers at which it is attached. None is started
    /// for it.
    pub fn notification(&self, session: &Session, envelope: &Envelope<'_>) {
        let method = envelope.method.as_deref();
        let is_of_roots = method == Some("notifications/roots/list_changed");
        if is_of_roots {
            self.roots_changed(session, None);
        }
        for connection in session
            .attached_to()
            .into_iter()
            .filter_map(|id| self.state.connection(id))
        {
            if !is_of_roots || !self.roots_changed(session, Some(&connection)) {
                connection.notification(session.no, envelope);
            }
        }
        let members = session.all_members();
        for member in members {
            self.notification(&member, envelope);
        }
    }

    /// Passes a session's answer on to the worker that asked. Says whether the session was asked.
    ///
    /// # Errors
    /// The answer has to wait for others, and the tenant has no room for it: it may come again.
    pub fn answer(&self, session: &Session, envelope: &Envelope<'_>) -> Result<bool, Failure> {
        let ask = envelope.id.and_then(|id| AskRef::parse(id.get()));
        if let Some(taken) = ask.and_then(|ask| self.answered_roots(session, ask, envelope)) {
            return Ok(taken);
        }
        let Some((ask, connection)) =
            ask.and_then(|ask| Some((ask, self.state.connection(ask.worker)?)))
        else {
            return Ok(false);
        };
        // Of all servers, the one that asked.
        let member = session.member_with(&connection.plan().server);
        let asked = member.as_deref().unwrap_or(session);
        let is_of_roots = connection.is_about_roots(ask);
        let taken = connection.answer(asked.no, ask, envelope)?;
        if taken && is_of_roots {
            self.note_roots(asked, &connection, envelope);
        }
        Ok(taken)
    }

    /// What is wrong with rules about tools, and the servers with rules whose tools nobody has listed yet.
    pub fn rule_findings(&self) -> (Vec<Finding>, Vec<ServerName>) {
        self.state.tools.told(&self.runtime_config().config)
    }

    /// Waits until every worker's task has ended. To be called after the pool has stopped them.
    pub async fn join(&self) {
        self.state.tasks.close();
        self.state.tasks.wait().await;
    }
}
