//! Responses: JSON, failures, and the headers both carry.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode, Version};

use super::body::Body;
use super::errors;
use crate::protocol::{Failure, FailureStatus, HttpRefusal, Reason};

/// Names the session, in both directions.
pub(in crate::front) static SESSION_HEADER: HeaderName = HeaderName::from_static("mcp-session-id");
/// The revision the client speaks, after `initialize`.
pub(in crate::front) static VERSION_HEADER: HeaderName =
    HeaderName::from_static("mcp-protocol-version");

/// A body of one JSON value.
pub(in crate::front) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// A status without a body.
pub(in crate::front) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A failure that answers no request.
pub(in crate::front) fn failure(failure: &Failure) -> Response<Body> {
    with_status(failure, None, failure.reason.http_status())
}

/// A failure of a request of which nothing but the head was looked at.
pub(in crate::front) fn refusal(failure: &Failure, refusal: HttpRefusal) -> Response<Body> {
    with_status(failure, None, refusal.http_status())
}

/// A failure as the answer to the request with that id (raw JSON), if there is one.
pub(in crate::front) fn answer(
    failure: &Failure,
    id: Option<&str>,
    statuses: FailureStatus,
) -> Response<Body> {
    let status = match id {
        Some(_) => failure.reason.status_of_answer(statuses),
        None => failure.reason.http_status(),
    };
    with_status(failure, id, status)
}

fn with_status(failure: &Failure, id: Option<&str>, status: u16) -> Response<Body> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, errors::message(failure, id));
    let headers = response.headers_mut();
    if let Some(seconds) = failure.retry_after_seconds() {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    if let Some(challenge) = challenge(failure) {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

/// The challenge that names what is missing (RFC 6750, 3).
fn challenge(failure: &Failure) -> Option<HeaderValue> {
    match failure.reason {
        Reason::Unauthorized => Some(HeaderValue::from_static("Bearer realm=\"stdiopool\"")),
        Reason::InsufficientScope => {
            let scope = failure.needed_scope.as_deref().unwrap_or_default();
            let text = format!(
                "Bearer realm=\"stdiopool\", error=\"insufficient_scope\", scope=\"{scope}\""
            );
            HeaderValue::from_str(&text).ok()
        }
        _ => None,
    }
}

/// The method is not one of the endpoint's.
pub(in crate::front) fn method_not_allowed(allowed: &'static str) -> Response<Body> {
    let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
    let allowed = HeaderValue::from_static(allowed);
    response.headers_mut().insert(ALLOW, allowed);
    response
}

/// Has the connection end after that answer; over HTTP/2 it says so itself.
pub(in crate::front) fn close_after(answer: &mut Response<Body>, version: Version) {
    if version != Version::HTTP_2 {
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(CONNECTION, close);
    }
}

/// An event stream.
pub(in crate::front) fn event_stream(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-transform"),
    );
    // Tells nginx and its kin not to hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
