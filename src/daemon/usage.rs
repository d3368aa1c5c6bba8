//! Writes down what tenants have used, keeps the rows bounded, and reads them.
//!
//! ```text
//!  ledger ── take ──▶ rows ── committed? ── yes ─▶ safe from a kill
//!                      ▲            └────── no ──▶ put back, and told once
//!                      └── every SHORTEST, or less often where writing takes long; and at the end
//! ```
//!
//! Invariant: between `take` and the commit nobody reads, so that a reading has each row once.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ended::as_ms;
use crate::admin::{UsageReport, UsageRow};
use crate::store::{DatabaseError, Tidied, UsageFilter, UsageStore, UsedInSpan};
use crate::usage::{Row, Usage};

/// Shortest time between two writes: what a kill loses at the most, where writing is quick.
const SHORTEST: Duration = Duration::from_secs(2);
/// Longest time between two writes.
const LONGEST: Duration = Duration::from_secs(60);
/// Writing takes at most this part of the time, unless that is less often than [`LONGEST`].
const SHARE: u32 = 200;
/// Rows in one change of the database.
const AT_ONCE: usize = 500;
/// Changes of the database at each time: as many rows as there can be.
const MOST_CHANGES: usize = 400;
/// How often rows are looked at that may have to be put together.
const TIDY_PERIOD: Duration = Duration::from_secs(3600);
/// Rows of one reading.
const MOST_READ: usize = 10_000;

/// When what was used was written down last.
#[derive(Debug, Default)]
struct Saved {
    at: Option<SystemTime>,
    /// What was used could not be written down, and the log has that.
    has_failed: bool,
}

/// Keeps what tenants have used.
#[derive(Debug)]
pub(super) struct UsageKeeper {
    usage: Arc<Usage>,
    /// Where one command is hosted there is none, and what was used is that of this run.
    store: Option<UsageStore>,
    saved: Mutex<Saved>,
}

impl UsageKeeper {
    pub(super) fn new(usage: Arc<Usage>, store: Option<UsageStore>) -> Arc<Self> {
        Arc::new(Self {
            usage,
            store,
            saved: Mutex::default(),
        })
    }

    /// Writes down all that was used until now.
    ///
    /// # Cancel-Safety
    /// A dropped call may lose what it was writing: it must not be dropped.
    async fn save(&self) {
        let Some(store) = &self.store else { return };
        let mut saved = self.saved.lock().await;
        let now = SystemTime::now();
        match save(&self.usage, store).await {
            Ok(is_all) => {
                saved.at = Some(now).filter(|_| is_all).or(saved.at);
                if std::mem::take(&mut saved.has_failed) {
                    tracing::info!("what tenants use is written down again");
                }
            }
            Err(error) if !saved.has_failed => {
                saved.has_failed = true;
                tracing::warn!(%error, "what tenants use is not written down: a kill would lose it; tried again");
            }
            Err(error) => tracing::debug!(%error, "what tenants use is still not written down"),
        }
    }

    /// Puts rows together and removes old ones until there is nothing to do.
    async fn tidy(&self, stop: &CancellationToken) {
        let Some(store) = &self.store else { return };
        let mut is_told = false;
        while !stop.is_cancelled() {
            match store.tidy(SystemTime::now()).await {
                Ok(Tidied::Nothing) => return,
                Ok(Tidied::InTime) => {}
                Ok(Tidied::ForRoom) if !is_told => {
                    is_told = true;
                    tracing::warn!(
                        "there is much to keep of what tenants have used: older hours are put together to days sooner, users of older days are counted together, and the oldest days go if that is not enough"
                    );
                }
                Ok(Tidied::ForRoom) => {}
                Err(error) => {
                    tracing::warn!(%error, "rows of what tenants have used could not be put together");
                    return;
                }
            }
        }
    }

    /// What was used, written down or not.
    ///
    /// # Errors
    /// When what is written down cannot be read.
    pub(super) async fn read(&self, filter: UsageFilter) -> Result<UsageReport, DatabaseError> {
        let saved = self.saved.lock().await;
        let kept = match &self.store {
            Some(store) => store.read(filter.clone(), MOST_READ + 1).await?,
            None => vec![],
        };
        let pending = filter.of_rows(self.usage.pending());
        let saved_at_ms = saved.at.map(as_ms);
        drop(saved);
        let mut rows = filter.merged(kept, pending);
        let is_whole = rows.len() <= MOST_READ;
        rows.truncate(MOST_READ);
        Ok(UsageReport {
            saved_at_ms,
            is_whole,
            rows: rows.into_iter().map(UsedInSpan::into).collect(),
        })
    }
}

/// Writes down what there is; whether that was all.
async fn save(usage: &Usage, store: &UsageStore) -> Result<bool, DatabaseError> {
    for _ in 0..MOST_CHANGES {
        let rows: Arc<[Row]> = usage.take(AT_ONCE).into();
        let is_last = rows.len() < AT_ONCE;
        if !rows.is_empty()
            && let Err(error) = store.add(Arc::clone(&rows)).await
        {
            usage.put_back(rows.to_vec());
            return Err(error);
        }
        // More may have come meanwhile, which is for the next time.
        if is_last {
            return Ok(true);
        }
    }
    Ok(false)
}

impl From<UsedInSpan> for UsageRow {
    fn from(used: UsedInSpan) -> Self {
        Self::new(
            used.from,
            used.span,
            [used.tenant, used.user, used.server],
            used.amounts,
        )
    }
}

/// Writes down what is used until `stop`, and then all that is left.
pub(super) async fn run(keeper: Arc<UsageKeeper>, stop: CancellationToken) {
    let mut pause = SHORTEST;
    let mut tidied: Option<Instant> = None;
    while stop
        .run_until_cancelled(tokio::time::sleep(pause))
        .await
        .is_some()
    {
        let began = Instant::now();
        keeper.save().await;
        pause = (began.elapsed() * SHARE).clamp(SHORTEST, LONGEST);
        if tidied.is_none_or(|at| at.elapsed() >= TIDY_PERIOD) {
            tidied = Some(Instant::now());
            keeper.tidy(&stop).await;
        }
    }
    keeper.save().await;
}
