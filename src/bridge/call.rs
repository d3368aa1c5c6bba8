//! What is under way between sessions and one worker: calls, questions, and who has a place at it.

use std::collections::BTreeSet;

use smallvec::SmallVec;

use super::level::Level;
use super::numbers::{CallId, SessionNo};
use super::rounds::{Input, Rounds};
use crate::protocol::RawId;

/// The purpose of a call, where its answer means something to the bridge.
#[derive(Debug)]
pub(super) enum Purpose {
    /// Nothing to note.
    Plain,
    /// `logging/setLevel` of a session.
    SetLevel(Level),
    /// `resources/subscribe` of a session.
    Subscribe(String),
    /// `resources/unsubscribe` of a session.
    Unsubscribe(String),
    /// stdiopool's own handshake.
    Handshake,
    /// stdiopool's own question whether it is there.
    Probe,
    /// Another request of stdiopool itself, whose answer concerns no one.
    Own,
}

#[derive(Debug)]
pub(super) struct Call {
    /// `None` for stdiopool's own requests.
    pub(super) session: Option<SessionNo>,
    /// The client's id as raw JSON.
    pub(super) client_id: RawId,
    /// The client's progress token as raw JSON.
    pub(super) client_token: Option<Box<str>>,
    pub(super) purpose: Purpose,
    /// The caller gave up and the worker was told; an answer is for no one.
    pub(super) cancelled: bool,
    /// Log lines were asked for with it, of a worker of the stateless revision.
    pub(super) wants_logs: bool,
    /// How the call goes, where it may have to be sent several times.
    pub(super) rounds: Option<Box<Rounds>>,
}

#[derive(Debug)]
pub(super) struct OpenQuestion {
    pub(super) session: SessionNo,
    /// The worker's id as raw JSON; empty for an input.
    pub(super) worker_id: Box<str>,
    /// The worker's progress token for it, as raw JSON.
    pub(super) token: Option<Box<str>>,
    /// What the answer is for, if the worker asked for input in a result.
    pub(super) input: Option<Input>,
    /// Whether the question is `roots/list`.
    pub(super) about_roots: bool,
}

#[derive(Debug, Default)]
pub(super) struct AttachedSession {
    /// Calls the worker has not answered yet, cancelled ones included.
    /// Ascending, as they are numbered in their order.
    pub(super) in_flight: SmallVec<[CallId; 2]>,
    /// The level the session asked for.
    pub(super) level: Option<Level>,
    /// URIs it subscribes to.
    pub(super) subscriptions: BTreeSet<String>,
    /// Bytes of those URIs.
    pub(super) subscribed: usize,
    /// How the session's client is introduced with each request, to a worker of the stateless revision.
    pub(super) identity: Option<Box<str>>,
}
