//! What one tenant holds, and some bytes of it.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use thiserror::Error;

use super::kind::Kind;
use crate::fair::Flow;

/// Why bytes were not taken in. The caller says what was to be held.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Full {
    /// The tenant would hold more than it may.
    #[error("this tenant holds {held} bytes of the {limit} that it may (`limits.memory_held`)")]
    OfTenant {
        /// Bytes that it holds.
        held: u64,
        /// Bytes that it may hold.
        limit: u64,
    },
    /// All tenants together would hold more than they may.
    #[error("all tenants together hold {held} bytes of the {limit} that they may (`http.memory`)")]
    OfAll {
        /// Bytes that are held.
        held: u64,
        /// Bytes that may be held.
        limit: u64,
    },
}

impl Full {
    /// Bytes that may be held.
    fn limit(self) -> u64 {
        match self {
            Self::OfTenant { limit, .. } | Self::OfAll { limit, .. } => limit,
        }
    }
}

/// Whoever keeps what may go.
pub trait Reclaim: Send + Sync {
    /// Lets go of the oldest of what is kept for that tenant and holds bytes; false if there is none.
    ///
    /// Called wherever bytes are charged, whatever locks are held there: an implementation takes none but its own and those
    /// under which nothing but [expendable](Kind::is_expendable) bytes is charged.
    fn reclaim(&self, account: &Account) -> bool;
}

/// The memory that all tenants together hold.
pub(super) struct Totals {
    pub(super) held: AtomicU64,
    pub(super) limit: AtomicU64,
    pub(super) of_kind: [AtomicU64; Kind::ALL.len()],
    pub(super) refused_of_tenants: AtomicU64,
    pub(super) refused_of_all: AtomicU64,
    pub(super) reclaimed: AtomicU64,
    /// Nanoseconds.
    pub(super) paced: AtomicU64,
    /// The keeper of what may go first.
    pub(super) reclaim: OnceLock<Weak<dyn Reclaim>>,
}

pub(super) struct Tenant {
    pub(super) held: AtomicU64,
    pub(super) limit: AtomicU64,
    pub(super) totals: Arc<Totals>,
    pub(super) flow: Flow,
}

/// Tells accounts apart while they live.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AccountKey(usize);

/// The memory account of one tenant. Cheap to clone: one reference count.
#[derive(Clone)]
pub struct Account(pub(super) Arc<Tenant>);

impl Account {
    /// Takes that many bytes in.
    ///
    /// # Errors
    /// [`Full`] when the tenant or all together would hold more than they may; nothing is charged then.
    pub fn charge(&self, kind: Kind, bytes: usize) -> Result<Charge, Full> {
        let mut charge = self.nothing(kind);
        charge.grow(bytes)?;
        Ok(charge)
    }

    /// Takes that many bytes in whatever the limits: for what is there already and cannot be refused, but has
    /// to count against what comes next.
    pub fn charge_anyway(&self, kind: Kind, bytes: usize) -> Charge {
        let mut charge = self.nothing(kind);
        charge.grow_anyway(bytes);
        charge
    }

    /// A charge of no bytes, to grow.
    pub fn nothing(&self, kind: Kind) -> Charge {
        Charge {
            account: self.clone(),
            kind,
            bytes: 0,
        }
    }

    /// The work that is done for the tenant.
    pub fn flow(&self) -> &Flow {
        &self.0.flow
    }

    /// Takes note of bytes that the tenant has sent, as [`Flow::pace`]; what has to be waited is counted.
    pub fn pace(&self, bytes: usize, rate: NonZeroU64) -> Duration {
        let wait = self.flow().pace(bytes, rate);
        if !wait.is_zero() {
            let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
            self.0.totals.paced.fetch_add(nanos, Ordering::Relaxed);
        }
        wait
    }

    /// Tells it from all others that live.
    pub fn key(&self) -> AccountKey {
        AccountKey(Arc::as_ptr(&self.0).addr())
    }

    /// Bytes that the tenant holds.
    pub fn held(&self) -> u64 {
        self.0.held.load(Ordering::Relaxed)
    }

    /// Bytes that the tenant may hold.
    pub fn limit(&self) -> u64 {
        self.0.limit.load(Ordering::Relaxed)
    }

