//! Tables of what is remembered for tenants, one tenant's entries apart from another's.
//!
//! Pure. An entry's weight is charged by whoever makes it ([`charged`]); the table counts entries.
//! The table keeps four rules, whatever is put in:
//! 1. no entry goes because of another tenant's;
//! 2. what is in use never goes;
//! 3. there are never more entries of a tenant, nor of all, than the [`Bounds`] say;
//! 4. a new entry replaces its own tenant's least recently used entry, and is refused if all
//!    of those are in use.

use std::hash::Hash;

use lru::LruCache;
use rustc_hash::FxHashMap;
use thiserror::Error;

use super::account::{Account, Charge, Full};
use super::kind::Kind;
use crate::ids::TenantId;

/// How many entries there may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Entries of one tenant, at least 1.
    pub of_tenant: usize,
    /// Entries of all tenants, at least 1.
    pub of_all: usize,
}

/// Why a table does not take an entry in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum TableFull {
    /// All entries of the tenant are in use, and it may have no more.
    #[error("this tenant has {0} already, all of them in use")]
    OfTenant(usize),
    /// There are as many as there may be, and none of the tenant's can go.
    #[error("there are {0} already, of all tenants")]
    OfAll(usize),
}

/// Entries of one tenant, or of something else that has its own, the least recently used last.
#[derive(Debug)]
pub struct LruEntries<K: Hash + Eq, V>(LruCache<K, V>);

impl<K: Hash + Eq + Clone, V> Default for LruEntries<K, V> {
    fn default() -> Self {
        Self(LruCache::unbounded())
    }
}

impl<K: Hash + Eq + Clone, V> LruEntries<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the table has no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An entry, which is the most recently used one from now on.
    pub fn get(&mut self, key: &K) -> Option<&mut V> {
        self.0.get_mut(key)
    }

    /// An entry, as it is.
    pub fn peek(&self, key: &K) -> Option<&V> {
        self.0.peek(key)
    }

    /// Puts an entry in and gives back the one that it replaces.
    pub fn put(&mut self, key: K, value: V) -> Option<V> {
        self.0.put(key, value)
    }

    /// Takes an entry out.
    pub fn take(&mut self, key: &K) -> Option<V> {
        self.0.pop(key)
    }

    /// Takes the least recently used entry out that is not in use.
    pub fn take_oldest(&mut self, is_in_use: impl Fn(&V) -> bool) -> Option<V> {
        let oldest = self.0.iter().rev().find(|(_, value)| !is_in_use(value));
        let key = oldest.map(|(key, _)| key.clone())?;
        self.0.pop(&key)
    }

    /// The entries, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter()
    }

    fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    fn take_where(&mut self, is_meant: impl Fn(&V) -> bool, out: &mut Vec<V>) {
        let meant = self.0.iter().filter(|(_, value)| is_meant(value));
        let keys: Vec<K> = meant.map(|(key, _)| key.clone()).collect();
        out.extend(keys.iter().filter_map(|key| self.0.pop(key)));
    }
}

/// A bounded table of entries by tenant and key: none goes for another tenant's, none that is in use goes.
#[derive(Debug)]
pub struct TenantTable<K: Hash + Eq, V> {
    bounds: Bounds,
    of_tenants: FxHashMap<TenantId, LruEntries<K, V>>,
    len: usize,
}

