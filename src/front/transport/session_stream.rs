//! A session's own stream: what belongs to no request of its client.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;

use crate::front::response::body::Body;
use crate::front::response::sse::{Frames, KEEP_ALIVE, QUIET_PERIOD, message_of};
use crate::session::{EventId, InUse, Session};
use crate::upstream::{OutboundMessage, Reader};

/// A session's own stream, as far as it has not been told.
struct SessionStream {
    session: Arc<Session>,
    reader: Reader,
    frames: Frames,
    _in_use: InUse,
}

/// A session's own stream, until the session ends, beside others of it; what came after `last` is told first.
pub(in crate::front) fn of_session(session: Arc<Session>, last: Option<EventId>) -> Body {
    let broken = last.and_then(|last| session.replay.lock().told_on(last));
    let reader = session.outbox.read(broken);
    let in_use = session.in_use();
    let mut frames = Frames::new(session.account());
    let missed = last.map(|last| session.replay.lock().after(last));
    let missed = missed.unwrap_or_default();
    // Something goes out at once, so that the client sees the stream open.
    if missed.is_empty() && session.revision().has_first_events() {
        let position = session.replay.lock().last_on(reader.stream());
        frames.put_position(position);
    } else {
        frames.put(KEEP_ALIVE);
    }
    for (id, message) in missed {
        frames.put_named(id, &message);
    }
    let stream = SessionStream {
        session,
        reader,
        frames,
        _in_use: in_use,
    };
    Body::from_stream(stream::unfold(stream, |mut stream| async move {
        let frame = stream.next_frame().await?;
        Some((Ok::<_, Infallible>(frame), stream))
    }))
}

impl SessionStream {
    async fn next_frame(&mut self) -> Option<Bytes> {
        if let Some(piece) = self.frames.next_piece() {
            return Some(piece);
        }
        let next = tokio::time::timeout(QUIET_PERIOD, self.reader.next());
        let Ok(outbound) = next.await else {
            return Some(Bytes::from_static(KEEP_ALIVE));
        };
        self.put(outbound?);
        while !self.frames.is_full()
            && let Some(outbound) = self.reader.try_next()
        {
            self.put(outbound);
        }
        self.frames.next_piece()
    }

    fn put(&mut self, outbound: OutboundMessage) {
        let message = message_of(outbound);
        let mut replay = self.session.replay.lock();
        let id = replay.note_on(self.reader.stream(), &message);
        drop(replay);
        self.frames.put_named(id, &message);
    }
}
