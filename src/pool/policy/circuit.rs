//! A server's circuit: who may start it while its starts fail.
//!
//! Failures are counted by tenant. The keys of one tenant that fail open the circuit of that tenant and
//! server alone; only when several tenants fail, each counted once, is the server taken to be at fault
//! for everyone.
//!
//! ```text
//!  of a tenant:   closed --its keys fail--> open --time--> half open: one of its starts is tried
//!  of everyone:   closed --tenants fail---> open --time--> half open: one start is tried, of a tenant
//!                                                          that has not failed
//!  any start succeeds: all closed
//! ```
//!
//! Tenants that have failed try again for themselves, one of them at a time, and what they find out says
//! nothing new to the others: their tries neither take the place of another's nor keep the circuit open.

use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};

use super::circuit_change::CircuitOf;
use crate::ids::{PoolKey, TenantId, WorkerId};

/// Most failing keys that are remembered of a tenant and server: enough to know that it is not one key's
/// fault.
const MAX_KEYS: usize = 64;
/// Most failing tenants that are remembered of a server; of further ones it is as if they had not failed.
const MAX_TENANTS: usize = 256;

/// When starts are tried again, and the one that is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Breaker {
    open_until: Instant,
    probe: Option<WorkerId>,
}

impl Breaker {
    fn open(until: Instant) -> Self {
        Self {
            open_until: until,
            probe: None,
        }
    }

    fn lets_through(&self, now: Instant) -> bool {
        now >= self.open_until && self.probe.is_none()
    }
}

/// A tenant whose starts fail.
#[derive(Debug)]
struct Failing {
    keys: FxHashSet<PoolKey>,
    last: Instant,
    breaker: Option<Breaker>,
}

/// A start that has failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct FailedStart<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) key: PoolKey,
    pub(super) worker: WorkerId,
}

/// A circuit that is open.
#[derive(Clone, Copy, Debug)]
pub(in crate::pool) struct Open<'a> {
    /// The tenant that it is open for; `None`: for everyone.
    pub(in crate::pool) tenant: Option<&'a TenantId>,
    /// When one start is tried again.
    pub(in crate::pool) until: Instant,
    /// How many keys fail.
    pub(in crate::pool) failing: usize,
}

/// The owner of an open circuit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Whose {
    /// The circuit is one tenant's.
    Tenant,
    /// The circuit is everyone's.
    Everyone,
}

/// Circuits that were closed until now, and how much fails.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct OpenedCircuits {
    /// The circuit of the tenant whose start failed has opened: so many of its keys fail.
    pub(super) of_tenant: Option<usize>,
    /// Everyone's: for so many tenants.
    pub(super) of_everyone: Option<usize>,
}

/// How many failures open a circuit, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Thresholds {
    /// Keys of a tenant.
    pub(super) keys: usize,
    /// Tenants.
    pub(super) tenants: usize,
    /// Until one start is tried.
    pub(super) open_for: Duration,
}

/// The circuits of one server.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    failing: FxHashMap<TenantId, Failing>,
    everyone: Option<Breaker>,
}

impl Circuit {
    /// Whether nothing is remembered.
    pub(super) fn is_closed(&self) -> bool {
        self.failing.is_empty() && self.everyone.is_none()
    }

    /// Whether starts of that tenant have failed, or those of several others.
    pub(super) fn is_failing(&self, tenant: &TenantId) -> bool {
        self.everyone.is_some() || self.failing.contains_key(tenant)
    }

    /// Until when no start of that tenant is even tried, and whose circuit that is.
    pub(super) fn open_until(&self, now: Instant, tenant: &TenantId) -> Option<(Instant, Whose)> {
        let (breaker, whose) = match self.failing.get(tenant) {
            Some(failing) => (failing.breaker?, Whose::Tenant),
            None => (self.everyone?, Whose::Everyone),
        };
        (now < breaker.open_until).then_some((breaker.open_until, whose))
    }

    /// Whether a start of that tenant may be tried now.
    pub(super) fn lets_through(&self, now: Instant, tenant: &TenantId) -> bool {
        match self.failing.get(tenant) {
            Some(failing) => {
                let is_tried = || {
                    let breakers = self.failing.values().filter_map(|failing| failing.breaker);
                    breakers.into_iter().any(|breaker| breaker.probe.is_some())
                };
                failing.breaker.is_none_or(|own| own.lets_through(now))
                    && (self.everyone.is_none() || !is_tried())
            }
            None => self.everyone.is_none_or(|all| all.lets_through(now)),
        }
    }

