//! What the pool decides, in the words, codes and labels of those who are told: one row for each refusal, each failed start and
//! each reason to stop. The codes and statuses of a [`Reason`], and the labels of an [`ExitReason`], stand in `protocol::outcomes`.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

use crate::counted::counted;
use crate::ids::{ServerName, TenantId};
use crate::pool::{
    CircuitChange, CircuitOf, CircuitTransition, Predecessor, Refusal, StartFailure, Stop,
    StopReason,
};
use crate::protocol::{ExitReason, Failure, Reason};

/// How soon a refused caller is told to try again.
const RETRY: Duration = Duration::from_secs(1);

/// The failure for a caller whose request for a slot was refused.
pub(crate) fn refused(refusal: &Refusal) -> Failure {
    let (reason, retry_after) = match refusal {
        Refusal::Draining => return Failure::draining(),
        Refusal::QueueFull { .. } => (Reason::PoolExhausted, Some(RETRY)),
        Refusal::QueueShare { .. } => (Reason::TenantLimit, Some(RETRY)),
        Refusal::SessionShare { .. } => (Reason::Busy, Some(RETRY)),
        Refusal::NotReady { .. } => (Reason::Starting, Some(RETRY)),
        Refusal::Changed { .. } => (Reason::Starting, Some(RETRY)),
        Refusal::KeyBusy { .. } => (Reason::Busy, Some(RETRY)),
        Refusal::Follows { predecessor, .. } => match predecessor {
            Predecessor::Starting => (Reason::Starting, Some(RETRY)),
            Predecessor::Stopping | Predecessor::Serving | Predecessor::Draining { .. } => {
                (Reason::Busy, Some(RETRY))
            }
        },
        Refusal::TenantFull { .. } => (Reason::TenantLimit, Some(RETRY)),
        Refusal::ServerFull { .. } => (Reason::PoolExhausted, Some(RETRY)),
        Refusal::MemoryFull { .. } => (Reason::PoolExhausted, Some(RETRY)),
        Refusal::StartsFull { .. } => (Reason::PoolExhausted, Some(RETRY)),
        Refusal::PoolFull { .. } => (Reason::PoolExhausted, Some(RETRY)),
        Refusal::StartFailed { failure, retry_in } => (start_failed(failure).0, *retry_in),
        Refusal::CircuitOpen { retry_in, .. } => (Reason::CircuitOpen, Some(whole(*retry_in))),
        Refusal::Dropped => (Reason::Internal, None),
    };
    let failure = Failure::new(reason, why_refused(refusal));
    match retry_after {
        Some(wait) => failure.retry_after(wait),
        None => failure,
    }
}

fn why_refused(refusal: &Refusal) -> String {
    let long = |wait: &Duration| humantime::format_duration(*wait);
    match refusal {
        Refusal::Draining => Failure::draining().message,
        Refusal::QueueFull { limit } => {
            format!("queue full ({limit} waiting; raise `pool.queue_limit`)")
        }
        Refusal::QueueShare { limit, tenant } => format!(
            "queue full ({limit} waiting, most of them of tenant `{tenant}`; raise `pool.queue_limit`)"
        ),
        Refusal::SessionShare {
            server,
            share,
            max_in_flight,
        } => format!(
            "this session has {share} unanswered requests at server `{server}` already: that many of a worker's {max_in_flight} are for one session (raise `servers.{server}.max_in_flight`)"
        ),
        Refusal::NotReady { server, waited } => format!(
            "server `{server}` has not answered its first request for {} (raise `pool.queue_timeout` if it needs longer)",
            long(waited)
        ),
        Refusal::Changed { server } => {
            format!("what server `{server}` is started with has changed while it started")
        }
        Refusal::KeyBusy {
            server,
            max_in_flight,
            waited,
        } => key_busy(server, *max_in_flight, *waited),
        Refusal::Follows {
            server,
            predecessor,
            is_sibling,
        } => follows(server, *predecessor, *is_sibling),
        Refusal::TenantFull {
            tenant,
            in_use,
            limit,
            waited,
        } => tenant_full(tenant, *in_use, *limit, *waited),
        Refusal::ServerFull {
            server,
            in_use,
            limit,
            waited,
        } => server_full(server, *in_use, *limit, *waited),
        Refusal::MemoryFull {
            server,
            needs,
            held,
            limit,
            waited,
        } => memory_full(server, *needs, *held, *limit, *waited),
        Refusal::StartsFull {
            tenant,
            own,
            limit,
            waited,
        } => starts_full(tenant, *own, *limit, *waited),
        Refusal::PoolFull {
            in_use,
            limit,
            starting,
            waited,
        } => format!(
            "no worker within {} ({in_use} of {limit} are in use, {starting} starting; raise `pool.max_workers` or `pool.queue_timeout`)",
            long(waited)
        ),
        Refusal::StartFailed { failure, .. } => start_failed(failure).1.into_owned(),
        Refusal::CircuitOpen {
            server,
            of,
            failures,
            retry_in,
            last,
        } => circuit_open(server, of, *failures, *retry_in, last.as_ref()),
        Refusal::Dropped => "the pool dropped a request".to_owned(),
    }
}

