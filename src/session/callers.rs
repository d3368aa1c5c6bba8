//! What is kept for callers without sessions: the session that stands for each, and which worker gave out
//! a state that a client is to bring back.
//!
//! Both are tables by tenant: however many callers one tenant has, another's stay, and so do the calls
//! that are under way through them. A caller that nobody has asked for during `pool.session_timeout` is
//! forgotten.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet, FxHasher};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::ended::Ended;
use super::record::Session;
use super::service::Sessions;
use super::shared::Shared;
use crate::held::{Bounds, Charge, Crowded, Kind, TenantTable, charged};
use crate::ids::{ServerName, TenantId, WorkerId};
use crate::protocol::{Failure, Reason};
use crate::tenancy::ClientConfig;

/// Callers that are kept. Each is a user of a server, and a config if it sets one.
const CALLERS: Bounds = Bounds {
    of_tenant: 5_000,
    of_all: 50_000,
};
/// States given out by workers that are remembered.
const STATES: Bounds = Bounds {
    of_tenant: 5_000,
    of_all: 50_000,
};
/// What a caller takes beside what it sets, in bytes: its session, and its place in the tables.
const CALLER_BYTES: usize = 2 << 10;
/// When a caller for whom there is no room is to come again: when calls that are under way have ended.
/// Things of one server of which it is remembered that they were called.
const MAX_TRIED: usize = 1024;
const RETRY_CROWDED: Duration = Duration::from_secs(1);

/// What a worker is told of the clients it serves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Told {
    /// That they can be asked nothing.
    Nothing,
    /// That they can be asked everything.
    Everything,
}

/// Whose requests go through one session, beside their tenant.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Caller {
    pub(super) subject: Option<String>,
    pub(super) server: ServerName,
    pub(super) told: Told,
    /// It has come through all servers at once.
    pub(super) through_all: bool,
    /// What they set for the server, as a fingerprint.
    pub(super) config: Option<[u8; 32]>,
    /// What their credentials say of them, for a server that is started with it.
    pub(super) claims: Option<[u8; 32]>,
}

/// SHA-256 of a `requestState`.
type StateHash = [u8; 32];

/// A session that is kept, and when it was last asked for.
#[derive(Debug)]
struct Kept {
    session: Arc<Session>,
    last_used: Instant,
    _charge: Charge,
}

impl Kept {
    /// Whether a request has it: each takes it out of the table under its lock, or from one that has it.
    fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.session) > 1
    }
}

/// The sessions kept for callers without sessions.
#[derive(Debug)]
pub(super) struct Callers {
    sessions: Mutex<TenantTable<Caller, Kept>>,
    /// Which worker gave out a state that its client is to bring back: many servers seal them with a
    /// key of the process, so that no other can read them.
    states: Mutex<TenantTable<StateHash, WorkerId>>,
    /// Servers whose workers have asked their clients something.
    asking: Mutex<FxHashSet<ServerName>>,
    /// What of each server was called once where it could ask: hashes of the names of tools, prompts and methods.
    tried: Mutex<FxHashMap<ServerName, FxHashSet<u64>>>,
}

impl Default for Callers {
    fn default() -> Self {
        Self {
            sessions: Mutex::new(TenantTable::new(CALLERS)),
            states: Mutex::new(TenantTable::new(STATES)),
            asking: Mutex::default(),
            tried: Mutex::default(),
        }
    }
}

impl Callers {
    /// A worker of that server has asked its client something.
    pub(super) fn note_asking(&self, server: &ServerName) {
        let mut asking = self.asking.lock();
        if !asking.contains(server) {
            asking.insert(server.clone());
        }
    }

    /// Whether a worker of that server has asked its client something.
    pub(super) fn is_asking(&self, server: &ServerName) -> bool {
        self.asking.lock().contains(server)
    }

    /// Whether that of a server's things is called for the first time, as far as is remembered: whether it asks its
    /// client something is not known.
    pub(super) fn is_first_call(&self, server: &ServerName, name: &str) -> bool {
        let mut hasher = FxHasher::default();
        name.hash(&mut hasher);
        let mut tried = self.tried.lock();
        let known = tried.entry(server.clone()).or_default();
        // Beyond it all are taken for known: they are called where many can be.
        known.len() < MAX_TRIED && known.insert(hasher.finish())
    }

    /// The sessions that are kept for callers: the directory has none of them.
    pub(super) fn all(&self) -> Vec<Arc<Session>> {
        let sessions = self.sessions.lock();
        let kept = sessions.iter();
        kept.map(|(_, _, kept)| Arc::clone(&kept.session)).collect()
    }

    /// How many callers are kept, of all tenants, by server.
    fn by_server(&self) -> BTreeMap<ServerName, usize> {
        let mut by_server = BTreeMap::new();
        for (_, caller, _) in self.sessions.lock().iter() {
            *by_server.entry(caller.server.clone()).or_default() += 1;
        }
        by_server
    }

    /// The session that is kept for that caller.
    pub(super) fn known(&self, tenant: &TenantId, caller: &Caller) -> Option<Arc<Session>> {
        let mut sessions = self.sessions.lock();
        let kept = sessions.get(tenant, caller)?;
        kept.last_used = Instant::now();
        Some(Arc::clone(&kept.session))
    }

