//! Configs that callers have stored once and name by a handle from then on.
//!
//! A handle is a credential of the principal that made it: it is unguessable, kept as a hash, and
//! as unknown to everyone else as one that never was. A handle ends after its time to live, and with its
//! tenant. Handles are kept in the state store and survive a restart; one with secrets, or with values that
//! its schema calls confidential, is sealed there, and kept in memory alone where there is no key.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::client_config::{ClientConfig, HANDLE_PREFIX};
use super::principal::Principal;
use super::stored_config::{Durability, Stored, Unreadable};
use crate::held::{Charge, Kind, Ledger};
use crate::ids::{ServerName, TenantId};
use crate::protocol::{Failure, Reason};
use crate::store::{HandleRow, HandleStore, IdHash, Vault, VaultError};

/// How long a handle lives if its maker does not say.
pub const DEFAULT_TTL: Duration = Duration::from_secs(24 * 3600);
/// How long one can live at the most.
pub const MAX_TTL: Duration = Duration::from_secs(30 * 24 * 3600);
/// Most handles of all tenants.
const MAX_HANDLES: usize = 100_000;
/// Most handles of one tenant.
const MAX_OF_TENANT: usize = 10_000;

/// The public part of a handle: names and times, never a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HandleInfo {
    /// The servers it is for, and what it sets for each.
    pub servers: BTreeMap<ServerName, Named>,
    /// Whether the config was made for several servers, or for one of several.
    pub is_of_several: bool,
    /// When the handle was made.
    pub created: SystemTime,
    /// When the handle ends.
    pub expires: SystemTime,
    /// The handle survives a restart.
    pub is_kept: bool,
}

/// The names of a server's values and secrets that a handle sets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// The keys.
    pub keys: Vec<String>,
    /// The secrets.
    pub secrets: Vec<String>,
}

impl From<&ClientConfig> for Named {
    fn from(config: &ClientConfig) -> Self {
        Self {
            keys: config.values().keys().cloned().collect(),
            secrets: config.secrets().keys().cloned().collect(),
        }
    }
}

impl From<&Stored> for HandleInfo {
    fn from(stored: &Stored) -> Self {
        let servers = stored.by_server();
        Self {
            servers: servers
                .map(|(server, config)| (server.clone(), config.into()))
                .collect(),
            is_of_several: stored.server == ServerName::all(),
            created: stored.created,
            expires: stored.expires,
            is_kept: stored.kept != Durability::Not,
        }
    }
}

#[derive(Debug, Default)]
struct Table {
    /// With what each holds.
    by_id: FxHashMap<IdHash, (Stored, Charge)>,
    of_tenant: FxHashMap<TenantId, usize>,
}

/// The store that keeps handles beyond this run.
#[derive(Debug)]
struct Archive {
    store: HandleStore,
    vault: Arc<Vault>,
}

/// The configs that are stored.
#[derive(Debug)]
pub struct Handles {
    table: Mutex<Table>,
    archive: Option<Archive>,
    ledger: Ledger,
}

impl Handles {
    /// Opens the handles that an earlier run has kept, and keeps others there. A config that does not open is dropped,
    /// and said in the log; one that there is no key for stays on disk until its time is over. The memory of each is
    /// charged to its tenant.
    pub fn new(
        store: HandleStore,
        vault: Arc<Vault>,
        rows: Vec<HandleRow>,
        ledger: Ledger,
    ) -> Self {
        let mut table = Table::default();
        let (mut without_key, mut dropped) = (0_usize, vec![]);
        let now = SystemTime::now();
        for row in rows.into_iter().filter(|row| row.expires > now) {
            let id = row.id;
            match Stored::of_row(row, &vault) {
                Ok(stored) => {
                    // The config was taken in before, and its caller counts on it.
                    let account = ledger.account(&stored.tenant);
                    let charge = account.charge_anyway(Kind::StoredConfig, stored.bytes());
                    table.insert(id, stored, charge);
                }
                Err(Unreadable::Sealed(VaultError::NoKey)) => without_key += 1,
                Err(error) => {
                    let handle = id.fingerprint();
                    tracing::warn!(handle, "a stored config is dropped: {error}");
                    dropped.push(id);
                }
            }
        }
        if without_key > 0 {
            tracing::warn!(
                configs = without_key,
                "there is no key for the stored configs that have secrets (`state.key`): their handles are unknown"
            );
        }
        store.remove_expired(now);
        if !dropped.is_empty() {
            store.remove_later(dropped);
        }
        Self {
            table: Mutex::new(table),
            archive: Some(Archive { store, vault }),
            ledger,
        }
    }

    /// None, of which none survives this run.
    pub fn in_memory(ledger: Ledger) -> Self {
        Self {
            table: Mutex::default(),
            archive: None,
            ledger,
        }
    }

