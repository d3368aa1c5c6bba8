//! Tests of the policy, driven at times that the tests say.

mod circuits;
mod crowd;
mod fairness;
mod life;
mod lineage;
mod placing;
mod rng;
mod spares;
mod weight;
mod world;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{
    Action, CircuitOf, Claim, Event, KeyFacts, Policy, PoolLimits, Refusal, StartFailure,
    StopReason, TicketId,
};
use crate::ids::{PoolKey, ServerName, TenantId, WorkerId};

/// A policy, its clock, and what it said last.
struct Bench {
    policy: Policy,
    now: Instant,
    next: u64,
    said: Vec<Action>,
}

fn facts(tenant: &str) -> KeyFacts {
    KeyFacts {
        tenant_max_workers: 8,
        max_in_flight: 2,
        max_of_session: 2,
        idle_timeout: Duration::from_secs(600),
        max_lifetime: Duration::from_secs(86_400),
        ..KeyFacts::neutral(TenantId::new(tenant), ServerName::new("s"))
    }
}

fn key(n: u8) -> PoolKey {
    PoolKey([n; 16])
}

impl Bench {
    fn new(limits: PoolLimits) -> Self {
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
        self.tell(Event::Acquire {
            ticket,
            key: key(n),
            facts,
            claim: owner.into(),
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
        let of_sessions = self.policy.worker(worker).map(|w| &w.of_sessions);
        let session = of_sessions.and_then(|sessions| sessions.keys().next().copied());
        self.tell(Event::Release {
            worker,
            session: session.unwrap_or(0),
            served: true,
        })
    }

    /// Nothing is left of a worker that was told to stop.
    fn gone(&mut self, id: WorkerId) -> &[Action] {
        self.tell(Event::Exited {
            worker: id,
            asked: true,
        })
    }

    fn fail(&mut self, id: WorkerId) {
        self.tell(Event::StartFailed(
            id,
            StartFailure::Failed("no luck".into()),
        ));
        self.tell(Event::Exited {
            worker: id,
            asked: true,
        });
    }

    /// How the start failed that the ticket waited for.
    fn failed(&self, ticket: TicketId) -> Option<StartFailure> {
        match self.refusal(ticket)? {
            Refusal::StartFailed { failure, .. } => Some(failure),
            other => panic!("refused for something else: {other:?}"),
        }
    }

    /// The owner of the circuit that the ticket was refused for, and how the last start of its key failed.
    fn circuit(&self, ticket: TicketId) -> (CircuitOf, Option<StartFailure>) {
        match self.refusal(ticket) {
            Some(Refusal::CircuitOpen { of, last, .. }) => (of, last),
            other => panic!("no circuit: {other:?}"),
        }
    }

    fn refusal(&self, ticket: TicketId) -> Option<Refusal> {
        self.said.iter().find_map(|action| match action {
            Action::Refuse(refused, failure) if *refused == ticket => Some(failure.clone()),
            _ => None,
        })
    }

    fn said(&self, action: &Action) -> bool {
        self.said.contains(action)
    }
}

fn limits(max_workers: usize) -> PoolLimits {
    PoolLimits {
        max_workers,
        max_starting: 2,
        ..PoolLimits::default()
    }
}
