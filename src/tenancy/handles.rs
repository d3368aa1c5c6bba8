//! Configs that callers have stored once and name by a handle from then on.
//!
//! A handle is a credential of the principal that made it: it is unguessable, kept as a hash, and
//! as unknown to everyone else as one that never was. It ends after its time to live. A config
//! without secrets is kept in the state store and survives a restart; one with secrets, or with
//! values that its schema calls confidential, is kept in memory alone, because the store does not
//! encrypt.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use serde_json::Value;

use super::client_config::{ClientConfig, HANDLE_PREFIX};
use super::principal::Principal;
use crate::ids::{ServerName, TenantId};
use crate::protocol::{Failure, Reason};
use crate::store::{HandleRow, HandleStore, IdHash};

/// How long a handle lives if its maker does not say.
pub const DEFAULT_TTL: Duration = Duration::from_secs(24 * 3600);
/// How long one can live at the most.
pub const MAX_TTL: Duration = Duration::from_secs(30 * 24 * 3600);
/// Most handles of all tenants.
const MAX_HANDLES: usize = 100_000;
/// Most handles of one tenant.
const MAX_OF_TENANT: usize = 10_000;

/// A stored config.
#[derive(Clone, Debug)]
struct Stored {
    tenant: TenantId,
    subject: Option<String>,
    server: ServerName,
    config: Arc<ClientConfig>,
    created: SystemTime,
    expires: SystemTime,
    is_kept: bool,
}

/// What can be told of a handle: names and times, never a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HandleInfo {
    /// The server it is for.
    pub server: ServerName,
    /// The keys it sets.
    pub keys: Vec<String>,
    /// The secrets it brings.
    pub secrets: Vec<String>,
    /// When it was made.
    pub created: SystemTime,
    /// When it ends.
    pub expires: SystemTime,
    /// Whether it survives a restart.
    pub is_kept: bool,
}

impl From<&Stored> for HandleInfo {
    fn from(stored: &Stored) -> Self {
        let config = &stored.config;
        Self {
            server: stored.server.clone(),
            keys: config.values().keys().cloned().collect(),
            secrets: config.secrets().keys().cloned().collect(),
            created: stored.created,
            expires: stored.expires,
            is_kept: stored.is_kept,
        }
    }
}

#[derive(Debug, Default)]
struct Table {
    by_id: FxHashMap<IdHash, Stored>,
    of_tenant: FxHashMap<TenantId, usize>,
}

/// The configs that are stored.
#[derive(Debug, Default)]
pub struct Handles {
    table: Mutex<Table>,
    store: Option<HandleStore>,
}

impl Handles {
    /// Those that an earlier run has kept, and where to keep others; without a store, all end with
    /// this run.
    pub fn new(store: Option<HandleStore>, rows: Vec<HandleRow>) -> Self {
        let mut table = Table::default();
        for row in rows {
            // Written by this program; what is not is as good as not there.
            if let Ok(Value::Object(values)) = serde_json::from_str(&row.config) {
                let stored = Stored {
                    tenant: TenantId::new(row.tenant),
                    subject: row.subject,
                    server: ServerName::new(row.server),
                    config: Arc::new(ClientConfig::new(values, BTreeMap::new())),
                    created: row.created,
                    expires: row.expires,
                    is_kept: true,
                };
                table.insert(row.id, stored);
            }
        }
        let handles = Self {
            table: Mutex::new(table),
            store,
        };
        handles.expire(SystemTime::now());
        handles
    }