    /// Stores a config for that server, or for [several](ServerName::all), which was checked before,
    /// and gives it a handle. A config that may not be written to disk as it is, is sealed; without a key, it
    /// ends with this run.
    ///
    /// # Errors
    /// [`Reason::TenantLimit`], [`Reason::PoolExhausted`] or [`Reason::MemoryExhausted`] when there are too many;
    /// [`Reason::Internal`] when it cannot be kept.
    ///
    /// # Cancel-Safety
    /// A dropped call may have stored it, under a handle that nobody knows.
    pub async fn create(
        &self,
        principal: &Principal,
        server: ServerName,
        config: ClientConfig,
        ttl: Duration,
        may_be_read: bool,
    ) -> Result<(String, HandleInfo), Failure> {
        let mut bits = [0_u8; 16];
        getrandom::fill(&mut bits).map_err(|error| {
            Failure::new(
                Reason::Internal,
                format!("no randomness for a handle: {error}"),
            )
        })?;
        let digits = data_encoding::HEXLOWER.encode(&bits);
        let handle = format!("{HANDLE_PREFIX}{digits}");
        let id = IdHash::of(&handle);
        // The store keeps whole seconds.
        let created = whole_seconds(SystemTime::now());
        let stored = Stored {
            tenant: principal.tenant.clone(),
            subject: principal.subject.clone(),
            server,
            config: Arc::new(config),
            created,
            expires: created + ttl,
            kept: match &self.archive {
                Some(_) if may_be_read => Durability::Plain,
                Some(archive) if archive.vault.has_key() => Durability::Sealed,
                _ => Durability::Not,
            },
        };
        let info = HandleInfo::from(&stored);
        let archive = self.archive.as_ref().filter(|_| info.is_kept);
        let written = match archive {
            Some(archive) => Some((archive, archive.prepared(id, &stored)?)),
            None => None,
        };
        self.take_in(id, stored)?;
        if let Some((archive, (row, check))) = written
            && let Err(error) = archive.store.insert(row, check).await
        {
            self.table.lock().remove(id);
            let why = format!("the config cannot be kept: {error}");
            return Err(Failure::new(Reason::Internal, why));
        }
        Ok((handle, info))
    }

    fn take_in(&self, id: IdHash, stored: Stored) -> Result<(), Failure> {
        self.expire(stored.created);
        let mut table = self.table.lock();
        let of_tenant = table.of_tenant.get(&stored.tenant).copied();
        if of_tenant.unwrap_or(0) >= MAX_OF_TENANT {
            let why = format!(
                "this tenant has {MAX_OF_TENANT} stored configs already (DELETE those that are not needed, or give them a shorter `ttl`)"
            );
            return Err(Failure::new(Reason::TenantLimit, why));
        }
        if table.by_id.len() >= MAX_HANDLES {
            let why = format!(
                "there are {MAX_HANDLES} stored configs already (a shorter `ttl` makes room sooner)"
            );
            let failure = Failure::new(Reason::PoolExhausted, why);
            return Err(failure.retry_after(Duration::from_secs(60)));
        }
        let account = self.ledger.account(&stored.tenant);
        let charge = account.charge(Kind::StoredConfig, stored.bytes())?;
        table.insert(id, stored, charge);
        Ok(())
    }

    /// The config of that handle, for a server: its part, if it is for several.
    ///
    /// # Errors
    /// [`Reason::ConfigInvalid`] when there is none, or it is for other servers.
    pub fn resolve(
        &self,
        handle: &str,
        principal: &Principal,
        server: &ServerName,
    ) -> Result<ClientConfig, Failure> {
        let stored = self.known(handle, principal)?;
        stored.config_for(server).cloned().ok_or_else(|| {
            let why = format!(
                "the config handle is for {}, not for `{server}`",
                stored.servers()
            );
            Failure::new(Reason::ConfigInvalid, why)
        })
    }

    /// The config of that handle where these servers are offered as one: what it sets for them.
    ///
    /// # Errors
    /// [`Reason::ConfigInvalid`] when there is none, or it is for other servers only.
    pub fn resolve_for_all(
        &self,
        handle: &str,
        principal: &Principal,
        offered: &[ServerName],
    ) -> Result<ClientConfig, Failure> {
        let stored = self.known(handle, principal)?;
        let parts = stored.by_server();
        let parts: BTreeMap<_, _> = parts
            .filter(|(server, _)| offered.contains(server))
            .map(|(server, config)| (server.clone(), config.clone()))
            .collect();
        if parts.is_empty() {
            let why = format!(
                "the config handle is for {}: nothing of that is on offer here",
                stored.servers()
            );
            return Err(Failure::new(Reason::ConfigInvalid, why));
        }
        Ok(ClientConfig::of_servers(parts))
    }

