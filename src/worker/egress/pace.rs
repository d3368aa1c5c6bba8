//! How often something is done: so many times a second, and some more at once.

use std::time::Duration;

use tokio::time::Instant;

/// A bucket that so many tokens fall into each second, and that has room for some.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: u32,
    most: u32,
    tokens: u32,
    filled: Option<Instant>,
}

impl Pace {
    /// A full bucket.
    pub(super) const fn new(per_second: u32, most: u32) -> Self {
        Self {
            per_second,
            most,
            tokens: most,
            filled: None,
        }
    }

    /// Takes a token if there is one.
    pub(super) fn has_room(&mut self) -> bool {
        self.fill(Instant::now());
        let has = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        has
    }

    /// Takes a token, when there is one.
    ///
    /// # Cancel-Safety
    /// None is taken then.
    pub(super) async fn wait(&mut self) {
        while !self.has_room() {
            tokio::time::sleep(Duration::from_secs(1) / self.per_second).await;
        }
    }

    fn fill(&mut self, now: Instant) {
        let Some(filled) = self.filled else {
            self.filled = Some(now);
            return;
        };
        let one = Duration::from_secs(1) / self.per_second;
        let passed = now.saturating_duration_since(filled).as_nanos() / one.as_nanos().max(1);
        let fallen = u32::try_from(passed).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(fallen).min(self.most);
        self.filled = match self.tokens == self.most {
            true => Some(now),
            false => filled.checked_add(one * fallen),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_done_at_once_some_times_and_then_so_often() {
        let mut pace = Pace::new(10, 3);
        let begin = Instant::now();
        for _ in 0..13 {
            pace.wait().await;
        }
        let took = begin.elapsed();
        assert!(
            took >= Duration::from_millis(990) && took < Duration::from_millis(1200),
            "{took:?}"
        );
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((0..9).filter(|_| pace.has_room()).count(), 3);
    }
}
