//! The reply to a POST while a connection tells it: it begins, is handed from one connection to another, and waits for its
//! client where that is gone.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;

use super::parked::{HandOver, Parked, PendingHandOver, Resumption};
use super::post_stream::{PostStream, ReplyBegun};
use crate::bridge::SessionNo;
use crate::front::pipeline::context::RequestContext;
use crate::front::response::body::Body;
use crate::front::response::sse::{KEEP_ALIVE, QUIET_CALL};
use crate::gateway::{Next, ResponseStream};
use crate::session::{EventId, Session};
use crate::telemetry::in_request;

/// How long a stream may take to be handed over by a connection that still holds it before the one that its client is
/// back on says that it waits.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(1);

/// A stream while its client reads it. When the client goes, the stream waits for it.
struct LiveStream {
    stream: Option<Box<PostStream>>,
    no: u64,
    session: SessionNo,
    parked: Arc<Parked>,
    /// Where the stream is asked for when its client comes back on another connection.
    hand_over: Arc<HandOver>,
}

impl LiveStream {
    fn new(stream: Box<PostStream>, session: SessionNo, parked: &Arc<Parked>) -> Self {
        let no = stream.no();
        Self {
            hand_over: parked.live(session, no),
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
                // Errors of the stream are those of the request that began it, whichever one tells them.
                piece = in_request(stream.request(), stream.next_frame()) => return piece,
            }
            // The connection that asked may have gone again: then the stream is told here as before.
            self.stream = self
                .stream
                .take()
                .and_then(|stream| self.hand_over.give(stream));
        }
    }
}

impl Drop for LiveStream {
    fn drop(&mut self) {
        // Another connection may have it, or want it.
        let Some(stream) = self
            .stream
            .take()
            .and_then(|stream| self.hand_over.give(stream))
        else {
            return;
        };
        match stream.is_over_and_holds_much() {
            true => self.parked.forget(self.session, self.no),
            // Also if nobody knows a place to go on from: a broken connection is no cancellation.
            false => self.parked.park(self.session, stream),
        }
    }
}

/// The rest of a POST's reply as a stream: first what has come already, then what comes, with news of what it waits for while it
/// has no worker. When the
/// body is dropped, what is unanswered waits for its client for a while and is cancelled then.
pub(in crate::front) fn of_post(
    response_stream: ResponseStream,
    begun: ReplyBegun,
    context: RequestContext,
    session: &Arc<Session>,
    parked: &Arc<Parked>,
) -> Body {
    let stream = PostStream::new(response_stream, begun, context, session);
    live(stream, session.no, parked)
}

/// A call whose client has not heard anything of it. If the client goes, the call still goes on for a while: a
/// broken connection is no cancellation (2025-11-25, basic/transports, "Sending Messages to the Server").
pub(in crate::front) struct UnansweredCall<'a> {
    call: Option<(ResponseStream, RequestContext)>,
    session: &'a Arc<Session>,
    parked: &'a Arc<Parked>,
}

impl<'a> UnansweredCall<'a> {
    pub(in crate::front) fn new(
        response_stream: ResponseStream,
        context: RequestContext,
        session: &'a Arc<Session>,
        parked: &'a Arc<Parked>,
    ) -> Self {
        let call = Some((response_stream, context));
        Self {
            call,
            session,
            parked,
        }
    }

    /// The first thing that comes of the call, if one does within that time.
    pub(in crate::front) async fn first(&mut self, within: Duration) -> Option<Next> {
        match &mut self.call {
            Some((response_stream, _)) => response_stream.next_within(within).await,
            None => None,
        }
    }

    /// Whether the call is still on its way to a worker.
    pub(in crate::front) fn is_being_sent(&self) -> bool {
        let call = self.call.as_ref();
        call.is_some_and(|(response_stream, _)| response_stream.is_being_sent())
    }

    /// Takes the call out, because its client is about to hear of it.
    pub(in crate::front) fn into_parts(mut self) -> Option<(ResponseStream, RequestContext)> {
        self.call.take()
    }
}

impl Drop for UnansweredCall<'_> {
    fn drop(&mut self) {
        // A request that waits for a worker has reached nobody, and gives its place in the queue back.
        if let Some((response_stream, context)) = self.call.take()
            && response_stream.is_under_way()
        {
            let begun = ReplyBegun::default();
            let stream = PostStream::new(response_stream, begun, context, self.session);
            self.parked.park(self.session.no, stream);
        }
    }
}

/// A stream that broke, from the event after `last` on. `None` if all of it was told.
fn resumed(
    stream: Box<PostStream>,
    last: EventId,
    session: SessionNo,
    parked: &Arc<Parked>,
) -> Option<Body> {
    let stream = stream.from(last)?;
    Some(live(stream, session, parked))
}

fn live(stream: Box<PostStream>, session: SessionNo, parked: &Arc<Parked>) -> Body {
    let state = LiveStream::new(stream, session, parked);
    Body::from_stream(stream::unfold(state, |mut state| async move {
        let piece = state.next_piece().await?;
        Some((Ok::<_, Infallible>(piece), state))
    }))
}

/// A stream that another connection has still, from the event after `last` on.
enum TakeOver {
    Pending(PendingHandOver, EventId),
    Here(LiveStream),
}

impl TakeOver {
    async fn next(self, session: SessionNo, parked: &Arc<Parked>) -> Option<(Bytes, Self)> {
        let mut here = match self {
            Self::Here(here) => here,
            Self::Pending(mut coming, last) => {
                match tokio::time::timeout(QUIET_CALL, coming.next()).await {
                    Ok(stream) => LiveStream::new(stream?.from(last)?, session, parked),
                    Err(_elapsed) => {
                        let piece = Bytes::from_static(KEEP_ALIVE);
                        return Some((piece, Self::Pending(coming, last)));
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
fn claimed(
    coming: PendingHandOver,
    last: EventId,
    session: SessionNo,
    parked: &Arc<Parked>,
) -> Body {
    let state = (TakeOver::Pending(coming, last), Arc::clone(parked));
    Body::from_stream(stream::unfold(state, move |(claimed, parked)| async move {
        let (piece, claimed) = claimed.next(session, &parked).await?;
        Some((Ok::<_, Infallible>(piece), (claimed, parked)))
    }))
}

/// What a client has not heard of the stream of a call, and what comes; `None` if that is over.
///
/// # Cancel-Safety
/// A dropped call lets the stream wait for the next that asks for it.
pub(in crate::front) async fn again(
    parked: &Arc<Parked>,
    session: SessionNo,
    last: EventId,
) -> Option<Body> {
    match parked.take(session, last.stream) {
        Resumption::Nothing => None,
        Resumption::Stream(stream) => resumed(stream, last, session, parked),
        Resumption::Pending(mut coming) => {
            let given = tokio::time::timeout(HANDED_OVER_WITHIN, coming.next()).await;
            match given {
                Ok(stream) => resumed(stream?, last, session, parked),
                Err(_elapsed) => Some(claimed(coming, last, session, parked)),
            }
        }
    }
}
