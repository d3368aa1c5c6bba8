//! The caller that wants a list of all servers.

use std::sync::Arc;

use crate::session::Session;
use crate::tenancy::{ClientConfig, Principal};

/// The caller that wants a list of all servers.
#[derive(Clone, Debug)]
pub struct Lister {
    /// The session with all of them; `None` for a caller without sessions.
    pub(super) whole: Option<Arc<Session>>,
    pub(super) principal: Principal,
    /// What holds for the request, by server; `None` for what holds for its session.
    pub(super) config: Option<Arc<ClientConfig>>,
}

impl Lister {
    /// The caller of that session, and what the request sets.
    pub(super) fn of_session(
        whole: Arc<Session>,
        principal: Principal,
        config: Option<Arc<ClientConfig>>,
    ) -> Self {
        Self {
            whole: Some(whole),
            principal,
            config,
        }
    }

    /// A caller without sessions, and what the request sets.
    pub fn of_caller(principal: Principal, config: Option<ClientConfig>) -> Self {
        Self {
            whole: None,
            principal,
            config: config.map(Arc::new),
        }
    }
}
