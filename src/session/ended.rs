//! Why a session has ended, and what the requests are told that were under way in it.

use crate::ids::ServerName;
use crate::protocol::{Failure, Reason};

/// Why a session has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// Its client has said so, or has gone for good, or nobody has used it.
    ByClient,
    /// Its server is not in pool.toml any more.
    ServerRemoved,
    /// Its tenant is not there any more.
    TenantRemoved,
    /// The process that held its state is gone.
    WorkerGone,
}

impl Ended {
    /// What a request is told that was under way.
    pub(super) fn failure(self, server: &ServerName) -> Failure {
        let why = match self {
            Self::ByClient => "its client has ended it".to_owned(),
            Self::ServerRemoved => format!("a reload of pool.toml has removed server `{server}`"),
            Self::TenantRemoved => "its tenant was removed".to_owned(),
            Self::WorkerGone => format!(
                "the process of server `{server}` that held its state is gone; send `initialize` again"
            ),
        };
        let message = format!(
            "the session has ended while this request was in flight, and the request was cancelled: {why}"
        );
        Failure::new(Reason::SessionEnded, message)
    }
}
