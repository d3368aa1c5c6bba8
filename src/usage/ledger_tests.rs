//! The ledger under anything that may be charged, taken and given back, in any hours.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use proptest::prelude::*;

use super::row::OTHERS;
use super::*;
use crate::ids::{ServerName, TenantId};

/// What happens to a ledger.
#[derive(Clone, Debug)]
enum Step {
    Charge(u8, Option<u8>, u8, Amounts),
    Worker(u8, u8, Amounts),
    /// Rows of which every second is given back.
    Take(usize),
    Hour(u64),
}

fn amounts() -> impl Strategy<Value = Amounts> {
    prop::array::uniform10(0_u64..1_000_000).prop_map(Amounts::from_array)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let charge = (0..6_u8, prop::option::of(0..6_u8), 0..3_u8, amounts())
        .prop_map(|(t, u, s, a)| Step::Charge(t, u, s, a));
    let worker = (0..6_u8, 0..3_u8, amounts()).prop_map(|(t, s, a)| Step::Worker(t, s, a));
    let step = prop_oneof![
        6 => charge,
        3 => worker,
        2 => (1..8_usize).prop_map(Step::Take),
        1 => (0..1_500_u64).prop_map(Step::Hour),
    ];
    prop::collection::vec(step, 0..120)
}

fn tenant(n: u8) -> TenantId {
    TenantId::new(format!("t{n}"))
}

fn server(n: u8) -> ServerName {
    ServerName::new(format!("s{n}"))
}

fn user(n: Option<u8>) -> Option<Arc<str>> {
    n.map(|n| format!("u{n}").into())
}

fn sum<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Amounts {
    let mut all = Amounts::default();
    for row in rows {
        all.add(&row.amounts);
    }
    all
}

fn by_tenant(rows: &[Row]) -> BTreeMap<TenantId, Amounts> {
    let mut sums: BTreeMap<TenantId, Amounts> = BTreeMap::new();
    for row in rows {
        let of_tenant = sums.entry(row.tenant.clone()).or_default();
        of_tenant.add(&row.amounts);
    }
    sums.retain(|_, it| !it.is_zero());
    sums
}

/// A ledger to which that happened, what was charged to each tenant, and what was taken for good.
fn played(
    steps: &[Step],
    bounds: LedgerBounds,
) -> (Ledger, BTreeMap<TenantId, Amounts>, Vec<Row>, Hour) {
    let mut now = Hour(500_000);
    let mut ledger = Ledger::new(now, bounds);
    let mut charged: BTreeMap<TenantId, Amounts> = BTreeMap::new();
    let mut kept = vec![];
    for step in steps {
        match step {
            Step::Charge(t, u, s, amounts) => {
                let who = Who {
                    tenant: &tenant(*t),
                    user: &user(*u),
                    server: &server(*s),
                };
                ledger.charge(now, who, amounts);
                charged.entry(tenant(*t)).or_default().add(amounts);
            }
            Step::Worker(t, s, amounts) => {
                ledger.charge_worker(now, &tenant(*t), &server(*s), amounts);
                let own = charged.entry(tenant(*t)).or_default();
                own.add(&amounts.of_workers());
            }
            Step::Take(about) => {
                let rows = ledger.take(now, *about);
                let (written, failed): (Vec<_>, Vec<_>) = rows
                    .into_iter()
                    .enumerate()
                    .partition(|(at, _)| at % 2 == 0);
                kept.extend(written.into_iter().map(|(_, row)| row));
                ledger.put_back(failed.into_iter().map(|(_, row)| row).collect());
            }
            Step::Hour(ahead) => now = Hour(now.0 + ahead),
        }
    }
    charged.retain(|_, it| !it.is_zero());
    (ledger, charged, kept, now)
}

const ROOMY: LedgerBounds = LedgerBounds {
    of_tenant: 1_000,
    of_all: 10_000,
    tenants: 1_000,
    closed: 10_000,
};

