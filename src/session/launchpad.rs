//! Starts and stops workers for the pool: the process, then the handshake.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;
use tracing::Instrument;

use super::berth::Berth;
use super::eras::Refusal;
use super::link::Link;
use super::route::Order;
use super::shared::{Happening, Shared};
use crate::bridge::Era;
use crate::config::Share;
use crate::folders;
use crate::ids::{PoolKey, WorkerId};
use crate::pool::{ExitCause, Launcher, Stop, StopReason};
use crate::protocol::{Failure, Reason};
use crate::telemetry::labels::StartOutcome;
use crate::worker::{self, memory};

/// How long a process may be silent before it is asked whether it is there at all. One that
/// answers that, and not `server/discover`, does not know the latter. It takes no starting place from
/// then on: whatever it does, it waits.
const PROBE_PATIENCE: Duration = Duration::from_secs(3);
/// How long a process may take to answer `server/discover` before it is spoken to in the other era; one
/// of a program that turned out to be slow has its `start_timeout`.
const PROBE_TIME: Duration = Duration::from_secs(8);

/// The pool's launcher.
#[derive(Debug)]
pub struct Launchpad {
    shared: Weak<Shared>,
}

impl Launchpad {
    pub(super) fn new(shared: Weak<Shared>) -> Self {
        Self { shared }
    }
}

impl Launcher for Launchpad {
    type Spec = Order;
    type Worker = Arc<Link>;

    fn start(&self, id: WorkerId, key: PoolKey, order: Arc<Order>) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let link = Arc::new(Link::new(id, key, order, Weak::clone(&self.shared)));
        shared.add_link(Arc::clone(&link));
        let tasks = shared.tasks.clone();
        let span = link.span().clone();
        tasks.spawn(async move { live(&shared, link).await }.instrument(span));
    }

    fn adopt(&self, id: WorkerId, key: PoolKey, order: Arc<Order>) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let spare = shared.link(id).and_then(|link| {
            let berth = link.berth()?;
            Some((
                berth,
                link.worker()?.clone(),
                link.entry().map(ToOwned::to_owned),
            ))
        });
        let Some((berth, worker, entry)) = spare else {
            // Gone already, which the pool is about to hear.
            let failure = Failure::new(Reason::WorkerExited, "the spare process is gone");
            shared.pool().start_failed(id, failure);
            return;
        };
        let link = Arc::new(Link::new(id, key, order, Weak::clone(&self.shared)));
        if let Some(entry) = entry {
            link.started_from(&entry);
        }
        // Both at once: whoever stops the worker from now on stops the one it has become.
        shared.add_link(Arc::clone(&link));
        let ends = berth.hand_over(Arc::clone(&link));
        let tasks = shared.tasks.clone();
        tasks.spawn(async move {
            adopted(&shared, link, worker).await;
            drop(ends);
        });
    }

    fn hibernate(&self, id: WorkerId) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let Some(link) = shared.link(id) else { return };
        link.fall_asleep();
        let tasks = shared.tasks.clone();
        let span = link.span().clone();
        tasks.spawn(async move { page_out(&shared, link).await }.instrument(span));
    }

    fn wake(&self, id: WorkerId) {
        if let Some(link) = self.shared.upgrade().and_then(|shared| shared.link(id)) {
            link.wake();
        }
    }

    fn stop(&self, id: WorkerId, stop: Stop) {
        let Some(link) = self.shared.upgrade().and_then(|shared| shared.link(id)) else {
            return;
        };
        let order = link.order();
        if stop.reason.is_eviction() {
            tracing::info!(parent: link.span(), worker = %id, server = %order.server, tenant = order.whose(), "worker {stop}");
        } else {
            let reason = stop.reason.as_str();
            tracing::debug!(parent: link.span(), worker = %id, server = %order.server, reason, "stopping worker: {stop}");
        }
        link.stop(stop);
    }
}

/// Pages a worker out, unless it is needed meanwhile.
async fn page_out(shared: &Arc<Shared>, link: Arc<Link>) {
    // A few at a time: it is CPU-bound, for the pages are compressed.
    let Ok(_permit) = shared.page_outs.acquire().await else {
        return;
    };
    let (id, server) = (link.id(), link.order().server.clone());
    let stops = shared.setup().config.pool.hibernate_stop;
    let paged = tokio::task::spawn_blocking(move || {
        let Some(worker) = link.worker().filter(|_| link.is_asleep()) else {
            return Ok(None);
        };
        let processes = worker.tree();
        memory::page_out(&processes, || !link.is_asleep())?;
        let left = memory::footprint(&processes).filter(|_| link.is_asleep());
        if stops {
            link.freeze(processes);
        }
        Ok(left)
    });
    let result = paged.await.map_err(std::io::Error::other).flatten();
    match result {
        Ok(Some(left)) => {
            let held = left.held(memory::SwapWeight::now());
            tracing::debug!(worker = %id, held_kib = held >> 10, "worker hibernated");
            shared.pool().hibernated(id, Some(held));
            if let Some(trace) = &shared.trace {
                trace.memory(&server, held, true);
            }
        }
        // Needed meanwhile, or gone: the pool knows.
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(worker = %id, %error, "worker cannot be paged out (see `stdiopool doctor`)");
            shared.pool().hibernated(id, None);
        }
    }
}

