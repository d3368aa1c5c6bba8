//! Rows of what was used: added, put together, read.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use rusqlite::{Connection, params_from_iter};

use super::schema::MIGRATIONS;
use super::usage::{Span, Tidied, UsageFilter, UsedInSpan, added, put_right, read, tidy};
use super::{OpenedState, StateDir};
use crate::ids::{ServerName, TenantId};
use crate::usage::{Amounts, Hour, OTHERS, Row};

const DAY: i64 = 86_400;
/// A day of UTC, the last of November 2026.
const TODAY: i64 = 20_787 * DAY;

fn database() -> Connection {
    let db = Connection::open_in_memory().expect("opens");
    for step in MIGRATIONS {
        db.execute_batch(step).expect("a table");
    }
    db
}

fn add(db: &Connection, at: i64, names: [&str; 3], amounts: Amounts) {
    let start = at - at.rem_euclid(3_600);
    let mut values = vec![3_600.to_string(), start.to_string()];
    values.extend(names.map(str::to_owned));
    values.extend(amounts.to_array().map(|n| n.to_string()));
    db.execute(&added(), params_from_iter(values))
        .expect("added");
}

fn calls(calls: u64) -> Amounts {
    Amounts {
        requests: calls,
        calls,
        ..Amounts::default()
    }
}

fn all(span: Span) -> UsageFilter {
    UsageFilter {
        tenant: None,
        user: None,
        server: None,
        since: None,
        span,
    }
}

fn by_tenant_and_server(rows: &[UsedInSpan]) -> BTreeMap<(String, String), Amounts> {
    let mut sums: BTreeMap<_, Amounts> = BTreeMap::new();
    for row in rows {
        let name = (row.tenant.clone(), row.server.clone());
        sums.entry(name).or_default().add(&row.amounts);
    }
    sums
}

/// Does all that there is to do at that time.
fn tidy_all(db: &mut Connection, now: i64, max_rows: i64) -> Vec<Tidied> {
    let mut done = vec![];
    loop {
        let transaction = db.transaction().expect("begins");
        let tidied = tidy(&transaction, now, max_rows).expect("tidies");
        transaction.commit().expect("commits");
        if tidied == Tidied::Nothing {
            return done;
        }
        done.push(tidied);
        assert!(done.len() < 10_000, "it does not end");
    }
}

fn count(db: &Connection) -> i64 {
    db.query_row("SELECT count(*) FROM usage", [], |row| row.get(0))
        .expect("counted")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// As long as no day has to go, no sum of a tenant and server changes, whatever is put together; nor does that of a month.
    #[test]
    fn sums_stay_when_rows_are_put_together(
        rows in prop::collection::vec(
            (0..200_i64, 0..24_i64, 0..3_u8, 0..4_u8, 0..2_u8, 1..1_000_u64), 0..150),
        max_rows in 1..100_i64,
    ) {
        let mut db = database();
        for (day, hour, tenant, user, server, n) in rows {
            let user = if user == 0 { String::new() } else { format!("u{user}") };
            let (tenant, server) = (format!("t{tenant}"), format!("s{server}"));
            add(&db, TODAY - day * DAY + hour * 3_600, [&tenant, &user, &server], calls(n));
        }
        let before = read(&db, &all(Span::All), 1_000).expect("read");
        let months = read(&db, &all(Span::Month), 10_000).expect("read");
        tidy_all(&mut db, TODAY + DAY - 1, 1_000_000);
        prop_assert_eq!(&read(&db, &all(Span::Month), 10_000).expect("read"), &months);
        let after = read(&db, &all(Span::All), 1_000).expect("read");
        prop_assert_eq!(by_tenant_and_server(&after), by_tenant_and_server(&before));
        let hours: i64 = db
            .query_row("SELECT count(*) FROM usage WHERE span = 3600 AND start < ?1", [TODAY - 14 * DAY], |row| row.get(0))
            .expect("counted");
        prop_assert_eq!(hours, 0, "hours become days");
        // Users first, then days: of one day nothing goes.
        let least = by_tenant_and_server(&before).len();
        tidy_all(&mut db, TODAY + DAY - 1, max_rows);
        let today = i64::try_from(least).expect("few") * 24;
        prop_assert!(count(&db) <= max_rows.max(today), "{}", count(&db));
    }

    /// Rows that are not written yet make the same with those that are as if they had been.
    #[test]
    fn a_reading_is_the_same_before_and_after_a_write(
        rows in prop::collection::vec((0..80_i64, 0..24_i64, 0..3_u8, 0..3_u8, 1..1_000_u64), 0..60),
        written in 0..60_usize,
        span in prop::sample::select(vec![Span::Hour, Span::Day, Span::Month, Span::All]),
        tenant in prop::option::of(0..3_u8),
        since in prop::option::of(0..80_i64),
    ) {
        let db = database();
        let filter = UsageFilter {
            tenant: tenant.map(|n| format!("t{n}")),
            since: since.map(|days| UNIX_EPOCH + Duration::from_secs((TODAY - days * DAY + 1_800).unsigned_abs())),
            ..all(span)
        };
        let mut pending = vec![];
        for (n, (day, hour, tenant, user, calls_made)) in rows.into_iter().enumerate() {
            let (tenant, user) = (format!("t{tenant}"), format!("u{user}"));
            let at = TODAY - day * DAY + hour * 3_600;
            if n < written {
                add(&db, at, [&tenant, &user, "s"], calls(calls_made));
            } else {
                pending.push((at, tenant, user, calls_made));
            }
        }
        let row = |(at, tenant, user, n): &(i64, String, String, u64)| Row {
            tenant: TenantId::new(tenant.as_str()),
            user: Some(user.as_str().into()),
            server: ServerName::new("s"),
            hour: Hour(at.unsigned_abs() / 3_600),
            amounts: calls(*n),
        };
        let kept = read(&db, &filter, 10_000).expect("read");
        let before = filter.merged(kept, filter.of_rows(pending.iter().map(row).collect()));
        for (at, tenant, user, n) in &pending {
            add(&db, *at, [tenant, user, "s"], calls(*n));
        }
        let after = filter.merged(read(&db, &filter, 10_000).expect("read"), vec![]);
        prop_assert_eq!(before, after);
    }
}

