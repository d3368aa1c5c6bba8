//! Failed starts: waits that double per key, and what they do to the [circuit](super::circuit) of their
//! server.

use std::sync::Arc;
use std::time::Instant;

use super::circuit::{FailedStart, Thresholds, Whose};
use super::circuit_change::{CircuitChange, CircuitOf, CircuitTransition};
use super::event::Action;
use super::limits::KeyFacts;
use super::refusal::Refusal;
use super::start_failure::StartFailure;
use super::state::{Phase, Policy, Timer};
use crate::ids::{PoolKey, ServerName, TenantId, WorkerId};

/// How long after the wait is over a failure is remembered, in multiples of the longest wait. A
/// key that nobody asks for any more is then forgotten.
const REMEMBERED: u32 = 5;

/// The scope that a failed start counts against.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Blame {
    /// The worker's key, its tenant and its server.
    Counts,
    /// The worker's key alone: it cannot be started with what it is started with.
    Key,
    /// Nothing.
    None,
}

impl Policy {
    /// Whether the key may be asked for at all: neither its own back-off nor its server's circuit
    /// makes waiting pointless.
    pub(super) fn not_blocked(
        &self,
        now: Instant,
        key: PoolKey,
        facts: &KeyFacts,
    ) -> Result<(), Refusal> {
        let Some(record) = self.keys.get(&key) else {
            return Ok(());
        };
        if !record.workers.is_empty() {
            return Ok(());
        }
        let refused = |failure: &StartFailure, retry_in| Refusal::StartFailed {
            failure: failure.clone(),
            retry_in,
        };
        let open = |of, retry_in| Refusal::CircuitOpen {
            server: facts.server.clone(),
            of,
            failures: record.failures,
            retry_in,
            last: record.last_failure.clone(),
        };
        if let (Some(until), Some(last)) = (record.blocked_until, &record.last_failure)
            && now < until
        {
            let wait = until - now;
            // Time does not mend what it is started with: nobody is kept waiting for that.
            if last.is_for_config() {
                return Err(refused(last, None));
            }
            if record.failures >= self.limits.refuse_after {
                return Err(open(CircuitOf::Configuration(facts.tenant.clone()), wait));
            }
            if wait >= self.limits.queue_timeout {
                return Err(refused(last, Some(wait)));
            }
        }
        let server = self.servers.get(&facts.server);
        match server.and_then(|server| server.circuit.open_until(now, &facts.tenant)) {
            Some((until, Whose::Everyone)) => Err(open(CircuitOf::Everyone, until - now)),
            Some((until, Whose::Tenant)) => {
                Err(open(CircuitOf::Tenant(facts.tenant.clone()), until - now))
            }
            None => Ok(()),
        }
    }

    /// Whether the server's circuit allows a start of that key: closed, or half open with no try under way.
    pub(super) fn circuit_lets_through(&self, now: Instant, facts: &KeyFacts) -> bool {
        let server = self.servers.get(&facts.server);
        server.is_none_or(|server| server.circuit.lets_through(now, &facts.tenant))
    }

