//! How workers end, and what failures lead to.

use super::*;

#[test]
fn idle_workers_stop_in_time_and_used_ones_do_not() {
    let mut bench = Bench::new(limits(4));
    let id = bench.idle(1, "a");
    bench.after(599.0);
    bench.want(1, "a");
    bench.release(id);
    bench.after(2.0);
    assert!(bench.said.is_empty(), "it was used a moment ago");
    bench.after(600.0);
    assert_eq!(bench.said, [Action::Stop(id, StopReason::Idle)]);
}

#[test]
fn old_workers_finish_what_they_have_and_go() {
    let mut bench = Bench::new(limits(4));
    let id = bench.busy(1, "a");
    bench.after(86_400.0);
    assert!(bench.said.is_empty(), "nothing in flight is lost");
    let next = bench.want(1, "a");
    assert_eq!(bench.started(), None, "not beside it");
    assert_eq!(bench.release(id), [Action::Stop(id, StopReason::Lifetime)]);
    bench.gone(id);
    let successor = bench.started().expect("after it");
    assert!(
        bench
            .tell(Event::Ready(successor))
            .contains(&Action::Grant(next, successor))
    );
}

#[test]
fn a_worker_is_recycled_after_its_requests() {
    let mut bench = Bench::new(limits(4));
    let facts = KeyFacts {
        max_requests: 2,
        ..facts("a")
    };
    bench.want_of(1, &facts, 0);
    let id = bench.started().expect("started");
    bench.tell(Event::Ready(id));
    bench.want_of(1, &facts, 0);
    bench.want_of(1, &facts, 0);
    assert_eq!(bench.started(), None, "the third is for another, after it");
    bench.release(id);
    assert!(
        bench
            .release(id)
            .contains(&Action::Stop(id, StopReason::Requests))
    );
    bench.gone(id);
    assert!(bench.started().is_some());
}

#[test]
fn an_exclusive_worker_serves_one_owner_at_a_time() {
    let mut bench = Bench::new(limits(4));
    let facts = KeyFacts {
        exclusive: true,
        ..facts("a")
    };
    bench.want_of(1, &facts, 1);
    let id = bench.started().expect("started");
    bench.tell(Event::Ready(id));
    let same = bench.want_of(1, &facts, 1);
    assert!(bench.said(&Action::Grant(same, id)));
    let other = bench.want_of(1, &facts, 2);
    bench.release(id);
    assert!(
        !bench.said(&Action::Grant(other, id)),
        "the first owner still has one"
    );
    assert!(bench.release(id).contains(&Action::Grant(other, id)));
}

#[test]
fn failed_starts_are_tried_again_later_and_later() {
    let mut bench = Bench::new(PoolLimits {
        circuit_keys: 100,
        ..limits(4)
    });
    let mut waits = vec![];
    for _ in 0..4 {
        let ticket = bench.want(1, "a");
        let since = bench.now;
        while bench.started().is_none() {
            let next = bench
                .policy
                .next_deadline()
                .expect("it will be tried again");
            bench.now = next;
            bench.tell(Event::Tick);
            assert_eq!(bench.refusal(ticket), None);
        }
        waits.push((bench.now - since).as_secs_f64());
        let id = bench.started().expect("started");
        bench.tell(Event::StartFailed(
            id,
            StartFailure::Failed("no luck".into()),
        ));
        assert_eq!(
            bench.failed(ticket).expect("told at once"),
            StartFailure::Failed("no luck".into())
        );
        bench.tell(Event::Exited {
            worker: id,
            asked: true,
        });
    }
    // One, two, four seconds, each give or take a fifth.
    assert!(waits[0] < 0.001, "{waits:?}");
    for (wait, about) in waits[1..].iter().zip([1.0, 2.0, 4.0]) {
        assert!((about * 0.8..=about * 1.2).contains(wait), "{waits:?}");
    }
}

#[test]
fn a_key_that_keeps_failing_is_refused_at_once() {
    let mut bench = Bench::new(PoolLimits {
        circuit_keys: 100,
        refuse_after: 2,
        ..limits(4)
    });
    for _ in 0..2 {
        bench.want(1, "a");
        while bench.started().is_none() {
            bench.now = bench.policy.next_deadline().expect("again");
            bench.tell(Event::Tick);
        }
        let id = bench.started().expect("started");
        bench.fail(id);
    }
    let ticket = bench.want(1, "a");
    let (of, last) = bench.circuit(ticket);
    assert_eq!(of, CircuitOf::Configuration(TenantId::new("a")));
    assert_eq!(last, Some(StartFailure::Failed("no luck".into())));
    let other = bench.want(2, "b");
    assert_eq!(bench.refusal(other), None, "other keys are not its fault");
}