    fn known(&self, handle: &str, principal: &Principal) -> Result<Stored, Failure> {
        self.theirs(handle, principal).ok_or_else(|| {
            let why = "the config handle is not known: it expired, was deleted, or is not this caller's (store the config again with POST /v1/config)";
            Failure::new(Reason::ConfigInvalid, why)
        })
    }

    /// What can be told of a handle; `None` if it is unknown, or another's.
    pub fn info(&self, handle: &str, principal: &Principal) -> Option<HandleInfo> {
        let stored = self.theirs(handle, principal)?;
        Some(HandleInfo::from(&stored))
    }

    /// Forgets a handle; says for which server it was, if it was there, and the caller's.
    ///
    /// # Errors
    /// [`Reason::Internal`] when the store cannot forget it.
    ///
    /// # Cancel-Safety
    /// A dropped call may leave it to come back with a restart.
    pub async fn delete(
        &self,
        handle: &str,
        principal: &Principal,
    ) -> Result<Option<ServerName>, Failure> {
        let Some(stored) = self.theirs(handle, principal) else {
            return Ok(None);
        };
        let id = IdHash::of(handle);
        self.table.lock().remove(id);
        if let Some(archive) = &self.archive
            && stored.kept != Durability::Not
        {
            archive.store.remove(id).await.map_err(|error| {
                let why = format!("the config may come back after a restart: {error}");
                Failure::new(Reason::Internal, why)
            })?;
        }
        Ok(Some(stored.server))
    }

    /// Forgets those of tenants that are not there any more.
    pub fn keep_tenants(&self, is_there: impl Fn(&TenantId) -> bool) {
        let mut table = self.table.lock();
        let gone: Vec<_> = table
            .of_tenant
            .keys()
            .filter(|tenant| !is_there(tenant))
            .cloned()
            .collect();
        if gone.is_empty() {
            return;
        }
        let theirs = table.by_id.iter();
        let theirs = theirs.filter(|(_, (stored, _))| gone.contains(&stored.tenant));
        let theirs: Vec<_> = theirs.map(|(id, _)| *id).collect();
        for id in &theirs {
            table.remove(*id);
        }
        drop(table);
        if let Some(archive) = &self.archive {
            archive.store.remove_later(theirs);
        }
    }

    /// Forgets those that have ended by then.
    pub fn expire(&self, now: SystemTime) {
        let mut table = self.table.lock();
        let ended = table.by_id.iter();
        let ended = ended.filter(|(_, (one, _))| one.expires <= now);
        let ended: Vec<_> = ended.map(|(id, _)| *id).collect();
        for id in &ended {
            table.remove(*id);
        }
        drop(table);
        if let Some(archive) = self.archive.as_ref().filter(|_| !ended.is_empty()) {
            archive.store.remove_expired(now);
        }
    }

    fn theirs(&self, handle: &str, principal: &Principal) -> Option<Stored> {
        let table = self.table.lock();
        let (stored, _) = table.by_id.get(&IdHash::of(handle))?;
        let is_theirs = stored.tenant == principal.tenant && stored.subject == principal.subject;
        (is_theirs && stored.expires > SystemTime::now()).then(|| stored.clone())
    }
}

impl Table {
    fn insert(&mut self, id: IdHash, stored: Stored, charge: Charge) {
        *self.of_tenant.entry(stored.tenant.clone()).or_default() += 1;
        self.by_id.insert(id, (stored, charge));
    }

    fn remove(&mut self, id: IdHash) {
        let Some((stored, _)) = self.by_id.remove(&id) else {
            return;
        };
        if let Some(count) = self.of_tenant.get_mut(&stored.tenant) {
            *count -= 1;
            if *count == 0 {
                self.of_tenant.remove(&stored.tenant);
            }
        }
    }
}

impl Archive {
    /// A handle as it is written down, and what its key is told by if it is sealed.
    fn prepared(
        &self,
        id: IdHash,
        stored: &Stored,
    ) -> Result<(HandleRow, Option<Vec<u8>>), Failure> {
        let row = stored.to_row(id, &self.vault);
        let check = match stored.kept {
            Durability::Sealed => self.vault.key_check().map(Some),
            Durability::Plain | Durability::Not => Ok(None),
        };
        row.and_then(|row| Ok((row, check?))).map_err(|error| {
            let why = format!("the config cannot be sealed: {error}");
            Failure::new(Reason::Internal, why)
        })
    }
}

fn whole_seconds(at: SystemTime) -> SystemTime {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.unwrap_or_default().as_secs())
}

#[cfg(test)]
#[path = "handles_tests.rs"]
mod tests;
