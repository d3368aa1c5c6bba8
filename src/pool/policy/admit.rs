//! Requests for slots: granted at once, queued, refused, withdrawn.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::event::{Action, Claim, TicketId};
use super::limits::KeyFacts;
use super::lineage_wait::LineageWait;
use super::refusal::Refusal;
use super::state::{KeyRecord, Phase, Policy, Ticket, Timer};
use crate::ids::{PoolKey, ServerName, TenantId, WorkerId};

/// The slot that a key's workers have for a claim.
enum Slot {
    /// A free slot.
    Of(WorkerId),
    /// Free slots, of which its session has its share already.
    OverShare,
    /// None that is free.
    None,
}

/// The ticket that has waited for longest.
#[derive(Clone, Debug)]
pub struct LongestWait {
    /// The tenant of the request.
    pub tenant: TenantId,
    /// The server of the request.
    pub server: ServerName,
    /// How long the request has waited.
    pub waited: Duration,
    /// What the request would be told if it were refused now: what stands in its way.
    pub why: Refusal,
}

/// A slot that somebody wants.
pub(super) struct Wanted {
    /// Names the want in its answer.
    pub(super) ticket: TicketId,
    pub(super) key: PoolKey,
    pub(super) facts: Arc<KeyFacts>,
    pub(super) claim: Claim,
}

impl Policy {
    pub(super) fn want(&mut self, now: Instant, wanted: &Wanted, out: &mut Vec<Action>) {
        let Wanted {
            ticket,
            key,
            ref facts,
            claim,
        } = *wanted;
        if self.draining {
            out.push(Action::Refuse(ticket, Refusal::Draining));
            return;
        }
        let record = self
            .keys
            .entry(key)
            .or_insert_with(|| KeyRecord::new(key, facts));
        if !Arc::ptr_eq(&record.facts, facts) {
            record.facts = Arc::clone(facts);
            // More may be allowed now than when the others came.
            self.grant_waiting(now, key, out);
        }
        // Tickets that wait were there first: a new ticket must not take the slot they are owed. Where
        // workers are shared, those that wait have been offered every free slot, and may have none.
        let is_first = !facts.exclusive || self.keys[&key].waiting.is_empty();
        if is_first && let Some(worker) = self.free_slot(key, claim) {
            self.grant(now, ticket, worker, claim, out);
            return;
        }
        if let Err(refusal) = self.may_wait(now, key, facts, out) {
            out.push(Action::Refuse(ticket, refusal));
            self.drop_key_if_unused(key, out);
            return;
        }
        self.enqueue(now, wanted);
        self.replace_rivals(now, key, LineageWait::Begun, out);
        self.adopt_for(now, key, out);
        self.schedule(now, out);
    }

    /// A ready worker of the key on which the owner may have a slot: the one it prefers, else the
    /// least loaded.
    pub(super) fn free_slot(&self, key: PoolKey, claim: Claim) -> Option<WorkerId> {
        match self.slot(key, claim) {
            Slot::Of(worker) => Some(worker),
            Slot::OverShare | Slot::None => None,
        }
    }

    fn slot(&self, key: PoolKey, claim: Claim) -> Slot {
        let Some(record) = self.keys.get(&key) else {
            return Slot::None;
        };
        let facts = &record.facts;
        let workers = record.workers.iter();
        let mut is_over_share = false;
        let found = workers
            .filter_map(|id| Some((*id, self.workers.get(id)?)))
            .filter(|(_, worker)| {
                worker.phase == Phase::Ready
                    && worker.retiring.is_none()
                    && worker.in_flight < facts.max_in_flight
                    && (!facts.exclusive || worker.owner.is_none_or(|o| o == claim.owner))
            })
            .filter(|(_, worker)| {
                let own = worker.of_sessions.get(&claim.session).copied();
                let has_share = !facts.exclusive && own.unwrap_or(0) >= facts.max_of_session;
                is_over_share |= has_share;
                !has_share
            })
            .min_by_key(|(id, worker)| (claim.prefers != Some(*id), worker.in_flight, *id));
        match found {
            Some((id, _)) => Slot::Of(id),
            None if is_over_share => Slot::OverShare,
            None => Slot::None,
        }
    }