fn key_busy(server: &ServerName, max_in_flight: usize, waited: Duration) -> String {
    format!(
        "every worker of server `{server}` was busy for {} ({max_in_flight} requests each; raise `servers.{server}.max_in_flight` or `max_workers_per_key`)",
        humantime::format_duration(waited)
    )
}

fn follows(server: &ServerName, predecessor: Predecessor, is_sibling: bool) -> String {
    format!(
        "the worker of server `{server}` {}; the next is started when it is gone (raise `servers.{server}.max_workers_per_key` if two may run side by side)",
        does(predecessor, is_sibling)
    )
}

fn tenant_full(tenant: &TenantId, in_use: usize, limit: usize, waited: Duration) -> String {
    format!(
        "no worker for tenant `{tenant}` within {} ({in_use} of {limit} are in use; raise `tenants.{tenant}.max_workers` or `pool.max_workers_per_tenant`)",
        humantime::format_duration(waited)
    )
}

fn server_full(server: &ServerName, in_use: usize, limit: usize, waited: Duration) -> String {
    format!(
        "no worker for server `{server}` within {} ({in_use} of {limit} are in use; raise `servers.{server}.max_workers`)",
        humantime::format_duration(waited)
    )
}

/// `needs`, `held` and `limit` in bytes: of the worker that was to start, of all workers, for all workers.
fn memory_full(server: &ServerName, needs: u64, held: u64, limit: u64, waited: Duration) -> String {
    format!(
        "no room in memory for a worker of server `{server}` within {}: one holds about {}, and {} of {} are held (raise `pool.max_memory`, or lower `pool.hibernate_after` or `pool.idle_timeout`)",
        humantime::format_duration(waited),
        in_mib(needs),
        in_mib(held),
        in_mib(limit)
    )
}

/// `own`: how many of the starts under way are the tenant's.
fn starts_full(tenant: &TenantId, own: usize, limit: usize, waited: Duration) -> String {
    let waited = humantime::format_duration(waited);
    if own == 0 {
        return format!(
            "no worker within {waited}: the places for starts ({limit}) are taken by starts of others (raise `pool.max_starting` or `pool.queue_timeout`)"
        );
    }
    format!(
        "no worker within {waited}: the places for starts ({limit}) are taken, and tenant `{tenant}` has {} under way that {} not answered (see the logs of its servers; lower their `start_timeout`, or raise `pool.max_starting`)",
        counted(own, "start"),
        if own == 1 { "has" } else { "have" }
    )
}

fn circuit_open(
    server: &ServerName,
    of: &CircuitOf,
    failures: u32,
    retry_in: Duration,
    last: Option<&StartFailure>,
) -> String {
    let what = match of {
        CircuitOf::Configuration(_) => format!("failed to start {failures} times in a row"),
        CircuitOf::Tenant(tenant) => {
            format!("fails to start for tenant `{tenant}`, whatever it is started with,")
        }
        CircuitOf::Everyone => "fails to start for everyone".to_owned(),
    };
    let retry_in = humantime::format_duration(whole(retry_in));
    let last = last.map(|last| format!("; last: {}", start_failed(last).1));
    let last = last.unwrap_or_default();
    format!("server `{server}` {what} and is tried again in {retry_in}{last}")
}

