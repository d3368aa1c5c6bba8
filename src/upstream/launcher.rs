//! Starts and stops workers for the pool.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::time::Instant;
use tracing::Instrument;

use super::connection::{LifeStage, WorkerConnection};
use super::failed_start::not_started;
use super::outcomes::{exit_reason, why_stopped};
use super::page_out::page_out;
use super::spare_slot::SpareSlot;
use super::start::{complete_handshake, start};
use super::worker_events::WorkerEvent;
use super::worker_launcher::{Lifecycle, WorkerLauncher};
use super::workers::Workers;
use crate::counted::in_ms;
use crate::folders;
use crate::ids::{PoolKey, ServerName, WorkerId};
use crate::pool::{ExitCause, Launcher, StartFailure, Stop};
use crate::protocol::TraceContext;
use crate::routing::StartPlan;
use crate::telemetry::RequestSpan;
use crate::telemetry::labels::StartOutcome;
use crate::usage::Amounts;
use crate::worker;

impl Launcher for WorkerLauncher {
    type Spec = StartPlan;
    type Worker = Arc<WorkerConnection>;

    fn start(&self, id: WorkerId, key: PoolKey, plan: Arc<StartPlan>) {
        if let Some(workers) = self.0.upgrade() {
            workers.start(id, key, plan);
        }
    }

    fn adopt(&self, id: WorkerId, key: PoolKey, plan: Arc<StartPlan>) {
        if let Some(workers) = self.0.upgrade() {
            workers.adopt(id, key, plan);
        }
    }

    fn hibernate(&self, id: WorkerId) {
        if let Some(workers) = self.0.upgrade() {
            workers.hibernate(id);
        }
    }

    fn wake(&self, id: WorkerId) {
        if let Some(workers) = self.0.upgrade() {
            workers.wake(id);
        }
    }

    fn stop(&self, id: WorkerId, stop: Stop) {
        if let Some(workers) = self.0.upgrade() {
            workers.stop(id, stop);
        }
    }
}

impl Lifecycle for Workers {
    fn start(self: Arc<Self>, id: WorkerId, key: PoolKey, plan: Arc<StartPlan>) {
        let connection = WorkerConnection::new(id, key, plan, Arc::clone(&self.services));
        if let Some(context) = trace_of(connection.plan()) {
            connection.starts_for(context);
        }
        self.add_connection(Arc::clone(&connection));
        let tasks = self.tasks().clone();
        let span = connection.span().clone();
        tasks.spawn(async move { live(&self, connection).await }.instrument(span));
    }

    fn adopt(self: Arc<Self>, id: WorkerId, key: PoolKey, plan: Arc<StartPlan>) {
        let spare = self.connection(id).and_then(|connection| {
            let spare_slot = self.take_spare(id)?;
            let worker = connection.worker()?.clone();
            Some((spare_slot, worker, connection))
        });
        let Some((spare_slot, worker, spare)) = spare else {
            // Gone already, which the pool is about to hear.
            self.pool().start_failed(id, StartFailure::SpareGone);
            return;
        };
        let connection = WorkerConnection::new(id, key, plan, Arc::clone(&self.services));
        if let Some(entry) = spare.entry() {
            connection.started_from(entry);
        }
        connection.goes_on_from(&spare);
        // Both at once: whoever stops the worker from now on stops the one it has become.
        self.add_connection(Arc::clone(&connection));
        let ends = spare_slot.hand_over(Arc::clone(&connection));
        let tasks = self.tasks().clone();
        tasks.spawn(async move {
            adopted(&self, connection, worker).await;
            drop(ends);
        });
    }

    fn hibernate(self: Arc<Self>, id: WorkerId) {
        let Some(connection) = self.connection(id) else {
            return;
        };
        connection.fall_asleep();
        let tasks = self.tasks().clone();
        let span = connection.span().clone();
        tasks.spawn(async move { page_out(&self, connection).await }.instrument(span));
    }

    fn wake(&self, id: WorkerId) {
        if let Some(connection) = self.connection(id) {
            connection.wake();
        }
    }

    fn stop(&self, id: WorkerId, stop: Stop) {
        let Some(connection) = self.connection(id) else {
            return;
        };
        let plan = connection.plan();
        if stop.reason.is_eviction() {
            tracing::info!(parent: connection.span(), worker = %id, server = %plan.server, tenant = plan.whose(), "worker {}", why_stopped(&stop));
        } else {
            let reason = exit_reason(Some(stop.reason)).as_str();
            tracing::debug!(parent: connection.span(), worker = %id, server = %plan.server, reason, "stopping worker: {}", why_stopped(&stop));
        }
        connection.stop(stop);
    }
}

/// The trace of the request that a worker of that plan is started for, if the start is made in its course. What frees a place for a start
/// is another request now and then: one of another tenant or server is not whom the start is for.
fn trace_of(plan: &StartPlan) -> Option<TraceContext> {
    let request = RequestSpan::current()?;
    let is_for_it = plan.tenant.as_ref() == request.tenant() && !plan.is_spare();
    // Where all servers are offered as one, the request is for any of them.
    let is_of = |server: &ServerName| *server == plan.server || *server == ServerName::all();
    let is_for_it = is_for_it && request.server().is_some_and(is_of);
    request.trace().filter(|_| is_for_it)?.for_start()
}

