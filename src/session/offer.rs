//! What one caller gets to see of a server's tools, and may call: what the server offers at all,
//! and what the policy lets this caller have of it. What is not for them is as if it were not there.
//! And what the server is told of this caller.

use std::sync::Arc;

use bytes::Bytes;

use super::known_tools::KnownTools;
use super::route::Setup;
use crate::bridge::{Additions, Shown, offered_tools};
use crate::ids::ServerName;
use crate::protocol::{Failure, Reason};
use crate::tenancy::{ClientConfig, Principal, policy};

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
        let bind = self.setup.config.servers.get(&self.server);
        let bind = bind.map(|server| &server.bind);
        let shown = |name: &str| {
            let bound = bind.map(|bind| bind.of(name)).unwrap_or_default();
            match bound.is_empty() {
                _ if !self.has(name) => Shown::Hidden,
                false => Shown::Without(bound.into_keys().map(str::to_owned).collect()),
                true => Shown::AsItIs,
            }
        };
        offered_tools(&response, shown).unwrap_or(response)
    }

    /// What is added to a request of the caller before a worker gets it.
    ///
    /// # Errors
    /// [`Reason::ConfigInvalid`] when a value for it is missing, or what is bound for the tool could not be
    /// applied.
    pub(super) fn additions(
        &self,
        tool: Option<&str>,
        config: Option<&ClientConfig>,
        tools: &KnownTools,
    ) -> Result<Additions, Failure> {
        let resolver = &self.setup.resolver;
        let (user, server) = (&self.principal, &self.server);
        let arguments = match tool {
            Some(tool) => {
                if let Some(why) = tools.refusal(server, tool) {
                    return Err(Failure::new(Reason::ConfigInvalid, &*why));
                }
                let mut bound = resolver.bound_arguments(user, server, tool, config)?;
                // A glob meets tools that have no such argument and would take the call for wrong.
                bound.retain(|(argument, _)| !tools.rejects(server, tool, argument));
                bound
            }
            None => vec![],
        };
        Ok(Additions {
            identity: resolver.identity(user, server),
            arguments,
        })
    }
}
