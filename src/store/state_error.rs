//! Why the state folder cannot be used.

use std::io;
use std::path::{Path, PathBuf};

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// Another supervisor uses the folder.
    #[error("the state folder {} is in use by another stdiopool (pid {pid}); stop that one, or choose another `state.dir`", dir.display())]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// Process id of whoever holds the lock.
        pid: String,
    },
    /// The system refuses.
    #[error("the state folder {} cannot be used: {what}: {source} (choose another `state.dir`, or mend its permissions)", dir.display())]
    Io {
        /// The folder.
        dir: PathBuf,
        /// The step that was tried, for people.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

pub(super) fn failed(dir: &Path, what: &'static str) -> impl FnOnce(io::Error) -> StateDirError {
    let dir = dir.to_owned();
    move |source| StateDirError::Io { dir, what, source }
}
