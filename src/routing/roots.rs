//! The programs that ask for their clients' roots, and the roots that each worker was told.
//!
//! Sessions of a tenant share a worker only where their roots are equal: each set of roots has its own pool key. A
//! worker that was started before anybody's roots were known becomes that of the first session that has some.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustc_hash::FxHashSet;

use crate::held::{Bounds, LruEntries, TenantTable};
use crate::ids::{Lineage, PoolKey, ProgramId, TenantId};
use crate::tenancy::{derived_key, derived_lineage};

/// Sets of roots that are told apart of one server and tenant, for each lineage of its workers.
const MAX_SETS: usize = 64;
/// Lineages of workers that are told roots.
const LINEAGES: Bounds = Bounds {
    of_tenant: 1_000,
    of_all: 50_000,
};

/// One lineage of workers, and what tells the workers of each set of roots apart.
#[derive(Debug)]
struct LaunchRoots {
    /// The number for workers whose roots are not known yet.
    unclaimed: u64,
    /// By the digest of the roots.
    claimed: LruEntries<[u8; 32], u64>,
}

/// The part of pool keys and lineages that workers with equal roots share: their lineage without roots, and a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RootsSlot {
    base: Lineage,
    number: u64,
}

impl RootsSlot {
    /// The pool key of its workers, of those that have `key` with whatever roots.
    pub(crate) fn key(self, key: PoolKey) -> PoolKey {
        derived_key(key, self.number)
    }

    /// The lineage of workers with these roots.
    pub(crate) fn lineage(self) -> Lineage {
        derived_lineage(self.base, self.number)
    }
}

/// The programs that ask for roots, and the roots of each worker.
#[derive(Debug)]
pub(crate) struct RootsTable {
    asking: Mutex<FxHashSet<ProgramId>>,
    by_lineage: Mutex<TenantTable<Lineage, LaunchRoots>>,
    next: AtomicU64,
    /// Grows whenever a session may have to go to another worker than before.
    edition: AtomicU64,
}

impl Default for RootsTable {
    fn default() -> Self {
        Self {
            asking: Mutex::default(),
            by_lineage: Mutex::new(TenantTable::new(LINEAGES)),
            next: AtomicU64::new(0),
            edition: AtomicU64::new(0),
        }
    }
}

impl RootsTable {
    pub(crate) fn edition(&self) -> u64 {
        self.edition.load(Ordering::Acquire)
    }

    fn changed(&self) {
        self.edition.fetch_add(1, Ordering::Release);
    }

    /// Whether a process of that program has asked for roots.
    pub(crate) fn is_asking(&self, program: ProgramId) -> bool {
        self.asking.lock().contains(&program)
    }

    /// A process of that program has asked for roots.
    pub(crate) fn note_asking(&self, program: ProgramId) {
        if self.asking.lock().insert(program) {
            self.changed();
        }
    }

    fn fresh(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Where workers with those roots are, of that lineage; without roots, where those are that
    /// have not been told any.
    pub(crate) fn slot(
        &self,
        tenant: &TenantId,
        lineage: Lineage,
        roots: Option<[u8; 32]>,
    ) -> RootsSlot {
        let mut by_lineage = self.by_lineage.lock();
        if by_lineage.peek(tenant, &lineage).is_none() {
            let new = LaunchRoots {
                unclaimed: self.fresh(),
                claimed: LruEntries::default(),
            };
            if by_lineage.insert(tenant, lineage, new, |_| false).is_err() {
                let number = self.fresh();
                return RootsSlot {
                    base: lineage,
                    number,
                };
            }
        }
        let number = match by_lineage.get(tenant, &lineage) {
            None => self.fresh(),
            Some(known) => match roots {
                None => known.unclaimed,
                Some(roots) => known.of(roots, || self.fresh()),
            },
        };
        RootsSlot {
            base: lineage,
            number,
        }
    }

    /// A worker of that slot was told those roots by a client itself.
    pub(crate) fn told(&self, tenant: &TenantId, slot: RootsSlot, roots: [u8; 32]) {
        let mut by_lineage = self.by_lineage.lock();
        let Some(launch) = by_lineage.get(tenant, &slot.base) else {
            return;
        };
        if launch.claimed.peek(&roots) == Some(&slot.number) {
            return;
        }
        let is_unclaimed = launch.unclaimed == slot.number;
        if is_unclaimed {
            launch.unclaimed = self.fresh();
        } else {
            launch.claimed.take_oldest(|number| *number != slot.number);
        }
        if launch.claimed.peek(&roots).is_none() {
            launch.claim(roots, slot.number);
        }
        drop(by_lineage);
        // A session with a route to the slot may have other roots.
        self.changed();
    }
}

impl LaunchRoots {
    fn of(&mut self, roots: [u8; 32], fresh: impl FnOnce() -> u64) -> u64 {
        if let Some(number) = self.claimed.get(&roots) {
            return *number;
        }
        let number = std::mem::replace(&mut self.unclaimed, fresh());
        self.claim(roots, number);
        number
    }

