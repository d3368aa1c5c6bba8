//! What pool.toml says, with defaults filled in and everything checked. Immutable once read.
//!
//! Invariants: whatever is read from a text holds in these types, so that nobody below checks it again; a path is absolute, or
//! starts from [`Config::base_dir`].
//!
//! Types of the tables' values, one file for what belongs together, and what follows from one [`Config`] alone. How a
//! table is read stands beside this folder, in a file with the table's name.
//!
//! This module deliberately reads nothing: no text, no file, no environment. What a value means for a worker, a session or the
//! pool is theirs to say; they take it by value.

mod auth;
mod http;
mod oauth;
mod pool;
mod rates;
mod references;
mod secret;
mod server;
mod tenant;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

pub use auth::{Auth, AuthMode, Jwt, KeySource, ProxyHeaders};
pub(super) use http::Connections;
pub use http::{Admin, Aggregate, Http, Tls};
pub use oauth::{ClientAuth, OAuth};
pub use pool::{Packages, Pool, SandboxUsers, State};
pub use rates::{DefaultRates, Rates};
pub use references::SecretUse;
pub use secret::SecretSource;
pub use server::{Arg, Interactive, Isolation, LaunchMode, Prime, Server, Share, WorkerLimits};
pub use tenant::{Tenant, Token};

use super::audit::Audit;
use super::mistake::Warning;
use super::policy::Policy;
use super::tracing::Tracing;
use crate::held;
use crate::ids::{ServerName, TenantId, is_valid_name};
use crate::usage::Quotas;

/// The tenant of callers that name none, where nobody has to say who they are.
pub const DEFAULT_TENANT: &str = "default";

/// All that one pool.toml, or one command line, says.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[http]`
    pub http: Http,
    /// `[admin]`
    pub admin: Admin,
    /// `[auth]`
    pub auth: Auth,
    /// `[limits]`
    pub rates: DefaultRates,
    /// `[audit]`
    pub audit: Audit,
    /// `[tracing]`
    pub tracing: Tracing,
    /// `[aggregate]`
    pub aggregate: Aggregate,
    /// `[pool]`
    pub pool: Pool,
    /// `[state]`
    pub state: State,
    /// `[launch]`
    pub packages: Packages,
    /// `[sandbox]`
    pub sandbox: SandboxUsers,
    /// `[servers.NAME]`
    pub servers: BTreeMap<ServerName, Server>,
    /// `[policy]`
    pub policy: Policy,
    /// `[tenants.NAME]`
    pub tenants: BTreeMap<TenantId, Tenant>,
    /// The server at `/mcp`, where one command is hosted without a file.
    pub only_server: Option<ServerName>,
    /// The state folder that is served otherwise, while `stdiopool profile` runs a server with another one.
    pub profiled: Option<PathBuf>,
    /// The folder that relative paths start from: pool.toml's.
    pub base_dir: PathBuf,
    /// What is odd but usable, for the log and for `check`.
    pub warnings: Vec<Warning>,
}

impl Config {
    /// Whether the server is on offer.
    pub fn has_server(&self, name: &ServerName) -> bool {
        self.servers.contains_key(name)
    }

    /// Whether the tenant may be served. Where nobody has to say who they are, any well-formed
    /// name may.
    pub fn has_tenant(&self, id: &TenantId) -> bool {
        match self.auth.mode {
            AuthMode::None => is_valid_name(id.as_str()),
            AuthMode::Token | AuthMode::Jwt(_) | AuthMode::Header(_) => {
                self.tenants.contains_key(id)
            }
        }
    }

    /// Servers that are not kept apart from what stdiopool has; none where one command is hosted for whoever runs it.
    pub fn without_sandbox(&self) -> impl Iterator<Item = &ServerName> {
        let servers = self.servers.iter();
        let servers = servers.filter(|_| self.only_server.is_none());
        servers.filter_map(|(name, server)| (server.sandbox == Isolation::None).then_some(name))
    }

    /// The name of a server on offer.
    pub fn server_name(&self, text: &str) -> Option<ServerName> {
        self.servers
            .get_key_value(text)
            .map(|(name, _)| name.clone())
    }

    /// Where packages are installed, with the state in that folder: in it, so that they stay; in the
    /// user's cache folder where one command is hosted, whose state goes with it.
    pub fn package_cache(&self, state: &Path) -> PathBuf {
        let given = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let cache = || {
            let of_home = || Some(PathBuf::from(given("HOME")?).join(".cache"));
            given("XDG_CACHE_HOME").map(PathBuf::from).or_else(of_home)
        };
        match cache().filter(|_| self.only_server.is_some()) {
            Some(cache) => cache.join("stdiopool/packages"),
            // What is installed for serving is used for profiling too.
            None => self.profiled.as_deref().unwrap_or(state).join("packages"),
        }
    }

    /// The limits of memory held for tenants, in bytes.
    pub fn held_limits(&self) -> held::HeldLimits {
        held::HeldLimits {
            of_tenant: self.rates.memory_held,
            of_all: self.http.memory,
        }
    }

    /// Bytes of bodies a second that a tenant may send.
    pub fn body_rate(&self, tenant: &TenantId) -> NonZeroU64 {
        let own = self.tenants.get(tenant).and_then(|tenant| tenant.body_rate);
        own.unwrap_or(self.rates.body_rate)
    }

    /// What a tenant may use in a month.
    pub fn quotas(&self, tenant: &TenantId) -> Quotas {
        let own = self.tenants.get(tenant).map(|tenant| tenant.quotas);
        own.unwrap_or(self.rates.quotas)
    }

    /// The tenants that may make stdiopool hold more or less than others, and how many bytes.
    pub fn own_held_limits(&self) -> impl Iterator<Item = (TenantId, u64)> {
        let tenants = self.tenants.iter();
        tenants.filter_map(|(id, tenant)| Some((id.clone(), tenant.memory_held?)))
    }

    /// Whether clients have to show certificates.
    pub fn has_client_certificates(&self) -> bool {
        let tls = self.http.tls.as_ref();
        tls.is_some_and(|tls| tls.client_ca.is_some())
    }
}
