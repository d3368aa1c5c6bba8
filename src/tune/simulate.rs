//! The policy on virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};

use super::setting::Setting;
use super::workload::{Call, Workload};
use crate::ids::{PoolKey, ServerName, TenantId, WorkerId};
use crate::pool::policy::{Action, Claim, Event, Policy, TicketId};
use crate::pool::{KeyFacts, StopReason};

/// How long a worker's processes take to be gone.
const STOP: Duration = Duration::from_millis(50);
/// How long paging a worker out takes.
const PAGE_OUT: Duration = Duration::from_millis(200);
/// Points of the curve of memory over time.
const POINTS: usize = 96;

/// The outcome of a setting.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// The setting.
    pub setting: Setting,
    /// Calls that were served.
    pub served: usize,
    /// Calls that were refused.
    pub refused: usize,
    /// Workers that were started.
    pub starts: usize,
    /// Calls that woke a worker.
    pub woken: usize,
    /// Workers that went so that others could start.
    pub evictions: usize,
    /// What calls waited until a worker took them, its start or waking included; sorted, in
    /// milliseconds.
    pub waits: Vec<u32>,
    /// Bytes that workers held, over time.
    pub memory: Vec<u64>,
    /// The most they held.
    pub peak_memory: u64,
    /// The most workers at once.
    pub peak_workers: usize,
}

impl Outcome {
    /// The wait that so many percent of the calls did not exceed.
    pub fn wait(&self, percent: f64) -> Duration {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index, far below 2^52"
        )]
        let at = (self.waits.len() as f64 * percent / 100.0) as usize;
        let last = self.waits.len().saturating_sub(1);
        let millis = self.waits.get(at.min(last)).copied().unwrap_or(0);
        Duration::from_millis(millis.into())
    }

    /// Starts for each call served.
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub fn cold_start_rate(&self) -> f64 {
        self.starts as f64 / self.served.max(1) as f64
    }
}

/// An event that happens by itself, later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Later {
    Ready(WorkerId),
    Release(WorkerId),
    Exited(WorkerId),
    PagedOut(WorkerId),
}

struct Simulation<'w> {
    workload: &'w Workload,
    setting: &'w Setting,
    policy: Policy,
    zero: Instant,
    now: Duration,
    agenda: BinaryHeap<Reverse<(Duration, u64, Later)>>,
    order: u64,
    /// Server of each worker that is not gone.
    workers: FxHashMap<WorkerId, u16>,
    waiting: FxHashMap<TicketId, Call>,
    facts: FxHashMap<(u32, u16), Arc<KeyFacts>>,
    paging: FxHashSet<WorkerId>,
    just_woken: Option<WorkerId>,
    out: Vec<Action>,
    outcome: Outcome,
}

/// What that setting would have led to.
pub fn simulate(workload: &Workload, setting: &Setting) -> Outcome {
    let mut simulation = Simulation {
        workload,
        setting,
        policy: Policy::new(setting.limits(), 1),
        zero: Instant::now(),
        now: Duration::ZERO,
        agenda: BinaryHeap::new(),
        order: 0,
        workers: FxHashMap::default(),
        waiting: FxHashMap::default(),
        facts: FxHashMap::default(),
        paging: FxHashSet::default(),
        just_woken: None,
        out: Vec::new(),
        outcome: Outcome {
            setting: setting.clone(),
            served: 0,
            refused: 0,
            starts: 0,
            woken: 0,
            evictions: 0,
            waits: Vec::with_capacity(workload.calls.len()),
            memory: Vec::with_capacity(POINTS),
            peak_memory: 0,
            peak_workers: 0,
        },
    };
    simulation.run();
    simulation.outcome.waits.sort_unstable();
    simulation.outcome
}

/// Runs the workload through several settings, on all CPUs, in their order.
pub fn simulate_all(workload: &Workload, settings: &[Setting]) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Outcome)>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(settings.len()) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(setting) = settings.get(at) else {
                        return;
                    };
                    let outcome = simulate(workload, setting);
                    done.lock().push((at, outcome));
                }
            });
        }
    });
    let mut done = done.into_inner();
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

