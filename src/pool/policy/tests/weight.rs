//! Memory: room for starts, sleep, and what goes first.

use super::super::{Grants, NotHibernated, Sleep};
use super::*;

const MIB: u64 = 1 << 20;

fn bounded(max_memory: u64) -> PoolLimits {
    PoolLimits {
        max_memory,
        unknown_memory: 100 * MIB,
        hibernate_after: Some(Duration::from_secs(30)),
        ..limits(8)
    }
}

/// An idle worker that holds so much.
fn idle_of(bench: &mut Bench, n: u8, tenant: &str, bytes: u64) -> WorkerId {
    bench.want(n, tenant);
    let id = bench.started().expect("started");
    bench.after(1.0);
    bench.tell(Event::Ready(id));
    bench.release(id);
    bench.tell(Event::Measured(id, bytes));
    id
}

#[test]
fn a_worker_sleeps_when_it_was_idle_long_enough_and_wakes_for_a_request() {
    let mut bench = Bench::new(bounded(u64::MAX));
    let id = idle_of(&mut bench, 1, "a", 70 * MIB);
    bench.after(29.0);
    assert!(!bench.said(&Action::Hibernate(id)));
    bench.after(1.1);
    assert!(bench.said(&Action::Hibernate(id)));
    bench.tell(Event::Hibernated(id, Some(8 * MIB)));
    assert_eq!(bench.policy.memory(), 8 * MIB);
    assert_eq!(bench.policy.worker(id).expect("there").sleep, Sleep::Asleep);

    let ticket = bench.want(1, "a");
    let wake = bench.said.iter().position(|a| *a == Action::Wake(id));
    let grant = bench
        .said
        .iter()
        .position(|a| *a == Action::Grant(ticket, id));
    assert!(wake.expect("woken") < grant.expect("granted"));
    assert_eq!(bench.policy.memory(), 70 * MIB, "it is as heavy as it was");
    bench.release(id);
    bench.after(30.1);
    assert!(bench.said(&Action::Hibernate(id)), "and sleeps again");
}

#[test]
fn a_word_in_sleep_ends_it_and_a_worker_that_cannot_sleep_is_left_alone() {
    let mut bench = Bench::new(bounded(u64::MAX));
    let id = idle_of(&mut bench, 1, "a", 70 * MIB);
    bench.after(30.1);
    bench.tell(Event::Hibernated(id, Some(MIB)));
    bench.tell(Event::SpontaneousWake(id));
    assert!(bench.said(&Action::Wake(id)));
    bench.after(30.1);
    assert!(bench.said(&Action::Hibernate(id)));
    bench.tell(Event::Hibernated(id, None));
    bench.after(120.0);
    assert!(
        !bench.said(&Action::Hibernate(id)),
        "it cannot be done here"
    );
}

/// The seconds, from 1, at which the worker is paged out, which leaves 10 MiB each time. Its memory is measured every second in
/// which it has changed.
fn page_outs(
    bench: &mut Bench,
    id: WorkerId,
    seconds: u32,
    holds: impl Fn(u32) -> u64,
) -> Vec<u32> {
    let mut seen = Vec::new();
    let mut known = None;
    for second in 1..=seconds {
        bench.after(1.0);
        let mut is_out = bench.said(&Action::Hibernate(id));
        if known != Some(holds(second)) && !is_out {
            bench.tell(Event::Measured(id, holds(second)));
            is_out = bench.said(&Action::Hibernate(id));
        }
        known = Some(holds(second));
        if is_out {
            seen.push(second);
            bench.tell(Event::Hibernated(id, Some(10 * MIB)));
        }
    }
    seen
}

#[test]
fn what_a_collector_brings_back_is_paged_out_once_more() {
    let mut bench = Bench::new(bounded(u64::MAX));
    let id = idle_of(&mut bench, 1, "a", 33 * MIB);
    // The collector runs 72 s after the last request, and what it leaves is less than half.
    let holds = |second| if second < 72 { 10 * MIB } else { 15 * MIB };
    assert_eq!(page_outs(&mut bench, id, 590, holds), [30, 72]);
    assert_eq!(bench.policy.memory(), 10 * MIB);
    assert_eq!(bench.policy.worker(id).expect("there").sleep, Sleep::Asleep);
}

#[test]
fn right_after_a_page_out_the_next_waits_as_long_again() {
    let mut bench = Bench::new(bounded(u64::MAX));
    let id = idle_of(&mut bench, 1, "a", 33 * MIB);
    let holds = |second| if second < 35 { 10 * MIB } else { 15 * MIB };
    assert_eq!(page_outs(&mut bench, id, 590, holds), [30, 60]);
}

