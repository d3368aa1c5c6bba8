//! Puts a changed pool.toml in force while everything runs.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::task::JoinError;

use super::accounts::Accounts;
use super::assemble::{self, RuntimeParts, ServeError};
use super::events::Events;
use super::limits;
use super::read;
use super::service_manager;
use crate::admin::{AccountError, Act, EventKind, Reply};
use crate::config::{Config, ConfigErrors, Exposed, canonical};
use crate::counted::counted;
use crate::front::{ConnectionSlots, Tls, TlsError};
use crate::gateway::Gateway;
use crate::ids::TenantId;
use crate::pool::StopReason;
use crate::routing::RuntimeConfig;
use crate::store::{StateDir, Vault};
use crate::tenancy::oauth::Grants;
use crate::tenancy::{Handles, Secrets, Uses};

/// The pool.toml in force, and where its secrets are fetched.
#[derive(Clone, Debug)]
pub(super) struct InForce {
    pub(super) config: Arc<Config>,
    pub(super) secrets: Arc<Secrets>,
}

/// Addresses given on the command line.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Listens {
    /// In place of `http.listen`.
    pub(super) http: Option<SocketAddr>,
    /// In place of `admin.listen`.
    pub(super) admin: Option<SocketAddr>,
}

impl Listens {
    /// Puts them in place of those that the file has.
    ///
    /// # Errors
    /// What would be open to everyone.
    pub(super) fn put_into(self, config: &mut Config) -> Result<(), Exposed> {
        config.http.listen = self.http.map_or(config.http.listen, canonical);
        config.admin.listen = self.admin.map_or(config.admin.listen, canonical);
        config.check_exposure()
    }
}

