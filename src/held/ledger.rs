//! Counts what is held, by tenant, by kind and in all.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::account::{Account, Reclaim, Tenant, Totals};
use super::kind::Kind;

use crate::fair::Scheduler;
use crate::ids::TenantId;

/// How many accounts there may be before those that hold nothing are looked for.
const FIRST_LOOK: usize = 1024;
/// Parts of the limit of all: of those who have shown no credentials, and of connections that have.
const STRANGERS_PART: u64 = 8;
const SHARED_PART: u64 = 2;

/// The limits of held memory, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeldLimits {
    /// Bytes of one tenant, unless it has a limit of its own.
    pub of_tenant: u64,
    /// Bytes of all tenants together.
    pub of_all: u64,
}

/// The memory that is held, and its limits. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    scheduler: Scheduler,
    totals: Arc<Totals>,
    tenants: Arc<Mutex<Tenants>>,
    strangers: Account,
    shared: Account,
}

struct Tenants {
    accounts: FxHashMap<TenantId, Arc<Tenant>>,
    /// Bytes that a tenant without a limit of its own may hold.
    limit: u64,
    /// HeldLimits of tenants that have their own.
    own: FxHashMap<TenantId, u64>,
    /// With how many accounts the next look for empty ones is due.
    look_at: usize,
}

impl Tenants {
    fn limit_of(&self, tenant: &TenantId) -> u64 {
        self.own.get(tenant).copied().unwrap_or(self.limit)
    }
}

impl Ledger {
    /// An empty one.
    pub fn new(limits: HeldLimits) -> Self {
        let scheduler = Scheduler::default();
        let totals = Arc::new(Totals {
            held: AtomicU64::new(0),
            limit: AtomicU64::new(limits.of_all),
            of_kind: std::array::from_fn(|_| AtomicU64::new(0)),
            refused_of_tenants: AtomicU64::new(0),
            refused_of_all: AtomicU64::new(0),
            reclaimed: AtomicU64::new(0),
            paced: AtomicU64::new(0),
            reclaim: OnceLock::new(),
        });
        let part = |of: u64| {
            Account(Arc::new(Tenant {
                held: AtomicU64::new(0),
                limit: AtomicU64::new(limits.of_all / of),
                totals: Arc::clone(&totals),
                flow: scheduler.flow(),
            }))
        };
        Self {
            strangers: part(STRANGERS_PART),
            shared: part(SHARED_PART),
            tenants: Arc::new(Mutex::new(Tenants {
                accounts: FxHashMap::default(),
                limit: limits.of_tenant,
                own: FxHashMap::default(),
                look_at: FIRST_LOOK,
            })),
            scheduler,
            totals,
        }
    }

    /// A ledger without limits, for tests and tools.
    pub fn unlimited() -> Self {
        Self::new(HeldLimits {
            of_tenant: u64::MAX,
            of_all: u64::MAX,
        })
    }

    /// The account of a tenant, made if there is none. To be looked up once and kept beside what is charged.
    pub fn account(&self, tenant: &TenantId) -> Account {
        let mut tenants = self.tenants.lock();
        if let Some(known) = tenants.accounts.get(tenant) {
            return Account(Arc::clone(known));
        }
        if tenants.accounts.len() >= tenants.look_at {
            tenants.accounts.retain(|_, account| {
                Arc::strong_count(account) > 1 || account.held.load(Ordering::Relaxed) > 0
            });
            tenants.look_at = FIRST_LOOK.max(2 * tenants.accounts.len());
        }
        let account = Arc::new(Tenant {
            held: AtomicU64::new(0),
            limit: AtomicU64::new(tenants.limit_of(tenant)),
            totals: Arc::clone(&self.totals),
            flow: self.scheduler.flow(),
        });
        tenants
            .accounts
            .insert(tenant.clone(), Arc::clone(&account));
        Account(account)
    }

    /// The account of all who have shown no credentials: an eighth of what all may hold.
    pub fn strangers(&self) -> &Account {
        &self.strangers
    }

    /// The account of connections that showed credentials before, until it is known whose their next request is: half of what
    /// all may hold.
    pub fn shared(&self) -> &Account {
        &self.shared
    }

    /// Before a tenant is refused anything but [expendable](Kind::is_expendable) bytes, what that one keeps for it goes.
    /// The first that is named stays.
    pub fn reclaims_from(&self, keeper: Weak<dyn Reclaim>) {
        let _another = self.totals.reclaim.set(keeper);
    }

    /// How often something went that was kept, because its tenant had no room.
    pub fn reclaimed(&self) -> u64 {
        self.totals.reclaimed.load(Ordering::Relaxed)
    }

    /// How long bodies have waited in all because their tenants sent faster than they may.
    pub fn paced(&self) -> Duration {
        Duration::from_nanos(self.totals.paced.load(Ordering::Relaxed))
    }

