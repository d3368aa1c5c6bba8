//! The life of workers: start, ready, release, retire, stop, gone; and the timers.

use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxHashMap;

use super::circuit::FailedStart;
use super::circuit_change::CircuitTransition;
use super::event::{Action, StopReason};
use super::footprint::Sleep;
use super::limits::{KeyFacts, PoolLimits};
use super::lineage_wait::LineageWait;
use super::refusal::Refusal;
use super::start_failure::StartFailure;
use super::state::{Phase, Policy, Timer, WorkerRecord};
use crate::ids::{PoolKey, WorkerId};

impl Policy {
    pub(super) fn start(&mut self, now: Instant, key: PoolKey, out: &mut Vec<Action>) {
        let Some(record) = self.keys.get_mut(&key) else {
            return;
        };
        let id = WorkerId(self.next_worker);
        self.next_worker += 1;
        record.workers.push(id);
        record.alive += 1;
        record.evicting = None;
        let facts = Arc::clone(&record.facts);
        let lineage = record.lineage;
        let memory = self.expected_memory(&facts.server);
        self.memory.total = self.memory.total.saturating_add(memory);
        self.lineages.entry(lineage).or_default().push(id);
        if let Some(siblings) = facts.siblings {
            self.siblings.entry(siblings).or_default().push(id);
        }
        self.tenant(&facts).alive += 1;
        let server = self.servers.entry(facts.server.clone()).or_default();
        server.alive += 1;
        server.circuit.started(&facts.tenant, id);
        self.starting.insert(id);
        let counts_until = Self::after(now, self.limits.start_counts_for);
        self.arm(counts_until, Timer::Overdue(id));
        self.workers.insert(
            id,
            WorkerRecord {
                key,
                facts,
                phase: Phase::Starting,
                is_adopted: false,
                in_flight: 0,
                owner: None,
                lineage,
                of_sessions: FxHashMap::default(),
                pins: 0,
                granted: 0,
                started: now,
                ready: None,
                idle_since: None,
                retiring: None,
                drains_until: None,
                is_cut_short: false,
                makes_room_for: None,
                served: false,
                sleep: Sleep::Awake,
                memory,
                awake_memory: memory,
                is_measured: false,
                is_page_out_unsupported: false,
                sleep_timer: None,
                page_out: None,
                idle_rank: None,
                idle_timer: None,
                counts_until: Some(counts_until),
            },
        );
        out.push(Action::Start(id, key));
        self.shed_excess(now, Some(id), out);
    }

    pub(super) fn ready(&mut self, now: Instant, id: WorkerId, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if worker.phase != Phase::Starting {
            return;
        }
        worker.phase = Phase::Ready;
        worker.ready = Some(now);
        let (key, facts) = (worker.key, Arc::clone(&worker.facts));
        let took = now.saturating_duration_since(worker.started);
        if !worker.is_adopted {
            self.no_longer_starts(id);
            self.note_start_took(&facts.server, took);
        }
        self.close_circuit(&facts.server, out);
        self.arm(Self::after(now, facts.max_lifetime), Timer::Lifetime(id));
        self.grant_waiting(now, key, out);
        self.replace_rivals_of(now, id, LineageWait::Over, out);
        self.becomes_idle(now, id, out);
        self.schedule(now, out);
    }