    fn add(&self, kind: Kind, bytes: u64) {
        let totals = &self.0.totals;
        self.0.held.fetch_add(bytes, Ordering::Relaxed);
        totals.held.fetch_add(bytes, Ordering::Relaxed);
        totals.of_kind[kind.number()].fetch_add(bytes, Ordering::Relaxed);
    }

    fn add_if_room(&self, kind: Kind, bytes: u64) -> Result<(), Full> {
        loop {
            let Err(full) = self.try_add(kind, bytes) else {
                return Ok(());
            };
            // Bytes that would never fit displace nothing.
            let may_fit = !kind.is_expendable() && bytes <= full.limit();
            if may_fit && self.reclaim() {
                continue;
            }
            let refused = match full {
                Full::OfTenant { .. } => &self.0.totals.refused_of_tenants,
                Full::OfAll { .. } => &self.0.totals.refused_of_all,
            };
            refused.fetch_add(1, Ordering::Relaxed);
            return Err(full);
        }
    }

    /// Lets the oldest go of what is kept for the tenant, if there is something.
    fn reclaim(&self) -> bool {
        let totals = &self.0.totals;
        let keeper = totals.reclaim.get().and_then(Weak::upgrade);
        let has_gone = keeper.is_some_and(|keeper| keeper.reclaim(self));
        totals
            .reclaimed
            .fetch_add(u64::from(has_gone), Ordering::Relaxed);
        has_gone
    }

    fn try_add(&self, kind: Kind, bytes: u64) -> Result<(), Full> {
        let totals = &self.0.totals;
        let limit = kind.part_of(self.limit());
        add_within(&self.0.held, bytes, limit).map_err(|held| Full::OfTenant { held, limit })?;
        // No part of this one: what others hold would keep a tenant from being told anything.
        let limit = totals.limit.load(Ordering::Relaxed);
        if let Err(held) = add_within(&totals.held, bytes, limit) {
            self.0.held.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Full::OfAll { held, limit });
        }
        totals.of_kind[kind.number()].fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn remove(&self, kind: Kind, bytes: u64) {
        let totals = &self.0.totals;
        self.0.held.fetch_sub(bytes, Ordering::Relaxed);
        totals.held.fetch_sub(bytes, Ordering::Relaxed);
        totals.of_kind[kind.number()].fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("held", &self.held())
            .field("limit", &self.limit())
            .finish_non_exhaustive()
    }
}

/// Adds to a count unless it would pass the limit; the count before if it would.
fn add_within(count: &AtomicU64, bytes: u64, limit: u64) -> Result<(), u64> {
    let sum = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= limit);
    let added = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
    added.map(drop)
}

/// Bytes that are held. Dropping it gives them back.
#[derive(Debug)]
#[must_use = "the bytes count only as long as it lives"]
pub struct Charge {
    account: Account,
    kind: Kind,
    bytes: u64,
}

impl Charge {
    /// Bytes of it.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The account that the bytes are charged to.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Takes more bytes in.
    ///
    /// # Errors
    /// [`Full`], and it is as it was.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        let bytes = bytes as u64;
        self.account.add_if_room(self.kind, bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Takes more bytes in whatever the limits, as [`Account::charge_anyway`].
    pub fn grow_anyway(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        self.account.add(self.kind, bytes);
        self.bytes += bytes;
    }

    /// Gives that many bytes back, at most all of them.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = (bytes as u64).min(self.bytes);
        self.account.remove(self.kind, bytes);
        self.bytes -= bytes;
    }

    /// Makes it one of that many bytes.
    ///
    /// # Errors
    /// [`Full`] when that is more than before and too much, and it is as it was.
    pub fn resize(&mut self, bytes: usize) -> Result<(), Full> {
        let now = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        match bytes.checked_sub(now) {
            Some(more) => self.grow(more),
            None => {
                self.shrink(now - bytes);
                Ok(())
            }
        }
    }

    /// Makes it one of that many bytes whatever the limits.
    pub fn resize_anyway(&mut self, bytes: usize) {
        let now = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        match bytes.checked_sub(now) {
            Some(more) => self.grow_anyway(more),
            None => self.shrink(now - bytes),
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.shrink(usize::MAX);
        }
    }
}
