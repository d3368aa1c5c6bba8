//! Batches of messages, which the revision 2025-03-26 has.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use http::{Response, StatusCode};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::live_stream;
use super::local::answered_here;
use super::post_stream::ReplyBegun;
use crate::front::pipeline::context::RequestContext;
use crate::front::pipeline::inbound::Inbound;
use crate::front::pipeline::parse::unreadable;
use crate::front::response::body::Body;
use crate::front::response::reply;
use crate::front::response::sse::{FIRST_WORDS, message_of};
use crate::gateway::{Next, ResponseStream};
use crate::held;
use crate::protocol::{Envelope, EnvelopeError, Failure, Kind, Reason};
use crate::session::Session;
use crate::tenancy::ClientConfig;
use crate::upstream::OutboundMessage;

/// Most messages in one batch.
const MAX_BATCH: usize = 64;

/// One message of a batch.
struct BatchItem<'a> {
    message: &'a [u8],
    envelope: Envelope<'a>,
    /// What the request sets for its server, if that is not what its session does; or what is wrong with that.
    config: Result<Option<Arc<ClientConfig>>, Failure>,
}

/// Serves several messages at once, in the one revision that has them (2025-03-26, basic/transports).
pub(in crate::front) async fn serve(inbound: &Inbound<'_>) -> Response<Body> {
    if let Err(failure) = inbound.check_version() {
        return inbound.refuse(&failure, None);
    }
    let items: Vec<&RawValue> = match serde_json::from_slice(&inbound.body) {
        Ok(items) => items,
        Err(error) => {
            return inbound.refuse(&unreadable(&EnvelopeError::Syntax(error)), None);
        }
    };
    let session = match inbound.session() {
        Ok(session) => session,
        Err(failure) => return inbound.refuse(&failure, None),
    };
    let refuse = |why: String| inbound.refuse(&Failure::new(Reason::InvalidRequest, why), None);
    if !session.revision().has_batches() {
        let revision = session.revision();
        return refuse(format!(
            "revision {revision} has no batches; send one message per POST"
        ));
    }
    if items.is_empty() || items.len() > MAX_BATCH {
        return refuse(format!(
            "a batch holds 1 to {MAX_BATCH} messages, not {}",
            items.len()
        ));
    }
    let mut plain = Vec::with_capacity(items.len());
    for item in items {
        let own = item.get().as_bytes();
        let envelope = match Envelope::parse(own) {
            Ok(envelope) => envelope,
            Err(error) => return inbound.refuse(&unreadable(&error), None),
        };
        let is_request = envelope.kind() == Kind::Request;
        match inbound.configured(&envelope) {
            Ok((config, rest)) => {
                let rest = rest.map_or(Cow::Borrowed(own), |rest| Cow::Owned(rest.to_vec()));
                plain.push((rest, Ok(config)));
            }
            Err(failure) if is_request => plain.push((Cow::Borrowed(own), Err(failure))),
            // An item that is no request has no answer that could say so.
            Err(failure) => return inbound.refuse(&failure, None),
        }
    }
    let mut messages = Vec::with_capacity(plain.len());
    for (message, own) in &plain {
        match Envelope::parse(message) {
            Ok(envelope) if envelope.method.as_deref() == Some("initialize") => {
                return refuse("`initialize` must not be part of a batch".to_owned());
            }
            Ok(envelope) => {
                let config = own.clone().map(|own| session.refined(own));
                messages.push(BatchItem {
                    message,
                    envelope,
                    config,
                });
            }
            Err(error) => return inbound.refuse(&unreadable(&error), None),
        }
    }
    send(inbound, &session, messages).await
}

