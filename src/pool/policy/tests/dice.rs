//! Randomness from one number.

use std::time::Duration;

/// SplitMix64: a world is one number, and a failing one is shortened by its length alone.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(super) fn between(&mut self, low: usize, high: usize) -> usize {
        let span = u64::try_from(high - low + 1).expect("small");
        low + usize::try_from(self.below(span)).expect("small")
    }

    pub(super) fn seconds(&mut self, low: usize, high: usize) -> Duration {
        Duration::from_secs(u64::try_from(self.between(low, high)).expect("small"))
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let at = if from.is_empty() {
            return None;
        } else {
            self.between(0, from.len() - 1)
        };
        from.get(at)
    }
}
