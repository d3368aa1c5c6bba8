//! The folders that are a worker's own.

use std::path::{Path, PathBuf};

use crate::launch::LaunchSpec;

/// Folders that a worker of that launch writes to, as far as they are there.
pub(super) fn own_folders(spec: &LaunchSpec) -> Vec<PathBuf> {
    let mut own = spec.folders.clone();
    own.extend(spec.secret_files.folder().map(Path::to_owned));
    if !spec.packages.as_os_str().is_empty() {
        own.push(spec.packages.clone());
    }
    own.retain(|path| path.exists());
    own
}
