//! Folders of the package cache in which something is made that becomes something else, and what is left of them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

use super::cache::{Cache, CacheError, ENTRIES, failed};
use crate::folders::{self, Temporary};

/// A folder in which something is made. The folder goes with this value; should the process be killed, the lock goes
/// with it, and the folder at the next start.
#[derive(Debug)]
pub(super) struct Workspace {
    folder: Temporary,
    _lock: Flock<File>,
}

impl Workspace {
    /// The workspace's folder.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Whether a process has that folder for its [`Workspace`].
fn is_worked_in(path: &Path) -> bool {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY;
    let folder = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path);
    // What cannot be opened so is no such folder.
    folder.is_ok_and(|folder| {
        let lock = Flock::lock(folder, FlockArg::LockExclusiveNonblock);
        matches!(lock, Err((_, Errno::EWOULDBLOCK)))
    })
}

impl Cache {
    /// A new folder to work in, which is not taken for a leftover as long as the value lives.
    ///
    /// # Errors
    /// [`CacheError`] when the system refuses.
    pub(super) fn workspace(&self) -> Result<Workspace, CacheError> {
        let tmp = self.tmp();
        let make = || {
            let _kept = self.keep_tmp()?;
            let folder = Temporary::new(tempfile::Builder::new().tempdir_in(&tmp)?);
            let lock = File::open(folder.path())?;
            let lock = Flock::lock(lock, FlockArg::LockShared).map_err(|(_, errno)| errno)?;
            Ok(Workspace {
                _lock: lock,
                folder,
            })
        };
        make().map_err(failed(&tmp, "make a folder in it"))
    }

    /// Puts aside what installs have left that were killed, and removes it in the background. What another
    /// process works in stays.
    pub fn clear_leftovers(&self) {
        let tmp = self.tmp();
        let put_aside = || {
            let folder = File::open(&tmp)?;
            // Someone is making something just now: there is a next time.
            let Ok(_alone) = Flock::lock(folder, FlockArg::LockExclusiveNonblock) else {
                return Ok(());
            };
            for entry in std::fs::read_dir(&tmp)? {
                let entry = entry?;
                let is_trash = entry.file_name().to_str().is_some_and(folders::is_trash);
                if !is_trash && !is_worked_in(&entry.path()) {
                    folders::put_aside(&entry.path())?;
                }
            }
            io::Result::Ok(())
        };
        if let Err(error) = put_aside() {
            tracing::warn!(folder = %tmp.display(), %error, "what killed installs have left stays for now");
        }
        let mut all = vec![tmp];
        all.extend(ENTRIES.map(|folder| self.root.join(folder)));
        folders::empty_trash_in_background(all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (Cache, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        (
            Cache::open(&folder.path().join("packages")).expect("opens"),
            folder,
        )
    }

    #[test]
    fn what_killed_installs_left_goes_and_what_is_worked_in_stays() {
        let (cache, _folder) = cache();
        let left = cache.tmp().join("left");
        std::fs::create_dir_all(left.join("node_modules/a")).expect("made");
        std::fs::write(cache.tmp().join("file"), "x").expect("written");
        let workspace = cache.workspace().expect("made");
        std::fs::write(workspace.path().join("half"), "x").expect("written");
        cache.clear_leftovers();
        assert!(!left.exists() && !cache.tmp().join("file").exists());
        assert!(workspace.path().join("half").exists());
        let path = workspace.path().to_owned();
        drop(workspace);
        assert!(!path.exists());
    }
}