/// Why a worker could not be had.
struct StartError {
    outcome: StartOutcome,
    /// [`Reason::ConfigInvalid`] if it is for what it was to be started with, whatever the server.
    reason: Reason,
    why: String,
    /// A process that is asked otherwise may do better.
    may_take_the_other: bool,
    /// How it did not take the first message.
    refusal: Refusal,
    /// The process, if there is one.
    worker: Option<worker::Worker>,
}

/// A worker's life, from its start until the last process of its tree is gone.
async fn live(shared: &Arc<Shared>, link: Arc<Link>) {
    let id = link.id();
    let order = Arc::clone(link.order());
    let folder = order.spec.scratch_of(id);
    shared.watcher.happened(Happening::WorkerStarting(&link));
    let since = Instant::now();
    let berth = order
        .is_spare()
        .then(|| Arc::new(Berth::new(Arc::clone(&link))));
    if let Some(berth) = &berth {
        link.moor(berth);
    }
    let (cause, link, exit) = match start(shared, &link, berth.clone()).await {
        Ok(worker) => {
            order
                .metrics
                .worker_started(StartOutcome::Ok, since.elapsed());
            if let Some(trace) = &shared.trace {
                trace.start(&order.server, since.elapsed());
            }
            tracing::info!(
                worker = %id, server = %order.server, tenant = order.whose(), pid = worker.pid(),
                took_ms = since.elapsed().as_millis(), "worker ready"
            );
            shared.watcher.happened(Happening::WorkerReady(&link));
            shared.pool().ready(id, Arc::clone(&link));
            shared.note_what_runs(&link, &worker);
            let exit = worker.wait().await;
            if let Some(berth) = &berth {
                berth.settled().await;
            }
            let link = berth.as_ref().map_or(link, |berth| berth.link());
            shared
                .watcher
                .happened(Happening::WorkerExited(&link, &exit));
            link.count_stderr();
            let cause = if exit.asked {
                ExitCause::Asked
            } else {
                ExitCause::Crashed
            };
            (cause, link, Some(exit))
        }
        Err(error) => {
            let outcome = not_started(shared, &link, &error);
            order.metrics.worker_started(outcome, since.elapsed());
            let mut exit = None;
            if let Some(worker) = error.worker {
                worker.kill();
                exit = Some(worker.wait().await);
            }
            // Nothing has failed: it ended as it was told to.
            if let (StartOutcome::Declined | StartOutcome::Cancelled, Some(exit)) = (outcome, &exit)
            {
                let ended = Happening::WorkerExited(&link, exit);
                shared.watcher.happened(ended);
            }
            link.count_stderr();
            (ExitCause::StartFailed, link, exit)
        }
    };
    let gone = Happening::WorkerGone(&link, exit.as_ref());
    shared.watcher.happened(gone);
    let secrets = order.spec.secret_files.folder_of(id);
    for folder in folder.into_iter().chain(secrets) {
        remove(folder).await;
    }
    shared.remove_link(id);
    shared.pool().exited(id, cause);
}

