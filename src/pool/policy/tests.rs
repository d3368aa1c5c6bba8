//! Each rule by itself, at times that the test says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Action, Event, KeyFacts, Limits, Policy, StopReason, TicketId};
use crate::ids::{PoolKey, ServerName, TenantId, WorkerId};
use crate::protocol::{Failure, Reason};

/// A policy, its clock, and what it said last.
struct Bench {
    policy: Policy,
    now: Instant,
    next: u64,
    said: Vec<Action>,
}

fn facts(tenant: &str) -> KeyFacts {
    KeyFacts {
        tenant: TenantId::new(tenant),
        tenant_weight: 1,
        tenant_max_workers: 8,
        server: ServerName::new("s"),
        server_max_workers: 0,
        max_in_flight: 2,
        max_workers_per_key: 1,
        exclusive: false,
        max_requests: 0,
        idle_timeout: Duration::from_secs(600),
        max_lifetime: Duration::from_secs(86_400),
    }
}

fn key(n: u8) -> PoolKey {
    PoolKey([n; 16])
}

impl Bench {
    fn new(limits: Limits) -> Self {
        Self {
            policy: Policy::new(limits, 7),
            now: Instant::now(),
            next: 0,
            said: vec![],
        }
    }

    fn tell(&mut self, event: Event) -> &[Action] {
        self.said.clear();
        self.policy.on(self.now, event, &mut self.said);
        &self.said
    }

    fn after(&mut self, seconds: f64) -> &[Action] {
        self.now += Duration::from_secs_f64(seconds);
        self.tell(Event::Tick)
    }

    fn want_of(&mut self, n: u8, facts: &KeyFacts, owner: u64) -> TicketId {
        let ticket = TicketId(self.next);
        self.next += 1;
        let facts = Arc::new(facts.clone());
        self.tell(Event::Want {
            ticket,
            key: key(n),
            facts,
            owner,
        });
        ticket
    }

    fn want(&mut self, n: u8, tenant: &str) -> TicketId {
        self.want_of(n, &facts(tenant), 0)
    }

    /// The worker that was started last.
    fn started(&self) -> Option<WorkerId> {
        self.said.iter().rev().find_map(|action| match action {
            Action::Start(id, _) => Some(*id),
            _ => None,
        })
    }

    /// A ready worker of that key, with nothing in flight.
    fn idle(&mut self, n: u8, tenant: &str) -> WorkerId {
        self.want(n, tenant);
        let id = self.started().expect("started");
        self.tell(Event::Ready(id));
        self.release(id);
        id
    }

    fn busy(&mut self, n: u8, tenant: &str) -> WorkerId {
        self.want(n, tenant);
        let id = self.started().expect("started");
        self.tell(Event::Ready(id));
        id
    }

    fn release(&mut self, worker: WorkerId) -> &[Action] {
        self.tell(Event::Release {
            worker,
            served: true,
        })
    }

    fn fail(&mut self, id: WorkerId) {
        self.tell(Event::StartFailed(
            id,
            Failure::new(Reason::StartFailed, "no luck"),
        ));
        self.tell(Event::Exited {
            worker: id,
            asked: true,
        });
    }

    fn refusal(&self, ticket: TicketId) -> Option<Failure> {
        self.said.iter().find_map(|action| match action {
            Action::Refuse(refused, failure) if *refused == ticket => Some(failure.clone()),
            _ => None,
        })
    }

    fn said(&self, action: &Action) -> bool {
        self.said.contains(action)
    }
}

fn limits(max_workers: usize) -> Limits {
    Limits {
        max_workers,
        max_starting: 2,
        ..Limits::default()
    }
}

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
fn a_busy_worker_yields_after_its_turn_and_not_before() {
    let mut bench = Bench::new(limits(1));
    bench.want(1, "a");
    bench.after(3.0);
    let worker = WorkerId(1);
    // Its start took three seconds, so that its turn is as long.
    bench.tell(Event::Ready(worker));
    bench.want(2, "b");
    bench.after(1.5);
    let own = bench.want(1, "a");
    assert!(
        bench.said(&Action::Grant(own, worker)),
        "its turn is not over"
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
    assert_eq!(failure.reason, Reason::TenantLimit);
    assert!(failure.message.contains("max_workers"), "{failure}");
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
    let mut bench = Bench::new(Limits {
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
    let mut bench = Bench::new(Limits {
        queue_limit: 3,
        ..limits(1)
    });
    bench.busy(1, "a");
    let flood: Vec<_> = (0..3).map(|n| bench.want(10 + n, "flood")).collect();
    let own = bench.want(20, "flood");
    let failure = bench
        .refusal(own)
        .expect("its own queue is as long as it may be");
    assert_eq!(failure.reason, Reason::PoolExhausted);
    assert!(failure.message.contains("queue_limit"), "{failure}");
    bench.want(30, "modest");
    let failure = bench.refusal(flood[2]).expect("its newest makes room");
    assert_eq!(failure.reason, Reason::TenantLimit);
    assert!(failure.retry_after.is_some());
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
    assert_eq!(failure.reason, Reason::PoolExhausted);
    assert!(failure.message.contains("1 of 1 are in use"), "{failure}");
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
    let successor = bench.started().expect("beside it");
    assert_eq!(bench.release(id), [Action::Stop(id, StopReason::Lifetime)]);
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
    assert!(bench.started().is_some(), "the third is for another");
    bench.release(id);
    assert!(
        bench
            .release(id)
            .contains(&Action::Stop(id, StopReason::Requests))
    );
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
    let mut bench = Bench::new(Limits {
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
            Failure::new(Reason::StartFailed, "no luck"),
        ));
        assert_eq!(
            bench.refusal(ticket).expect("told at once").message,
            "no luck"
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
    let mut bench = Bench::new(Limits {
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
    let failure = bench.refusal(ticket).expect("at once");
    assert_eq!(failure.reason, Reason::CircuitOpen);
    assert!(
        failure.retry_after.is_some() && failure.message.contains("no luck"),
        "{failure}"
    );
    let other = bench.want(2, "b");
    assert_eq!(bench.refusal(other), None, "other keys are not its fault");
}

#[test]
fn a_circuit_opens_when_every_key_fails_and_closes_with_one_success() {
    let mut bench = Bench::new(limits(8));
    for n in 1..=3 {
        bench.want(n, "a");
        let id = bench.started().expect("started");
        bench.fail(id);
    }
    let ticket = bench.want(4, "b");
    let failure = bench.refusal(ticket).expect("the server is at fault");
    assert_eq!(failure.reason, Reason::CircuitOpen);
    assert_eq!(bench.policy.open_circuits().count(), 1);
    bench.after(37.0);
    bench.want(4, "b");
    let probe = bench.started().expect("one is tried");
    bench.want(5, "c");
    assert_eq!(bench.started(), None, "one only");
    bench.tell(Event::Ready(probe));
    assert_eq!(bench.policy.open_circuits().count(), 0);
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
    assert_eq!(
        bench.refusal(waiting).expect("refused").reason,
        Reason::Draining
    );
    let late = bench.want(1, "a");
    assert_eq!(
        bench.refusal(late).expect("refused").reason,
        Reason::Draining
    );
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
