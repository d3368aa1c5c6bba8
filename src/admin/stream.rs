//! Endless answers: a broadcast channel as an event stream, or one answer again and again.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

use crate::escape;
use crate::protocol::sse;

/// A comment after so long without an event, so that proxies and clients see a live stream and a
/// vanished client is noticed.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(15);

/// Streams (events, followed logs) open at once. One more closes the oldest: whoever opens streams and leaves them
/// must not keep the operator out.
const MAX_STREAMS: usize = 64;

/// The streams that are open.
#[derive(Debug, Default)]
pub(super) struct Streams(Mutex<VecDeque<Arc<CancellationToken>>>);

impl Streams {
    /// Opens one more, which also ends with `shutdown`.
    pub(super) fn open(self: &Arc<Self>, shutdown: &CancellationToken) -> OpenStream {
        let ended = Arc::new(shutdown.child_token());
        let mut all = self.0.lock();
        while all.len() >= MAX_STREAMS
            && let Some(oldest) = all.pop_front()
        {
            tracing::warn!(
                most = MAX_STREAMS,
                "the oldest event stream of the admin API is closed: there are too many"
            );
            oldest.cancel();
        }
        all.push_back(Arc::clone(&ended));
        OpenStream {
            ended,
            all: Arc::clone(self),
        }
    }
}

/// A stream of the admin API, counted as long as it is open.
#[derive(Debug)]
pub(super) struct OpenStream {
    ended: Arc<CancellationToken>,
    all: Arc<Streams>,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let is_other = |other: &Arc<CancellationToken>| !Arc::ptr_eq(other, &self.ended);
        self.all.0.lock().retain(is_other);
    }
}

/// First `past`, then what `next` brings, each made an event by `row`, until the channel closes, the
/// client goes, or `open` is to end. A reader that is too slow gets an event `lagged` with the number it
/// has missed.
pub(super) fn events<T, R>(
    past: Vec<T>,
    next: Receiver<T>,
    row: fn(T) -> R,
    open: OpenStream,
) -> Response
where
    T: Clone + Send + 'static,
    R: Serialize + 'static,
{
    let ended = open.ended.child_token().cancelled_owned();
    let past = stream::iter(past).map(move |item| encode(&row(item)));
    let live = stream::unfold((next, open), move |(mut next, open)| async move {
        let piece = match timeout(KEEP_ALIVE_AFTER, next.recv()).await {
            Ok(Ok(item)) => encode(&row(item)),
            Ok(Err(RecvError::Lagged(missed))) => {
                sse::encode_event(missed.to_string().as_bytes(), None, Some("lagged"))
            }
            Ok(Err(RecvError::Closed)) => return None,
            Err(_) => Bytes::from_static(sse::KEEP_ALIVE),
        };
        Some((piece, (next, open)))
    });
    respond(past.chain(live).take_until(ended))
}

/// What `next` gives, at once and then `every` so often, until the client goes, or `open` is to end, or `next` gives nothing more. A client
/// that reads slowly gets fewer.
pub(super) fn each<F, N>(every: Duration, next: N, open: OpenStream) -> Response
where
    N: Fn() -> F + Send + 'static,
    F: Future<Output = Option<Bytes>> + Send + 'static,
{
    let ended = open.ended.child_token().cancelled_owned();
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stream = stream::unfold((ticks, next, open), |(mut ticks, next, open)| async move {
        ticks.tick().await;
        let json = next().await?;
        let event = sse::encode_event(&json, None, None);
        Some((event, (ticks, next, open)))
    });
    respond(stream.take_until(ended))
}

fn respond(pieces: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let content_type = HeaderValue::from_static("text/event-stream");
    let stream = pieces.map(Ok::<_, Infallible>);
    ([(CONTENT_TYPE, content_type)], Body::from_stream(stream)).into_response()
}

fn encode(row: &impl Serialize) -> Bytes {
    let json = serde_json::to_string(row).expect("rows have string keys only");
    // The stream is read on terminals too, as with curl.
    sse::encode_event(escape::in_json(&json).as_bytes(), None, None)
}
