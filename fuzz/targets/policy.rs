//! The pool's policy under any events that can happen: its tables stay whole, limits hold, every
//! ticket gets one answer, and in the end it comes to rest.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stdiopool::ids::{PoolKey, ServerName, TenantId, WorkerId};
use stdiopool::pool::policy::{
    Action, Event, KeyFacts, Policy, PoolLimits, StartFailure, Stock, StopReason, TicketId,
};

use super::input::step;

struct World {
    policy: Policy,
    now: Instant,
    limits: PoolLimits,
    /// Whether the worker was told to stop.
    workers: BTreeMap<WorkerId, bool>,
    starting: Vec<WorkerId>,
    /// When each worker was started.
    since: BTreeMap<WorkerId, Instant>,
    /// Of those, spares that were adopted.
    adopted: Vec<WorkerId>,
    /// They take no starting place any more.
    waits: Vec<WorkerId>,
    /// Slots that are held, each with its session.
    leases: Vec<(WorkerId, u64)>,
    pins: Vec<WorkerId>,
    paging_out: Vec<WorkerId>,
    waiting: Vec<(TicketId, u64)>,
    tickets: u64,
}

impl World {
    fn on(&mut self, event: Event) {
        let mut out = Vec::new();
        self.policy.on(self.now, event, &mut out);
        for action in out {
            match action {
                Action::Start(worker, _) => {
                    assert_eq!(self.workers.insert(worker, false), None);
                    self.starting.push(worker);
                    self.since.insert(worker, self.now);
                    assert!(self.workers.len() <= self.limits.max_workers);
                    // A tenant that has none may have one more (`pool/policy/places.rs`).
                    assert!(self.cold_starts() <= self.limits.max_starting + 1);
                }
                Action::Stop(worker, _) => {
                    *self.workers.get_mut(&worker).expect("a live worker") = true;
                    self.starting.retain(|other| *other != worker);
                }
                Action::Adopt(worker, _) => {
                    // It runs already: no start that a limit would count.
                    self.adopted.push(worker);
                    self.starting.push(worker);
                }
                Action::Hibernate(worker) => self.paging_out.push(worker),
                Action::Wake(worker) => self.paging_out.retain(|other| *other != worker),
                Action::Grant(ticket, worker) => {
                    let session = self.answered(ticket);
                    self.leases.push((worker, session));
                }
                Action::Refuse(ticket, _) => {
                    self.answered(ticket);
                }
                Action::Gone { .. } | Action::Forget(_) | Action::Circuit(_) => {}
            }
        }
        self.policy.check_invariants();
    }

    fn cold_starts(&self) -> usize {
        let is_cold = |worker: &&WorkerId| {
            let took = self.now - self.since[*worker];
            !self.adopted.contains(worker)
                && !self.waits.contains(worker)
                && took < self.limits.start_counts_for
        };
        self.starting.iter().filter(is_cold).count()
    }

    /// Whose it was.
    fn answered(&mut self, ticket: TicketId) -> u64 {
        let at = self.waiting.iter().position(|(waits, _)| *waits == ticket);
        self.waiting.remove(at.expect("answered once")).1
    }

    fn nth(&self, n: u8) -> Option<WorkerId> {
        let at = usize::from(n) % self.workers.len().max(1);
        self.workers.keys().nth(at).copied()
    }

    fn exit(&mut self, worker: WorkerId) {
        if let Some(asked) = self.workers.remove(&worker) {
            self.starting.retain(|other| *other != worker);
            self.paging_out.retain(|other| *other != worker);
            self.on(Event::Exited { worker, asked });
        }
    }

    /// One of those that a list has, by number.
    fn take<T>(list: &mut Vec<T>, number: u8) -> Option<T> {
        let at = usize::from(number).checked_rem(list.len())?;
        Some(list.swap_remove(at))
    }

    fn step(&mut self, kind: u8, number: u8, second: u8) {
        match kind {
            // want KEY OWNER
            b'w' => {
                let ticket = TicketId(self.tickets);
                self.tickets += 1;
                let owner = u64::from(second);
                self.waiting.push((ticket, owner));
                let (key, facts) = key_of(number);
                let claim = owner.into();
                self.on(Event::Acquire {
                    ticket,
                    key,
                    facts,
                    claim,
                });
            }
            // discard TICKET
            b'd' => {
                if let Some((ticket, _)) = Self::take(&mut self.waiting, number) {
                    self.on(Event::Withdraw(ticket));
                }
            }
            // ready WORKER
            b'r' => {
                if let Some(worker) = Self::take(&mut self.starting, number) {
                    self.on(Event::Ready(worker));
                }
            }
            // failed WORKER; not to be spoken to in its way, if the second number is odd
            b'f' => {
                if let Some(worker) = Self::take(&mut self.starting, number) {
                    let failure = StartFailure::Failed("fuzz".into());
                    self.on(if second.is_multiple_of(2) {
                        Event::StartFailed(worker, failure)
                    } else {
                        Event::Declined(worker, failure)
                    });
                    self.exit(worker);
                }
            }
            // back LEASE, with an answer if the second number is odd
            b'b' => {
                if let Some((worker, session)) = Self::take(&mut self.leases, number) {
                    let served = second % 2 == 1;
                    self.on(Event::Release {
                        worker,
                        session,
                        served,
                    });
                }
            }
            // unpin PIN
            b'u' => {
                if let Some(worker) = Self::take(&mut self.pins, number) {
                    self.on(Event::Unpin(worker));
                }
            }
            // grow MAX_WORKERS
            b'g' => {
                // Never shrinks: what runs above a smaller limit is drained, which this model leaves out.
                self.limits.max_workers = self.limits.max_workers.max(usize::from(number % 8));
                self.on(Event::Reconfigure(self.limits.clone()));
            }
            // hibernated WORKER MEBIBYTES, 0 for a page-out that could not be done
            b'h' => {
                if let Some(worker) = Self::take(&mut self.paging_out, number) {
                    let left = (second > 0).then_some(u64::from(second) << 20);
                    self.on(Event::Hibernated(worker, left));
                }
            }
            // stock COUNT of spares
            b's' => {
                let stock = (!number.is_multiple_of(4)).then(|| spares(usize::from(number % 4)));
                self.on(Event::Stock(stock.into_iter().collect()));
            }
            // pressure MEBIBYTES
            b'p' => self.on(Event::Pressure(u64::from(number) << 20)),
            // time SECONDS
            b't' => {
                self.now += Duration::from_secs(number.into());
                self.on(Event::Tick);
            }
            _ => {
                if let Some(worker) = self.nth(number) {
                    self.tell_worker(kind, worker, second);
                }
            }
        }
    }

