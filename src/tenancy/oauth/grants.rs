//! Authorisations of tenants, and the tokens that follow from them: what there is, and what is kept.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use secrecy::SecretString;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::pending::Table;
use super::provider::Provider;
use super::schedule::{Demand, Outlook, Schedule};
use super::stored_grant::StoredGrant;
use crate::config::OAuth;
use crate::ids::{ServerName, TenantId};
use crate::protocol::{Failure, Reason};
use crate::store::{AccountStore, DatabaseError, SecretRow, Vault, VaultError, now};
use crate::telemetry::{RequestSpan, in_request};

/// The tenant that has authorised stdiopool, and the server it is for.
pub(super) type Key = (TenantId, ServerName);

/// Why an authorisation is not on disk.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotKept {
    /// There is no state folder.
    #[error("one command is hosted without a file")]
    NoFile,
    /// The authorisation cannot be sealed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The authorisation cannot be written.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// An event of an authorisation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GrantEvent {
    /// The authorisation was given, by that user.
    Authorised(Option<String>),
    /// The authorisation was not given: the user or the provider said no.
    NotAuthorised(String),
    /// Another access token is there.
    Refreshed,
    /// None could be had, and why.
    RefreshFailed(String),
    /// The authorisation is over: the provider says so, or the last token has expired.
    Ended(String),
    /// The authorisation was revoked here.
    Revoked,
}

/// Whoever is told what becomes of authorisations. Must not block.
pub trait GrantEventSink: Send + Sync + std::fmt::Debug + 'static {
    /// Something happened to the tenant's authorisation of that server.
    fn told(&self, tenant: &TenantId, server: &ServerName, event: &GrantEvent);
}

/// The public part of an authorisation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GrantInfo {
    /// The tenant that gave it.
    pub tenant: TenantId,
    /// The server that the tenant has authorised.
    pub server: ServerName,
    /// The user who gave it.
    pub subject: Option<String>,
    /// What the authorisation is for, where the provider says.
    pub scope: Option<String>,
    /// When the authorisation was given.
    pub authorised: SystemTime,
}

/// The end of an authorisation, as the browser is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finished {
    /// The authorisation is there.
    Authorised(TenantId, ServerName),
    /// Nothing has changed, and why.
    Failed(String),
}

/// One authorisation.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) kept: StoredGrant,
    pub(super) schedule: Schedule,
    pub(super) access: Option<SecretString>,
    pub(super) serial: u64,
    /// The number of the authorisation.
    pub(super) number: u64,
    /// The stored grant is not on disk.
    pub(super) is_unsaved: bool,
}

/// The state of a token for somebody who needs it.
enum Look {
    /// The token, with its serial number and that of its authorisation.
    Token(SecretString, (u64, u64)),
    /// The token is due: another is fetched in place of the one with that serial number.
    Fetch(u64),
}

/// All authorisations. Each field has its own small lock; none is held across an await or while
/// another is taken.
#[derive(Debug, Default)]
pub struct Grants {
    pub(super) vault: Option<Arc<Vault>>,
    pub(super) store: Option<AccountStore>,
    pub(super) base: OnceLock<String>,
    events: OnceLock<Arc<dyn GrantEventSink>>,
    pub(super) table: Mutex<HashMap<TenantId, BTreeMap<ServerName, Grant>>>,
    /// Whoever changes an authorisation holds its lock.
    locks: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>,
    pub(super) links: Mutex<Table>,
    pub(super) changed: Mutex<BTreeSet<Key>>,
    pub(super) wake: Notify,
    pub(super) tasks: TaskTracker,
    pub(super) provider: Provider,
    serials: AtomicU64,
}

impl Grants {
    /// Opens the grants that an earlier run has kept. A grant that does not open stays on disk, and is said in the log.
    pub fn new(vault: Arc<Vault>, store: AccountStore, rows: &[SecretRow]) -> Self {
        let grants = Self {
            vault: Some(Arc::clone(&vault)),
            store: Some(store),
            ..Self::default()
        };
        let (wall, instant) = (SystemTime::now(), Instant::now());
        for row in rows {
            let Some(server) = row.of_grant() else {
                continue;
            };
            let opened = vault.open(&row.tenant, &row.name, &row.sealed);
            let Some(kept) = opened.ok().as_ref().and_then(StoredGrant::read) else {
                tracing::warn!(
                    tenant = row.tenant,
                    server,
                    "what the tenant has authorised upstream cannot be read: it has to be authorised again, or `state.key` is missing"
                );
                continue;
            };
            let mut schedule = Schedule::new(kept.refresh.is_some());
            if kept.access.is_some() {
                schedule.obtained(instant, kept.access_left(wall), false);
            }
            let grant = Grant {
                schedule,
                access: kept.access.clone(),
                serial: grants.next_serial(),
                number: grants.next_serial(),
                is_unsaved: false,
                kept,
            };
            let tenant = TenantId::new(row.tenant.as_str());
            let mut table = grants.table.lock();
            let of_tenant = table.entry(tenant).or_default();
            of_tenant.insert(ServerName::new(server), grant);
        }
        grants
    }

