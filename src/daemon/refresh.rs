//! Reads secrets of running workers again from files and commands, and replaces the workers whose
//! secret has changed there.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::StreamExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::reload::Reloader;
use crate::pool::{StopReason, WorkerState, WorkerView};
use crate::tenancy::refresh::{Readability, Readings, Unreadable, sources};
use crate::upstream::WorkerConnection;

/// Files read and commands run at once.
const MAX_AT_ONCE: usize = 4;

/// Refreshes until `stop`. Reads that had begun are left then, and commands are killed.
pub(super) async fn run(reloader: Arc<Reloader>, stop: CancellationToken) {
    let mut unreadable = Unreadable::default();
    let mut last = Instant::now();
    loop {
        let period = reloader
            .gateway
            .runtime_config()
            .config
            .state
            .secrets_refresh;
        let due = period.and_then(|period| last.checked_add(period));
        // Woken when there is another pool.toml, which may say something else.
        let is_due = tokio::select! {
            () = stop.cancelled() => return,
            () = until(due) => true,
            () = reloader.reloaded.notified() => false,
        };
        if is_due {
            let round = round(&reloader, &mut unreadable);
            if stop.run_until_cancelled(round).await.is_none() {
                return;
            }
            last = Instant::now();
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Reads everything once that running workers use, and acts on it.
async fn round(reloader: &Reloader, unreadable: &mut Unreadable) {
    // Workers that start from here on may have read something newer; those that are about to stop get
    // no new requests.
    let pool = reloader.gateway.workers().pool();
    let workers = pool.snapshot().workers.into_iter();
    let staying: HashSet<_> = workers.filter(stays).map(|worker| worker.id).collect();
    let mut connections = reloader.gateway.workers().connections();
    connections.retain(|connection| staying.contains(&connection.id()));
    let readings = read(reloader, &connections, unreadable).await;
    // No reload meanwhile: who is outdated under which config.
    let _guard = reloader.reloading.lock().await;
    let runtime = reloader.gateway.runtime_config();
    let outdated: HashSet<_> = connections
        .iter()
        .filter(|connection| {
            let plan = connection.plan();
            let is_outdated =
                |tenant| readings.is_outdated(&runtime.config, tenant, &plan.spec.sourced);
            plan.tenant.as_ref().is_some_and(is_outdated)
        })
        .map(|connection| connection.id())
        .collect();
    // First, so that nobody is led to a worker that is about to stop. Where no process runs, nothing
    // is read again: who comes next, and has to wait for a start anyway, does that. A request that waits for a start has read them.
    let snapshot = pool.snapshot();
    let workers = snapshot.workers.into_iter().filter(stays);
    let mut running: HashSet<_> = workers.map(|worker| worker.key).collect();
    running.extend(snapshot.wanted);
    reloader.gateway.sessions().reconsider_routes(|key, plan| {
        let is_outdated =
            |tenant| readings.is_outdated(&runtime.config, tenant, &plan.spec.sourced);
        !plan.spec.sourced.is_empty()
            && (!running.contains(&key) || plan.tenant.as_ref().is_some_and(is_outdated))
    });
    let is_outdated = |worker: &WorkerView| stays(worker) && outdated.contains(&worker.id);
    let retired = pool.retire_where(is_outdated, StopReason::Config);
    if retired > 0 {
        tracing::info!(
            retired,
            "secrets have changed in their files or commands: workers with an old one are replaced when idle"
        );
    }
}

fn stays(worker: &WorkerView) -> bool {
    match worker.state {
        WorkerState::Draining | WorkerState::Stopping => false,
        WorkerState::Starting
        | WorkerState::Idle
        | WorkerState::Spare
        | WorkerState::Hibernated
        | WorkerState::Busy => true,
    }
}

/// What is there now of the secrets that these workers were started with.
async fn read(
    reloader: &Reloader,
    connections: &[Arc<WorkerConnection>],
    unreadable: &mut Unreadable,
) -> Readings {
    let (config, secrets) = {
        let in_force = reloader.in_force.lock();
        (
            Arc::clone(&reloader.gateway.runtime_config().config),
            Arc::clone(&in_force.secrets),
        )
    };
    let used = connections.iter().flat_map(|connection| {
        let plan = connection.plan();
        let names = plan.spec.sourced.keys();
        names.filter_map(|name| Some((plan.tenant.as_ref()?, name.as_str())))
    });
    let sources = sources(&config, used);
    unreadable.keep(|source| sources.contains_key(source));
    let secrets = &secrets;
    let mut reads = futures_util::stream::iter(sources)
        .map(|(source, users)| async move {
            let read = secrets.read_again(&source, &users).await;
            (source, users, read)
        })
        .buffer_unordered(MAX_AT_ONCE);
    let mut readings = Readings::default();
    while let Some((source, users, read)) = reads.next().await {
        let change = unreadable.note(&source, read.is_ok());
        for (tenant, secret) in users.iter().take(usize::from(change.is_some())) {
            match (change, &read) {
                (Some(Readability::Lost), Err(why)) => tracing::warn!(
                    %tenant, secret, users = users.len(),
                    "secret cannot be read again, workers keep the one they have: {why}"
                ),
                _ => {
                    tracing::info!(%tenant, secret, users = users.len(), "secret can be read again")
                }
            }
        }
        if let Ok(digest) = read {
            readings.add(source, digest);
        }
    }
    readings
}
