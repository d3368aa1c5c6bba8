//! The choice of the key that gets the next worker, and of the worker that is evicted for it: weighted round-robin over tenants, round-robin over the keys of each.

use std::time::Instant;

use super::event::{Action, StopReason};
use super::start_permits::StartPermits;
use super::state::{Phase, Policy};
use crate::ids::{PoolKey, ServerName, WorkerId};

/// The need of a key before it can have another worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Need {
    /// Nothing: start one.
    Start,
    /// A slot under a limit of workers; this idle worker can free one.
    Evict(WorkerId, StopReason),
    /// So many bytes of memory; idle workers can shed some.
    Memory(u64),
    /// Capacity, and no worker that could free some is idle.
    Capacity,
    /// No worker, or something other than capacity is missing.
    Nothing,
}

impl Policy {
    /// Uses what capacity there is for those who wait.
    pub(super) fn schedule(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.draining {
            return;
        }
        while !self.ring.is_empty()
            && let Some(permits) = self.start_permits(now)
        {
            let Some((key, need)) = self.next_startable(now, &permits) else {
                return;
            };
            self.adopt_for(now, key, out);
            if self.need(now, key) != need {
                continue;
            }
            match need {
                Need::Start => self.start(now, key, out),
                Need::Evict(victim, reason) => {
                    self.yields(victim, key);
                    self.stop(victim, reason, out);
                }
                Need::Memory(bytes) => {
                    let tenant = self.keys.get(&key).map(|it| it.facts.tenant.clone());
                    self.shed(now, bytes, tenant.as_ref(), out);
                }
                Need::Capacity | Need::Nothing => return,
            }
        }
    }

    /// Notes that a worker goes so that the key can have another.
    pub(super) fn yields(&mut self, victim: WorkerId, key: PoolKey) {
        if let Some(record) = self.keys.get_mut(&key) {
            record.evicting = Some(victim);
            let tenant = record.facts.tenant.clone();
            if let Some(worker) = self.workers.get_mut(&victim) {
                worker.makes_room_for = Some(tenant.clone());
            }
            self.yielding.insert(victim, tenant);
        }
    }

    /// The next key that can be helped. A start takes one of its tenant's quantum, which is the tenant's weight
    /// at the beginning of its part of a round.
    fn next_startable(&mut self, now: Instant, permits: &StartPermits) -> Option<(PoolKey, Need)> {
        for _ in 0..self.ring.len() {
            let id = self.ring.front()?.clone();
            if !permits.are_for(&id) {
                self.ring.rotate_left(1);
                continue;
            }
            let waiting_keys = self
                .tenants
                .get(&id)
                .map_or(0, |tenant| tenant.waiting_keys.len());
            for _ in 0..waiting_keys {
                let key = *self.tenants.get(&id)?.waiting_keys.front()?;
                let need = self.need(now, key);
                let tenant = self.tenants.get_mut(&id)?;
                tenant.waiting_keys.rotate_left(1);
                if matches!(need, Need::Start | Need::Evict(..) | Need::Memory(_)) {
                    if tenant.quantum == 0 {
                        tenant.quantum = tenant.weight;
                    }
                    if need == Need::Start {
                        tenant.quantum -= 1;
                    }
                    if tenant.quantum == 0 {
                        self.ring.rotate_left(1);
                    }
                    return Some((key, need));
                }
            }
            // Nothing can be done for the tenant now; what is left of its quantum is not saved up.
            self.tenants.get_mut(&id)?.quantum = 0;
            self.ring.rotate_left(1);
        }
        None
    }

    /// What the key needs so that its waiting tickets can be served.
    pub(super) fn need(&self, now: Instant, key: PoolKey) -> Need {
        let Some(record) = self.keys.get(&key) else {
            return Need::Nothing;
        };
        let facts = &record.facts;
        let starting = record
            .workers
            .iter()
            .filter(|id| {
                self.workers
                    .get(id)
                    .is_some_and(|w| w.phase == Phase::Starting)
            })
            .count();
        let per_worker = if facts.exclusive {
            1
        } else {
            facts.max_in_flight
        };
        let is_covered = starting.saturating_mul(per_worker) >= record.waiting.len();
        if is_covered
            // Processes of others that are still there may hold what a successor needs.
            || self.is_lineage_full(record)
            || record.blocked_until.is_some_and(|until| now < until)
            || !self.circuit_lets_through(now, facts)
            || record
                .evicting
                .is_some_and(|victim| self.workers.contains_key(&victim))
        {
            return Need::Nothing;
        }
        let of_tenant = self.tenants.get(&facts.tenant);
        let of_server = self.servers.get(&facts.server);
        // The narrowest limit first: only one of its own workers can go for it.
        let (victim, reason) = if of_tenant.is_some_and(|t| t.alive >= facts.tenant_max_workers) {
            let oldest = of_tenant.and_then(|t| t.idle.first());
            (oldest.map(|(_, id)| *id), StopReason::EvictedOfTenant)
        } else if facts.server_max_workers > 0
            && of_server.is_some_and(|s| s.alive >= facts.server_max_workers)
        {
            let oldest = of_server.and_then(|s| s.idle.first());
            (oldest.map(|(_, id)| *id), StopReason::EvictedOfServer)
        } else if self.workers.len() >= self.limits.max_workers {
            (self.least_missed(now), StopReason::Evicted)
        } else {
            return self.need_of_memory(now, &facts.server);
        };
        victim.map_or(Need::Capacity, |victim| Need::Evict(victim, reason))
    }

    fn need_of_memory(&self, now: Instant, server: &ServerName) -> Need {
        let wanted = self.expected_memory(server);
        if self.has_room(wanted) {
            return Need::Start;
        }
        match self.missing(wanted) {
            // Enough is on its way out.
            0 => Need::Nothing,
            missing if self.can_shed(now) => Need::Memory(missing),
            _ => Need::Capacity,
        }
    }
}
