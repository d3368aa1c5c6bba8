//! Wants: granted at once, queued, refused, withdrawn.

use std::sync::Arc;
use std::time::Instant;

use super::event::{Action, Claim, RETRY_MS, TicketId, refusal};
use super::limits::KeyFacts;
use super::patience::Patience;
use super::state::{KeyRecord, Phase, Policy, Ticket, Timer};
use crate::ids::{PoolKey, TenantId, WorkerId};
use crate::protocol::{Failure, Reason};

/// What a key's workers have for a claim.
enum Slot {
    /// A free slot.
    Of(WorkerId),
    /// Free slots, of which its session has its share already.
    OverShare,
    /// None that is free.
    None,
}

impl Policy {
    pub(super) fn want(
        &mut self,
        now: Instant,
        id: TicketId,
        key: PoolKey,
        facts: Arc<KeyFacts>,
        claim: Claim,
        out: &mut Vec<Action>,
    ) {
        if self.draining {
            out.push(Action::Refuse(id, draining()));
            return;
        }
        let record = self
            .keys
            .entry(key)
            .or_insert_with(|| KeyRecord::new(key, &facts));
        if !Arc::ptr_eq(&record.facts, &facts) {
            record.facts = Arc::clone(&facts);
            // More may be allowed now than when the others came.
            self.feed(now, key, out);
        }
        // Tickets that wait were there first: a newcomer must not take the slot they are owed. Where
        // workers are shared, those that wait have been offered every free slot, and may have none.
        let is_first = !facts.exclusive || self.keys[&key].waiting.is_empty();
        if is_first && let Some(worker) = self.free_slot(key, claim) {
            self.grant(now, id, worker, claim, out);
            return;
        }
        if let Err(failure) = self.may_wait(now, key, &facts, out) {
            out.push(Action::Refuse(id, failure));
            self.drop_key_if_unused(key, out);
            return;
        }
        self.enqueue(now, id, key, &facts, claim);
        self.make_way(now, key, Patience::AtFirst, out);
        self.adopt_for(now, key, out);
        self.fill(now, out);
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
        self.wakes(now, id, out);
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
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
    ) -> Result<(), Failure> {
        self.not_blocked(now, key, facts)?;
        let limit = self.limits.queue_limit;
        if self.tickets.len() < limit {
            return Ok(());
        }
        if limit > 0 && self.displace(now, facts, out) {
            return Ok(());
        }
        let message = format!("queue full ({limit} waiting; raise `pool.queue_limit`)");
        Err(refusal(Reason::PoolExhausted, message, RETRY_MS))
    }

