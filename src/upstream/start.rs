//! The start of a worker: its process, then the handshake.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::connection::WorkerConnection;
use super::spare_slot::SpareSlot;
use super::template_set::Priming;
use super::workers::Workers;
use crate::bridge::EraRefusal;
use crate::config::template::{Reference, Template};
use crate::launch::LaunchSpec;
use crate::protocol::TraceContext;
use crate::routing::StartPlan;
use crate::telemetry::labels::StartOutcome;
use crate::worker;

/// By which OpenTelemetry hands a trace to a process ("Environment Variables as Context Propagation Carriers").
const TRACEPARENT: &str = "TRACEPARENT";
/// What vendors add to it.
const TRACESTATE: &str = "TRACESTATE";

/// How long a process may be silent before it is asked whether it is there at all. A process that
/// answers that, and not `server/discover`, does not know the latter. From then on its start takes no
/// permit: whatever it does, it waits.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a process may take to answer `server/discover` before it is spoken to in the other era; one
/// of a program that turned out to be slow has its `start_timeout`.
const PROBE_TIME: Duration = Duration::from_secs(8);

/// Why a worker could not be had.
pub(super) struct StartError {
    pub(super) outcome: StartOutcome,
    /// The worker's launch is at fault, whatever the server.
    pub(super) is_for_config: bool,
    pub(super) why: String,
    /// A process that is asked otherwise may do better.
    pub(super) may_take_the_other: bool,
    /// How the process did not take the first message.
    pub(super) refusal: EraRefusal,
    /// The process, if there is one.
    pub(super) worker: Option<worker::Worker>,
}

/// Starts the process and shakes hands with it.
pub(super) async fn start(
    workers: &Arc<Workers>,
    connection: &Arc<WorkerConnection>,
    spare_slot: Option<Arc<SpareSlot>>,
) -> Result<worker::Worker, StartError> {
    let plan = connection.plan();
    let inbox = match spare_slot {
        Some(spare_slot) => spare_slot as Arc<dyn worker::Inbox>,
        None => Arc::clone(connection) as Arc<dyn worker::Inbox>,
    };
    let spec = workers.to_start(connection, plan.spec.for_worker(connection.id()));
    let spec = spec.await.map_err(|error| StartError {
        outcome: StartOutcome::SpawnFailed,
        is_for_config: false,
        why: error.to_string(),
        may_take_the_other: false,
        refusal: EraRefusal::Explicit,
        worker: None,
    })?;
    let (spec, not_installed, priming) = (spec.spec, spec.not_installed, spec.priming);
    let to_start = match connection.start_trace() {
        Some(context) => Cow::Owned(traced(&spec, context)),
        None => Cow::Borrowed(&*spec),
    };
    if let Some(priming) = &priming
        && let Some(worker) = workers
            .start_primed(connection, priming, &to_start, &inbox)
            .await
    {
        return begin_primed(workers, connection, priming, &spec, worker).await;
    }
    let spawned = worker::spawn(
        &workers.guardian,
        connection.id(),
        &to_start,
        &plan.options,
        inbox,
        connection.flow().clone(),
    )
    .await;
    // A launcher that fails as well says why at more length, if it does.
    let behind = |why: String| match &not_installed {
        Some(not_installed) => format!("{not_installed}\nrun as written instead: {why}"),
        None => why,
    };
    let worker = spawned.map_err(|error| StartError {
        outcome: StartOutcome::SpawnFailed,
        is_for_config: match &error {
            worker::SpawnError::TooLong { .. } => true,
            worker::SpawnError::NoSuchFolder { .. } => has_callers_folder(workers, plan),
            error => error.is_of_folder(&spec.cwd) && has_callers_folder(workers, plan),
        },
        why: behind(error.to_string()),
        may_take_the_other: false,
        refusal: EraRefusal::Explicit,
        worker: None,
    })?;
    let handshake = complete_handshake(workers, connection, &worker).await;
    handshake.map_err(|error| StartError {
        why: behind(error.why),
        ..error
    })?;
    if let Some(why) = &not_installed {
        Workers::warn_as_written(connection, why);
    }
    if let Some(priming) = &priming {
        workers.prime(connection, priming, &spec);
    }
    Ok(worker)
}

