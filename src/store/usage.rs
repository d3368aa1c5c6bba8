//! What tenants, users and servers have used, by hour and by day.
//!
//! Hours are put together to days of UTC after [`HOURS_KEPT`], and days go after [`DAYS_KEPT`]. There are about [`MAX_ROWS`] rows at the
//! most: beyond that hours become days sooner, then users of the oldest days are counted together, then the oldest days go. But for
//! the last, no sum of a tenant and server changes by any of this.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::SystemTime;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Transaction, params, params_from_iter};

use super::database::{self, Database, DatabaseError};
use super::times::seconds;
use crate::ids::TenantId;
use crate::usage::{Amounts, Month, MonthSum, OTHERS, Row};

/// Seconds of an hour, and of a day.
const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;
/// How long hours are kept, in seconds.
const HOURS_KEPT: i64 = 14 * DAY;
/// How long days are kept, in seconds.
const DAYS_KEPT: i64 = 400 * DAY;
/// How many rows are kept, about.
const MAX_ROWS: i64 = 500_000;

/// What was used is read in so long spans.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Span {
    /// An hour; what was put together to days is told by the day.
    Hour,
    /// A day of UTC.
    Day,
    /// A month of UTC.
    Month,
    /// All that is asked for.
    All,
}

/// Which of what was used is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UsageFilter {
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Of this user.
    pub user: Option<String>,
    /// Of this server.
    pub server: Option<String>,
    /// Of hours and days that end after that time.
    pub since: Option<SystemTime>,
    /// How it is put together.
    pub span: Span,
}

/// What was used in one span.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UsedInSpan {
    /// When the span begins, in seconds since 1970; of all that is asked for, the first hour or day.
    pub from: u64,
    /// How long the span is.
    pub span: Span,
    /// The tenant; "": of none; "*": of those who are counted together.
    pub tenant: String,
    /// The user; "": of none; "*": of those who are counted together.
    pub user: String,
    /// The server.
    pub server: String,
    /// What was used.
    pub amounts: Amounts,
}

/// What was done to keep the rows bounded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tidied {
    /// Nothing: all is as it should be.
    Nothing,
    /// A part, as it is always done in time; there may be more.
    InTime,
    /// A part, sooner than it would be done in time, as there are too many rows; there may be more.
    ForRoom,
}

impl Tidied {
    fn from_number(number: u8) -> Self {
        match number {
            1 => Self::InTime,
            2 => Self::ForRoom,
            _ => Self::Nothing,
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::InTime => 1,
            Self::ForRoom => 2,
        }
    }
}

/// What was used, on disk. Cheap to clone.
#[derive(Clone, Debug)]
pub struct UsageStore {
    pub(super) database: Database,
    pub(super) path: PathBuf,
}

impl UsageFilter {
    /// What the filter makes of rows that are not written yet.
    pub fn of_rows(&self, rows: Vec<Row>) -> Vec<UsedInSpan> {
        let is = |wanted: &Option<String>, name: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == name)
        };
        let is_meant = |row: &Row| {
            let user = row.user.as_deref().unwrap_or_default();
            let ends = row.hour.seconds().saturating_add(HOUR.unsigned_abs());
            is(&self.tenant, row.tenant.as_str())
                && is(&self.user, user)
                && is(&self.server, row.server.as_str())
                && self.since.is_none_or(|since| of_row(seconds(since)) < ends)
        };
        let rows = rows.into_iter().filter(is_meant);
        rows.map(|row| UsedInSpan {
            from: match self.span {
                Span::Hour | Span::All => row.hour.seconds(),
                Span::Day => row.hour.0 / 24 * DAY.unsigned_abs(),
                Span::Month => row.hour.month().seconds(),
            },
            span: self.span,
            tenant: row.tenant.to_string(),
            user: row.user.as_deref().unwrap_or_default().to_owned(),
            server: row.server.to_string(),
            amounts: row.amounts,
        })
        .collect()
    }

    /// Puts two readings together, each span once, the latest first.
    pub fn merged(&self, one: Vec<UsedInSpan>, other: Vec<UsedInSpan>) -> Vec<UsedInSpan> {
        type Names = (std::cmp::Reverse<u64>, String, String, String, bool);
        let mut spans: BTreeMap<Names, UsedInSpan> = BTreeMap::new();
        for used in one.into_iter().chain(other) {
            let from = match self.span {
                Span::All => 0,
                Span::Hour | Span::Day | Span::Month => used.from,
            };
            let (tenant, server, user) = (&used.tenant, &used.server, &used.user);
            let is_day = used.span == Span::Day;
            let names = (
                std::cmp::Reverse(from),
                tenant.clone(),
                server.clone(),
                user.clone(),
                is_day,
            );
            match spans.entry(names) {
                Entry::Vacant(entry) => {
                    entry.insert(used);
                }
                Entry::Occupied(mut entry) => {
                    let known = entry.get_mut();
                    known.from = known.from.min(used.from);
                    known.amounts.add(&used.amounts);
                }
            }
        }
        spans.into_values().collect()
    }
}

