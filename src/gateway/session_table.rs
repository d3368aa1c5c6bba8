//! All sessions: those of clients, those that stand for callers without sessions or for listeners, and those that
//! are just being opened; and the calls of theirs that wait for a client's answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::gateway_event::EventSink;
use super::stateless_sessions::{Caller, StatelessSessions};
use super::suspended::SuspendedCalls;
use crate::bridge::SessionNo;
use crate::held::{Kind, Ledger, TableFull, charged};
use crate::ids::{PoolKey, ServerName, TenantId};
use crate::protocol::{Failure, Reason};
use crate::routing::{CurrentConfig, StartPlan};
use crate::session::{Directory, MAX_SESSIONS, Session, TooMany, persistence};
use crate::store::{IdHash, SessionRow, SessionSettings, SessionStore};
use crate::tenancy::{ClientConfig, Principal};
use crate::upstream::Workers;

/// What a caller takes beside what it sets, in bytes: its session, and its place in the tables.
const CALLER_BYTES: usize = 2 << 10;
/// When a caller for whom there is no room is to come again: when calls that are under way have ended.
const RETRY_CROWDED: Duration = Duration::from_secs(1);

/// The sessions there are, how they are found, bounded and written down, and how they end. The table sends nothing to workers but
/// that a session is over.
#[derive(Debug)]
pub struct SessionTable {
    pub(super) directory: Directory,
    /// Sessions that stand for callers without sessions.
    pub(super) stateless_sessions: StatelessSessions,
    /// Sessions that are being opened.
    pub(super) pending: Mutex<FxHashMap<SessionNo, Arc<Session>>>,
    /// Calls that wait for their client's next request.
    pub(super) suspended_calls: SuspendedCalls,
    pub(super) ledger: Ledger,
    pub(super) config: Arc<CurrentConfig>,
    pub(super) workers: Arc<Workers>,
    pub(super) sink: Arc<dyn EventSink>,
    /// Where sessions are written down.
    pub(super) store: Option<SessionStore>,
}

impl SessionTable {
    /// A table without sessions.
    pub(super) fn new(
        ledger: Ledger,
        config: Arc<CurrentConfig>,
        workers: Arc<Workers>,
        sink: Arc<dyn EventSink>,
        store: Option<SessionStore>,
    ) -> Self {
        Self {
            directory: Directory::default(),
            stateless_sessions: StatelessSessions::default(),
            pending: Mutex::default(),
            suspended_calls: SuspendedCalls::new()
                .expect("the system has randomness, or nothing here can be safe"),
            ledger,
            config,
            workers,
            sink,
            store,
        }
    }

    /// Takes in the sessions of an earlier run that can still be taken up.
    pub(super) fn add_dormant(&self, rows: Vec<SessionRow>) {
        self.directory.add_dormant(rows, &self.ledger);
        let runtime = self.config.get();
        self.forget_unserved(&runtime.config);
        // A session whose time ended while stdiopool did not run is not found again, not even at once.
        let timeout = runtime.config.pool.session_timeout;
        self.forget_dormant(|row| persistence::is_forgotten(row, timeout));
    }

    /// The session of that id, if it is this principal's and talks to this server.
    pub fn find(
        &self,
        id: &str,
        principal: &Principal,
        server: &ServerName,
    ) -> Option<Arc<Session>> {
        let directory = &self.directory;
        directory
            .find(id, principal, server)
            .or_else(|| directory.revive(id, principal, server, &self.ledger))
    }

    /// Every session that has been used since stdiopool started.
    pub fn all(&self) -> Vec<Arc<Session>> {
        self.directory.all()
    }

    /// How many sessions there are, those of an earlier run that nobody has asked for yet included.
    pub fn count(&self) -> usize {
        self.directory.len()
    }

    /// How many callers without sessions are remembered, by server.
    pub fn callers_by_server(&self) -> BTreeMap<ServerName, usize> {
        self.stateless_sessions.by_server()
    }

    /// Whether one more session of that tenant would be taken in.
    ///
    /// # Errors
    /// [`Reason::TenantLimit`] and [`Reason::PoolExhausted`] when there are too many.
    pub(super) fn has_room(&self, tenant: &TenantId) -> Result<(), Failure> {
        let max_of_tenant = self.config.get().config.pool.max_sessions_per_tenant;
        self.directory
            .has_room(tenant, max_of_tenant)
            .map_err(|why| too_many_sessions(why, max_of_tenant))
    }

