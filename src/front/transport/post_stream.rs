//! The reply to a POST as a stream of events, whichever connection tells it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::wait_progress::WaitProgress;
use crate::front::pipeline::context::RequestContext;
use crate::front::response::errors;
use crate::front::response::sse::{Frames, KEEP_ALIVE, QUIET_CALL, message_of};
use crate::gateway::{Next, ResponseStream};
use crate::held::Account;
use crate::session::{EventId, InUse, Replay, Session};
use crate::telemetry::RequestSpan;
use crate::upstream::OutboundMessage;

/// A stream that is over waits for its client while the tenant holds less than this part of what it may.
const PARKED_PART: u64 = 4;

/// The reply to a POST, as far as it has not been told.
pub(in crate::front) struct PostStream {
    response_stream: ResponseStream,
    /// What came before the decision for a stream.
    backlog: VecDeque<OutboundMessage>,
    /// What is told of the call while it has no worker.
    news: Option<WaitProgress>,
    /// What is told again.
    again: Vec<(EventId, Bytes)>,
    /// What is about to be written.
    frames: Frames,
    context: RequestContext,
    in_use: Option<InUse>,
    no: u64,
    replay: Replay,
    ended: bool,
    /// Whether the client is told where the stream begins, so that it can come back whatever it has heard.
    is_primed: bool,
    /// Whether something is due at once, even where there is nothing to tell.
    is_new: bool,
    /// Whether the client has been told a place to come back to.
    can_be_resumed: bool,
}

impl fmt::Debug for PostStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostStream")
            .field("no", &self.no)
            .finish_non_exhaustive()
    }
}

/// What a reply begins with when it becomes a stream.
#[derive(Default)]
pub(in crate::front) struct ReplyBegun {
    /// Messages of the reply that have come already.
    pub(in crate::front) backlog: VecDeque<OutboundMessage>,
    /// What is told of the call while it has no worker.
    pub(in crate::front) news: Option<WaitProgress>,
}

impl PostStream {
    /// The stream's number in its session.
    pub(in crate::front) fn no(&self) -> u64 {
        self.no
    }

    /// The stream of a call's reply.
    pub(super) fn new(
        response_stream: ResponseStream,
        begun: ReplyBegun,
        context: RequestContext,
        session: &Arc<Session>,
    ) -> Box<Self> {
        let no = session.next_stream();
        Box::new(Self {
            response_stream,
            backlog: begun.backlog,
            news: begun.news,
            again: Vec::new(),
            frames: Frames::new(session.account()),
            context,
            in_use: Some(session.in_use()),
            no,
            replay: Replay::new(no, session.account()),
            ended: false,
            is_primed: session.revision().has_first_events(),
            is_new: true,
            can_be_resumed: false,
        })
    }

    /// Whether the stream's client knows a place to come back to. Else the stream goes on, and nobody will hear of it.
    pub(in crate::front) fn can_be_resumed(&self) -> bool {
        self.can_be_resumed
    }

    /// The account that the stream is charged to.
    pub(in crate::front) fn account(&self) -> &Account {
        self.frames.account()
    }

    /// Bytes that are kept for its client while it is gone.
    pub(in crate::front) fn kept_bytes(&self) -> usize {
        let backlog = self.backlog.iter().map(|outbound| match outbound {
            OutboundMessage::Message(message) | OutboundMessage::Answer { message, .. } => {
                message.len()
            }
            OutboundMessage::Failed { .. } => 0,
        });
        let again = self.again.iter().map(|(_, message)| message.len());
        let told = self.replay.kept_bytes();
        told + self.response_stream.kept_bytes() + backlog.chain(again).sum::<usize>()
    }

    /// Lets go of what is kept for its client, and of what comes until it is dropped. Takes no lock but that of the stream's
    /// own outbox.
    pub(in crate::front) fn discard(&mut self) {
        self.backlog.clear();
        self.again.clear();
        self.frames.clear();
        self.replay.forget();
        self.response_stream.discard();
    }

    /// The stream from the event after `last` on. `None` if all of it was told.
    pub(super) fn from(mut self: Box<Self>, last: EventId) -> Option<Box<Self>> {
        // The replay has what was about to be written on the broken connection.
        self.frames.clear();
        self.again = self.replay.after(last);
        // The client knows where it is.
        self.is_new = false;
        (!self.ended || !self.again.is_empty()).then_some(self)
    }

    /// Whether the stream is over, and its tenant has so little room left that it is better forgotten.
    pub(super) fn is_over_and_holds_much(&self) -> bool {
        let account = self.account();
        self.ended && account.held() > account.limit() / PARKED_PART
    }

    /// The request that began it: its errors are those of that one, whichever tells them.
    pub(super) fn request(&self) -> Option<Arc<RequestSpan>> {
        self.context.request()
    }

    /// What is written next; `None` at the end.
    ///
    /// # Cancel-Safety
    /// A dropped call loses nothing.
    pub(super) async fn next_frame(&mut self) -> Option<Bytes> {
        if let Some(piece) = self.frames.next_piece() {
            return Some(piece);
        }
        let is_new = std::mem::take(&mut self.is_new);
        if is_new && self.is_primed {
            // Where the client is, which is where it may come back to.
            self.frames.put_position(self.replay.last());
            self.can_be_resumed = true;
        }
        for (id, message) in self.again.drain(..) {
            self.frames.put_named(id, &message);
        }
        if is_new
            && self.backlog.is_empty()
            && let Some(news) = self.news()
        {
            self.put(news);
        }
        // Events that are there already go with it.
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
        while let Some(outbound) = self.backlog.pop_front() {
            self.put(outbound);
        }
        if self.frames.is_empty() {
            match self.response_stream.next_within(QUIET_CALL).await {
                None => return Some(self.meanwhile()),
                Some(Next::OutboundMessage(outbound)) => self.put(outbound),
                Some(Next::Done) => {
                    self.finish();
                    return None;
                }
                Some(Next::TimedOut { limit, unanswered }) => {
                    let failure = limit.failure();
                    for id in unanswered {
                        self.context.failed(failure.reason);
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
            && let Some(outbound) = self.response_stream.try_next()
        {
            self.put(outbound);
        }
        self.frames.next_piece()
    }

    /// A message to its client on what the call waits for.
    fn news(&self) -> Option<OutboundMessage> {
        let is_being_sent = self.response_stream.is_being_sent();
        let news = self.news.as_ref().filter(|_| is_being_sent)?.next()?;
        Some(OutboundMessage::Message(news))
    }

    /// What is written when there is nothing to tell: what it waits for, or that it is not over.
    fn meanwhile(&mut self) -> Bytes {
        if let Some(news) = self.news() {
            self.put(news);
        }
        let piece = self.frames.next_piece();
        piece.unwrap_or(Bytes::from_static(KEEP_ALIVE))
    }

    fn put(&mut self, outbound: OutboundMessage) {
        self.context.note(&outbound);
        let message = message_of(outbound);
        let id = self.replay.note(&message);
        self.frames.put_named(id, &message);
        self.can_be_resumed = true;
    }

    fn finish(&mut self) {
        self.ended = true;
        self.context.finish(&self.response_stream);
        // From here on only told events are kept, and they keep nothing alive.
        self.response_stream = ResponseStream::new();
        self.in_use = None;
    }
}