impl<K: Hash + Eq + Clone, V> TenantTable<K, V> {
    /// An empty one.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            of_tenants: FxHashMap::default(),
            len: 0,
        }
    }

    /// How many entries there are, of all tenants.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the table has no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether there are as many as there may be, of all tenants.
    pub fn is_full(&self) -> bool {
        self.len >= self.bounds.of_all.max(1)
    }

    /// How many entries the tenant has.
    pub fn len_of(&self, tenant: &TenantId) -> usize {
        self.of_tenants.get(tenant).map_or(0, LruEntries::len)
    }

    /// A tenant's entry, which is its most recently used one from now on.
    pub fn get(&mut self, tenant: &TenantId, key: &K) -> Option<&mut V> {
        self.of_tenants.get_mut(tenant)?.get(key)
    }

    /// A tenant's entry, as it is.
    pub fn peek(&self, tenant: &TenantId, key: &K) -> Option<&V> {
        self.of_tenants.get(tenant)?.peek(key)
    }

    /// Puts an entry in. Gives back what went for it: the entry of that key, else the tenant's least
    /// recently used one that was not in use, if there was no room; else nothing.
    ///
    /// # Errors
    /// [`TableFull`] when there is no room and none can be made; then nothing has changed.
    pub fn insert(
        &mut self,
        tenant: &TenantId,
        key: K,
        value: V,
        is_in_use: impl Fn(&V) -> bool,
    ) -> Result<Option<V>, TableFull> {
        if let Some(known) = self.get(tenant, &key) {
            return Ok(Some(std::mem::replace(known, value)));
        }
        let of_tenant = self.len_of(tenant);
        let crowded = if of_tenant >= self.bounds.of_tenant.max(1) {
            Some(TableFull::OfTenant(of_tenant))
        } else if self.len >= self.bounds.of_all.max(1) {
            Some(TableFull::OfAll(self.len))
        } else {
            None
        };
        let gone = match crowded {
            None => None,
            Some(crowded) => Some(self.take_oldest(tenant, is_in_use).ok_or(crowded)?),
        };
        let entries = self.of_tenants.entry(tenant.clone()).or_default();
        entries.put(key, value);
        self.len += 1;
        Ok(gone)
    }

    /// Takes a tenant's entry out.
    pub fn take(&mut self, tenant: &TenantId, key: &K) -> Option<V> {
        let taken = self.of_tenants.get_mut(tenant)?.take(key)?;
        self.went(tenant);
        Some(taken)
    }

    /// Takes the tenant's least recently used entry out that is not in use.
    pub fn take_oldest(&mut self, tenant: &TenantId, is_in_use: impl Fn(&V) -> bool) -> Option<V> {
        let taken = self.of_tenants.get_mut(tenant)?.take_oldest(is_in_use)?;
        self.went(tenant);
        Some(taken)
    }

    /// Takes out every entry that is meant, whosever it is.
    pub fn take_where(&mut self, is_meant: impl Fn(&V) -> bool) -> Vec<V> {
        let mut taken = Vec::new();
        for entries in self.of_tenants.values_mut() {
            entries.take_where(&is_meant, &mut taken);
        }
        self.of_tenants.retain(|_, entries| !entries.is_empty());
        self.len -= taken.len();
        taken
    }

    /// Every entry, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (&TenantId, &K, &V)> {
        self.of_tenants.iter().flat_map(|(tenant, entries)| {
            entries.iter().map(move |(key, value)| (tenant, key, value))
        })
    }

    /// Every value, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.of_tenants
            .values_mut()
            .flat_map(LruEntries::values_mut)
    }

    fn went(&mut self, tenant: &TenantId) {
        self.len -= 1;
        if self
            .of_tenants
            .get(tenant)
            .is_some_and(LruEntries::is_empty)
        {
            self.of_tenants.remove(tenant);
        }
    }
}

