//! What happens to packages: told to the log, the metrics and whoever watches; workers of an older version are replaced.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::connection::WorkerConnection;
use super::worker_events::{PackageEvent, WorkerEvent};
use super::workers::Workers;
use crate::launch::packages::{InstallEvent, InstallEventSink, Installed, Slot};
use crate::pool::StopReason;
use crate::telemetry::labels::InstallOutcome;

/// Tells the log, the metrics and the admin API what happens to packages, and the pool that a
/// newer version is there.
struct PackageEvents {
    workers: Weak<Workers>,
}

impl InstallEventSink for PackageEvents {
    fn package(&self, slot: &Slot, event: InstallEvent) {
        let Some(workers) = self.workers.upgrade() else {
            return;
        };
        let (server, name) = (&slot.server, slot.name());
        let metrics = workers.services.metrics.server(server);
        let happened = |event, message: &str| {
            workers.tell(WorkerEvent::Package(event, server, message));
        };
        match event {
            InstallEvent::Installing => {
                let message = format!("package {name} is being installed");
                tracing::info!(%server, "{message}");
                happened(PackageEvent::Installing, &message);
            }
            InstallEvent::Installed {
                installed,
                is_new,
                before,
                took,
            } => {
                let outcome = if is_new {
                    InstallOutcome::Installed
                } else {
                    InstallOutcome::Unchanged
                };
                metrics.package_install(outcome, took);
                let message = match &before {
                    Some(before) => format!(
                        "package {name}: version {} in place of {}",
                        installed.version, before.version
                    ),
                    None => format!("package {name} is there, in version {}", installed.version),
                };
                if is_new || before.is_some() {
                    let took_ms = took.as_millis();
                    tracing::info!(%server, took_ms, "{message}");
                    happened(PackageEvent::Installed, &message);
                    say_what_it_lacks(slot, &installed);
                } else {
                    tracing::debug!(%server, "{message}");
                }
                if let Some(before) = before {
                    workers.replace_workers_of(slot, &before.entry);
                }
            }
            InstallEvent::Failed { why, keeps_old } => {
                metrics.package_install(InstallOutcome::Failed, Duration::ZERO);
                let what = if keeps_old {
                    "goes on in its old version"
                } else {
                    "cannot be installed"
                };
                let message = format!("package {name} {what}: {}", slot.masked(&why));
                // The start that waits for it warns, with what came of running it as written.
                if keeps_old {
                    tracing::warn!(%server, "{message}");
                } else {
                    tracing::info!(%server, "{message}");
                }
                happened(PackageEvent::Failed, &message);
            }
        }
    }
}

/// Warns of what an install has not done that its package may need.
fn say_what_it_lacks(slot: &Slot, installed: &Installed) {
    let (server, name) = (&slot.server, slot.name());
    if let Some(unscripted) = &installed.unscripted {
        tracing::warn!(
            %server,
            "package {name}: {}; {}",
            unscripted.told(),
            unscripted.remedy(server.as_str())
        );
    }
    if !installed.left.in_home.is_empty() {
        tracing::warn!(
            %server,
            "package {name}: its install scripts have left {} in HOME, where no worker looks (`launch = \"as-is\"` installs it in each tenant's own)",
            installed.left.in_home.join(", ")
        );
    }
}

impl Workers {
    /// Whoever has to be told what happens to packages.
    pub(crate) fn install_events(self: &Arc<Self>) -> Arc<dyn InstallEventSink> {
        Arc::new(PackageEvents {
            workers: Arc::downgrade(self),
        })
    }

    /// Workers that run an older version of a package finish what they have in flight; what was said
    /// of it is forgotten.
    fn replace_workers_of(&self, slot: &Slot, entry: &str) {
        let is_older = |connection: &Arc<WorkerConnection>| {
            let of_slot = connection.plan().slot(&self.installer);
            connection.entry() == Some(entry)
                && of_slot.is_some_and(|other| std::ptr::eq(&*other, slot))
        };
        for connection in self
            .connections()
            .iter()
            .filter(|connection| is_older(connection))
        {
            self.pool().retire(connection.id(), StopReason::Package);
        }
        self.services.knowledge.catalog.all_changed();
    }
}
