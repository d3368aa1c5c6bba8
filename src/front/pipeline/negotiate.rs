//! What a request says of itself: the revision it speaks, what it sends, and what it takes.

use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

use super::head::Head;
use crate::protocol::{Failure, Reason, Revision};

/// Refuses an unknown revision, which MUST be refused (2025-06-18, basic/transports, "Protocol Version Header"). `agreed`
/// is that of the session that the headers name.
///
/// # Errors
/// [`Reason::UnsupportedVersion`].
pub(in crate::front) fn check_version(
    head: &Head<'_>,
    agreed: impl FnOnce() -> Option<Revision>,
) -> Result<(), Failure> {
    let Some(presented) = head.version else {
        return Ok(());
    };
    let text = presented.to_str().unwrap_or_default().trim();
    match Revision::parse(text) {
        Some(_) => Ok(()),
        None => Err(other_version(text, agreed())),
    }
}

/// The failure of a request whose `MCP-Protocol-Version` is none that can be served there.
pub(in crate::front) fn other_version(sent: &str, agreed: Option<Revision>) -> Failure {
    let why = match agreed {
        Some(agreed) => format!(
            "this session speaks revision {agreed}, as was agreed on in `initialize`, but `MCP-Protocol-Version` says `{sent}` (send `MCP-Protocol-Version: {agreed}` with each request of the session, or open another one)"
        ),
        None => {
            let known = Revision::ALL.map(Revision::as_str).join(", ");
            format!(
                "unsupported protocol version `{sent}` in `MCP-Protocol-Version` (supported: {known})"
            )
        }
    };
    Failure::new(Reason::UnsupportedVersion, why)
}

/// Refuses a client that does not accept what it may be answered with, as it MUST (basic/transports, "Sending Messages").
///
/// # Errors
/// [`Reason::NotAcceptable`].
pub(in crate::front) fn check_accepts(headers: &HeaderMap, needed: &[&str]) -> Result<(), Failure> {
    match headers.get(ACCEPT).map(HeaderValue::as_bytes) {
        None => return Ok(()),
        // What the SDKs send.
        Some(b"application/json, text/event-stream" | b"*/*") => return Ok(()),
        Some(_) => {}
    }
    let ranges = || {
        let values = headers.get_all(ACCEPT).iter();
        let texts = values.filter_map(|value| value.to_str().ok());
        texts.flat_map(|text| text.split(',')).map(|range| {
            let media = range.split(';').next().unwrap_or_default();
            media.trim()
        })
    };
    let is_accepted = |media: &&str| ranges().any(|range| covers(range, media));
    if needed.iter().all(is_accepted) {
        return Ok(());
    }
    let needed = needed.join("` and `");
    Err(Failure::new(
        Reason::NotAcceptable,
        format!("`Accept` must list `{needed}`"),
    ))
}

/// Whether a media range is of that type (RFC 9110, 12.5.1).
fn covers(range: &str, media: &str) -> bool {
    let main_type = media.split('/').next().unwrap_or_default();
    range == "*/*"
        || range.eq_ignore_ascii_case(media)
        || range
            .strip_suffix("/*")
            .is_some_and(|main| main.eq_ignore_ascii_case(main_type))
}

/// Refuses a body that is no JSON as it is.
///
/// # Errors
/// [`Reason::UnsupportedMediaType`].
pub(in crate::front) fn check_content_type(headers: &HeaderMap) -> Result<(), Failure> {
    // RFC 9110, 8.4: whoever decodes it sees another message than whoever does not.
    if let Some(coding) = headers.get(CONTENT_ENCODING)
        && !coding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        let coding = String::from_utf8_lossy(coding.as_bytes());
        return Err(Failure::new(
            Reason::UnsupportedMediaType,
            format!("`Content-Encoding: {coding}` is not understood: send the body as it is"),
        ));
    }
    let value = headers.get(CONTENT_TYPE);
    // What the SDKs send.
    if value.is_some_and(|value| value == "application/json") {
        return Ok(());
    }
    let text = value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media = text.split(';').next().unwrap_or_default().trim();
    if media.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Failure::new(
        Reason::UnsupportedMediaType,
        format!("`Content-Type` must be `application/json`, not `{text}`"),
    ))
}
