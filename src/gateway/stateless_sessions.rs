//! What is kept for callers without sessions: the session that stands for each, and which worker gave out
//! a state that a client is to bring back.
//!
//! Both are tables by tenant: however many callers one tenant has, another's stay, and so do the calls
//! that are under way through them. A caller that nobody has asked for during `pool.session_timeout` is
//! forgotten.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet, FxHasher};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::held::{Bounds, Charge, TableFull, TenantTable};
use crate::ids::{ServerName, TenantId, WorkerId};
use crate::session::Session;

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
/// Things of one server of which it is remembered that they were called.
const MAX_TRIED: usize = 1024;

/// The capabilities that a worker is told of the clients it serves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Declaration {
    /// The worker is told that its clients can be asked nothing.
    Nothing,
    /// The worker is told that its clients can be asked everything.
    Everything,
}

/// The caller whose requests go through one session, beside their tenant.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Caller {
    pub(super) subject: Option<String>,
    pub(super) server: ServerName,
    pub(super) told: Declaration,
    /// The request has come through all servers at once.
    pub(super) through_all: bool,
    /// What the caller sets for the server, as a fingerprint.
    pub(super) config: Option<[u8; 32]>,
    /// A digest of the claims in the caller's credentials, for a server that is started with them.
    pub(super) claims: Option<[u8; 32]>,
}

/// SHA-256 of a `requestState`.
type StateHash = [u8; 32];

/// A session that is kept, and when it was last asked for.
#[derive(Debug)]
struct CachedSession {
    session: Arc<Session>,
    last_used: Instant,
    _charge: Charge,
}

impl CachedSession {
    /// Whether a request has it: each takes it out of the table under its lock, or from one that has it.
    fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.session) > 1
    }
}

/// The sessions kept for callers without sessions.
#[derive(Debug)]
pub(super) struct StatelessSessions {
    sessions: Mutex<TenantTable<Caller, CachedSession>>,
    /// The workers that gave out states which clients are to bring back: many servers seal them with a
    /// key of the process, so that no other can read them.
    states: Mutex<TenantTable<StateHash, WorkerId>>,
    /// Servers whose workers have asked their clients something.
    asking: Mutex<FxHashSet<ServerName>>,
    /// What of each server was called once where it could ask: hashes of the names of tools, prompts and methods.
    tried: Mutex<FxHashMap<ServerName, FxHashSet<u64>>>,
}

impl Default for StatelessSessions {
    fn default() -> Self {
        Self {
            sessions: Mutex::new(TenantTable::new(CALLERS)),
            states: Mutex::new(TenantTable::new(STATES)),
            asking: Mutex::default(),
            tried: Mutex::default(),
        }
    }
}

impl StatelessSessions {
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

    /// Whether `name` of `server` was not called before, as far as is remembered: whether it asks its client something is
    /// not known.
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
    pub(super) fn by_server(&self) -> BTreeMap<ServerName, usize> {
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
    pub(super) fn keep(
        &self,
        caller: Caller,
        session: Arc<Session>,
        charge: Charge,
    ) -> Result<(Arc<Session>, Option<Arc<Session>>), TableFull> {
        let tenant = session.tenant().clone();
        let mut sessions = self.sessions.lock();
        if let Some(known) = sessions.get(&tenant, &caller) {
            return Ok((Arc::clone(&known.session), Some(session)));
        }
        let kept = CachedSession {
            session: Arc::clone(&session),
            last_used: Instant::now(),
            _charge: charge,
        };
        let gone = sessions.insert(&tenant, caller, kept, CachedSession::is_in_use)?;
        Ok((session, gone.map(|gone| gone.session)))
    }

    /// Takes out the session of that tenant that was asked for longest ago and that nobody uses.
    pub(super) fn take_oldest(&self, tenant: &TenantId) -> Option<Arc<Session>> {
        let mut sessions = self.sessions.lock();
        let oldest = sessions.take_oldest(tenant, CachedSession::is_in_use)?;
        Some(oldest.session)
    }

    /// Takes out the sessions that nobody uses or has asked for during `timeout`.
    pub(super) fn take_idle(&self, timeout: Duration) -> Vec<Arc<Session>> {
        let now = Instant::now();
        let is_idle = |kept: &CachedSession| {
            !kept.is_in_use() && now.saturating_duration_since(kept.last_used) >= timeout
        };
        let idle = self.sessions.lock().take_where(is_idle);
        idle.into_iter().map(|kept| kept.session).collect()
    }

    /// Takes out the sessions that are meant, in use or not.
    pub(super) fn take_where(&self, is_meant: impl Fn(&Session) -> bool) -> Vec<Arc<Session>> {
        let is_meant = |kept: &CachedSession| is_meant(&kept.session);
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
