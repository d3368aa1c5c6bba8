//! Packages on the way to a worker: who needs one waits here for its install, not in the pool, where
//! it would take the place of starts that need none.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::state::Gateway;
use super::wait_steps::{WaitSteps, waiting_progress};
use crate::launch::packages::{Slot, State};
use crate::pool::Warmth;
use crate::protocol::{Failure, Reason};
use crate::routing::Route;
use crate::session::Session;
use crate::upstream::Outbox;

/// How often a client that waits hears how far an install is, though nothing has changed.
const PROGRESS_PERIOD: Duration = Duration::from_secs(2);
/// How soon one that may not wait longer is told to try again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Longest that a client waits which is told of progress; then it is told to come again.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

impl Gateway {
    /// Waits until a package is installed, or cannot be, for as long as a request may wait
    /// for a worker.
    ///
    /// # Errors
    /// [`Reason::Installing`] when it takes longer; a later try may succeed.
    ///
    /// # Cancel-Safety
    /// A dropped call leaves the install under way.
    pub(super) async fn installed(&self, slot: &Slot) -> Result<(), Failure> {
        let limit = self.runtime_config().config.pool.queue_timeout;
        let since = Instant::now();
        match tokio::time::timeout(limit, until_settled(slot)).await {
            Ok(()) => Ok(()),
            Err(_elapsed) => {
                let stage = match slot.state() {
                    State::Installing { since, stage } => {
                        let took = Duration::from_secs(since.elapsed().as_secs());
                        format!(
                            "{}, for {}",
                            stage.as_str(),
                            humantime::format_duration(took)
                        )
                    }
                    _ => "waiting for other installs".to_owned(),
                };
                let why = format!(
                    "package `{}` of server `{}` is still being installed after {}: {stage} (`stdiopool prefetch` does so before anyone waits)",
                    slot.name(),
                    slot.server,
                    humantime::format_duration(Duration::from_secs(since.elapsed().as_secs())),
                );
                Err(Failure::new(Reason::Installing, why).retry_after(RETRY_AFTER))
            }
        }
    }

    /// The package that has to be installed before the route can have a worker.
    pub(super) fn missing(&self, route: &Route) -> Option<Arc<Slot>> {
        let slot = route.plan.slot(&self.state.installer)?;
        if slot.settled().is_some() || self.state.pool().warmth(route.key) != Warmth::Cold {
            return None;
        }
        let events = self.state.workers.install_events();
        self.state
            .installer
            .ensure(&slot, route.plan.whose(), &events);
        Some(slot)
    }

    /// The install that requests of that caller have to wait for; it is begun if it was not. Other obstacles
    /// are told when they are sent.
    ///
    /// # Cancel-Safety
    /// Cancel-safe.
    pub async fn install_before(&self, caller: &Arc<Session>) -> Option<Install> {
        let route = self.route(caller, None).await.ok()?;
        self.missing(&route).map(Install)
    }

    /// Ends installs under way: whoever waits for them is let go.
    pub async fn stop_installs(&self) {
        self.state.installer.stop().await;
    }

    /// Begins to look for newer versions of packages and to remove those that nobody uses, and
    /// returns at once.
    pub fn look_after_packages(&self) {
        let packages = self.runtime_config().config.packages.clone();
        let installer = Arc::clone(&self.state.installer);
        if let Some(interval) = packages.refresh {
            installer.refresh(interval, &self.state.workers.install_events());
        }
        let connections = self.state.connections();
        let running = connections
            .iter()
            .filter_map(|connection| connection.entry());
        let templates = self.state.workers.shown_templates();
        let running = running.map(ToOwned::to_owned);
        let running: Vec<String> = running
            .chain(templates.into_iter().map(|it| it.entry))
            .collect();
        let is_running = move |entry: &str| running.iter().any(|running| running == entry);
        let tasks = self.state.tasks.clone();
        tasks.spawn(async move { installer.collect(packages.keep, is_running).await });
    }
}

/// A package that has to be installed before a request can be answered.
#[derive(Debug)]
pub struct Install(Arc<Slot>);

impl Install {
    /// Waits until it is installed, or cannot be; tells a client how far it is, which asked with that
    /// progress token (raw JSON). `steps` counts what that is told.
    ///
    /// # Cancel-Safety
    /// A dropped call leaves the install under way.
    pub async fn told(&self, token: &str, steps: &WaitSteps, outbox: &Outbox) {
        told_until_settled(&self.0, token, steps, outbox).await;
    }
}

/// Waits until it is installed, or cannot be.
pub(super) async fn until_settled(slot: &Slot) {
    let mut changes = slot.changes();
    while slot.settled().is_none() {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Waits until it is installed, or cannot be, and tells a client how far it is, which asked with that progress token (raw JSON).
pub(super) async fn told_until_settled(
    slot: &Slot,
    token: &str,
    steps: &WaitSteps,
    outbox: &Outbox,
) {
    let wait = async {
        let mut changes = slot.changes();
        while slot.settled().is_none() {
            outbox.push(waiting_progress(token, steps, &how_far(slot)));
            let changed = tokio::time::timeout(PROGRESS_PERIOD, changes.changed());
            if let Ok(Err(_gone)) = changed.await {
                return;
            }
        }
    };
    // What follows says how it ended.
    let _settled = tokio::time::timeout(LONGEST_WAIT, wait).await;
}

fn how_far(slot: &Slot) -> String {
    let name = slot.name();
    match slot.state() {
        State::Installing { since, stage } => {
            let stage = stage.as_str();
            format!("package {name}: {stage} ({} s)", since.elapsed().as_secs())
        }
        _ => format!("package {name}: waiting"),
    }
}
