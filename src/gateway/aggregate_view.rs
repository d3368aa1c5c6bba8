//! All servers of a tenant as one, as far as that follows from pool.toml: which are offered to whom, by which names, and
//! whom a request is for. The view knows neither sessions nor workers.

use std::sync::Arc;

use serde_json::Value;

use crate::bridge::ServerInfo;
use crate::bridge::aggregate::{self, Names, RenamedRequest};
use crate::ids::ServerName;
use crate::protocol::{Envelope, Failure, Reason};
use crate::routing::RuntimeConfig;
use crate::tenancy::{ClientConfig, Principal, advert_of_parts};

/// All servers as one under one pool.toml.
#[derive(Debug)]
pub struct AggregateView {
    runtime: Arc<RuntimeConfig>,
}

impl AggregateView {
    /// All servers as one under that pool.toml.
    pub(super) const fn new(runtime: Arc<RuntimeConfig>) -> Self {
        Self { runtime }
    }

    /// The names by which all servers are offered as one.
    pub fn names(&self) -> Names {
        Names::new(&self.runtime.config.aggregate.separator)
    }

    /// The servers that are offered as one to that caller.
    pub fn offered_to(&self, principal: &Principal) -> Vec<ServerName> {
        let servers = self.runtime.config.servers.iter();
        let offered = servers.filter(|(_, server)| server.is_aggregated);
        let offered =
            offered.filter_map(|(name, _)| self.runtime.server_for(principal, name.as_str()).ok());
        offered.collect()
    }

    /// The introduction of all servers together.
    pub fn server_info(&self, principal: &Principal) -> Result<ServerInfo, Failure> {
        let names = self.names();
        let servers: Vec<_> = self
            .offered_to(principal)
            .iter()
            .map(|s| names.of(s))
            .collect();
        let text = aggregate::introduction(&servers).to_string();
        ServerInfo::parse(&text).map_err(|error| Failure::new(Reason::Internal, error.to_string()))
    }

    /// What callers may set where all servers are offered to them as one: a JSON Schema, by server.
    /// `None` if they may set nothing of any.
    pub fn advert(&self, principal: &Principal) -> Option<Value> {
        let offered = self.offered_to(principal);
        let adverts = offered.iter().filter_map(|server| {
            let advert = self.runtime.resolver.advert(&principal.tenant, server)?;
            Some((server, advert))
        });
        let mut adverts = adverts.peekable();
        adverts.peek()?;
        Some(advert_of_parts(adverts))
    }

    /// Checks what a request sets for each of all servers, for those as well that it is not for.
    ///
    /// # Errors
    /// [`Reason::ConfigInvalid`] for the first part that does not fit.
    ///
    /// # Cancel-Safety
    /// Cancel-safe.
    pub async fn check_parts(
        &self,
        principal: &Principal,
        config: &ClientConfig,
    ) -> Result<(), Failure> {
        let resolver = &self.runtime.resolver;
        resolver.check_parts(&principal.tenant, config).await
    }

    /// Whom a request is for that names something of one server, if that server is offered.
    pub fn addressed(
        &self,
        principal: &Principal,
        message: &[u8],
        envelope: &Envelope<'_>,
    ) -> Option<(ServerName, RenamedRequest)> {
        let found = self.names().addressed(message, envelope)?;
        let mut offered = self.offered_to(principal).into_iter();
        let server = offered.find(|server| server.as_str() == found.server)?;
        Some((server, found))
    }
}
