//! Event streams: the frames of a POST's reply and of a session's own stream.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::Fuse;
use futures_util::stream;

use super::body::Body;
use super::frames::Frames;
use super::post::Tally;
use super::resume::{HandOver, Parked};
use crate::bridge::SessionNo;
use crate::session::{EventId, Exchange, InUse, Next, Parcel, Replay, Session};

/// How long a stream may say nothing before a comment keeps it alive, and how long a POST waits
/// for its result before it turns into a stream. Proxies commonly give up after 30 or 60 seconds.
pub(super) const QUIET_PERIOD: Duration = Duration::from_secs(15);
/// A stream that is over waits for its client while the tenant holds less than this part of what it may.
const PARKED_PART: u64 = 4;
/// A comment, which clients ignore (WHATWG HTML, 9.2.6 "Interpreting an event stream").
pub(super) const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

pub(super) fn message_of(parcel: Parcel) -> Bytes {
    match parcel {
        Parcel::Message(message) | Parcel::Answer { message, .. } => message,
        Parcel::Failed { id, failure } => failure.to_response(Some(&id)).into(),
    }
}

/// The reply to a POST, as far as it has not been told.
pub(super) struct PostStream {
    exchange: Exchange,
    /// What came before the decision for a stream.
    backlog: VecDeque<Parcel>,
    /// What is told again.
    again: Vec<(EventId, Bytes)>,
    /// What is about to be written.
    frames: Frames,
    tally: Tally,
    in_use: Option<InUse>,
    no: u64,
    replay: Replay,
    ended: bool,
    /// A comment is due at once: the stream was opened because nothing else came.
    starts_quiet: bool,
}

impl fmt::Debug for PostStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostStream")
            .field("no", &self.no)
            .finish_non_exhaustive()
    }
}

/// A stream while its client reads it. When the client goes, the stream waits for it.
struct Attached {
    stream: Option<Box<PostStream>>,
    no: u64,
    session: SessionNo,
    parked: Arc<Parked>,
    /// Its client has come back on another connection.
    handed_over: Fuse<HandOver>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        match self.stream.take() {
            Some(stream) if stream.is_over_and_in_the_way() => {
                self.parked.forget(self.session, self.no);
            }
            Some(stream) if stream.can_be_resumed() => self.parked.park(self.session, stream),
            // Of a stream that told nothing, nobody knows a place to go on from.
            Some(_) => self.parked.forget(self.session, self.no),
            // Another connection has it.
            None => {}
        }
    }
}

/// The rest of a POST's reply as a stream: first what has come already, then what comes. When the
/// body is dropped, what is unanswered waits for its client for a while and is cancelled then.
pub(super) fn of_post(
    exchange: Exchange,
    backlog: VecDeque<Parcel>,
    tally: Tally,
    session: &Arc<Session>,
    parked: &Arc<Parked>,
) -> Body {
    let no = session.next_stream();
    let stream = PostStream {
        starts_quiet: backlog.is_empty(),
        exchange,
        backlog,
        again: Vec::new(),
        frames: Frames::new(session.account()),
        tally,
        in_use: Some(session.in_use()),
        no,
        replay: Replay::new(no, session.account()),
        ended: false,
    };
    attached(Box::new(stream), session.no, parked)
}

/// A stream that broke, from the event after `last` on.
pub(super) fn resumed(
    mut stream: Box<PostStream>,
    last: EventId,
    session: SessionNo,
    parked: &Arc<Parked>,
) -> Body {
    // What was about to be written on the broken connection is among it.
    stream.frames.clear();
    stream.again = stream.replay.after(last.place);
    attached(stream, session, parked)
}

fn attached(stream: Box<PostStream>, session: SessionNo, parked: &Arc<Parked>) -> Body {
    let no = stream.no();
    let state = Attached {
        handed_over: parked.told(session, no).fuse(),
        stream: Some(stream),
        no,
        session,
        parked: Arc::clone(parked),
    };
    Body::from_stream(stream::unfold(state, |mut state| async move {
        let stream = state.stream.as_mut()?;
        let frame = tokio::select! {
            biased;
            // Dropping what is told next loses nothing.
            Ok(taker) = &mut state.handed_over => Err(taker),
            frame = stream.next_frame() => Ok(frame),
        };
        match frame {
            Ok(frame) => Some((Ok::<_, std::convert::Infallible>(frame?), state)),
            Err(taker) => {
                // Who asked may have gone again: then the stream waits for the next.
                if let Some(Err(stream)) = state.stream.take().map(|stream| taker.send(stream)) {
                    state.parked.park(state.session, stream);
                }
                None
            }
        }
    }))
}