    pub(super) fn release(
        &mut self,
        now: Instant,
        id: WorkerId,
        session: u64,
        served: bool,
        out: &mut Vec<Action>,
    ) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        debug_assert!(worker.in_flight > 0, "a slot was given back twice");
        worker.in_flight = worker.in_flight.saturating_sub(1);
        if let Some(of_session) = worker.of_sessions.get_mut(&session) {
            *of_session -= 1;
            if *of_session == 0 {
                worker.of_sessions.remove(&session);
            }
        }
        let key = worker.key;
        if worker.in_flight == 0 {
            worker.owner = None;
        }
        if served && !worker.served {
            worker.served = true;
            self.forgive(key, CircuitTransition::Closes, out);
        }
        self.grant_waiting(now, key, out);
        let is_idle = self
            .workers
            .get(&id)
            .is_some_and(|worker| worker.in_flight == 0);
        if is_idle {
            self.becomes_idle(now, id, out);
            self.schedule(now, out);
        }
    }

    pub(super) fn exited(
        &mut self,
        now: Instant,
        id: WorkerId,
        asked: bool,
        out: &mut Vec<Action>,
    ) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        let (key, facts) = (worker.key, Arc::clone(&worker.facts));
        // By itself, soon, and without having been of use: the next one will hardly do better.
        let is_early_crash = !asked
            && !worker.served
            && matches!(worker.retiring, None | Some(StopReason::Invalidated))
            && worker
                .ready
                .is_none_or(|at| now - at < self.limits.crash_loop_within);
        let stopped = worker.retiring;
        self.take_worker(id);
        if is_early_crash {
            let crashed = FailedStart {
                tenant: &facts.tenant,
                key,
                worker: id,
            };
            // Tickets that have come since the worker was out of use wait for the next one, which could not start before.
            let is_told_now = stopped.is_none();
            self.crashed_early(now, crashed, &facts, is_told_now, out);
        }
        if let Some(record) = self.keys.get_mut(&key) {
            record.alive -= 1;
        }
        if let Some(tenant) = self.tenants.get_mut(&facts.tenant) {
            tenant.alive -= 1;
        }
        if let Some(server) = self.servers.get_mut(&facts.server) {
            server.alive -= 1;
            server.circuit.ended(id);
        }
        out.push(Action::Gone {
            worker: id,
            server: facts.server.clone(),
            stopped,
        });
        self.drop_key_if_unused(key, out);
        self.drop_tenant_if_unused(&facts.tenant);
        self.drop_server_if_unused(&facts.server);
        self.schedule(now, out);
    }

    /// Takes a worker that has ended out of every table but the counts of its key, tenant and server.
    fn take_worker(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        let lifetime = worker
            .ready
            .map(|at| Self::after(at, worker.facts.max_lifetime));
        let (idle_timer, sleep_timer) = (worker.idle_timer, worker.sleep_timer);
        self.mark_stopping(id, StopReason::Invalidated);
        self.stopping -= 1;
        if let Some(at) = lifetime {
            self.disarm(at, Timer::Lifetime(id));
        }
        if let Some(at) = idle_timer {
            self.disarm(at, Timer::Idle(id));
        }
        if let Some(at) = sleep_timer {
            self.disarm(at, Timer::Sleep(id));
        }
        self.charge(id, 0);
        self.leaves_lineage(id);
        self.leaves_siblings(id);
        self.memory.leaving.remove(&id);
        self.workers.remove(&id);
        self.yielding.remove(&id);
    }

    /// A worker has ended by itself, soon and without having been of use: held against its key, and against its server
    /// unless the caller has configured it. `is_told_now`: whoever waits for the key hears of it, if no other worker is there.
    fn crashed_early(
        &mut self,
        now: Instant,
        crashed: FailedStart<'_>,
        facts: &KeyFacts,
        is_told_now: bool,
        out: &mut Vec<Action>,
    ) {
        let key = crashed.key;
        let failure = StartFailure::CrashedEarly(facts.server.clone());
        self.note_failure(now, key, failure.clone(), out);
        if !facts.caller_configured {
            self.blame(now, facts, crashed, &failure, out);
        }
        let keys = &self.keys;
        if is_told_now && keys.get(&key).is_some_and(|it| it.workers.is_empty()) {
            let refusal = Refusal::StartFailed {
                failure,
                retry_in: None,
            };
            self.refuse_all_of(now, key, &refusal, out);
        }
    }

    /// The worker gets no new requests.
    pub(super) fn close_to_requests(&mut self, id: WorkerId, reason: StopReason) {
        self.no_longer_idle(id);
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        // An eviction can be called off; every other reason stands.
        if worker.retiring.is_none_or(StopReason::is_eviction) {
            worker.retiring = Some(reason);
        }
        let key = worker.key;
        if let Some(record) = self.keys.get_mut(&key) {
            record.workers.retain(|other| *other != id);
        }
    }

    /// Notes that the worker is on its way out, whatever it was before.
    pub(super) fn mark_stopping(&mut self, id: WorkerId, reason: StopReason) {
        self.close_to_requests(id, reason);
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut worker.phase, Phase::Stopping);
        if before == Phase::Stopping {
            return;
        }
        self.no_longer_drains(id);
        if before == Phase::Starting {
            self.no_longer_starts(id);
        }
        self.memory.leaving.insert(id);
        self.stopping += 1;
    }

    /// The worker is started, or will not be, or takes longer than a start counts.
    pub(super) fn no_longer_starts(&mut self, id: WorkerId) {
        let counts_until = self
            .workers
            .get_mut(&id)
            .and_then(|w| w.counts_until.take());
        if let Some(at) = counts_until {
            self.starting.remove(&id);
            self.disarm(at, Timer::Overdue(id));
        }
    }

    pub(super) fn stop(&mut self, id: WorkerId, reason: StopReason, out: &mut Vec<Action>) {
        let is_stopping = self
            .workers
            .get(&id)
            .is_none_or(|w| w.phase == Phase::Stopping);
        if !is_stopping {
            self.mark_stopping(id, reason);
            out.push(Action::Stop(id, reason));
        }
    }

    /// Closes the worker to requests and stops it when it is idle; at once if it never served.
    pub(super) fn retire(
        &mut self,
        now: Instant,
        id: WorkerId,
        reason: StopReason,
        out: &mut Vec<Action>,
    ) {
        match self.workers.get(&id).map(|worker| worker.phase) {
            Some(Phase::Starting) => {
                self.stop(id, reason, out);
                if reason == StopReason::Config {
                    self.send_elsewhere(now, id, out);
                }
            }
            Some(Phase::Ready) => {
                self.close_to_requests(id, reason);
                self.drains(now, id);
                self.becomes_idle(now, id, out);
            }
            Some(Phase::Stopping) | None => {}
        }
    }

    pub(super) fn retire_key(
        &mut self,
        now: Instant,
        key: PoolKey,
        reason: StopReason,
        out: &mut Vec<Action>,
    ) {
        let workers = self.keys.get(&key).map(|record| record.workers.clone());
        for id in workers.into_iter().flatten() {
            self.retire(now, id, reason, out);
        }
        self.schedule(now, out);
    }

    pub(super) fn pin(&mut self, now: Instant, id: WorkerId, out: &mut Vec<Action>) {
        self.no_longer_idle(id);
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.pins += 1;
        }
        self.reopen_if_yielding(now, id, out);
    }

    /// A pinned worker is not evicted: one that was closed to requests so that it could be
    /// serves again, and whoever waited for its capacity looks for another.
    pub(super) fn reopen_if_yielding(&mut self, now: Instant, id: WorkerId, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let is_yielding = worker.retiring.is_some_and(StopReason::is_eviction);
        if worker.phase != Phase::Ready || !is_yielding {
            return;
        }
        worker.retiring = None;
        worker.makes_room_for = None;
        let key = worker.key;
        self.no_longer_drains(id);
        self.yielding.remove(&id);
        for record in self.keys.values_mut() {
            if record.evicting == Some(id) {
                record.evicting = None;
            }
        }
        if let Some(record) = self.keys.get_mut(&key) {
            record.workers.push(id);
        }
        self.grant_waiting(now, key, out);
        self.schedule(now, out);
    }

    pub(super) fn unpin(&mut self, now: Instant, id: WorkerId, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.pins = worker.pins.saturating_sub(1);
        if worker.pins == 0 && worker.in_flight == 0 && worker.idle_rank.is_none() {
            worker.idle_since = Some(now);
            self.becomes_idle(now, id, out);
            self.schedule(now, out);
        }
    }

    pub(super) fn reconfigure(&mut self, now: Instant, limits: PoolLimits, out: &mut Vec<Action>) {
        self.limits = limits;
        while self.workers.len() - self.stopping > self.limits.max_workers
            && let Some(id) = self.least_missed(now)
        {
            self.stop(id, StopReason::Evicted, out);
        }
        let idle: Vec<_> = self.idle.iter().map(|(id, ())| *id).collect();
        for id in idle {
            self.arm_sleep(now, id);
        }
        self.shed_excess(now, None, out);
        self.schedule(now, out);
    }

    pub(super) fn drain(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.draining = true;
        let tickets: Vec<_> = self.tickets.keys().copied().collect();
        for ticket in tickets {
            self.refuse(now, ticket, Refusal::Draining, out);
        }
        let workers: Vec<_> = self.workers.keys().copied().collect();
        for id in workers {
            self.retire(now, id, StopReason::Drained, out);
        }
    }

    pub(super) fn stop_all(&mut self, now: Instant, reason: StopReason, out: &mut Vec<Action>) {
        self.drain(now, out);
        let workers: Vec<_> = self.workers.keys().copied().collect();
        for id in workers {
            self.stop(id, reason, out);
        }
    }

    /// Whatever is due.
    pub(super) fn run_timers(&mut self, now: Instant, out: &mut Vec<Action>) {
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, timer)) = self.timers.pop_first() else {
                return;
            };
            match timer {
                Timer::Ticket(id) => self.expire(now, id, out),
                Timer::Yield(id) => self.yield_timer(now, id, out),
                Timer::Overdue(id) => self.no_longer_starts(id),
                Timer::Drained(id) => self.drained_timer(now, id, out),
                Timer::Idle(id) => self.idle_timer(now, id, out),
                Timer::Sleep(id) => self.sleep_timer(now, id, out),
                Timer::Lifetime(id) => self.retire(now, id, StopReason::Lifetime, out),
                Timer::Backoff(_) | Timer::Circuit(_) => {}
                Timer::ForgetKey(key) => self.forget_key_timer(now, key, out),
                Timer::ForgetServer(server) => self.forget_server_timer(now, &server, out),
            }
            self.schedule(now, out);
        }
    }
}
