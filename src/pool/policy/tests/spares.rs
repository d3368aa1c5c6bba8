//! Spares: when there are some, who gets them, when they go.

use super::super::{Phase, Stock, StopReason};
use super::*;

const SPARES: PoolKey = PoolKey([200; 16]);

fn stock(count: usize) -> Event {
    let facts = KeyFacts {
        tenant: TenantId::new(""),
        tenant_max_workers: usize::MAX,
        max_workers_per_key: count,
        idle_timeout: Duration::MAX,
        is_spare: true,
        ..facts("")
    };
    Event::Stock(vec![Stock {
        key: SPARES,
        facts: Arc::new(facts),
    }])
}

fn of(tenant: &str) -> KeyFacts {
    KeyFacts {
        spare: Some(SPARES),
        ..facts(tenant)
    }
}

/// A pool with that many ready spares.
fn stocked(limits: PoolLimits, count: usize) -> (Bench, Vec<WorkerId>) {
    let mut bench = Bench::new(limits);
    bench.tell(stock(count));
    let mut ids = vec![];
    let starting = |bench: &Bench| {
        let mut workers = bench.policy.workers();
        workers.find_map(|(id, worker)| (worker.phase == Phase::Starting).then_some(id))
    };
    while let Some(id) = starting(&bench) {
        ids.push(id);
        bench.tell(Event::Ready(id));
    }
    assert_eq!(ids.len(), count);
    (bench, ids)
}

#[test]
fn spares_are_started_a_few_at_a_time_and_made_up_for() {
    let (mut bench, ids) = stocked(limits(8), 3);
    bench.after(50_000.0);
    assert!(
        !bench
            .said
            .iter()
            .any(|a| matches!(a, Action::Stop(_, StopReason::Idle)))
    );
    bench.tell(Event::Exited {
        worker: ids[0],
        asked: false,
    });
    assert!(bench.started().is_some(), "one is missing");
}

#[test]
fn a_spare_serves_whoever_comes_though_everything_is_full_and_its_successor_is_started() {
    let one_start = PoolLimits {
        max_starting: 1,
        ..limits(2)
    };
    let (mut bench, ids) = stocked(one_start, 1);
    bench.want(7, "slow");
    let slow = bench.started().expect("a start takes the only slot");
    let ticket = bench.want_of(1, &of("a"), 0);
    assert!(bench.said(&Action::Adopt(ids[0], key(1))));
    bench.tell(Event::Ready(ids[0]));
    assert!(bench.said(&Action::Grant(ticket, ids[0])));
    assert_eq!(
        bench.policy.worker(ids[0]).expect("there").facts.tenant,
        TenantId::new("a")
    );
    assert!(bench.started().is_none(), "no place for a successor");
    bench.tell(Event::Ready(slow));
    bench.release(slow);
    bench.tell(Event::Exited {
        worker: slow,
        asked: false,
    });
    assert!(bench.started().is_some(), "now there is");
}

#[test]
fn a_tenant_at_its_own_limit_gets_no_spare() {
    let (mut bench, ids) = stocked(limits(8), 1);
    let narrow = KeyFacts {
        tenant_max_workers: 1,
        ..of("a")
    };
    let first = bench.want_of(1, &narrow, 0);
    assert!(bench.said(&Action::Adopt(ids[0], key(1))));
    let successor = bench.started().expect("restocked");
    bench.tell(Event::Ready(ids[0]));
    assert!(bench.said(&Action::Grant(first, ids[0])));
    bench.tell(Event::Ready(successor));
    bench.want_of(2, &narrow, 0);
    assert!(!bench.said(&Action::Adopt(successor, key(2))));
}

#[test]
fn spares_make_way_for_whoever_needs_their_place_and_are_not_started_while_someone_waits() {
    let (mut bench, ids) = stocked(limits(1), 1);
    bench.want(7, "other");
    assert!(bench.said(&Action::Stop(ids[0], StopReason::Evicted)));
    bench.tell(Event::Exited {
        worker: ids[0],
        asked: true,
    });
    assert_eq!(bench.policy.workers().count(), 1);
    let (_, worker) = bench.policy.workers().next().expect("one");
    assert_eq!(worker.facts.tenant, TenantId::new("other"));
}

#[test]
fn spares_that_fail_back_off_and_those_no_longer_wanted_go() {
    let mut bench = Bench::new(limits(8));
    bench.tell(stock(1));
    let id = bench.started().expect("started");
    let failure = StartFailure::Failed("no".into());
    bench.tell(Event::StartFailed(id, failure));
    bench.tell(Event::Exited {
        worker: id,
        asked: true,
    });
    assert!(bench.started().is_none(), "not at once");
    bench.after(5.0);
    let id = bench.started().expect("but soon");
    bench.tell(Event::Ready(id));
    bench.tell(Event::Stock(vec![]));
    assert!(bench.said(&Action::Stop(id, StopReason::Config)));
}
