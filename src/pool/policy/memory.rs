//! What workers weigh, and how weight is shed: idle ones fall asleep or go.
//!
//! Every worker that is not gone is charged with what it was last measured to hold, or, until then,
//! with what workers of its server have held before. A start needs room for that estimate; the only
//! worker of all always has it. What a worker grows by while it serves is not prevented but made up
//! for: idle workers shed as much.
//!
//! ```text
//!  Awake --idle for hibernate_after, or weight is needed--> FallingAsleep --> Asleep
//!    ^                                                   ^                           |
//!    |                                                   +--- holds more again ------+
//!    +------------- a request is granted, or the worker says something ----------+
//! ```

use std::time::{Duration, Instant};

use super::event::{Action, StopReason};
use super::footprint::{History, Sleep};
use super::limits::LOOK_AT;
use super::page_out::PageOut;
use super::state::{Phase, Policy, Timer, WorkerRecord};
use crate::ids::{ServerName, TenantId, WorkerId};

/// The cost of waking a worker for its next caller: measured at 10 to 60 ms.
const WAKE: Duration = Duration::from_millis(50);
/// The assumed cost of an evicted worker's next start before one was seen.
const UNKNOWN_START: Duration = Duration::from_secs(1);
/// At most this part of the memory is kept free for starts.
const RESERVE_PART: u64 = 16;
/// A sleeping worker is taken to hold this part of what it held awake, before one was measured.
const ASLEEP_PART: u64 = 6;

/// The memory relief that an idle worker can give.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Relief {
    Sleep,
    Go,
}

/// A worker that could shed memory.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    worker: WorkerId,
    relief: Relief,
    /// Bytes.
    frees: u64,
    /// Seconds that someone is expected to wait for it, per byte freed.
    cost: f64,
}

impl Policy {
    /// Bytes that all workers are charged with.
    pub fn memory(&self) -> u64 {
        self.memory.total
    }

    /// Bytes that are held against the limit: by workers, and beside them.
    pub fn in_use(&self) -> u64 {
        self.memory.total.saturating_add(self.memory.reserved)
    }

    /// Whether memory has room for one more worker of the server, without anything being shed for it.
    pub fn has_room_for(&self, server: &ServerName) -> bool {
        let wanted = self.expected_memory(server);
        self.in_use().saturating_add(wanted) <= self.limits.max_memory
    }

    /// What workers are forked from holds so much.
    pub(super) fn reserved(&mut self, now: Instant, bytes: u64, out: &mut Vec<Action>) {
        self.memory.reserved = bytes;
        self.shed_excess(now, None, out);
        self.schedule(now, out);
    }

    fn history(&self, server: &ServerName) -> History {
        self.memory.history.get(server).copied().unwrap_or_default()
    }

    /// The memory that a worker of the server is expected to hold.
    pub fn expected_memory(&self, server: &ServerName) -> u64 {
        let learnt = self.history(server).awake.0;
        learnt.unwrap_or(self.limits.unknown_memory)
    }

    fn expected_asleep(&self, worker: &WorkerRecord) -> u64 {
        let learnt = self.history(&worker.facts.server).asleep.0;
        learnt.unwrap_or(worker.awake_memory / ASLEEP_PART)
    }

    /// The time that the next start of the server is expected to take.
    pub(super) fn expected_start(&self, server: &ServerName) -> Duration {
        let learnt = self.history(server).start_micros.0;
        learnt.map_or(UNKNOWN_START, Duration::from_micros)
    }

    pub(super) fn note_start_took(&mut self, server: &ServerName, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let history = self.memory.history.entry(server.clone()).or_default();
        history.start_micros.add(micros);
    }

    pub(super) fn charge(&mut self, id: WorkerId, bytes: u64) {
        if let Some(worker) = self.workers.get_mut(&id) {
            self.memory.total = self.memory.total - worker.memory + bytes;
            worker.memory = bytes;
        }
    }

