//! One MCP endpoint: who is there, for which server, and what its method asks.

use std::fmt;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body::Body as HttpBody;

use super::pipeline::authenticate::{AuthGate, Caller};
use super::pipeline::discard::take_unread;
use super::pipeline::head::Head;
use super::pipeline::inbound::Inbound;
use super::pipeline::limits::Counted;
use super::pipeline::negotiate::{check_accepts, check_content_type};
use super::pipeline::receive::receive;
use super::pipeline::target::Transport;
use super::post::post;
use super::response::body::Body;
use super::response::reply;
use super::state::Front;
use super::transport::{http_sse, live_stream, session_stream};
use crate::protocol::{Failure, Reason};
use crate::session::EventId;

/// Answers a request to an MCP endpoint.
pub(super) async fn endpoint<B>(front: &Front, head: &Head<'_>, mut body: B) -> Response<Body>
where
    B: HttpBody<Data = Bytes, Error: fmt::Display> + Send + Unpin,
{
    let gate = AuthGate::of(head.parts, head.peer);
    let admitted = gate.admit(front, head.tenant).await;
    let outcome = match &admitted {
        Ok(caller) => serve(front, head, caller, &mut body).await,
        Err(failure) => Err(failure.clone()),
    };
    let version = head.http_version();
    if outcome.is_err() {
        take_unread(version, body).await;
    }
    let closes = matches!(&outcome, Err(failure) if failure.reason == Reason::Draining);
    let mut answer = gate.answer(front, &admitted, outcome);
    if closes {
        reply::close_after(&mut answer, version);
    }
    answer
}

async fn serve<B>(
    front: &Front,
    head: &Head<'_>,
    caller: &Caller,
    body: &mut B,
) -> Result<Response<Body>, Failure>
where
    B: HttpBody<Data = Bytes, Error: fmt::Display> + Send + Unpin,
{
    let mut inbound = Inbound::of(front, head, caller)?;
    let (method, path) = (&head.parts.method, head.parts.uri.path());
    match (Transport::at(path), method) {
        (Transport::SseStream, _) => open_sse(&inbound),
        (Transport::SseMessages, &Method::POST) => take_sse_message(&mut inbound, body).await,
        (Transport::SseMessages, _) => Ok(reply::method_not_allowed("POST")),
        (Transport::StreamableHttp, &Method::POST) => post(&mut inbound, body).await,
        (Transport::StreamableHttp, method) => {
            inbound.check_version()?;
            match *method {
                Method::GET => get(&inbound).await,
                Method::DELETE => delete(&inbound).await,
                _ => Ok(reply::method_not_allowed("GET, POST, DELETE")),
            }
        }
    }
}

/// GET of Streamable HTTP: the session's own stream, or one that broke, from the place that its client knows on.
async fn get(inbound: &Inbound<'_>) -> Result<Response<Body>, Failure> {
    let front = inbound.front;
    check_accepts(inbound.head.headers(), &["text/event-stream"])?;
    let session = inbound.session()?;
    if front.draining.is_cancelled() {
        return Err(Failure::draining());
    }
    let permit = inbound.admit(Counted::Stream)?;
    let last = inbound.head.last_event_id().and_then(EventId::parse);
    let body = match last {
        Some(last) if last.stream != 0 => live_stream::again(&front.parked, session.no, last).await,
        last => Some(session_stream::of_session(session, last)),
    };
    // Clients take 204 as the end of a stream, and do not ask for it again (WHATWG HTML, 9.2.3). An empty
    // stream they take for another that broke.
    let Some(body) = body else {
        return Ok(reply::empty(StatusCode::NO_CONTENT));
    };
    Ok(permit.kept_by(reply::event_stream(body)))
}

/// DELETE: the session ends.
async fn delete(inbound: &Inbound<'_>) -> Result<Response<Body>, Failure> {
    let front = inbound.front;
    let session = inbound.session()?;
    front.sessions.end(&session);
    front.parked.end(session.no);
    front.sessions.written().await;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// GET of HTTP+SSE: the one stream of its client.
fn open_sse(inbound: &Inbound<'_>) -> Result<Response<Body>, Failure> {
    if let Err(failure) = &inbound.config {
        return Err(failure.clone());
    }
    if inbound.head.parts.method != Method::GET {
        return Ok(reply::method_not_allowed("GET"));
    }
    if inbound.front.draining.is_cancelled() {
        return Err(Failure::draining());
    }
    let permit = inbound.admit(Counted::Stream)?;
    let opened = http_sse::open(inbound);
    opened.map(|stream| permit.kept_by(stream))
}

/// POST of HTTP+SSE: one message, which is answered on the stream.
async fn take_sse_message<B>(
    inbound: &mut Inbound<'_>,
    body: &mut B,
) -> Result<Response<Body>, Failure>
where
    B: HttpBody<Data = Bytes, Error: fmt::Display> + Send + Unpin,
{
    check_content_type(inbound.head.headers())?;
    let permit = inbound.admit(Counted::Request);
    let whole = match receive(inbound, body, permit.as_ref().err()).await {
        Ok(whole) => whole,
        Err(unread) => return http_sse::answer_unread(inbound, unread),
    };
    inbound.body = whole.bytes;
    // A short body is charged as long as it is worked on.
    let _charge = whole.charge;
    http_sse::take_in(inbound, permit)
}
