//! One worker's life, as far as it is remembered: what it went through, and when. Bounded: how it began and what happened last.
//!
//! Pure: time is handed in. Single requests are not here: they come too often, and are remembered for themselves.

use std::collections::VecDeque;
use std::time::SystemTime;

/// Entries of the beginning that are kept.
const FIRST: usize = 8;
/// Entries of late that are kept.
const LAST: usize = 56;
/// Longest text of an entry, in bytes.
const MAX_TEXT: usize = 512;

/// What a worker came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LifeStage {
    /// The worker is being started.
    Starting,
    /// The worker can serve.
    Ready,
    /// The worker was a spare, and became a tenant's.
    Adopted,
    /// A caller's first request came.
    FirstRequest,
    /// The worker's memory was paged out.
    Hibernated,
    /// The worker is awake again.
    Woken,
    /// The worker reached one of its limits.
    Limited,
    /// The worker gets no new requests.
    Retiring,
    /// The worker was told to stop.
    Stopping,
    /// Nothing of the worker is left.
    Ended,
}

impl LifeStage {
    /// As it stands in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Adopted => "adopted",
            Self::FirstRequest => "first_request",
            Self::Hibernated => "hibernated",
            Self::Woken => "woken",
            Self::Limited => "limited",
            Self::Retiring => "retiring",
            Self::Stopping => "stopping",
            Self::Ended => "ended",
        }
    }
}

/// Something that happened to a worker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LifeEntry {
    /// When.
    pub at: SystemTime,
    /// What the worker came to.
    pub stage: LifeStage,
    /// How, in words, at most 512 bytes.
    pub how: String,
}

/// The entries that are remembered of one worker, oldest first.
#[derive(Clone, Default, Debug)]
pub struct Life {
    first: Vec<LifeEntry>,
    last: VecDeque<LifeEntry>,
    left_out: u64,
}

impl Life {
    /// Adds what has just happened.
    pub(super) fn note(&mut self, at: SystemTime, stage: LifeStage, how: &str) {
        let mut end = MAX_TEXT.min(how.len());
        while !how.is_char_boundary(end) {
            end -= 1;
        }
        let how = how[..end].to_owned();
        let entry = LifeEntry { at, stage, how };
        if self.first.len() < FIRST {
            self.first.push(entry);
            return;
        }
        if self.last.len() >= LAST {
            self.last.pop_front();
            self.left_out += 1;
        }
        self.last.push_back(entry);
    }

    /// Whether the worker has come to that before, as far as that is remembered.
    pub(super) fn has(&self, stage: LifeStage) -> bool {
        self.entries().any(|entry| entry.stage == stage)
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &LifeEntry> {
        self.first.iter().chain(&self.last)
    }

    /// Entries between the beginning and the latest ones that are not remembered.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_beginning_and_what_was_last_are_kept_and_the_text_is_bounded() {
        let mut life = Life::default();
        let at = |n| UNIX_EPOCH + Duration::from_secs(n);
        life.note(at(0), LifeStage::Starting, &"ü".repeat(MAX_TEXT));
        assert_eq!(life.entries().next().map(|it| it.how.len()), Some(MAX_TEXT));
        for n in 1_u64..200 {
            let stage = match n.is_multiple_of(2) {
                true => LifeStage::Hibernated,
                false => LifeStage::Woken,
            };
            life.note(at(n), stage, "paged");
        }
        let seconds: Vec<_> = life.entries().map(|it| it.at).collect();
        let kept: Vec<_> = (0..8).chain(144..200).map(at).collect();
        assert_eq!(seconds, kept);
        assert_eq!(life.left_out(), 136);
        assert!(life.has(LifeStage::Starting) && !life.has(LifeStage::Ended));
    }
}
