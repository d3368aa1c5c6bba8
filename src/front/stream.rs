//! Event streams: the frames of a POST's reply and of a session's own stream.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;

use super::body::Body;
use super::errors;
use super::frames::Frames;
use super::post::Tally;
use super::resume::{Coming, HandOver, Parked};
use crate::bridge::SessionNo;
use crate::held::Account;
use crate::session::{EventId, Exchange, InUse, Next, Parcel, Reader, Replay, Session};
use crate::telemetry::in_request;

/// How long a stream that belongs to no call may say nothing before a comment keeps it alive. Proxies commonly give up
/// after 30 or 60 seconds.
pub(super) const QUIET_PERIOD: Duration = Duration::from_secs(15);
/// How long a POST waits for its result before it turns into a stream, whose first words are sent at once: httpx, which
/// clients in Python use, gives up after 5 seconds without a byte, unless it was told another time.
pub(super) const FIRST_WORDS: Duration = Duration::from_secs(2);
/// How long the stream of a call may say nothing before a comment keeps it alive, for the same clients.
pub(super) const QUIET_CALL: Duration = Duration::from_secs(4);
/// A stream that is over waits for its client while the tenant holds less than this part of what it may.
const PARKED_PART: u64 = 4;
/// A comment, which clients ignore (WHATWG HTML, 9.2.6 "Interpreting an event stream").
pub(super) const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

pub(super) fn message_of(parcel: Parcel) -> Bytes {
    match parcel {
        Parcel::Message(message) | Parcel::Answer { message, .. } => message,
        Parcel::Failed { id, failure } => errors::message(&failure, Some(&id)).into(),
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
    /// Its client is told where the stream begins, so that it can come back whatever it has heard.
    is_primed: bool,
    /// Something is due at once, whether or not there is anything to tell.
    is_new: bool,
    /// Its client has been told a place to come back to.
    can_be_resumed: bool,
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
    /// Its client may come back on another connection.
    hand_over: Arc<HandOver>,
}

impl Attached {
    fn new(stream: Box<PostStream>, session: SessionNo, parked: &Arc<Parked>) -> Self {
        let no = stream.no();
        Self {
            hand_over: parked.told(session, no),
            stream: Some(stream),
            no,
            session,
            parked: Arc::clone(parked),
        }
    }

    async fn next_piece(&mut self) -> Option<Bytes> {
        loop {
            let stream = self.stream.as_mut()?;
            tokio::select! {
                biased;
                // Dropping what is told next loses nothing.
                () = self.hand_over.asked() => {}
                // Its errors are those of the request that began it, whichever one tells them.
                piece = in_request(stream.tally.request(), stream.next_frame()) => return piece,
            }
            // Who asked may have gone again: then it is told here as before.
            self.stream = self
                .stream
                .take()
                .and_then(|stream| self.hand_over.give(stream));
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // Another connection may have it, or want it.
        let Some(stream) = self
            .stream
            .take()
            .and_then(|stream| self.hand_over.give(stream))
        else {
            return;
        };
        match stream.is_over_and_in_the_way() {
            true => self.parked.forget(self.session, self.no),
            // Also if nobody knows a place to go on from: a broken connection is no cancellation.
            false => self.parked.park(self.session, stream),
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
    let stream = PostStream::new(exchange, backlog, tally, session);
    attached(stream, session.no, parked)
}

/// A call whose client has not heard anything of it. If the client goes, the call goes on for a while all the same: a
/// broken connection is no cancellation (2025-11-25, basic/transports, "Sending Messages to the Server").
pub(super) struct Unheard<'a> {
    call: Option<(Exchange, Tally)>,
    session: &'a Arc<Session>,
    parked: &'a Arc<Parked>,
}

impl<'a> Unheard<'a> {
    pub(super) fn new(
        exchange: Exchange,
        tally: Tally,
        session: &'a Arc<Session>,
        parked: &'a Arc<Parked>,
    ) -> Self {
        let call = Some((exchange, tally));
        Self {
            call,
            session,
            parked,
        }
    }

    /// What comes first, if it does within that time.
    pub(super) async fn first(&mut self, within: Duration) -> Option<Next> {
        match &mut self.call {
            Some((exchange, _)) => exchange.next_within(within).await,
            None => None,
        }
    }

    /// Whether it is still on its way to a worker.
    pub(super) fn is_being_sent(&self) -> bool {
        let call = self.call.as_ref();
        call.is_some_and(|(exchange, _)| exchange.is_being_sent())
    }

    /// Its client is about to hear of it.
    pub(super) fn into_parts(mut self) -> Option<(Exchange, Tally)> {
        self.call.take()
    }
}

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        // What waits for a worker has reached nobody, and gives its place back.
        if let Some((exchange, tally)) = self.call.take()
            && exchange.is_under_way()
        {
            let stream = PostStream::new(exchange, VecDeque::new(), tally, self.session);
            self.parked.park(self.session.no, stream);
        }
    }
}

/// A stream that broke, from the event after `last` on. `None` if all of it was told.
pub(super) fn resumed(
    stream: Box<PostStream>,
    last: EventId,
    session: SessionNo,
    parked: &Arc<Parked>,
) -> Option<Body> {
    let stream = stream.from(last)?;
    Some(attached(stream, session, parked))
}

fn attached(stream: Box<PostStream>, session: SessionNo, parked: &Arc<Parked>) -> Body {
    let state = Attached::new(stream, session, parked);
    Body::from_stream(stream::unfold(state, |mut state| async move {
        let piece = state.next_piece().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), state))
    }))
}

