//! Puts the parts together.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Config, ConfigErrors};
use crate::launch::packages::CacheError;
use crate::session::Setup;
use crate::store::{DatabaseError, StateDir, StateDirError};
use crate::tenancy::{Authenticator, Resolver, ResolverError};
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
    /// Packages cannot be kept.
    #[error(transparent)]
    Packages(#[from] CacheError),
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
    /// A trace cannot be recorded.
    #[error("the trace {} cannot be written: {source}", path.display())]
    Trace {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The front door would be open to anyone.
    #[error("{0}")]
    Exposed(String),
    /// The admin listener would be open to anyone.
    #[error(transparent)]
    Admin(#[from] crate::admin::AdminError),
    /// Signals cannot be received.
    #[error("signals cannot be received: {0}")]
    Signals(io::Error),
}

/// Everything that follows from one config.
pub(super) fn setup(
    config: Arc<Config>,
    generation: u64,
    state: Arc<StateDir>,
) -> Result<Setup, ServeError> {
    let authenticator = Authenticator::new(&config);
    let resolver = Resolver::new(Arc::clone(&config), state)?;
    Ok(Setup::new(generation, config, authenticator, resolver))
}
