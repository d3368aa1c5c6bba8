//! How fast the bytes of one party are taken in.

use std::num::NonZeroU64;
use std::time::Duration;

/// What may come at once after a rest: as much as the rate brings in that time, in nanoseconds.
const BURST: u64 = 250_000_000;
const SECOND: u128 = 1_000_000_000;

/// The generic cell rate algorithm (ITU-T I.371, virtual scheduling), in nanoseconds: until when the bytes taken in so far
/// would have lasted at the rate that is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Pace(pub(super) u64);

impl Pace {
    /// After so many bytes more, that were there at that time; `rate` is in bytes a second.
    pub(super) fn after(self, now: u64, bytes: u64, rate: NonZeroU64) -> Self {
        let lasts = u128::from(bytes) * SECOND / u128::from(rate.get());
        let lasts = u64::try_from(lasts).unwrap_or(u64::MAX);
        Self(self.0.max(now).saturating_add(lasts))
    }

    /// Bytes taken in so far last as long as they do at another rate.
    pub(super) fn at_rate(self, now: u64, rate: NonZeroU64, other: NonZeroU64) -> Self {
        let left = u128::from(self.0.saturating_sub(now));
        let left = left * u128::from(rate.get()) / u128::from(other.get());
        let left = u64::try_from(left).unwrap_or(u64::MAX);
        match self.0 > now {
            true => Self(now.saturating_add(left)),
            false => self,
        }
    }

    /// How long nothing more is to be taken in.
    pub(super) fn wait(self, now: u64) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(now.saturating_add(BURST)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whoever waits as it is told takes in the burst, what the time allows for, and the last piece at most.
        #[test]
        fn no_more_comes_than_is_allowed(
            rate in 1_u64..1 << 40,
            steps in prop::collection::vec((0_u64..1_000_000_000, 0_u64..1 << 24), 1..100),
        ) {
            let rate = NonZeroU64::new(rate).expect("above zero");
            let (mut pace, mut now, mut taken) = (Pace::default(), 0_u64, 0_u128);
            for (rest, bytes) in steps {
                now += rest;
                let allowed = u128::from(now + BURST) * u128::from(rate.get()) / SECOND;
                prop_assert!(taken <= allowed + 100, "{taken} of {allowed}");
                taken += u128::from(bytes);
                pace = pace.after(now, bytes, rate);
                now = now.saturating_add(u64::try_from(pace.wait(now).as_nanos()).expect("in range"));
            }
        }

        /// A change of the rate takes nothing off what was sent, and adds nothing to it.
        #[test]
        fn another_rate_counts_for_what_was_sent_before(
            rate in 1_u64..1 << 30,
            other in 1_u64..1 << 30,
            bytes in 1_u64..1 << 24,
            now in 0_u64..1 << 40,
        ) {
            let of = |rate| NonZeroU64::new(rate).expect("above zero");
            let changed = Pace(now).after(now, bytes, of(rate)).at_rate(now, of(rate), of(other));
            let as_new = Pace(now).after(now, bytes, of(other));
            // What is rounded off at the one rate is a nanosecond, which may be more at the other.
            let apart = changed.0.abs_diff(as_new.0);
            prop_assert!(apart <= rate / other + 1, "{apart}");
            prop_assert_eq!(Pace(now).at_rate(now + 1, of(rate), of(other)), Pace(now));
        }

        /// Whoever sends no faster than that, in pieces that are no longer than the burst, never waits.
        #[test]
        fn who_sends_slowly_never_waits(pieces in prop::collection::vec(1_u64..250, 1..100)) {
            let rate = NonZeroU64::new(1000).expect("above zero");
            let (mut pace, mut now) = (Pace::default(), 0);
            for bytes in pieces {
                pace = pace.after(now, bytes, rate);
                prop_assert_eq!(pace.wait(now), Duration::ZERO);
                now += bytes * 1_000_000;
            }
        }
    }
}
