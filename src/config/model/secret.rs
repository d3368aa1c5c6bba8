//! Where a secret is that pool.toml or the state store names.

use std::path::PathBuf;
use std::sync::Arc;

/// Where a secret is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SecretSource {
    /// The secret is in a variable of stdiopool's environment.
    Env(String),
    /// The secret is in a file; a line break at its end does not count.
    File(PathBuf),
    /// On standard output of a command.
    Command(Vec<String>),
    /// The secret is in the state store, sealed.
    Stored(Arc<[u8]>),
}

impl SecretSource {
    /// Whether there may be another secret there later, without pool.toml or the state store having
    /// changed.
    pub fn may_change(&self) -> bool {
        match self {
            Self::File(_) | Self::Command(_) => true,
            Self::Env(_) | Self::Stored(_) => false,
        }
    }
}