    fn claim(&mut self, roots: [u8; 32], number: u64) {
        if self.claimed.len() >= MAX_SETS {
            self.claimed.take_oldest(|_| false);
        }
        self.claimed.put(roots, number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: PoolKey = PoolKey([0; 16]);

    fn lineage(n: u8) -> Lineage {
        Lineage([n; 16])
    }

    #[test]
    fn each_set_of_roots_has_a_slot_and_the_first_takes_what_was_started() {
        let table = RootsTable::default();
        let anna = TenantId::new("anna");
        let slot = |roots: Option<u8>| table.slot(&anna, lineage(1), roots.map(|n| [n; 32]));
        let started = slot(None);
        assert_eq!(slot(None), started);
        let one = slot(Some(1));
        assert_eq!(one, started, "nobody's becomes the first one's");
        let two = slot(Some(2));
        assert_ne!(one.key(KEY), two.key(KEY));
        assert_ne!(slot(None).key(KEY), one.key(KEY));
        assert_ne!(slot(None).lineage(), two.lineage());
        assert_eq!((slot(Some(1)), slot(Some(2))), (one, two));
        let bob = TenantId::new("bob");
        assert_ne!(table.slot(&bob, lineage(1), Some([1; 32])), one);
        let other = table.slot(&anna, lineage(2), Some([1; 32]));
        assert_ne!(other.key(KEY), one.key(KEY));
    }

    #[test]
    fn a_worker_that_was_told_other_roots_serves_those() {
        let table = RootsTable::default();
        let anna = TenantId::new("anna");
        let slot = |roots: Option<u8>| table.slot(&anna, lineage(1), roots.map(|n| [n; 32]));
        let one = slot(Some(1));
        let edition = table.edition();
        table.told(&anna, one, [1; 32]);
        assert_eq!(table.edition(), edition, "what it had");
        table.told(&anna, one, [2; 32]);
        assert!(table.edition() > edition);
        assert_eq!(slot(Some(2)), one);
        assert_ne!(slot(Some(1)), one);
        let nobodys = slot(None);
        table.told(&anna, nobodys, [3; 32]);
        assert_eq!(slot(Some(3)), nobodys);
        assert_ne!(slot(None), nobodys);
    }

    #[test]
    fn sets_of_roots_are_bounded_and_never_mixed_up() {
        let table = RootsTable::default();
        let anna = TenantId::new("anna");
        let first = table.slot(&anna, lineage(1), Some([0; 32]));
        for n in 1..=200_u8 {
            let slot = table.slot(&anna, lineage(1), Some([n; 32]));
            assert_ne!(slot, first);
        }
        assert_ne!(table.slot(&anna, lineage(1), Some([0; 32])), first);
        let claimed = table.by_lineage.lock();
        let sets = claimed
            .peek(&anna, &lineage(1))
            .map(|launch| launch.claimed.len());
        assert_eq!(sets, Some(MAX_SETS));
    }
}
