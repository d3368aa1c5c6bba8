//! The tables, and the small steps that keep them consistent with each other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use super::circuit::{self, Circuit};
use super::event::{Action, Claim, StopReason, TicketId};
use super::footprint::{Memory, Sleep};
use super::grants::Grants;
use super::limits::{KeyFacts, PoolLimits};
use super::page_out::PageOut;
use super::start_failure::StartFailure;
use super::stock::Stock;
use crate::ids::{Lineage, PoolKey, ServerName, TenantId, WorkerId};

/// Where a worker is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Started, not ready.
    Starting,
    /// Serves.
    Ready,
    /// Told to stop, or dead; its processes may still be there.
    Stopping,
}

/// How soon a key's next request can be served.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Warmth {
    /// A worker has to be started.
    Cold,
    /// A worker has to be woken.
    Asleep,
    /// At once.
    Awake,
}

impl Warmth {
    fn of(sleep: Sleep) -> Self {
        match sleep {
            Sleep::Awake => Self::Awake,
            Sleep::FallingAsleep | Sleep::Asleep => Self::Asleep,
        }
    }
}

/// The policy's record of one worker.
#[derive(Clone, Debug)]
pub struct WorkerRecord {
    /// The key: workers that have it are interchangeable.
    pub key: PoolKey,
    /// Facts of the key when it was started; its tenant and server change only for a
    /// spare, when it is adopted.
    pub facts: Arc<KeyFacts>,
    /// The worker's place in its life.
    pub phase: Phase,
    /// The worker was a spare.
    pub is_adopted: bool,
    /// Slots taken.
    pub in_flight: usize,
    /// The session that has those slots, on an exclusive worker with slots taken.
    pub owner: Option<u64>,
    /// The lineage that the worker counts for as long as anything of it is left.
    pub(super) lineage: Lineage,
    /// Slots taken, by session.
    pub(super) of_sessions: FxHashMap<u64, usize>,
    /// Pins held.
    pub pins: usize,
    /// Slots granted since its start.
    pub granted: u64,
    /// When the worker was started.
    pub started: Instant,
    /// When the worker became ready.
    pub ready: Option<Instant>,
    /// Since when nothing is in flight.
    pub idle_since: Option<Instant>,
    /// Why the worker gets no new requests, where it gets none.
    pub retiring: Option<StopReason>,
    /// Closed to new requests, it has some in flight: until when it may go on with them while others wait.
    pub(super) drains_until: Option<Instant>,
    /// The worker was stopped with requests in flight: they had their time, and others waited for its successor.
    pub is_cut_short: bool,
    /// The tenant whose worker needs its capacity or its memory, where it is evicted for that.
    pub makes_room_for: Option<TenantId>,
    /// The worker has answered a request.
    pub served: bool,
    /// Whether the worker's memory is paged out.
    pub sleep: Sleep,
    /// Bytes it is charged with.
    pub memory: u64,
    /// Bytes it held when it was last measured awake.
    pub awake_memory: u64,
    /// The worker's charge was measured, and is no expectation.
    pub is_measured: bool,
    /// The worker could not be paged out, and it is not tried again.
    pub(super) is_page_out_unsupported: bool,
    pub(super) sleep_timer: Option<Instant>,
    /// The worker's last page-out, if it was not needed since.
    pub(super) page_out: Option<PageOut>,
    /// The worker's rank among the idle: a recency number.
    pub(super) idle_rank: Option<u64>,
    pub(super) idle_timer: Option<Instant>,
    /// Until when the worker counts as one that is being started.
    pub(super) counts_until: Option<Instant>,
}

/// A key whose requests are refused because its starts keep failing.
#[derive(Clone, Copy, Debug)]
pub(in crate::pool) struct RefusedKey<'a> {
    pub(in crate::pool) facts: &'a KeyFacts,
    pub(in crate::pool) until: Instant,
    /// Starts that failed in a row.
    pub(in crate::pool) failures: u32,
    /// How the last start failed.
    pub(in crate::pool) last: Option<&'a StartFailure>,
}

#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) key: PoolKey,
    pub(super) tenant: TenantId,
    pub(super) claim: Claim,
    /// When the ticket joined the queue.
    pub(super) since: Instant,
    pub(super) deadline: Instant,
    pub(super) yields_at: Instant,
}

#[derive(Debug)]
pub(super) struct KeyRecord {
    pub(super) facts: Arc<KeyFacts>,
    /// The lineage of the request by which the key became known.
    pub(super) lineage: Lineage,
    /// Starting and ready workers that are not retiring.
    pub(super) workers: Vec<WorkerId>,
    /// Every worker that is not gone.
    pub(super) alive: usize,
    pub(super) waiting: VecDeque<TicketId>,
    /// The worker being evicted to free capacity for this key.
    pub(super) evicting: Option<WorkerId>,
    pub(super) failures: u32,
    pub(super) blocked_until: Option<Instant>,
    pub(super) last_failure: Option<StartFailure>,
    /// The key's circuit was told to be open: its requests are refused at once.
    pub(super) is_told_open: bool,
}