/// Bytes, for people, as workers' memory is told everywhere.
fn in_mib(bytes: u64) -> String {
    format!("{}MiB", bytes.div_ceil(1 << 20))
}

/// What a worker does that another waits for.
fn does(predecessor: Predecessor, is_sibling: bool) -> Cow<'static, str> {
    match (predecessor, is_sibling) {
        (Predecessor::Stopping, _) => "was told to stop and has not ended yet".into(),
        (Predecessor::Starting, true) => {
            "is still starting, for clients that declare something else".into()
        }
        (Predecessor::Starting, false) => "is still starting, with an earlier configuration".into(),
        (Predecessor::Serving, true) => "serves clients that declare something else".into(),
        (Predecessor::Serving, false) => "serves an earlier configuration".into(),
        (Predecessor::Draining { in_flight, left }, _) => format!(
            "takes no new requests and still works on {}; it is stopped in {}s at the latest (`pool.drain_timeout`)",
            counted(in_flight, "request"),
            left.as_secs()
        )
        .into(),
    }
}

/// Whole milliseconds, at least one: who comes back then is not too early.
fn whole(wait: Duration) -> Duration {
    let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(millis.max(1))
}

/// Why a start did not succeed, and in words.
pub(crate) fn start_failed(failure: &StartFailure) -> (Reason, Cow<'_, str>) {
    match failure {
        StartFailure::Failed(why) => (Reason::StartFailed, Cow::Borrowed(why)),
        StartFailure::Config(why) => (Reason::ConfigInvalid, Cow::Borrowed(why)),
        StartFailure::SpareGone => (Reason::WorkerExited, "the spare process is gone".into()),
        StartFailure::CrashedEarly(server) => (
            Reason::StartFailed,
            format!("server `{server}` crashed right after its start").into(),
        ),
    }
}

/// What is said of a worker that has ended: it was to stop for that reason, or ended by itself.
pub(crate) const fn exit_reason(stopped: Option<StopReason>) -> ExitReason {
    match stopped {
        None | Some(StopReason::Invalidated) => ExitReason::Crashed,
        Some(StopReason::Idle) => ExitReason::Idle,
        Some(
            StopReason::Evicted
            | StopReason::EvictedOfTenant
            | StopReason::EvictedOfServer
            | StopReason::EvictedForMemory
            | StopReason::Sibling,
        ) => ExitReason::Evicted,
        Some(StopReason::Memory) => ExitReason::Memory,
        Some(StopReason::Pids) => ExitReason::LimitPids,
        Some(StopReason::Disk) => ExitReason::LimitDisk,
        Some(StopReason::Lifetime) => ExitReason::Lifetime,
        Some(StopReason::Requests) => ExitReason::Requests,
        Some(StopReason::Config | StopReason::Package) => ExitReason::Config,
        Some(StopReason::Drained) => ExitReason::Drained,
        Some(StopReason::Admin) => ExitReason::Admin,
        Some(StopReason::Session) => ExitReason::Released,
        Some(StopReason::Unanswered) => ExitReason::Unanswered,
        Some(StopReason::StartFailed) => ExitReason::StartFailed,
        Some(StopReason::Declined | StopReason::NotBeside) => ExitReason::Declined,
    }
}

