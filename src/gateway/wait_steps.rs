//! How a client is told of what its request waits for, as progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;

use crate::protocol::progress_notification;

/// Counts what a client was told of one request before a worker had it.
#[derive(Clone, Default, Debug)]
pub struct WaitSteps(Arc<AtomicU32>);

impl WaitSteps {
    /// The next value of `progress`. Progress must grow with each notification (basic/utilities/progress), those of the worker
    /// that follow included, and theirs begin at 0: so these come from below and stay there.
    fn next(&self) -> f64 {
        let step = self.0.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        -1.0 / f64::from(step)
    }
}

/// The notification that tells a client, which asked with that progress token (raw JSON), what its request waits for.
pub fn waiting_progress(token: &str, steps: &WaitSteps, text: &str) -> Bytes {
    progress_notification(token, steps.next(), text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_of_waiting_grows_and_stays_below_that_of_workers() {
        let steps = WaitSteps::default();
        let values: Vec<f64> = (0..1000).map(|_| steps.clone().next()).collect();
        assert!(values.windows(2).all(|two| two[0] < two[1]), "{values:?}");
        assert!(values.iter().all(|value| *value < 0.0), "{values:?}");
    }

    #[test]
    fn a_notification_has_the_words_and_the_token_as_they_are() {
        let told = waiting_progress("\"a\\u0062\"", &WaitSteps::default(), "says \"so\"\n");
        assert_eq!(
            &*told,
            br#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"a\u0062","progress":-1,"message":"says \"so\"\n"}}"#
        );
    }
}