impl UsageStore {
    /// Adds to what is kept; returns when that is safe from the death of this process.
    ///
    /// # Errors
    /// When it could not be written: then nothing of it is.
    ///
    /// # Cancel-Safety
    /// A dropped call may or may not have added it: it must not be dropped.
    pub async fn add(&self, rows: Arc<[Row]>) -> Result<(), DatabaseError> {
        let change = move |db: &Transaction<'_>| {
            let mut statement = db.prepare_cached(&added())?;
            for row in &*rows {
                let start = i64::try_from(row.hour.seconds()).unwrap_or(i64::MAX);
                let user = row.user.as_deref().unwrap_or_default();
                let names = [row.tenant.as_str(), user, row.server.as_str()];
                let names = names.map(|name| Value::from(name.to_owned()));
                let numbers = row.amounts.to_array().map(|n| Value::from(in_row(n)));
                let spans = [HOUR, start].map(Value::from);
                let values = spans.into_iter().chain(names).chain(numbers);
                statement.execute(params_from_iter(values))?;
            }
            Ok(())
        };
        self.database.apply(Box::new(change)).await
    }

    /// Does one part of what keeps the rows bounded, at that time.
    ///
    /// # Errors
    /// When it could not be written.
    ///
    /// # Cancel-Safety
    /// Cancel-safe: a part is done or not.
    pub async fn tidy(&self, now: SystemTime) -> Result<Tidied, DatabaseError> {
        let done = Arc::new(AtomicU8::new(0));
        let said = Arc::clone(&done);
        let now = seconds(now);
        let change = move |db: &Transaction<'_>| {
            let tidied = tidy(db, now, MAX_ROWS)?;
            said.store(tidied.number(), Ordering::Relaxed);
            Ok(())
        };
        self.database.apply(Box::new(change)).await?;
        Ok(Tidied::from_number(done.load(Ordering::Relaxed)))
    }

    /// What is kept, the latest spans first, at most `most` rows.
    ///
    /// # Errors
    /// When it cannot be read.
    ///
    /// # Cancel-Safety
    /// Cancel-safe: nothing is changed.
    pub async fn read(
        &self,
        filter: UsageFilter,
        most: usize,
    ) -> Result<Vec<UsedInSpan>, DatabaseError> {
        let path = self.path.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let db = database::open_to_read(&path)?;
            read(&db, &filter, most).map_err(|error| database::told(&path, error))
        });
        reading.await.unwrap_or_else(|panic| {
            let path = self.path.clone();
            let source = std::io::Error::other(panic);
            Err(DatabaseError::Copy { path, source })
        })
    }
}

