//! Puts a changed pool.toml in force while everything runs.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::accounts::Accounts;
use super::assemble;
use super::events::Events;
use super::limits;
use super::read;
use crate::admin::{AccountError, Act, EventKind, Told};
use crate::config::{Config, canonical};
use crate::counted::counted;
use crate::front::{Places, Tls};
use crate::ids::TenantId;
use crate::pool::StopReason;
use crate::session::{Sessions, Setup};
use crate::store::{StateDir, Vault};
use crate::tenancy::oauth::Grants;
use crate::tenancy::{Handles, Secrets, Uses};

/// What pool.toml said, and where secrets are fetched since.
#[derive(Clone, Debug)]
pub(super) struct Said {
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
    pub(super) fn put_into(self, config: &mut Config) -> Result<(), String> {
        config.http.listen = self.http.map_or(config.http.listen, canonical);
        config.admin.listen = self.admin.map_or(config.admin.listen, canonical);
        config.check_exposure()
    }
}

/// Reloads pool.toml.
#[derive(Debug)]
pub(super) struct Reloader {
    /// The file; `None` where one command is hosted without one.
    pub(super) path: Option<PathBuf>,
    /// What it started with: some of it stays in force whatever the file says.
    pub(super) started: Arc<Config>,
    /// Addresses given on the command line, which go before those of the file.
    pub(super) listens: Listens,
    pub(super) sessions: Sessions,
    pub(super) state: Arc<StateDir>,
    /// Tenants beside those of the file; none where one command is hosted without one.
    pub(super) accounts: Option<Accounts>,
    /// Configs that callers have stored.
    pub(super) handles: Arc<Handles>,
    /// The front door's certificates, if it has some.
    pub(super) tls: Option<Tls>,
    /// Connections of the front door.
    pub(super) places: Arc<Places>,
    pub(super) uses: Arc<Uses>,
    /// What the file said when it was last read.
    pub(super) said: Mutex<Said>,
    pub(super) events: Events,
    pub(super) generation: AtomicU64,
    /// Told when another pool.toml is in force.
    pub(super) reloaded: tokio::sync::Notify,
    /// One reload at a time.
    pub(super) turn: tokio::sync::Mutex<()>,
}

