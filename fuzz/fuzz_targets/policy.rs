//! The pool's policy under any events that can happen: its tables stay whole, limits hold, every
//! ticket gets one answer, and in the end it comes to rest.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use stdiopool::ids::{PoolKey, ServerName, TenantId, WorkerId};
use stdiopool::pool::policy::{
    Action, Event, KeyFacts, Limits, Policy, Stock, StopReason, TicketId,
};
use stdiopool::protocol::{Failure, Reason};

#[derive(Arbitrary, Debug)]
enum Step {
    Want {
        key: u8,
        owner: u8,
    },
    Withdraw(u8),
    Ready(u8),
    StartFailed(u8),
    Exited(u8),
    Release {
        lease: u8,
        served: bool,
    },
    Retire(u8),
    Grow(u8),
    Measured {
        worker: u8,
        mebibytes: u8,
    },
    PagedOut {
        worker: u8,
        mebibytes: Option<u8>,
    },
    Stirred(u8),
    /// So many spares.
    Stock(u8),
    Pressure(u8),
    Wait {
        seconds: u8,
    },
}

struct World {
    policy: Policy,
    now: Instant,
    limits: Limits,
    /// Whether the worker was told to stop.
    workers: BTreeMap<WorkerId, bool>,
    starting: Vec<WorkerId>,
    /// When each worker was started.
    since: BTreeMap<WorkerId, Instant>,
    /// Of those, spares that were adopted.
    adopted: Vec<WorkerId>,
    leases: Vec<WorkerId>,
    paging_out: Vec<WorkerId>,
    waiting: Vec<TicketId>,
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
                    assert!(self.cold_starts() <= self.limits.max_starting);
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
                    self.answered(ticket);
                    self.leases.push(worker);
                }
                Action::Refuse(ticket, _) => self.answered(ticket),
                Action::Gone { .. } | Action::Forget(_) => {}
            }
        }
        self.policy.check_invariants();
    }

    fn cold_starts(&self) -> usize {
        let is_cold = |worker: &&WorkerId| {
            let took = self.now - self.since[*worker];
            !self.adopted.contains(worker) && took < self.limits.start_counts_for
        };
        self.starting.iter().filter(is_cold).count()
    }

    fn answered(&mut self, ticket: TicketId) {
        let at = self.waiting.iter().position(|waits| *waits == ticket);
        self.waiting.remove(at.expect("answered once"));
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

    fn step(&mut self, step: Step) {
        match step {
            Step::Want { key, owner } => {
                let ticket = TicketId(self.tickets);
                self.tickets += 1;
                self.waiting.push(ticket);
                let (key, facts) = key_of(key);
                let owner = owner.into();
                self.on(Event::Want {
                    ticket,
                    key,
                    facts,
                    claim: owner.into(),
                });
            }
            Step::Withdraw(n) if !self.waiting.is_empty() => {
                let ticket = self
                    .waiting
                    .swap_remove(usize::from(n) % self.waiting.len());
                self.on(Event::Withdraw(ticket));
            }
            Step::Ready(n) if !self.starting.is_empty() => {
                let worker = self
                    .starting
                    .swap_remove(usize::from(n) % self.starting.len());
                self.on(Event::Ready(worker));
            }
            Step::StartFailed(n) if !self.starting.is_empty() => {
                let worker = self
                    .starting
                    .swap_remove(usize::from(n) % self.starting.len());
                self.on(Event::StartFailed(
                    worker,
                    Failure::new(Reason::StartFailed, "fuzz"),
                ));
                self.exit(worker);
            }
            Step::Exited(n) => {
                if let Some(worker) = self.nth(n) {
                    self.exit(worker);
                }
            }
            Step::Release { lease, served } if !self.leases.is_empty() => {
                let worker = self
                    .leases
                    .swap_remove(usize::from(lease) % self.leases.len());
                self.on(Event::Release { worker, served });
            }
            Step::Retire(n) => {
                if let Some(worker) = self.nth(n) {
                    self.on(Event::Retire(worker, StopReason::Admin));
                }
            }
            Step::Grow(max_workers) => {
                // Never shrinks: what runs above a smaller limit is drained, which this model leaves out.
                self.limits.max_workers = self.limits.max_workers.max(usize::from(max_workers % 8));
                self.on(Event::Reconfigure(self.limits.clone()));
            }
            Step::Measured { worker, mebibytes } => {
                if let Some(worker) = self.nth(worker) {
                    self.on(Event::Measured(worker, u64::from(mebibytes) << 20));
                }
            }
            Step::PagedOut { worker, mebibytes } if !self.paging_out.is_empty() => {
                let at = usize::from(worker) % self.paging_out.len();
                let worker = self.paging_out.swap_remove(at);
                let left = mebibytes.map(|mebibytes| u64::from(mebibytes) << 20);
                self.on(Event::Hibernated(worker, left));
            }
            Step::PagedOut { .. } => {}
            Step::Stirred(n) => {
                if let Some(worker) = self.nth(n) {
                    self.on(Event::Stirred(worker));
                }
            }
            Step::Stock(count) => {
                let stock = (count % 4 > 0).then(|| spares(usize::from(count % 4)));
                self.on(Event::Stock(stock.into_iter().collect()));
            }
            Step::Pressure(mebibytes) => self.on(Event::Pressure(u64::from(mebibytes) << 20)),
            Step::Wait { seconds } => {
                self.now += Duration::from_secs(seconds.into());
                self.on(Event::Tick);
            }
            Step::Withdraw(_) | Step::Ready(_) | Step::StartFailed(_) | Step::Release { .. } => {}
        }
    }

    /// Nothing more is asked; everyone does what they were told.
    fn rest(&mut self) {
        self.on(Event::Stock(vec![]));
        for _ in 0..10_000 {
            while let Some(worker) = self.leases.pop() {
                self.on(Event::Release {
                    worker,
                    served: true,
                });
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
        max_workers_per_key: usize::from(n / 4) + 1,
        exclusive: n % 4 == 3,
        max_requests: u64::from(n % 5),
        idle_timeout: Duration::from_secs(60),
        max_lifetime: Duration::from_secs(600),
        is_spare: false,
        spare: (n % 2 == 0).then_some(SPARES),
    };
    (PoolKey(key), Arc::new(facts))
}

fuzz_target!(|steps: Vec<Step>| {
    let limits = Limits {
        max_workers: 3,
        max_memory: 400 << 20,
        hibernate_after: Some(Duration::from_secs(20)),
        queue_limit: 16,
        ..Limits::default()
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
        paging_out: Vec::new(),
        waiting: Vec::new(),
        tickets: 0,
    };
    for step in steps {
        world.step(step);
    }
    world.rest();
});