/// Starts the process and shakes hands with it.
async fn start(
    shared: &Arc<Shared>,
    link: &Arc<Link>,
    berth: Option<Arc<Berth>>,
) -> Result<worker::Worker, StartError> {
    let order = link.order();
    let inbox = match berth {
        Some(berth) => berth as Arc<dyn worker::Inbox>,
        None => Arc::clone(link) as Arc<dyn worker::Inbox>,
    };
    let spec = shared.to_start(link, order.spec.for_worker(link.id()));
    let spec = spec.await.map_err(|error| StartError {
        outcome: StartOutcome::SpawnFailed,
        reason: Reason::StartFailed,
        why: error.to_string(),
        may_take_the_other: false,
        refusal: Refusal::Said,
        worker: None,
    })?;
    let (spec, not_installed) = (spec.spec, spec.not_installed);
    let spawned = worker::spawn(
        &shared.guardian,
        link.id(),
        &spec,
        &order.options,
        (inbox, link.flow().clone()),
    )
    .await;
    // A launcher that fails as well says the same at more length, if it says it.
    let behind = |why: String| match &not_installed {
        Some(not_installed) => format!("{not_installed}\nrun as written instead: {why}"),
        None => why,
    };
    let worker = spawned.map_err(|error| StartError {
        outcome: StartOutcome::SpawnFailed,
        reason: match error {
            worker::SpawnError::TooLong { .. } => Reason::ConfigInvalid,
            _ => Reason::StartFailed,
        },
        why: behind(error.to_string()),
        may_take_the_other: false,
        refusal: Refusal::Said,
        worker: None,
    })?;
    let greeted = greet(shared, link, &worker).await;
    greeted.map_err(|error| StartError {
        why: behind(error.why),
        ..error
    })?;
    Ok(worker)
}

/// Shakes hands with the process.
async fn greet(shared: &Shared, link: &Link, worker: &worker::Worker) -> Result<(), StartError> {
    let order = link.order();
    let greeted = link.greet(worker.clone());
    let is_discovery = order.greeting.era == Era::Stateless;
    let waited = async {
        if !is_discovery {
            return greeted.await;
        }
        let mut greeted = greeted;
        if let Ok(told) = tokio::time::timeout(PROBE_PATIENCE, &mut greeted).await {
            return told;
        }
        // Silent: does it not read yet, or not know the question?
        shared.pool().waits(link.id());
        link.ask_whether_it_is_there();
        greeted.await
    };
    let limit = if is_discovery && !shared.eras.is_slow(order.program) {
        PROBE_TIME.min(order.start_timeout)
    } else {
        order.start_timeout
    };
    let told = tokio::time::timeout(limit, waited).await;
    let refusal = match &told {
        Err(_elapsed) => Refusal::Silent,
        Ok(_) => link.how_it_refused(),
    };
    let (outcome, why, may_take_the_other) = match told {
        Ok(Ok(Ok(()))) => {
            link.begin_with_roots().await;
            return Ok(());
        }
        Ok(Ok(Err(refusal))) => {
            let outcome = link.how_the_start_ended();
            (outcome, refusal.why, refusal.may_take_the_other)
        }
        Ok(Err(_link_dropped)) => {
            let why = "its link was dropped".to_owned();
            (StartOutcome::Cancelled, why, false)
        }
        Err(_elapsed) => (
            StartOutcome::Timeout,
            format!(
                "it did not answer `{}` within {} (raise `servers.{}.start_timeout` if it needs longer)",
                order.first_question(),
                humantime::format_duration(limit),
                order.server,
            ),
            // One that does not know the question may do anything.
            is_discovery,
        ),
    };
    let blame = shared.blame_of_package(link).await;
    let why = format!("{why}{blame}{}", link.quote_stderr());
    Err(StartError {
        outcome,
        reason: Reason::StartFailed,
        why,
        may_take_the_other,
        refusal,
        worker: Some(worker.clone()),
    })
}

/// Makes a tenant's worker of a spare: the handshake is all that is missing.
async fn adopted(shared: &Arc<Shared>, link: Arc<Link>, worker: worker::Worker) {
    let (id, order) = (link.id(), link.order());
    let since = Instant::now();
    match greet(shared, &link, &worker).await {
        Ok(()) => {
            order.metrics.spare_adopted(since.elapsed());
            tracing::info!(
                worker = %id, server = %order.server, tenant = order.whose(), pid = worker.pid(),
                took_ms = since.elapsed().as_millis(), "spare adopted"
            );
            shared.watcher.happened(Happening::WorkerReady(&link));
            shared.pool().ready(id, Arc::clone(&link));
        }
        Err(error) => {
            not_started(shared, &link, &error);
            worker.kill();
        }
    }
}