/// A stream that another connection has still, from the event after `last` on.
enum Claimed {
    Coming(Coming, EventId),
    Here(Attached),
}

impl Claimed {
    async fn next(self, session: SessionNo, parked: &Arc<Parked>) -> Option<(Bytes, Self)> {
        let mut here = match self {
            Self::Here(here) => here,
            Self::Coming(mut coming, last) => {
                match tokio::time::timeout(QUIET_CALL, coming.next()).await {
                    Ok(stream) => Attached::new(stream?.from(last)?, session, parked),
                    Err(_elapsed) => {
                        let piece = Bytes::from_static(KEEP_ALIVE);
                        return Some((piece, Self::Coming(coming, last)));
                    }
                }
            }
        };
        let piece = here.next_piece().await?;
        Some((piece, Self::Here(here)))
    }
}

/// A stream whose client has come back before the connection that tells it can give it away: it writes to a peer that
/// takes nothing.
pub(super) fn claimed(
    coming: Coming,
    last: EventId,
    session: SessionNo,
    parked: &Arc<Parked>,
) -> Body {
    let state = (Claimed::Coming(coming, last), Arc::clone(parked));
    Body::from_stream(stream::unfold(state, move |(claimed, parked)| async move {
        let (piece, claimed) = claimed.next(session, &parked).await?;
        Some((Ok::<_, std::convert::Infallible>(piece), (claimed, parked)))
    }))
}

impl PostStream {
    /// Its number in its session.
    pub(super) fn no(&self) -> u64 {
        self.no
    }

    fn new(
        exchange: Exchange,
        backlog: VecDeque<Parcel>,
        tally: Tally,
        session: &Arc<Session>,
    ) -> Box<Self> {
        let no = session.next_stream();
        Box::new(Self {
            exchange,
            backlog,
            again: Vec::new(),
            frames: Frames::new(session.account()),
            tally,
            in_use: Some(session.in_use()),
            no,
            replay: Replay::new(no, session.account()),
            ended: false,
            is_primed: session.revision().has_first_events(),
            is_new: true,
            can_be_resumed: false,
        })
    }

    /// Whether its client knows a place to come back to. Else it goes on, and nobody will hear of it.
    pub(super) fn can_be_resumed(&self) -> bool {
        self.can_be_resumed
    }

    /// Whose it is.
    pub(super) fn account(&self) -> &Account {
        self.frames.account()
    }

