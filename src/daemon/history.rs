//! What has happened, for as long as there is room: a bounded list in which one tenant's entries do not
//! push out another's.
//!
//! Pure. A tenant at its own bound loses its oldest entry; when all is full, the tenant with most loses its
//! oldest. What concerns no tenant counts as one of its own.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::ids::TenantId;

/// Entries in the order in which they came, bounded by tenant and in all.
#[derive(Debug)]
pub(super) struct History<T> {
    of_tenant: usize,
    of_all: usize,
    /// Each entry with its number, oldest first.
    entries: FxHashMap<Option<TenantId>, VecDeque<(u64, T)>>,
    len: usize,
    next: u64,
}

impl<T: Clone> History<T> {
    /// An empty one; both bounds are at least 1.
    pub(super) fn new(of_tenant: usize, of_all: usize) -> Self {
        Self {
            of_tenant,
            of_all,
            entries: FxHashMap::default(),
            len: 0,
            next: 0,
        }
    }

    /// Adds an entry.
    pub(super) fn push(&mut self, tenant: Option<&TenantId>, entry: T) {
        let tenant = tenant.cloned();
        let own = self.entries.get(&tenant).map_or(0, VecDeque::len);
        if own >= self.of_tenant {
            self.drop_oldest_of(&tenant);
        } else if self.len >= self.of_all {
            let most = self.entries.iter().max_by_key(|(_, own)| own.len());
            if let Some(most) = most.map(|(tenant, _)| tenant.clone()) {
                self.drop_oldest_of(&most);
            }
        }
        let number = self.next;
        self.next += 1;
        let own = self.entries.entry(tenant).or_default();
        own.push_back((number, entry));
        self.len += 1;
    }

    fn drop_oldest_of(&mut self, tenant: &Option<TenantId>) {
        let Some(own) = self.entries.get_mut(tenant) else {
            return;
        };
        self.len -= usize::from(own.pop_front().is_some());
        if own.is_empty() {
            self.entries.remove(tenant);
        }
    }

    /// The entries that are meant, oldest first.
    pub(super) fn where_(&self, is_meant: impl Fn(&T) -> bool) -> Vec<T> {
        let all = self.entries.values().flatten();
        let mut meant: Vec<_> = all.filter(|(_, entry)| is_meant(entry)).collect();
        meant.sort_by_key(|(number, _)| *number);
        meant.into_iter().map(|(_, entry)| entry.clone()).collect()
    }

    /// The latest entries that are meant, at most so many, the newest first.
    pub(super) fn latest(&self, most: usize, is_meant: impl Fn(&T) -> bool) -> Vec<T> {
        let all = self.entries.values().flatten();
        let mut meant: Vec<_> = all.filter(|(_, entry)| is_meant(entry)).collect();
        let newest = |entry: &&(u64, T)| std::cmp::Reverse(entry.0);
        if most > 0 && meant.len() > most {
            meant.select_nth_unstable_by_key(most - 1, newest);
        }
        meant.truncate(most);
        meant.sort_unstable_by_key(newest);
        meant.into_iter().map(|(_, entry)| entry.clone()).collect()
    }

    /// The latest entry that is meant.
    pub(super) fn last_where(&self, is_meant: impl Fn(&T) -> bool) -> Option<T> {
        let all = self.entries.values().flatten();
        let meant = all.filter(|(_, entry)| is_meant(entry));
        let last = meant.max_by_key(|(number, _)| *number);
        last.map(|(_, entry)| entry.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_flood_of_one_tenant_leaves_what_is_known_of_others() {
        let (loud, quiet) = (TenantId::new("loud"), TenantId::new("quiet"));
        let mut history = History::new(3, 5);
        history.push(Some(&quiet), 0);
        history.push(None, 1);
        for n in 2..100 {
            history.push(Some(&loud), n);
        }
        assert_eq!(history.where_(|_| true), [0, 1, 97, 98, 99]);
        history.push(Some(&quiet), 100);
        assert_eq!(
            history.where_(|_| true),
            [0, 1, 98, 99, 100],
            "the loudest loses"
        );
        assert_eq!(history.last_where(|n| *n < 99), Some(98));
        assert_eq!(history.latest(2, |n| *n != 99), [100, 98]);
        assert_eq!(history.latest(9, |_| true), [100, 99, 98, 1, 0]);
        assert!(history.latest(0, |_| true).is_empty());
    }

    proptest! {
        #[test]
        fn the_bounds_hold_and_the_latest_is_there(tenants in prop::collection::vec(0_u8..6, 1..200)) {
            let mut history = History::new(4, 10);
            for (n, tenant) in tenants.iter().enumerate() {
                let tenant = (*tenant > 0).then(|| TenantId::new(format!("t{tenant}")));
                history.push(tenant.as_ref(), (tenant.clone(), n));
                let all = history.where_(|_| true);
                prop_assert!(all.len() <= 10 && all.len() == history.len);
                prop_assert!(all.iter().filter(|(own, _)| *own == tenant).count() <= 4);
                prop_assert_eq!(all.last().map(|(_, n)| *n), Some(n));
                prop_assert!(all.is_sorted_by_key(|(_, n)| *n));
            }
        }
    }
}
