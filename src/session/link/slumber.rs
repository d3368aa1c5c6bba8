//! Whether the worker's memory is paged out, as its link knows it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Set by the pool's word, looked at for every message: two flags, and a lock only on the way up.
#[derive(Debug, Default)]
pub(super) struct Slumber {
    /// Told to hibernate, and not needed since.
    asleep: AtomicBool,
    /// Needed again, and has said nothing since.
    waking: AtomicBool,
    woken_at: Mutex<Option<Instant>>,
}

/// What a message means for the slumber.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Heard {
    /// Nothing.
    Usual,
    /// It came from a worker that was let sleep: it is awake now.
    Stirred,
    /// It is the first since the worker was needed again, so long ago.
    Woke(Duration),
}

impl Slumber {
    pub(super) fn begin(&self) {
        self.asleep.store(true, Ordering::Relaxed);
    }

    /// Needed again.
    pub(super) fn end(&self) {
        if self.asleep.swap(false, Ordering::Relaxed) {
            *self.woken_at.lock() = Some(Instant::now());
            self.waking.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// The worker said something.
    pub(super) fn heard(&self) -> Heard {
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            return Heard::Stirred;
        }
        if self.waking.load(Ordering::Relaxed) && self.waking.swap(false, Ordering::Relaxed) {
            let since = self.woken_at.lock().take();
            return since.map_or(Heard::Usual, |at| Heard::Woke(at.elapsed()));
        }
        Heard::Usual
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_after_a_sleep_says_how_it_ended() {
        let slumber = Slumber::default();
        assert_eq!(slumber.heard(), Heard::Usual);
        slumber.end();
        assert_eq!(slumber.heard(), Heard::Usual, "it was awake");
        slumber.begin();
        assert!(slumber.is_asleep());
        slumber.end();
        assert!(!slumber.is_asleep());
        assert!(matches!(slumber.heard(), Heard::Woke(_)));
        assert_eq!(slumber.heard(), Heard::Usual);
        slumber.begin();
        assert_eq!(slumber.heard(), Heard::Stirred);
        assert_eq!(slumber.heard(), Heard::Usual);
    }
}