proptest! {
    /// Whatever is charged is in what was taken, or still to be taken, of its tenant; and once everything is taken, nothing is left.
    #[test]
    fn nothing_is_lost_and_nothing_is_counted_twice(steps in steps()) {
        let (mut ledger, charged, kept, now) = played(&steps, ROOMY);
        let mut all = kept.clone();
        all.extend(ledger.pending());
        prop_assert_eq!(by_tenant(&all), charged.clone());
        let mut all = kept;
        loop {
            let rows = ledger.take(now, 3);
            if rows.is_empty() {
                break;
            }
            all.extend(rows);
        }
        prop_assert_eq!(by_tenant(&all), charged);
        prop_assert!(ledger.pending().is_empty());
    }

    /// The sums are the same where bounds put rows together, and an hour has no more names than they say.
    #[test]
    fn bounds_put_rows_together_and_lose_nothing(
        steps in steps(),
        of_tenant in 1..4_usize,
        of_all in 1..6_usize,
        tenants in 1..4_usize,
        closed in 1..4_usize,
    ) {
        let bounds = LedgerBounds { of_tenant, of_all, tenants, closed };
        let (ledger, charged, kept, _) = played(&steps, bounds);
        let pending = ledger.pending();
        let mut whole = Amounts::default();
        for amounts in charged.values() {
            whole.add(amounts);
        }
        prop_assert_eq!(sum(kept.iter().chain(&pending)), whole);
        type Names = BTreeSet<(TenantId, Option<Arc<str>>, ServerName)>;
        let mut hours: BTreeMap<Hour, Names> = BTreeMap::new();
        for row in kept.iter().chain(&pending) {
            let name = (row.tenant.clone(), row.user.clone(), row.server.clone());
            hours.entry(row.hour).or_default().insert(name);
        }
        for names in hours.values() {
            // Of each server, what is the others'; else what there is room for.
            let told_apart = names.iter().filter(|(tenant, user, _)| {
                tenant.as_str() != OTHERS && user.as_deref() != Some(OTHERS)
            });
            let count = told_apart.count();
            prop_assert!(count <= of_all * 2 + 1, "{} of {}", count, of_all);
        }
    }

    /// What a worker used is divided among those who called, and no more and no less than that.
    #[test]
    fn parts_sum_up_to_the_whole(
        amounts in amounts(),
        weights in prop::collection::vec(0_u64..1_000, 1..20),
    ) {
        prop_assume!(weights.iter().any(|it| *it > 0));
        let parts = amounts.divided(&weights);
        let mut all = Amounts::default();
        for part in &parts {
            all.add(part);
        }
        prop_assert_eq!(all, amounts);
        for (part, weight) in parts.iter().zip(&weights) {
            prop_assert!(*weight > 0 || part.is_zero());
        }
    }
}

fn call(calls: u64) -> Amounts {
    Amounts {
        requests: calls,
        calls,
        ..Amounts::default()
    }
}

fn hour(text: &str) -> Hour {
    Hour::of(at(text))
}

fn at(text: &str) -> SystemTime {
    humantime::parse_rfc3339_weak(text).expect("a time")
}

#[test]
fn what_a_worker_uses_is_of_those_who_called_lately_and_else_of_no_user() {
    let now = Hour(1);
    let mut ledger = Ledger::new(now, ROOMY);
    let (acme, demo) = (tenant(1), server(1));
    let (ada, bob) = (user(Some(1)), user(Some(2)));
    for (user, calls) in [(&ada, 3), (&bob, 1)] {
        let who = Who {
            tenant: &acme,
            user,
            server: &demo,
        };
        ledger.charge(now, who, &call(calls));
    }
    let used = Amounts {
        cpu_ms: 400,
        awake_kib_ms: 41,
        ..Amounts::default()
    };
    ledger.charge_worker(now, &acme, &demo, &used);
    let of = |rows: &[Row], user: &Option<Arc<str>>| {
        let row = rows.iter().find(|row| row.user == *user);
        row.map(|row| (row.amounts.cpu_ms, row.amounts.awake_kib_ms))
    };
    let rows = ledger.take(now, 10);
    assert_eq!(rows.len(), 2);
    assert_eq!(of(&rows, &ada), Some((300, 31)));
    assert_eq!(of(&rows, &bob), Some((100, 10)));
    ledger.charge_worker(now, &acme, &demo, &used);
    let rows = ledger.take(now, 10);
    assert_eq!(rows.len(), 1, "nobody has called since");
    assert_eq!(of(&rows, &None), Some((400, 41)));
}

