//! Workers of a key and of those that follow it, one after the other.

use super::*;
use crate::ids::Lineage;
use crate::pool::policy::Predecessor;

fn of_lineage(n: u8) -> KeyFacts {
    KeyFacts {
        lineage: Some(Lineage([n; 16])),
        ..facts("a")
    }
}

/// A ready worker of that key and lineage with one request, and the next key's first ticket behind it.
fn followed(bench: &mut Bench) -> (WorkerId, TicketId) {
    bench.want_of(1, &of_lineage(9), 0);
    let id = bench.started().expect("started");
    bench.tell(Event::Ready(id));
    let next = bench.want_of(2, &of_lineage(9), 0);
    assert_eq!(bench.started(), None, "not beside it");
    (id, next)
}

#[test]
fn the_next_key_starts_when_nothing_is_left_of_the_last() {
    let mut bench = Bench::new(limits(4));
    let (id, next) = followed(&mut bench);
    assert_eq!(bench.release(id), [Action::Stop(id, StopReason::Config)]);
    bench.after(3.0);
    assert_eq!(bench.started(), None, "some of it is left");
    bench.gone(id);
    let successor = bench.started().expect("after it");
    assert!(
        bench
            .tell(Event::Ready(successor))
            .contains(&Action::Grant(next, successor))
    );
    bench.release(successor);
    // Idle ones of an earlier key make way as well, and other lineages have nothing to do with it.
    bench.want_of(3, &of_lineage(8), 0);
    assert!(bench.started().is_some());
    bench.want_of(1, &of_lineage(9), 0);
    assert!(bench.said(&Action::Stop(successor, StopReason::Config)));
}

#[test]
fn a_worker_that_crashed_counts_until_nothing_is_left_of_it() {
    let mut bench = Bench::new(limits(4));
    let id = bench.busy(1, "a");
    bench.tell(Event::Retire(id, StopReason::Invalidated));
    bench.want(1, "a");
    assert_eq!(bench.started(), None);
    bench.release(id);
    bench.tell(Event::Exited {
        worker: id,
        asked: false,
    });
    assert!(bench.started().is_some());
}

#[test]
fn a_long_call_holds_up_the_next_worker_for_the_drain_timeout_and_no_longer() {
    let mut bench = Bench::new(PoolLimits {
        queue_timeout: Duration::from_secs(10),
        ..limits(4)
    });
    let (id, next) = followed(&mut bench);
    bench.after(11.0);
    let refusal = bench.refusal(next).expect("told");
    let Refusal::Follows { predecessor, .. } = refusal else {
        panic!("{refusal:?}");
    };
    assert!(
        matches!(predecessor, Predecessor::Draining { in_flight: 1, .. }),
        "{predecessor:?}"
    );
    bench.after(60.0);
    assert!(bench.said.is_empty(), "nobody waits: it goes on");
    bench.want_of(2, &of_lineage(9), 0);
    assert!(bench.said(&Action::Stop(id, StopReason::Config)));
    assert!(bench.policy.worker(id).expect("there").is_cut_short);
    bench.gone(id);
    assert!(bench.started().is_some());
    bench.release(id);
}

#[test]
fn a_recycled_worker_has_the_same_time() {
    let mut bench = Bench::new(limits(4));
    let facts = KeyFacts {
        max_requests: 1,
        max_workers_per_key: 2,
        ..facts("a")
    };
    bench.want_of(1, &facts, 0);
    let first = bench.started().expect("started");
    bench.tell(Event::Ready(first));
    bench.want_of(1, &facts, 0);
    let second = bench.started().expect("two may run side by side");
    bench.tell(Event::Ready(second));
    bench.after(15.0);
    bench.want_of(1, &facts, 0);
    assert_eq!(bench.started(), None, "not three");
    bench.after(15.0);
    assert_eq!(
        bench.said,
        [
            Action::Stop(first, StopReason::Requests),
            Action::Stop(second, StopReason::Requests)
        ]
    );
}