    /// Says where browsers reach the front door, without a slash at the end. Without it no links
    /// are made.
    pub fn set_base(&self, base: &str) {
        // The base is set once, at the start.
        let _first = self.base.set(base.trim_end_matches('/').to_owned());
    }

    /// Says who is told of what happens.
    pub fn set_events(&self, events: Arc<dyn GrantEventSink>) {
        let _first = self.events.set(events);
    }

    /// All of them, or those of a tenant, in order.
    pub fn list(&self, of: Option<&str>) -> Vec<GrantInfo> {
        let table = self.table.lock();
        let tenants = table
            .iter()
            .filter(|(tenant, _)| of.is_none_or(|of| tenant.as_str() == of));
        let all = tenants.flat_map(|(tenant, grants)| {
            grants.iter().map(|(server, grant)| GrantInfo {
                tenant: tenant.clone(),
                server: server.clone(),
                subject: grant.kept.subject.clone(),
                scope: grant.kept.scope.clone(),
                authorised: grant.kept.authorised,
            })
        });
        let mut all: Vec<_> = all.collect();
        all.sort_by(|a, b| (&a.tenant, &a.server).cmp(&(&b.tenant, &b.server)));
        all
    }

    /// Authorisations that end within that time, or of which no other token can be had, in order.
    pub fn in_danger(&self, within: Duration) -> Vec<(TenantId, ServerName, Outlook)> {
        let now = Instant::now();
        let table = self.table.lock();
        let all = table.iter().flat_map(|(tenant, grants)| {
            grants.iter().filter_map(move |(server, grant)| {
                let outlook = grant.schedule.outlook(now, within)?;
                Some((tenant.clone(), server.clone(), outlook))
            })
        });
        let mut all: Vec<_> = all.collect();
        all.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        all
    }

    /// The number of the access token in force; 0 for none. Each token has another number.
    pub(in super::super) fn serial(&self, tenant: &TenantId, server: &ServerName) -> u64 {
        let table = self.table.lock();
        let grant = table.get(tenant).and_then(|grants| grants.get(server));
        grant.map_or(0, |grant| grant.serial)
    }

    /// An access token that can be used, fetched if there is none, with its number and that of
    /// the authorisation.
    ///
    /// # Errors
    /// [`Reason::ConfigInvalid`] where the tenant has not authorised the server, or not any more;
    /// [`Reason::AuthUnavailable`] where the provider gives none at the moment.
    ///
    /// # Cancel-Safety
    /// A dropped call does not stop what is asked of the provider.
    pub(in super::super) async fn access_token(
        self: &Arc<Self>,
        tenant: &TenantId,
        server: &ServerName,
        oauth: &Arc<OAuth>,
    ) -> Result<(SecretString, (u64, u64)), Failure> {
        let key = (tenant.clone(), server.clone());
        let serial = match self.look(&key)? {
            Look::Token(token, mark) => return Ok((token, mark)),
            Look::Fetch(serial) => serial,
        };
        let (this, oauth) = (Arc::clone(self), Arc::clone(oauth));
        let of_task = key.clone();
        let refreshed = async move { this.refresh(&of_task, &oauth, serial).await };
        let refreshed = in_request(RequestSpan::current(), refreshed);
        let refreshed = self.tasks.spawn(refreshed);
        if let Err(error) = refreshed.await {
            tracing::error!(%error, "a refresh did not finish");
        }
        match self.look(&key)? {
            Look::Token(token, mark) => Ok((token, mark)),
            // The server was authorised anew meanwhile, or the token let go again.
            Look::Fetch(_) => {
                let why = format!("the access token of server `{server}` is being changed");
                let failure = Failure::new(Reason::AuthUnavailable, why);
                Err(failure.retry_after(Duration::from_secs(1)))
            }
        }
    }

