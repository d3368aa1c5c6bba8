//! Failed starts: waits that double per key, and a circuit per server when every key fails.

use std::time::{Duration, Instant};

use super::event::{Action, refusal};
use super::limits::KeyFacts;
use super::state::{Phase, Policy, Timer};
use crate::ids::{PoolKey, ServerName, WorkerId};
use crate::protocol::{Failure, Reason};

/// How long after the wait is over a failure is remembered, in multiples of the longest wait. A
/// key that nobody asks for any more is then forgotten.
const REMEMBERED: u32 = 5;
/// Most failing keys remembered per server: enough to know that it is not one key's fault.
const MAX_FAILING: usize = 64;

/// Whether a failed start is held against its key and server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Blame {
    Counts,
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
    ) -> Result<(), Failure> {
        let Some(record) = self.keys.get(&key) else {
            return Ok(());
        };
        if !record.workers.is_empty() {
            return Ok(());
        }
        let last = |record: &super::state::KeyRecord| {
            record
                .last_failure
                .as_ref()
                .map_or(String::new(), |f| format!("; last: {f}"))
        };
        if let Some(until) = record.blocked_until.filter(|until| now < *until) {
            let wait = until - now;
            if record.failures >= self.limits.refuse_after {
                let message = format!(
                    "server `{}` failed to start {} times in a row and is tried again in {}{}",
                    facts.server,
                    record.failures,
                    in_words(wait),
                    last(record)
                );
                return Err(refusal(Reason::CircuitOpen, message, millis(wait)));
            }
            if wait >= self.limits.queue_timeout {
                let failure = record.last_failure.clone();
                let failure = failure.unwrap_or_else(|| {
                    Failure::new(
                        Reason::StartFailed,
                        format!("server `{}` failed to start", facts.server),
                    )
                });
                return Err(failure.retry_after(wait));
            }
        }
        let server = self.servers.get(&facts.server);
        if let Some(until) = server
            .and_then(|server| server.open_until)
            .filter(|until| now < *until)
        {
            let wait = until - now;
            let message = format!(
                "server `{}` fails to start for everyone and is tried again in {}{}",
                facts.server,
                in_words(wait),
                last(record)
            );
            return Err(refusal(Reason::CircuitOpen, message, millis(wait)));
        }
        Ok(())
    }

    /// Whether the server's circuit allows a start: closed, or half open with no try under way.
    pub(super) fn circuit_lets_through(&self, now: Instant, server: &ServerName) -> bool {
        self.servers
            .get(server)
            .is_none_or(|record| match record.open_until {
                None => true,
                Some(until) => now >= until && record.probe.is_none(),
            })
    }

    /// A worker never became ready, or crashed right after: whoever waits for its key is told,
    /// and the next start waits.
    pub(super) fn start_failed(
        &mut self,
        now: Instant,
        id: WorkerId,
        failure: Failure,
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
        let (key, server) = (worker.key, worker.facts.server.clone());
        let was_probe = self
            .servers
            .get(&server)
            .is_some_and(|s| s.probe == Some(id));
        self.mark_stopping(id, super::StopReason::StartFailed);
        if !was_retiring {
            if blame == Blame::Counts {
                self.note_failure(now, key, &server, was_probe, failure.clone());
            } else if was_probe && let Some(record) = self.servers.get_mut(&server) {
                record.probe = None;
            }
            let no_one_left = self
                .keys
                .get(&key)
                .is_some_and(|record| record.workers.is_empty());
            // What declines one start declines every other of the key: another try for those that
            // wait would go on for ever while two are under way.
            if no_one_left || blame == Blame::None {
                self.refuse_all_of(now, key, &failure, out);
            }
        }
        self.fill(now, out);
    }

    pub(super) fn refuse_all_of(
        &mut self,
        now: Instant,
        key: PoolKey,
        failure: &Failure,
        out: &mut Vec<Action>,
    ) {
        let waiting = self.keys.get(&key).map(|record| record.waiting.clone());
        for ticket in waiting.into_iter().flatten() {
            self.refuse(now, ticket, failure.clone(), out);
        }
    }

    pub(super) fn note_failure(
        &mut self,
        now: Instant,
        key: PoolKey,
        server: &ServerName,
        was_probe: bool,
        failure: Failure,
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
            record.last_failure = Some(failure);
            self.arm(until, Timer::Backoff(key));
            self.arm(forget, Timer::ForgetKey(key));
        }
        let open_for = self.limits.circuit_open.mul_f64(jitter);
        let threshold = self.limits.circuit_keys;
        let forget = now + self.limits.backoff_max * REMEMBERED;
        if let Some(record) = self.servers.get_mut(server) {
            if record.failing.len() < MAX_FAILING {
                record.failing.insert(key);
            }
            if was_probe {
                record.probe = None;
            }
            if record.failing.len() >= threshold || was_probe {
                let until = now + open_for;
                record.open_until = Some(until);
                self.arm(until, Timer::Circuit(server.clone()));
            }
            self.arm(
                forget.max(now + open_for),
                Timer::ForgetServer(server.clone()),
            );
        }
    }

    /// A worker became ready: its server works.
    pub(super) fn close_circuit(&mut self, server: &ServerName) {
        if let Some(record) = self.servers.get_mut(server) {
            record.failing.clear();
            record.open_until = None;
            record.probe = None;
        }
    }

    /// A worker of the key has served: what failed before is history.
    pub(super) fn forgive(&mut self, key: PoolKey) {
        if let Some(record) = self.keys.get_mut(&key) {
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
            self.forgive(key);
        }
        self.drop_key_if_unused(key, out);
    }

    pub(super) fn forget_server_timer(&mut self, now: Instant, server: &ServerName) {
        if let Some(record) = self.servers.get_mut(server)
            && record.open_until.is_none_or(|until| until <= now)
        {
            record.failing.clear();
            record.open_until = None;
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

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn in_words(wait: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_millis(millis(wait)))
}
