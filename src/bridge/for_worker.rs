//! What a worker is sent: lines that are written anew from the members of an envelope, and stdiopool's own.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::json;
use smallvec::SmallVec;

use super::action::Action;
use super::numbers::CallId;
use crate::protocol::{self, Envelope, notification, one_line, quoted, request_of_pieces, span_of};

/// The request as the worker gets it, written anew: under the worker-side id, with that in place of the
/// client's progress token, which is a view into the parameters.
pub(super) fn for_worker(envelope: &Envelope<'_>, token: Option<&str>, id: CallId) -> Bytes {
    let mut digits = itoa::Buffer::new();
    let id = digits.format(id.0).as_bytes();
    let method = match &envelope.method {
        // As it stands there, it is JSON.
        Some(Cow::Borrowed(method)) => Cow::Borrowed(*method),
        Some(Cow::Owned(method)) => Cow::Owned(unquoted(quoted(method))),
        None => Cow::Borrowed(""),
    };
    let params = envelope.params.map(|params| params.get());
    let span = params
        .zip(token)
        .map(|(params, token)| span_of(params.as_bytes(), token));
    let mut pieces = SmallVec::<[&[u8]; 3]>::new();
    match (params, span) {
        (Some(params), Some(span)) => {
            let (before, after) = (&params[..span.start], &params[span.end..]);
            pieces.extend([before.as_bytes(), id, after.as_bytes()]);
        }
        (Some(params), None) => pieces.push(params.as_bytes()),
        (None, _) => {}
    }
    let mut line = request_of_pieces(id, method.as_bytes(), &pieces);
    one_line(&mut line);
    line.into()
}

/// Tells the worker that nobody waits for a call.
pub(super) fn cancellation(wire: CallId, reason: &str) -> Action {
    let params = json!({ "requestId": wire.0, "reason": reason });
    Action::ToWorker(notification("notifications/cancelled", params).into())
}

/// A JSON string without its quotes.
fn unquoted(text: String) -> String {
    text[1..text.len() - 1].to_owned()
}

/// A JSON-RPC error under a raw JSON id.
pub(super) fn error_response(id: &str, code: i32, message: &str) -> Bytes {
    let error = json!({ "code": code, "message": Cow::from(message) });
    protocol::error_response(id, &error).into()
}
