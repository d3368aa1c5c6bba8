//! What happens to sessions and rules, for people and programs that watch.

use crate::ids::ServerName;
use crate::session::Session;
use crate::upstream::WorkerEventSink;

/// An event of sessions and rules.
#[derive(Clone, Copy, Debug)]
pub enum GatewayEvent<'a> {
    /// A rule about tools does not do what it says, in words.
    RuleUnmatched(Option<&'a ServerName>, &'a str),
    /// A client has opened a session.
    SessionOpened(&'a Session),
    /// A session is over.
    SessionClosed(&'a Session),
}

/// Is told what happens, to workers too. Must not block.
pub trait EventSink: WorkerEventSink {
    /// Something happened to a session or was found of a rule.
    fn gateway_event(&self, event: GatewayEvent<'_>);
}
