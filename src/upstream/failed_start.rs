//! What follows from a start that did not succeed: whether it is held against anybody, and what is told of it.

use std::sync::Arc;

use super::connection::WorkerConnection;
use super::start::StartError;
use super::worker_events::WorkerEvent;
use super::workers::Workers;
use crate::bridge::EraRefusal;
use crate::config::Share;
use crate::pool::{StartFailure, StopReason};
use crate::routing::StartPlan;
use crate::telemetry::labels::StartOutcome;

/// Tells everyone that a process will not serve, and why; returns what became of the start.
pub(super) fn not_started(
    workers: &Arc<Workers>,
    connection: &WorkerConnection,
    error: &StartError,
) -> StartOutcome {
    let (id, plan) = (connection.id(), connection.plan());
    // What the process answered, or a path made of a secret, may be in it.
    let (outcome, why) = (error.outcome, plan.spec.redactor.redact(&error.why));
    if outcome == StartOutcome::Declined {
        // A primed worker did not serve: another is started ordinarily. Whoever begins to wait between the two counts sees the second.
        workers.count_failed_primed_start();
        let outcome = declined(workers, connection, &why, StopReason::Declined);
        workers.count_failed_primed_start();
        return outcome;
    }
    let era = plan.handshake.era;
    let may_take_the_other = match outcome {
        StartOutcome::Cancelled => false,
        _ => error.may_take_the_other && !plan.is_spare(),
    };
    // A program of which it is known which era it speaks does not refuse for the era: another process of it may be in its way.
    let is_beside = plan.era_is_certain && fails_beside_another(workers, connection, error);
    // One caller's settings may make it silent, which says nothing of how long its program takes for others.
    let refusal = match error.refusal {
        EraRefusal::Silent if plan.is_callers => EraRefusal::Explicit,
        refusal => refusal,
    };
    if !is_beside
        && may_take_the_other
        && workers
            .services
            .knowledge
            .dialects
            .refuses(plan.program, era, refusal)
    {
        let comes_of_it = match workers
            .services
            .knowledge
            .dialects
            .is_asked_again(plan.program, era)
        {
            true => "has not answered, and is asked once more",
            false => "is not spoken to in this way; the other is tried",
        };
        tracing::info!(
            worker = %id, server = %plan.server,
            "server `{}` {comes_of_it}: {why}", plan.server
        );
        return declined(workers, connection, &why, StopReason::Declined);
    }
    if is_beside || (!plan.era_is_certain && fails_beside_another(workers, connection, error)) {
        tracing::info!(worker = %id, server = %plan.server, tenant = plan.whose(), "not beside another: {why}");
        return declined(workers, connection, &why, StopReason::NotBeside);
    }
    let is_for_config = is_for_config(workers, plan, error);
    // Whether it hangs for that is not known: it may be slow today. No circuit but that of its configuration counts it.
    let may_be_for_config = is_for_config || outcome == StartOutcome::Timeout;
    let message = match plan.is_callers && may_be_for_config {
        true => format!(
            "server `{}` could not be started with the config that the caller sets: {why}",
            plan.server
        ),
        false => format!("server `{}` could not be started: {why}", plan.server),
    };
    if outcome != StartOutcome::Cancelled {
        connection.note_start_failure(&why);
        workers.suspect_package(connection, false);
        tracing::warn!(worker = %id, server = %plan.server, tenant = plan.whose(), "{message}");
        workers.tell(WorkerEvent::StartFailed(connection, &message));
    }
    let failure = match is_for_config {
        true => StartFailure::Config(message.into()),
        false => StartFailure::Failed(message.into()),
    };
    workers.pool().start_failed(id, failure);
    outcome
}

/// A start has failed: whether it was because another process of its tenant and server serves, so that it is to be
/// tried after that.
fn fails_beside_another(
    workers: &Workers,
    connection: &WorkerConnection,
    error: &StartError,
) -> bool {
    let plan = connection.plan();
    let outcome = match error.refusal {
        // An operator or the kernel, for want of memory, killed it; not because another process of that server runs.
        EraRefusal::Killed => return false,
        EraRefusal::Explicit | EraRefusal::Silent | EraRefusal::Crashed => error.outcome,
    };
    let (Some(tenant), StartOutcome::Exited | StartOutcome::Refused) = (&plan.tenant, outcome)
    else {
        return false;
    };
    let runtime = workers.services.config.get();
    let server = runtime.config.servers.get(&plan.server);
    // A key of pool.toml holds, and processes that are not shared are several by intention.
    let is_open = server
        .is_some_and(|server| server.one_at_a_time == Some(false) && server.share == Share::Tenant);
    if !is_open {
        return false;
    }
    if plan.is_one_at_a_time {
        // The start did not fail for another process's sake, after all.
        workers
            .services
            .knowledge
            .one_at_a_time
            .forget(tenant, &plan.server);
        return false;
    }
    let launch = plan.spec.fingerprint();
    let is_beside = |other: &WorkerConnection| {
        let other_plan = other.plan();
        other.id() != connection.id()
            && other_plan.tenant.as_ref() == Some(tenant)
            && other_plan.server == plan.server
            && other_plan.spec.fingerprint() == launch
            && other.server_info().is_some()
    };
    let has_other = workers.connections().iter().any(|other| is_beside(other));
    if has_other
        && workers
            .services
            .knowledge
            .one_at_a_time
            .note(tenant, &plan.server)
    {
        tracing::warn!(
            server = %plan.server, tenant = %tenant,
            "server `{}` does not start beside another process of it, and has one at a time for this tenant from now on (write `servers.{}.max_workers_per_key = 1`)",
            plan.server, plan.server
        );
    }
    has_other
}

/// Nothing is held against a process that will not serve: another is tried in its place.
fn declined(
    workers: &Workers,
    connection: &WorkerConnection,
    why: &str,
    reason: StopReason,
) -> StartOutcome {
    connection.note_declined(reason, why);
    let message = format!(
        "server `{}` could not be started: {why}",
        connection.plan().server
    );
    let failure = StartFailure::Failed(message.into());
    workers.pool().declined(connection.id(), failure);
    StartOutcome::Declined
}

/// Whether the config that a process was to be started with is told to be at fault for a failed start. A process that ends, or refuses to serve, with
/// what its caller sets is not known to do so with what its tenant has configured: then it is that config, unless starts with the
/// tenant's own fail as well.
fn is_for_config(workers: &Workers, plan: &StartPlan, error: &StartError) -> bool {
    let is_its_own_doing = match error.outcome {
        StartOutcome::Exited | StartOutcome::Refused => true,
        StartOutcome::Ok
        | StartOutcome::SpawnFailed
        | StartOutcome::Timeout
        | StartOutcome::Cancelled
        | StartOutcome::Declined => false,
    };
    let tenant = plan.tenant.as_ref().filter(|_| plan.is_callers);
    let is_callers_doing = is_its_own_doing
        && tenant.is_some_and(|tenant| !workers.pool().is_failing(&plan.server, tenant));
    error.is_for_config || is_callers_doing
}
