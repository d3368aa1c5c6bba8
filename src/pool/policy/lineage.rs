//! Lineages: a key, and the keys that follow it when its processes are started otherwise.
//!
//! A reload, a secret that was read again, a token or another way to speak to a server make another key of
//! a key. A server may hold what only one of its processes can have, such as a lock on a file. So all workers of
//! a lineage count together against [`KeyFacts::max_workers_per_key`](super::KeyFacts::max_workers_per_key), whichever key they were
//! started for, until nothing of them is left: those that are being stopped, those that crashed, and those that take
//! no new requests and are busy with the ones they have.
//!
//! Clients that declare something else have another key with another lineage: its siblings. Of a server that can be there
//! once only (`one_of_siblings`), they follow each other like the keys of one lineage.
//!
//! Nobody waits for long because of that. While a ticket waits and its lineage is full:
//!
//! ```text
//!  a worker of another key     nobody waits for it: retired at once
//!                              others do: retired once the ticket has waited for yield_after
//!  one that is retired, busy   has drain_timeout for its requests, then it is stopped;
//!                              retired to make room for others: takes requests again
//!  one that is being stopped   is gone within the stop sequence's time
//! ```

use std::time::Instant;

use smallvec::SmallVec;

use super::event::{Action, StopReason};
use super::limits::KeyFacts;
use super::lineage_wait::LineageWait;
use super::refusal::{Predecessor, Refusal};
use super::state::{KeyRecord, Phase, Policy, Timer, WorkerRecord};
use crate::ids::{Lineage, PoolKey, WorkerId};

impl Policy {
    /// How many workers of the lineage are not gone.
    pub(super) fn count_of_lineage(&self, lineage: Lineage) -> usize {
        self.lineages
            .get(&lineage)
            .map_or(0, |workers| workers.len())
    }

    /// Whether the key's lineage has as many workers as there may be side by side.
    pub(super) fn is_lineage_full(&self, record: &KeyRecord) -> bool {
        self.count_of_lineage(record.lineage) >= record.facts.max_workers_per_key
            || exclusive_siblings(&record.facts).is_some_and(|it| self.siblings.contains_key(&it))
    }

    /// The workers beside which the key has none: those of its lineage, and its siblings' if only one may be there.
    fn rivals(&self, record: &KeyRecord) -> SmallVec<[WorkerId; 2]> {
        let mut rivals = self.lineages.get(&record.lineage).cloned();
        let siblings = exclusive_siblings(&record.facts).and_then(|it| self.siblings.get(&it));
        for id in siblings.into_iter().flatten() {
            let rivals = rivals.get_or_insert_default();
            if !rivals.contains(id) {
                rivals.push(*id);
            }
        }
        rivals.unwrap_or_default()
    }

    /// Nothing of the worker is left.
    pub(super) fn leaves_siblings(&mut self, id: WorkerId) {
        let siblings = self.workers.get(&id).and_then(|it| it.facts.siblings);
        if let Some(siblings) = siblings
            && let Some(workers) = self.siblings.get_mut(&siblings)
        {
            workers.retain(|other| *other != id);
            if workers.is_empty() {
                self.siblings.remove(&siblings);
            }
        }
    }

