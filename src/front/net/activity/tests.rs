use super::*;
use crate::fair::Scheduler;

fn fresh() -> Activity {
    Activity::new(Scheduler::default().flow())
}

const TIMEOUTS: Timeouts = Timeouts {
    idle: Duration::from_secs(80),
    write: Duration::from_secs(20),
};

/// What is found each second up to `end`, until it is closed.
fn seen(activity: &Activity, at: impl Fn(u64)) -> Vec<(u64, Verdict)> {
    let mut monitor = LifetimeMonitor::new(TIMEOUTS);
    let mut seen = vec![];
    for second in 0..300 {
        at(second);
        let verdict = monitor.verdict(activity, second * 1000 + 1);
        let last = seen.last().map_or(Verdict::Stay, |(_, last)| *last);
        if verdict != last {
            seen.push((second, verdict));
        }
        if matches!(verdict, Verdict::Close(_)) {
            break;
        }
    }
    seen
}

fn set(value: &AtomicU64, second: u64) {
    value.store(second * 1000 + 1, Ordering::Relaxed);
}

#[test]
fn a_connection_without_a_request_is_closed() {
    let seen = seen(&fresh(), |_| {});
    assert!(matches!(seen[..], [(30, Verdict::Close(_))]), "{seen:?}");
}

#[test]
fn a_request_may_take_as_long_as_it_likes() {
    let activity = fresh();
    activity.request_begins();
    assert_eq!(seen(&activity, |_| {}), []);
}

#[test]
fn an_idle_connection_finishes_and_is_closed_if_it_does_not() {
    let activity = fresh();
    activity.request_begins();
    let seen = seen(&activity, |second| {
        if second == 10 {
            activity.request_ended();
            set(&activity.quiet_since, 10);
        }
    });
    assert!(
        matches!(seen[..], [(90, Verdict::Finish), (110, Verdict::Close(_))]),
        "{seen:?}"
    );
}

#[test]
fn who_still_takes_what_is_written_may_finish() {
    let activity = fresh();
    activity.request_begins();
    activity.request_ended();
    set(&activity.quiet_since, 0);
    let seen = seen(&activity, |second| {
        if second < 200 {
            activity.wrote(2 * usize::try_from(LEAST_TAKEN).expect("fits"));
        }
    });
    assert!(
        matches!(seen[..], [(80, Verdict::Finish), (219, Verdict::Close(_))]),
        "{seen:?}"
    );
}

#[test]
fn who_takes_nothing_or_sends_half_a_head_is_closed() {
    let activity = fresh();
    activity.request_begins();
    set(&activity.blocked_since, 50);
    let blocked = seen(&activity, |_| {});
    assert!(
        matches!(blocked[..], [(70, Verdict::Close(_))]),
        "{blocked:?}"
    );
    activity.wrote(1);
    set(&activity.head_since, 100);
    let half = seen(&activity, |_| {});
    assert!(matches!(half[..], [(130, Verdict::Close(_))]), "{half:?}");
}

#[test]
fn who_takes_little_of_what_is_in_the_socket_stays() {
    let activity = fresh();
    activity.request_begins();
    set(&activity.blocked_since, 10);
    let slow = seen(&activity, |second| {
        activity.has_left(1_000 - second.min(200));
        // The connection's own clock stands still here.
        if second <= 200 {
            set(&activity.left_since, second);
        }
    });
    assert!(
        matches!(slow[..], [(220, Verdict::Close(_))]),
        "20 s after the last byte: {slow:?}"
    );
    // The socket may still hold what it has taken whole.
    let activity = fresh();
    activity.request_begins();
    activity.has_left(7);
    set(&activity.left_since, 30);
    let held = seen(&activity, |_| {});
    assert!(matches!(held[..], [(50, Verdict::Close(_))]), "{held:?}");
    activity.has_left(0);
    assert_eq!(seen(&activity, |_| {}), []);
}

#[test]
fn who_has_to_make_room_goes_soon() {
    let unused = fresh();
    unused.close_request(CloseRequest::Leave);
    assert!(matches!(
        seen(&unused, |_| {})[..],
        [(0, Verdict::Close(_))]
    ));
    let used = fresh();
    used.request_begins();
    used.close_request(CloseRequest::Leave);
    let seen = seen(&used, |_| {
        used.wrote(1 << 20);
    });
    assert!(
        matches!(seen[..], [(0, Verdict::Finish), (1, Verdict::Close(_))])
            || matches!(seen[..], [(0, Verdict::Finish), (2, Verdict::Close(_))]),
        "{seen:?}"
    );
}

#[test]
fn work_is_of_the_tenant_that_asks_and_of_nobody_where_several_do() {
    let ledger = Ledger::unlimited();
    let activity = Activity::new(ledger.scheduler().flow());
    let is = |other: &Flow| format!("{:?}", activity.flow()) == format!("{other:?}");
    let (one, other) = (TenantId::new("one"), TenantId::new("other"));
    for _ in 0..2 {
        activity.works_for(&one, &ledger);
        assert!(is(ledger.account(&one).flow()));
    }
    for tenant in [&other, &one, &other] {
        activity.works_for(tenant, &ledger);
        assert!(!is(ledger.account(&one).flow()) && !is(ledger.account(&other).flow()));
    }
}
