//! Removes a folder and all in it.
//!
//! A folder in the folder that is removed is emptied of its files, and its own folders are moved up, beside
//! it. Depth turns into width that way: two folders are open at a time, no name is longer than a path may
//! be, and however deep it went, each step is one name relative to an open folder.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Looks at the folder, each of which takes the nesting in it down by one at least. Someone who goes on
/// writing into it is not raced for longer; the rest stays for the next time.
const MAX_PASSES: u32 = 500_000;
/// Names that are tried for a folder that is moved up, each taken by something else.
const MAX_NAMES: u32 = 10_000;

static FAILED: AtomicU64 = AtomicU64::new(0);

/// Calls of [`remove`] that could not remove all, since this process started.
pub fn removals_failed() -> u64 {
    FAILED.load(Ordering::Relaxed)
}

pub(super) fn count_failure() {
    FAILED.fetch_add(1, Ordering::Relaxed);
}

/// Why something is still there.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be removed: {source}", path.display())]
pub struct RemoveError {
    /// What was to be removed.
    path: PathBuf,
    /// The first thing that the system refused.
    source: io::Error,
}

/// Removes a file, a link, or a folder with all in it, and is content if there is nothing. Folders in it that
/// this user may not enter are made accessible first. Blocks, for as long as there is much in it.
///
/// # Errors
/// [`RemoveError`] with the first reason, when something in it stays; everything else is gone.
pub fn remove(path: &Path) -> Result<(), RemoveError> {
    remove_all(path).map_err(|source| {
        count_failure();
        let path = path.to_owned();
        RemoveError { path, source }
    })
}

fn remove_all(path: &Path) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let parent = match open(parent, flags, Mode::empty()) {
        Ok(parent) => parent,
        Err(Errno::ENOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    match unlink(&parent, name)? {
        Unlinked::Gone => return Ok(()),
        Unlinked::IsFolder => {}
    }
    let mut removal = Removal {
        root: enter(&parent, name)?,
        next: 0,
        steps: 0,
        refused: None,
    };
    for _ in 0..MAX_PASSES {
        if !removal.pass()? {
            break;
        }
    }
    match rmdir(&parent, name) {
        Ok(()) => Ok(()),
        Err(error) => Err(removal.refused.unwrap_or(error)),
    }
}

enum Unlinked {
    Gone,
    IsFolder,
}

/// Removes what is no folder.
fn unlink(parent: &OwnedFd, name: &OsStr) -> io::Result<Unlinked> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(Unlinked::Gone),
        Err(Errno::EISDIR) => Ok(Unlinked::IsFolder),
        Err(error) => Err(error.into()),
    }
}

fn rmdir(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens a folder without following a link, and gives its owner all rights to it.
fn enter(parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    // A descriptor of O_PATH needs no right to read, and every call relative to a folder takes it.
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let folder = openat(parent, name, flags, Mode::empty())?;
    let own = own_path(&folder);
    let mode = std::fs::metadata(&own)?.permissions().mode();
    if mode & 0o700 != 0o700 {
        std::fs::set_permissions(&own, PermissionsExt::from_mode(mode | 0o700))?;
    }
    Ok(folder)
}

/// Leads to an open folder, whatever its name is by now (proc_pid_fd(5)).
fn own_path(folder: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd()))
}

struct Removal {
    root: OwnedFd,
    /// The number in the name of the next folder that is moved up.
    next: u32,
    /// What was removed or moved up so far.
    steps: u64,
    /// The first refusal of a pass.
    refused: Option<io::Error>,
}

impl Removal {
    /// Takes one level out of everything in the folder. False when nothing could be done.
    fn pass(&mut self) -> io::Result<bool> {
        let before = self.steps;
        self.refused = None;
        for entry in std::fs::read_dir(own_path(&self.root))? {
            let name = entry?.file_name();
            let outcome = self.entry(&name);
            self.note(outcome);
        }
        Ok(self.steps > before)
    }

    fn note(&mut self, outcome: io::Result<()>) {
        match outcome {
            Ok(()) => self.steps += 1,
            Err(error) => {
                self.refused.get_or_insert(error);
            }
        }
    }

