//! Answers that need no worker.

use bytes::Bytes;

use crate::gateway::Initialized;
use crate::protocol::{Envelope, Failure, Reason, result_response};
use crate::session::SessionId;

/// The response to `initialize`.
pub(in crate::front) fn initialized(envelope: &Envelope<'_>, opened: &Initialized) -> Bytes {
    let id = envelope.id.map_or("null", |id| id.get());
    result_response(id, &opened.result)
}

/// The name of a session to come.
pub(in crate::front) fn session_id() -> Result<SessionId, Failure> {
    SessionId::random().map_err(|error| {
        let why = format!("no randomness for a session id: {error}");
        Failure::new(Reason::Internal, why)
    })
}

/// `ping` asks whether the other side of the connection is there; that is stdiopool, and no
/// worker needs to be woken for it.
pub(in crate::front) fn answered_here(envelope: &Envelope<'_>) -> Option<Bytes> {
    let id = envelope.id?.get();
    (envelope.method.as_deref() == Some("ping")).then(|| result_response(id, b"{}"))
}