    /// Takes a slot.
    pub(super) fn grant(
        &mut self,
        now: Instant,
        ticket: TicketId,
        id: WorkerId,
        claim: Claim,
        out: &mut Vec<Action>,
    ) {
        self.no_longer_idle(id);
        let has_slept = self.wakes(now, id, out);
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        self.grants.count(has_slept, worker.granted);
        worker.in_flight += 1;
        *worker.of_sessions.entry(claim.session).or_default() += 1;
        worker.granted += 1;
        worker.idle_since = None;
        worker.owner = worker.facts.exclusive.then_some(claim.owner);
        let facts = self
            .keys
            .get(&worker.key)
            .map(|record| Arc::clone(&record.facts));
        let max_requests = facts.map_or(0, |facts| facts.max_requests);
        if max_requests > 0 && worker.granted >= max_requests {
            self.close_to_requests(id, super::StopReason::Requests);
            self.drains(now, id);
        }
        out.push(Action::Grant(ticket, id));
    }

    /// Whether another ticket of this key may join the queue.
    fn may_wait(
        &mut self,
        now: Instant,
        key: PoolKey,
        facts: &KeyFacts,
        out: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        self.not_blocked(now, key, facts)?;
        let limit = self.limits.queue_limit;
        if self.tickets.len() < limit {
            return Ok(());
        }
        if limit > 0 && self.displace(now, facts, out) {
            return Ok(());
        }
        Err(Refusal::QueueFull { limit })
    }

    /// Makes room in a full queue at the cost of the tenant that waits with most for its weight,
    /// so that one tenant's flood does not shut the others out: the newest ticket of that tenant is refused.
    fn displace(&mut self, now: Instant, newcomer: &KeyFacts, out: &mut Vec<Action>) -> bool {
        let own = self
            .tenants
            .get(&newcomer.tenant)
            .map_or(0, |tenant| tenant.waiting);
        let share = |waiting: usize, weight: u32| waiting as u64 * 1000 / u64::from(weight.max(1));
        let own_share = share(own + 1, newcomer.tenant_weight);
        let largest = self
            .ring
            .iter()
            .filter_map(|id| Some((id, self.tenants.get(id)?)))
            .max_by_key(|(_, tenant)| share(tenant.waiting, tenant.weight));
        let Some((tenant, _)) = largest.filter(|(_, t)| share(t.waiting, t.weight) > own_share)
        else {
            return false;
        };
        let tenant = tenant.clone();
        let newest = self.tenants.get(&tenant).and_then(|record| {
            let waiting = record
                .waiting_keys
                .iter()
                .filter_map(|key| self.keys.get(key));
            waiting.filter_map(|key| key.waiting.back().copied()).max()
        });
        let Some(newest) = newest else { return false };
        let limit = self.limits.queue_limit;
        self.refuse(now, newest, Refusal::QueueShare { limit, tenant }, out);
        true
    }

    fn enqueue(&mut self, now: Instant, wanted: &Wanted) {
        let Wanted {
            ticket: id,
            key,
            ref facts,
            claim,
        } = *wanted;
        let deadline = Self::after(now, self.limits.queue_timeout);
        let tenant = self.tenant(facts);
        tenant.waiting += 1;
        let is_first = tenant.waiting == 1;
        if !tenant.waiting_keys.contains(&key) {
            tenant.waiting_keys.push_back(key);
        }
        if is_first {
            tenant.quantum = 0;
            self.ring.push_back(facts.tenant.clone());
        }
        if let Some(record) = self.keys.get_mut(&key) {
            record.waiting.push_back(id);
        }
        self.arm(deadline, Timer::Ticket(id));
        let yields_at = Self::after(now, self.limits.yield_after);
        if yields_at < deadline {
            self.arm(yields_at, Timer::Yield(id));
        }
        let tenant = facts.tenant.clone();
        self.tickets.insert(
            id,
            Ticket {
                key,
                tenant,
                claim,
                since: now,
                deadline,
                yields_at,
            },
        );
    }

