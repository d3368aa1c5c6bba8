//! What is said on standard error while a request is waited for.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::output;

/// How long nothing is said.
const QUIET: Duration = Duration::from_secs(2);
/// How often something new is said from then on.
const PERIOD: Duration = Duration::from_secs(10);

/// A request that is waited for: what is said of that, a plain line each, wherever standard error leads.
#[derive(Debug)]
pub(super) struct Wait<'m> {
    method: &'m str,
    /// When something is to be said next.
    due: Instant,
    has_spoken: bool,
    /// How far the call is, if that has not been said.
    progress: Option<String>,
}

impl<'m> Wait<'m> {
    pub(super) fn for_answer_to(method: &'m str) -> Self {
        Self {
            method,
            due: Instant::now() + QUIET,
            has_spoken: false,
            progress: None,
        }
    }

    /// The server has said how far it is.
    pub(super) fn heard(&mut self, how_far: String) {
        self.progress = Some(how_far);
    }

    /// Waits for a part of it.
    ///
    /// # Cancel-Safety
    /// A dropped call drops that part.
    pub(super) async fn patiently<T>(&mut self, part: impl Future<Output = T>) -> T {
        let mut part = pin!(part);
        loop {
            tokio::select! {
                biased;
                part = &mut part => return part,
                () = sleep_until(self.due) => {
                    if let Some(line) = self.line() {
                        output::notice(&line);
                    }
                }
            }
        }
    }

    /// The line to be said now.
    fn line(&mut self) -> Option<String> {
        self.due = Instant::now() + PERIOD;
        let has_spoken = std::mem::replace(&mut self.has_spoken, true);
        match self.progress.take() {
            Some(progress) => Some(format!("waiting: {progress}")),
            None if has_spoken => None,
            None => Some(format!("waiting for the answer to {}", what(self.method))),
        }
    }
}

/// The subject of a request, in words.
fn what(method: &str) -> &str {
    match method {
        "initialize" => {
            "`initialize`: the server is being started, which installs its package where that is new (`stdiopool events` says what happens)"
        }
        method => method,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_comes_after_a_while_and_then_what_is_new() {
        let mut wait = Wait::for_answer_to("tools/list");
        wait.patiently(tokio::time::sleep(QUIET / 2)).await;
        assert!(!wait.has_spoken, "an answer in time is no news");
        wait.patiently(tokio::time::sleep(QUIET)).await;
        assert!(wait.has_spoken);
        assert_eq!(wait.line(), None, "once is enough");
        wait.heard("package x: resolving (3 s)".to_owned());
        wait.heard("package x: installing (4 s)".to_owned());
        let line = wait.line();
        let told = "waiting: package x: installing (4 s)";
        assert_eq!(line.as_deref(), Some(told));
        wait.heard("package x: installing (8 s)".to_owned());
        wait.patiently(tokio::time::sleep(PERIOD / 2)).await;
        assert!(wait.progress.is_some(), "not so often");
        wait.patiently(tokio::time::sleep(PERIOD)).await;
        assert!(wait.progress.is_none());
    }
}
