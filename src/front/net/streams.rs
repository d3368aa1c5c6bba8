//! Answers over HTTP/2 that their client does not take: its window for the stream is used up.
//!
//! hyper takes the next piece of a body, then waits for leave to send it, without end. So an answer that has given
//! a piece and is not asked for more for too long is ended, and with it its stream; others of the connection go on.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use hyper::rt::Executor;

use super::activity::{Activity, Timeouts};
use crate::fair::Gate;

/// Runs the answers of one connection over HTTP/2, and ends those that stall.
#[derive(Clone, Debug)]
pub(super) struct StreamExecutor {
    pub(super) activity: Arc<Activity>,
    pub(super) timeouts: Timeouts,
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, answer: F) {
        // hyper hands a request to the service, and its answer to this right after.
        let Some(progress) = self.activity.take_begun() else {
            let flow = self.activity.flow();
            tokio::spawn(flow.run(async move { drop(answer.await) }));
            return;
        };
        let Timeouts { write, .. } = self.timeouts;
        let period = self.timeouts.look_period();
        let activity = Arc::clone(&self.activity);
        tokio::spawn(async move {
            // Looked up each time: whose connection it is becomes known by the first request.
            let (mut answer, mut gate) = (pin!(answer), Gate::default());
            let answer =
                poll_fn(|cx| gate.poll(&activity.flow(), cx, |cx| answer.as_mut().poll(cx)));
            tokio::select! {
                biased;
                _ended = answer => {}
                () = progress.stalls(write, period) => {
                    tracing::debug!("a stream was reset: its client takes nothing of it");
                }
            }
        });
    }
}
