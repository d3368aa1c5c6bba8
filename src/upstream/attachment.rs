//! What a connection has to know of a session that calls its worker.

use crate::bridge::aggregate::Alias;
use crate::bridge::{ClientInfo, Level, SessionNo};
use crate::ids::WorkerId;

/// A session, or a caller without one, as the connection sees it to which it is attached.
pub(crate) trait Attachment {
    /// Names it inside the supervisor.
    fn no(&self) -> SessionNo;

    /// Whether the session stands for a caller without sessions.
    fn is_stateless(&self) -> bool;

    /// The introduction of the session's client.
    fn client(&self) -> &ClientInfo;

    /// The names by which the client knows things of its server, if not as the server calls them.
    fn alias(&self) -> Option<&Alias>;

    /// The log level and the subscriptions that a new worker must be told.
    fn settings(&self) -> (Option<Level>, Vec<String>);

    /// Whether the session is over.
    fn has_ended(&self) -> bool;

    /// Notes that it is attached to that worker; false if that is noted already.
    fn attach(&self, worker: WorkerId) -> bool;

    /// Forgets that it is attached to that worker.
    fn detach(&self, worker: WorkerId);
}
