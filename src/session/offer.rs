//! What one caller gets to see of a server's tools, and may call: what the server offers at all,
//! and what the policy lets this caller have of it. What is not for them is as if it were not there.

use std::sync::Arc;

use bytes::Bytes;

use super::route::Setup;
use crate::bridge::offered_tools;
use crate::ids::ServerName;
use crate::tenancy::{Principal, policy};

/// A caller's view of a server's tools.
#[derive(Debug)]
pub(super) struct Offer {
    setup: Arc<Setup>,
    server: ServerName,
    principal: Principal,
}

impl Offer {
    /// The view of a caller; `None` if it is everything, as it is.
    pub(super) fn of(
        setup: &Arc<Setup>,
        server: &ServerName,
        principal: &Principal,
    ) -> Option<Arc<Self>> {
        setup.is_selective(server).then(|| {
            Arc::new(Self {
                setup: Arc::clone(setup),
                server: server.clone(),
                principal: principal.clone(),
            })
        })
    }

    /// Whether a tool is in it.
    pub(super) fn has(&self, tool: &str) -> bool {
        let config = &self.setup.config;
        let server = config.servers.get(&self.server);
        server.is_some_and(|server| server.tools.offers(tool))
            && policy::tool(&config.policy, &self.principal, self.server.as_str(), tool).is_allowed
    }

    /// A response to `tools/list` with what is in it.
    pub(super) fn trimmed(&self, response: Bytes) -> Bytes {
        offered_tools(&response, |name| self.has(name)).unwrap_or(response)
    }
}
