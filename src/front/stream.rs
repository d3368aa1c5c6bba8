//! Event streams: the frames of a POST's reply and of a session's own stream.

use std::collections::VecDeque;
use std::time::Duration;

use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;

use super::post::{Tally, timed_out};
use crate::session::{Exchange, InUse, Next, Parcel, Session};

/// How long a stream may say nothing before a comment keeps it alive, and how long a POST waits
/// for its result before it turns into a stream. Proxies commonly give up after 30 or 60 seconds.
pub(super) const QUIET_PERIOD: Duration = Duration::from_secs(15);
/// A comment, which clients ignore (WHATWG HTML, 9.2.6 "Interpreting an event stream").
pub(super) const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";
/// Ready events are written in one go up to this many bytes.
const COALESCE_BYTES: usize = 64 << 10;

/// Appends one event. Messages hold no line breaks: a worker's line has none, and carriage
/// returns are taken out of it.
pub(super) fn put_event(frame: &mut BytesMut, message: &[u8]) {
    frame.reserve(message.len() + 8);
    frame.put_slice(b"data: ");
    frame.put_slice(message);
    frame.put_slice(b"\n\n");
}

fn message_of(parcel: Parcel) -> Bytes {
    match parcel {
        Parcel::Message(message) | Parcel::Answer { message, .. } => message,
        Parcel::Failed { id, failure } => failure.to_response(Some(&id)).into(),
    }
}

struct PostStream {
    exchange: Exchange,
    /// What came before the decision for a stream.
    backlog: VecDeque<Parcel>,
    tally: Tally,
    in_use: InUse,
    ended: bool,
    /// A comment is due at once: the stream was opened because nothing else came.
    starts_quiet: bool,
}

/// The rest of a POST's reply as a stream: first what has come already, then what comes. Dropping
/// the body drops the exchange, which cancels what is unanswered.
pub(super) fn of_post(
    exchange: Exchange,
    backlog: VecDeque<Parcel>,
    tally: Tally,
    in_use: InUse,
) -> Body {
    let starts_quiet = backlog.is_empty();
    let state = PostStream {
        exchange,
        backlog,
        tally,
        in_use,
        ended: false,
        starts_quiet,
    };
    Body::from_stream(stream::unfold(state, |mut state| async move {
        let frame = state.next_frame().await?;
        Some((Ok::<_, std::convert::Infallible>(frame), state))
    }))
}

impl PostStream {
    async fn next_frame(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        if std::mem::take(&mut self.starts_quiet) {
            return Some(Bytes::from_static(KEEP_ALIVE));
        }
        let mut frame = BytesMut::new();
        while let Some(parcel) = self.backlog.pop_front() {
            self.put(&mut frame, parcel);
        }
        if frame.is_empty() {
            match tokio::time::timeout(QUIET_PERIOD, self.exchange.next()).await {
                Err(_quiet) => return Some(Bytes::from_static(KEEP_ALIVE)),
                Ok(Next::Parcel(parcel)) => self.put(&mut frame, parcel),
                Ok(Next::Done) => {
                    self.finish();
                    return None;
                }
                Ok(Next::TimedOut {
                    timeout,
                    unanswered,
                }) => {
                    let failure = timed_out(timeout);
                    for id in unanswered {
                        self.tally.failed(failure.reason);
                        put_event(&mut frame, failure.to_response(Some(&id)).as_bytes());
                    }
                    self.finish();
                    return Some(frame.freeze());
                }
            }
        }
        while frame.len() < COALESCE_BYTES
            && let Some(parcel) = self.exchange.try_next()
        {
            self.put(&mut frame, parcel);
        }
        Some(frame.freeze())
    }

    fn put(&mut self, frame: &mut BytesMut, parcel: Parcel) {
        self.tally.note(&parcel);
        put_event(frame, &message_of(parcel));
    }

    fn finish(&mut self) {
        self.ended = true;
        self.tally.finish(&self.exchange);
        let _until_here = &self.in_use;
    }
}

/// A session's own stream, until the session ends or another GET takes over.
pub(super) fn of_session(session: std::sync::Arc<Session>) -> Body {
    let reader = session.outbox.take_over();
    let in_use = session.in_use();
    // The first comment goes out at once, so that the client sees the stream open.
    let state = (session, reader, in_use, true);
    Body::from_stream(stream::unfold(
        state,
        |(session, reader, in_use, first)| async move {
            let frame = if first {
                Bytes::from_static(KEEP_ALIVE)
            } else {
                next_of_session(&session, reader).await?
            };
            Some((
                Ok::<_, std::convert::Infallible>(frame),
                (session, reader, in_use, false),
            ))
        },
    ))
}

async fn next_of_session(session: &Session, reader: u64) -> Option<Bytes> {
    let next = session.outbox.next_of_stream(reader);
    let Ok(parcel) = tokio::time::timeout(QUIET_PERIOD, next).await else {
        return Some(Bytes::from_static(KEEP_ALIVE));
    };
    let mut frame = BytesMut::new();
    put_event(&mut frame, &message_of(parcel?));
    while frame.len() < COALESCE_BYTES
        && let Some(parcel) = session.outbox.try_next()
    {
        put_event(&mut frame, &message_of(parcel));
    }
    Some(frame.freeze())
}
