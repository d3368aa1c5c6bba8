//! A request of a client, and what becomes of it.

use bytes::Bytes;

use super::numbers::{CallId, SessionNo};
use crate::protocol::Envelope;

/// A request of a client. Of its text nothing goes on but the members of its envelope.
#[derive(Clone, Copy, Debug)]
pub struct ClientRequest<'a> {
    /// The session that asks.
    pub session: SessionNo,
    /// The request's members; it must have an id and a method.
    pub envelope: &'a Envelope<'a>,
}

/// The outcome of a client's request.
#[derive(Debug)]
pub enum RequestOutcome {
    /// The request goes to the worker; the answer comes as [`super::Action::Answer`] or [`super::Action::Released`].
    Sent(CallId, Bytes),
    /// The request needs no worker; this is the answer.
    Local(Bytes),
    /// The request asks for what there is not; its answer is an error.
    Refused {
        /// The JSON-RPC code.
        code: i32,
        /// The reason, for people.
        why: String,
    },
}
