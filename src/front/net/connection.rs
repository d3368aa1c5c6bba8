//! The life of one connection.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};

use super::activity::{CloseRequest, LifetimeMonitor, Timeouts, Verdict};
use super::connection_slots::ConnectionSlot;
use super::request::Served;
use super::streams::StreamExecutor;
use super::watched::{HangUp, Watched};
use crate::fair::Gate;

/// Requests at once over one connection of HTTP/2; further ones wait with the client.
const MAX_STREAMS: u32 = 200;
/// Bytes of one request that may come over HTTP/2 before they are read.
pub(in crate::front) const STREAM_WINDOW: u32 = 64 << 10;
/// What of all requests of a connection may: whatever is not read of some, the others have room.
const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;
/// Longest head over HTTP/1.1, in bytes: one with a config of the largest size, encoded, has room.
const MAX_HEAD: usize = 128 << 10;
/// How often a peer is asked over HTTP/2 whether it is still there.
const PING_PERIOD: Duration = Duration::from_secs(30);

/// One connection, before anything is read from it.
#[derive(Debug)]
pub(in crate::front) struct Connection<S> {
    pub(in crate::front) slot: Arc<ConnectionSlot>,
    pub(in crate::front) service: S,
    pub(in crate::front) timeouts: Timeouts,
}

impl<S, F> Connection<S>
where
    S: hyper::service::Service<
            Request<Incoming>,
            Response = Response<Served>,
            Error = Infallible,
            Future = F,
        > + Send
        + 'static,
    F: Future<Output = Result<Response<Served>, Infallible>> + Send + 'static,
{
    /// Serves its requests until it ends, or its time is over.
    pub(in crate::front) async fn serve(
        self,
        stream: impl AsyncRead + AsyncWrite + HangUp + Unpin + Send + 'static,
    ) {
        let activity = Arc::clone(self.slot.activity());
        let timeouts = self.timeouts;
        let mut builder = Builder::new(StreamExecutor {
            activity: Arc::clone(&activity),
            timeouts,
        });
        // Heads are timed here, by `LifetimeMonitor`.
        builder
            .http1()
            .header_read_timeout(None)
            .max_buf_size(MAX_HEAD);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_PERIOD)
            .keep_alive_timeout(timeouts.write);
        let stream = TokioIo::new(Watched::new(stream, Arc::clone(&self.slot)));
        let connection = builder.serve_connection(stream, self.service);
        let mut connection = pin!(connection);
        let mut interval = pin!(LookInterval::new(timeouts.look_period()));
        let mut monitor = LifetimeMonitor::new(timeouts);
        let (mut is_known, mut was_told) = (false, CloseRequest::None);
        let mut is_finishing = false;
        let mut gate = Gate::default();
        let ended = poll_fn(|cx| {
            if !is_known {
                is_known = true;
                activity.register(cx.waker());
            }
            let is_time = interval.as_mut().poll_look(cx);
            if is_time {
                activity.look_is_due();
            }
            let flow = activity.flow();
            if let Poll::Ready(ended) = gate.poll(&flow, cx, |cx| connection.as_mut().poll(cx)) {
                return Poll::Ready(ended);
            }
            let close_request = activity.close_requested();
            let is_due = is_time || close_request != was_told;
            was_told = close_request;
            // A task that waits for its turn has not looked at what its client has sent: that time is not the client's.
            if !is_due || (gate.is_waiting() && close_request == CloseRequest::None) {
                return Poll::Pending;
            }
            match monitor.verdict(&activity, activity.now()) {
                Verdict::Finish if !is_finishing => {
                    is_finishing = true;
                    if close_request == CloseRequest::None {
                        self.slot.slots().timed_out();
                    }
                    interval.as_mut().hurry(cx);
                    connection.as_mut().graceful_shutdown();
                    connection.as_mut().poll(cx)
                }
                Verdict::Stay | Verdict::Finish => Poll::Pending,
                Verdict::Close(why) => {
                    if close_request == CloseRequest::None && !is_finishing {
                        self.slot.slots().timed_out();
                    }
                    Poll::Ready(Err(why.into()))
                }
            }
        });
        if let Err(error) = ended.await {
            tracing::debug!(%error, "connection ended with an error");
        }
    }
}

/// Says from time to time that it is time to look.
struct LookInterval {
    period: Duration,
    sleep: Pin<Box<Sleep>>,
    is_armed: bool,
}

impl LookInterval {
    fn new(period: Duration) -> Self {
        Self {
            period,
            sleep: Box::pin(tokio::time::sleep(period)),
            is_armed: false,
        }
    }

    /// Whether a look at the connection is due. Polled with each step of the connection: one load, nearly always.
    fn poll_look(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> bool {
        let mut is_due = false;
        while !self.is_armed || self.sleep.is_elapsed() {
            self.is_armed = true;
            if self.sleep.as_mut().poll(cx).is_pending() {
                break;
            }
            is_due = true;
            let next = Instant::now() + self.period;
            self.sleep.as_mut().reset(next);
            self.is_armed = false;
        }
        is_due
    }

    /// Looks more often from now on.
    fn hurry(mut self: Pin<&mut Self>, cx: &mut Context<'_>) {
        self.period = self.period.min(Duration::from_millis(500));
        let next = Instant::now() + self.period;
        self.sleep.as_mut().reset(next);
        // So that it wakes this task; it is not due yet.
        self.is_armed = self.sleep.as_mut().poll(cx).is_pending();
    }
}