/// A worker's life, from its start until the last process of its tree is gone.
async fn live(workers: &Arc<Workers>, connection: Arc<WorkerConnection>) {
    let id = connection.id();
    let plan = Arc::clone(connection.plan());
    let folder = plan.spec.scratch_of(id);
    connection.note_life(LifeStage::Starting, "started");
    workers.tell(WorkerEvent::Starting(&connection));
    let since = Instant::now();
    let spare_slot = plan
        .is_spare()
        .then(|| Arc::new(SpareSlot::new(Arc::clone(&connection))));
    if let Some(spare_slot) = &spare_slot {
        workers.keep_spare(id, spare_slot);
    }
    let (cause, connection, exit) = match start(workers, &connection, spare_slot.clone()).await {
        Ok(worker) => {
            plan.metrics
                .worker_started(StartOutcome::Ok, since.elapsed());
            workers
                .usage()
                .started(&plan.charged_tenant(), &plan.server);
            if let Some(trace) = &workers.services.trace {
                trace.start(&plan.server, since.elapsed());
            }
            tracing::info!(
                worker = %id, server = %plan.server, tenant = plan.whose(), pid = worker.pid(),
                took_ms = since.elapsed().as_millis(), "worker ready"
            );
            let how = format!("ready after {}", in_ms(since.elapsed()));
            connection.note_life(LifeStage::Ready, &how);
            connection.is_ready();
            workers.tell(WorkerEvent::Ready(&connection));
            workers.pool().ready(id, Arc::clone(&connection));
            workers.note_what_runs(&connection, &worker);
            let exit = worker.wait().await;
            if let Some(spare_slot) = &spare_slot {
                spare_slot.settled().await;
            }
            let connection = spare_slot
                .as_ref()
                .map_or(connection, |spare_slot| spare_slot.connection());
            charge_last_use(workers, &connection, &worker);
            workers.tell(WorkerEvent::Exited(&connection, &exit));
            connection.count_stderr();
            let cause = if exit.asked {
                ExitCause::Requested
            } else {
                ExitCause::Crashed
            };
            (cause, connection, Some(exit))
        }
        Err(error) => {
            let outcome = not_started(workers, &connection, &error);
            plan.metrics.worker_started(outcome, since.elapsed());
            let mut exit = None;
            if let Some(worker) = error.worker {
                worker.kill();
                exit = Some(worker.wait().await);
                charge_last_use(workers, &connection, &worker);
            }
            // Nothing has failed: it ended as it was told to.
            if let (StartOutcome::Declined | StartOutcome::Cancelled, Some(exit)) = (outcome, &exit)
            {
                let ended = WorkerEvent::Exited(&connection, exit);
                workers.tell(ended);
            }
            connection.count_stderr();
            (ExitCause::StartFailed, connection, exit)
        }
    };
    connection.note_life(LifeStage::Ended, &connection.ending(exit.as_ref()).1);
    let gone = WorkerEvent::Gone(&connection, exit.as_ref());
    workers.tell(gone);
    let secrets = plan.spec.secret_files.folder_of(id);
    for folder in folder.into_iter().chain(secrets) {
        remove(folder).await;
    }
    plan.spec.give_back(id);
    workers.remove_connection(id);
    workers.pool().exited(id, cause);
}

/// Charges what a worker has used of the processor and was not charged while it ran: it may have lived for a moment only.
fn charge_last_use(workers: &Workers, connection: &WorkerConnection, worker: &worker::Worker) {
    let plan = connection.plan();
    let used = Amounts::of_processor(worker.take_last_use());
    let usage = workers.usage();
    usage.charge_worker(&plan.charged_tenant(), &plan.server, &used);
}

/// Makes a tenant's worker of a spare: the handshake is all that is missing.
async fn adopted(
    workers: &Arc<Workers>,
    connection: Arc<WorkerConnection>,
    worker: worker::Worker,
) {
    let (id, plan) = (connection.id(), connection.plan());
    let since = Instant::now();
    match complete_handshake(workers, &connection, &worker).await {
        Ok(()) => {
            plan.metrics.spare_adopted(since.elapsed());
            tracing::info!(
                worker = %id, server = %plan.server, tenant = plan.whose(), pid = worker.pid(),
                took_ms = since.elapsed().as_millis(), "spare adopted"
            );
            let how = format!("a spare became the tenant's, in {}", in_ms(since.elapsed()));
            connection.note_life(LifeStage::Adopted, &how);
            connection.is_ready();
            workers.tell(WorkerEvent::Ready(&connection));
            workers.pool().ready(id, Arc::clone(&connection));
        }
        Err(error) => {
            not_started(workers, &connection, &error);
            worker.kill();
        }
    }
}

/// Removes the folder of a worker that is gone.
async fn remove(folder: PathBuf) {
    match tokio::task::spawn_blocking(move || folders::remove(&folder)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("the folder of a worker stays: {error}"),
        Err(error) => tracing::error!(%error, "removing the folder of a worker failed"),
    }
}
