//! Grants, waits and evictions.

use super::*;

#[test]
fn the_first_want_starts_a_worker_and_the_next_share_it() {
    let mut bench = Bench::new(limits(4));
    let (first, second) = (bench.want(1, "a"), bench.want(1, "a"));
    assert!(
        bench.said.is_empty(),
        "one start is enough for both: {:?}",
        bench.said
    );
    let id = WorkerId(1);
    let granted = bench.tell(Event::Ready(id));
    assert_eq!(
        granted,
        [Action::Grant(first, id), Action::Grant(second, id)]
    );
    let third = bench.want(1, "a");
    assert!(bench.said.is_empty(), "its slots are taken");
    assert_eq!(bench.release(id), [Action::Grant(third, id)]);
}

#[test]
fn a_key_may_have_more_workers_when_all_are_busy() {
    let mut bench = Bench::new(limits(4));
    let facts = KeyFacts {
        max_in_flight: 1,
        max_workers_per_key: 2,
        ..facts("a")
    };
    for n in 1..=2 {
        bench.want_of(1, &facts, 0);
        let id = bench.started().expect("another");
        assert_eq!(id, WorkerId(n));
        bench.tell(Event::Ready(id));
    }
    bench.want_of(1, &facts, 0);
    assert_eq!(bench.started(), None, "two are the limit");
}

#[test]
fn who_prefers_a_worker_gets_it_if_it_is_free() {
    let mut bench = Bench::new(limits(4));
    let facts = KeyFacts {
        max_in_flight: 2,
        max_of_session: 2,
        max_workers_per_key: 2,
        ..facts("a")
    };
    for n in 1..=2 {
        for _ in 0..2 {
            bench.want_of(1, &facts, 0);
        }
        bench.tell(Event::Ready(WorkerId(n)));
    }
    let (first, second) = (WorkerId(1), WorkerId(2));
    bench.release(first);
    bench.release(first);
    bench.release(second);
    let prefers = |bench: &mut Bench| {
        let ticket = TicketId(bench.next);
        bench.next += 1;
        bench.tell(Event::Acquire {
            ticket,
            key: key(1),
            facts: Arc::new(facts.clone()),
            claim: Claim {
                owner: 0,
                session: 0,
                prefers: Some(second),
            },
        });
        ticket
    };
    let busier = prefers(&mut bench);
    assert!(bench.said(&Action::Grant(busier, second)));
    let other = prefers(&mut bench);
    assert!(bench.said(&Action::Grant(other, first)), "it is full");
}

#[test]
fn no_more_start_at_once_than_may() {
    let mut bench = Bench::new(limits(8));
    for n in 1..=4 {
        bench.want(n, "a");
        assert_eq!(bench.started().is_some(), n <= 2);
    }
    bench.tell(Event::Ready(WorkerId(1)));
    assert_eq!(bench.started(), Some(WorkerId(3)));
}

#[test]
fn a_start_that_hangs_does_not_keep_others_from_being_started() {
    let mut bench = Bench::new(limits(8));
    for n in 1..=3 {
        bench.want(n, "a");
    }
    assert_eq!(bench.started(), None, "two hang");
    bench.after(9.9);
    assert_eq!(bench.started(), None);
    bench.after(0.2);
    assert_eq!(bench.started(), Some(WorkerId(3)));
    bench.tell(Event::Ready(WorkerId(1)));
    bench.want(4, "a");
    assert_eq!(bench.started(), Some(WorkerId(4)), "it counts no more");
    bench.want(5, "a");
    assert_eq!(bench.started(), None, "two that do are the limit");
}

#[test]
fn the_least_recently_used_idle_worker_is_evicted() {
    let mut bench = Bench::new(limits(2));
    let (old, recent) = (bench.idle(1, "a"), bench.idle(2, "b"));
    let used = bench.want(1, "a");
    assert!(bench.said(&Action::Grant(used, old)));
    bench.release(old);
    let ticket = bench.want(3, "c");
    assert_eq!(bench.said, [Action::Stop(recent, StopReason::Evicted)]);
    assert_eq!(bench.started(), None, "its place is free when it is gone");
    bench.tell(Event::Exited {
        worker: recent,
        asked: true,
    });
    let id = bench.started().expect("now");
    assert!(
        bench
            .tell(Event::Ready(id))
            .contains(&Action::Grant(ticket, id))
    );
}

#[test]
fn tenants_over_their_share_lose_theirs_first() {
    let mut bench = Bench::new(limits(4));
    let oldest = bench.idle(1, "modest");
    let first_of_greedy = bench.idle(2, "greedy");
    bench.idle(3, "greedy");
    bench.idle(4, "greedy");
    bench.want(5, "newcomer");
    assert_ne!(oldest, first_of_greedy);
    assert!(
        bench.said(&Action::Stop(first_of_greedy, StopReason::Evicted)),
        "{:?}",
        bench.said
    );
}

