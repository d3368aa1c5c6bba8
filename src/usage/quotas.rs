//! How much a tenant may use in a month.

use std::time::SystemTime;

use super::{Hour, MonthSum};

/// Milliseconds of an hour.
const HOUR_MS: u128 = 3_600_000;

/// What a tenant may use in a calendar month of UTC; 0 is no limit.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Quotas {
    /// Calls.
    pub monthly_calls: u64,
    /// Bytes that workers hold, awake or hibernated, for an hour.
    pub memory_hours: u64,
}

impl Quotas {
    /// Whether there is any.
    pub fn is_limited(self) -> bool {
        self != Self::default()
    }

    /// Whether a tenant that has used that much in the month of `now` may use more.
    pub fn verdict(self, now: Hour, used: MonthSum) -> Verdict {
        let is_over = |quota| match quota {
            Quota::MonthlyCalls => self.monthly_calls != 0 && used.calls >= self.monthly_calls,
            Quota::MemoryHours => {
                let may = u128::from(self.memory_hours / 1024) * HOUR_MS;
                self.memory_hours != 0 && u128::from(used.kib_ms) >= may
            }
        };
        let all = [Quota::MonthlyCalls, Quota::MemoryHours];
        match all.into_iter().find(|quota| is_over(*quota)) {
            Some(quota) => Verdict::Exhausted {
                quota,
                begins_anew: now.month().next().begins(),
            },
            None => Verdict::Allowed,
        }
    }
}

/// A limit of what a tenant may use in a month.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quota {
    /// [`Quotas::monthly_calls`]
    MonthlyCalls,
    /// [`Quotas::memory_hours`]
    MemoryHours,
}

impl Quota {
    /// The key that sets it.
    pub fn key(self) -> &'static str {
        match self {
            Self::MonthlyCalls => "monthly_calls",
            Self::MemoryHours => "memory_hours",
        }
    }
}

/// Whether a tenant may use more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The tenant has not used all that it may.
    Allowed,
    /// The tenant has used all that it may.
    Exhausted {
        /// Which limit is reached.
        quota: Quota,
        /// When the next month begins.
        begins_anew: SystemTime,
    },
}