    /// Takes a ticket out of every table. The ticket's key may be left unused.
    pub(super) fn take_ticket(&mut self, id: TicketId) -> Option<Ticket> {
        let ticket = self.tickets.remove(&id)?;
        self.disarm(ticket.deadline, Timer::Ticket(id));
        self.disarm(ticket.yields_at, Timer::Yield(id));
        let mut key_has_no_tickets = false;
        if let Some(record) = self.keys.get_mut(&ticket.key) {
            record.waiting.retain(|waiting| *waiting != id);
            key_has_no_tickets = record.waiting.is_empty();
        }
        if let Some(tenant) = self.tenants.get_mut(&ticket.tenant) {
            tenant.waiting -= 1;
            if key_has_no_tickets {
                tenant.waiting_keys.retain(|key| *key != ticket.key);
            }
            if tenant.waiting == 0 {
                self.ring.retain(|id| *id != ticket.tenant);
            }
        }
        self.drop_tenant_if_unused(&ticket.tenant);
        Some(ticket)
    }

    pub(super) fn refuse(
        &mut self,
        now: Instant,
        id: TicketId,
        refusal: Refusal,
        out: &mut Vec<Action>,
    ) {
        if let Some(ticket) = self.take_ticket(id) {
            out.push(Action::Refuse(id, refusal));
            self.grant_waiting(now, ticket.key, out);
            self.drop_key_if_unused(ticket.key, out);
        }
    }

    pub(super) fn withdraw(&mut self, now: Instant, id: TicketId, out: &mut Vec<Action>) {
        if let Some(ticket) = self.take_ticket(id) {
            self.grant_waiting(now, ticket.key, out);
            self.drop_key_if_unused(ticket.key, out);
            self.schedule(now, out);
        }
    }

    /// Grants waiting tickets of the key in their order, as long as its workers have free slots. Tickets
    /// of a session that has its share of them are passed over. On an exclusive worker the head of the
    /// queue waits until the owner has nothing in flight, and the owner's own next request waits behind
    /// it.
    pub(super) fn grant_waiting(&mut self, now: Instant, key: PoolKey, out: &mut Vec<Action>) {
        let mut passed_over = 0;
        loop {
            let next = self
                .keys
                .get(&key)
                .and_then(|record| record.waiting.get(passed_over).copied());
            let next = next.and_then(|id| Some((id, self.tickets.get(&id)?.claim)));
            let Some((id, claim)) = next else {
                return;
            };
            match self.slot(key, claim) {
                Slot::Of(worker) => {
                    self.take_ticket(id);
                    self.grant(now, id, worker, claim, out);
                }
                Slot::OverShare => passed_over += 1,
                Slot::None => return,
            }
        }
    }

    /// The ticket's time is over: says what stood in its way.
    pub(super) fn expire(&mut self, now: Instant, id: TicketId, out: &mut Vec<Action>) {
        let Some(ticket) = self.tickets.get(&id) else {
            return;
        };
        let refusal = self.why_not(now, ticket, self.limits.queue_timeout);
        self.refuse(now, id, refusal, out);
    }

    /// The ticket that has waited for longest, and what stands in its way; `None` if none waits. Looks at every ticket.
    pub fn longest_wait(&self, now: Instant) -> Option<LongestWait> {
        let oldest = self.tickets.iter().min_by_key(|(id, it)| (it.since, **id));
        let (_, ticket) = oldest?;
        let waited = now.saturating_duration_since(ticket.since);
        Some(LongestWait {
            tenant: ticket.tenant.clone(),
            server: self.keys.get(&ticket.key)?.facts.server.clone(),
            waited,
            // Whole seconds, for people.
            why: self.why_not(now, ticket, Duration::from_secs(waited.as_secs())),
        })
    }

