//! What one caller gets to see of a server's tools, and may call: what the server offers at all,
//! and what the policy lets this caller have of it. Tools that are not for the caller are as if they were not there.
//! And what the server is told of this caller.

use std::sync::Arc;

use bytes::Bytes;

use super::known_tools::KnownTools;
use crate::bridge::{Additions, Listing, Shown, offered_tools};
use crate::ids::ServerName;
use crate::protocol::{Envelope, Failure};
use crate::routing::RuntimeConfig;
use crate::routing::ToolList;
use crate::routing::Verdict;
use crate::tenancy::{ClientConfig, Principal, policy};
use crate::upstream::ToolFilter;

/// A caller's view of a server's tools.
#[derive(Debug)]
pub(crate) struct ToolView {
    runtime: Arc<RuntimeConfig>,
    server: ServerName,
    principal: Principal,
}

impl ToolView {
    /// The view of a caller; `None` if it is everything, as it is.
    pub(crate) fn of(
        runtime: &Arc<RuntimeConfig>,
        server: &ServerName,
        principal: &Principal,
    ) -> Option<Arc<Self>> {
        runtime.is_selective(server).then(|| {
            Arc::new(Self {
                runtime: Arc::clone(runtime),
                server: server.clone(),
                principal: principal.clone(),
            })
        })
    }

    /// Whether a tool is in it.
    pub(crate) fn has(&self, tool: &str) -> bool {
        let config = &self.runtime.config;
        let server = config.servers.get(&self.server);
        server.is_some_and(|server| server.tools.offers(tool))
            && policy::tool(&config.policy, &self.principal, self.server.as_str(), tool).is_allowed
    }

    /// Whether the server may take that name for another tool's than is listed by it.
    pub(crate) fn is_lookalike(&self, tool: &str, tools: &KnownTools) -> bool {
        tools.is_lookalike(&self.server, tool)
    }

    /// What becomes of the answer to a request; `None` for one that does not list tools.
    pub(super) fn filter_for(
        self: &Arc<Self>,
        envelope: &Envelope<'_>,
    ) -> Option<Arc<dyn ToolFilter>> {
        let lists = envelope.method.as_deref() == Some(Listing::Tools.method());
        lists.then(|| Arc::clone(self) as Arc<dyn ToolFilter>)
    }

    /// A response to `tools/list` with what is in it.
    pub(crate) fn trimmed(&self, response: Bytes) -> Bytes {
        let bind = self.runtime.config.servers.get(&self.server);
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
    /// [`Reason::ConfigInvalid`](crate::protocol::Reason::ConfigInvalid) when a value for it is missing.
    pub(crate) fn additions(
        &self,
        tool: Option<&str>,
        config: Option<&ClientConfig>,
    ) -> Result<Additions, Failure> {
        let resolver = &self.runtime.resolver;
        let (user, server) = (&self.principal, &self.server);
        let arguments = match tool {
            Some(tool) => resolver.bound_arguments(user, server, tool, config)?,
            None => vec![],
        };
        Ok(Additions {
            identity: resolver.identity(user, server),
            arguments,
            withheld: vec![],
        })
    }

    /// Whether arguments are set for callers of the server's tools, so that its list has to be known before a call.
    pub(crate) fn binds(&self) -> bool {
        let server = self.runtime.config.servers.get(&self.server);
        server.is_some_and(|server| !server.bind.is_empty())
    }

    /// What is set for callers of tools of that list, and which are not called; `None` for a server that is gone.
    pub(crate) fn verdict(&self, list: &ToolList) -> Option<Arc<Verdict>> {
        let bind = &self.runtime.config.servers.get(&self.server)?.bind;
        Some(list.verdict(self.runtime.generation, &self.server, bind))
    }
}

impl ToolFilter for ToolView {
    fn filtered(&self, response: Bytes) -> Bytes {
        self.trimmed(response)
    }
}
