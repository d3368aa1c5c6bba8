//! Requests whose meaning would be guessed, and what counts requests under way.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::activity::Activity;
use super::streams::Progress;
use crate::front::body::Body;
use crate::front::reply::{SESSION_HEADER, VERSION_HEADER};
use crate::protocol::{Failure, Reason};

/// Headers that may be there once: of two, whoever is in front may have gone by the other.
static ONCE: [HeaderName; 10] = [
    HOST,
    AUTHORIZATION,
    ORIGIN,
    CONTENT_TYPE,
    CONTENT_LENGTH,
    HeaderName::from_static("mcp-session-id"),
    HeaderName::from_static("mcp-method"),
    HeaderName::from_static("mcp-name"),
    HeaderName::from_static("mcp-client-config"),
    HeaderName::from_static("last-event-id"),
];

/// Refuses a request that can be read in two ways, and puts its authority into `Host`, wherever it came from, so
/// that whoever looks there finds it over HTTP/2 too.
///
/// # Errors
/// [`Reason::InvalidRequest`], with what is there twice, missing, or at odds.
pub(in crate::front) fn unambiguous(parts: &mut Parts) -> Result<(), Failure> {
    let headers = &parts.headers;
    // More values than names: some header is there twice.
    if headers.len() != headers.keys_len() {
        for name in &ONCE {
            if has_more(headers, name) {
                return Err(refused(format!("the header `{name}` is there twice")));
            }
        }
        let mut versions = headers.get_all(&VERSION_HEADER).iter();
        let first = versions.next();
        if versions.any(|other| Some(other) != first) {
            let why =
                format!("the header `{VERSION_HEADER}` is there twice, with different values");
            return Err(refused(why));
        }
    }
    debug_assert!(ONCE.contains(&SESSION_HEADER));
    let Some(authority) = parts.uri.authority() else {
        // HTTP/1.0 had no such header.
        if headers.contains_key(HOST) || parts.version == Version::HTTP_10 {
            return Ok(());
        }
        return Err(refused("the header `Host` is missing".to_owned()));
    };
    let authority = authority.as_str();
    match headers.get(HOST) {
        Some(host) if !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) => {
            let why =
                format!("the header `Host` and the request's own `{authority}` are not the same");
            Err(refused(why))
        }
        Some(_) => Ok(()),
        None if parts.version == Version::HTTP_11 => {
            Err(refused("the header `Host` is missing".to_owned()))
        }
        None => {
            let host = HeaderValue::from_str(authority);
            let host = host.map_err(|_| refused("the request's host is no host".to_owned()))?;
            parts.headers.insert(HOST, host);
            Ok(())
        }
    }
}

fn has_more(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get_all(name).iter().nth(1).is_some()
}

fn refused(why: String) -> Failure {
    Failure::new(Reason::InvalidRequest, why)
}

/// A request under way, from its head until its answer was handed over whole or is not wanted any more.
#[derive(Debug)]
struct UnderWay(Arc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}

/// A request that its connection serves, and its answer.
#[derive(Debug)]
pub(in crate::front) struct Served {
    body: Body,
    /// Over HTTP/2.
    progress: Option<Arc<Progress>>,
    _under_way: UnderWay,
}

impl Served {
    /// Notes that a request has begun, over that version; whether its length is said in two ways.
    pub(in crate::front) fn begin(activity: &Arc<Activity>, version: Version) -> (Self, bool) {
        let number = activity.request_begins();
        let progress = (version == Version::HTTP_2).then(|| {
            let progress = Arc::new(Progress::new(Arc::clone(activity)));
            activity.answer_begins(Arc::clone(&progress));
            progress
        });
        let served = Self {
            body: Body::empty(),
            progress,
            _under_way: UnderWay(Arc::clone(activity)),
        };
        (served, activity.is_ambiguous(number))
    }

    /// Its answer.
    pub(in crate::front) fn with(mut self, body: Body) -> Self {
        self.body = body;
        self
    }
}

impl HttpBody for Served {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(progress) = &self.progress {
            progress.gave(frame.is_ready());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(version: Version, uri: &str, headers: &[(&str, &str)]) -> Result<Parts, Failure> {
        let mut request = http::Request::builder().version(version).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).expect("a request").into_parts();
        unambiguous(&mut parts).map(|()| parts)
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        use Version as V;
        let host = ("host", "a:1");
        for (version, uri, headers, is_clear) in [
            (V::HTTP_11, "/", vec![host], true),
            (V::HTTP_11, "/", vec![], false),
            (V::HTTP_10, "/", vec![], true),
            (V::HTTP_11, "/", vec![host, host], false),
            (V::HTTP_11, "http://a:1/", vec![host], true),
            (V::HTTP_11, "http://b/", vec![host], false),
            (V::HTTP_11, "http://a:1/", vec![], false),
            (V::HTTP_2, "http://a:1/", vec![], true),
            (V::HTTP_2, "http://a:1/", vec![("host", "A:1")], true),
            (V::HTTP_2, "http://a:1/", vec![("host", "b")], false),
            (V::HTTP_2, "/", vec![], false),
            (V::HTTP_2, "/", vec![host], true),
            (
                V::HTTP_11,
                "/",
                vec![host, ("origin", "x"), ("origin", "x")],
                false,
            ),
            (
                V::HTTP_11,
                "/",
                vec![host, ("authorization", "x"), ("authorization", "y")],
                false,
            ),
            (
                V::HTTP_11,
                "/",
                vec![host, ("mcp-session-id", "x"), ("mcp-session-id", "x")],
                false,
            ),
            (
                V::HTTP_11,
                "/",
                vec![
                    host,
                    ("mcp-protocol-version", "x"),
                    ("mcp-protocol-version", "x"),
                ],
                true,
            ),
            (
                V::HTTP_11,
                "/",
                vec![
                    host,
                    ("mcp-protocol-version", "x"),
                    ("mcp-protocol-version", "y"),
                ],
                false,
            ),
            (
                V::HTTP_11,
                "/",
                vec![host, ("content-type", "x"), ("content-type", "x")],
                false,
            ),
            (
                V::HTTP_11,
                "/",
                vec![host, ("accept", "x"), ("accept", "y")],
                true,
            ),
        ] {
            let checked = checked(version, uri, &headers);
            assert_eq!(checked.is_ok(), is_clear, "{version:?} {uri} {headers:?}");
        }
    }

    #[test]
    fn the_authority_of_http_2_is_found_in_the_host() {
        let parts = checked(Version::HTTP_2, "http://mcp.example.com:8080/x", &[]);
        assert_eq!(parts.expect("clear").headers[HOST], "mcp.example.com:8080");
    }
}
