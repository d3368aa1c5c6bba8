//! What servers that are run as written have written beside their code: kept before a start, and told when another version was run.

use std::sync::Arc;

use super::connection::WorkerConnection;
use super::worker_events::{PackageEvent, WorkerEvent};
use super::workers::Workers;
use crate::launch::packages::written;
use crate::launch::{LaunchSpec, understand};
use crate::worker;

impl Workers {
    /// Keeps what a server has written beside its code, before its launcher may replace that.
    ///
    /// # Cancel-Safety
    /// Cancel-safe: it is kept in the background.
    pub(crate) async fn keep_what_was_written(&self, spec: &LaunchSpec) {
        if spec.scratch.is_some() || package_of(spec).is_none() {
            return;
        }
        let root = spec.packages.clone();
        let shown = root.display().to_string();
        let kept = tokio::task::spawn_blocking(move || written::keep(&root)).await;
        let error = match kept {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(
            folder = shown,
            error,
            "what a server wrote beside its code is not kept; it is lost if its launcher runs another version"
        );
    }

    /// Notes which version a worker runs that was started as written, and tells if it lacks what the one before wrote.
    pub(crate) fn note_what_runs(
        self: &Arc<Self>,
        connection: &Arc<WorkerConnection>,
        worker: &worker::Worker,
    ) {
        let plan = Arc::clone(connection.plan());
        if connection.entry().is_some() || plan.spec.scratch.is_some() {
            return;
        }
        let Some(package) = package_of(&plan.spec) else {
            return;
        };
        let (workers, worker) = (Arc::clone(self), worker.clone());
        self.tasks().spawn_blocking(move || {
            let words = worker
                .tree()
                .into_iter()
                .flat_map(words_of)
                .collect::<Vec<_>>();
            match written::note(&plan.spec.packages, &package, &words) {
                Ok(None) => {}
                Ok(Some(change)) => {
                    let message = format!("tenant {}: {}", plan.whose(), change.told());
                    tracing::warn!(server = %plan.server, "{message}");
                    let left = PackageEvent::LeftBehind;
                    workers.tell(WorkerEvent::Package(left, &plan.server, &message));
                }
                Err(error) => tracing::debug!(
                    server = %plan.server, %error, "which version of its package runs is not noted"
                ),
            }
        });
    }
}

/// The package of a command line, if it has one.
fn package_of(spec: &LaunchSpec) -> Option<String> {
    let args = spec.exposed_args();
    let args: Vec<_> = args.into_iter().map(Some).collect();
    let run = understand(&spec.program, &args)?.ok()?;
    run.recipe.package().map(ToOwned::to_owned)
}

/// The arguments of a process; none if it has gone.
fn words_of(pid: u32) -> Vec<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = line.split(|byte| *byte == 0);
    words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}