impl KeyRecord {
    pub(super) fn new(key: PoolKey, facts: &Arc<KeyFacts>) -> Self {
        Self {
            facts: Arc::clone(facts),
            lineage: facts.lineage.unwrap_or_else(|| key.into()),
            workers: Vec::new(),
            alive: 0,
            waiting: VecDeque::new(),
            evicting: None,
            failures: 0,
            blocked_until: None,
            last_failure: None,
            is_told_open: false,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct TenantRecord {
    pub(super) weight: u32,
    pub(super) alive: usize,
    pub(super) idle: BTreeSet<(u64, WorkerId)>,
    pub(super) waiting: usize,
    /// Keys with waiting tickets, in the order in which they are helped.
    pub(super) waiting_keys: VecDeque<PoolKey>,
    pub(super) quantum: u32,
}

#[derive(Debug, Default)]
pub(super) struct ServerRecord {
    pub(super) alive: usize,
    pub(super) idle: BTreeSet<(u64, WorkerId)>,
    pub(super) circuit: Circuit,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Timer {
    Ticket(TicketId),
    Yield(TicketId),
    Overdue(WorkerId),
    Drained(WorkerId),
    Idle(WorkerId),
    Sleep(WorkerId),
    Lifetime(WorkerId),
    Backoff(PoolKey),
    ForgetKey(PoolKey),
    Circuit(ServerName),
    ForgetServer(ServerName),
}

/// The policy's whole state. See the [module](super) for its rules.
#[derive(Debug)]
pub struct Policy {
    pub(super) limits: PoolLimits,
    pub(super) workers: FxHashMap<WorkerId, WorkerRecord>,
    pub(super) keys: FxHashMap<PoolKey, KeyRecord>,
    /// Every worker that is not gone.
    pub(super) lineages: FxHashMap<Lineage, SmallVec<[WorkerId; 2]>>,
    /// Every worker that is not gone and whose key has siblings.
    pub(super) siblings: FxHashMap<Lineage, SmallVec<[WorkerId; 2]>>,
    pub(super) tenants: FxHashMap<TenantId, TenantRecord>,
    pub(super) servers: FxHashMap<ServerName, ServerRecord>,
    pub(super) tickets: FxHashMap<TicketId, Ticket>,
    /// Idle workers that may be evicted; the least recently used is popped first.
    pub(super) idle: LruCache<WorkerId, ()>,
    pub(super) ring: VecDeque<TenantId>,
    pub(super) timers: BTreeSet<(Instant, Timer)>,
    pub(super) memory: Memory,
    /// Spares that are wanted.
    pub(super) stock: Vec<Stock>,
    /// Slots that were granted.
    pub(super) grants: Grants,
    /// Workers that take a start permit; spares being adopted do not.
    pub(super) starting: FxHashSet<WorkerId>,
    pub(super) stopping: usize,
    /// Workers being evicted on behalf of a key, or closed to new requests so that they can be;
    /// and that key's tenant.
    pub(super) yielding: FxHashMap<WorkerId, TenantId>,
    /// Sum of the weights of the tenants in [`Self::tenants`].
    pub(super) total_weight: u64,
    pub(super) draining: bool,
    pub(super) next_worker: u64,
    pub(super) next_rank: u64,
    pub(super) seed: u64,
}

impl Policy {
    /// An empty pool. `seed` decides the jitter of back-offs.
    pub fn new(limits: PoolLimits, seed: u64) -> Self {
        Self {
            limits,
            workers: FxHashMap::default(),
            keys: FxHashMap::default(),
            lineages: FxHashMap::default(),
            siblings: FxHashMap::default(),
            tenants: FxHashMap::default(),
            servers: FxHashMap::default(),
            tickets: FxHashMap::default(),
            idle: LruCache::unbounded(),
            ring: VecDeque::new(),
            timers: BTreeSet::new(),
            memory: Memory::default(),
            stock: Vec::new(),
            grants: Grants::default(),
            starting: FxHashSet::default(),
            stopping: 0,
            yielding: FxHashMap::default(),
            total_weight: 0,
            draining: false,
            next_worker: 1,
            next_rank: 0,
            seed,
        }
    }

    /// When [`Event::Tick`](super::event::Event::Tick) is next needed.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The limits in force.
    pub fn limits(&self) -> &PoolLimits {
        &self.limits
    }

    /// Every worker that is not gone.
    pub fn workers(&self) -> impl Iterator<Item = (WorkerId, &WorkerRecord)> {
        self.workers.iter().map(|(id, record)| (*id, record))
    }

    /// The record of the worker of that id.
    pub fn worker(&self, id: WorkerId) -> Option<&WorkerRecord> {
        self.workers.get(&id)
    }

    /// Whether the key has a worker that takes requests, and whether one of them is awake.
    pub fn warmth(&self, key: PoolKey) -> Warmth {
        let workers = self.keys.get(&key).map(|record| &record.workers);
        let sleep_of = |id| {
            let worker = self.workers.get(id)?;
            (worker.phase == Phase::Ready).then_some(worker.sleep)
        };
        let sleeps = workers.into_iter().flatten().filter_map(sleep_of);
        sleeps.map(Warmth::of).max().unwrap_or(Warmth::Cold)
    }

    /// How many tickets wait, by tenant.
    pub fn waiting(&self) -> impl Iterator<Item = (&TenantId, usize)> {
        let tenants = self.tenants.iter().map(|(id, tenant)| (id, tenant.waiting));
        tenants.filter(|(_, waiting)| *waiting > 0)
    }

    /// How requests came to their workers since the pool began.
    pub fn grants(&self) -> Grants {
        self.grants
    }

    /// How many tickets wait.
    pub fn queue_depth(&self) -> usize {
        self.tickets.len()
    }

    /// The keys that somebody waits for, in any order.
    pub fn wanted_keys(&self) -> impl Iterator<Item = PoolKey> {
        let wanted = self.keys.iter().filter(|(_, key)| !key.waiting.is_empty());
        wanted.map(|(key, _)| *key)
    }

    /// How many tickets wait, by server, in the order of their names.
    pub fn waiting_for(&self) -> Vec<(ServerName, usize)> {
        let mut waiting = BTreeMap::new();
        for record in self.keys.values().filter(|key| !key.waiting.is_empty()) {
            *waiting.entry(record.facts.server.clone()).or_default() += record.waiting.len();
        }
        waiting.into_iter().collect()
    }

    /// How long keys whose last start failed still wait before the next, the soonest of each server.
    pub fn next_tries(&self, now: Instant) -> Vec<(ServerName, Duration)> {
        let mut soonest = BTreeMap::<ServerName, Duration>::new();
        for record in self.keys.values() {
            let Some(until) = record.blocked_until.filter(|until| now < *until) else {
                continue;
            };
            let of_server = soonest.entry(record.facts.server.clone());
            let wait = of_server.or_insert(Duration::MAX);
            *wait = (*wait).min(until - now);
        }
        soonest.into_iter().collect()
    }

    /// Circuits that are open, with the server of each.
    pub(in crate::pool) fn open_circuits(
        &self,
        now: Instant,
    ) -> impl Iterator<Item = (&ServerName, circuit::Open<'_>)> {
        self.servers.iter().flat_map(move |(name, server)| {
            let open = server.circuit.open(now).into_iter();
            open.map(move |open| (name, open))
        })
    }

    /// Configurations whose requests are refused because their starts keep failing.
    pub(in crate::pool) fn open_configurations(
        &self,
        now: Instant,
    ) -> impl Iterator<Item = RefusedKey<'_>> {
        let told = self.keys.values().filter(|record| record.is_told_open);
        told.map(move |record| RefusedKey {
            facts: &record.facts,
            until: record.blocked_until.unwrap_or(now),
            failures: record.failures,
            last: record.last_failure.as_ref(),
        })
    }

    /// Whether nothing is in flight and nobody waits.
    pub fn is_quiet(&self) -> bool {
        self.tickets.is_empty() && self.workers.values().all(|worker| worker.in_flight == 0)
    }

    /// Whether no worker is left.
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// `now + wait`, or a year from now where the clock's range ends before.
    pub(super) fn after(now: Instant, wait: Duration) -> Instant {
        let year = Duration::from_secs(365 * 86_400);
        now.checked_add(wait.min(year)).unwrap_or(now)
    }

    pub(super) fn arm(&mut self, at: Instant, timer: Timer) {
        self.timers.insert((at, timer));
    }

    pub(super) fn disarm(&mut self, at: Instant, timer: Timer) {
        self.timers.remove(&(at, timer));
    }

    pub(super) fn tenant(&mut self, facts: &KeyFacts) -> &mut TenantRecord {
        let tenant = self.tenants.entry(facts.tenant.clone()).or_default();
        // Nobody's workers are entitled to nothing, and so the first to go.
        let weight = if facts.is_spare {
            0
        } else {
            facts.tenant_weight.max(1)
        };
        self.total_weight = self.total_weight - u64::from(tenant.weight) + u64::from(weight);
        tenant.weight = weight;
        tenant
    }

    pub(super) fn drop_tenant_if_unused(&mut self, id: &TenantId) {
        if let Some(tenant) = self.tenants.get(id)
            && tenant.alive == 0
            && tenant.waiting == 0
        {
            self.total_weight -= u64::from(tenant.weight);
            self.tenants.remove(id);
        }
    }

    /// Forgets a key that has neither workers nor waiters nor a failure to remember.
    pub(super) fn drop_key_if_unused(&mut self, key: PoolKey, out: &mut Vec<Action>) {
        if let Some(record) = self.keys.get(&key)
            && record.alive == 0
            && record.waiting.is_empty()
            && record.failures == 0
        {
            self.keys.remove(&key);
            out.push(Action::Forget(key));
        }
    }

    pub(super) fn drop_server_if_unused(&mut self, name: &ServerName) {
        if let Some(server) = self.servers.get(name)
            && server.alive == 0
            && server.circuit.is_closed()
        {
            self.servers.remove(name);
        }
    }
}
