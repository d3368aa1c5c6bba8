//! Requests whose meaning would be guessed, and what counts requests under way.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::activity::Activity;
use super::charges::{ConnectionCharge, RequestCharge};
use super::connection_slots::ConnectionSlot;
use super::framing::FramingError;
use super::progress::Progress;
use crate::front::response::body::Body;
use crate::front::response::reply::{SESSION_HEADER, VERSION_HEADER};
use crate::protocol::{Failure, HttpRefusal, Reason};

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

/// A request that is refused before anything else of it is looked at.
#[derive(Debug)]
pub(in crate::front) struct Unclear {
    pub(in crate::front) refusal: HttpRefusal,
    pub(in crate::front) failure: Failure,
}

impl Unclear {
    fn new(refusal: HttpRefusal, why: impl Into<String>) -> Self {
        Self {
            refusal,
            failure: Failure::new(Reason::InvalidRequest, why),
        }
    }
}

impl From<FramingError> for Unclear {
    fn from(error: FramingError) -> Self {
        match error {
            FramingError::TwoLengths => refused(
                "the length of the body is said more than once (`Content-Length`, `Transfer-Encoding`)",
            ),
            FramingError::CodingUnclear => refused(
                "`Transfer-Encoding` says more than `chunked` once (send `Transfer-Encoding: chunked`, or `Content-Length`)",
            ),
            FramingError::TooLong => refused(
                "a header or a chunk that says the length of a body is longer than needed (96 bytes)",
            ),
            FramingError::BareLineFeed => refused(
                "a line before the body ends with a line feed alone (each ends with CR and LF)",
            ),
            FramingError::BareLineFeedInBody => refused(
                "a line with the size of a chunk, or one after the last chunk, ends with a line feed alone (each ends with CR and LF)",
            ),
            FramingError::CodingUnknown => Self::new(
                HttpRefusal::Coding,
                "`Transfer-Encoding` names a coding that is not understood (send the body as it is, with `Transfer-Encoding: chunked` or `Content-Length`)",
            ),
        }
    }
}

/// Why the body can be read in two ways that comes over that connection, as far as it has come.
pub(in crate::front) fn framing_error_of_body(activity: &Activity) -> Option<Failure> {
    let error = activity.last_framing_error()?;
    Some(Unclear::from(error).failure)
}

/// Refuses a request that can be read in two ways, and puts its authority into `Host`, wherever it came from, so
/// that whoever looks there finds it over HTTP/2 too.
///
/// # Errors
/// With 400 what is there twice, missing, or at odds; with 417 what is expected that is not understood.
pub(in crate::front) fn unambiguous(parts: &mut Parts) -> Result<(), Unclear> {
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
    expects_what_is_known(headers)?;
    let host = headers.get(HOST);
    if let Some(host) = host.filter(|host| !is_host(host.as_bytes())) {
        let host = String::from_utf8_lossy(host.as_bytes()).into_owned();
        return Err(refused(format!(
            "the header `Host` is no name or address with or without a port: `{host}`"
        )));
    }
    let Some(authority) = parts.uri.authority() else {
        // HTTP/1.0 had no such header; who may leave it out is for the guard to say.
        if host.is_some() || parts.version == Version::HTTP_10 {
            return Ok(());
        }
        return Err(refused("the header `Host` is missing"));
    };
    let authority = authority.as_str();
    if !is_host(authority.as_bytes()) {
        return Err(refused(
            "the host in the request's target is no name or address with or without a port",
        ));
    }
    match host {
        Some(host) if !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) => {
            let why =
                format!("the header `Host` and the request's own `{authority}` are not the same");
            Err(refused(why))
        }
        Some(_) => Ok(()),
        None if parts.version == Version::HTTP_11 => Err(refused("the header `Host` is missing")),
        None => {
            let host = HeaderValue::from_str(authority);
            let host = host.map_err(|_| refused("the request's host is no host"))?;
            parts.headers.insert(HOST, host);
            Ok(())
        }
    }
}

/// RFC 9110, 10.1.1: there is one expectation, and what else stands there was meant for somebody who knows it.
fn expects_what_is_known(headers: &HeaderMap) -> Result<(), Unclear> {
    let mut expected = headers.get_all(EXPECT).iter();
    if expected.all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Ok(());
    }
    Err(Unclear::new(
        HttpRefusal::Expectation,
        "the header `Expect` says something else than `100-continue`",
    ))
}