#[test]
fn a_server_that_always_comes_back_is_paged_out_less_and_less() {
    let mut bench = Bench::new(bounded(u64::MAX));
    let id = idle_of(&mut bench, 1, "a", 33 * MIB);
    // Another weight each second, so that each is measured.
    let holds = |second: u32| 20 * MIB + u64::from(second);
    let seen = page_outs(&mut bench, id, 590, holds);
    assert_eq!(seen, [30, 60, 120, 240, 480]);
    // The next request begins anew, though the last wait was long.
    bench.want(1, "a");
    bench.release(id);
    assert_eq!(page_outs(&mut bench, id, 100, holds), [30, 60]);
}

#[test]
fn a_little_more_is_left_where_it_is() {
    let mut bench = Bench::new(bounded(u64::MAX));
    let id = idle_of(&mut bench, 1, "a", 33 * MIB);
    let holds = |second| 10 * MIB + u64::from(second) * 1024;
    assert_eq!(page_outs(&mut bench, id, 590, holds), [30]);
    // A measurement from before the page-out that comes after it undoes nothing either.
    bench.want(1, "a");
    bench.release(id);
    bench.after(30.1);
    bench.tell(Event::Hibernated(id, Some(10 * MIB)));
    bench.tell(Event::Measured(id, 33 * MIB));
    bench.tell(Event::Measured(id, 10 * MIB));
    bench.after(60.0);
    assert!(!bench.said(&Action::Hibernate(id)));
}

#[test]
fn a_start_needs_room_and_what_sleeps_makes_it() {
    let mut bench = Bench::new(bounded(220 * MIB));
    let first = idle_of(&mut bench, 1, "a", 90 * MIB);
    let second = idle_of(&mut bench, 2, "b", 90 * MIB);
    let ticket = bench.want(3, "c");
    assert!(bench.said(&Action::Hibernate(first)), "{:?}", bench.said);
    assert!(bench.started().is_none(), "not before there is room");
    bench.tell(Event::Hibernated(first, Some(10 * MIB)));
    let third = bench.started().expect("there is room now");
    bench.tell(Event::Ready(third));
    assert!(bench.said(&Action::Grant(ticket, third)));
    assert!(bench.policy.worker(second).is_some(), "nobody had to go");
}

#[test]
fn what_sleeps_already_goes_when_sleep_is_not_enough() {
    let mut bench = Bench::new(bounded(120 * MIB));
    let first = idle_of(&mut bench, 1, "a", 90 * MIB);
    bench.after(30.1);
    bench.tell(Event::Hibernated(first, Some(40 * MIB)));
    bench.want(2, "b");
    let gone = Action::Stop(first, StopReason::EvictedForMemory);
    assert!(bench.said(&gone), "{:?}", bench.said);
    assert!(bench.started().is_none(), "its memory is not free yet");
    bench.tell(Event::Exited {
        worker: first,
        asked: true,
    });
    assert!(bench.started().is_some());
}

#[test]
fn the_only_worker_may_start_whatever_it_needs() {
    let mut bench = Bench::new(bounded(10 * MIB));
    bench.want(1, "a");
    let id = bench.started().expect("alone");
    bench.tell(Event::Ready(id));
    bench.want(2, "b");
    assert!(bench.started().is_none(), "two are too many");
}

#[test]
fn who_grows_beyond_the_limit_is_made_up_for_by_the_idle() {
    let mut bench = Bench::new(PoolLimits {
        hibernate_after: None,
        ..bounded(300 * MIB)
    });
    let idle = idle_of(&mut bench, 1, "a", 60 * MIB);
    let busy = bench.busy(2, "b");
    bench.tell(Event::Measured(busy, 250 * MIB));
    assert!(bench.said(&Action::Stop(idle, StopReason::EvictedForMemory)));
    assert!(bench.policy.worker(busy).is_some(), "who works goes on");
}

