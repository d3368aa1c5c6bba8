//! Streamable HTTP of the revisions with sessions, 2025-03-26 to 2025-11-25: a session is opened, and asked.

use std::collections::VecDeque;
use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode};

use super::live_stream::{self, UnansweredCall};
use super::local::{answered_here, initialized, session_id};
use super::post_stream::ReplyBegun;
use super::wait_progress::WaitProgress;
use crate::bridge::ClientInfo;
use crate::front::pipeline::inbound::Inbound;
use crate::front::pipeline::parse::without_id;
use crate::front::response::body::Body;
use crate::front::response::reply::{self, SESSION_HEADER};
use crate::front::response::sse::{FIRST_WORDS, QUIET_CALL};
use crate::gateway::{Next, ResponseStream};
use crate::ids::ServerName;
use crate::protocol::{Envelope, Failure, FailureStatus, Kind, Reason};
use crate::session::Session;
use crate::upstream::OutboundMessage;

/// Opens a session, under a name that its client learns from the headers.
pub(in crate::front) async fn initialize(
    inbound: &Inbound<'_>,
    envelope: &Envelope<'_>,
) -> Response<Body> {
    let id = envelope.id.map(|id| id.get());
    let mut context = inbound.context();
    context.asks(envelope);
    let client = match ClientInfo::parse(envelope.params) {
        Ok(client) => client,
        Err(why) => {
            let failure = Failure::from(why);
            return context.answer(&failure, id);
        }
    };
    let gateway = &inbound.front.gateway;
    let config = inbound.config().cloned().map(Arc::new);
    let (principal, server) = (inbound.principal().clone(), inbound.server.clone());
    let opened = async {
        let id = session_id()?;
        let header = HeaderValue::from_str(id.as_str()).ok();
        let news = WaitProgress::of_opening(gateway, &id, envelope);
        inbound.head.late.tells(move || news.next());
        let opening = gateway.initialize_as(id, principal, server, client, config);
        let opened = inbound.in_time(header.clone(), opening).await?;
        Ok::<_, Failure>((opened, header))
    };
    match opened.await {
        Ok((opened, header)) => {
            context.answered(false);
            let answer = match inbound.hold(initialized(envelope, &opened)) {
                Ok(answer) => answer,
                Err(failure) => {
                    inbound.front.sessions.end(&opened.session);
                    return reply::answer(&failure, id, inbound.statuses());
                }
            };
            let mut response = reply::json(StatusCode::OK, answer);
            if let Some(value) = header {
                response.headers_mut().insert(&SESSION_HEADER, value);
            }
            response
        }
        Err(failure) => context.answer(&failure, id),
    }
}

/// Serves a message of a session.
pub(in crate::front) async fn serve(
    inbound: &Inbound<'_>,
    session: &Arc<Session>,
    envelope: &Envelope<'_>,
) -> Response<Body> {
    match envelope.kind() {
        Kind::Request => request(inbound, session, envelope).await,
        Kind::Notification if envelope.lacks_id() => inbound.refuse(&without_id(envelope), None),
        Kind::Notification => {
            let _in_use = session.in_use();
            inbound.front.gateway.notification(session, envelope);
            reply::empty(StatusCode::ACCEPTED)
        }
        Kind::Response => {
            let _in_use = session.in_use();
            // An answer to a question that was withdrawn, or whose worker is gone, is late,
            // not wrong.
            match inbound.front.gateway.answer(session, envelope) {
                Ok(_) => reply::empty(StatusCode::ACCEPTED),
                Err(failure) => inbound.refuse(&failure, None),
            }
        }
    }
}

async fn request(
    inbound: &Inbound<'_>,
    session: &Arc<Session>,
    envelope: &Envelope<'_>,
) -> Response<Body> {
    let _in_use = session.in_use();
    let id = envelope.id.map(|id| id.get());
    let mut context = inbound.context();
    context.asks(envelope);
    if let Some(answer) = answered_here(envelope) {
        context.answered(false);
        return reply::json(StatusCode::OK, answer);
    }
    let member = member_of(inbound, session, envelope);
    if let Some(server) = &member {
        context.is_of(server);
    }
    let mut response_stream = ResponseStream::new()
        .with_config(session.refined(inbound.config().cloned()))
        .asked_by(inbound.principal(), session);
    let gateway = &inbound.front.gateway;
    if let Err(failure) =
        gateway.begin_request(session, &inbound.body, envelope, &mut response_stream)
    {
        return context.answer(&failure, id);
    }
    let parked = &inbound.front.parked;
    let mut call = UnansweredCall::new(response_stream, context, session, parked);
    let first = first_word(inbound, session, &mut call).await;
    let Some((response_stream, mut context)) = call.into_parts() else {
        let failure = Failure::new(Reason::Internal, "the call has been taken away");
        return reply::answer(&failure, id, inbound.statuses());
    };
    let backlog = match first {
        None => VecDeque::new(),
        Some(Next::OutboundMessage(outbound @ OutboundMessage::Message(_))) => {
            VecDeque::from([outbound])
        }
        Some(Next::OutboundMessage(outbound)) => {
            context.note(&outbound);
            context.finish(&response_stream);
            return whole_answer(inbound, outbound);
        }
        // The client cancelled it: there is nothing to answer
        // (basic/utilities/cancellation), and an empty stream says so.
        Some(Next::Done) => return reply::event_stream(Body::empty()),
        Some(Next::TimedOut { limit, .. }) => return context.answer(&limit.failure(), id),
    };
    let news = response_stream
        .is_being_sent()
        .then(|| WaitProgress::of_request(gateway, session, member, envelope, &response_stream));
    let begun = ReplyBegun { backlog, news };
    reply::event_stream(live_stream::of_post(
        response_stream,
        begun,
        context,
        session,
        parked,
    ))
}

/// The server that a request of a session with all servers is for; `None` if it is for none alone, or of a session with one.
fn member_of(
    inbound: &Inbound<'_>,
    session: &Session,
    envelope: &Envelope<'_>,
) -> Option<ServerName> {
    if !session.is_with_all() {
        return None;
    }
    let view = inbound.front.gateway.aggregate_view();
    let found = view.addressed(inbound.principal(), &inbound.body, envelope)?;
    Some(found.0)
}

/// The first thing that comes of a call and decides how it is answered; `None` if it is to be told on a stream.
async fn first_word(
    inbound: &Inbound<'_>,
    session: &Session,
    call: &mut UnansweredCall<'_>,
) -> Option<Next> {
    let mut first = call.first(FIRST_WORDS).await;
    // With a status it can only be told before anything else is.
    while first.is_none() && call.is_being_sent() && inbound.statuses() == FailureStatus::Http {
        first = call.first(QUIET_CALL).await;
    }
    if first.is_none() && call.is_being_sent() {
        inbound.front.parked.make_room(session.no);
    }
    first
}

/// The response with the answer of a call before which nothing was told.
fn whole_answer(inbound: &Inbound<'_>, outbound: OutboundMessage) -> Response<Body> {
    match outbound {
        OutboundMessage::Answer { message, .. } | OutboundMessage::Message(message) => {
            reply::json(StatusCode::OK, message)
        }
        OutboundMessage::Failed { id, failure } => {
            reply::answer(&failure, Some(&id), inbound.statuses())
        }
    }
}