/// Why pool.toml was not put in force.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloadError {
    /// There is none.
    #[error("there is no pool.toml to read again: one command is hosted without a file")]
    NoFile,
    /// The file's reader did not finish.
    #[error("{0}")]
    NotRead(JoinError),
    /// The file has mistakes.
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    /// With the addresses of the command line it would be open to everyone.
    #[error(transparent)]
    Exposed(#[from] Exposed),
    /// The host lacks what the file names and everything needs.
    #[error("{0}")]
    Host(String),
    /// The certificates that the file names cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The parts that follow from the config could not be made.
    #[error(transparent)]
    Setup(#[from] ServeError),
}

/// Reloads pool.toml.
#[derive(Debug)]
pub(super) struct Reloader {
    /// The file; `None` where one command is hosted without one.
    pub(super) path: Option<PathBuf>,
    /// The config that stdiopool started with: some of it stays in force whatever the file says.
    pub(super) started: Arc<Config>,
    /// Addresses given on the command line, which go before those of the file.
    pub(super) listens: Listens,
    pub(super) gateway: Gateway,
    pub(super) state: Arc<StateDir>,
    /// Tenants beside those of the file; none where one command is hosted without one.
    pub(super) accounts: Option<Accounts>,
    /// Configs that callers have stored.
    pub(super) handles: Arc<Handles>,
    /// The front door's certificates, if it has some.
    pub(super) tls: Option<Tls>,
    /// Connections of the front door.
    pub(super) slots: Arc<ConnectionSlots>,
    pub(super) uses: Arc<Uses>,
    /// What the file said when it was last read.
    pub(super) in_force: Mutex<InForce>,
    pub(super) events: Events,
    pub(super) generation: AtomicU64,
    /// Told when another pool.toml is in force.
    pub(super) reloaded: tokio::sync::Notify,
    /// Held during a reload: there is one at a time.
    pub(super) reloading: tokio::sync::Mutex<()>,
}

impl Reloader {
    /// Reads the file again. A file with mistakes changes nothing.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) async fn reload(&self) -> Result<String, ReloadError> {
        let _guard = self.reloading.lock().await;
        let _told = service_manager::reloading();
        let outcome = self.apply().await;
        match &outcome {
            Ok(summary) => {
                tracing::info!("reloaded: {summary}");
                self.events.tell(EventKind::Reloaded, summary.clone());
            }
            Err(why) => {
                tracing::error!("not reloaded, the old configuration stays in force: {why}");
                self.events.tell(EventKind::ReloadFailed, why.to_string());
            }
        }
        outcome
    }

    async fn apply(&self) -> Result<String, ReloadError> {
        let path = self.path.clone().ok_or(ReloadError::NoFile)?;
        let loaded = tokio::task::spawn_blocking(move || read::read(&path)).await;
        let mut found = loaded.map_err(ReloadError::NotRead)??;
        self.listens.put_into(&mut found.config)?;
        if let Some(why) = found.notices.fatal() {
            return Err(ReloadError::Host(why));
        }
        // Read before anything changes, and put in force with the rest.
        let certificates = match (&self.tls, &found.config.http.tls) {
            (Some(_), Some(tls)) => Some(Tls::load(tls)?),
            _ => None,
        };
        let vault = self.accounts.as_ref().map(|a| Arc::clone(a.vault()));
        let vault = vault.unwrap_or_else(|| Arc::new(Vault::without_key()));
        let in_force = InForce {
            config: Arc::new(found.config),
            // What commands printed is asked for again.
            secrets: Arc::new(Secrets::new(vault)),
        };
        let of_file = in_force.config.warnings.len();
        let old = Arc::clone(&self.gateway.runtime_config().config);
        let runtime = self.runtime_config(&in_force)?;
        let new = Arc::clone(&runtime.config);
        *self.in_force.lock() = in_force;
        if let (Some(tls), Some(certificates)) = (&self.tls, &certificates) {
            tls.replace(certificates);
        }
        found.notices.warn();
        // The warnings of the accounts in the state folder.
        for warning in new.warnings.iter().skip(of_file) {
            tracing::warn!("{}", warning.message);
        }
        self.gateway.workers().pool().reconfigure(limits::of(&new));
        self.slots.set_limits(limits::of_connections(&new));
        self.gateway.replace_runtime_config(Arc::new(runtime));
        self.forget_handles();
        self.reloaded.notify_one();
        let retired = self.retire_outdated(None).await;
        self.gateway
            .metrics()
            .retain_servers(|name| new.has_server(name));
        let told = restart_needed(&self.started, &new);
        if let Some(told) = &told {
            tracing::warn!("{told}");
        }
        Ok(summary(&old, &new, retired)
            + &told.map_or_else(String::new, |told| format!("; {told}")))
    }

    /// What follows from what the file says and from the accounts as they are now.
    fn runtime_config(&self, in_force: &InForce) -> Result<RuntimeConfig, ServeError> {
        let config = match &self.accounts {
            Some(accounts) => Arc::new(accounts.merge_into(&in_force.config)?),
            None => Arc::clone(&in_force.config),
        };
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let before = self.gateway.runtime_config();
        let parts = RuntimeParts {
            state: Arc::clone(&self.state),
            secrets: Arc::clone(&in_force.secrets),
            uses: Arc::clone(&self.uses),
            grants: self.grants(),
        };
        assemble::runtime_config(config, generation, parts, Some(&before))
    }

    /// The authorisations of tenants upstream.
    pub(super) fn grants(&self) -> Arc<Grants> {
        let accounts = self.accounts.as_ref();
        accounts.map_or_else(Arc::default, |it| Arc::clone(&it.grants))
    }

    /// Forgets the configs that callers of tenants have stored which are gone.
    pub(super) fn forget_handles(&self) {
        let config = Arc::clone(&self.gateway.runtime_config().config);
        self.handles
            .keep_tenants(|tenant| config.has_tenant(tenant));
    }

    /// Writes down when tokens were last used.
    pub(super) fn note_token_uses(&self) {
        let uses = self.uses.take();
        if let Some(accounts) = &self.accounts {
            accounts.note_uses(uses);
        }
    }

    /// Looks at or changes accounts; what has changed is in force when this returns.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub(super) async fn account(&self, act: Act) -> Result<Reply, AccountError> {
        let accounts = self.accounts.as_ref().ok_or_else(|| {
            let why = "one command is hosted without a file: it has no tenants, tokens and secrets";
            AccountError::Unavailable(why.to_owned())
        })?;
        let _guard = self.reloading.lock().await;
        accounts.note_uses(self.uses.take());
        let in_force = self.in_force.lock().clone();
        let (changes, name) = (act.changes(), act.name());
        let tenant = act.tenant().map(TenantId::new);
        let is_removal = matches!(act, Act::RemoveTenant(_));
        let told = accounts.act(&in_force.config, act).await?;
        if !changes {
            return Ok(told);
        }
        let runtime = self.runtime_config(&in_force);
        let runtime = runtime.map_err(|why| AccountError::Failed(why.to_string()))?;
        self.gateway.replace_runtime_config(Arc::new(runtime));
        let of_tenant = tenant.as_ref();
        if let Some(gone) = of_tenant.filter(|_| is_removal) {
            self.gateway.sessions().end_of_tenant(gone);
            self.handles.keep_tenants(|tenant| tenant != gone);
        }
        let retired = self.retire_outdated(of_tenant).await;
        let tenant = tenant.as_ref().map(TenantId::as_str);
        tracing::info!(tenant, retired, "{name}, asked for through the admin API");
        Ok(told)
    }

    /// Workers that would be started otherwise today serve what they have in flight and stop: those
    /// of that tenant, or all.
    async fn retire_outdated(&self, only: Option<&TenantId>) -> usize {
        let runtime = self.gateway.runtime_config();
        let mut outdated = BTreeSet::new();
        for connection in self.gateway.workers().connections() {
            let plan = connection.plan();
            // Whether the worker would still be started by these words: its key holds a digest
            // over them. The session's part of the key cannot have changed.
            // A spare is the pool's own business.
            let Some(user) = &plan.principal else {
                continue;
            };
            let (server, tenant) = (&plan.server, &user.tenant);
            if only.is_some_and(|only| only != tenant) {
                continue;
            }
            let is_gone = !runtime.config.has_server(server) || !runtime.config.has_tenant(tenant);
            let client = plan.client.as_deref();
            let resolved = runtime
                .resolver
                .resolve(user, server, &plan.session, client);
            let is_same = !is_gone
                && resolved
                    .await
                    .is_ok_and(|spec| spec.fingerprint() == plan.spec.fingerprint());
            if !is_same {
                outdated.insert(connection.id());
            }
        }
        let is_outdated = |worker: &crate::pool::WorkerView| outdated.contains(&worker.id);
        self.gateway
            .workers()
            .pool()
            .retire_where(is_outdated, StopReason::Config)
    }
}

/// The changes, for the log.
fn summary(old: &Config, new: &Config, retired: usize) -> String {
    let added = new
        .servers
        .keys()
        .filter(|name| !old.has_server(name))
        .count();
    let removed = old
        .servers
        .keys()
        .filter(|name| !new.has_server(name))
        .count();
    format!(
        "{} ({added} new, {removed} removed), {}, {} when idle",
        counted(new.servers.len(), "server"),
        counted(new.tenants.len(), "tenant"),
        match retired {
            1 => "1 outdated worker is replaced".to_owned(),
            n => format!("{n} outdated workers are replaced"),
        },
    )
}

/// The keys of the file that take a restart.
fn restart_needed(started: &Config, new: &Config) -> Option<String> {
    let keys = started.needs_restart(new);
    let quoted: Vec<_> = keys.iter().map(|key| format!("`{key}`")).collect();
    let (last, others) = quoted.split_last()?;
    let (named, verb) = match others {
        [] => (last.clone(), "takes"),
        others => (format!("{} and {last}", others.join(", ")), "take"),
    };
    Some(format!("{named} {verb} effect after a restart"))
}