/// The launch with the trace of the request that it is for, as OpenTelemetry passes it to processes. What the server's own `env` says of one goes
/// before it.
fn traced(spec: &LaunchSpec, context: &TraceContext) -> LaunchSpec {
    let mut spec = spec.clone();
    if spec.env.contains_key(TRACEPARENT) {
        return spec;
    }
    let parent = context.traceparent();
    spec.env.insert(TRACEPARENT.to_owned(), parent.into());
    if let Some(state) = &context.state {
        let state = String::from(&**state);
        spec.env.insert(TRACESTATE.to_owned(), state.into());
    }
    spec
}

/// Shakes hands with a worker that was forked from a template. Where that fails, nothing is held against anybody: the next start is an
/// ordinary one, which tells whether the server itself is at fault.
async fn begin_primed(
    workers: &Arc<Workers>,
    connection: &Arc<WorkerConnection>,
    priming: &Priming,
    spec: &LaunchSpec,
    worker: worker::Worker,
) -> Result<worker::Worker, StartError> {
    let handshake = complete_handshake(workers, connection, &worker).await;
    let metrics = &connection.plan().metrics;
    metrics.primed_start(handshake.is_ok());
    let Err(error) = handshake else {
        // A process that has waited is used up.
        workers.prime(connection, priming, spec);
        return Ok(worker);
    };
    if matches!(error.outcome, StartOutcome::Cancelled) {
        return Err(error);
    }
    // Before anybody is told that the start failed, so that the next one is ordinary.
    workers.not_primed(priming, &error.why);
    Err(StartError {
        outcome: StartOutcome::Declined,
        ..error
    })
}

/// Whether the folder that a worker is to run in follows from what its caller sets, which alone is to blame for it then.
fn has_callers_folder(workers: &Workers, plan: &StartPlan) -> bool {
    let runtime = workers.services.config.get();
    let server = runtime.config.servers.get(&plan.server);
    let cwd = server.and_then(|server| server.cwd.as_ref());
    let names_config = |cwd: &Template| {
        cwd.references()
            .any(|it| matches!(it, Reference::Config(_)))
    };
    plan.is_callers && cwd.is_some_and(names_config)
}

/// Shakes hands with the process.
pub(super) async fn complete_handshake(
    workers: &Workers,
    connection: &WorkerConnection,
    worker: &worker::Worker,
) -> Result<(), StartError> {
    let plan = connection.plan();
    let handshake = connection.begin_handshake(worker.clone());
    let is_discovery = plan.handshake.may_be_unknown();
    let waited = async {
        if !is_discovery {
            return handshake.await;
        }
        let mut handshake = handshake;
        if let Ok(told) = tokio::time::timeout(PROBE_TIMEOUT, &mut handshake).await {
            return told;
        }
        // Silent: does it not read yet, or not know the question?
        workers.pool().waits(connection.id());
        connection.ask_whether_it_is_there();
        handshake.await
    };
    let limit = if is_discovery && !workers.services.knowledge.dialects.is_slow(plan.program) {
        PROBE_TIME.min(plan.start_timeout)
    } else {
        plan.start_timeout
    };
    let told = tokio::time::timeout(limit, waited).await;
    let refusal = match &told {
        Err(_elapsed) => EraRefusal::Silent,
        Ok(_) => connection.how_it_refused(),
    };
    let (outcome, why, may_take_the_other) = match told {
        Ok(Ok(Ok(()))) => {
            connection.begin_with_roots().await;
            return Ok(());
        }
        Ok(Ok(Err(refusal))) => {
            let outcome = connection.how_the_start_ended();
            (outcome, refusal.why, refusal.may_take_the_other)
        }
        Ok(Err(_dropped)) => {
            let why = "its connection was dropped".to_owned();
            (StartOutcome::Cancelled, why, false)
        }
        Err(_elapsed) => (
            StartOutcome::Timeout,
            format!(
                "it did not answer `{}` within {} (raise `servers.{}.start_timeout` if it needs longer)",
                plan.first_question(),
                humantime::format_duration(limit),
                plan.server,
            ),
            // One that does not know the question may do anything.
            is_discovery,
        ),
    };
    let blame = workers.blame_of_package(connection).await;
    let why = format!("{why}{blame}{}", connection.quote_stderr());
    Err(StartError {
        outcome,
        is_for_config: false,
        why,
        may_take_the_other,
        refusal,
        worker: Some(worker.clone()),
    })
}
