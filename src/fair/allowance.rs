//! What a flow may use before it has to wait for turns.

/// Nanoseconds of the clock for each nanosecond of work: a tenth of one thread.
const SPACING: u64 = 10;
/// Work that may be done at once after a rest, in nanoseconds.
const BURST: u64 = 2_000_000;

/// The generic cell rate algorithm (ITU-T I.371, virtual scheduling), in nanoseconds: until when the work done so far
/// would last at the rate that is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Allowance(pub(super) u64);

impl Allowance {
    /// Whether more may be done at that time.
    pub(super) fn has_room(self, now: u64) -> bool {
        self.0 <= now + BURST * SPACING
    }

    /// After so much work that ended at that time.
    pub(super) fn after(self, now: u64, work: u64) -> Self {
        Self(self.0.max(now).saturating_add(work.saturating_mul(SPACING)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whenever there is room, what was done is at most the burst, a tenth of the time and the last piece.
        #[test]
        fn no_more_is_done_than_is_allowed(
            steps in prop::collection::vec((0_u64..5_000_000, 1_u64..500_000), 1..200)
        ) {
            let (mut allowance, mut now, mut done) = (Allowance::default(), 0, 0);
            for (rest, work) in steps {
                now += rest;
                if allowance.has_room(now) {
                    prop_assert!(done <= BURST + now / SPACING, "{done} of {now}");
                    now += work;
                    done += work;
                    allowance = allowance.after(now, work);
                }
            }
        }

        /// A flow that stays below a tenth in each stretch never waits.
        #[test]
        fn who_does_little_never_waits(works in prop::collection::vec(1_u64..1_000_000, 1..200)) {
            let (mut allowance, mut now) = (Allowance::default(), 0);
            for work in works {
                prop_assert!(allowance.has_room(now));
                now += work;
                allowance = allowance.after(now, work);
                now += work * SPACING;
            }
        }
    }
}
