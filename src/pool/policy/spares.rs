//! Spares: workers that are ready before anyone asks, of servers whose launch is one for
//! every tenant.
//!
//! A spare is a worker of a key that nobody wants, of a tenant that nobody is. A spare is started only
//! where no ticket needs its slot and nothing has to go for it, and is the first to go when a slot or
//! memory is needed. When a key that it fits wants a worker, the spare becomes that worker: it
//! counts against other tenants' limits no longer, but against the one's it now belongs to, and it
//! is told what a worker is told first. An adoption costs a message, not a start.
//!
//! ```text
//!  (nothing) --restock--> Starting --Ready--> Ready, of the spare key
//!                                                | adopt
//!                                                v
//!                                             Starting, of the wanted key --Ready--> Ready
//! ```

use std::sync::Arc;
use std::time::Instant;

use super::event::Action;
use super::footprint::Sleep;
use super::limits::KeyFacts;
use super::schedule::Need;
use super::state::{KeyRecord, Phase, Policy, Timer};
use super::stock::Stock;
use crate::ids::{PoolKey, WorkerId};

impl Policy {
    /// Other spares are wanted from now on.
    pub(super) fn stock(&mut self, now: Instant, stock: Vec<Stock>, out: &mut Vec<Action>) {
        let old = std::mem::replace(&mut self.stock, stock);
        for Stock { key, facts } in old {
            let wanted = self.stock.iter().find(|stock| stock.key == key);
            let wanted = wanted.map_or(0, |stock| stock.facts.max_workers_per_key);
            let workers = self.keys.get(&key).map(|record| record.workers.clone());
            for id in workers.into_iter().flatten().skip(wanted) {
                self.retire(now, id, super::StopReason::Config, out);
            }
            debug_assert!(facts.is_spare, "these are spares");
        }
    }

    /// Starts spares that are missing, if no waiting ticket could use their capacity.
    pub(super) fn restock(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.stock.is_empty() || self.draining {
            return;
        }
        for at in 0..self.stock.len() {
            let Stock { key, facts } = self.stock[at].clone();
            while self.has_capacity_for(now, key, &facts) && !self.is_capacity_wanted(now) {
                self.keys
                    .entry(key)
                    .or_insert_with(|| KeyRecord::new(key, &facts));
                self.start(now, key, out);
            }
        }
    }

    /// Whether a waiting ticket needs what a start would take. A ticket that waits for a start under way,
    /// or for a back-off to pass, does not.
    fn is_capacity_wanted(&self, now: Instant) -> bool {
        let tenants = self.ring.iter().filter_map(|id| self.tenants.get(id));
        let mut keys = tenants.flat_map(|tenant| &tenant.waiting_keys);
        keys.any(|key| self.need(now, *key) != Need::Nothing)
    }

    fn has_capacity_for(&self, now: Instant, key: PoolKey, facts: &KeyFacts) -> bool {
        let record = self.keys.get(&key);
        let lineage = record.map_or_else(
            || facts.lineage.unwrap_or_else(|| key.into()),
            |record| record.lineage,
        );
        let is_missing = self.count_of_lineage(lineage) < facts.max_workers_per_key;
        let is_blocked = record
            .and_then(|record| record.blocked_until)
            .is_some_and(|until| now < until);
        let of_server = self.servers.get(&facts.server).map_or(0, |s| s.alive);
        let server_has_room = facts.server_max_workers == 0 || of_server < facts.server_max_workers;
        is_missing
            && !is_blocked
            && server_has_room
            && self.start_permits_taken() < self.limits.max_starting
            && self.workers.len() < self.limits.max_workers
            && self.circuit_lets_through(now, facts)
            && self.has_room_beside_reserve(self.expected_memory(&facts.server))
    }

    /// The spare that the key's next worker can be made of, an awake one first.
    fn spare_for(&self, key: PoolKey) -> Option<WorkerId> {
        let spares = self.keys.get(&key)?.facts.spare?;
        let ids = self.keys.get(&spares)?.workers.iter();
        let ready = ids.filter(|id| {
            self.workers
                .get(id)
                .is_some_and(|w| w.phase == Phase::Ready)
        });
        ready
            .min_by_key(|id| (self.workers[*id].sleep != Sleep::Awake, **id))
            .copied()
    }

    /// Gives the key as many spares as it needs workers, whatever else is full: the number of
    /// processes does not change. Only the limit of the key's own tenant can prevent it.
    pub(super) fn adopt_for(&mut self, now: Instant, key: PoolKey, out: &mut Vec<Action>) {
        while let Some(spare) = self.spare_for(key)
            && self.could_adopt(now, key)
        {
            self.adopt(now, spare, key, out);
        }
    }

    fn could_adopt(&self, now: Instant, key: PoolKey) -> bool {
        let Some(record) = self.keys.get(&key) else {
            return false;
        };
        let of_tenant = self.tenants.get(&record.facts.tenant);
        let tenant_has_room = of_tenant.is_none_or(|t| t.alive < record.facts.tenant_max_workers);
        tenant_has_room && self.need(now, key) != Need::Nothing
    }

    fn adopt(&mut self, now: Instant, id: WorkerId, key: PoolKey, out: &mut Vec<Action>) {
        self.no_longer_idle(id);
        self.wakes(now, id, out);
        let Some(facts) = self.keys.get(&key).map(|record| Arc::clone(&record.facts)) else {
            return;
        };
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let old = (worker.key, Arc::clone(&worker.facts));
        let idle_timer = worker.idle_timer.take();
        let ready = worker.ready.take();
        worker.key = key;
        worker.facts = Arc::clone(&facts);
        worker.phase = Phase::Starting;
        worker.is_adopted = true;
        worker.started = now;
        worker.idle_since = None;
        if let Some(at) = idle_timer {
            self.disarm(at, Timer::Idle(id));
        }
        if let Some(at) = ready {
            self.disarm(Self::after(at, old.1.max_lifetime), Timer::Lifetime(id));
        }
        if let Some(record) = self.keys.get_mut(&old.0) {
            record.workers.retain(|other| *other != id);
            record.alive -= 1;
        }
        if let Some(tenant) = self.tenants.get_mut(&old.1.tenant) {
            tenant.alive -= 1;
        }
        if let Some(record) = self.keys.get_mut(&key) {
            record.workers.push(id);
            record.alive += 1;
            record.evicting = None;
            let lineage = record.lineage;
            self.joins_lineage(id, lineage);
        }
        if let Some(siblings) = facts.siblings {
            self.siblings.entry(siblings).or_default().push(id);
        }
        self.tenant(&facts).alive += 1;
        out.push(Action::Adopt(id, key));
        self.drop_key_if_unused(old.0, out);
        self.drop_tenant_if_unused(&old.1.tenant);
    }
}
