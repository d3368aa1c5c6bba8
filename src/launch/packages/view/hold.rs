//! A view that is held: locks, by which this process and others see that workers run from it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// A view that workers run from. As long as this is held, it is not removed, and what is in it counts as unfinished.
#[derive(Debug)]
pub struct View {
    pub(super) folder: PathBuf,
    pub(super) _lock: Flock<File>,
}

impl View {
    /// The view's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

pub(super) fn lock(folder: &Path, how: FlockArg) -> io::Result<Flock<File>> {
    let folder = File::open(folder)?;
    Ok(Flock::lock(folder, how).map_err(|(_, errno)| errno)?)
}

/// Whether a worker of this process or another runs from a view.
pub(super) fn is_in_use(view: &Path) -> bool {
    // What cannot be opened is no folder that a worker could be started from.
    File::open(view).is_ok_and(|folder| {
        let lock = Flock::lock(folder, FlockArg::LockExclusiveNonblock);
        matches!(lock, Err((_, Errno::EWOULDBLOCK)))
    })
}