/// Swap that is turned off while workers sleep is read back into memory, of all of them at once.
#[test]
fn what_swap_gives_back_counts_and_is_made_room_for() {
    let mut bench = Bench::new(bounded(220 * MIB));
    let first = idle_of(&mut bench, 1, "a", 90 * MIB);
    let second = idle_of(&mut bench, 2, "b", 90 * MIB);
    bench.after(31.0);
    for id in [first, second] {
        bench.tell(Event::Hibernated(id, Some(5 * MIB)));
    }
    let third = bench.busy(3, "c");
    bench.tell(Event::Measured(third, 100 * MIB));
    for id in [first, second] {
        bench.tell(Event::Measured(id, 90 * MIB));
    }
    let is_stopped = |id| bench.said(&Action::Stop(id, StopReason::EvictedForMemory));
    let stopped = [first, second].map(is_stopped);
    assert!(stopped.contains(&true), "{:?}", bench.said);
    assert!(bench.policy.worker(third).is_some(), "who works goes on");
    // A worker that stays cannot sleep any more, and is left alone.
    for id in [first, second] {
        if bench.said(&Action::Hibernate(id)) {
            bench.tell(Event::Hibernated(id, None));
        }
    }
    bench.policy.check_invariants();
}

#[test]
fn only_an_idle_worker_hibernates_when_it_is_told_to() {
    // Without a timer for it.
    let mut bench = Bench::new(limits(8));
    let why_not = |bench: &Bench, id| bench.policy.may_hibernate(id).expect_err("refused");
    assert_eq!(why_not(&bench, WorkerId(9)), NotHibernated::NoSuchWorker);
    bench.want(1, "a");
    let id = bench.started().expect("started");
    assert_eq!(why_not(&bench, id), NotHibernated::Starting);
    bench.tell(Event::Ready(id));
    assert_eq!(why_not(&bench, id), NotHibernated::Busy(1));
    bench.tell(Event::Hibernate(id));
    assert!(!bench.said(&Action::Hibernate(id)), "it serves");
    bench.release(id);
    assert_eq!(bench.policy.may_hibernate(id), Ok(()));
    bench.tell(Event::Hibernate(id));
    assert!(bench.said(&Action::Hibernate(id)));
    assert_eq!(why_not(&bench, id), NotHibernated::Asleep);
    bench.tell(Event::Hibernated(id, Some(MIB)));
    assert_eq!(why_not(&bench, id), NotHibernated::Asleep);
    let ticket = bench.want(1, "a");
    assert!(bench.said(&Action::Wake(id)) && bench.said(&Action::Grant(ticket, id)));
    let counted = Grants {
        warm: 0,
        woken: 1,
        first: 1,
    };
    assert_eq!(bench.policy.grants(), counted);
    bench.release(id);
    bench.want(1, "a");
    assert_eq!(bench.policy.grants().warm, 1);
    bench.release(id);
    bench.tell(Event::Hibernate(id));
    bench.tell(Event::Hibernated(id, None));
    assert_eq!(why_not(&bench, id), NotHibernated::Unsupported);
    bench.tell(Event::Retire(id, StopReason::Admin));
    assert_eq!(why_not(&bench, id), NotHibernated::Leaving);
    bench.policy.check_invariants();
}

#[test]
fn pressure_makes_the_idle_shed() {
    let mut bench = Bench::new(bounded(u64::MAX));
    let id = idle_of(&mut bench, 1, "a", 60 * MIB);
    bench.tell(Event::Pressure(10 * MIB));
    assert!(bench.said(&Action::Hibernate(id)));
}

#[test]
fn the_next_start_is_judged_by_what_its_server_held() {
    let mut bench = Bench::new(bounded(u64::MAX));
    let server = facts("a").server;
    assert_eq!(bench.policy.expected_memory(&server), 100 * MIB);
    let id = idle_of(&mut bench, 1, "a", 40 * MIB);
    assert_eq!(bench.policy.expected_memory(&server), 40 * MIB);
    bench.tell(Event::Measured(id, 80 * MIB));
    assert_eq!(bench.policy.expected_memory(&server), 50 * MIB);
}

#[test]
fn of_two_idle_workers_the_one_that_starts_faster_goes() {
    let mut bench = Bench::new(limits(2));
    let slow = KeyFacts {
        server: ServerName::new("slow"),
        ..facts("a")
    };
    let ticket = bench.want_of(1, &slow, 0);
    let first = bench.started().expect("starts");
    bench.after(20.0);
    bench.tell(Event::Ready(first));
    assert!(bench.said(&Action::Grant(ticket, first)));
    bench.release(first);
    let second = bench.idle(2, "b");
    bench.want(3, "c");
    let gone = Action::Stop(second, StopReason::Evicted);
    assert!(
        bench.said(&gone),
        "used later, but back in no time: {:?}",
        bench.said
    );
}
