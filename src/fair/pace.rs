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