    fn tell_worker(&mut self, kind: u8, worker: WorkerId, second: u8) {
        match kind {
            // end WORKER
            b'e' => self.exit(worker),
            // quit WORKER
            b'q' => self.on(Event::Retire(worker, StopReason::Admin)),
            // measured WORKER MEBIBYTES
            b'm' => self.on(Event::Measured(worker, u64::from(second) << 20)),
            // awake WORKER
            b'a' => self.on(Event::SpontaneousWake(worker)),
            // keep WORKER: one pin
            b'k' => {
                self.pins.push(worker);
                self.on(Event::Pin(worker));
            }
            // idle WORKER: it starts, and waits for something else than the CPU
            b'i' if self.starting.contains(&worker) => {
                self.waits.push(worker);
                self.on(Event::Waits(worker));
            }
            _ => {}
        }
    }

    /// Nothing more is asked; everyone does what they were told.
    fn rest(&mut self) {
        self.on(Event::Stock(vec![]));
        for _ in 0..10_000 {
            while let Some((worker, session)) = self.leases.pop() {
                self.on(Event::Release {
                    worker,
                    session,
                    served: true,
                });
            }
            while let Some(worker) = self.pins.pop() {
                self.on(Event::Unpin(worker));
            }
            for worker in std::mem::take(&mut self.starting) {
                self.on(Event::Ready(worker));
            }
            let told: Vec<_> = self
                .workers
                .iter()
                .filter(|(_, asked)| **asked)
                .map(|(w, _)| *w)
                .collect();
            for worker in told {
                self.exit(worker);
            }
            match self.policy.next_deadline() {
                Some(at) => self.now = self.now.max(at),
                None => break,
            }
            self.on(Event::Tick);
        }
        assert!(self.waiting.is_empty() && self.workers.is_empty() && self.policy.is_empty());
    }
}

const SPARES: PoolKey = PoolKey([255; 16]);

fn spares(count: usize) -> Stock {
    let (_, facts) = key_of(0);
    let facts = KeyFacts {
        tenant: TenantId::new(""),
        tenant_max_workers: usize::MAX,
        max_workers_per_key: count,
        is_spare: true,
        spare: None,
        ..(*facts).clone()
    };
    Stock {
        key: SPARES,
        facts: Arc::new(facts),
    }
}

fn key_of(n: u8) -> (PoolKey, Arc<KeyFacts>) {
    let n = n % 8;
    let mut key = [0; 16];
    key[0] = n;
    let facts = KeyFacts {
        tenant: TenantId::new(format!("t{}", n % 3)),
        tenant_weight: u32::from(n % 3) + 1,
        tenant_max_workers: 2,
        server: ServerName::new(format!("s{}", n % 2)),
        server_max_workers: usize::from(n % 2) * 2,
        max_in_flight: usize::from(n % 2) + 1,
        max_of_session: usize::from(n % 2) + 1,
        max_workers_per_key: usize::from(n / 4) + 1,
        lineage: None,
        lineage_if_declined: None,
        siblings: None,
        one_of_siblings: false,
        caller_configured: n % 4 == 2,
        exclusive: n % 4 == 3,
        max_requests: u64::from(n % 5),
        idle_timeout: Duration::from_secs(60),
        max_lifetime: Duration::from_secs(600),
        is_spare: false,
        spare: n.is_multiple_of(2).then_some(SPARES),
    };
    (PoolKey(key), Arc::new(facts))
}

pub(super) fn run(input: &[u8]) {
    let limits = PoolLimits {
        max_workers: 3,
        max_memory: 400 << 20,
        hibernate_after: Some(Duration::from_secs(20)),
        queue_limit: 16,
        ..PoolLimits::default()
    };
    let mut world = World {
        policy: Policy::new(limits.clone(), 1),
        now: Instant::now(),
        limits,
        workers: BTreeMap::new(),
        starting: Vec::new(),
        since: BTreeMap::new(),
        adopted: Vec::new(),
        leases: Vec::new(),
        pins: Vec::new(),
        waits: Vec::new(),
        paging_out: Vec::new(),
        waiting: Vec::new(),
        tickets: 0,
    };
    for line in input.split(|byte| *byte == b'\n') {
        if let Some((kind, number, rest)) = step(line) {
            let second = std::str::from_utf8(rest).ok().and_then(|n| n.parse().ok());
            world.step(kind, number, second.unwrap_or(0));
        }
    }
    world.rest();
}