    /// Keeps a session for a caller, unless there is one meanwhile. Gives back the one that is kept, and
    /// those that are to be ended.
    fn keep(
        &self,
        caller: Caller,
        session: Arc<Session>,
        charge: Charge,
    ) -> Result<(Arc<Session>, Option<Arc<Session>>), Crowded> {
        let tenant = session.tenant().clone();
        let mut sessions = self.sessions.lock();
        if let Some(known) = sessions.get(&tenant, &caller) {
            return Ok((Arc::clone(&known.session), Some(session)));
        }
        let kept = Kept {
            session: Arc::clone(&session),
            last_used: Instant::now(),
            _charge: charge,
        };
        let gone = sessions.insert(&tenant, caller, kept, Kept::is_in_use)?;
        Ok((session, gone.map(|gone| gone.session)))
    }

    /// Takes out the session of that tenant that was asked for longest ago and that nobody uses.
    fn take_oldest(&self, tenant: &TenantId) -> Option<Arc<Session>> {
        let mut sessions = self.sessions.lock();
        let oldest = sessions.take_oldest(tenant, Kept::is_in_use)?;
        Some(oldest.session)
    }

    /// Takes out the sessions that nobody uses or has asked for during `timeout`.
    fn take_idle(&self, timeout: Duration) -> Vec<Arc<Session>> {
        let now = Instant::now();
        let is_idle = |kept: &Kept| {
            !kept.is_in_use() && now.saturating_duration_since(kept.last_used) >= timeout
        };
        let idle = self.sessions.lock().take_where(is_idle);
        idle.into_iter().map(|kept| kept.session).collect()
    }

    /// Takes out the sessions that are meant, in use or not.
    fn take_where(&self, is_meant: impl Fn(&Session) -> bool) -> Vec<Arc<Session>> {
        let is_meant = |kept: &Kept| is_meant(&kept.session);
        let taken = self.sessions.lock().take_where(is_meant);
        taken.into_iter().map(|kept| kept.session).collect()
    }

    /// Notes which worker of the tenant gave out a state. One for which there is no room is not noted:
    /// another worker is asked then, which may do.
    pub(super) fn note_state(&self, tenant: &TenantId, state: &str, worker: WorkerId) {
        let hash: StateHash = Sha256::digest(state.as_bytes()).into();
        let mut states = self.states.lock();
        if let Err(crowded) = states.insert(tenant, hash, worker, |_| false) {
            tracing::debug!(%tenant, "which worker gave out a state is not remembered: {crowded}");
        }
    }

    /// The worker of the tenant that gave out a state, if that is remembered.
    pub(super) fn worker_of(&self, tenant: &TenantId, state: &str) -> Option<WorkerId> {
        let hash: StateHash = Sha256::digest(state.as_bytes()).into();
        self.states.lock().get(tenant, &hash).copied()
    }
}

impl Sessions {
    /// How many callers without sessions are remembered, by server.
    pub fn callers_by_server(&self) -> BTreeMap<ServerName, usize> {
        self.shared.callers.by_server()
    }
}

impl Shared {
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
        let bytes = CALLER_BYTES + config.map_or(0, ClientConfig::bytes);
        let account = self.ledger.account(session.tenant());
        let make_room = || self.end_oldest_caller(session.tenant());
        let charge = match charged(&account, (Kind::Caller, bytes), make_room) {
            Ok(charge) => charge,
            Err(full) => {
                self.end_session(&session);
                return Err(full.into());
            }
        };
        match self.callers.keep(caller, Arc::clone(&session), charge) {
            Ok((kept, gone)) => {
                if let Some(gone) = gone {
                    self.end_session(&gone);
                }
                // Whoever removes its server or tenant puts that in force first, and looks for callers then.
                match kept.ended_under(&self.setup().config) {
                    None => Ok(kept),
                    Some(why) => {
                        self.end_callers(&|kept| kept.ended_under(&self.setup().config));
                        Err(kept.failure(why))
                    }
                }
            }
            Err(crowded) => {
                self.end_session(&session);
                let reason = match crowded {
                    Crowded::OfTenant(_) => Reason::TenantLimit,
                    Crowded::OfAll(_) => Reason::PoolExhausted,
                };
                let why = format!("no room for another caller without a session: {crowded}");
                Err(Failure::new(reason, why).retry_after(RETRY_CROWDED))
            }
        }
    }

    /// Ends the session of that tenant's caller that was asked for longest ago and that nobody uses, and
    /// says whether there was one.
    pub(super) fn end_oldest_caller(&self, tenant: &TenantId) -> bool {
        let oldest = self.callers.take_oldest(tenant);
        oldest.is_some_and(|oldest| self.end_session(&oldest))
    }

    /// Ends what is kept for callers that have asked for nothing during `timeout`.
    pub(super) fn forget_idle_callers(&self, timeout: Duration) {
        for session in self.callers.take_idle(timeout) {
            self.end_session(&session);
        }
    }

    /// Ends what is kept for callers for which there is a reason, with the calls that wait for their clients' next
    /// requests.
    pub(super) fn end_callers(&self, why: &impl Fn(&Session) -> Option<Ended>) {
        let taken = self.callers.take_where(|session| why(session).is_some());
        for session in &taken {
            if let Some(why) = why(session) {
                self.end_session_because(session, why);
            }
        }
        if !taken.is_empty() {
            self.waiting.forget(Session::has_ended);
        }
    }
}

/// Owners of leases on workers that serve one call at a time. Sessions count from the other end.
pub(super) fn next_owner() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1 << 63);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
