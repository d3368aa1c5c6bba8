//! Warnings that something else decides the number of: a few in the log, the rest counted.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Most such lines in the log in one [`WINDOW`], unless something else is said.
const MAX_WARNINGS: u32 = 5;
const WINDOW: Duration = Duration::from_secs(60);

/// How many warnings of one kind and cause are in the log already: five a minute by default.
#[derive(Debug)]
pub struct Warnings {
    most: u32,
    window: Mutex<Option<Window>>,
}

impl Default for Warnings {
    fn default() -> Self {
        Self::of(MAX_WARNINGS)
    }
}

#[derive(Debug)]
struct Window {
    since: Instant,
    told: u32,
    untold: u32,
}

impl Warnings {
    /// So many a minute at the most.
    pub(super) fn of(most: u32) -> Self {
        Self {
            most,
            window: Mutex::default(),
        }
    }

    /// Whether another one is told now, and how many were not since the last one that was.
    pub fn next(&self, now: Instant) -> Option<u32> {
        let mut window = self.window.lock();
        let ended = |window: &Window| now.duration_since(window.since) >= WINDOW;
        let untold = window.as_ref().map_or(0, |window| window.untold);
        if window.as_ref().is_none_or(ended) {
            *window = Some(Window {
                since: now,
                told: 0,
                untold,
            });
        }
        let window = window.as_mut()?;
        if window.told >= self.most {
            window.untold = window.untold.saturating_add(1);
            return None;
        }
        window.told += 1;
        Some(std::mem::take(&mut window.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_log_is_told_of_a_few_and_how_many_there_were() {
        let warnings = Warnings::default();
        let now = Instant::now();
        let told = (0..20).filter_map(|_| warnings.next(now)).count();
        assert_eq!(told, 5);
        assert_eq!(warnings.next(now + WINDOW), Some(15));
        assert_eq!(warnings.next(now + WINDOW), Some(0));
    }
}