/// Whether the text is a host with or without a port (RFC 9110, 4.2.1 and 7.2): not empty, nobody's name before an `@`, a port
/// that there is.
fn is_host(text: &[u8]) -> bool {
    // The usual ones, before anything is parsed.
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let port_at = text.iter().rposition(|byte| *byte == b':');
    let (name, port) = match port_at {
        Some(at) if !text.ends_with(b"]") => (&text[..at], &text[at + 1..]),
        _ => (text, &b""[..]),
    };
    let is_port = port.len() <= 5
        && port.iter().all(u8::is_ascii_digit)
        && (port.is_empty()
            || std::str::from_utf8(port).is_ok_and(|port| port.parse::<u16>().is_ok()));
    if !is_port || name.is_empty() {
        return false;
    }
    name.iter().all(is_plain)
        || (!text.contains(&b'@')
            && Authority::try_from(name).is_ok_and(|host| host.host().len() == name.len()))
}

fn has_more(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get_all(name).iter().nth(1).is_some()
}

fn refused(why: impl Into<String>) -> Unclear {
    Unclear::new(HttpRefusal::Ambiguous, why)
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
    held: Option<RequestCharge>,
    _under_way: UnderWay,
}

impl Served {
    /// Notes that a request has begun; why it is refused if its length can be read in two ways.
    pub(in crate::front) fn begin<B>(
        slot: &Arc<ConnectionSlot>,
        request: &Request<B>,
    ) -> (Self, Option<Unclear>) {
        let activity = slot.activity();
        let number = activity.request_begins();
        let held = ConnectionCharge::of_request(slot, request.headers());
        let progress = (request.version() == Version::HTTP_2).then(|| {
            let progress = Arc::new(Progress::new(activity.clock()));
            activity.answer_begins(Arc::clone(&progress));
            progress
        });
        let served = Self {
            body: Body::empty(),
            progress,
            held,
            _under_way: UnderWay(Arc::clone(activity)),
        };
        (served, activity.framing_error(number).map(Unclear::from))
    }

    /// The charge of the request, if it is more than each request may have.
    pub(in crate::front) fn held(&self) -> Option<RequestCharge> {
        self.held.clone()
    }

    /// The request with that answer as its body.
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

    fn checked(version: Version, uri: &str, headers: &[(&str, &str)]) -> Result<Parts, Unclear> {
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
    fn a_host_is_a_name_or_an_address_and_a_port() {
        for host in [
            "localhost",
            "localhost:8080",
            "localhost:",
            "127.0.0.1:65535",
            "[::1]",
            "[::1]:80",
            "mcp_server.internal",
            "a~b!c:1",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            ":80",
            "localhost:65536",
            "localhost:+80",
            "localhost:80:80",
            "localhost:80@evil.example",
            "user@localhost",
            "@localhost",
            "localhost, evil.example",
            "localhost evil.example",
            "localhost/path",
            "[[127.0.0.1]]",
            "[::1",
            "::1",
            "lo\u{e9}",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn only_a_continuation_may_be_expected() {
        for (values, expected) in [
            (vec!["100-Continue"], true),
            (vec!["100-continue", "100-continue"], true),
            (vec!["200-ok"], false),
            (vec!["100-continue", "x"], false),
            (vec!["100-continue, x"], false),
            (vec![""], false),
        ] {
            let mut headers = vec![("host", "a")];
            headers.extend(values.iter().map(|value| ("expect", *value)));
            let checked = checked(Version::HTTP_11, "/", &headers);
            let status = checked
                .map_err(|unclear| unclear.refusal.http_status())
                .map(drop);
            assert_eq!(
                status,
                if expected { Ok(()) } else { Err(417) },
                "{values:?}"
            );
        }
    }

    #[test]
    fn the_authority_of_http_2_is_found_in_the_host() {
        let parts = checked(Version::HTTP_2, "http://mcp.example.com:8080/x", &[]);
        assert_eq!(parts.expect("clear").headers[HOST], "mcp.example.com:8080");
    }
}