    /// The scheduler that grants turns to the flows of accounts, and of others that want time beside them.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// Puts other limits in force, of tenants that have accounts and of those that get them later. Bytes that are
    /// held already stay. `own` are the limits, in bytes, of tenants that have their own.
    pub fn set_limits(&self, limits: HeldLimits, own: impl IntoIterator<Item = (TenantId, u64)>) {
        self.totals.limit.store(limits.of_all, Ordering::Relaxed);
        for (account, part) in [
            (&self.strangers, STRANGERS_PART),
            (&self.shared, SHARED_PART),
        ] {
            let limit = limits.of_all / part;
            account.0.limit.store(limit, Ordering::Relaxed);
        }
        let mut tenants = self.tenants.lock();
        tenants.limit = limits.of_tenant;
        tenants.own = own.into_iter().collect();
        for (tenant, account) in &tenants.accounts {
            account
                .limit
                .store(tenants.limit_of(tenant), Ordering::Relaxed);
        }
    }

    /// Bytes held by all tenants.
    pub fn held(&self) -> u64 {
        self.totals.held.load(Ordering::Relaxed)
    }

    /// Bytes that all tenants may hold.
    pub fn limit(&self) -> u64 {
        self.totals.limit.load(Ordering::Relaxed)
    }

    /// Bytes that a tenant without a limit of its own may hold.
    pub fn limit_of_tenants(&self) -> u64 {
        self.tenants.lock().limit
    }

    /// Bytes held of that kind.
    pub fn held_of(&self, kind: Kind) -> u64 {
        self.totals.of_kind[kind.number()].load(Ordering::Relaxed)
    }

    /// How often bytes were not taken in because a tenant would have held too many.
    pub fn refused_of_tenants(&self) -> u64 {
        self.totals.refused_of_tenants.load(Ordering::Relaxed)
    }

    /// How often bytes were not taken in because all tenants together would have held too many.
    pub fn refused_of_all(&self) -> u64 {
        self.totals.refused_of_all.load(Ordering::Relaxed)
    }

