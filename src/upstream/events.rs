//! What a connection tells of that is not its own business: what its worker says to sessions, and what becomes of their calls.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::broadcast::Broadcast;
use crate::bridge::{AskRef, Level, SessionNo};
use crate::ids::WorkerId;
use crate::routing::{StartPlan, ToolList};
use crate::telemetry::labels::Observed;

/// Something that a worker has said or done, for whoever knows its sessions.
#[derive(Debug)]
pub(crate) enum ConnectionEvent<'a> {
    /// A message for a session that belongs to no call.
    ToSession(SessionNo, Bytes),
    /// A question for a session that belongs to no call.
    AskSession(SessionNo, AskRef, Bytes),
    /// A notification for many sessions.
    Broadcast(Broadcast),
    /// The worker goes by that log level for that session.
    LevelSet(SessionNo, Level),
    /// The worker tells that session of changes of that resource from now on.
    Subscribed(SessionNo, String),
    /// The worker does not tell that session of changes of that resource any more.
    Unsubscribed(SessionNo, String),
    /// The worker has asked a client something during a call.
    AskedClient,
    /// The worker has introduced itself: it can serve.
    Introduced,
    /// The worker has answered a client's request for its tools with that page.
    ToolsPage(&'a str),
    /// The whole list of the worker's tools was read.
    ToolsListed(&'a Arc<ToolList>),
    /// The worker, with `sandbox = "observe"`, does what it would be refused with "strict": of which kind, and what, in words.
    Observed(Observed, &'a str),
    /// The worker's process is dead, though some of its tree may not be yet: these sessions were attached to it.
    Exited(Vec<SessionNo>),
}

/// Is told what happens at the connections to workers. Must not block.
pub(crate) trait ConnectionEvents: fmt::Debug + Send + Sync {
    /// Something happened at the connection to that worker, which was started so. No lock of the connection is held.
    fn happened(&self, worker: WorkerId, plan: &Arc<StartPlan>, event: ConnectionEvent<'_>);
}
