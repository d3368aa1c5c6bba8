//! A bucket of requests that fills at a steady rate.

use std::time::Duration;

use crate::config::Rates;

const MINUTE: Duration = Duration::from_secs(60);

/// A bucket of requests, as the generic cell rate algorithm keeps one: by the time at which it would be full again. Pure;
/// times are since any one moment.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Bucket {
    full_at: Duration,
}

impl Bucket {
    /// Takes a request out.
    ///
    /// # Errors
    /// How long until there is one again.
    pub(super) fn take(&mut self, now: Duration, rates: Rates) -> Result<(), Duration> {
        if rates.requests_per_minute == 0 {
            return Ok(());
        }
        let each = MINUTE / rates.requests_per_minute;
        let size = match rates.burst {
            0 => rates.requests_per_minute,
            burst => burst,
        };
        let full_at = self.full_at.max(now) + each;
        // As far ahead as a whole bucket of them.
        let wait = (full_at - now).saturating_sub(each.saturating_mul(size));
        if !wait.is_zero() {
            return Err(wait);
        }
        self.full_at = full_at;
        Ok(())
    }

    /// Whether the bucket is as one that was never taken from.
    pub(super) fn is_full(&self, now: Duration) -> bool {
        self.full_at <= now
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Over any stretch of time no more are let through than a full bucket and what flowed
        /// into it meanwhile; who waits as long as told is let through.
        #[test]
        fn the_rate_holds_over_every_stretch(
            rate in 1_u32..6000,
            burst in 0_u32..50,
            gaps in prop::collection::vec(0_u64..3000, 1..80),
        ) {
            let rates = Rates {
                requests_per_minute: rate,
                burst,
                ..Rates::default()
            };
            let size = if burst == 0 { rate } else { burst };
            let (mut bucket, mut now, mut passed) = (Bucket::default(), Duration::ZERO, vec![]);
            for gap in gaps {
                now += Duration::from_millis(gap);
                match bucket.take(now, rates) {
                    Ok(()) => passed.push(now),
                    Err(wait) => {
                        prop_assert!(!wait.is_zero() && wait <= MINUTE / rate);
                        let mut later = bucket;
                        prop_assert!(later.take(now + wait, rates).is_ok());
                        let mut sooner = bucket;
                        let soon = now + wait - Duration::from_nanos(1);
                        prop_assert!(sooner.take(soon, rates).is_err());
                    }
                }
            }
            let each = MINUTE / rate;
            for (n, from) in passed.iter().enumerate() {
                for (m, to) in passed.iter().enumerate().skip(n) {
                    let flowed = (*to - *from).as_nanos() / each.as_nanos();
                    prop_assert!((m - n + 1) as u128 <= u128::from(size) + flowed + 1);
                }
            }
        }
    }
}