#[test]
fn an_eviction_that_takes_too_long_is_called_off() {
    let mut bench = Bench::new(PoolLimits {
        queue_timeout: Duration::from_secs(300),
        ..limits(1)
    });
    let id = bench.busy(1, "a");
    bench.after(2.0);
    bench.want(2, "b");
    bench.after(1.5);
    let own = bench.want(1, "a");
    assert!(bench.said.is_empty(), "it makes room for another");
    bench.after(31.0);
    assert!(bench.said(&Action::Grant(own, id)), "{:?}", bench.said);
}

#[test]
fn keys_of_a_lineage_that_all_are_wanted_do_not_end_each_others_starts() {
    let mut bench = Bench::new(limits(4));
    let first = bench.want_of(1, &of_lineage(9), 0);
    let id = bench.started().expect("started");
    let next = bench.want_of(2, &of_lineage(9), 0);
    bench.after(5.0);
    assert!(bench.said.is_empty(), "it serves those who came first");
    bench.tell(Event::Ready(id));
    assert!(bench.said(&Action::Grant(first, id)));
    bench.after(1.5);
    let again = bench.want_of(1, &of_lineage(9), 0);
    assert_eq!(bench.started(), None, "closed by now");
    assert_eq!(bench.release(id), [Action::Stop(id, StopReason::Config)]);
    bench.gone(id);
    let mut served = vec![];
    for _ in 0..2 {
        let id = bench.started().expect("one after the other");
        bench.tell(Event::Ready(id));
        let of = |ticket: &TicketId| bench.said(&Action::Grant(*ticket, id));
        served.extend([next, again].iter().filter(|ticket| of(ticket)).copied());
        bench.after(1.5);
        bench.release(id);
        bench.gone(id);
    }
    served.sort();
    assert_eq!(served, [next, again]);
}

#[test]
fn a_declined_worker_counts_where_the_next_is_tried() {
    let mut bench = Bench::new(limits(4));
    let other_era = KeyFacts {
        lineage_if_declined: Some(Lineage([2; 16])),
        ..of_lineage(1)
    };
    bench.want_of(1, &other_era, 0);
    let id = bench.started().expect("started");
    let failure = StartFailure::Failed("not in this way".into());
    bench.tell(Event::Declined(id, failure));
    bench.want_of(2, &of_lineage(2), 0);
    assert_eq!(bench.started(), None, "some of it is left");
    bench.gone(id);
    assert!(bench.started().is_some());
}

#[test]
fn who_waits_for_a_start_that_is_out_of_date_is_sent_elsewhere() {
    let mut bench = Bench::new(limits(4));
    let ticket = bench.want_of(1, &of_lineage(9), 0);
    let id = bench.started().expect("started");
    bench.tell(Event::Retire(id, StopReason::Config));
    assert!(bench.said(&Action::Stop(id, StopReason::Config)));
    let refusal = bench.refusal(ticket).expect("at once");
    assert!(matches!(refusal, Refusal::Changed { .. }), "{refusal:?}");
    let next = bench.want_of(2, &of_lineage(9), 0);
    assert_eq!(bench.started(), None);
    bench.gone(id);
    let successor = bench.started().expect("after it");
    bench.tell(Event::Ready(successor));
    assert!(bench.said(&Action::Grant(next, successor)));
}

/// Facts of a key of that lineage; of its siblings only one may have a worker.
fn of_siblings(n: u8) -> KeyFacts {
    KeyFacts {
        siblings: Some(Lineage([99; 16])),
        one_of_siblings: true,
        max_workers_per_key: 1,
        ..of_lineage(n)
    }
}