impl PostStream {
    /// Its number in its session.
    pub(super) fn no(&self) -> u64 {
        self.no
    }

    fn can_be_resumed(&self) -> bool {
        !self.replay.after(0).is_empty()
    }

    /// Whether its tenant has so little room left that what is over is better forgotten.
    fn is_over_and_in_the_way(&self) -> bool {
        let account = self.frames.account();
        self.ended && account.held() > account.limit() / PARKED_PART
    }

    async fn next_frame(&mut self) -> Option<Bytes> {
        if let Some(piece) = self.frames.next_piece() {
            return Some(piece);
        }
        for (id, message) in self.again.drain(..) {
            self.frames.put_named(id, &message);
        }
        if let Some(piece) = self.frames.next_piece() {
            return Some(piece);
        }
        if self.ended {
            return None;
        }
        if std::mem::take(&mut self.starts_quiet) {
            return Some(Bytes::from_static(KEEP_ALIVE));
        }
        while let Some(parcel) = self.backlog.pop_front() {
            self.put(parcel);
        }
        if self.frames.is_empty() {
            match self.exchange.next_within(QUIET_PERIOD).await {
                None => return Some(Bytes::from_static(KEEP_ALIVE)),
                Some(Next::Parcel(parcel)) => self.put(parcel),
                Some(Next::Done) => {
                    self.finish();
                    return None;
                }
                Some(Next::TimedOut { limit, unanswered }) => {
                    let failure = limit.failure();
                    for id in unanswered {
                        self.tally.failed(failure.reason);
                        let response = Bytes::from(failure.to_response(Some(&id)));
                        let id = self.replay.note(&response);
                        self.frames.put_named(id, &response);
                    }
                    self.finish();
                    return self.frames.next_piece();
                }
            }
        }
        while !self.frames.is_full()
            && let Some(parcel) = self.exchange.try_next()
        {
            self.put(parcel);
        }
        self.frames.next_piece()
    }

    fn put(&mut self, parcel: Parcel) {
        self.tally.note(&parcel);
        let message = message_of(parcel);
        let id = self.replay.note(&message);
        self.frames.put_named(id, &message);
    }

    fn finish(&mut self) {
        self.ended = true;
        self.tally.finish(&self.exchange);
        // What is kept from here on is what was told, and keeps nothing alive.
        self.exchange = Exchange::new();
        self.in_use = None;
    }
}

/// A session's own stream, as far as it has not been told.
struct SessionStream {
    session: Arc<Session>,
    reader: u64,
    frames: Frames,
    _in_use: InUse,
}

/// A session's own stream, until the session ends or another GET takes over; what came after
/// `last` is told first.
pub(super) fn of_session(session: Arc<Session>, last: Option<EventId>) -> Body {
    let reader = session.outbox.take_over();
    let in_use = session.in_use();
    let mut frames = Frames::new(session.account());
    // The first comment goes out at once, so that the client sees the stream open.
    frames.put(KEEP_ALIVE);
    let missed = last.map(|last| session.replay.lock().after(last.place));
    for (id, message) in missed.into_iter().flatten() {
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
        Some((Ok::<_, std::convert::Infallible>(frame), stream))
    }))
}

impl SessionStream {
    async fn next_frame(&mut self) -> Option<Bytes> {
        if let Some(piece) = self.frames.next_piece() {
            return Some(piece);
        }
        let next = self.session.outbox.next_of_stream(self.reader);
        let Ok(parcel) = tokio::time::timeout(QUIET_PERIOD, next).await else {
            return Some(Bytes::from_static(KEEP_ALIVE));
        };
        self.put(parcel?);
        while !self.frames.is_full()
            && let Some(parcel) = self.session.outbox.try_next()
        {
            self.put(parcel);
        }
        self.frames.next_piece()
    }

    fn put(&mut self, parcel: Parcel) {
        let message = message_of(parcel);
        let id = self.session.replay.lock().note(&message);
        self.frames.put_named(id, &message);
    }
}