#[test]
fn what_is_too_much_is_put_together_before_anything_goes() {
    let mut db = database();
    for day in 0..10 {
        for user in ["", "ada", "bob", "cy"] {
            for hour in 0..3 {
                let at = TODAY - day * DAY + hour * 3_600;
                add(&db, at, ["acme", user, "demo"], calls(1));
            }
        }
    }
    assert_eq!(count(&db), 120);
    assert_eq!(tidy_all(&mut db, TODAY + 3_600, 1_000), []);
    // Hours of days before this one: 9 days of 4, and 12 rows of today.
    let done = tidy_all(&mut db, TODAY + 3_600, 50);
    assert_eq!((done.len(), count(&db)), (9, 48));
    assert!(done.iter().all(|it| *it == Tidied::ForRoom));
    tidy_all(&mut db, TODAY + 3_600, 40);
    let rows = read(&db, &all(Span::Day), 1_000).expect("read");
    let oldest = rows
        .iter()
        .filter(|row| i64::try_from(row.from).expect("a time") == TODAY - 9 * DAY);
    let oldest: Vec<_> = oldest
        .map(|row| (row.user.as_str(), row.amounts.calls))
        .collect();
    assert_eq!(oldest, [("", 3), (OTHERS, 9)]);
    tidy_all(&mut db, TODAY + 3_600, 12);
    let rows = read(&db, &all(Span::All), 1_000).expect("read");
    let calls: u64 = rows.iter().map(|row| row.amounts.calls).sum();
    // Of this day three hours, and the three days before it; the six before those have gone.
    assert_eq!((count(&db), calls), (12, 48));
    // In time, days go as well.
    tidy_all(&mut db, TODAY + 402 * DAY, 1_000);
    assert_eq!(count(&db), 0);
}

#[test]
fn hours_that_are_yet_to_come_are_taken_for_this_one() {
    let db = database();
    add(&db, TODAY + 40 * DAY, ["acme", "ada", "demo"], calls(2));
    add(&db, TODAY + 50 * DAY, ["acme", "ada", "demo"], calls(3));
    add(&db, TODAY, ["acme", "ada", "demo"], calls(1));
    put_right(&db, TODAY + 1_800).expect("put right");
    let rows = read(&db, &all(Span::Hour), 1_000).expect("read");
    let rows: Vec<_> = rows
        .iter()
        .map(|row| (row.from, row.amounts.calls))
        .collect();
    assert_eq!(rows, [(TODAY.unsigned_abs(), 6)]);
}

#[tokio::test]
async fn what_was_added_is_there_after_a_restart_and_counts_for_the_month() {
    let base = tempfile::tempdir().expect("a folder");
    let dir = StateDir::open(base.path()).expect("opens");
    let row = |n: u64| Row {
        tenant: TenantId::new("acme"),
        user: Some("ada".into()),
        server: ServerName::new("demo"),
        hour: Hour::of(SystemTime::now()),
        amounts: Amounts {
            awake_kib_ms: 7,
            ..calls(n)
        },
    };
    {
        let opened = OpenedState::open(&dir).expect("opens");
        assert!(opened.used_in_month.is_empty());
        for n in [2, 3] {
            opened.usage.add([row(n)].into()).await.expect("kept");
        }
        let rows = opened.usage.read(all(Span::Hour), 10).await.expect("read");
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].amounts.calls, rows[0].user.as_str()), (5, "ada"));
        let now = SystemTime::now();
        assert_eq!(
            opened.usage.tidy(now).await.expect("tidies"),
            Tidied::Nothing
        );
    }
    let opened = OpenedState::open(&dir).expect("opens again");
    let (tenant, used) = &opened.used_in_month[0];
    assert_eq!((tenant.as_str(), used.calls, used.kib_ms), ("acme", 5, 14));
}
