//! Whether the worker's memory is paged out, as its connection knows it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::telemetry::Waking;

/// Set by the pool's word, looked at for every message: two flags, and a lock only on the way up.
#[derive(Debug, Default)]
pub(super) struct Hibernation {
    /// Told to hibernate, and not needed since.
    asleep: AtomicBool,
    /// Needed again, and has said nothing since.
    waking: AtomicBool,
    wake: Mutex<Option<Arc<Waking>>>,
}

/// The meaning of a message for the hibernation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Heard {
    /// Nothing.
    Usual,
    /// The message came from a worker that was let sleep: the worker is awake now.
    SpontaneousWake,
    /// The message is the first since the worker was needed again, so long ago.
    Woke(Duration),
}

impl Hibernation {
    pub(super) fn begin(&self) {
        self.asleep.store(true, Ordering::Relaxed);
    }

    /// Needed again.
    pub(super) fn end(&self) {
        if self.asleep.swap(false, Ordering::Relaxed) {
            let wake = Waking {
                since: Instant::now(),
                took: OnceLock::new(),
            };
            *self.wake.lock() = Some(Arc::new(wake));
            self.waking.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// The waking that is under way, if one is.
    pub(super) fn waking(&self) -> Option<Arc<Waking>> {
        let is_waking = self.waking.load(Ordering::Relaxed);
        is_waking.then(|| self.wake.lock().clone()).flatten()
    }

    /// The worker said something.
    pub(super) fn heard(&self) -> Heard {
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            return Heard::SpontaneousWake;
        }
        if self.waking.load(Ordering::Relaxed) && self.waking.swap(false, Ordering::Relaxed) {
            let wake = self.wake.lock().take();
            return wake.map_or(Heard::Usual, |wake| {
                Heard::Woke(*wake.took.get_or_init(|| wake.since.elapsed()))
            });
        }
        Heard::Usual
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_after_a_sleep_says_how_it_ended() {
        let hibernation = Hibernation::default();
        assert_eq!(hibernation.heard(), Heard::Usual);
        hibernation.end();
        assert_eq!(hibernation.heard(), Heard::Usual, "it was awake");
        hibernation.begin();
        assert!(hibernation.is_asleep());
        hibernation.end();
        assert!(!hibernation.is_asleep());
        let waking = hibernation.waking().expect("it was needed");
        assert!(matches!(hibernation.heard(), Heard::Woke(_)));
        assert!(waking.took.get().is_some() && hibernation.waking().is_none());
        assert_eq!(hibernation.heard(), Heard::Usual);
        hibernation.begin();
        assert_eq!(hibernation.heard(), Heard::SpontaneousWake);
        assert_eq!(hibernation.heard(), Heard::Usual);
    }
}