    /// A worker never became ready, or crashed right after: whoever waits for its key is told,
    /// and the next start waits.
    pub(super) fn start_failed(
        &mut self,
        now: Instant,
        id: WorkerId,
        failure: StartFailure,
        blame: Blame,
        out: &mut Vec<Action>,
    ) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        if worker.phase != Phase::Starting {
            return;
        }
        // One that was told to stop while it started has not failed.
        let was_retiring = worker.retiring.is_some();
        let (key, facts) = (worker.key, Arc::clone(&worker.facts));
        self.mark_stopping(
            id,
            match blame {
                Blame::None => super::StopReason::Declined,
                Blame::Counts | Blame::Key => super::StopReason::StartFailed,
            },
        );
        if !was_retiring {
            if blame != Blame::None {
                self.note_failure(now, key, failure.clone(), out);
            }
            if blame == Blame::Counts {
                let failed = FailedStart {
                    tenant: &facts.tenant,
                    key,
                    worker: id,
                };
                self.blame(now, &facts, failed, &failure, out);
            } else if let Some(server) = self.servers.get_mut(&facts.server) {
                server.circuit.ended(id);
            }
            let no_one_left = self
                .keys
                .get(&key)
                .is_some_and(|record| record.workers.is_empty());
            // What declines one start declines every other of the key: another try for those that
            // wait would go on for ever while two are under way.
            if no_one_left || blame != Blame::Counts {
                let refusal = Refusal::StartFailed {
                    failure,
                    retry_in: None,
                };
                self.refuse_all_of(now, key, &refusal, out);
            }
        }
        self.schedule(now, out);
    }

    pub(super) fn refuse_all_of(
        &mut self,
        now: Instant,
        key: PoolKey,
        refusal: &Refusal,
        out: &mut Vec<Action>,
    ) {
        let waiting = self.keys.get(&key).map(|record| record.waiting.clone());
        for ticket in waiting.into_iter().flatten() {
            self.refuse(now, ticket, refusal.clone(), out);
        }
    }

    /// Holds a failure against its key: the next start waits.
    pub(super) fn note_failure(
        &mut self,
        now: Instant,
        key: PoolKey,
        failure: StartFailure,
        out: &mut Vec<Action>,
    ) {
        let jitter = self.jitter();
        let limits = &self.limits;
        if let Some(record) = self.keys.get_mut(&key)
            // A process of its own for every request has a key of its own each time: what can be
            // learnt is about the server.
            && record.facts.max_requests != 1
        {
            record.failures = record.failures.saturating_add(1);
            let doublings = (record.failures - 1).min(16);
            let wait = limits
                .backoff_first
                .saturating_mul(1 << doublings)
                .min(limits.backoff_max);
            let until = Self::after(now, wait.mul_f64(jitter));
            let forget = until + limits.backoff_max * REMEMBERED;
            record.blocked_until = Some(until);
            // A key that cannot be started with its config is told so each time, and opens no circuit.
            if record.failures == limits.refuse_after && !failure.is_for_config() {
                record.is_told_open = true;
                let transition = CircuitTransition::Opens {
                    failing: record.failures as usize,
                    retry_in: until.saturating_duration_since(now),
                    last: failure.clone(),
                };
                let of = CircuitOf::Configuration(record.facts.tenant.clone());
                out.push(changes(&record.facts.server, of, transition));
            }
            record.last_failure = Some(failure);
            self.arm(until, Timer::Backoff(key));
            self.arm(forget, Timer::ForgetKey(key));
        }
    }

    /// Holds a failure against its tenant and server.
    pub(super) fn blame(
        &mut self,
        now: Instant,
        facts: &KeyFacts,
        failed: FailedStart<'_>,
        failure: &StartFailure,
        out: &mut Vec<Action>,
    ) {
        let thresholds = Thresholds {
            keys: self.limits.circuit_keys,
            tenants: self.limits.circuit_tenants,
            open_for: self.limits.circuit_open.mul_f64(self.jitter()),
        };
        let remembered = self.limits.backoff_max * REMEMBERED;
        let Some(server) = self.servers.get_mut(&facts.server) else {
            return;
        };
        let (open_until, opened) = server.circuit.failed(now, failed, thresholds);
        if let Some(until) = open_until {
            self.arm(until, Timer::Circuit(facts.server.clone()));
            let of_tenant = opened
                .of_tenant
                .map(|failing| (CircuitOf::Tenant(facts.tenant.clone()), failing));
            let of_everyone = opened
                .of_everyone
                .map(|failing| (CircuitOf::Everyone, failing));
            for (of, failing) in of_tenant.into_iter().chain(of_everyone) {
                let transition = CircuitTransition::Opens {
                    failing,
                    retry_in: until.saturating_duration_since(now),
                    last: failure.clone(),
                };
                out.push(changes(&facts.server, of, transition));
            }
        }
        let forget = (now + remembered).max(open_until.unwrap_or(now));
        self.arm(forget, Timer::ForgetServer(facts.server.clone()));
    }

    /// A worker became ready: its server works.
    pub(super) fn close_circuit(&mut self, server: &ServerName, out: &mut Vec<Action>) {
        if let Some(record) = self.servers.get_mut(server) {
            let was_open = record.circuit.close().into_iter();
            out.extend(was_open.map(|of| changes(server, of, CircuitTransition::Closes)));
        }
    }

    /// Whether starts of the server have failed for that tenant with its own configuration, or for several others.
    pub fn is_failing(&self, server: &ServerName, tenant: &TenantId) -> bool {
        let record = self.servers.get(server);
        record.is_some_and(|record| record.circuit.is_failing(tenant))
    }

    /// A worker of the key has served: what failed before is history.
    pub(super) fn forgive(
        &mut self,
        key: PoolKey,
        transition: CircuitTransition,
        out: &mut Vec<Action>,
    ) {
        if let Some(record) = self.keys.get_mut(&key) {
            if std::mem::take(&mut record.is_told_open) {
                let of = CircuitOf::Configuration(record.facts.tenant.clone());
                out.push(changes(&record.facts.server, of, transition));
            }
            record.failures = 0;
            record.blocked_until = None;
            record.last_failure = None;
        }
    }

    pub(super) fn forget_key_timer(&mut self, now: Instant, key: PoolKey, out: &mut Vec<Action>) {
        let remembered = self.limits.backoff_max * REMEMBERED;
        if let Some(record) = self.keys.get(&key)
            && record
                .blocked_until
                .is_none_or(|until| until + remembered <= now)
        {
            self.forgive(key, CircuitTransition::Forgotten, out);
        }
        self.drop_key_if_unused(key, out);
    }

    pub(super) fn forget_server_timer(
        &mut self,
        now: Instant,
        server: &ServerName,
        out: &mut Vec<Action>,
    ) {
        let remembered = self.limits.backoff_max * REMEMBERED;
        if let Some(record) = self.servers.get_mut(server) {
            let forgotten = record.circuit.forget(now, remembered).into_iter();
            out.extend(forgotten.map(|of| changes(server, of, CircuitTransition::Forgotten)));
        }
        self.drop_server_if_unused(server);
    }

    /// Between 0.8 and 1.2, so that what failed together is not tried again together. SplitMix64,
    /// whose whole state is the seed.
    fn jitter(&mut self) -> f64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.seed;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let fraction = f64::from(u32::try_from((bits ^ (bits >> 31)) >> 32).unwrap_or(0));
        0.8 + 0.4 * fraction / f64::from(u32::MAX)
    }
}

fn changes(server: &ServerName, of: CircuitOf, transition: CircuitTransition) -> Action {
    let server = server.clone();
    Action::Circuit(Box::new(CircuitChange {
        server,
        of,
        transition,
    }))
}
