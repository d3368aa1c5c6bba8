//! How far the answer to one request over HTTP/2 is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::clock::Clock;

/// How far one answer is.
#[derive(Debug)]
pub(super) struct Progress {
    clock: Clock,
    /// When the body last gave a piece, as of [`Clock::now`]; 0: it was asked for more and has none.
    gave_at: AtomicU64,
}

impl Progress {
    /// The progress of an answer that has given nothing, on a connection with that clock.
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            gave_at: AtomicU64::new(0),
        }
    }

    /// The answer has given a piece, or has been asked for one that is not there yet.
    pub(super) fn gave(&self, is_given: bool) {
        let at = if is_given { self.clock.now() } else { 0 };
        self.gave_at.store(at, Ordering::Relaxed);
    }

    /// Ends when nobody has asked for more for so long.
    ///
    /// # Cancel-Safety
    /// A dropped call loses nothing.
    pub(super) async fn stalls(&self, limit: Duration, period: Duration) {
        loop {
            tokio::time::sleep(period).await;
            let gave = self.gave_at.load(Ordering::Relaxed);
            let waits = self.clock.now().saturating_sub(gave);
            if gave != 0 && u128::from(waits) >= limit.as_millis() {
                return;
            }
        }
    }
}
