//! Finds sessions: by the id their client presents, by number, by the pool key they share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use rustc_hash::{FxHashMap, FxHashSet};

use super::id::SessionId;
use super::persistence;
use super::record::Session;
use crate::bridge::SessionNo;
use crate::held::{Charge, Kind, Ledger};
use crate::ids::{PoolKey, ServerName, TenantId};
use crate::store::{IdHash, SessionRow};
use crate::tenancy::Principal;

/// Most sessions at a time. Clients rarely end theirs, so that expiry and this bound must.
pub(crate) const MAX_SESSIONS: usize = 100_000;

/// Why a session is not taken in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TooMany {
    /// There are [`MAX_SESSIONS`].
    InAll,
    /// The tenant has as many as it may.
    OfTenant,
}

/// The sessions there are.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    next: AtomicU64,
    tables: RwLock<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    by_id: FxHashMap<SessionId, Arc<Session>>,
    by_no: FxHashMap<SessionNo, Arc<Session>>,
    by_key: FxHashMap<PoolKey, FxHashSet<SessionNo>>,
    /// The pool keys that each session has called with. The first is that of its requests which set no config of their own.
    keys_of: FxHashMap<SessionNo, Vec<PoolKey>>,
    /// Sessions that stand for listeners without a session.
    listening: FxHashMap<(TenantId, ServerName), FxHashSet<SessionNo>>,
    /// How many of each tenant, the dormant included.
    of_tenant: FxHashMap<TenantId, usize>,
    /// Sessions of an earlier run that nobody has asked for yet.
    dormant: FxHashMap<IdHash, Dormant>,
}

/// A session of an earlier run.
#[derive(Debug)]
struct Dormant {
    row: SessionRow,
    _charge: Charge,
}

