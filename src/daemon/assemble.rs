//! Puts the parts together.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretBox};

use super::service_manager::InheritError;
use crate::config::{Config, ConfigErrors, Exposed};
use crate::front::TlsError;
use crate::launch::packages::CacheError;
use crate::routing::RuntimeConfig;
use crate::store::{DatabaseError, OpenedState, StateDir, StateDirError};
use crate::telemetry::audit::{Audit, AuditOptions, Digester};
use crate::tenancy::oauth::Grants;
use crate::tenancy::{Authenticator, MergeError, Resolver, ResolverError, Secrets, Uses};
use crate::worker::GuardianError;

/// Why `stdiopool serve` did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// pool.toml cannot be used.
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateDirError),
    /// What is kept in the state folder cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// TLS cannot be spoken.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The tenants of pool.toml and of the state folder do not go together.
    #[error(transparent)]
    Accounts(#[from] MergeError),
    /// The key of the secrets is not to be had.
    #[error("the key of the secrets in the state folder (`state.key`) cannot be had: {0}")]
    NoKey(String),
    /// The key is not the one that the secrets were sealed with.
    #[error(
        "the secrets in the state folder were sealed with another key than that of `state.key`: give the old one back, or seal them anew with `stdiopool secret rekey` before changing it"
    )]
    OtherKey,
    /// Packages cannot be kept.
    #[error(transparent)]
    Packages(#[from] CacheError),
    /// The host lacks what pool.toml names and everything needs.
    #[error("{0}")]
    Host(String),
    /// A server's config schema cannot be used.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// The guardian of the worker processes could not be started.
    #[error(transparent)]
    Guardian(#[from] GuardianError),
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address} (`{key}`): {source}; is another stdiopool running? choose another address"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The key that names it.
        key: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The sockets that a service manager gave cannot be listened on.
    #[error(transparent)]
    Inherited(#[from] InheritError),
    /// A trace cannot be recorded.
    #[error("the trace {} cannot be written: {source}", path.display())]
    Trace {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The front door would be open to anyone.
    #[error(transparent)]
    Exposed(#[from] Exposed),
    /// The admin listener would be open to anyone.
    #[error(transparent)]
    Admin(#[from] crate::admin::AdminError),
    /// The audit log cannot be written.
    #[error("the audit log {} (`audit.file`) cannot be written: {source}", path.display())]
    Audit {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Spans cannot be exported.
    #[error("spans cannot be exported: {0}")]
    Tracing(String),
    /// Signals cannot be received.
    #[error("signals cannot be received: {0}")]
    Signals(io::Error),
}

/// What a config is put in force with, beside what it says.
pub(super) struct RuntimeParts {
    /// Where workers have their folders.
    pub(super) state: Arc<StateDir>,
    /// Fetches the secrets of tenants.
    pub(super) secrets: Arc<Secrets>,
    /// Is told when tokens are used.
    pub(super) uses: Arc<Uses>,
    /// What tenants have authorised upstream.
    pub(super) grants: Arc<Grants>,
}

/// Everything that follows from one config. `before` is what it replaces.
pub(super) fn runtime_config(
    config: Arc<Config>,
    generation: u64,
    parts: RuntimeParts,
    before: Option<&RuntimeConfig>,
) -> Result<RuntimeConfig, ServeError> {
    let RuntimeParts {
        state,
        secrets,
        uses,
        grants,
    } = parts;
    let authenticator = Authenticator::new(&config, uses, before.map(|it| &it.authenticator));
    let mut resolver = Resolver::new(Arc::clone(&config), state, secrets)?.with_grants(grants);
    resolver.set_users(before.and_then(|it| it.resolver.users().cloned()));
    if let Some(before) = before {
        resolver.set_records(Arc::clone(before.resolver.records()));
    }
    Ok(RuntimeConfig::new(
        generation,
        config,
        authenticator,
        resolver,
    ))
}

/// Where and how the audit log is written; `None` if there is to be none.
pub(super) fn audit_options(config: &Config) -> Option<AuditOptions> {
    let audit = &config.audit;
    Some(AuditOptions {
        file: audit.file.clone()?,
        arguments: audit.arguments,
        max_size: audit.max_size,
        keep: audit.keep,
    })
}

/// Opens the audit log, with the digests of this installation.
pub(super) fn open_audit(options: AuditOptions, opened: &OpenedState) -> Result<Audit, ServeError> {
    let file = options.file.clone();
    let key = opened.digest_key.expose_secret();
    let digester = Digester::new(SecretBox::new(Box::new(*key)));
    Audit::open(options, digester).map_err(|source| ServeError::Audit { path: file, source })
}
