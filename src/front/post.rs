//! A POST of Streamable HTTP, from its head to the transport that answers it.
//!
//! ```text
//!  accept, content type ─▶ limits ─▶ body ─▶ parse ─▶ client config ─▶ 2026-07-28?  ─▶ transport::stateless
//!                                                                  ├▶ initialize?  ─▶ transport::streamable
//!                                                                  └▶ of a session ─▶ transport::streamable
//! ```
//!
//! The caller and its server were found out before ([`endpoint`](super::endpoint)).

use std::fmt;

use bytes::Bytes;
use http::Response;
use http_body::Body as HttpBody;

use super::pipeline::body::Unread;
use super::pipeline::inbound::Inbound;
use super::pipeline::limits::Counted;
use super::pipeline::negotiate::{check_accepts, check_content_type, other_version};
use super::pipeline::parse::{id_of, note_method, unreadable};
use super::pipeline::receive::receive;
use super::response::body::Body;
use super::response::reply;
use super::transport::{batch, stateless, streamable};
use crate::bridge::stateless::is_stateless;
use crate::fair::LARGE;
use crate::protocol::{Envelope, Failure, Kind, Reason};

/// Serves a POST.
///
/// # Errors
/// Why it is refused, where no request of it waits for an answer by an id.
pub(super) async fn post<B>(
    inbound: &mut Inbound<'_>,
    body: &mut B,
) -> Result<Response<Body>, Failure>
where
    B: HttpBody<Data = Bytes, Error: fmt::Display> + Send + Unpin,
{
    let head = inbound.head;
    check_accepts(head.headers(), &["application/json", "text/event-stream"])?;
    check_content_type(head.headers())?;
    let permit = inbound.admit(Counted::Request);
    let whole = match receive(inbound, body, permit.as_ref().err()).await {
        Ok(whole) => whole,
        Err(unread) => return answer_unread(inbound, unread),
    };
    inbound.body = whole.bytes;
    // A short body is charged as long as it is worked on.
    let _charge = whole.charge;
    let permit = match permit {
        Ok(permit) => permit,
        Err(failure) => return serve_over_limit(inbound, failure).await,
    };
    if inbound.body.len() >= LARGE {
        head.late.offload(inbound.account.flow()).await;
    }
    Ok(permit.kept_by(serve(inbound).await))
}

/// Parses what came, takes from it what is for stdiopool alone, and hands the rest to its transport.
async fn serve(inbound: &mut Inbound<'_>) -> Response<Body> {
    if inbound.body.trim_ascii_start().first() == Some(&b'[') {
        let served = Box::pin(batch::serve(inbound));
        return inbound.in_time(None, served).await;
    }
    let envelope = match Envelope::parse(&inbound.body) {
        Ok(envelope) => envelope,
        Err(error) => {
            let id = id_of(&inbound.body);
            return inbound.refuse(&unreadable(&error), id.as_deref());
        }
    };
    let rest = match inbound.configured(&envelope) {
        Ok((config, rest)) => {
            inbound.config = Ok(config);
            rest
        }
        // The worker might read the message otherwise, or drop it.
        Err(failure) => return inbound.refuse_message(&failure, &envelope),
    };
    // From here on nobody sees what was for stdiopool alone.
    let Some(rest) = rest else {
        return serve_message(inbound, &envelope).await;
    };
    inbound.body = rest;
    match Envelope::parse(&inbound.body) {
        Ok(envelope) => serve_message(inbound, &envelope).await,
        Err(error) => inbound.refuse(&unreadable(&error), None),
    }
}

/// Hands a message to the transport of its revision.
async fn serve_message(inbound: &Inbound<'_>, envelope: &Envelope<'_>) -> Response<Body> {
    let version = inbound.head.version;
    let version = version.and_then(|version| version.to_str().ok());
    let id = envelope.id.map(|id| id.get());
    let opens = envelope.method.as_deref() == Some("initialize") && id.is_some();
    // A client that opens a session cannot know yet what is spoken here: the revision is agreed on in the message.
    let version = version.map(str::trim).filter(|_| !opens);
    if is_stateless(version, envelope) {
        // A request of a session whose header says otherwise is no request of the stateless revision.
        if let Some(sent) = version.filter(|_| !is_stateless(None, envelope))
            && let Ok(session) = inbound.session()
        {
            return inbound.refuse(&other_version(sent, Some(session.revision())), id);
        }
        return Box::pin(stateless::serve(inbound, envelope)).await;
    }
    if opens {
        return Box::pin(streamable::initialize(inbound, envelope)).await;
    }
    let session = match inbound.check_version().and_then(|()| inbound.session()) {
        Ok(session) => session,
        Err(failure) => {
            note_method(envelope);
            return inbound.refuse(&failure, id);
        }
    };
    streamable::serve(inbound, &session, envelope).await
}

/// Answers a message that is over its caller's limits. A request is told so in its answer. A message that needs no answer
/// is served: it asks for nothing, ends what is under way more often than not, and clients take a refusal of it for the
/// end of their session.
///
/// # Errors
/// `failure` where there is no answer that could say so.
async fn serve_over_limit(
    inbound: &mut Inbound<'_>,
    failure: Failure,
) -> Result<Response<Body>, Failure> {
    let envelope = Envelope::parse(&inbound.body).map_err(|_| failure.clone())?;
    match (envelope.kind(), envelope.id) {
        (Kind::Request, Some(_)) => Ok(inbound.refuse_message(&failure, &envelope)),
        (Kind::Notification | Kind::Response, _) => Ok(serve(inbound).await),
        (Kind::Request, None) => Err(failure),
    }
}

/// What whoever sent a body is answered that was not taken: by the id of its request, where that is known, as a status
/// ends the whole session of some clients (docs/clients.md).
///
/// # Errors
/// Why it was not taken, where nobody waits for an answer by an id.
fn answer_unread(inbound: &Inbound<'_>, unread: Unread) -> Result<Response<Body>, Failure> {
    let Unread { failure, id } = unread;
    let id = id.ok_or_else(|| failure.clone())?;
    let mut answer = inbound.refuse(&failure, Some(&id));
    if failure.reason == Reason::Draining {
        reply::close_after(&mut answer, inbound.head.http_version());
    }
    Ok(answer)
}
