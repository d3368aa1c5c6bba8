//! Why there is no private view.

use std::io;
use std::path::{Path, PathBuf};

use super::super::manifest::ManifestError;

/// Why there is no view.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The system refused.
    #[error("its private copy of the package cannot be made: cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or folder with which it was tried.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file of the entry is not as it was installed.
    #[error("{} is not as it was installed; the package is installed again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// What the entry consists of is not known.
    #[error("the installed package is damaged: {0}; it is installed again")]
    NoManifest(String),
    /// Workers still run from the view of another version, and have written what is to be taken over.
    #[error(
        "workers of version {version} still run, whose files the next version takes over; try again"
    )]
    InUse {
        /// The version whose workers run.
        version: String,
    },
    /// The work was given up.
    #[error("its private copy of the package was not made: {0}")]
    Unfinished(String),
}

impl ViewError {
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    /// Whether the entry is to be installed again.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::NoManifest(_))
    }
}

impl From<ManifestError> for ViewError {
    fn from(error: ManifestError) -> Self {
        Self::NoManifest(error.to_string())
    }
}