impl Reloader {
    /// Reads the file again. A file with mistakes changes nothing.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) async fn reload(&self) -> Result<String, String> {
        let _turn = self.turn.lock().await;
        let outcome = self.apply().await;
        match &outcome {
            Ok(summary) => {
                tracing::info!("reloaded: {summary}");
                self.events.tell(EventKind::Reloaded, summary.clone());
            }
            Err(why) => {
                tracing::error!("not reloaded, the old configuration stays in force: {why}");
                self.events.tell(EventKind::ReloadFailed, why.clone());
            }
        }
        outcome
    }

    async fn apply(&self) -> Result<String, String> {
        let path = self
            .path
            .clone()
            .ok_or("there is no pool.toml to read again: one command is hosted without a file")?;
        let loaded = tokio::task::spawn_blocking(move || read::read(&path)).await;
        let mut found = loaded
            .map_err(|e| e.to_string())?
            .map_err(|errors| errors.to_string())?;
        self.listens.put_into(&mut found.config)?;
        if let Some(why) = found.notices.fatal() {
            return Err(why);
        }
        // Read before anything changes, and put in force with the rest.
        let certificates = match (&self.tls, &found.config.http.tls) {
            (Some(_), Some(tls)) => Some(Tls::load(tls).map_err(|error| error.to_string())?),
            _ => None,
        };
        let vault = self.accounts.as_ref().map(|a| Arc::clone(a.vault()));
        let vault = vault.unwrap_or_else(|| Arc::new(Vault::without_key()));
        let said = Said {
            config: Arc::new(found.config),
            // What commands printed is asked for again.
            secrets: Arc::new(Secrets::new(vault)),
        };
        let of_file = said.config.warnings.len();
        let old = Arc::clone(&self.sessions.setup().config);
        let setup = self.setup(&said)?;
        let new = Arc::clone(&setup.config);
        *self.said.lock() = said;
        if let (Some(tls), Some(certificates)) = (&self.tls, &certificates) {
            tls.replace(certificates);
        }
        found.notices.warn();
        // Those of the accounts in the state folder.
        for warning in new.warnings.iter().skip(of_file) {
            tracing::warn!("{}", warning.message);
        }
        self.sessions.pool().reconfigure(limits::of(&new));
        self.places.set_limits(limits::of_connections(&new));
        self.sessions.replace_setup(Arc::new(setup));
        self.forget_handles();
        self.reloaded.notify_one();
        let retired = self.retire_outdated(None).await;
        self.sessions
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
    fn setup(&self, said: &Said) -> Result<Setup, String> {
        let config = match &self.accounts {
            Some(accounts) => Arc::new(accounts.merge_into(&said.config)?),
            None => Arc::clone(&said.config),
        };
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let before = self.sessions.setup();
        let (state, secrets) = (Arc::clone(&self.state), Arc::clone(&said.secrets));
        let uses = Arc::clone(&self.uses);
        let grants = self.grants();
        let made = assemble::setup(
            config,
            generation,
            state,
            secrets,
            uses,
            grants,
            Some(&before),
        );
        made.map_err(|error| error.to_string())
    }

    /// What tenants have authorised upstream.
    pub(super) fn grants(&self) -> Arc<Grants> {
        let accounts = self.accounts.as_ref();
        accounts.map_or_else(Arc::default, |it| Arc::clone(&it.grants))
    }

    /// Forgets the configs that callers of tenants have stored which are gone.
    pub(super) fn forget_handles(&self) {
        let config = Arc::clone(&self.sessions.setup().config);
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
    pub(super) async fn account(&self, act: Act) -> Result<Told, AccountError> {
        let accounts = self.accounts.as_ref().ok_or_else(|| {
            let why = "one command is hosted without a file: it has no tenants, tokens and secrets";
            AccountError::Unavailable(why.to_owned())
        })?;
        let _turn = self.turn.lock().await;
        accounts.note_uses(self.uses.take());
        let said = self.said.lock().clone();
        let (changes, name) = (act.changes(), act.name());
        let tenant = act.tenant().map(TenantId::new);
        let is_removal = matches!(act, Act::RemoveTenant(_));
        let told = accounts.act(&said.config, act).await?;
        if !changes {
            return Ok(told);
        }
        let setup = self.setup(&said).map_err(AccountError::Failed)?;
        self.sessions.replace_setup(Arc::new(setup));
        let of_tenant = tenant.as_ref();
        if let Some(gone) = of_tenant.filter(|_| is_removal) {
            self.sessions.end_of_tenant(gone);
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
        let setup = self.sessions.setup();
        let mut outdated = BTreeSet::new();
        for link in self.sessions.links() {
            let order = link.order();
            // Whether it would still be started the same way: by the same words, since a digest
            // over them is what its key holds. The session's part of it cannot have changed.
            // A spare is the pool's own business.
            let Some(user) = &order.principal else {
                continue;
            };
            let (server, tenant) = (&order.server, &user.tenant);
            if only.is_some_and(|only| only != tenant) {
                continue;
            }
            let is_gone = !setup.config.has_server(server) || !setup.config.has_tenant(tenant);
            let client = order.client.as_deref();
            let resolved = setup.resolver.resolve(user, server, &order.session, client);
            let is_same = !is_gone
                && resolved
                    .await
                    .is_ok_and(|spec| spec.fingerprint() == order.spec.fingerprint());
            if !is_same {
                outdated.insert(link.id());
            }
        }
        let is_outdated = |worker: &crate::pool::WorkerView| outdated.contains(&worker.id);
        self.sessions
            .pool()
            .retire_where(is_outdated, StopReason::Config)
    }
}

/// What changed, for the log.
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

/// What the file says and the process does not do yet.
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