    /// Bytes that are kept for its client while it is gone.
    pub(super) fn kept_bytes(&self) -> usize {
        let backlog = self.backlog.iter().map(|parcel| match parcel {
            Parcel::Message(message) | Parcel::Answer { message, .. } => message.len(),
            Parcel::Failed { .. } => 0,
        });
        let again = self.again.iter().map(|(_, message)| message.len());
        let told = self.replay.kept_bytes();
        told + self.exchange.kept_bytes() + backlog.chain(again).sum::<usize>()
    }

    /// Lets go of what is kept for its client, and of what comes until it is dropped. It takes no lock but that of its
    /// own mailbox.
    pub(super) fn discard(&mut self) {
        self.backlog.clear();
        self.again.clear();
        self.frames.clear();
        self.replay.forget();
        self.exchange.discard();
    }

    /// The stream from the event after `last` on. `None` if all of it was told.
    fn from(mut self: Box<Self>, last: EventId) -> Option<Box<Self>> {
        // What was about to be written on the broken connection is among it.
        self.frames.clear();
        self.again = self.replay.after(last);
        // Its client knows where it is.
        self.is_new = false;
        (!self.ended || !self.again.is_empty()).then_some(self)
    }

    /// Whether its tenant has so little room left that what is over is better forgotten.
    fn is_over_and_in_the_way(&self) -> bool {
        let account = self.account();
        self.ended && account.held() > account.limit() / PARKED_PART
    }

    async fn next_frame(&mut self) -> Option<Bytes> {
        if let Some(piece) = self.frames.next_piece() {
            return Some(piece);
        }
        let is_new = std::mem::take(&mut self.is_new);
        if is_new && self.is_primed {
            // Where the client is, which is where it may come back to.
            self.frames.put_place(self.replay.last());
            self.can_be_resumed = true;
        }
        for (id, message) in self.again.drain(..) {
            self.frames.put_named(id, &message);
        }
        // What is there already goes with it.
        if self.backlog.is_empty()
            && let Some(piece) = self.frames.next_piece()
        {
            return Some(piece);
        }
        if self.ended {
            return None;
        }
        if is_new && self.backlog.is_empty() {
            return Some(Bytes::from_static(KEEP_ALIVE));
        }
        while let Some(parcel) = self.backlog.pop_front() {
            self.put(parcel);
        }
        if self.frames.is_empty() {
            match self.exchange.next_within(QUIET_CALL).await {
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
                        let response = Bytes::from(errors::message(&failure, Some(&id)));
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
        self.can_be_resumed = true;
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
    reader: Reader,
    frames: Frames,
    _in_use: InUse,
}

/// A session's own stream, until the session ends, beside others of it; what came after `last` is told first.
pub(super) fn of_session(session: Arc<Session>, last: Option<EventId>) -> Body {
    let broken = last.and_then(|last| session.replay.lock().told_on(last));
    let reader = session.outbox.read(broken);
    let in_use = session.in_use();
    let mut frames = Frames::new(session.account());
    let missed = last.map(|last| session.replay.lock().after(last));
    let missed = missed.unwrap_or_default();
    // Something goes out at once, so that the client sees the stream open.
    if missed.is_empty() && session.revision().has_first_events() {
        let place = session.replay.lock().last_on(reader.stream());
        frames.put_place(place);
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
        Some((Ok::<_, std::convert::Infallible>(frame), stream))
    }))
}

impl SessionStream {
    async fn next_frame(&mut self) -> Option<Bytes> {
        if let Some(piece) = self.frames.next_piece() {
            return Some(piece);
        }
        let next = tokio::time::timeout(QUIET_PERIOD, self.reader.next());
        let Ok(parcel) = next.await else {
            return Some(Bytes::from_static(KEEP_ALIVE));
        };
        self.put(parcel?);
        while !self.frames.is_full()
            && let Some(parcel) = self.reader.try_next()
        {
            self.put(parcel);
        }
        self.frames.next_piece()
    }

    fn put(&mut self, parcel: Parcel) {
        let message = message_of(parcel);
        let mut replay = self.session.replay.lock();
        let id = replay.note_on(self.reader.stream(), &message);
        drop(replay);
        self.frames.put_named(id, &message);
    }
}