#[test]
fn siblings_follow_each_other_where_only_one_may_be_there() {
    let mut bench = Bench::new(limits(4));
    // Others run side by side.
    let free = |n| KeyFacts {
        one_of_siblings: false,
        ..of_siblings(n)
    };
    bench.want_of(1, &free(1), 0);
    let first = bench.started().expect("started");
    bench.tell(Event::Ready(first));
    bench.want_of(2, &free(2), 0);
    let second = bench.started().expect("beside it");
    bench.tell(Event::Ready(second));
    bench.release(first);
    bench.release(second);
    // From now on it is known that they cannot. Idle ones make way at once.
    let ticket = bench.want_of(3, &of_siblings(3), 0);
    assert_eq!(
        bench.said,
        [
            Action::Stop(first, StopReason::Sibling),
            Action::Stop(second, StopReason::Sibling)
        ]
    );
    bench.gone(first);
    assert_eq!(bench.started(), None, "one is left");
    bench.gone(second);
    let third = bench.started().expect("after both");
    bench.tell(Event::Ready(third));
    assert!(bench.said(&Action::Grant(ticket, third)));
    // A busy one has `drain_timeout` for what it has.
    let next = bench.want_of(1, &of_siblings(1), 0);
    assert!(bench.said.is_empty(), "it works");
    bench.after(29.0);
    assert!(bench.said.is_empty(), "it still may");
    let failure = {
        bench.after(1.0);
        bench.refusal(next)
    };
    assert!(matches!(
        failure,
        Some(Refusal::KeyBusy { .. } | Refusal::Follows { .. })
    ));
    bench.want_of(1, &of_siblings(1), 0);
    assert!(bench.said(&Action::Stop(third, StopReason::Sibling)));
    assert!(bench.policy.worker(third).expect("there").is_cut_short);
    bench.gone(third);
    assert!(bench.started().is_some());
}

#[test]
fn siblings_that_alternate_are_all_served_however_long_the_last_takes_to_end() {
    let mut bench = Bench::new(limits(4));
    bench.want_of(1, &of_siblings(1), 0);
    let first = bench.started().expect("started");
    bench.tell(Event::Ready(first));
    let mut waiting = vec![
        bench.want_of(2, &of_siblings(2), 0),
        bench.want_of(3, &of_siblings(3), 0),
    ];
    bench.release(first);
    // Longer than any ticket waits for its lineage.
    bench.after(3.0);
    bench.gone(first);
    for _ in 0..2 {
        let id = bench.started().expect("one after the other");
        bench.tell(Event::Ready(id));
        waiting.retain(|ticket| !bench.said(&Action::Grant(*ticket, id)));
        bench.release(id);
        bench.after(3.0);
        bench.gone(id);
    }
    assert_eq!(waiting, []);
}

#[test]
fn one_that_takes_requests_again_spares_the_others_of_its_siblings() {
    let mut bench = Bench::new(PoolLimits {
        queue_timeout: Duration::from_secs(300),
        ..limits(2)
    });
    let free = |n| KeyFacts {
        one_of_siblings: false,
        ..of_siblings(n)
    };
    let busy: Vec<_> = [1, 2]
        .into_iter()
        .map(|n| {
            bench.want_of(n, &free(n), 0);
            let id = bench.started().expect("started");
            bench.tell(Event::Ready(id));
            id
        })
        .collect();
    // One is closed to requests, so that another tenant gets its place; the other to be started anew.
    bench.after(2.0);
    bench.want(3, "b");
    bench.after(1.5);
    let worker = |bench: &Bench, id| bench.policy.worker(id).expect("there").retiring;
    let yields = |id: &&WorkerId| worker(&bench, **id).is_some_and(StopReason::is_eviction);
    let own = *busy.iter().find(yields).expect("makes room");
    let n = if own == busy[0] { 1 } else { 2 };
    let other = busy[2 - usize::from(n)];
    bench.tell(Event::RetireKey(key(3 - n), StopReason::Config));
    // The key of `own` is asked for, and by now it is known that only one of the siblings can be there.
    let ticket = bench.want_of(n, &of_siblings(n), 1);
    assert!(bench.said.is_empty(), "both are busy");
    bench.after(31.0);
    assert_eq!(bench.said, [Action::Grant(ticket, own)]);
    assert_eq!(
        worker(&bench, other),
        Some(StopReason::Config),
        "it works on"
    );
}