/// Tells everyone that a process will not serve, and why; returns what became of the start.
fn not_started(shared: &Arc<Shared>, link: &Link, error: &StartError) -> StartOutcome {
    let (id, order) = (link.id(), link.order());
    // What the process answered, or a path made of a secret, may be in it.
    let (outcome, why) = (error.outcome, order.spec.redactor.redact(&error.why));
    let era = order.greeting.era;
    let may_take_the_other = match outcome {
        StartOutcome::Cancelled => false,
        _ => error.may_take_the_other && !order.is_spare(),
    };
    // One that is known to speak so does not refuse for that.
    let is_beside = order.era_is_certain && fails_beside_another(shared, link, outcome);
    // What one caller sets may make it silent, which says nothing of how long its program takes for others.
    let refusal = match error.refusal {
        Refusal::Silent if order.is_callers => Refusal::Said,
        refusal => refusal,
    };
    if !is_beside && may_take_the_other && shared.eras.refuses(order.program, era, refusal) {
        let comes_of_it = match shared.eras.is_asked_again(order.program, era) {
            true => "has not answered, and is asked once more",
            false => "is not spoken to in this way; the other is tried",
        };
        tracing::info!(
            worker = %id, server = %order.server,
            "server `{}` {comes_of_it}: {why}", order.server
        );
        return declined(shared, link, &why, StopReason::Declined);
    }
    if is_beside || (!order.era_is_certain && fails_beside_another(shared, link, outcome)) {
        tracing::info!(worker = %id, server = %order.server, tenant = order.whose(), "not beside another: {why}");
        return declined(shared, link, &why, StopReason::NotBeside);
    }
    let reason = reason_of(shared, order, error);
    // Whether it hangs for that is not known: it may be slow today. No circuit but that of its configuration counts it.
    let is_for_config = reason == Reason::ConfigInvalid || outcome == StartOutcome::Timeout;
    let message = match order.is_callers && is_for_config {
        true => format!(
            "server `{}` could not be started with the config that the caller sets: {why}",
            order.server
        ),
        false => format!("server `{}` could not be started: {why}", order.server),
    };
    if outcome != StartOutcome::Cancelled {
        link.note_start_failure(&why);
        shared.suspect_package(link, false);
        tracing::warn!(worker = %id, server = %order.server, tenant = order.whose(), "{message}");
        shared
            .watcher
            .happened(Happening::WorkerStartFailed(link, &message));
    }
    shared
        .pool()
        .start_failed(id, Failure::new(reason, message));
    outcome
}

/// A start has failed: whether it was because another process of its tenant and server serves, so that it is to be
/// tried after that.
fn fails_beside_another(shared: &Shared, link: &Link, outcome: StartOutcome) -> bool {
    let order = link.order();
    let (Some(tenant), StartOutcome::Exited | StartOutcome::Refused) = (&order.tenant, outcome)
    else {
        return false;
    };
    let setup = shared.setup();
    let server = setup.config.servers.get(&order.server);
    // What is said in pool.toml holds, and processes that are not shared are several by intention.
    let is_open = server
        .is_some_and(|server| server.one_at_a_time == Some(false) && server.share == Share::Tenant);
    if !is_open {
        return false;
    }
    if order.is_alone {
        // It was not for another's sake, after all.
        shared.alone.forget(tenant, &order.server);
        return false;
    }
    let launch = order.spec.fingerprint();
    let is_beside = |other: &Link| {
        let other_order = other.order();
        other.id() != link.id()
            && other_order.tenant.as_ref() == Some(tenant)
            && other_order.server == order.server
            && other_order.spec.fingerprint() == launch
            && other.hello().is_some()
    };
    let has_other = shared.links().iter().any(|other| is_beside(other));
    if has_other && shared.alone.note(tenant, &order.server) {
        tracing::warn!(
            server = %order.server, tenant = %tenant,
            "server `{}` does not start beside another process of it, and has one at a time for this tenant from now on (write `servers.{}.max_workers_per_key = 1`)",
            order.server, order.server
        );
    }
    has_other
}

/// Nothing is held against a process that will not serve: another is tried in its place.
fn declined(shared: &Shared, link: &Link, why: &str, reason: StopReason) -> StartOutcome {
    link.note_declined(reason, why);
    let message = format!(
        "server `{}` could not be started: {why}",
        link.order().server
    );
    let failure = Failure::new(Reason::StartFailed, message);
    shared.pool().declined(link.id(), failure);
    StartOutcome::Declined
}

/// Why a start has failed, for its callers. A process that ends, or refuses to serve, with what its caller sets is not
/// known to do so with what its tenant has configured: it is that config that is told to be at fault, unless starts with
/// the tenant's own fail as well.
fn reason_of(shared: &Shared, order: &Order, error: &StartError) -> Reason {
    let is_its_own_doing = match error.outcome {
        StartOutcome::Exited | StartOutcome::Refused => true,
        StartOutcome::Ok
        | StartOutcome::SpawnFailed
        | StartOutcome::Timeout
        | StartOutcome::Cancelled
        | StartOutcome::Declined => false,
    };
    let tenant = order.tenant.as_ref().filter(|_| order.is_callers);
    match tenant {
        Some(tenant) if is_its_own_doing && !shared.pool().is_failing(&order.server, tenant) => {
            Reason::ConfigInvalid
        }
        _ => error.reason,
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