    /// A start of that tenant is tried.
    pub(super) fn started(&mut self, tenant: &TenantId, worker: WorkerId) {
        let breaker = match self.failing.get_mut(tenant) {
            Some(failing) => failing.breaker.as_mut(),
            None => self.everyone.as_mut(),
        };
        if let Some(breaker) = breaker {
            breaker.probe = Some(worker);
        }
    }

    /// A start is over that says nothing of the server, or a worker is gone.
    pub(super) fn ended(&mut self, worker: WorkerId) {
        let breakers = self.failing.values_mut();
        let breakers = breakers.filter_map(|failing| failing.breaker.as_mut());
        for breaker in breakers.chain(self.everyone.as_mut()) {
            if breaker.probe == Some(worker) {
                breaker.probe = None;
            }
        }
    }

    /// A start of that tenant and key has failed. Says until when a circuit is open because of it, and which were
    /// closed before.
    pub(super) fn failed(
        &mut self,
        now: Instant,
        failed: FailedStart<'_>,
        thresholds: Thresholds,
    ) -> (Option<Instant>, OpenedCircuits) {
        let FailedStart {
            tenant,
            key,
            worker,
        } = failed;
        let mut opened = OpenedCircuits::default();
        let until = now + thresholds.open_for;
        let was_probe_of_all = self.everyone.is_some_and(|all| all.probe == Some(worker));
        self.ended(worker);
        let is_known = self.failing.contains_key(tenant);
        if is_known || self.failing.len() < MAX_TENANTS {
            let failing = self.failing.entry(tenant.clone()).or_insert(Failing {
                keys: FxHashSet::default(),
                last: now,
                breaker: None,
            });
            failing.last = now;
            if failing.keys.len() < MAX_KEYS {
                failing.keys.insert(key);
            }
            if failing.keys.len() >= thresholds.keys || failing.breaker.is_some() {
                let before = failing.breaker.replace(Breaker::open(until));
                opened.of_tenant = before.is_none().then_some(failing.keys.len());
            }
        }
        let opens = self.everyone.is_none() && self.failing.len() >= thresholds.tenants;
        if opens || was_probe_of_all {
            self.everyone = Some(Breaker::open(until));
            opened.of_everyone = opens.then_some(self.failing.len());
        }
        if self.everyone.is_some() {
            for failing in self.failing.values_mut() {
                failing.breaker.get_or_insert(Breaker::open(until));
            }
        }
        let own = self.failing.get(tenant).and_then(|failing| failing.breaker);
        let open = own.or(self.everyone);
        (open.map(|breaker| breaker.open_until), opened)
    }

    /// A worker became ready: the server works. Says for whom it was open.
    pub(super) fn close(&mut self) -> Vec<CircuitOf> {
        let was_open = self.who_is_open();
        *self = Self::default();
        was_open
    }

    /// For whom it is open: for everyone, or for these tenants.
    fn who_is_open(&self) -> Vec<CircuitOf> {
        if self.everyone.is_some() {
            return vec![CircuitOf::Everyone];
        }
        let open = self.failing.iter().filter(|(_, it)| it.breaker.is_some());
        open.map(|(tenant, _)| CircuitOf::Tenant(tenant.clone()))
            .collect()
    }

    /// Forgets tenants that have not failed for `remembered`, and with the last of them that the server
    /// fails for everyone. Says for whom it is open no more.
    pub(super) fn forget(&mut self, now: Instant, remembered: Duration) -> Vec<CircuitOf> {
        let mut was_open = self.who_is_open();
        self.failing.retain(|_, failing| {
            let is_open = failing.breaker.is_some_and(|own| now < own.open_until);
            is_open || failing.last + remembered > now
        });
        let is_open = self.everyone.is_some_and(|all| now < all.open_until);
        if self.failing.is_empty() && !is_open {
            self.everyone = None;
        }
        let still_open = self.who_is_open();
        was_open.retain(|of| !still_open.contains(of));
        was_open
    }