    /// The worker was measured.
    pub(super) fn measured(
        &mut self,
        now: Instant,
        id: WorkerId,
        bytes: u64,
        out: &mut Vec<Action>,
    ) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        match (worker.phase, worker.sleep) {
            (Phase::Ready, Sleep::Awake) => {
                worker.awake_memory = bytes;
                let server = worker.facts.server.clone();
                let history = self.memory.history.entry(server).or_default();
                history.awake.add(bytes);
            }
            // Something in it may have run by itself, such as a collector of garbage.
            (Phase::Ready, Sleep::Asleep) => self.grown_asleep(now, id, bytes),
            // Between the two nothing is learnt, and what goes is gone when it is gone.
            _ => return,
        }
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.is_measured = true;
        }
        self.charge(id, bytes);
        self.shed_excess(now, Some(id), out);
        self.schedule(now, out);
    }

    /// The page-out has ended: so many bytes are still held, or it could not be done.
    pub(super) fn hibernated(
        &mut self,
        now: Instant,
        id: WorkerId,
        bytes: Option<u64>,
        out: &mut Vec<Action>,
    ) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if worker.sleep != Sleep::FallingAsleep || worker.phase != Phase::Ready {
            return;
        }
        self.memory.leaving.remove(&id);
        match bytes {
            Some(bytes) => {
                worker.sleep = Sleep::Asleep;
                worker.page_out = Some(PageOut::ended(now, bytes, worker.page_out));
                let server = worker.facts.server.clone();
                let history = self.memory.history.entry(server).or_default();
                history.asleep.add(bytes);
                self.charge(id, bytes);
            }
            None => {
                worker.sleep = Sleep::Awake;
                worker.is_page_out_unsupported = true;
            }
        }
        self.schedule(now, out);
    }

    /// The worker is in use again, or says something unasked: it is as heavy as it was. Says whether it slept.
    pub(super) fn wakes(&mut self, now: Instant, id: WorkerId, out: &mut Vec<Action>) -> bool {
        let Some(worker) = self.workers.get_mut(&id) else {
            return false;
        };
        if worker.phase != Phase::Ready || worker.sleep == Sleep::Awake {
            return false;
        }
        worker.sleep = Sleep::Awake;
        worker.page_out = None;
        let bytes = worker.awake_memory.max(worker.memory);
        let is_idle = worker.idle_rank.is_some();
        // The timer may be set for an hour from now, and the next sleep is due sooner.
        if let Some(at) = worker.sleep_timer.take() {
            self.disarm(at, Timer::Sleep(id));
        }
        out.push(Action::Wake(id));
        self.memory.leaving.remove(&id);
        if is_idle {
            self.memory.sleepable.push(id, ());
        }
        self.charge(id, bytes);
        self.shed_excess(now, Some(id), out);
        true
    }

    /// Unasked output of an idle worker: it may fall asleep again later.
    pub(super) fn spontaneous_wake(&mut self, now: Instant, id: WorkerId, out: &mut Vec<Action>) {
        self.wakes(now, id, out);
        if let Some(worker) = self.workers.get(&id)
            && worker.idle_rank.is_some()
        {
            self.arm_sleep(now, id);
        }
    }

    /// Sets the timer for falling asleep, unless it is set.
    pub(super) fn arm_sleep(&mut self, now: Instant, id: WorkerId) {
        let Some(after) = self.limits.hibernate_after else {
            return;
        };
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if worker.sleep_timer.is_none()
            && worker.sleep == Sleep::Awake
            && !worker.is_page_out_unsupported
        {
            let at = Self::after(now, after);
            worker.sleep_timer = Some(at);
            self.arm(at, Timer::Sleep(id));
        }
    }

    /// A worker that is paged out holds so much: if that is more again, it is paged out once more.
    fn grown_asleep(&mut self, now: Instant, id: WorkerId, bytes: u64) {
        let (Some(after), Some(worker)) = (self.limits.hibernate_after, self.workers.get_mut(&id))
        else {
            return;
        };
        if worker.sleep_timer.is_none()
            && let Some(last) = worker.page_out.filter(|last| last.is_undone(bytes))
        {
            let at = last.next(after).max(now);
            worker.sleep_timer = Some(at);
            self.arm(at, Timer::Sleep(id));
        }
    }

    /// Like the idle timer it is set once, not per request: a worker used meanwhile gets the rest.
    pub(super) fn sleep_timer(&mut self, now: Instant, id: WorkerId, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.sleep_timer = None;
        let (Some(since), Some(after)) = (worker.idle_since, self.limits.hibernate_after) else {
            return;
        };
        // A pinned worker that is idle may sleep too: that ends nothing.
        if worker.phase != Phase::Ready || worker.in_flight > 0 || worker.retiring.is_some() {
            return;
        }
        let due = match worker.sleep {
            Sleep::Awake => Self::after(since, after),
            // By what it holds now: what was measured while it was paged out says little.
            Sleep::Asleep => match worker.page_out {
                Some(last) if last.is_undone(worker.memory) => last.next(after),
                _ => return,
            },
            Sleep::FallingAsleep => return,
        };
        if due <= now {
            self.falls_asleep(id, out);
        } else {
            worker.sleep_timer = Some(due);
            self.arm(due, Timer::Sleep(id));
        }
    }

    pub(super) fn falls_asleep(&mut self, id: WorkerId, out: &mut Vec<Action>) {
        if let Some(worker) = self.workers.get_mut(&id)
            && worker.sleep != Sleep::FallingAsleep
            && !worker.is_page_out_unsupported
        {
            worker.sleep = Sleep::FallingAsleep;
            self.memory.leaving.insert(id);
            self.memory.sleepable.pop(&id);
            out.push(Action::Hibernate(id));
        }
    }

    /// How many bytes are missing for `wanted` more, after all that is on its way out is gone.
    pub(super) fn missing(&self, wanted: u64) -> u64 {
        let needed = self.in_use().saturating_add(wanted);
        let over = needed.saturating_sub(self.limits.max_memory);
        if over == 0 {
            return 0;
        }
        over.saturating_sub(self.on_its_way_out())
    }

    fn on_its_way_out(&self) -> u64 {
        let shed = |worker: &WorkerRecord| match (worker.phase, worker.sleep) {
            (Phase::Stopping, _) => worker.memory,
            (_, Sleep::FallingAsleep) => worker.memory.saturating_sub(self.expected_asleep(worker)),
            _ => 0,
        };
        let leaving = self.memory.leaving.iter();
        leaving
            .filter_map(|id| self.workers.get(id))
            .map(shed)
            .sum()
    }

    /// Whether a start that needs `wanted` bytes has room for them now.
    pub(super) fn has_room(&self, wanted: u64) -> bool {
        self.workers.is_empty() || self.in_use().saturating_add(wanted) <= self.limits.max_memory
    }

    /// Whether a start that needs `wanted` bytes has room for them now, and as much stays free for those who ask.
    pub(super) fn has_room_beside_reserve(&self, wanted: u64) -> bool {
        self.has_room(wanted.saturating_add(self.reserve()))
    }

    /// Room for as many starts as may run at once: who starts should not wait until others have
    /// made room. A small part of the whole, so that a small pool is not kept empty for it.
    fn reserve(&self) -> u64 {
        let workers = self.workers.len().max(1) as u64;
        let starts = (self.memory.total / workers).saturating_mul(self.limits.max_starting as u64);
        starts.min(self.limits.max_memory / RESERVE_PART)
    }

    /// Workers have started, grown or woken beyond the limit, the reserve included: idle ones
    /// make up for it. `grown` is the one that did, if it was one.
    pub(super) fn shed_excess(
        &mut self,
        now: Instant,
        grown: Option<WorkerId>,
        out: &mut Vec<Action>,
    ) {
        let missing = self.missing(self.reserve());
        if missing > 0 {
            let grown = grown.and_then(|id| self.workers.get(&id));
            let tenant = grown.map(|worker| worker.facts.tenant.clone());
            self.shed(now, missing, tenant.as_ref(), out);
        }
    }

    /// Lets idle workers fall asleep or go until `wanted` bytes are on their way out, at the least
    /// cost to whoever uses them next; it is for that tenant, if it is for one. Says whether anything
    /// could be done.
    pub(super) fn shed(
        &mut self,
        now: Instant,
        wanted: u64,
        makes_room_for: Option<&TenantId>,
        out: &mut Vec<Action>,
    ) -> bool {
        let mut left = wanted;
        let mut did = false;
        while left > 0
            && let Some(Candidate {
                worker: id,
                relief,
                frees,
                ..
            }) = self.cheapest_relief(now)
        {
            did = true;
            left = left.saturating_sub(frees.max(1));
            match relief {
                Relief::Sleep => self.falls_asleep(id, out),
                Relief::Go => {
                    if let Some(worker) = self.workers.get_mut(&id) {
                        worker.makes_room_for = makes_room_for.cloned();
                    }
                    self.stop(id, StopReason::EvictedForMemory, out);
                }
            }
        }
        did
    }

    /// Whether an idle worker could shed anything.
    pub(super) fn can_shed(&self, now: Instant) -> bool {
        self.cheapest_relief(now).is_some()
    }

    /// Of the least recently used workers, what frees most for what it costs: the time that the next
    /// caller will wait longer, times how likely one is, which falls with the time since the last.
    fn cheapest_relief(&self, now: Instant) -> Option<Candidate> {
        let oldest = self.idle.iter().rev().map(|(id, ())| *id).take(LOOK_AT);
        let awake = self
            .memory
            .sleepable
            .iter()
            .rev()
            .map(|(id, ())| *id)
            .filter(|id| self.can_sleep(*id))
            .take(LOOK_AT);
        let go = oldest.filter_map(|id| self.relief(now, id, Relief::Go));
        let sleep = awake.filter_map(|id| self.relief(now, id, Relief::Sleep));
        sleep.chain(go).min_by(|a, b| a.cost.total_cmp(&b.cost))
    }

    fn can_sleep(&self, id: WorkerId) -> bool {
        self.limits.hibernate_after.is_some()
            && self.workers.get(&id).is_some_and(|worker| {
                worker.sleep == Sleep::Awake
                    && !worker.is_page_out_unsupported
                    && worker.memory > self.expected_asleep(worker)
            })
    }

    /// The relief that stopping or paging out the worker would bring.
    fn relief(&self, now: Instant, id: WorkerId, relief: Relief) -> Option<Candidate> {
        let worker = self.workers.get(&id)?;
        let (takes, frees) = match relief {
            Relief::Sleep => {
                let frees = worker.memory.saturating_sub(self.expected_asleep(worker));
                (WAKE, frees)
            }
            Relief::Go => (self.expected_start(&worker.facts.server), worker.memory),
        };
        let cost = self.cost_of_losing(now, worker, takes);
        Some(Candidate {
            worker: id,
            relief,
            frees,
            cost: cost / frees.max(1) as f64,
        })
    }

    /// Seconds that someone is expected to wait for it.
    pub(super) fn cost_of_losing(
        &self,
        now: Instant,
        worker: &WorkerRecord,
        takes: Duration,
    ) -> f64 {
        if worker.facts.is_spare {
            return 0.0;
        }
        let idle = worker
            .idle_since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        takes.as_secs_f64() / (idle.as_secs_f64() + 1.0)
    }
}