#[test]
fn a_quota_is_exhausted_until_the_month_is_over() {
    let quotas = Quotas {
        monthly_calls: 3,
        memory_hours: 1 << 30,
    };
    let mut now = hour("2026-11-30T22:10:00Z");
    let mut ledger = Ledger::new(now, ROOMY);
    let (acme, demo) = (tenant(1), server(1));
    let who = Who {
        tenant: &acme,
        user: &None,
        server: &demo,
    };
    let begins_anew = at("2026-12-01T00:00:00Z");
    let verdict = |ledger: &Ledger, now| quotas.verdict(now, ledger.of_month(now, &acme));
    // Two of an earlier run.
    ledger.had_used(
        &acme,
        MonthSum {
            calls: 2,
            kib_ms: 0,
        },
    );
    assert_eq!(verdict(&ledger, now), Verdict::Allowed);
    ledger.charge(now, who, &call(1));
    let exhausted = |quota| Verdict::Exhausted { quota, begins_anew };
    assert_eq!(verdict(&ledger, now), exhausted(Quota::MonthlyCalls));
    // What is written down counts on.
    assert_eq!(ledger.take(now, 10).len(), 1);
    now = hour("2026-11-30T23:59:59Z");
    assert_eq!(verdict(&ledger, now), exhausted(Quota::MonthlyCalls));
    now = hour("2026-12-01T00:00:00Z");
    assert_eq!(verdict(&ledger, now), Verdict::Allowed);
    ledger.charge(now, who, &call(2));
    assert_eq!(ledger.of_month(now, &acme).calls, 2);
    assert_eq!(verdict(&ledger, now), Verdict::Allowed);
    let of_hours = |hours: u64| Amounts {
        asleep_kib_ms: (1 << 20) * 3_600_000 * hours / 2,
        ..Amounts::default()
    };
    ledger.charge_worker(now, &acme, &demo, &of_hours(1));
    assert_eq!(verdict(&ledger, now), Verdict::Allowed, "half of it");
    ledger.charge_worker(now, &acme, &demo, &of_hours(1));
    assert!(matches!(
        verdict(&ledger, now),
        Verdict::Exhausted { quota: Quota::MemoryHours, begins_anew } if begins_anew == at("2027-01-01T00:00:00Z")
    ));
    let none = Quotas::default();
    assert!(!none.is_limited());
    assert_eq!(
        none.verdict(now, ledger.of_month(now, &acme)),
        Verdict::Allowed
    );
}

#[test]
fn what_is_beyond_a_bound_is_the_others() {
    let now = Hour(9);
    let bounds = LedgerBounds {
        of_tenant: 3,
        ..ROOMY
    };
    let mut ledger = Ledger::new(now, bounds);
    let (acme, demo) = (tenant(1), server(1));
    for n in 0..10 {
        let who = Who {
            tenant: &acme,
            user: &user(Some(n)),
            server: &demo,
        };
        ledger.charge(now, who, &call(1));
    }
    let rows = ledger.take(now, 100);
    let others = rows.iter().find(|row| row.user.as_deref() == Some(OTHERS));
    assert_eq!(others.map(|row| row.amounts.calls), Some(8));
    // One of them is known again as before, though all was taken.
    let who = Who {
        tenant: &acme,
        user: &user(Some(0)),
        server: &demo,
    };
    ledger.charge(now, who, &call(1));
    let rows = ledger.take(now, 100);
    assert_eq!((rows.len(), rows[0].user.clone()), (1, user(Some(0))));
    // In the next hour there is room again.
    let who = Who {
        user: &user(Some(9)),
        ..who
    };
    ledger.charge(Hour(10), who, &call(1));
    let rows = ledger.take(Hour(10), 100);
    assert_eq!((rows.len(), rows[0].user.clone()), (1, user(Some(9))));
}
