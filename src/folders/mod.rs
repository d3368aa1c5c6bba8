//! Folders that must go, whatever is in them.
//!
//! ```text
//!  a folder in use ──put_aside──▶ `.trash-…` beside it ──empty_trash──▶ gone
//!                   (one rename)                        (as long as it takes)
//! ```
//!
//! What workers leave behind is foreign: folders without permissions, thousands nested in each other, links
//! to elsewhere, sockets, pipes. [`remove`] takes no path longer than a name, no recursion, a bounded number
//! of open files, follows no link and enters no other file system. Removing takes long where there is much;
//! a start waits for the rename alone.
//!
//! Invariants:
//! - nothing outside the folder is touched, and nothing that a link in it leads to;
//! - what cannot be removed is counted ([`removals_failed`]) and never stops a start.
//!
//! This module deliberately knows nothing of who owns what: callers decide what is to go, and whose a folder shall be ([`give`]).

mod owner;
mod plain;
mod remove;
mod trash;

pub use owner::{OwnerChange, OwnerError, give};
pub use plain::read_plain;
pub use remove::{RemoveError, removals_failed, remove};
pub use trash::{empty, empty_trash, empty_trash_in_background, is_trash, put_aside};

use std::path::Path;

use tempfile::TempDir;

/// A folder that goes with this value, whatever is in it.
#[derive(Debug)]
pub struct Temporary(Option<TempDir>);

impl Temporary {
    /// The folder, which was made just now.
    pub const fn new(folder: TempDir) -> Self {
        Self(Some(folder))
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        self.0.as_ref().map_or(Path::new(""), TempDir::path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(folder) = self.0.take() {
            let path = folder.keep();
            if let Err(error) = remove(&path) {
                tracing::warn!(folder = %path.display(), %error, "a temporary folder stays");
            }
        }
    }
}
