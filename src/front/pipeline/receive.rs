//! The body of a request to an MCP endpoint: how long it may be, how fast it may come, and how one that is not taken is
//! answered.

use std::fmt;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http_body::Body as HttpBody;

use super::authenticate::AuthGate;
use super::body::{RAISE_MAX_BODY, Unread, read_body};
use super::body_buffer::Whole;
use super::inbound::Inbound;
use super::pacing::BodyLimits;
use crate::protocol::{Failure, FailureStatus};

/// Reads the body. Of a message that is `over` its caller's limits so much is read that its answer can say so.
///
/// # Errors
/// As [`read_body`]; `over` where that is told by a status.
///
/// # Cancel-Safety
/// As [`read_body`].
pub(in crate::front) async fn receive<B>(
    inbound: &Inbound<'_>,
    body: B,
    over: Option<&Failure>,
) -> Result<Whole, Unread>
where
    B: HttpBody<Data = Bytes, Error: fmt::Display> + Unpin,
{
    let (front, head) = (inbound.front, inbound.head);
    let max = over.map(|failure| over_limit(inbound, failure));
    let limits = BodyLimits {
        max: max.transpose()?.unwrap_or(front.max_body),
        remedy: RAISE_MAX_BODY,
        rate: &|| front.body_rate(inbound.principal()),
        connection: AuthGate::of(head.parts, head.peer).connection(),
        drain: &front.draining,
    };
    read_body(head.headers(), body, limits, &inbound.account).await
}

/// How long the body may be of a message over its caller's limits, which is read so that its answer can say so.
///
/// # Errors
/// `failure` where that is told by a status.
fn over_limit(inbound: &Inbound<'_>, failure: &Failure) -> Result<usize, Failure> {
    /// A call of a tool is shorter, nearly always.
    const MAX: usize = 64 << 10;
    let length = inbound.head.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|it| it.to_str().ok());
    let length = length.and_then(|length| length.parse::<usize>().ok());
    let is_short = length.is_some_and(|length| length <= MAX.min(inbound.front.max_body));
    match inbound.statuses() {
        FailureStatus::Auto if is_short => Ok(MAX),
        FailureStatus::Auto | FailureStatus::Http => Err(failure.clone()),
    }
}