    /// Takes a session in.
    ///
    /// # Errors
    /// [`Reason::TenantLimit`] and [`Reason::PoolExhausted`] when there are too many.
    pub(super) fn take_in(&self, session: &Arc<Session>) -> Result<(), Failure> {
        let max_of_tenant = self.config.get().config.pool.max_sessions_per_tenant;
        self.directory
            .insert(Arc::clone(session), max_of_tenant)
            .map_err(|why| too_many_sessions(why, max_of_tenant))
    }

    /// Writes a new session down, so that it survives a restart.
    pub(super) async fn write_down(&self, session: &Session) {
        let Some(store) = &self.store else {
            return;
        };
        let row = persistence::row_of(session);
        let charge = session.account().charge_anyway(Kind::Store, row.weight());
        if let Err(error) = store.insert(row, charge).await {
            tracing::warn!(%error, "a session will not survive a restart");
        }
    }

    /// Writes down what a session has set.
    pub(super) fn keep_settings(&self, session: &Arc<Session>) {
        if let Some(store) = &self.store {
            let id = IdHash::of(session.id.as_str());
            store.note_settings(id, Arc::clone(session) as Arc<dyn SessionSettings>);
        }
    }

    /// Waits until what has happened to sessions so far is safe from the death of this process.
    pub async fn written(&self) {
        self.note_uses(Duration::ZERO).await;
    }

    /// Writes down when the sessions were last used, of those that were within `period`.
    pub async fn note_uses(&self, period: Duration) {
        let Some(store) = &self.store else {
            return;
        };
        let used = persistence::recent_uses(&self.all(), period);
        if let Err(error) = store.touch(used).await {
            tracing::warn!(%error, "when sessions were last used is not saved");
        }
    }

    /// Has the routes that are `meant`, by their pool key and what would be started, worked out again
    /// with the next request that goes them, those of callers without sessions included.
    pub fn reconsider_routes(&self, is_meant: impl Fn(PoolKey, &StartPlan) -> bool) {
        for session in self.all().into_iter().chain(self.stateless_sessions.all()) {
            for route in session.routes.all() {
                if is_meant(route.key, &route.plan) {
                    route.reconsider();
                }
            }
        }
    }

    /// Keeps a session for a caller whose requests can be served, and gives back the one that is kept.
    ///
    /// # Errors
    /// [`Reason::TenantLimit`] when all that the tenant may have are in use, or it holds too much;
    /// [`Reason::PoolExhausted`] when there are too many of all tenants.
    pub(super) fn keep_caller(
        &self,
        caller: Caller,
        session: Arc<Session>,
    ) -> Result<Arc<Session>, Failure> {
        let config = session.config.as_deref();
        let user = caller.subject.as_ref().map_or(0, String::len);
        let bytes = CALLER_BYTES + user + config.map_or(0, ClientConfig::bytes);
        let account = self.ledger.account(session.tenant());
        let make_room = || self.end_oldest_caller(session.tenant());
        let charge = match charged(&account, Kind::Caller, bytes, make_room) {
            Ok(charge) => charge,
            Err(full) => {
                self.end(&session);
                return Err(full.into());
            }
        };
        match self
            .stateless_sessions
            .keep(caller, Arc::clone(&session), charge)
        {
            Ok((kept, gone)) => {
                if let Some(gone) = gone {
                    self.end(&gone);
                }
                // Whoever removes its server or tenant puts that in force first, and looks for callers then.
                match kept.ended_under(&self.config.get().config) {
                    None => Ok(kept),
                    Some(why) => {
                        self.end_callers(&|kept| kept.ended_under(&self.config.get().config));
                        Err(kept.failure(why))
                    }
                }
            }
            Err(crowded) => {
                self.end(&session);
                let reason = match crowded {
                    TableFull::OfTenant(_) => Reason::TenantLimit,
                    TableFull::OfAll(_) => Reason::PoolExhausted,
                };
                let why = format!("no room for another caller without a session: {crowded}");
                Err(Failure::new(reason, why).retry_after(RETRY_CROWDED))
            }
        }
    }
}

fn too_many_sessions(why: TooMany, max_of_tenant: usize) -> Failure {
    let (reason, message) = match why {
        TooMany::InAll => (
            Reason::PoolExhausted,
            format!(
                "there are {MAX_SESSIONS} sessions already (lower `pool.session_timeout` so that forgotten ones end sooner)"
            ),
        ),
        TooMany::OfTenant => (
            Reason::TenantLimit,
            format!(
                "this tenant has {max_of_tenant} sessions already (end some with DELETE, or raise `pool.max_sessions_per_tenant`)"
            ),
        ),
    };
    Failure::new(reason, message).retry_after(Duration::from_secs(60))
}