/// Charges a tenant with an entry that is about to be put in. Where the tenant holds too much,
/// `make_room` ends one of its own entries and says whether there was one to end, as often as it takes.
///
/// # Errors
/// [`Full`] when the tenant would still hold more than it may, or all would.
pub fn charged(
    account: &Account,
    kind: Kind,
    bytes: usize,
    mut make_room: impl FnMut() -> bool,
) -> Result<Charge, Full> {
    loop {
        match account.charge(kind, bytes) {
            Err(Full::OfTenant { .. }) if make_room() => {}
            otherwise => return otherwise,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::held::{HeldLimits, Ledger};

    fn tenant(n: usize) -> TenantId {
        TenantId::new(format!("t{n}"))
    }

    const BOUNDS: Bounds = Bounds {
        of_tenant: 3,
        of_all: 7,
    };

    #[test]
    fn a_flood_of_one_tenant_leaves_another_as_it_was() {
        let mut table = TenantTable::new(Bounds {
            of_tenant: 100,
            of_all: 1_000,
        });
        let (victim, flooder) = (tenant(0), tenant(1));
        table.insert(&victim, 0, "theirs", |_| false).expect("room");
        for key in 0..50_000 {
            table
                .insert(&flooder, key, "x", |_| false)
                .expect("its own go");
        }
        assert_eq!(table.peek(&victim, &0), Some(&"theirs"));
        assert_eq!((table.len_of(&flooder), table.len()), (100, 101));
    }

    #[test]
    fn when_all_are_in_use_the_newcomer_is_refused() {
        let mut table = TenantTable::new(BOUNDS);
        for key in 0..3 {
            table.insert(&tenant(0), key, key, |_| true).expect("room");
        }
        let refused = table.insert(&tenant(0), 3, 3, |_| true);
        assert_eq!(refused, Err(TableFull::OfTenant(3)));
        let made = table.insert(&tenant(0), 3, 3, |value| *value != 1);
        assert_eq!(made, Ok(Some(1)), "the one that nobody uses");
    }

    #[test]
    fn a_tenants_own_entries_make_room_for_its_bytes() {
        let ledger = Ledger::new(HeldLimits {
            of_tenant: 100,
            of_all: 1_000,
        });
        let (whose, account) = (tenant(0), ledger.account(&tenant(0)));
        let mut table = TenantTable::new(BOUNDS);
        for key in 0..2 {
            let charge = account.charge(Kind::Caller, 50).expect("room");
            table
                .insert(&whose, key, Some(charge), |_| false)
                .expect("room");
        }
        let refused = charged(&account, Kind::Caller, 60, || false);
        assert!(refused.is_err(), "nothing was made room by");
        let mut ended = 0;
        let make_room = || {
            ended += 1;
            table.take_oldest(&whose, |_| false).is_some()
        };
        let _charge = charged(&account, Kind::Caller, 60, make_room).expect("room now");
        assert_eq!((ended, table.len()), (2, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        /// The four rules, against a model that knows what is in use.
        #[test]
        fn the_rules_hold(steps in prop::collection::vec((0_usize..4, 0_u8..12, 0_u8..10), 1..300)) {
            let mut table = TenantTable::new(BOUNDS);
            let mut there: BTreeMap<(usize, u8), u64> = BTreeMap::new();
            let mut in_use: BTreeSet<u64> = BTreeSet::new();
            for (number, (whose, key, what)) in (0_u64..).zip(steps) {
                let name = tenant(whose);
                match what {
                    0..6 => {
                        let before = there.clone();
                        let used = in_use.clone();
                        let inserted = table.insert(&name, key, number, |value| used.contains(value));
                        let own = before.iter().filter(|((of, _), _)| *of == whose);
                        match inserted {
                            Ok(None) => {
                                prop_assert!(!before.contains_key(&(whose, key)));
                                there.insert((whose, key), number);
                            }
                            Ok(Some(gone)) => {
                                let (place, _) = before.iter().find(|(_, value)| **value == gone).expect("was there");
                                prop_assert_eq!(place.0, whose, "no tenant's goes for another's");
                                if place.1 != key {
                                    prop_assert!(!in_use.contains(&gone), "what is in use stays");
                                }
                                there.remove(place);
                                there.insert((whose, key), number);
                            }
                            Err(crowded) => {
                                let own: Vec<_> = own.map(|(_, value)| *value).collect();
                                prop_assert!(own.iter().all(|value| in_use.contains(value)));
                                match crowded {
                                    TableFull::OfTenant(n) => prop_assert!(n == own.len() && n == BOUNDS.of_tenant),
                                    TableFull::OfAll(n) => prop_assert!(n == before.len() && n == BOUNDS.of_all),
                                }
                            }
                        }
                    }
                    6 | 7 => {
                        let taken = table.take(&name, &key);
                        prop_assert_eq!(taken, there.remove(&(whose, key)));
                    }
                    8 => {
                        let value = table.get(&name, &key).copied();
                        prop_assert_eq!(value, there.get(&(whose, key)).copied());
                        in_use.extend(value);
                    }
                    _ => in_use.clear(),
                }
                prop_assert_eq!(table.len(), there.len());
                prop_assert!(table.len() <= BOUNDS.of_all);
                for n in 0..4 {
                    let own = there.keys().filter(|(of, _)| *of == n).count();
                    prop_assert!(own <= BOUNDS.of_tenant);
                    prop_assert_eq!(table.len_of(&tenant(n)), own);
                }
                let listed: BTreeMap<_, _> = table.iter().map(|(of, key, value)| ((of.clone(), *key), *value)).collect();
                let expected: BTreeMap<_, _> = there.iter().map(|((of, key), value)| ((tenant(*of), *key), *value)).collect();
                prop_assert_eq!(listed, expected);
            }
        }
    }
}
