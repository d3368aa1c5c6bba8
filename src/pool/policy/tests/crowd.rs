//! A crowd that always wants more than there is: nobody starves, and weights are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::{Action, Event, KeyFacts, Policy, PoolLimits, TicketId};
use crate::ids::{PoolKey, ServerName, TenantId, WorkerId};

/// Tenants that always want more than there is.
struct Crowd {
    policy: Policy,
    now: Instant,
    facts: Vec<Arc<KeyFacts>>,
    next_ticket: u64,
    waiting: BTreeMap<TicketId, (usize, Instant)>,
    granted: Vec<u64>,
    longest_wait: Duration,
    out: Vec<Action>,
    /// What is to happen next, and when.
    agenda: BTreeSet<(Instant, u64, Step)>,
    order: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Step {
    Ready(WorkerId),
    Release(WorkerId, usize),
    Exited(WorkerId),
}

impl Crowd {
    fn plan(&mut self, after_ms: u64, step: Step) {
        self.order += 1;
        self.agenda
            .insert((self.now + Duration::from_millis(after_ms), self.order, step));
    }

    fn tell(&mut self, event: Event) {
        let mut out = std::mem::take(&mut self.out);
        self.policy.on(self.now, event, &mut out);
        for action in out.drain(..) {
            match action {
                Action::Start(id, _) => self.plan(300, Step::Ready(id)),
                Action::Stop(id, _) => self.plan(50, Step::Exited(id)),
                Action::Grant(ticket, id) => {
                    let (tenant, since) = self.waiting.remove(&ticket).expect("it waits");
                    self.granted[tenant] += 1;
                    self.longest_wait = self.longest_wait.max(self.now - since);
                    self.plan(100, Step::Release(id, tenant));
                }
                Action::Refuse(_, failure) => panic!("nobody is refused: {failure:?}"),
                Action::Adopt(id, _) => panic!("{id} is no spare"),
                Action::Hibernate(id) => panic!("{id} has no rest"),
                Action::Wake(_) | Action::Gone { .. } | Action::Forget(_) | Action::Circuit(_) => {}
            }
        }
        self.out = out;
    }

    fn want(&mut self, tenant: usize) {
        let ticket = TicketId(self.next_ticket);
        self.next_ticket += 1;
        self.waiting.insert(ticket, (tenant, self.now));
        let facts = Arc::clone(&self.facts[tenant]);
        let key = PoolKey([u8::try_from(tenant).expect("small"); 16]);
        self.tell(Event::Acquire {
            ticket,
            key,
            facts,
            claim: 0.into(),
        });
    }

    /// Lets `tenants`, each with so many requests under way all the time, run for three minutes.
    fn run(max_workers: usize, tenants: &[(u32, usize)]) -> Self {
        let facts = |(n, (weight, _)): (usize, &(u32, usize))| {
            Arc::new(KeyFacts {
                tenant: TenantId::new(format!("t{n}")),
                tenant_weight: *weight,
                tenant_max_workers: 8,
                server: ServerName::new("s"),
                server_max_workers: 0,
                max_in_flight: 1,
                max_of_session: 1,
                max_workers_per_key: 4,
                lineage: None,
                lineage_if_declined: None,
                siblings: None,
                one_of_siblings: false,
                caller_configured: false,
                exclusive: false,
                max_requests: 0,
                idle_timeout: Duration::from_secs(60),
                max_lifetime: Duration::from_secs(86_400),
                is_spare: false,
                spare: None,
            })
        };
        let limits = PoolLimits {
            max_workers,
            queue_limit: 100_000,
            queue_timeout: Duration::from_secs(3600),
            ..PoolLimits::default()
        };
        let mut crowd = Self {
            policy: Policy::new(limits, 1),
            now: Instant::now(),
            facts: tenants.iter().enumerate().map(facts).collect(),
            next_ticket: 0,
            waiting: BTreeMap::new(),
            granted: vec![0; tenants.len()],
            longest_wait: Duration::ZERO,
            out: Vec::new(),
            agenda: BTreeSet::new(),
            order: 0,
        };
        for (tenant, (_, at_once)) in tenants.iter().enumerate() {
            (0..*at_once).for_each(|_| crowd.want(tenant));
        }
        let end = crowd.now + Duration::from_secs(180);
        while crowd.now < end {
            let planned = crowd.agenda.first().map(|(at, ..)| *at);
            let timer = crowd.policy.next_deadline();
            crowd.now = planned
                .into_iter()
                .chain(timer)
                .min()
                .expect("something goes on")
                .max(crowd.now);
            if planned.is_none_or(|at| at > crowd.now) {
                crowd.tell(Event::Tick);
                continue;
            }
            let Some((_, _, step)) = crowd.agenda.pop_first() else {
                continue;
            };
            match step {
                Step::Ready(id) => crowd.tell(Event::Ready(id)),
                Step::Exited(id) => crowd.tell(Event::Exited {
                    worker: id,
                    asked: true,
                }),
                Step::Release(id, tenant) => {
                    crowd.tell(Event::Release {
                        worker: id,
                        session: 0,
                        served: true,
                    });
                    crowd.want(tenant);
                }
            }
        }
        crowd
    }
}

/// Whoever wants little gets it although others want everything, and nobody waits for long.
#[test]
fn no_tenant_starves() {
    for (max_workers, tenants) in [
        (1, vec![(1, 1), (1, 1)]),
        (2, vec![(1, 60), (1, 1), (1, 1)]),
        (
            4,
            vec![
                (1, 40),
                (1, 40),
                (1, 1),
                (1, 1),
                (1, 1),
                (1, 1),
                (1, 1),
                (1, 1),
            ],
        ),
        (3, vec![(1, 20); 12]),
    ] {
        let crowd = Crowd::run(max_workers, &tenants);
        let least = crowd.granted.iter().min().expect("tenants");
        println!("{:?} with {max_workers} workers", crowd.granted);
        assert!(
            *least > 60,
            "{:?} with {max_workers} workers",
            crowd.granted
        );
        let round = u64::try_from(tenants.len()).expect("small");
        // Whoever wants one thing at a time waits for one round of the others, not for all they want.
        let fair = Duration::from_secs(3 * round);
        let patient = tenants.iter().any(|(_, at_once)| *at_once > 20);
        assert!(
            patient || crowd.longest_wait < fair,
            "{:?}",
            crowd.longest_wait
        );
    }
}

/// Under contention, what tenants get is in proportion to their weights.
#[test]
fn places_are_shared_by_weight() {
    let crowd = Crowd::run(6, &[(1, 30), (2, 30), (3, 30)]);
    let total: u64 = crowd.granted.iter().sum();
    for (tenant, granted) in crowd.granted.iter().enumerate() {
        let weight = u64::try_from(tenant + 1).expect("small");
        let fair = total * weight / 6;
        let is_near = *granted * 100 > fair * 60 && *granted * 100 < fair * 140;
        assert!(
            is_near,
            "{:?}: tenant {tenant} should have about {fair}",
            crowd.granted
        );
    }
}
