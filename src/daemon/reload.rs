//! Puts a changed pool.toml in force while everything runs.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::assemble;
use super::events::Events;
use super::limits;
use crate::admin::EventKind;
use crate::config::{self, Config};
use crate::pool::StopReason;
use crate::session::Sessions;
use crate::store::StateDir;

/// Reloads pool.toml.
#[derive(Debug)]
pub(super) struct Reloader {
    /// The file; `None` where one command is hosted without one.
    pub(super) path: Option<PathBuf>,
    pub(super) sessions: Sessions,
    pub(super) state: Arc<StateDir>,
    pub(super) events: Events,
    pub(super) generation: AtomicU64,
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
        let loaded = tokio::task::spawn_blocking(move || config::load(&path)).await;
        let new = loaded
            .map_err(|e| e.to_string())?
            .map_err(|errors| errors.to_string())?;
        let new = Arc::new(new);
        let old = Arc::clone(&self.sessions.setup().config);
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let setup = assemble::setup(Arc::clone(&new), generation, Arc::clone(&self.state))
            .map_err(|error| error.to_string())?;
        for warning in &new.warnings {
            tracing::warn!("{warning}");
        }
        self.sessions.pool().reconfigure(limits::of(&new));
        self.sessions.replace_setup(Arc::new(setup));
        let retired = self.retire_outdated().await;
        self.sessions
            .metrics()
            .retain_servers(|name| new.has_server(name));
        Ok(summary(&old, &new, retired))
    }

    /// Workers that would be started otherwise today serve what they have in flight and stop.
    async fn retire_outdated(&self) -> usize {
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
    let mut text = format!(
        "{} servers ({added} new, {removed} removed), {} tenants, {retired} outdated workers are replaced when idle",
        new.servers.len(),
        new.tenants.len(),
    );
    if !old.listens_like(new) {
        text.push_str("; changes to `[http]` and `[admin]` take effect after a restart");
    }
    text
}
