use std::fmt::Write;

use super::*;
use crate::ids::{ServerName, TenantId};
use crate::protocol::FailureStatus;

fn server() -> ServerName {
    ServerName::new("demo")
}

fn tenant() -> TenantId {
    TenantId::new("acme")
}

/// The number of a refusal's kind. A new kind fails to compile here, and then the test below until it is among the examples.
fn kind(refusal: &Refusal) -> usize {
    match refusal {
        Refusal::Draining => 0,
        Refusal::QueueFull { .. } => 1,
        Refusal::QueueShare { .. } => 2,
        Refusal::SessionShare { .. } => 3,
        Refusal::NotReady { .. } => 4,
        Refusal::Changed { .. } => 5,
        Refusal::KeyBusy { .. } => 6,
        Refusal::Follows { .. } => 7,
        Refusal::TenantFull { .. } => 8,
        Refusal::ServerFull { .. } => 9,
        Refusal::MemoryFull { .. } => 10,
        Refusal::StartsFull { .. } => 11,
        Refusal::PoolFull { .. } => 12,
        Refusal::StartFailed { .. } => 13,
        Refusal::CircuitOpen { .. } => 14,
        Refusal::Dropped => 15,
    }
}

#[test]
fn no_kind_of_refusal_is_missing_among_the_examples() {
    let mut kinds: Vec<_> = refusals().iter().map(kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, (0..=15).collect::<Vec<_>>());
}

/// One of each kind, and what differs within one.
fn refusals() -> Vec<Refusal> {
    let (waited, retry_in) = (Duration::from_secs(30), Duration::from_micros(1_500_400));
    let follows = |predecessor, is_sibling| Refusal::Follows {
        server: server(),
        predecessor,
        is_sibling,
    };
    let draining = Predecessor::Draining {
        in_flight: 1,
        left: Duration::from_millis(2_900),
    };
    let open = |of, last| Refusal::CircuitOpen {
        server: server(),
        of,
        failures: 5,
        retry_in,
        last,
    };
    let failed = |failure, retry_in| Refusal::StartFailed { failure, retry_in };
    vec![
        Refusal::Draining,
        Refusal::QueueFull { limit: 256 },
        Refusal::QueueShare {
            limit: 256,
            tenant: tenant(),
        },
        Refusal::SessionShare {
            server: server(),
            share: 8,
            max_in_flight: 16,
        },
        Refusal::NotReady {
            server: server(),
            waited,
        },
        Refusal::Changed { server: server() },
        Refusal::KeyBusy {
            server: server(),
            max_in_flight: 16,
            waited,
        },
        follows(Predecessor::Stopping, false),
        follows(Predecessor::Starting, false),
        follows(Predecessor::Starting, true),
        follows(Predecessor::Serving, false),
        follows(Predecessor::Serving, true),
        follows(draining, false),
        Refusal::TenantFull {
            tenant: tenant(),
            in_use: 4,
            limit: 4,
            waited,
        },
        Refusal::StartsFull {
            tenant: tenant(),
            own: 2,
            limit: 2,
            waited,
        },
        Refusal::StartsFull {
            tenant: tenant(),
            own: 0,
            limit: 2,
            waited,
        },
        Refusal::MemoryFull {
            server: server(),
            needs: 96 << 20,
            held: (1 << 30) - 1,
            limit: 1 << 30,
            waited,
        },
        Refusal::ServerFull {
            server: server(),
            in_use: 4,
            limit: 4,
            waited,
        },
        Refusal::PoolFull {
            in_use: 100,
            limit: 100,
            starting: 2,
            waited,
        },
        failed(StartFailure::Failed("no luck".into()), None),
        failed(StartFailure::Failed("no luck".into()), Some(retry_in)),
        failed(StartFailure::Config("too long".into()), None),
        failed(StartFailure::SpareGone, None),
        failed(StartFailure::CrashedEarly(server()), None),
        open(
            CircuitOf::Configuration(tenant()),
            Some(StartFailure::Failed("no luck".into())),
        ),
        open(CircuitOf::Tenant(tenant()), None),
        open(CircuitOf::Everyone, None),
        Refusal::Dropped,
    ]
}

/// The whole way of a decision of the pool to whoever is told: it changes only on purpose.
#[test]
fn what_the_pool_decides_is_told_as_the_tables_say() {
    let mut table = String::new();
    for refusal in refusals() {
        let failure = refused(&refusal);
        let reason = failure.reason;
        let answer = reason.status_of_answer(FailureStatus::Auto);
        let row = (reason.as_str(), reason.http_status(), reason.rpc_code());
        let retry = failure.retry_after;
        writeln!(
            table,
            "{} {} {answer} {} {retry:?}: {failure}",
            row.0, row.1, row.2
        )
        .expect("in memory");
    }
    for &reason in StopReason::ALL {
        let label = exit_reason(Some(reason)).as_str();
        let why = why_stopped(&Stop::from(reason));
        writeln!(table, "{reason:?} {label}: {why}").expect("in memory");
    }
    writeln!(table, "(by itself) {}", exit_reason(None).as_str()).expect("in memory");
    let stop = Stop {
        reason: StopReason::EvictedForMemory,
        makes_room_for: Some(tenant()),
        is_cut_short: true,
    };
    writeln!(table, "{}", why_stopped(&stop)).expect("in memory");
    let opens = CircuitTransition::Opens {
        failing: 3,
        retry_in: Duration::from_millis(4_200),
        last: StartFailure::Failed("no luck".into()),
    };
    for of in [
        CircuitOf::Everyone,
        CircuitOf::Tenant(tenant()),
        CircuitOf::Configuration(tenant()),
    ] {
        for transition in [
            opens.clone(),
            CircuitTransition::Closes,
            CircuitTransition::Forgotten,
        ] {
            let (server, of) = (server(), of.clone());
            let said = circuit_changed(&CircuitChange {
                server,
                of,
                transition,
            });
            writeln!(table, "{said}").expect("in memory");
        }
    }
    insta::assert_snapshot!(table);
}
