//! What the multiplexer tells the runtime to do.

use bytes::Bytes;

use super::discovery::HandshakeError;
use super::level::Level;
use super::numbers::{AskRef, CallId, SessionNo};
use super::server_info::ServerInfo;
use crate::protocol::Flaw;

/// What the runtime must do. Actions are in order; `ToWorker` messages must reach the worker in
/// the order in which the mux produced them.
#[derive(Debug)]
pub enum Action {
    /// Send one line to the worker.
    ToWorker(Bytes),
    /// The call's answer, under the client's id. The call is over and its slot is free.
    Answer {
        /// The call.
        call: CallId,
        /// The response.
        message: Bytes,
        /// Whether the response is a JSON-RPC error.
        is_error: bool,
    },
    /// A notification that belongs to the call: on the stream of its request.
    ToCall(CallId, Bytes),
    /// A message for one session that belongs to no request of it.
    ToSession(SessionNo, Bytes),
    /// A worker's request for the session, on the stream of the call if there is one. If it
    /// cannot be delivered, say so with [`super::Mux::ask_failed`].
    Ask {
        /// The session that is asked.
        session: SessionNo,
        /// The call on whose stream the question goes; else the session's own stream.
        call: Option<CallId>,
        /// Names the question.
        ask: AskRef,
        /// The request, under that name.
        message: Bytes,
    },
    /// A resource has changed: for those who subscribe to it when they are told, as of [`super::Mux::subscribers_of`].
    ToSubscribers {
        /// The resource.
        uri: String,
        /// The notification.
        message: Bytes,
    },
    /// A notification for every session of the worker's pool key.
    Broadcast(Bytes),
    /// The call waits for its client, and keeps as much meanwhile as [`super::Mux::kept`] says.
    Kept(CallId),
    /// The call is over without an answer for anyone: its slot is free.
    Released(CallId),
    /// The worker accepted the session's log level; it must survive the worker.
    LevelSet(SessionNo, Level),
    /// The worker accepted the session's subscription; it must survive the worker.
    Subscribed(SessionNo, String),
    /// The session no longer subscribes to that resource.
    Unsubscribed(SessionNo, String),
    /// The worker asks for roots, as its clients accept.
    RootsWanted,
    /// The worker has answered [`super::Mux::probe`].
    Probed,
    /// The handshake is over.
    HandshakeDone(Result<Box<ServerInfo>, HandshakeError>),
    /// The worker did something out of order; count it.
    Anomaly(Anomaly),
    /// A message of the worker was off in this way.
    Malformed(Malformed),
}

/// A message of a worker that is off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Malformed {
    /// In which way the message is off.
    pub flaw: Flaw,
    /// What became of the message.
    pub outcome: MalformedOutcome,
    /// The line; empty where the line was told with another of its flaws already.
    pub line: Bytes,
}

/// What became of a worker's message that is off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MalformedOutcome {
    /// The message was clear in spite of its flaw, and was taken.
    Taken,
    /// The message answers that call, which is over thereby; somebody may wait for its answer.
    Failed(CallId),
    /// The message answers the handshake, which is over thereby.
    HandshakeFailed,
    /// The message may answer any of several calls. Those calls are over when the worker has shown no
    /// sign of life for them for a while: the runtime says when, with [`super::Mux::suspicion_over`] and this number.
    Suspected(u64),
    /// Nobody waits for it.
    Dropped,
}

/// Ways in which a worker's message can be out of order. None is fatal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Anomaly {
    /// A line that is not JSON-RPC.
    Garbage,
    /// An answer to an id that was never asked.
    UnknownId,
    /// A second answer to a request, or one that came after the runtime had forgotten the request.
    DuplicateAnswer,
    /// Progress for a token that is not, or no longer, in use.
    UnknownToken,
    /// A request or notification that no single session can have caused.
    Unattributable,
}

impl Anomaly {
    /// The anomaly's name in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Garbage => "garbage",
            Self::UnknownId => "unknown_id",
            Self::DuplicateAnswer => "duplicate_answer",
            Self::UnknownToken => "unknown_token",
            Self::Unattributable => "unattributable",
        }
    }
}
