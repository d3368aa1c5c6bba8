//! Idle workers: in which order they go, and what is done when none is idle.

use std::time::Instant;

use super::event::{Action, StopReason, TicketId};
use super::footprint::Sleep;
use super::limits::LOOK_AT;
use super::lineage_wait::LineageWait;
use super::schedule::Need;
use super::state::{Phase, Policy, Timer, WorkerRecord};
use crate::ids::{PoolKey, TenantId, WorkerId};

impl Policy {
    /// The idle worker that is missed least, of the least recently used: one of a tenant over its
    /// weighted share before others, then the one whose next start costs least, weighed with how
    /// likely it is to be needed.
    pub(super) fn least_missed(&self, now: Instant) -> Option<WorkerId> {
        let oldest = self.idle.iter().rev().map(|(id, ())| *id).take(LOOK_AT);
        oldest
            .filter_map(|id| Some((id, self.workers.get(&id)?)))
            .map(|(id, worker)| {
                let is_within_share = !self.is_over_share(&worker.facts.tenant);
                let takes = self.expected_start(&worker.facts.server);
                (is_within_share, self.cost_of_losing(now, worker, takes), id)
            })
            // Of equals the first, which is the one used longest ago.
            .min_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)))
            .map(|(_, _, id)| id)
    }

    /// Whether the tenant has more workers than its weight entitles it to among those who have or
    /// want any.
    fn is_over_share(&self, id: &TenantId) -> bool {
        self.tenants.get(id).is_some_and(|tenant| {
            let entitled = self.limits.max_workers as u64 * u64::from(tenant.weight);
            tenant.alive as u64 * self.total_weight > entitled
        })
    }

    /// A worker with nothing in flight joins the idle, if it may be stopped at all.
    pub(super) fn becomes_idle(&mut self, now: Instant, id: WorkerId, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if worker.phase != Phase::Ready || worker.in_flight > 0 || worker.idle_rank.is_some() {
            return;
        }
        worker.owner = None;
        worker.idle_since.get_or_insert(now);
        if let Some(reason) = worker.retiring {
            self.stop(id, reason, out);
            return;
        }
        if self.draining {
            self.stop(id, StopReason::Drained, out);
            return;
        }
        self.arm_sleep(now, id);
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if worker.pins > 0 {
            return;
        }
        let rank = self.next_rank;
        self.next_rank += 1;
        worker.idle_rank = Some(rank);
        let can_sleep = worker.sleep == Sleep::Awake && !worker.is_page_out_unsupported;
        let facts = std::sync::Arc::clone(&worker.facts);
        if worker.idle_timer.is_none() {
            let at = Self::after(now, facts.idle_timeout);
            worker.idle_timer = Some(at);
            self.arm(at, Timer::Idle(id));
        }
        self.idle.push(id, ());
        if can_sleep {
            self.memory.sleepable.push(id, ());
        }
        if let Some(tenant) = self.tenants.get_mut(&facts.tenant) {
            tenant.idle.insert((rank, id));
        }
        if let Some(server) = self.servers.get_mut(&facts.server) {
            server.idle.insert((rank, id));
        }
        if self.workers.len() - self.stopping > self.limits.max_workers {
            self.stop(id, StopReason::Evicted, out);
        }
        self.replace_rivals_of(now, id, LineageWait::Begun, out);
    }

    /// The worker is no longer among the idle.
    pub(super) fn no_longer_idle(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let Some(rank) = worker.idle_rank.take() else {
            return;
        };
        self.idle.pop(&id);
        self.memory.sleepable.pop(&id);
        if let Some(tenant) = self.tenants.get_mut(&worker.facts.tenant) {
            tenant.idle.remove(&(rank, id));
        }
        if let Some(server) = self.servers.get_mut(&worker.facts.server) {
            server.idle.remove(&(rank, id));
        }
    }

    /// The idle timer rang, which is set once per idle worker, not per request: if the worker was
    /// used meanwhile, it is set again for the rest.
    pub(super) fn idle_timer(&mut self, now: Instant, id: WorkerId, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.idle_timer = None;
        if worker.idle_rank.is_none() {
            return;
        }
        let Some(since) = worker.idle_since else {
            return;
        };
        let due = Self::after(since, worker.facts.idle_timeout);
        if due <= now {
            self.stop(id, StopReason::Idle, out);
        } else {
            worker.idle_timer = Some(due);
            self.arm(due, Timer::Idle(id));
        }
    }

    /// A ticket has waited for [`super::PoolLimits::yield_after`]. If what it lacks is capacity and
    /// nobody is idle, a busy worker is closed to new requests, so that it will be.
    pub(super) fn yield_timer(&mut self, now: Instant, id: TicketId, out: &mut Vec<Action>) {
        let Some(ticket) = self.tickets.get(&id) else {
            return;
        };
        let (key, deadline) = (ticket.key, ticket.deadline);
        if self.need(now, key) == Need::Capacity
            && let Some((victim, reason)) = self.who_should_yield(now, key)
        {
            self.yields(victim, key);
            self.close_to_requests(victim, reason);
            self.drains(now, victim);
            self.becomes_idle(now, victim, out);
        }
        self.replace_rivals(now, key, LineageWait::Over, out);
        let again = Self::after(now, self.limits.yield_after);
        if again < deadline {
            self.arm(again, Timer::Yield(id));
            if let Some(ticket) = self.tickets.get_mut(&id) {
                // The timer's place in the table is found again from here.
                ticket.yields_at = again;
            }
        }
    }

    /// Whether the worker has served for as long as a ticket waits before others yield to it, and
    /// no shorter than its start took: else a pool that everybody wants would start more than serve.
    fn has_served_long_enough(&self, now: Instant, worker: &WorkerRecord) -> bool {
        worker.ready.is_some_and(|ready| {
            let start_took = ready.saturating_duration_since(worker.started);
            let least = self.limits.yield_after.max(start_took);
            now.saturating_duration_since(ready) >= least
        })
    }

    /// The busy worker whose tenant holds most for its weight, the longest running of those; none
    /// of a tenant that holds less than the one who waits would after it.
    fn who_should_yield(&self, now: Instant, key: PoolKey) -> Option<(WorkerId, StopReason)> {
        let facts = &self.keys.get(&key)?.facts;
        let own = self.tenants.get(&facts.tenant);
        let own_is_full = own.is_some_and(|t| t.alive >= facts.tenant_max_workers);
        let of_server = self.servers.get(&facts.server);
        let server_is_full = facts.server_max_workers > 0
            && of_server.is_some_and(|s| s.alive >= facts.server_max_workers);
        let share = |alive: usize, weight: u32| alive as u64 * 1000 / u64::from(weight.max(1));
        let wanted = share(own.map_or(0, |t| t.alive) + 1, facts.tenant_weight);
        self.workers
            .iter()
            .filter(|(id, worker)| {
                worker.phase == Phase::Ready
                    && worker.pins == 0
                    && self.has_served_long_enough(now, worker)
                    && worker.retiring.is_none()
                    && worker.key != key
                    && !self.yielding.contains_key(id)
                    && (!own_is_full || worker.facts.tenant == facts.tenant)
                    && (!server_is_full || worker.facts.server == facts.server)
            })
            .filter_map(|(id, worker)| {
                let tenant = self.tenants.get(&worker.facts.tenant)?;
                let holds = share(tenant.alive, tenant.weight);
                let is_own = worker.facts.tenant == facts.tenant;
                (is_own || holds >= wanted).then_some((holds, std::cmp::Reverse(*id)))
            })
            .max()
            .map(|(_, std::cmp::Reverse(id))| {
                let reason = match (own_is_full, server_is_full) {
                    (true, _) => StopReason::EvictedOfTenant,
                    (false, true) => StopReason::EvictedOfServer,
                    (false, false) if self.workers.len() < self.limits.max_workers => {
                        StopReason::EvictedForMemory
                    }
                    (false, false) => StopReason::Evicted,
                };
                (id, reason)
            })
    }
}
