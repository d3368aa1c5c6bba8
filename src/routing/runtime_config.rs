//! What follows from one pool.toml, and the one in force.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::RwLock;

use super::command::Installs;
use crate::config::template::Reference;
use crate::config::{Config, Server};
use crate::ids::{ProgramId, ServerName};
use crate::protocol::{Failure, Reason};
use crate::tenancy::{Authenticator, Principal, Resolver, policy, program_id};

/// Everything that follows from one pool.toml; replaced whole by a reload.
#[derive(Debug)]
pub struct RuntimeConfig {
    /// Grows with each reload, so that a route knows whether it is still right.
    pub generation: u64,
    /// The configuration.
    pub config: Arc<Config>,
    /// Turns credentials into principals.
    pub authenticator: Authenticator,
    /// Turns a tenant's config into launch specs.
    pub resolver: Resolver,
    programs: BTreeMap<ServerName, ProgramId>,
    /// Servers that are started with what credentials say of a user beside the name.
    with_claims: BTreeSet<ServerName>,
    /// Environments of the servers' installs; kept once, not once a session.
    environments: BTreeMap<ServerName, Installs>,
}

impl RuntimeConfig {
    /// What follows from that configuration.
    pub fn new(
        generation: u64,
        config: Arc<Config>,
        authenticator: Authenticator,
        resolver: Resolver,
    ) -> Self {
        let named =
            |(name, server): (&ServerName, &Server)| (name.clone(), program_id(name, server));
        let with_claims = config.servers.iter().filter(|(_, server)| {
            server.references().any(|(_, reference)| {
                matches!(reference, Reference::UserEmail | Reference::UserClaim(_))
            })
        });
        let environment = |(name, server): (&ServerName, &Server)| {
            let environment = resolver.install_environment(server);
            (name.clone(), Installs::from(environment))
        };
        Self {
            generation,
            with_claims: with_claims.map(|(name, _)| name.clone()).collect(),
            environments: config.servers.iter().map(environment).collect(),
            programs: config.servers.iter().map(named).collect(),
            config,
            authenticator,
            resolver,
        }
    }

    /// Whether the server is started with what credentials say of a user beside the name.
    pub(crate) fn starts_with_claims(&self, server: &ServerName) -> bool {
        self.with_claims.contains(server)
    }

    /// Whether not every caller gets all of a server's tools as they are, or the server is told who
    /// calls.
    pub(crate) fn is_selective(&self, server: &ServerName) -> bool {
        let policy = &self.config.policy;
        let named = self.config.servers.get(server);
        policy.denies_by_default
            || !policy.rules.is_empty()
            || named.is_some_and(|server| {
                !server.tools.offers_everything()
                    || !server.bind.is_empty()
                    || !server.identity.is_empty()
            })
    }

    /// The server of that name, if it is there for that caller.
    ///
    /// # Errors
    /// [`Reason::NotFound`], whether it is not there at all or not for them.
    pub fn server_for(&self, principal: &Principal, name: &str) -> Result<ServerName, Failure> {
        let found = self.config.server_name(name);
        found
            .filter(|_| policy::server(&self.config.policy, principal, name).is_allowed)
            .ok_or_else(|| Failure::new(Reason::NotFound, format!("no server `{name}`")))
    }

    /// What that server runs.
    pub(crate) fn program(&self, server: &ServerName) -> Option<ProgramId> {
        self.programs.get(server).copied()
    }

    /// The environment of that server's installs.
    pub(super) fn installs_of(&self, server: &ServerName) -> Option<&Installs> {
        self.environments.get(server)
    }

    /// Whether arguments are set for callers of that server's tools.
    pub(crate) fn binds(&self, server: &ServerName) -> bool {
        let server = self.config.servers.get(server);
        server.is_some_and(|server| !server.bind.is_empty())
    }
}

/// The runtime config of the pool.toml in force.
#[derive(Debug)]
pub(crate) struct CurrentConfig(RwLock<Arc<RuntimeConfig>>);

impl CurrentConfig {
    /// Begins with `first` in force.
    pub(crate) fn new(first: Arc<RuntimeConfig>) -> Self {
        Self(RwLock::new(first))
    }

    /// The one in force now.
    pub(crate) fn get(&self) -> Arc<RuntimeConfig> {
        Arc::clone(&self.0.read())
    }

    /// Puts another one in force.
    pub(crate) fn replace(&self, next: Arc<RuntimeConfig>) {
        *self.0.write() = next;
    }
}
