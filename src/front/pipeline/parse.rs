//! The parse of a message: what is wrong with one that cannot be read, and what is noted of one that can.

use crate::protocol::{Envelope, EnvelopeError, Failure, IdScanner, Reason};
use crate::telemetry::RequestSpan;
use crate::telemetry::labels::Method;

/// Has the log say what a request asked for that is refused before anybody counts it.
pub(in crate::front) fn note_method(envelope: &Envelope<'_>) {
    if let Some(method) = envelope.method.as_deref() {
        RequestSpan::with_current(|span| span.asks(Method::of(method)));
    }
}

/// The id of a body that is no message, where it says one (JSON-RPC 2.0, 5: `null` only if there was an error
/// in detecting it).
pub(in crate::front) fn id_of(body: &[u8]) -> Option<String> {
    let mut scanner = IdScanner::new();
    scanner.feed(body);
    let scanned = scanner.finish();
    let id = scanned.only_id()?;
    matches!(id.as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9')).then(|| id.to_owned())
}

/// A request method in a message without `id`.
pub(in crate::front) fn without_id(envelope: &Envelope<'_>) -> Failure {
    let method = envelope.method.as_deref().unwrap_or_default();
    let shown: String = method.chars().take(100).collect();
    let why = format!(
        "`{shown}` is a request, and has no `id`: nothing was done, since nobody could be told of it (JSON-RPC 2.0, 4.1)"
    );
    Failure::new(Reason::InvalidRequest, why)
}

/// The failure of a message that cannot be read.
pub(in crate::front) fn unreadable(error: &EnvelopeError) -> Failure {
    let reason = match error {
        EnvelopeError::Encoding(_) | EnvelopeError::Syntax(_) => Reason::ParseError,
        EnvelopeError::Shape(_) => Reason::InvalidRequest,
    };
    Failure::new(reason, error.to_string())
}
