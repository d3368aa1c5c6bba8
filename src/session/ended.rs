//! Why a session has ended, and what the requests are told that were under way in it: those that a worker has, and those
//! that wait for one.

use crate::ids::ServerName;
use crate::protocol::{Failure, Reason};

/// Why a session has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// The session's client has said so, or has gone for good, or nobody has used the session.
    ByClient,
    /// The session's server is not in pool.toml any more.
    ServerRemoved,
    /// The session's tenant is not there any more.
    TenantRemoved,
    /// The process that held its state is gone.
    WorkerGone,
}

impl Ended {
    /// What a request for that server is told that was under way, of a caller with or without sessions.
    pub(crate) fn failure(self, server: &ServerName, is_stateless: bool) -> Failure {
        let why = match self {
            Self::ByClient => "its client has ended it".to_owned(),
            Self::ServerRemoved => format!("a reload of pool.toml has removed server `{server}`"),
            Self::TenantRemoved => "its tenant was removed".to_owned(),
            Self::WorkerGone => format!(
                "the process of server `{server}` that held its state is gone; send `initialize` again"
            ),
        };
        // A caller without sessions knows of none.
        let what = match is_stateless {
            true => "the request was cancelled while it was in flight",
            false => {
                "the session has ended while this request was in flight, and the request was cancelled"
            }
        };
        Failure::new(Reason::SessionEnded, format!("{what}: {why}"))
    }
}

/// What a client with an unknown session id is told: to initialize again (basic/transports,
/// "Session Management").
pub(crate) fn session_not_found() -> Failure {
    Failure::new(
        Reason::NotFound,
        "no such session (it ended or never was; send `initialize` again)",
    )
}