async fn send(
    inbound: &Inbound<'_>,
    session: &Arc<Session>,
    messages: Vec<BatchItem<'_>>,
) -> Response<Body> {
    let _in_use = session.in_use();
    let gateway = &inbound.front.gateway;
    let mut context = inbound.context();
    let mut response_stream = ResponseStream::new().asked_by(inbound.principal(), session);
    let mut settled = VecDeque::new();
    let mut has_requests = false;
    for item in messages {
        match item.envelope.kind() {
            Kind::Notification => gateway.notification(session, &item.envelope),
            Kind::Response => {
                if let Err(failure) = gateway.answer(session, &item.envelope) {
                    // The answer's id is one of the server's, not of a request of the client.
                    let id = "null".into();
                    settled.push_back(OutboundMessage::Failed { id, failure });
                }
            }
            Kind::Request => {
                has_requests = true;
                context.asks(&item.envelope);
                settled.extend(request(inbound, session, item, &mut response_stream).await);
            }
        }
    }
    if !has_requests && settled.is_empty() {
        return reply::empty(StatusCode::ACCEPTED);
    }
    if is_settled(&mut response_stream, &mut settled).await {
        return array(inbound, settled, context, &response_stream);
    }
    let parked = &inbound.front.parked;
    let begun = ReplyBegun {
        backlog: settled,
        news: None,
    };
    reply::event_stream(live_stream::of_post(
        response_stream,
        begun,
        context,
        session,
        parked,
    ))
}

/// Sends a request of a batch; returns its answer where that needs no worker, or why it was not sent.
async fn request(
    inbound: &Inbound<'_>,
    session: &Arc<Session>,
    item: BatchItem<'_>,
    response_stream: &mut ResponseStream,
) -> Option<OutboundMessage> {
    let BatchItem {
        message,
        envelope,
        config,
    } = item;
    if let Some(message) = answered_here(&envelope) {
        return Some(OutboundMessage::Answer {
            message,
            at: Instant::now(),
            is_error: false,
        });
    }
    let sent = match config {
        Ok(config) => {
            response_stream.set_config(config);
            let gateway = &inbound.front.gateway;
            let sent = gateway.request(session, message, &envelope, response_stream);
            sent.await
        }
        Err(failure) => Err(failure),
    };
    let failure = sent.err()?;
    let id = envelope.id.map_or("null", |id| id.get()).into();
    Some(OutboundMessage::Failed { id, failure })
}

/// Collects the answers of a batch; false once anything else comes, or nothing for as long as first words may take: the rest is
/// told as a stream then.
async fn is_settled(
    response_stream: &mut ResponseStream,
    settled: &mut VecDeque<OutboundMessage>,
) -> bool {
    loop {
        match response_stream.next_within(FIRST_WORDS).await {
            Some(Next::OutboundMessage(outbound)) => {
                let is_answer = !matches!(outbound, OutboundMessage::Message(_));
                settled.push_back(outbound);
                if !is_answer {
                    return false;
                }
            }
            Some(Next::Done) => return true,
            Some(Next::TimedOut { limit, unanswered }) => {
                settled.extend(unanswered.into_iter().map(|id| {
                    let failure = limit.failure();
                    OutboundMessage::Failed { id, failure }
                }));
                return true;
            }
            None => return false,
        }
    }
}

/// A batch's answers as one JSON array.
fn array(
    inbound: &Inbound<'_>,
    settled: VecDeque<OutboundMessage>,
    mut context: RequestContext,
    response_stream: &ResponseStream,
) -> Response<Body> {
    // Copied: they are charged here, and in the outbound messages until those are gone.
    let mut charge = inbound.account.nothing(held::Kind::Answer);
    let mut body = BytesMut::new();
    for outbound in settled {
        context.note(&outbound);
        body.put_u8(if body.is_empty() { b'[' } else { b',' });
        let message = message_of(outbound);
        if let Err(full) = charge.grow(message.len() + 1) {
            let failure = Failure::from(full);
            inbound.front.gateway.metrics().rejected(failure.reason);
            return reply::failure(&failure);
        }
        body.put_slice(&message);
    }
    if body.is_empty() {
        body.put_u8(b'[');
    }
    body.put_u8(b']');
    context.finish(response_stream);
    reply::json(StatusCode::OK, charge.carried_by(body.freeze()))
}