    /// Stores a config, which was checked before, and gives it a handle. What may not be written
    /// to disk ends with this run.
    ///
    /// # Errors
    /// [`Reason::TenantLimit`] or [`Reason::PoolExhausted`] when there are too many;
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
        may_be_kept: bool,
    ) -> Result<(String, HandleInfo), Failure> {
        let mut bits = [0_u8; 16];
        getrandom::fill(&mut bits).map_err(|error| {
            Failure::new(
                Reason::Internal,
                format!("no randomness for a handle: {error}"),
            )
        })?;
        let digits: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
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
            is_kept: may_be_kept && self.store.is_some(),
        };
        let info = HandleInfo::from(&stored);
        let row = info.is_kept.then(|| row_of(id, &stored));
        self.take_in(id, stored)?;
        if let (Some(store), Some(row)) = (&self.store, row)
            && let Err(error) = store.insert(row).await
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
        table.insert(id, stored);
        Ok(())
    }

    /// The config of that handle, for a server.
    ///
    /// # Errors
    /// [`Reason::ConfigInvalid`] when there is none, or it is for another server.
    pub fn resolve(
        &self,
        handle: &str,
        principal: &Principal,
        server: &ServerName,
    ) -> Result<ClientConfig, Failure> {
        let stored = self.theirs(handle, principal).ok_or_else(|| {
            let why = "the config handle is not known: it expired, was deleted, or is not this caller's (store the config again with POST /v1/config)";
            Failure::new(Reason::ConfigInvalid, why)
        })?;
        if stored.server != *server {
            let why = format!(
                "the config handle is for server `{}`, not `{server}`",
                stored.server
            );
            return Err(Failure::new(Reason::ConfigInvalid, why));
        }
        Ok(ClientConfig::clone(&stored.config))
    }

    /// What can be told of a handle; `None` if it is unknown, or another's.
    pub fn info(&self, handle: &str, principal: &Principal) -> Option<HandleInfo> {
        let stored = self.theirs(handle, principal)?;
        Some(HandleInfo::from(&stored))
    }

    /// Forgets a handle; says whether it was there, and the caller's.
    ///
    /// # Errors
    /// [`Reason::Internal`] when the store cannot forget it.
    ///
    /// # Cancel-Safety
    /// A dropped call may leave it to come back with a restart.
    pub async fn delete(&self, handle: &str, principal: &Principal) -> Result<bool, Failure> {
        let Some(stored) = self.theirs(handle, principal) else {
            return Ok(false);
        };
        let id = IdHash::of(handle);
        self.table.lock().remove(id);
        if let Some(store) = &self.store
            && stored.is_kept
        {
            store.remove(id).await.map_err(|error| {
                let why = format!("the config may come back after a restart: {error}");
                Failure::new(Reason::Internal, why)
            })?;
        }
        Ok(true)
    }

    /// Forgets those that have ended by then.
    pub fn expire(&self, now: SystemTime) {
        let mut table = self.table.lock();
        let ended = table.by_id.iter().filter(|(_, one)| one.expires <= now);
        let ended: Vec<_> = ended.map(|(id, _)| *id).collect();
        for id in &ended {
            table.remove(*id);
        }
        drop(table);
        if let Some(store) = self.store.as_ref().filter(|_| !ended.is_empty()) {
            store.remove_expired(now);
        }
    }

    fn theirs(&self, handle: &str, principal: &Principal) -> Option<Stored> {
        let table = self.table.lock();
        let stored = table.by_id.get(&IdHash::of(handle))?;
        let is_theirs = stored.tenant == principal.tenant && stored.subject == principal.subject;
        (is_theirs && stored.expires > SystemTime::now()).then(|| stored.clone())
    }
}

impl Table {
    fn insert(&mut self, id: IdHash, stored: Stored) {
        *self.of_tenant.entry(stored.tenant.clone()).or_default() += 1;
        self.by_id.insert(id, stored);
    }

