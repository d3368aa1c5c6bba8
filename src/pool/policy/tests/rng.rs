//! Randomness from one number, and what a small world has by it.

use std::sync::Arc;
use std::time::Duration;

use super::super::{KeyFacts, PoolLimits};
use crate::ids::{PoolKey, ServerName, TenantId};

/// SplitMix64: a world is one number, and a failing one is shortened by its length alone.
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(super) fn between(&mut self, low: usize, high: usize) -> usize {
        let span = u64::try_from(high - low + 1).expect("small");
        low + usize::try_from(self.below(span)).expect("small")
    }

    pub(super) fn seconds(&mut self, low: usize, high: usize) -> Duration {
        Duration::from_secs(u64::try_from(self.between(low, high)).expect("small"))
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let at = if from.is_empty() {
            return None;
        } else {
            self.between(0, from.len() - 1)
        };
        from.get(at)
    }
}

/// Up to three spares of server 0, whose own limit is given.
pub(super) fn spares_of(rng: &mut Rng, server_max_workers: usize) -> (PoolKey, Arc<KeyFacts>) {
    let facts = KeyFacts {
        tenant: TenantId::new(""),
        tenant_weight: 1,
        tenant_max_workers: usize::MAX,
        server: ServerName::new("s0"),
        server_max_workers,
        max_in_flight: 1,
        max_of_session: 1,
        max_workers_per_key: rng.between(1, 3),
        lineage: None,
        lineage_if_declined: None,
        siblings: None,
        one_of_siblings: false,
        caller_configured: false,
        exclusive: false,
        max_requests: 0,
        idle_timeout: Duration::MAX,
        max_lifetime: rng.seconds(10, 200),
        is_spare: true,
        spare: None,
    };
    (PoolKey([255; 16]), Arc::new(facts))
}

/// PoolLimits of a small world.
pub(super) fn limits(rng: &mut Rng) -> PoolLimits {
    PoolLimits {
        max_workers: rng.between(1, 7),
        max_starting: rng.between(1, 3),
        queue_limit: rng.between(1, 14),
        queue_timeout: rng.seconds(1, 60),
        yield_after: Duration::from_millis(200 + rng.below(3000)),
        circuit_keys: rng.between(1, 3),
        circuit_tenants: rng.between(1, 3),
        max_memory: match rng.below(3) {
            0 => u64::MAX,
            _ => (50 + rng.below(900)) << 20,
        },
        hibernate_after: (rng.below(3) > 0).then(|| rng.seconds(1, 90)),
        drain_timeout: rng.seconds(0, 40),
        ..PoolLimits::default()
    }
}
