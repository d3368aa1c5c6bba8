//! The choice of the connections that are closed when slots are short. Pure.

use tokio::time::Instant;

/// A connection that may have to make room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Candidate {
    pub(super) number: u64,
    /// A caller with valid credentials has used it.
    pub(super) is_known: bool,
    /// No request is under way.
    pub(super) is_idle: bool,
    /// Since when no request of the connection began or ended.
    pub(super) quiet_since: Instant,
}

impl Candidate {
    /// The order of closing: strangers, idle ones before others; then the idle of those that are known.
    fn rank(&self) -> Option<u8> {
        match (self.is_known, self.is_idle) {
            (false, true) => Some(0),
            (false, false) => Some(1),
            (true, true) => Some(2),
            (true, false) => None,
        }
    }
}

/// The connections that go, up to `most` of strangers or one that is known; of each rank the oldest. None if
/// all of them have requests of known callers under way.
pub(super) fn victims(candidates: impl Iterator<Item = Candidate>, most: usize) -> Vec<u64> {
    let ranked = candidates.filter_map(|one| Some((one.rank()?, one.quiet_since, one.number)));
    let mut ranked: Vec<_> = ranked.collect();
    let Some(first) = ranked.iter().map(|(rank, ..)| *rank).min() else {
        return Vec::new();
    };
    ranked.retain(|(rank, ..)| *rank == first);
    let count = if first == 2 { 1 } else { most.max(1) };
    if ranked.len() > count {
        ranked.select_nth_unstable(count - 1);
        ranked.truncate(count);
    }
    ranked.into_iter().map(|(.., number)| number).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Nobody goes while someone of a lower rank, or older in its rank, stays; a known caller with a
        /// request under way never does.
        #[test]
        fn the_first_to_go_are_the_oldest_strangers(
            all in prop::collection::vec((any::<bool>(), any::<bool>(), 0_u64..50), 0..60),
            most in 1_usize..8,
        ) {
            let began = Instant::now();
            let all: Vec<_> = (0..).zip(all).map(|(number, (is_known, is_idle, age))| Candidate {
                number, is_known, is_idle, quiet_since: began + Duration::from_secs(age),
            }).collect();
            let gone = victims(all.iter().copied(), most);
            prop_assert_eq!(gone.is_empty(), all.iter().all(|one| one.rank().is_none()));
            prop_assert!(gone.len() <= most);
            for one in all.iter().filter(|one| gone.contains(&one.number)) {
                let key = (one.rank().expect("may go"), one.quiet_since);
                for other in all.iter().filter(|other| !gone.contains(&other.number)) {
                    prop_assert!(other.rank().is_none_or(|rank| key <= (rank, other.quiet_since)));
                }
                prop_assert!(key.0 < 2 || gone.len() == 1);
            }
        }
    }
}