#[test]
fn what_is_pinned_is_not_evicted() {
    let mut bench = Bench::new(limits(1));
    let pinned = bench.idle(1, "a");
    bench.tell(Event::Pin(pinned));
    bench.want(2, "b");
    assert!(bench.said.is_empty());
    bench.after(5.0);
    assert!(bench.said.is_empty());
    assert!(
        bench
            .tell(Event::Unpin(pinned))
            .contains(&Action::Stop(pinned, StopReason::Evicted))
    );
}

#[test]
fn a_pin_calls_an_eviction_off_that_waits_for_the_worker_to_be_idle() {
    let mut bench = Bench::new(limits(1));
    let worker = bench.busy(1, "a");
    bench.after(2.0);
    bench.want(2, "b");
    bench.after(1.5);
    let own = bench.want(1, "a");
    assert!(
        !bench.said(&Action::Grant(own, worker)),
        "it is closed to requests"
    );
    assert!(
        bench
            .tell(Event::Pin(worker))
            .contains(&Action::Grant(own, worker))
    );
    bench.release(worker);
    bench.release(worker);
    assert!(
        bench.said.is_empty(),
        "pinned, so it stays: {:?}",
        bench.said
    );
}

#[test]
fn an_operators_stop_is_not_called_off() {
    let mut bench = Bench::new(limits(1));
    let worker = bench.busy(1, "a");
    bench.after(2.0);
    bench.want(2, "b");
    bench.after(1.5);
    bench.tell(Event::Retire(worker, StopReason::Admin));
    bench.tell(Event::Pin(worker));
    assert!(
        bench
            .release(worker)
            .contains(&Action::Stop(worker, StopReason::Admin))
    );
}

#[test]
fn a_busy_worker_yields_after_as_long_as_its_start_took_and_not_before() {
    let mut bench = Bench::new(limits(1));
    bench.want(1, "a");
    bench.after(3.0);
    let worker = WorkerId(1);
    // The worker's start took three seconds, and it serves for as long before it yields.
    bench.tell(Event::Ready(worker));
    bench.want(2, "b");
    bench.after(1.5);
    let own = bench.want(1, "a");
    assert!(
        bench.said(&Action::Grant(own, worker)),
        "it has not served as long as its start took"
    );
    bench.after(2.0);
    bench.release(worker);
    bench.want(1, "a");
    assert!(
        bench.said.is_empty(),
        "closed to further requests: {:?}",
        bench.said
    );
    assert!(
        bench
            .release(worker)
            .contains(&Action::Stop(worker, StopReason::Evicted))
    );
}

#[test]
fn a_tenants_limit_makes_its_own_workers_go() {
    let mut bench = Bench::new(limits(8));
    let own = KeyFacts {
        tenant_max_workers: 1,
        ..facts("a")
    };
    let other = bench.idle(9, "b");
    bench.want_of(1, &own, 0);
    let first = bench.started().expect("started");
    bench.tell(Event::Ready(first));
    let ticket = bench.want_of(2, &own, 0);
    assert!(bench.said.is_empty(), "busy, and {other} is another's");
    assert_eq!(
        bench.release(first),
        [Action::Stop(first, StopReason::EvictedOfTenant)]
    );
    bench.after(31.0);
    let failure = bench.refusal(ticket).expect("refused at its deadline");
    assert!(matches!(failure, Refusal::TenantFull { .. }), "{failure:?}");
}

#[test]
fn a_servers_limit_makes_its_own_workers_go() {
    let mut bench = Bench::new(limits(8));
    let limited = |tenant| KeyFacts {
        server_max_workers: 1,
        server: ServerName::new("dear"),
        ..facts(tenant)
    };
    bench.idle(9, "c");
    bench.want_of(1, &limited("a"), 0);
    let first = bench.started().expect("started");
    bench.tell(Event::Ready(first));
    bench.release(first);
    bench.want_of(2, &limited("b"), 0);
    assert_eq!(
        bench.said,
        [Action::Stop(first, StopReason::EvictedOfServer)]
    );
}

#[test]
fn places_go_round_the_tenants_by_weight() {
    let mut bench = Bench::new(PoolLimits {
        max_starting: 1,
        ..limits(64)
    });
    let heavy = KeyFacts {
        tenant_weight: 2,
        ..facts("heavy")
    };
    bench.want(100, "first");
    for n in 0..6 {
        bench.want_of(n, &heavy, 0);
        bench.want(10 + n, "light");
    }
    let mut order = String::new();
    let mut id = WorkerId(1);
    for _ in 0..9 {
        bench.tell(Event::Ready(id));
        id = bench.started().expect("someone waits");
        let tenant = &bench.policy.worker(id).expect("there").facts.tenant;
        order.push_str(&tenant.as_str()[..1]);
    }
    assert_eq!(order, "hhlhhlhhl");
}

#[test]
fn a_full_queue_refuses_whoever_waits_with_most() {
    let mut bench = Bench::new(PoolLimits {
        queue_limit: 3,
        ..limits(1)
    });
    bench.busy(1, "a");
    let flood: Vec<_> = (0..3).map(|n| bench.want(10 + n, "flood")).collect();
    let own = bench.want(20, "flood");
    let failure = bench
        .refusal(own)
        .expect("its own queue is as long as it may be");
    assert!(matches!(failure, Refusal::QueueFull { .. }), "{failure:?}");
    bench.want(30, "modest");
    let failure = bench.refusal(flood[2]).expect("its newest makes room");
    assert!(matches!(failure, Refusal::QueueShare { .. }), "{failure:?}");
}

