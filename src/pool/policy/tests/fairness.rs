//! What one tenant or session cannot take from the others.

use super::*;

fn limits_of_starts(max_starting: usize) -> PoolLimits {
    PoolLimits {
        max_starting,
        ..limits(8)
    }
}

#[test]
fn a_tenant_whose_servers_hang_leaves_another_a_starting_place() {
    for max_starting in [1, 2, 3] {
        let mut bench = Bench::new(limits_of_starts(max_starting));
        let many = u8::try_from(max_starting).expect("small");
        for n in 0..many {
            bench.want(n, "hangs");
            assert!(bench.started().is_some());
        }
        bench.want(50, "hangs");
        assert_eq!(bench.started(), None, "it has all there are");
        bench.want(60, "other");
        assert_eq!(bench.started(), None, "they may be there any moment");
        bench.after(1.5);
        assert_eq!(bench.started(), None);
        let other = (0..2).find_map(|_| {
            bench.after(1.0);
            bench.started()
        });
        let other = other.expect("one more, for who has none");
        assert_eq!(bench.policy.worker(other).expect("there").key, key(60));
        bench.want(61, "third");
        bench.after(3.0);
        assert_eq!(bench.started(), None, "and no further one");
        bench.tell(Event::Ready(other));
        bench.after(10.0);
        assert!(
            bench.started().is_some(),
            "what hangs does not count for ever"
        );
    }
}

#[test]
fn places_that_are_shared_are_not_added_to() {
    let mut bench = Bench::new(limits_of_starts(2));
    bench.want(1, "a");
    bench.want(2, "b");
    bench.want(3, "c");
    bench.after(5.0);
    assert_eq!(bench.started(), None, "each has one");
}

#[test]
fn a_start_that_waits_takes_no_place() {
    let mut bench = Bench::new(limits_of_starts(1));
    bench.want(1, "a");
    let waits = bench.started().expect("started");
    bench.want(2, "a");
    assert_eq!(bench.started(), None);
    bench.tell(Event::Waits(waits));
    assert!(bench.started().is_some());
    bench.tell(Event::Ready(waits));
}

#[test]
fn a_session_that_hangs_all_it_may_leaves_others_their_slots() {
    let mut bench = Bench::new(limits(1));
    let facts = KeyFacts {
        max_in_flight: 4,
        max_of_session: 3,
        ..facts("a")
    };
    bench.want_of(1, &facts, 7);
    let worker = bench.started().expect("started");
    bench.tell(Event::Ready(worker));
    bench.want_of(1, &facts, 7);
    bench.want_of(1, &facts, 7);
    let fourth = bench.want_of(1, &facts, 7);
    assert!(!bench.said(&Action::Grant(fourth, worker)), "it waits");
    for _ in 0..20 {
        let other = bench.want_of(1, &facts, 8);
        assert!(bench.said(&Action::Grant(other, worker)), "at once");
        bench.tell(Event::Release {
            worker,
            session: 8,
            served: true,
        });
        assert!(
            !bench.said(&Action::Grant(fourth, worker)),
            "still its share"
        );
    }
    bench.after(31.0);
    let refused = bench.refusal(fourth).expect("it waited long enough");
    assert!(
        matches!(refused, Refusal::SessionShare { .. }),
        "{refused:?}"
    );
    let fifth = bench.want_of(1, &facts, 7);
    bench.tell(Event::Release {
        worker,
        session: 7,
        served: true,
    });
    assert!(bench.said(&Action::Grant(fifth, worker)));
}

#[test]
fn whoever_waits_behind_a_session_that_has_its_share_is_served() {
    let mut bench = Bench::new(limits(1));
    let facts = KeyFacts {
        max_in_flight: 2,
        max_of_session: 1,
        ..facts("a")
    };
    bench.want_of(1, &facts, 7);
    let worker = bench.started().expect("started");
    let own = bench.want_of(1, &facts, 7);
    let other = bench.want_of(1, &facts, 8);
    bench.tell(Event::Ready(worker));
    assert!(bench.said(&Action::Grant(other, worker)));
    assert!(!bench.said(&Action::Grant(own, worker)));
}

#[test]
fn the_next_worker_of_a_key_is_started_when_the_one_before_has_ended() {
    let mut bench = Bench::new(limits(4));
    let first = bench.idle(1, "a");
    bench.tell(Event::Retire(first, StopReason::Config));
    let ticket = bench.want(1, "a");
    assert_eq!(bench.started(), None, "the first still runs");
    bench.after(31.0);
    let refused = bench.refusal(ticket).expect("it never ended");
    assert!(
        matches!(refused, Refusal::KeyBusy { .. } | Refusal::Follows { .. }),
        "{refused:?}"
    );
    bench.want(1, "a");
    bench.tell(Event::Exited {
        worker: first,
        asked: true,
    });
    assert!(bench.started().is_some());
}

#[test]
fn who_waits_for_a_start_is_told_so() {
    let mut bench = Bench::new(limits(4));
    let ticket = bench.want(1, "a");
    bench.after(31.0);
    let refused = bench.refusal(ticket).expect("it waited long enough");
    assert!(matches!(refused, Refusal::NotReady { .. }), "{refused:?}");
}

#[test]
fn configs_that_cannot_be_started_with_blame_nobody_else() {
    let mut bench = Bench::new(limits(8));
    for n in 0..9 {
        let ticket = bench.want(n, if n < 5 { "bad" } else { "worse" });
        let id = bench.started().expect("started");
        let failure = StartFailure::Config("too long".into());
        bench.tell(Event::StartFailed(id, failure));
        let told = bench.failed(ticket).expect("told");
        assert!(told.is_for_config(), "{told:?}");
        bench.tell(Event::Exited {
            worker: id,
            asked: true,
        });
    }
    assert_eq!(bench.policy.open_circuits(bench.now).count(), 0);
    let again = bench.want(0, "bad");
    let told = bench.failed(again).expect("at once");
    assert!(told.is_for_config(), "{told:?}");
    for tenant in ["bad", "good"] {
        bench.want(100, tenant);
        assert!(bench.started().is_some(), "{tenant}");
        bench.fail(bench.started().expect("started"));
        bench.after(300.0);
    }
}