    /// What each tenant holds that holds something, in no order.
    pub fn by_tenant(&self) -> Vec<(TenantId, u64)> {
        let tenants = self.tenants.lock();
        let held = tenants.accounts.iter();
        held.map(|(tenant, account)| (tenant.clone(), account.held.load(Ordering::Relaxed)))
            .filter(|(_, held)| *held > 0)
            .collect()
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("held", &self.held())
            .field("limit", &self.limit())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::held::{Charge, Full};

    fn ledger(of_tenant: u64, of_all: u64) -> Ledger {
        Ledger::new(HeldLimits { of_tenant, of_all })
    }

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name.to_owned())
    }

    #[test]
    fn a_tenant_is_refused_at_its_limit_and_another_is_not() {
        let ledger = ledger(100, 150);
        let (one, other) = (
            ledger.account(&tenant("one")),
            ledger.account(&tenant("other")),
        );
        let held = one.charge(Kind::Body, 100).expect("room");
        let refused = one.charge(Kind::Session, 1).expect_err("full");
        assert_eq!(
            refused,
            Full::OfTenant {
                held: 100,
                limit: 100
            }
        );
        let _theirs = other.charge(Kind::Body, 50).expect("room");
        let refused = other.charge(Kind::Body, 1).expect_err("full");
        assert_eq!(
            refused,
            Full::OfAll {
                held: 150,
                limit: 150
            }
        );
        let refused = (ledger.refused_of_tenants(), ledger.refused_of_all());
        assert_eq!((refused, ledger.held_of(Kind::Session)), ((1, 1), 0));
        drop(held);
        assert_eq!((one.held(), ledger.held()), (0, 50));
        assert_eq!(ledger.by_tenant(), [(tenant("other"), 50)]);
    }

    #[test]
    fn what_cannot_be_refused_counts_against_what_comes_next() {
        let ledger = ledger(10, 100);
        let account = ledger.account(&tenant("one"));
        let large = account.charge_anyway(Kind::Answer, 60);
        assert!(account.charge(Kind::Body, 1).is_err());
        drop(large);
        assert!(account.charge(Kind::Body, 1).is_ok());
    }

    #[test]
    fn limits_of_tenants_hold_for_accounts_that_come_later() {
        let ledger = ledger(10, 1000);
        let early = ledger.account(&tenant("early"));
        let limits = HeldLimits {
            of_tenant: 20,
            of_all: 1000,
        };
        ledger.set_limits(limits, [(tenant("early"), 30), (tenant("late"), 40)]);
        let late = ledger.account(&tenant("late"));
        let other = ledger.account(&tenant("other"));
        assert_eq!((early.limit(), late.limit(), other.limit()), (30, 40, 20));
        ledger.set_limits(limits, []);
        assert_eq!((early.limit(), late.limit()), (20, 20));
    }

    #[test]
    fn what_can_be_dropped_leaves_room_for_what_cannot() {
        let ledger = ledger(100, 1000);
        let account = ledger.account(&tenant("one"));
        let _messages = account.charge(Kind::Message, 50).expect("half");
        assert!(account.charge(Kind::Replay, 1).is_err());
        assert!(account.charge(Kind::Answer, 50).is_ok());
    }

    #[test]
    fn what_others_hold_keeps_no_tenant_from_being_told_something() {
        let ledger = ledger(100, 120);
        let other = ledger.account(&tenant("other"));
        let _sessions = other.charge(Kind::Session, 100).expect("room");
        let account = ledger.account(&tenant("one"));
        assert!(account.charge(Kind::Message, 20).is_ok());
    }

    /// Keeps charges, the oldest first.
    #[derive(Debug, Default)]
    struct ChargeQueue(Mutex<std::collections::VecDeque<Charge>>);

    impl Reclaim for ChargeQueue {
        fn reclaim(&self, account: &Account) -> bool {
            let mut kept = self.0.lock();
            let meant = |charge: &Charge| charge.account().key() == account.key();
            let at = kept.iter().position(meant);
            at.and_then(|at| kept.remove(at)).is_some()
        }
    }

    #[test]
    fn what_is_kept_of_a_tenant_goes_before_it_is_refused() {
        let ledger = ledger(100, 150);
        let (one, other) = (
            ledger.account(&tenant("one")),
            ledger.account(&tenant("other")),
        );
        let kept = Arc::new(ChargeQueue::default());
        let keeper: Weak<dyn Reclaim> = Arc::downgrade(&(Arc::clone(&kept) as Arc<dyn Reclaim>));
        ledger.reclaims_from(keeper);
        let keep = |account: &Account, bytes| {
            let charge = account.charge(Kind::Answer, bytes).expect("room");
            kept.0.lock().push_back(charge);
        };
        keep(&other, 20);
        keep(&one, 30);
        keep(&one, 40);
        let _body = one.charge(Kind::Body, 50).expect("the oldest has gone");
        assert_eq!((one.held(), other.held(), ledger.reclaimed()), (90, 20, 1));
        assert!(one.charge(Kind::Body, 101).is_err(), "it never fits");
        assert!(one.charge(Kind::Replay, 20).is_err(), "it may be dropped");
        assert_eq!((one.held(), ledger.refused_of_tenants()), (90, 2));
        let _more = one.charge(Kind::Answer, 50).expect("the other has gone");
        assert!(one.charge(Kind::Answer, 1).is_err(), "there is no more");
        assert_eq!((one.held(), other.held()), (100, 20));
    }

    #[test]
    fn accounts_of_tenants_that_hold_nothing_go() {
        let ledger = ledger(10, 100);
        let kept = ledger
            .account(&tenant("kept"))
            .charge(Kind::Body, 1)
            .expect("room");
        for n in 0..4 * FIRST_LOOK {
            let _account = ledger.account(&tenant(&format!("t{n}")));
        }
        assert!(ledger.tenants.lock().accounts.len() <= FIRST_LOOK);
        assert_eq!(ledger.account(&tenant("kept")).held(), kept.bytes());
    }

    proptest! {
        /// The held bytes are the sum of the charges that live, and never more than the limits.
        #[test]
        fn the_sums_agree(steps in proptest::collection::vec((0_usize..3, 0_usize..13, 0_usize..60, 0_u8..4), 0..200)) {
            let ledger = ledger(100, 220);
            let accounts: Vec<_> = (0..3).map(|n| ledger.account(&tenant(&n.to_string()))).collect();
            let mut charges: Vec<(usize, Charge)> = vec![];
            for (whose, kind, bytes, what) in steps {
                match what {
                    0 | 1 => charges.extend(accounts[whose].charge(Kind::ALL[kind], bytes).ok().map(|charge| (whose, charge))),
                    2 if !charges.is_empty() => drop(charges.swap_remove(bytes % charges.len())),
                    _ => if let Some((_, charge)) = charges.last_mut() { let _refused = charge.resize(bytes); },
                }
                for (n, account) in accounts.iter().enumerate() {
                    let sum: u64 = charges.iter().filter(|(of, _)| *of == n).map(|(_, charge)| charge.bytes()).sum();
                    prop_assert_eq!(account.held(), sum);
                    prop_assert!(sum <= 100);
                }
                let sum: u64 = charges.iter().map(|(_, charge)| charge.bytes()).sum();
                prop_assert_eq!(ledger.held(), sum);
                prop_assert!(sum <= 220);
                let kinds: u64 = Kind::ALL.iter().map(|kind| ledger.held_of(*kind)).sum();
                prop_assert_eq!(kinds, sum);
            }
            drop(charges);
            prop_assert_eq!(ledger.held(), 0);
        }
    }
}