/// Why a worker is told to stop, as a sentence: the worker was "evicted: max_memory, to make room for tenant `third`".
pub(crate) fn why_stopped(stop: &Stop) -> String {
    let mut why = match stop.reason {
        StopReason::Evicted => evicted("max_workers", stop),
        StopReason::EvictedOfTenant => evicted("max_workers_per_tenant", stop),
        StopReason::EvictedOfServer => evicted("max_workers of its server", stop),
        StopReason::EvictedForMemory => evicted("max_memory", stop),
        StopReason::Sibling => evicted("max_workers_per_key", stop),
        StopReason::Idle => "stopped: idle for its `idle_timeout`".to_owned(),
        StopReason::Memory => "ended: it held more memory than `limits.memory`".to_owned(),
        StopReason::Pids => "ended: it had more processes than `limits.pids`".to_owned(),
        StopReason::Disk => {
            "ended: its folders took more of the disk than `limits.disk`".to_owned()
        }
        StopReason::Lifetime => "recycled: it reached its `max_lifetime`".to_owned(),
        StopReason::Requests => "recycled: it served `max_requests` requests".to_owned(),
        StopReason::Config => "replaced: what it is started with has changed".to_owned(),
        StopReason::Package => "replaced: its package is there in another version".to_owned(),
        StopReason::Drained => "stopped: stdiopool shuts down".to_owned(),
        StopReason::Admin => "stopped by an operator".to_owned(),
        StopReason::Session => "released: the session or request it belonged to is over".to_owned(),
        StopReason::Unanswered => {
            "ended: it did not answer a request that was cancelled".to_owned()
        }
        StopReason::StartFailed => "ended: it did not become ready".to_owned(),
        StopReason::Declined => {
            "ended: it does not speak the protocol's era of its client, and the other is tried"
                .to_owned()
        }
        StopReason::NotBeside => {
            "ended: it does not start beside another process of its server, and is tried after that"
                .to_owned()
        }
        // The worker's exit says more.
        StopReason::Invalidated => "ended by itself".to_owned(),
    };
    if stop.is_cut_short {
        why.push_str("; what it had in flight did not end within `pool.drain_timeout`, and others waited for the next");
    }
    why
}

/// `limit`: the key of pool.toml that needed the room.
fn evicted(limit: &str, stop: &Stop) -> String {
    let for_whom = match &stop.makes_room_for {
        // Nobody's: a spare.
        Some(tenant) if tenant.as_str().is_empty() => ", to make room for a spare".to_owned(),
        Some(tenant) => format!(", to make room for tenant `{tenant}`"),
        None if stop.reason == StopReason::Sibling => {
            ", for clients that declare something else".to_owned()
        }
        None => String::new(),
    };
    format!("evicted: {limit}{for_whom}")
}

/// Says that a circuit opens or closes, as a sentence: "circuit of server `x` is open for tenant `t`: …".
pub(crate) fn circuit_changed(change: &CircuitChange) -> String {
    let state = match change.transition {
        CircuitTransition::Opens { .. } => "open",
        CircuitTransition::Closes | CircuitTransition::Forgotten => "closed",
    };
    let for_whom = match &change.of {
        CircuitOf::Everyone => "everyone".to_owned(),
        CircuitOf::Tenant(tenant) => format!("tenant `{tenant}`"),
        CircuitOf::Configuration(tenant) => format!("one configuration of tenant `{tenant}`"),
    };
    let mut said = format!(
        "circuit of server `{}` is {state} for {for_whom}: ",
        change.server
    );
    match &change.transition {
        CircuitTransition::Opens {
            failing,
            retry_in,
            last,
        } => {
            let what = match change.of {
                CircuitOf::Everyone => counted(*failing, "tenant") + " cannot have it started",
                CircuitOf::Tenant(_) => counted(*failing, "configuration") + " cannot be started",
                CircuitOf::Configuration(_) => counted(*failing, "start") + " in a row failed",
            };
            let (secs, last) = (retry_in.as_secs_f64().ceil(), start_failed(last).1);
            // Writing to a text does not fail.
            let _written = write!(
                said,
                "{what}; the next start is tried in {secs}s; last: {last}"
            );
        }
        CircuitTransition::Closes => said.push_str("a start has succeeded"),
        CircuitTransition::Forgotten => said.push_str("nobody has asked for it for long"),
    }
    said
}

#[cfg(test)]
#[path = "outcomes_tests.rs"]
mod tests;
