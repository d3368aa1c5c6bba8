//! Endless answers: a broadcast channel as an event stream.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::protocol::sse;

/// A comment after so long without an event, so that proxies and clients see a live stream and a
/// vanished client is noticed.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(15);

/// First `past`, then what `next` brings, each made an event by `row`, until the channel closes, the
/// client goes, or `shutdown`. A reader that is too slow gets an event `lagged` with the number it
/// has missed. `permit` is held as long as the stream is.
pub(super) fn events<T, R>(
    past: Vec<T>,
    next: Receiver<T>,
    row: fn(T) -> R,
    shutdown: CancellationToken,
    permit: OwnedSemaphorePermit,
) -> Response
where
    T: Clone + Send + 'static,
    R: Serialize + 'static,
{
    let past = stream::iter(past).map(move |item| encode(&row(item)));
    let live = stream::unfold((next, permit), move |(mut next, permit)| async move {
        let piece = match timeout(KEEP_ALIVE_AFTER, next.recv()).await {
            Ok(Ok(item)) => encode(&row(item)),
            Ok(Err(RecvError::Lagged(missed))) => {
                sse::encode_event(missed.to_string().as_bytes(), None, Some("lagged"))
            }
            Ok(Err(RecvError::Closed)) => return None,
            Err(_) => Bytes::from_static(sse::KEEP_ALIVE),
        };
        Some((piece, (next, permit)))
    });
    let stream = past
        .chain(live)
        .take_until(shutdown.cancelled_owned())
        .map(Ok::<_, Infallible>);
    let content_type = HeaderValue::from_static("text/event-stream");
    ([(CONTENT_TYPE, content_type)], Body::from_stream(stream)).into_response()
}

fn encode(row: &impl Serialize) -> Bytes {
    let json = serde_json::to_vec(row).expect("rows have string keys only");
    sse::encode_event(&json, None, None)
}
