//! Finds sessions: by the id their client presents, by number, by the pool key they share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use rustc_hash::{FxHashMap, FxHashSet};

use super::record::{Session, SessionId};
use crate::bridge::SessionNo;
use crate::ids::{PoolKey, ServerName};
use crate::tenancy::Principal;

/// Most sessions at a time. Clients rarely end theirs, so that expiry and this bound must.
pub(super) const MAX_SESSIONS: usize = 100_000;

/// The sessions there are.
#[derive(Debug, Default)]
pub(super) struct Directory {
    next: AtomicU64,
    tables: RwLock<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    by_id: FxHashMap<SessionId, Arc<Session>>,
    by_no: FxHashMap<SessionNo, Arc<Session>>,
    by_key: FxHashMap<PoolKey, FxHashSet<SessionNo>>,
    key_of: FxHashMap<SessionNo, PoolKey>,
}

impl Directory {
    pub(super) fn next_no(&self) -> SessionNo {
        SessionNo(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes a session in; false when there are too many.
    pub(super) fn insert(&self, session: Arc<Session>) -> bool {
        let mut tables = self.tables.write();
        if tables.by_id.len() >= MAX_SESSIONS {
            return false;
        }
        tables.by_no.insert(session.no, Arc::clone(&session));
        tables.by_id.insert(session.id.clone(), session);
        true
    }

    pub(super) fn remove(&self, session: &Session) {
        let mut tables = self.tables.write();
        tables.by_id.remove(&session.id);
        tables.by_no.remove(&session.no);
        tables.forget_key(session.no);
    }

    /// The session of that id, if it is this principal's and talks to this server. Someone
    /// else's is as unknown as one that never was.
    pub(super) fn find(
        &self,
        id: &SessionId,
        principal: &Principal,
        server: &ServerName,
    ) -> Option<Arc<Session>> {
        let tables = self.tables.read();
        let session = tables.by_id.get(id)?;
        let is_theirs = session.principal.is_same_as(principal) && session.server == *server;
        is_theirs.then(|| Arc::clone(session))
    }

    pub(super) fn get(&self, no: SessionNo) -> Option<Arc<Session>> {
        self.tables.read().by_no.get(&no).cloned()
    }

    /// Notes that the session is served by workers of that key from now on.
    pub(super) fn set_key(&self, no: SessionNo, key: PoolKey) {
        let mut tables = self.tables.write();
        if !tables.by_no.contains_key(&no) {
            return;
        }
        tables.forget_key(no);
        tables.by_key.entry(key).or_default().insert(no);
        tables.key_of.insert(no, key);
    }

    /// The sessions served by workers of that key.
    pub(super) fn of_key(&self, key: PoolKey) -> Vec<Arc<Session>> {
        let tables = self.tables.read();
        let numbers = tables.by_key.get(&key).into_iter().flatten();
        numbers
            .filter_map(|no| tables.by_no.get(no).cloned())
            .collect()
    }

    /// Every session.
    pub(super) fn all(&self) -> Vec<Arc<Session>> {
        self.tables.read().by_no.values().cloned().collect()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.tables.read().by_no.len()
    }
}

impl Tables {
    fn forget_key(&mut self, no: SessionNo) {
        if let Some(key) = self.key_of.remove(&no)
            && let Some(sharing) = self.by_key.get_mut(&key)
        {
            sharing.remove(&no);
            if sharing.is_empty() {
                self.by_key.remove(&key);
            }
        }
    }
}