impl Simulation<'_> {
    fn run(&mut self) {
        let workload = self.workload;
        let step = workload.length / u32::try_from(POINTS).unwrap_or(1);
        let mut sample_at = step;
        let mut calls = workload.calls.iter().enumerate().peekable();
        loop {
            let call_at = calls.peek().map(|(_, call)| call.at);
            let later_at = self.agenda.peek().map(|Reverse((at, ..))| *at);
            let tick_at = self.policy.next_deadline().map(|at| at - self.zero);
            // After the last call only what is under way is played to its end.
            let tick_at = tick_at.filter(|_| call_at.is_some() || !self.waiting.is_empty());
            let Some(at) = [call_at, later_at, tick_at].into_iter().flatten().min() else {
                break;
            };
            while sample_at <= at && self.outcome.memory.len() < POINTS {
                self.outcome.memory.push(self.policy.memory());
                sample_at += step;
            }
            self.now = self.now.max(at);
            if later_at == Some(at) {
                let Reverse((_, _, later)) = self.agenda.pop().expect("peeked");
                self.happen(later);
            } else if call_at == Some(at) {
                let (n, call) = calls.next().expect("peeked");
                self.want(TicketId(n as u64), *call);
            } else {
                self.tell(Event::Tick);
            }
        }
        self.outcome.memory.resize(POINTS, self.policy.memory());
    }

    fn want(&mut self, ticket: TicketId, call: Call) {
        self.waiting.insert(ticket, call);
        let facts = Arc::clone(
            self.facts
                .entry((call.tenant, call.server))
                .or_insert_with(|| facts(self.workload, self.setting, call)),
        );
        let key = key_of(call);
        let owner = ticket.0;
        self.tell(Event::Acquire {
            ticket,
            key,
            facts,
            claim: Claim {
                owner,
                // Callers are not recorded.
                session: 0,
                prefers: None,
            },
        });
    }

    fn happen(&mut self, later: Later) {
        match later {
            Later::Ready(worker) => {
                let Some(&server) = self.workers.get(&worker) else {
                    return;
                };
                self.tell(Event::Ready(worker));
                let holds = self.workload.servers[usize::from(server)].awake;
                self.tell(Event::Measured(worker, holds));
            }
            Later::Release(worker) => self.tell(Event::Release {
                worker,
                session: 0,
                served: true,
            }),
            Later::Exited(worker) => {
                self.workers.remove(&worker);
                self.paging.remove(&worker);
                self.tell(Event::Exited {
                    worker,
                    asked: true,
                });
            }
            Later::PagedOut(worker) => {
                if self.paging.remove(&worker)
                    && let Some(&server) = self.workers.get(&worker)
                {
                    let holds = self.workload.servers[usize::from(server)].asleep;
                    self.tell(Event::Hibernated(worker, Some(holds)));
                }
            }
        }
    }

    fn tell(&mut self, event: Event) {
        let mut out = std::mem::take(&mut self.out);
        self.policy.on(self.zero + self.now, event, &mut out);
        for action in out.drain(..) {
            self.carry_out(action);
        }
        self.out = out;
        let outcome = &mut self.outcome;
        outcome.peak_memory = outcome.peak_memory.max(self.policy.memory());
        outcome.peak_workers = outcome.peak_workers.max(self.workers.len());
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Start(worker, key) => {
                let server = server_of(key);
                self.outcome.starts += 1;
                self.workers.insert(worker, server);
                let takes = self.workload.servers[usize::from(server)].start;
                self.later(takes, Later::Ready(worker));
            }
            // No setting of a simulation has spares.
            Action::Adopt(worker, _) => self.later(Duration::ZERO, Later::Ready(worker)),
            Action::Stop(worker, reason) => {
                self.outcome.evictions += usize::from(reason.is_eviction());
                debug_assert_ne!(reason, StopReason::StartFailed);
                self.later(STOP, Later::Exited(worker));
            }
            Action::Hibernate(worker) => {
                self.paging.insert(worker);
                self.later(PAGE_OUT, Later::PagedOut(worker));
            }
            Action::Wake(worker) => {
                self.paging.remove(&worker);
                self.just_woken = Some(worker);
            }
            Action::Grant(ticket, worker) => self.granted(ticket, worker),
            Action::Refuse(ticket, _) => {
                self.waiting.remove(&ticket);
                self.outcome.refused += 1;
            }
            Action::Gone { .. } | Action::Forget(_) | Action::Circuit(_) => {}
        }
    }

    fn granted(&mut self, ticket: TicketId, worker: WorkerId) {
        let Some(call) = self.waiting.remove(&ticket) else {
            return;
        };
        let mut wakes = Duration::ZERO;
        if self.just_woken.take_if(|woken| *woken == worker).is_some() {
            wakes = self.workload.servers[usize::from(call.server)].wake;
            self.outcome.woken += 1;
        }
        let waited = self.now - call.at + wakes;
        let millis = u32::try_from(waited.as_millis()).unwrap_or(u32::MAX);
        self.outcome.waits.push(millis);
        self.outcome.served += 1;
        self.later(wakes + call.takes, Later::Release(worker));
    }

    fn later(&mut self, wait: Duration, what: Later) {
        self.order += 1;
        self.agenda
            .push(Reverse((self.now + wait, self.order, what)));
    }
}

fn key_of(call: Call) -> PoolKey {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&call.tenant.to_le_bytes());
    key[4..6].copy_from_slice(&call.server.to_le_bytes());
    PoolKey(key)
}

fn server_of(key: PoolKey) -> u16 {
    u16::from_le_bytes([key.0[4], key.0[5]])
}

fn facts(workload: &Workload, setting: &Setting, call: Call) -> Arc<KeyFacts> {
    let server = &workload.servers[usize::from(call.server)];
    let tenant = TenantId::new(format!("t{}", call.tenant));
    Arc::new(KeyFacts {
        tenant_max_workers: 8,
        max_in_flight: 32,
        max_of_session: 32,
        idle_timeout: setting.idle_timeout,
        max_lifetime: Duration::from_secs(86_400),
        ..KeyFacts::neutral(tenant, ServerName::new(server.name.clone()))
    })
}