    /// What stands in the way of a ticket: of its key first, then of its tenant and its server, then of the host. `waited`: for how
    /// long it did so.
    fn why_not(&self, now: Instant, ticket: &Ticket, waited: Duration) -> Refusal {
        let Some(record) = self.keys.get(&ticket.key) else {
            return Refusal::Draining;
        };
        let tenant = &ticket.tenant;
        self.why_not_of_key(now, ticket, record, waited)
            .or_else(|| self.why_not_of_limits(&record.facts, tenant, waited))
            .unwrap_or_else(|| self.why_not_of_host(&record.facts.server, tenant, waited))
    }

    /// What the workers of the key, or others of its lineage, have to do with it.
    fn why_not_of_key(
        &self,
        now: Instant,
        ticket: &Ticket,
        record: &KeyRecord,
        waited: Duration,
    ) -> Option<Refusal> {
        let facts = &record.facts;
        let server = facts.server.clone();
        if let Some(last) = &record.last_failure
            && record.workers.is_empty()
        {
            return Some(Refusal::StartFailed {
                failure: last.clone(),
                retry_in: None,
            });
        }
        if matches!(self.slot(ticket.key, ticket.claim), Slot::OverShare) {
            return Some(Refusal::SessionShare {
                server,
                share: facts.max_of_session,
                max_in_flight: facts.max_in_flight,
            });
        }
        let mut workers = record.workers.iter().filter_map(|id| self.workers.get(id));
        if workers.any(|worker| worker.phase == Phase::Starting) {
            return Some(Refusal::NotReady { server, waited });
        }
        if record.workers.len() >= facts.max_workers_per_key {
            return Some(Refusal::KeyBusy {
                server,
                max_in_flight: facts.max_in_flight,
                waited,
            });
        }
        self.why_lineage_is_full(now, record)
    }

    /// Whether the tenant or the server has all workers that it may have.
    fn why_not_of_limits(
        &self,
        facts: &KeyFacts,
        tenant: &TenantId,
        waited: Duration,
    ) -> Option<Refusal> {
        let in_use = self.tenants.get(tenant).map_or(0, |record| record.alive);
        if in_use >= facts.tenant_max_workers {
            return Some(Refusal::TenantFull {
                tenant: tenant.clone(),
                in_use,
                limit: facts.tenant_max_workers,
                waited,
            });
        }
        let server = &facts.server;
        let in_use = self.servers.get(server).map_or(0, |record| record.alive);
        let limit = facts.server_max_workers;
        (limit > 0 && in_use >= limit).then(|| Refusal::ServerFull {
            server: server.clone(),
            in_use,
            limit,
            waited,
        })
    }

    /// The limit of the pool's own that is reached: memory, starts at once, or workers.
    fn why_not_of_host(&self, server: &ServerName, tenant: &TenantId, waited: Duration) -> Refusal {
        let limits = &self.limits;
        let has_place = self.workers.len() < limits.max_workers;
        let needs = self.expected_memory(server);
        if has_place && !self.has_room(needs) {
            return Refusal::MemoryFull {
                server: server.clone(),
                needs,
                held: self.memory(),
                limit: limits.max_memory,
                waited,
            };
        }
        if has_place && self.start_permits_taken() >= limits.max_starting {
            let starting = self.starting.iter().filter_map(|id| self.workers.get(id));
            let own = starting.filter(|worker| worker.facts.tenant == *tenant);
            return Refusal::StartsFull {
                tenant: tenant.clone(),
                own: own.count(),
                limit: limits.max_starting,
                waited,
            };
        }
        Refusal::PoolFull {
            in_use: self.workers.len(),
            limit: limits.max_workers,
            starting: self.starting.len(),
            waited,
        }
    }
}