    fn remove(&mut self, id: IdHash) {
        let Some(stored) = self.by_id.remove(&id) else {
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

fn row_of(id: IdHash, stored: &Stored) -> HandleRow {
    HandleRow {
        id,
        tenant: stored.tenant.to_string(),
        subject: stored.subject.clone(),
        server: stored.server.to_string(),
        config: Value::Object(stored.config.values().clone()).to_string(),
        created: stored.created,
        expires: stored.expires,
    }
}

fn whole_seconds(at: SystemTime) -> SystemTime {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.unwrap_or_default().as_secs())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::{Opened, StateDir};

    fn config(secret: Option<&str>) -> ClientConfig {
        let values = json!({ "repo": "a/b" }).as_object().cloned();
        let secrets = secret.map(|secret| ("token".to_owned(), secret.into()));
        ClientConfig::new(values.expect("an object"), secrets.into_iter().collect())
    }

    fn user(tenant: &str, subject: Option<&str>) -> Principal {
        Principal::new(TenantId::new(tenant), subject.map(ToOwned::to_owned))
    }

    async fn create(handles: &Handles, who: &Principal, secret: Option<&str>) -> String {
        let made = handles.create(
            who,
            ServerName::new("s"),
            config(secret),
            DEFAULT_TTL,
            secret.is_none(),
        );
        made.await.expect("stored").0
    }

    #[tokio::test]
    async fn a_handle_is_its_makers_and_its_servers() {
        let handles = Handles::default();
        let anna = user("acme", Some("anna"));
        let handle = create(&handles, &anna, Some("s3cr3t")).await;
        assert!(handle.starts_with("cfg_") && handle.len() == 36, "{handle}");
        let server = ServerName::new("s");
        let found = handles.resolve(&handle, &anna, &server).expect("there");
        assert_eq!(found.fingerprint(), config(Some("s3cr3t")).fingerprint());
        let info = handles.info(&handle, &anna).expect("there");
        assert_eq!(
            (info.keys, info.secrets),
            (vec!["repo".into()], vec!["token".into()])
        );
        let unknown = handles.resolve("cfg_0", &anna, &server).expect_err("none");
        for other in [
            user("acme", None),
            user("acme", Some("bo")),
            user("x", Some("anna")),
        ] {
            let refused = handles.resolve(&handle, &other, &server);
            assert_eq!(refused.expect_err("another's"), unknown);
            assert_eq!(handles.info(&handle, &other), None);
            assert!(!handles.delete(&handle, &other).await.expect("asked"));
        }
        let elsewhere = handles.resolve(&handle, &anna, &ServerName::new("t"));
        assert!(elsewhere.expect_err("other server").message.contains("`s`"));
        assert!(handles.delete(&handle, &anna).await.expect("deleted"));
        assert_eq!(handles.info(&handle, &anna), None);
        assert!(handles.table.lock().of_tenant.is_empty());
    }

    #[tokio::test]
    async fn a_handle_ends_with_its_time() {
        let handles = Handles::default();
        let who = user("acme", None);
        let handle = create(&handles, &who, None).await;
        let created = handles.info(&handle, &who).expect("there").created;
        handles.expire(created + DEFAULT_TTL - Duration::from_secs(1));
        assert!(handles.info(&handle, &who).is_some());
        handles.expire(created + DEFAULT_TTL);
        assert!(handles.info(&handle, &who).is_none());
    }

    #[tokio::test]
    async fn a_tenant_has_so_many_and_no_more() {
        let handles = Handles::default();
        for _ in 0..MAX_OF_TENANT {
            create(&handles, &user("acme", None), None).await;
        }
        let acme = user("acme", None);
        let more = handles.create(&acme, ServerName::new("s"), config(None), DEFAULT_TTL, true);
        assert_eq!(
            more.await.expect_err("too many").reason,
            Reason::TenantLimit
        );
        create(&handles, &user("globex", None), None).await;
    }

    #[tokio::test]
    async fn what_has_no_secrets_survives_a_restart_and_nothing_else_is_written() {
        let dir = tempfile::tempdir().expect("a folder");
        let state = StateDir::open(dir.path()).expect("opens");
        let who = user("acme", Some("anna"));
        let opened = Opened::open(&state).expect("opens");
        let handles = Handles::new(Some(opened.handles), opened.handle_rows);
        let plain = create(&handles, &who, None).await;
        let secret = create(&handles, &who, Some("s3cr3t-in-memory")).await;
        let deleted = create(&handles, &who, None).await;
        assert!(handles.delete(&deleted, &who).await.expect("deleted"));
        let before = handles.info(&plain, &who);

        let opened = Opened::open(&state).expect("opens again");
        let again = Handles::new(Some(opened.handles), opened.handle_rows);
        assert!(before.is_some());
        assert_eq!(again.info(&plain, &who), before);
        assert_eq!(again.info(&secret, &who), None);
        assert_eq!(again.info(&deleted, &who), None);
        for file in ["state.db", "state.db-wal"] {
            let bytes = std::fs::read(state.path().join(file)).unwrap_or_default();
            for never in ["s3cr3t-in-memory", &plain] {
                assert!(memchr::memmem::find(&bytes, never.as_bytes()).is_none());
            }
        }
    }
}