    /// The worker counts there, and no longer where it did.
    pub(super) fn joins_lineage(&mut self, id: WorkerId, lineage: Lineage) {
        self.leaves_lineage(id);
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.lineage = lineage;
            self.lineages.entry(lineage).or_default().push(id);
        }
    }

    /// Nothing of the worker is left, or it counts elsewhere.
    pub(super) fn leaves_lineage(&mut self, id: WorkerId) {
        let Some(lineage) = self.workers.get(&id).map(|worker| worker.lineage) else {
            return;
        };
        if let Some(workers) = self.lineages.get_mut(&lineage) {
            workers.retain(|other| *other != id);
            if workers.is_empty() {
                self.lineages.remove(&lineage);
            }
        }
    }

    /// A worker was declined: the next of the key that is tried instead starts after it.
    pub(super) fn gives_way(&mut self, id: WorkerId) {
        let worker = self.workers.get(&id);
        let worker = worker.filter(|worker| worker.phase == Phase::Starting);
        if let Some(lineage) = worker.and_then(|worker| worker.facts.lineage_if_declined) {
            self.joins_lineage(id, lineage);
        }
    }

    /// The worker was closed to new requests: if it is busy, its time to end them begins.
    pub(super) fn drains(&mut self, now: Instant, id: WorkerId) {
        let until = Self::after(now, self.limits.drain_timeout);
        if let Some(worker) = self.workers.get_mut(&id)
            && worker.phase == Phase::Ready
            && worker.retiring.is_some()
            && worker.in_flight > 0
            && worker.drains_until.is_none()
        {
            worker.drains_until = Some(until);
            self.arm(until, Timer::Drained(id));
        }
    }

    /// The worker takes requests again, or is stopped.
    pub(super) fn no_longer_drains(&mut self, id: WorkerId) {
        let worker = self.workers.get_mut(&id);
        if let Some(until) = worker.and_then(|worker| worker.drains_until.take()) {
            self.disarm(until, Timer::Drained(id));
        }
    }

    /// A worker has had its time to end what it has in flight: whoever waits for its lineage waits no longer for
    /// that.
    pub(super) fn drained_timer(&mut self, now: Instant, id: WorkerId, out: &mut Vec<Action>) {
        for key in self.waiting_beside(id) {
            self.replace_rivals(now, key, LineageWait::Begun, out);
        }
    }

    /// Keys that are waited for and have no worker beside this one, its own included.
    fn waiting_beside(&self, id: WorkerId) -> SmallVec<[PoolKey; 2]> {
        let Some(worker) = self.workers.get(&id) else {
            return SmallVec::new();
        };
        let is_rival = |key: &&PoolKey| {
            self.keys.get(*key).is_some_and(|record| {
                let own = exclusive_siblings(&record.facts);
                record.lineage == worker.lineage || (own.is_some() && own == worker.facts.siblings)
            })
        };
        let tenant = self.tenants.get(&worker.facts.tenant).into_iter();
        let waiting = tenant.flat_map(|tenant| &tenant.waiting_keys);
        waiting.filter(is_rival).copied().collect()
    }

    /// A worker has become ready or idle while other keys waited, some since before it was there.
    pub(super) fn replace_rivals_of(
        &mut self,
        now: Instant,
        id: WorkerId,
        wait: LineageWait,
        out: &mut Vec<Action>,
    ) {
        for key in self.waiting_beside(id) {
            let first = self.keys.get(&key).and_then(|it| it.waiting.front());
            let first = first.and_then(|ticket| self.tickets.get(ticket));
            let is_over = first.is_some_and(|ticket| ticket.yields_at <= now);
            if wait == LineageWait::Begun || is_over {
                self.replace_rivals(now, key, wait, out);
            }
        }
    }

    /// Lets a worker of the key follow one of another key of its lineage, where that is full: see the [module](self).
    pub(super) fn replace_rivals(
        &mut self,
        now: Instant,
        key: PoolKey,
        wait: LineageWait,
        out: &mut Vec<Action>,
    ) {
        let Some(record) = self.keys.get(&key).filter(|it| self.is_kept_out(it)) else {
            return;
        };
        let lineage = record.lineage;
        // Workers of the ticket's own key first: one of them that takes requests again may serve all tickets of the key, and no other
        // key's requests are lost for that.
        let mut rivals = self.rivals(record);
        rivals.sort_by_key(|id| self.workers.get(id).is_none_or(|it| it.key != key));
        for id in rivals {
            if !self.keys.get(&key).is_some_and(|it| self.is_kept_out(it)) {
                return;
            }
            let Some(worker) = self.workers.get(&id) else {
                continue;
            };
            if worker.retiring.is_none() && worker.key != key {
                if self.may_go(worker, wait) {
                    let reason = if worker.lineage == lineage {
                        StopReason::Config
                    } else {
                        StopReason::Sibling
                    };
                    self.retire(now, id, reason, out);
                }
            } else if worker.drains_until.is_some_and(|until| until <= now) {
                self.cut_short(now, id, key, out);
            }
        }
    }

    /// Whether someone waits for a worker that the key may have as far as its own go, and its lineage is full.
    fn is_kept_out(&self, record: &KeyRecord) -> bool {
        !record.waiting.is_empty()
            && record.workers.len() < record.facts.max_workers_per_key
            && self.is_lineage_full(record)
    }

    /// Whether a worker of another key of the lineage is needed no more, or has been for long enough.
    fn may_go(&self, worker: &WorkerRecord, wait: LineageWait) -> bool {
        let record = self.keys.get(&worker.key);
        let is_wanted = record.is_some_and(|record| !record.waiting.is_empty());
        // One that starts serves at least those for whom it is started, or keys would end each other's starts.
        !is_wanted || (wait == LineageWait::Over && worker.phase == Phase::Ready)
    }

    /// Ends a worker that had its time, whatever it has in flight. One that was to make room for others and has
    /// not become idle takes requests again.
    fn cut_short(&mut self, now: Instant, id: WorkerId, key: PoolKey, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        match worker.retiring {
            Some(reason) if reason.is_eviction() && worker.key == key => {
                self.reopen_if_yielding(now, id, out);
            }
            Some(reason) => {
                worker.is_cut_short = true;
                let reason = if reason.is_eviction() {
                    StopReason::Config
                } else {
                    reason
                };
                self.stop(id, reason, out);
            }
            None => {}
        }
    }

    /// Nobody else is starting what the key's tickets wait for, and what it is started with has changed: those who
    /// wait look again where to go.
    pub(super) fn send_elsewhere(&mut self, now: Instant, id: WorkerId, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        let (key, server) = (worker.key, &worker.facts.server);
        let record = self.keys.get(&key);
        if record.is_none_or(|record| record.workers.is_empty()) {
            let server = server.clone();
            self.refuse_all_of(now, key, &Refusal::Changed { server }, out);
        }
    }

    /// What keeps a key from having a worker while its own are not all busy: those that its lineage still has.
    pub(super) fn why_lineage_is_full(&self, now: Instant, record: &KeyRecord) -> Option<Refusal> {
        if !self.is_lineage_full(record) {
            return None;
        }
        let ids = self.rivals(record).into_iter();
        let workers = ids.filter_map(|id| Some((id, self.workers.get(&id)?)));
        let (_, worker) = workers.min_by_key(|(id, worker)| (worker.phase == Phase::Ready, *id))?;
        let predecessor = match (worker.phase, worker.drains_until) {
            (Phase::Stopping, _) => Predecessor::Stopping,
            (Phase::Starting, _) => Predecessor::Starting,
            (Phase::Ready, None) => Predecessor::Serving,
            (Phase::Ready, Some(until)) => Predecessor::Draining {
                in_flight: worker.in_flight,
                left: until.saturating_duration_since(now),
            },
        };
        Some(Refusal::Follows {
            server: record.facts.server.clone(),
            predecessor,
            is_sibling: worker.lineage != record.lineage,
        })
    }
}

/// What stands for the key's siblings, if only one of them may be there.
fn exclusive_siblings(facts: &KeyFacts) -> Option<Lineage> {
    facts.siblings.filter(|_| facts.one_of_siblings)
}