    /// The circuits that are open.
    pub(super) fn open(&self, now: Instant) -> Vec<Open<'_>> {
        let all = self.everyone.map(|all| {
            let keys = self.failing.values().map(|failing| failing.keys.len());
            Open {
                tenant: None,
                until: all.open_until,
                failing: keys.sum(),
            }
        });
        let own = self.failing.iter().filter_map(|(tenant, failing)| {
            Some(Open {
                tenant: Some(tenant),
                until: failing.breaker?.open_until,
                failing: failing.keys.len(),
            })
        });
        // One that may be tried and is not, because nobody asks, is as open as it was.
        let is_meant = |until: Instant| until + Duration::from_secs(3600) > now;
        let own = own.filter(|open| all.is_none() && is_meant(open.until));
        all.into_iter().chain(own).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds {
        keys: 3,
        tenants: 3,
        open_for: Duration::from_secs(30),
    };

    struct Bench {
        circuit: Circuit,
        now: Instant,
        next: u64,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                circuit: Circuit::default(),
                now: Instant::now(),
                next: 0,
            }
        }

        /// Starts one, if that may be.
        fn start(&mut self, tenant: &TenantId) -> Option<WorkerId> {
            self.next += 1;
            let worker = WorkerId(self.next);
            let may = self.circuit.lets_through(self.now, tenant);
            if may {
                self.circuit.started(tenant, worker);
            }
            may.then_some(worker)
        }

        fn fail(&mut self, tenant: &TenantId, key: u8, worker: WorkerId) {
            let failed = FailedStart {
                tenant,
                key: PoolKey([key; 16]),
                worker,
            };
            self.circuit.failed(self.now, failed, THRESHOLDS);
        }

        fn start_and_fail(&mut self, tenant: &TenantId, key: u8) {
            let worker = self.start(tenant).expect("it may be tried");
            self.fail(tenant, key, worker);
        }
    }

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name)
    }

    #[test]
    fn one_tenants_failures_are_its_own() {
        let (mut bench, bad, good) = (Bench::new(), tenant("bad"), tenant("good"));
        for key in 0..3 {
            bench.start_and_fail(&bad, key);
        }
        assert_eq!(bench.start(&bad), None);
        let open = bench.circuit.open_until(bench.now, &bad);
        assert_eq!(open.map(|(_, whose)| whose), Some(Whose::Tenant));
        assert_eq!(bench.circuit.open_until(bench.now, &good), None);
        assert!(bench.start(&good).is_some());
        bench.now += THRESHOLDS.open_for;
        let probe = bench.start(&bad).expect("half open");
        assert_eq!(bench.start(&bad), None, "one only");
        bench.fail(&bad, 0, probe);
        assert_eq!(bench.start(&bad), None, "open again");
        assert_eq!(bench.circuit.close(), [CircuitOf::Tenant(bad.clone())]);
        assert!(bench.start(&bad).is_some() && bench.circuit.is_closed());
        assert_eq!(bench.circuit.close(), []);
    }

    #[test]
    fn several_tenants_open_it_for_all_and_those_who_failed_do_not_decide_when_it_closes() {
        let mut bench = Bench::new();
        let failed = ["a", "b", "c"].map(tenant);
        let (good, other) = (tenant("good"), tenant("other"));
        for tenant in &failed {
            bench.start_and_fail(tenant, 0);
        }
        let open = bench.circuit.open_until(bench.now, &good);
        assert_eq!(open.map(|(_, whose)| whose), Some(Whose::Everyone));
        assert_eq!(bench.circuit.open(bench.now).len(), 1);
        bench.now += THRESHOLDS.open_for;
        let again = bench.start(&failed[0]).expect("it tries for itself");
        assert_eq!(bench.start(&failed[1]), None, "one of them at a time");
        let probe = bench.start(&good).expect("beside it");
        assert_eq!(bench.start(&other), None, "one at a time");
        bench.fail(&failed[0], 0, again);
        assert_eq!(
            bench.circuit.open_until(bench.now, &other),
            None,
            "nothing new"
        );
        bench.circuit.ended(probe);
        let probe = bench.start(&other).expect("still half open");
        bench.fail(&other, 0, probe);
        assert!(bench.circuit.open_until(bench.now, &good).is_some());
        bench.now += Duration::from_secs(3600);
        let forgotten = bench.circuit.forget(bench.now, Duration::from_secs(300));
        assert_eq!(forgotten, [CircuitOf::Everyone]);
        assert!(bench.circuit.is_closed());
    }
}