    fn look(&self, key: &Key) -> Result<Look, Failure> {
        let now = Instant::now();
        let (demand, token, mark) = self
            .with(key, |grant| {
                let demand = grant.schedule.demand(now);
                let mark = (grant.serial, grant.number);
                (demand, grant.access.clone(), mark)
            })
            .ok_or_else(|| self.not_authorised(key))?;
        match (demand, token) {
            (Demand::Ready, Some(token)) => Ok(Look::Token(token, mark)),
            (Demand::Ready, None) | (Demand::Refresh, _) => Ok(Look::Fetch(mark.0)),
            (Demand::Wait(at), _) => {
                let why = format!(
                    "the provider gives no access token for server `{}` at the moment (the operator finds the cause in the log)",
                    key.1
                );
                let wait = at.saturating_duration_since(now);
                Err(Failure::new(Reason::AuthUnavailable, why).retry_after(wait))
            }
            // The authorisation is about to be forgotten.
            (Demand::Over, _) => Err(self.not_authorised(key)),
        }
    }

    fn not_authorised(&self, (tenant, server): &Key) -> Failure {
        let base = self.base.get().map_or("", String::as_str);
        let address = format!("{base}/t/{tenant}/v1/oauth/{server}");
        let why = format!(
            "tenant `{tenant}` has not authorised server `{server}` upstream, or the authorisation has ended: POST {address} gives a link to do so in a browser, and so does `stdiopool oauth link {tenant} {server}`"
        );
        Failure::new(Reason::ConfigInvalid, why).detail("authorize", address.into())
    }

    pub(super) fn next_serial(&self) -> u64 {
        self.serials.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) async fn lock(&self, key: &Key) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = Arc::clone(self.locks.lock().entry(key.clone()).or_default());
        lock.lock_owned().await
    }

    pub(super) fn tell(&self, (tenant, server): &Key, event: &GrantEvent) {
        match event {
            GrantEvent::Authorised(subject) => {
                tracing::info!(%tenant, %server, subject, "authorised upstream");
            }
            GrantEvent::NotAuthorised(why) => {
                tracing::warn!(%tenant, %server, "not authorised upstream: {why}");
            }
            GrantEvent::Refreshed => tracing::debug!(%tenant, %server, "access token refreshed"),
            GrantEvent::RefreshFailed(why) => {
                tracing::warn!(%tenant, %server, "no access token upstream: {why}");
            }
            GrantEvent::Ended(why) => {
                tracing::error!(%tenant, %server, "the authorisation upstream is over, it has to be given again: {why}");
            }
            GrantEvent::Revoked => tracing::info!(%tenant, %server, "authorisation revoked"),
        }
        if let Some(events) = self.events.get() {
            events.told(tenant, server, event);
        }
    }

    /// Changes one, if it is still there.
    pub(super) fn with<R>(&self, key: &Key, change: impl FnOnce(&mut Grant) -> R) -> Option<R> {
        let mut table = self.table.lock();
        let grant = table.get_mut(&key.0)?.get_mut(&key.1)?;
        Some(change(grant))
    }

    /// The workers of that tenant and server are to be looked at.
    pub(super) fn note_change(&self, key: &Key) {
        self.changed.lock().insert(key.clone());
        self.wake.notify_one();
    }

    /// Seals it and waits until it is on disk.
    ///
    /// # Errors
    /// [`NotKept`]; what was on disk before is still there.
    pub(super) async fn keep(
        &self,
        (tenant, server): &Key,
        kept: &StoredGrant,
    ) -> Result<(), NotKept> {
        let (Some(vault), Some(store)) = (&self.vault, &self.store) else {
            return Err(NotKept::NoFile);
        };
        let name = SecretRow::name_of_grant(server.as_str());
        let sealed = vault.seal(tenant.as_str(), &name, &kept.write());
        let row = SecretRow {
            tenant: tenant.to_string(),
            name,
            sealed: sealed?,
            changed: now(),
        };
        let check = vault.key_check()?;
        Ok(store.put_secrets(vec![row], check).await?)
    }

    /// Forgets it, on disk too. Whoever calls holds its lock.
    pub(super) async fn forget(&self, key: &Key) -> bool {
        if let Some(store) = &self.store {
            let name = SecretRow::name_of_grant(key.1.as_str());
            if let Err(error) = store.remove_secret(key.0.to_string(), name).await {
                tracing::error!(tenant = %key.0, server = %key.1, %error, "an authorisation that is over could not be removed from the state folder");
            }
        }
        let was_there = {
            let mut table = self.table.lock();
            let of_tenant = table.get_mut(&key.0);
            of_tenant.is_some_and(|grants| grants.remove(&key.1).is_some())
        };
        if was_there {
            self.note_change(key);
        }
        was_there
    }

    /// Forgets what a tenant that is removed had; on disk it has gone with the tenant.
    pub fn forget_tenant(&self, tenant: &TenantId) {
        self.table.lock().remove(tenant);
        self.links.lock().forget(tenant, None);
    }

    /// Waits until there is something to look after.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Waits for what is asked of providers: their answers may hold the only valid tokens. To be
    /// called when nobody asks for tokens any more.
    pub async fn settle(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