/// A number as a column holds it.
fn in_row(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn of_row(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// What a row is added with to one that is there.
fn on_conflict() -> String {
    let sums = Amounts::NAMES.map(|name| format!("{name} = {name} + excluded.{name}"));
    format!("ON CONFLICT DO UPDATE SET {}", sums.join(", "))
}

pub(super) fn added() -> String {
    let places: Vec<_> = (1..=5 + Amounts::COUNT).map(|n| format!("?{n}")).collect();
    let places = places.join(", ");
    format!("INSERT INTO usage VALUES ({places}) {}", on_conflict())
}

fn sums() -> String {
    Amounts::NAMES.map(|name| format!("sum({name})")).join(", ")
}

/// What each tenant has used in the month of that time.
pub(super) fn load_month(
    db: &Connection,
    now: SystemTime,
) -> rusqlite::Result<Vec<(TenantId, MonthSum)>> {
    let from = Month::of(now).seconds();
    let sql = "SELECT tenant, sum(calls), sum(awake_kib_ms) + sum(asleep_kib_ms) FROM usage WHERE start >= ?1 GROUP BY tenant";
    let mut statement = db.prepare(sql)?;
    let rows = statement.query_map([in_row(from)], |row| {
        let tenant: String = row.get(0)?;
        let sum = MonthSum {
            calls: of_row(row.get(1)?),
            kib_ms: of_row(row.get(2)?),
        };
        Ok((TenantId::new(tenant), sum))
    })?;
    rows.collect()
}

/// Takes hours that are yet to come for that of now: they were written while the clock was ahead.
pub(super) fn put_right(db: &Connection, now: i64) -> rusqlite::Result<()> {
    let ahead = db.query_row(
        "SELECT count(*) FROM usage WHERE start > ?1",
        [now],
        |row| row.get::<_, i64>(0),
    )?;
    if ahead == 0 {
        return Ok(());
    }
    let hour = now - now.rem_euclid(HOUR);
    let moved = format!(
        "INSERT INTO usage SELECT {HOUR}, ?1, tenant, user, server, {} FROM usage WHERE start > ?2 GROUP BY tenant, user, server {}",
        sums(),
        on_conflict()
    );
    db.execute(&moved, params![hour, now])?;
    db.execute("DELETE FROM usage WHERE start > ?1", [now])
        .map(drop)
}

/// One part of what keeps the rows bounded.
pub(super) fn tidy(db: &Transaction<'_>, now: i64, max_rows: i64) -> rusqlite::Result<Tidied> {
    let today = now - now.rem_euclid(DAY);
    let oldest = |span: i64| {
        let sql = "SELECT start FROM usage WHERE span = ?1 ORDER BY start LIMIT 1";
        db.query_row(sql, [span], |row| row.get::<_, i64>(0))
            .optional()
    };
    let (oldest_hour, oldest_day) = (oldest(HOUR)?, oldest(DAY)?);
    if let Some(start) = oldest_hour.filter(|it| *it < today - HOURS_KEPT) {
        to_day(db, start)?;
        return Ok(Tidied::InTime);
    }
    if let Some(start) = oldest_day.filter(|it| *it < today - DAYS_KEPT) {
        remove(db, start)?;
        return Ok(Tidied::InTime);
    }
    let rows: i64 = db.query_row("SELECT count(*) FROM usage", [], |row| row.get(0))?;
    if rows <= max_rows {
        return Ok(Tidied::Nothing);
    }
    if let Some(start) = oldest_hour.filter(|it| *it < today) {
        to_day(db, start)?;
        return Ok(Tidied::ForRoom);
    }
    let with_users = |span: i64| {
        let sql = "SELECT start FROM usage WHERE span = ?1 AND user NOT IN ('', ?2) ORDER BY start LIMIT 1";
        db.query_row(sql, params![span, OTHERS], |row| row.get::<_, i64>(0))
            .optional()
    };
    for span in [DAY, HOUR] {
        if let Some(start) = with_users(span)? {
            without_users(db, span, start)?;
            return Ok(Tidied::ForRoom);
        }
    }
    if let Some(start) = oldest_day {
        remove(db, start)?;
        return Ok(Tidied::ForRoom);
    }
    Ok(Tidied::Nothing)
}

/// Puts the hours of the day of that time together.
fn to_day(db: &Transaction<'_>, at: i64) -> rusqlite::Result<()> {
    let day = at - at.rem_euclid(DAY);
    let moved = format!(
        "INSERT INTO usage SELECT {DAY}, ?1, tenant, user, server, {} FROM usage WHERE span = {HOUR} AND start >= ?1 AND start < ?1 + {DAY} GROUP BY tenant, user, server {}",
        sums(),
        on_conflict()
    );
    db.execute(&moved, [day])?;
    let gone =
        format!("DELETE FROM usage WHERE span = {HOUR} AND start >= ?1 AND start < ?1 + {DAY}");
    db.execute(&gone, [day]).map(drop)
}

/// Counts the users of a day or hour together, by tenant and server.
fn without_users(db: &Transaction<'_>, span: i64, start: i64) -> rusqlite::Result<()> {
    let moved = format!(
        "INSERT INTO usage SELECT ?1, ?2, tenant, ?3, server, {} FROM usage WHERE span = ?1 AND start = ?2 AND user NOT IN ('', ?3) GROUP BY tenant, server {}",
        sums(),
        on_conflict()
    );
    db.execute(&moved, params![span, start, OTHERS])?;
    let gone = "DELETE FROM usage WHERE span = ?1 AND start = ?2 AND user NOT IN ('', ?3)";
    db.execute(gone, params![span, start, OTHERS]).map(drop)
}

/// Forgets a day.
fn remove(db: &Transaction<'_>, day: i64) -> rusqlite::Result<()> {
    let gone = "DELETE FROM usage WHERE span = ?1 AND start = ?2";
    db.execute(gone, params![DAY, day]).map(drop)
}

pub(super) fn read(
    db: &Connection,
    filter: &UsageFilter,
    most: usize,
) -> rusqlite::Result<Vec<UsedInSpan>> {
    let (from, groups) = match filter.span {
        Span::Hour => ("start".to_owned(), "1, span, tenant, user, server"),
        Span::Day => (format!("start - start % {DAY}"), "1, tenant, user, server"),
        Span::Month => (
            "unixepoch(start, 'unixepoch', 'start of month')".to_owned(),
            "1, tenant, user, server",
        ),
        Span::All => ("min(start)".to_owned(), "tenant, user, server"),
    };
    let sql = format!(
        "SELECT {from}, max(span), tenant, user, server, {} FROM usage
         WHERE start + span > ?1 AND (?2 IS NULL OR tenant = ?2) AND (?3 IS NULL OR user = ?3) AND (?4 IS NULL OR server = ?4)
         GROUP BY {groups} ORDER BY 1 DESC, tenant, server, user LIMIT ?5",
        sums()
    );
    let since = filter.since.map_or(i64::MIN, seconds);
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut statement = db.prepare(&sql)?;
    let rows = statement.query_map(
        params![since, filter.tenant, filter.user, filter.server, most],
        |row| {
            let mut numbers = [0; Amounts::COUNT];
            for (at, number) in numbers.iter_mut().enumerate() {
                *number = of_row(row.get(5 + at)?);
            }
            let length: i64 = row.get(1)?;
            Ok(UsedInSpan {
                from: of_row(row.get(0)?),
                span: match filter.span {
                    Span::Hour if length == DAY => Span::Day,
                    wanted => wanted,
                },
                tenant: row.get(2)?,
                user: row.get(3)?,
                server: row.get(4)?,
                amounts: Amounts::from_array(numbers),
            })
        },
    )?;
    rows.collect()
}