#[test]
fn whoever_waits_too_long_is_told_what_stood_in_the_way() {
    let mut bench = Bench::new(limits(1));
    bench.busy(1, "a");
    let ticket = bench.want(2, "b");
    bench.after(29.0);
    assert_eq!(bench.refusal(ticket), None);
    bench.after(1.0);
    let failure = bench.refusal(ticket).expect("refused");
    let is_full = matches!(
        failure,
        Refusal::PoolFull {
            in_use: 1,
            limit: 1,
            ..
        }
    );
    assert!(is_full, "{failure:?}");
}

#[test]
fn whoever_waits_behind_its_own_starts_is_told_so() {
    let mut bench = Bench::new(PoolLimits {
        max_starting: 1,
        start_counts_for: std::time::Duration::from_secs(60),
        ..limits(5)
    });
    bench.want(1, "slow");
    let ticket = bench.want(2, "slow");
    bench.after(30.0);
    let failure = bench.refusal(ticket).expect("refused");
    let is_own = matches!(
        &failure,
        Refusal::StartsFull { tenant, own: 1, limit: 1, .. } if tenant.as_str() == "slow"
    );
    assert!(is_own, "{failure:?}");
}

/// A start that goes on for long takes no start permit any more: then others do that began later.
#[test]
fn whoever_waits_behind_starts_that_do_not_count_any_more_is_told_of_those_that_do() {
    let mut bench = Bench::new(PoolLimits {
        max_starting: 1,
        ..limits(9)
    });
    let tickets: Vec<_> = (1..=6).map(|key| bench.want(key, "slow")).collect();
    bench.after(30.0);
    let failure = bench.refusal(tickets[5]).expect("refused");
    let is_own = matches!(
        &failure,
        Refusal::StartsFull {
            own: 1,
            limit: 1,
            ..
        }
    );
    assert!(is_own, "{failure:?}");
}

#[test]
fn whoever_waits_behind_starts_of_others_is_told_so() {
    let mut bench = Bench::new(PoolLimits {
        max_starting: 2,
        start_counts_for: std::time::Duration::from_secs(60),
        ..limits(9)
    });
    bench.want(1, "slow");
    bench.want(2, "slower");
    let ticket = bench.want(3, "modest");
    bench.after(30.0);
    let failure = bench.refusal(ticket).expect("refused");
    let is_of_others = matches!(
        &failure,
        Refusal::StartsFull {
            own: 0,
            limit: 2,
            ..
        }
    );
    assert!(is_of_others, "{failure:?}");
}

#[test]
fn whoever_waits_for_memory_is_told_so() {
    let mut bench = Bench::new(PoolLimits {
        unknown_memory: 96,
        max_memory: 150,
        ..limits(9)
    });
    bench.busy(1, "a");
    let ticket = bench.want(2, "b");
    bench.after(30.0);
    let failure = bench.refusal(ticket).expect("refused");
    let is_memory = matches!(
        &failure,
        Refusal::MemoryFull {
            needs: 96,
            held: 96,
            limit: 150,
            ..
        }
    );
    assert!(is_memory, "{failure:?}");
}

#[test]
fn a_withdrawn_want_gets_no_answer() {
    let mut bench = Bench::new(limits(1));
    let ticket = bench.want(1, "a");
    bench.tell(Event::Withdraw(ticket));
    let id = WorkerId(1);
    bench.tell(Event::Ready(id));
    assert!(!bench.said(&Action::Grant(ticket, id)));
    assert_eq!(bench.policy.queue_depth(), 0);
}

#[test]
fn the_longest_wait_is_told_with_what_stands_in_its_way() {
    let mut bench = Bench::new(limits(1));
    let wait = |bench: &Bench| bench.policy.longest_wait(bench.now);
    assert!(wait(&bench).is_none());
    let id = bench.busy(1, "a");
    let first = bench.want(2, "b");
    bench.after(2.5);
    bench.want(3, "c");
    bench.after(1.0);
    let longest = wait(&bench).expect("two wait");
    assert_eq!(longest.tenant, TenantId::new("b"));
    assert_eq!(longest.waited, Duration::from_millis(3_500));
    let full = Refusal::PoolFull {
        in_use: 1,
        limit: 1,
        starting: 0,
        waited: Duration::from_secs(3),
    };
    assert_eq!(longest.why, full);
    // The next one is the longest once that is gone.
    bench.tell(Event::Withdraw(first));
    let longest = wait(&bench).expect("one waits");
    assert_eq!(longest.waited, Duration::from_secs(1));
    bench.release(id);
    bench.gone(id);
    let longest = wait(&bench).expect("its worker starts");
    assert!(matches!(longest.why, Refusal::NotReady { .. }));
}