impl Directory {
    pub(crate) fn next_no(&self) -> SessionNo {
        SessionNo(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes a session in.
    ///
    /// # Errors
    /// When there are too many.
    pub(crate) fn insert(
        &self,
        session: Arc<Session>,
        max_of_tenant: usize,
    ) -> Result<(), TooMany> {
        let mut tables = self.tables.write();
        tables.has_room(session.tenant(), max_of_tenant)?;
        tables.count(session.tenant(), 1);
        tables.insert(session);
        Ok(())
    }

    /// Takes in a session that belongs to another one and counts with that.
    pub(crate) fn insert_member(&self, session: Arc<Session>) {
        self.tables.write().insert(session);
    }

    /// Whether one more session of the tenant would be taken in.
    ///
    /// # Errors
    /// When there are too many.
    pub(crate) fn has_room(&self, tenant: &TenantId, max_of_tenant: usize) -> Result<(), TooMany> {
        self.tables.read().has_room(tenant, max_of_tenant)
    }

    /// Takes in the sessions of an earlier run.
    pub(crate) fn add_dormant(&self, rows: Vec<SessionRow>, ledger: &Ledger) {
        let mut tables = self.tables.write();
        for row in rows {
            let tenant = TenantId::new(row.tenant.clone());
            let account = ledger.account(&tenant);
            tables.count(&tenant, 1);
            let _charge = account.charge_anyway(Kind::Session, row.weight());
            tables.dormant.insert(row.id, Dormant { row, _charge });
        }
    }

    /// Drops the sessions of an earlier run that `is_meant`; returns which.
    pub(crate) fn drop_dormant(&self, is_meant: impl Fn(&SessionRow) -> bool) -> Vec<IdHash> {
        let mut tables = self.tables.write();
        let dropped: Vec<_> = tables
            .dormant
            .extract_if(|_, dormant| is_meant(&dormant.row))
            .collect();
        for (_, dormant) in &dropped {
            tables.count(&TenantId::new(dormant.row.tenant.clone()), -1);
        }
        dropped.into_iter().map(|(id, _)| id).collect()
    }

    /// Takes a session of an earlier run up again, if it is this principal's and talks to this server.
    pub(crate) fn revive(
        &self,
        id: &str,
        principal: &Principal,
        server: &ServerName,
        ledger: &Ledger,
    ) -> Option<Arc<Session>> {
        let hash = IdHash::of(id);
        if !self.tables.read().dormant.contains_key(&hash) {
            return None;
        }
        let mut tables = self.tables.write();
        let row = tables
            .dormant
            .get(&hash)
            .map(|dormant| &dormant.row)
            .filter(|row| persistence::is_theirs(row, principal, server))?;
        let account = ledger.account(&principal.tenant);
        let principal_tenant = principal.tenant.clone();
        let (principal, server) = (principal.clone(), server.clone());
        let session =
            persistence::revive(row, self.next_no(), id.into(), principal, server, account);
        tables.dormant.remove(&hash);
        let Some(session) = session.map(Arc::new) else {
            tables.count(&principal_tenant, -1);
            return None;
        };
        tables.insert(Arc::clone(&session));
        Some(session)
    }

    pub(crate) fn remove(&self, session: &Session) {
        let mut tables = self.tables.write();
        let was_there = tables.by_id.remove(&session.id).is_some();
        if was_there && !session.is_member() {
            tables.count(session.tenant(), -1);
        }
        tables.by_no.remove(&session.no);
        if session.is_stateless() {
            let key = (session.tenant().clone(), session.server.clone());
            if let Some(of_server) = tables.listening.get_mut(&key) {
                of_server.remove(&session.no);
                if of_server.is_empty() {
                    tables.listening.remove(&key);
                }
            }
        }
        tables.forget_keys(session.no);
    }

    /// The session of that id, if it is this principal's and talks to this server. Someone
    /// else's is as unknown as one that never was.
    pub(crate) fn find(
        &self,
        id: &str,
        principal: &Principal,
        server: &ServerName,
    ) -> Option<Arc<Session>> {
        let tables = self.tables.read();
        let session = tables.by_id.get(id)?;
        let is_theirs = session.principal.is_same_as(principal) && session.server == *server;
        is_theirs.then(|| Arc::clone(session))
    }

    pub(crate) fn get(&self, no: SessionNo) -> Option<Arc<Session>> {
        self.tables.read().by_no.get(&no).cloned()
    }

    /// Notes that the session is served by workers of these keys from now on.
    pub(crate) fn set_keys(&self, no: SessionNo, keys: Vec<PoolKey>) {
        let mut tables = self.tables.write();
        if !tables.by_no.contains_key(&no) {
            return;
        }
        tables.forget_keys(no);
        for key in &keys {
            tables.by_key.entry(*key).or_default().insert(no);
        }
        tables.keys_of.insert(no, keys);
    }

    /// How many sessions are served by workers of that key.
    pub(crate) fn count_of_key(&self, key: PoolKey) -> usize {
        let tables = self.tables.read();
        tables.by_key.get(&key).map_or(0, FxHashSet::len)
    }

    /// The sessions served by workers of that key.
    pub(crate) fn of_key(&self, key: PoolKey) -> Vec<Arc<Session>> {
        let tables = self.tables.read();
        let numbers = tables.by_key.get(&key).into_iter().flatten();
        numbers
            .filter_map(|no| tables.by_no.get(no).cloned())
            .collect()
    }

    /// The sessions of those who listen for changes of that tenant's server, whichever worker they happen in.
    pub(crate) fn listening(&self, tenant: &TenantId, server: &ServerName) -> Vec<Arc<Session>> {
        let tables = self.tables.read();
        let of_server = tables.listening.get(&(tenant.clone(), server.clone()));
        let numbers = of_server.into_iter().flatten();
        numbers
            .filter_map(|no| tables.by_no.get(no).cloned())
            .collect()
    }

    /// Every session.
    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        self.tables.read().by_no.values().cloned().collect()
    }

    /// How many there are, those of an earlier run that nobody has asked for yet included.
    pub(crate) fn len(&self) -> usize {
        self.tables.read().len()
    }
}

impl Tables {
    fn len(&self) -> usize {
        self.by_no.len() + self.dormant.len()
    }

    fn has_room(&self, tenant: &TenantId, max_of_tenant: usize) -> Result<(), TooMany> {
        if self.len() >= MAX_SESSIONS {
            return Err(TooMany::InAll);
        }
        let of_tenant = self.of_tenant.get(tenant).copied().unwrap_or(0);
        if of_tenant >= max_of_tenant {
            return Err(TooMany::OfTenant);
        }
        Ok(())
    }

    /// Counts a session of the tenant in or out.
    fn count(&mut self, tenant: &TenantId, change: isize) {
        let count = self.of_tenant.entry(tenant.clone()).or_default();
        *count = count.saturating_add_signed(change);
        if *count == 0 {
            self.of_tenant.remove(tenant);
        }
    }

    fn insert(&mut self, session: Arc<Session>) {
        self.by_no.insert(session.no, Arc::clone(&session));
        if session.is_stateless() {
            let key = (session.tenant().clone(), session.server.clone());
            self.listening.entry(key).or_default().insert(session.no);
        }
        self.by_id.insert(session.id.clone(), session);
    }

    fn forget_keys(&mut self, no: SessionNo) {
        for key in self.keys_of.remove(&no).unwrap_or_default() {
            let Some(sharing) = self.by_key.get_mut(&key) else {
                continue;
            };
            sharing.remove(&no);
            if sharing.is_empty() {
                self.by_key.remove(&key);
            }
        }
    }
}