#[test]
fn the_circuit_of_a_tenant_opens_when_its_keys_fail_and_of_nobody_else() {
    let mut bench = Bench::new(limits(8));
    for n in 1..=5 {
        let ticket = bench.want(n, "a");
        match bench.started() {
            Some(id) => bench.fail(id),
            None => assert!(n > 3 && bench.refusal(ticket).is_some()),
        }
    }
    let ticket = bench.want(6, "a");
    let (of, _) = bench.circuit(ticket);
    assert_eq!(of, CircuitOf::Tenant(TenantId::new("a")));
    let open: Vec<_> = bench.policy.open_circuits(bench.now).collect();
    assert_eq!(open[0].1.tenant, Some(&TenantId::new("a")));
    bench.want(7, "b");
    let other = bench.started().expect("it never failed");
    bench.tell(Event::Ready(other));
    assert_eq!(bench.policy.open_circuits(bench.now).count(), 0);
}

#[test]
fn a_circuit_opens_when_it_fails_for_several_tenants_and_closes_with_one_success() {
    let mut bench = Bench::new(limits(8));
    for (n, tenant) in [(1, "a"), (2, "b"), (3, "c")] {
        bench.want(n, tenant);
        let id = bench.started().expect("started");
        bench.fail(id);
    }
    let ticket = bench.want(4, "d");
    let (of, last) = bench.circuit(ticket);
    assert_eq!(of, CircuitOf::Everyone);
    assert_eq!(last, None, "another's failure is not told");
    assert_eq!(bench.policy.open_circuits(bench.now).count(), 1);
    bench.after(37.0);
    bench.want(1, "a");
    let again = bench.started().expect("for itself");
    bench.want(4, "d");
    let probe = bench
        .started()
        .expect("who failed before is not in its way");
    bench.want(5, "e");
    assert_eq!(bench.started(), None, "one only");
    bench.fail(again);
    bench.tell(Event::Ready(probe));
    assert_eq!(bench.policy.open_circuits(bench.now).count(), 0);
    assert!(bench.started().is_some(), "and then the others");
}

#[test]
fn a_crash_frees_the_place_and_the_waiting_get_another() {
    let mut bench = Bench::new(limits(1));
    let id = bench.busy(1, "a");
    bench.release(id);
    bench.want(1, "a");
    let waiting = bench.want(2, "b");
    bench.tell(Event::Exited {
        worker: id,
        asked: false,
    });
    let next = bench.started().expect("in its place");
    assert!(
        bench
            .tell(Event::Ready(next))
            .contains(&Action::Grant(waiting, next))
    );
    bench.release(id);
}

#[test]
fn smaller_limits_stop_the_idle_and_leave_the_busy() {
    let mut bench = Bench::new(limits(4));
    let busy: Vec<_> = (1..=2).map(|n| bench.busy(n, "a")).collect();
    let idle = bench.idle(3, "b");
    bench.tell(Event::Reconfigure(limits(1)));
    assert_eq!(bench.said, [Action::Stop(idle, StopReason::Evicted)]);
    bench.tell(Event::Exited {
        worker: idle,
        asked: true,
    });
    assert_eq!(
        bench.release(busy[0]),
        [Action::Stop(busy[0], StopReason::Evicted)]
    );
}

#[test]
fn a_drain_refuses_what_waits_and_lets_the_busy_finish() {
    let mut bench = Bench::new(limits(1));
    let busy = bench.busy(1, "a");
    let waiting = bench.want(2, "b");
    bench.tell(Event::Drain);
    assert_eq!(bench.refusal(waiting).expect("refused"), Refusal::Draining);
    let late = bench.want(1, "a");
    assert_eq!(bench.refusal(late).expect("refused"), Refusal::Draining);
    assert_eq!(
        bench.release(busy),
        [Action::Stop(busy, StopReason::Drained)]
    );
    assert!(bench.policy.is_quiet() && !bench.policy.is_empty());
}

#[test]
fn what_nobody_uses_is_forgotten() {
    let mut bench = Bench::new(limits(2));
    let id = bench.idle(1, "a");
    bench.tell(Event::Retire(id, StopReason::Session));
    bench.tell(Event::Exited {
        worker: id,
        asked: true,
    });
    assert!(bench.said(&Action::Forget(key(1))));
    assert_eq!(bench.policy.next_deadline(), None);
}
