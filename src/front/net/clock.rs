//! The clock of one connection.

use std::time::Duration;

use tokio::time::Instant;

/// Tells times as milliseconds since a connection began, plus one: 0 is free to mean never.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    began: Instant,
}

impl Clock {
    /// The clock of a connection that begins now.
    pub(super) fn start() -> Self {
        Self {
            began: Instant::now(),
        }
    }

    /// Milliseconds since the connection began, plus one.
    pub(super) fn now(self) -> u64 {
        let passed = self.began.elapsed().as_millis();
        u64::try_from(passed).unwrap_or(u64::MAX - 1) + 1
    }

    /// The moment at which [`Clock::now`] was `at`.
    pub(super) fn instant(self, at: u64) -> Instant {
        self.began + Duration::from_millis(at.saturating_sub(1))
    }
}
