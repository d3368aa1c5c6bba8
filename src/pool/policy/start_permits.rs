//! Start permits: how many workers may be started at once, and whose.
//!
//! There are [`PoolLimits::max_starting`](super::PoolLimits::max_starting) permits. When all are taken by starts
//! that take longer than usual, and one tenant has all of them or more than one, a tenant that has none
//! may have one more, and no further one is given until two are free. So servers of one tenant that do
//! not answer keep nobody else from starting, and there are never more starts than one above the limit.
//! While starts go on as usual, the round-robin alone decides, by weight. A start that goes on for longer
//! than [`PoolLimits::start_counts_for`](super::PoolLimits::start_counts_for), or that is known to wait rather
//! than to work, takes no permit any more.

use std::time::Instant;

use smallvec::SmallVec;

use super::state::{Phase, Policy, WorkerRecord};
use crate::ids::TenantId;

/// The tenants that may start another worker.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum StartPermits {
    /// Everyone.
    ForAll,
    /// Everyone but these, who have what there is.
    ForOthers(SmallVec<[TenantId; 4]>),
}

impl StartPermits {
    /// Whether one is for that tenant.
    pub(super) fn are_for(&self, tenant: &TenantId) -> bool {
        match self {
            Self::ForAll => true,
            Self::ForOthers(holders) => !holders.contains(tenant),
        }
    }
}

impl Policy {
    /// Permits that are taken: starts, and evictions under way that will become starts. Together they are
    /// bound, or ten who wait would evict ten at once for permits that are used two at a time.
    pub(super) fn start_permits_taken(&self) -> usize {
        self.starting.len() + self.evicted_for().count()
    }

    /// The tenants that may start another worker now; `None`: none.
    pub(super) fn start_permits(&self, now: Instant) -> Option<StartPermits> {
        let (taken, limit) = (self.start_permits_taken(), self.limits.max_starting);
        if taken < limit {
            return Some(StartPermits::ForAll);
        }
        if taken > limit {
            return None;
        }
        let starting = self.starting.iter().filter_map(|id| self.workers.get(id));
        if self.evicted_for().next().is_some()
            || starting.clone().any(|worker| !self.is_late(now, worker))
        {
            return None;
        }
        let holders = starting.map(|worker| &worker.facts.tenant);
        let mut known = SmallVec::<[TenantId; 4]>::new();
        let mut has_more = false;
        for tenant in holders {
            if known.contains(tenant) {
                has_more = true;
            } else {
                known.push(tenant.clone());
            }
        }
        (has_more || known.len() == 1).then_some(StartPermits::ForOthers(known))
    }

    /// Whether a start takes longer than those of its server do.
    fn is_late(&self, now: Instant, worker: &WorkerRecord) -> bool {
        let usual = 2 * self.expected_start(&worker.facts.server);
        now.saturating_duration_since(worker.started) >= usual.max(self.limits.yield_after)
    }

    /// For whom workers were told to stop that have not yet.
    fn evicted_for(&self) -> impl Iterator<Item = &TenantId> {
        let stops = |id| {
            let worker = self.workers.get(id);
            worker.is_some_and(|worker| worker.phase == Phase::Stopping)
        };
        let yielding = self.yielding.iter();
        yielding
            .filter(move |(id, _)| stops(id))
            .map(|(_, tenant)| tenant)
    }
}