    /// Removes something that stands in the folder itself.
    fn entry(&mut self, name: &OsStr) -> io::Result<()> {
        if let Unlinked::Gone = unlink(&self.root, name)? {
            return Ok(());
        }
        if rmdir(&self.root, name).is_ok() {
            return Ok(());
        }
        let folder = enter(&self.root, name)?;
        for entry in std::fs::read_dir(own_path(&folder))? {
            let inner = entry?.file_name();
            let outcome = self.inner(&folder, &inner);
            self.note(outcome);
        }
        rmdir(&self.root, name)
    }

    /// Removes what stands in a folder of the folder, or moves it up.
    fn inner(&mut self, folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
        if let Unlinked::Gone = unlink(folder, name)? {
            return Ok(());
        }
        if rmdir(folder, name).is_ok() {
            return Ok(());
        }
        // To move a folder is to write in it, for `..` changes: rename(2), EACCES.
        drop(enter(folder, name)?);
        for _ in 0..MAX_NAMES {
            self.next = self.next.wrapping_add(1);
            let up = OsString::from(format!(".{}", self.next));
            match renameat(folder, name, &self.root, up.as_os_str()) {
                Ok(()) | Err(Errno::ENOENT) => return Ok(()),
                // The new name is taken: the next is tried.
                Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::EEXIST.into())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Makes `depth` folders in each other without a path that is too long for the system.
    fn nest(root: &Path, depth: u32) {
        std::fs::create_dir(root).expect("made");
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut at = open(root, flags, Mode::empty()).expect("opens");
        for _ in 0..depth {
            nix::sys::stat::mkdirat(&at, "d", Mode::S_IRWXU).expect("made");
            at = openat(&at, "d", flags, Mode::empty()).expect("opens");
        }
    }

    fn made_of_all_sorts(root: &Path) {
        std::fs::create_dir_all(root.join("a/b/c")).expect("made");
        std::fs::create_dir(root.join("a/.1")).expect("made");
        std::fs::write(root.join(".2"), "a name that is wanted").expect("written");
        std::fs::write(root.join("a/b/file"), "x").expect("written");
        nix::unistd::mkfifo(&root.join("a/pipe"), Mode::S_IRWXU).expect("made");
        drop(std::os::unix::net::UnixListener::bind(root.join("a/socket")).expect("made"));
        symlink("/nowhere", root.join("a/dangling")).expect("made");
        let none = |path: &Path| {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o000)).expect("set");
        };
        none(&root.join("a/b/file"));
        none(&root.join("a/b/c"));
        none(&root.join("a/b"));
        none(&root.join("a"));
        none(root);
    }

    #[test]
    fn whatever_is_in_it_goes() {
        let base = tempfile::tempdir().expect("a folder");
        let root = base.path().join("root");
        std::fs::create_dir(&root).expect("made");
        made_of_all_sorts(&root);
        remove(&root).expect("removed");
        assert!(!root.exists());
        remove(&root).expect("nothing is as good");
        remove(&root.join("x/y")).expect("nor is a parent needed");
    }

    #[test]
    fn however_deep_it_goes() {
        let base = tempfile::tempdir().expect("a folder");
        let root = base.path().join("root");
        nest(&root, 30_000);
        remove(&root).expect("removed");
        assert!(!root.exists());
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let base = tempfile::tempdir().expect("a folder");
        let (root, kept) = (base.path().join("root"), base.path().join("kept"));
        std::fs::create_dir_all(root.join("a/b")).expect("made");
        std::fs::create_dir(&kept).expect("made");
        std::fs::write(kept.join("file"), "mine").expect("written");
        std::fs::set_permissions(&kept, PermissionsExt::from_mode(0o500)).expect("set");
        symlink(&kept, root.join("link")).expect("made");
        symlink(&kept, root.join("a/b/link")).expect("made");
        remove(&root).expect("removed");
        assert_eq!(std::fs::read(kept.join("file")).expect("there"), b"mine");
        let mode = kept.metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o500, "and not touched either");
        // A link in place of the folder goes alone.
        symlink(&kept, &root).expect("made");
        remove(&root).expect("removed");
        assert!(kept.join("file").exists() && root.symlink_metadata().is_err());
    }
}