    /// Makes room in a full queue at the cost of the tenant that waits with most for its weight,
    /// so that one tenant's flood does not shut the others out. Its newest ticket goes.
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
            let waiting = record.hungry.iter().filter_map(|key| self.keys.get(key));
            waiting.filter_map(|key| key.waiting.back().copied()).max()
        });
        let Some(newest) = newest else { return false };
        let message = format!(
            "queue full ({} waiting, most of them of tenant `{tenant}`; raise `pool.queue_limit`)",
            self.limits.queue_limit
        );
        self.refuse(
            now,
            newest,
            refusal(Reason::TenantLimit, message, RETRY_MS),
            out,
        );
        true
    }

    fn enqueue(
        &mut self,
        now: Instant,
        id: TicketId,
        key: PoolKey,
        facts: &KeyFacts,
        claim: Claim,
    ) {
        let deadline = Self::after(now, self.limits.queue_timeout);
        let tenant = self.tenant(facts);
        tenant.waiting += 1;
        let is_first = tenant.waiting == 1;
        if !tenant.hungry.contains(&key) {
            tenant.hungry.push_back(key);
        }
        if is_first {
            tenant.credit = 0;
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
                deadline,
                yields_at,
            },
        );
    }

    /// Takes a ticket out of every table. Its key may be left unused.
    pub(super) fn take_ticket(&mut self, id: TicketId) -> Option<Ticket> {
        let ticket = self.tickets.remove(&id)?;
        self.disarm(ticket.deadline, Timer::Ticket(id));
        self.disarm(ticket.yields_at, Timer::Yield(id));
        let mut key_is_fed = false;
        if let Some(record) = self.keys.get_mut(&ticket.key) {
            record.waiting.retain(|waiting| *waiting != id);
            key_is_fed = record.waiting.is_empty();
        }
        if let Some(tenant) = self.tenants.get_mut(&ticket.tenant) {
            tenant.waiting -= 1;
            if key_is_fed {
                tenant.hungry.retain(|key| *key != ticket.key);
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
        failure: Failure,
        out: &mut Vec<Action>,
    ) {
        if let Some(ticket) = self.take_ticket(id) {
            out.push(Action::Refuse(id, failure));
            self.feed(now, ticket.key, out);
            self.drop_key_if_unused(ticket.key, out);
        }
    }

    pub(super) fn withdraw(&mut self, now: Instant, id: TicketId, out: &mut Vec<Action>) {
        if let Some(ticket) = self.take_ticket(id) {
            self.feed(now, ticket.key, out);
            self.drop_key_if_unused(ticket.key, out);
            self.fill(now, out);
        }
    }

    /// Grants waiting tickets of the key in their order, as long as its workers have free slots. Those
    /// of a session that has its share of them are passed over. On an exclusive worker the head of the
    /// queue waits until the owner has nothing in flight, and the owner's own next request waits behind
    /// it.
    pub(super) fn feed(&mut self, now: Instant, key: PoolKey, out: &mut Vec<Action>) {
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
        let failure = self.why_not(now, ticket.key, &ticket.tenant, ticket.claim);
        self.refuse(now, id, failure, out);
    }

    fn why_not(&self, now: Instant, key: PoolKey, tenant: &TenantId, claim: Claim) -> Failure {
        let waited = humantime::format_duration(self.limits.queue_timeout);
        let Some(record) = self.keys.get(&key) else {
            return draining();
        };
        let facts = &record.facts;
        if let Some(last) = record
            .last_failure
            .clone()
            .filter(|_| record.workers.is_empty())
        {
            return last;
        }
        if matches!(self.slot(key, claim), Slot::OverShare) {
            let message = format!(
                "this session has {} unanswered requests at server `{}` already: that many of a worker's {} are for one session (raise `servers.{}.max_in_flight`)",
                facts.max_of_session, facts.server, facts.max_in_flight, facts.server
            );
            return refusal(Reason::Busy, message, RETRY_MS);
        }
        let starting = record.workers.iter().filter_map(|id| self.workers.get(id));
        if starting
            .into_iter()
            .any(|worker| worker.phase == Phase::Starting)
        {
            let message = format!(
                "server `{}` has not answered its first request for {waited} (raise `pool.queue_timeout` if it needs longer)",
                facts.server
            );
            return refusal(Reason::Starting, message, RETRY_MS);
        }
        if record.workers.len() >= facts.max_workers_per_key {
            let message = format!(
                "every worker of server `{}` was busy for {waited} ({} requests each; raise `servers.{}.max_in_flight` or `max_workers_per_key`)",
                facts.server, facts.max_in_flight, facts.server
            );
            return refusal(Reason::Busy, message, RETRY_MS);
        }
        if let Some(failure) = self.why_lineage_is_full(now, record) {
            return failure;
        }
        let of_tenant = self.tenants.get(tenant).map_or(0, |record| record.alive);
        if of_tenant >= facts.tenant_max_workers {
            let message = format!(
                "no worker for tenant `{tenant}` within {waited} ({of_tenant} of {} are in use; raise `tenants.{tenant}.max_workers` or `pool.max_workers_per_tenant`)",
                facts.tenant_max_workers
            );
            return refusal(Reason::TenantLimit, message, RETRY_MS);
        }
        let of_server = self
            .servers
            .get(&facts.server)
            .map_or(0, |record| record.alive);
        let message = if facts.server_max_workers > 0 && of_server >= facts.server_max_workers {
            format!(
                "no worker for server `{}` within {waited} ({of_server} of {} are in use; raise `servers.{}.max_workers`)",
                facts.server, facts.server_max_workers, facts.server
            )
        } else {
            format!(
                "no worker within {waited} ({} of {} are in use, {} starting; raise `pool.max_workers` or `pool.queue_timeout`)",
                self.workers.len(),
                self.limits.max_workers,
                self.starting.len()
            )
        };
        refusal(Reason::PoolExhausted, message, RETRY_MS)
    }
}

pub(super) fn draining() -> Failure {
    refusal(
        Reason::Draining,
        "stdiopool is shutting down".to_owned(),
        5 * RETRY_MS,
    )
}
