//! When a worker whose memory was paged out is paged out once more.
//!
//! A collector of garbage runs when it sees that nothing is done: V8's between 15 and 105 s after the
//! last request. The collector walks the whole heap, so all that was swapped out of it is in memory again, and
//! stays there, though nobody has asked for the worker. Paged out after that, it stays out.

use std::time::{Duration, Instant};

/// Growth below this many bytes is not worth another page-out.
const MIN_GROWTH: u64 = 2 << 20;
/// Growth below this part of what was left is not either.
const MIN_GROWTH_PART: u64 = 4;
/// Longest time between two page-outs of a worker that comes back again and again.
const LONGEST: Duration = Duration::from_secs(3600);

/// The last page-out of a worker, and how many there were since its last request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PageOut {
    /// When the page-out had ended.
    at: Instant,
    /// Bytes that the worker still held then.
    left: u64,
    /// How many there were, this one included.
    times: u32,
}

impl PageOut {
    /// A page-out has ended, after `before` if the worker was not needed since.
    pub(super) fn ended(now: Instant, left: u64, before: Option<Self>) -> Self {
        let times = before.map_or(1, |last| last.times.saturating_add(1));
        Self {
            at: now,
            left,
            times,
        }
    }

    /// Whether a worker that holds `bytes` has come back to memory by itself.
    pub(super) fn is_undone(&self, bytes: u64) -> bool {
        let growth = bytes.saturating_sub(self.left);
        growth > MIN_GROWTH.max(self.left / MIN_GROWTH_PART)
    }

    /// When the next one may be at the earliest, where the first was `after` the last request: as
    /// long after this one, and twice as long each time, so that a server that does something
    /// every minute is soon left alone.
    pub(super) fn next(&self, after: Duration) -> Instant {
        let doubled = 2u32.saturating_pow(self.times.saturating_sub(1));
        let wait = after.saturating_mul(doubled).min(LONGEST.max(after));
        self.at.checked_add(wait).unwrap_or(self.at + LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const AFTER: Duration = Duration::from_secs(30);

    #[test]
    fn what_comes_back_counts_from_a_quarter_and_two_mebibytes() {
        let now = Instant::now();
        let small = PageOut::ended(now, 4 * MIB, None);
        assert!(!small.is_undone(MIB));
        assert!(!small.is_undone(6 * MIB));
        assert!(small.is_undone(6 * MIB + 1));
        let large = PageOut::ended(now, 80 * MIB, None);
        assert!(!large.is_undone(100 * MIB));
        assert!(large.is_undone(101 * MIB));
    }

    #[test]
    fn each_next_one_is_twice_as_far_until_it_is_an_hour() {
        let mut now = Instant::now();
        let mut last = None;
        let mut waits = Vec::new();
        for _ in 0..40 {
            let page_out = PageOut::ended(now, MIB, last);
            waits.push(page_out.next(AFTER).duration_since(now).as_secs());
            now = page_out.next(AFTER);
            last = Some(page_out);
        }
        assert_eq!(waits[..8], [30, 60, 120, 240, 480, 960, 1920, 3600]);
        assert!(waits[8..].iter().all(|wait| *wait == 3600));
    }

    #[test]
    fn a_wait_beyond_an_hour_is_kept_as_it_is() {
        let now = Instant::now();
        let long = Duration::from_secs(7200);
        let first = PageOut::ended(now, MIB, None);
        let second = PageOut::ended(now, MIB, Some(first));
        assert_eq!(second.next(long), now + long);
    }
}
