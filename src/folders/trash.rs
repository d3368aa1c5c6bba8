//! Folders that are to go are put aside at once, and removed later.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;

use super::remove::{count_failure, remove};

/// The prefix of the names of trash. No tenant's and no package's name begins with a dot.
const PREFIX: &str = ".trash-";
/// Names that are tried; those taken are of an earlier process.
const MAX_NAMES: u32 = 100_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Whether this is the name of something that was put aside.
pub fn is_trash(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Renames something to a name of trash in its folder, which takes no time and no space, whatever it
/// is. Returns the new path; `None` if there is nothing.
///
/// # Errors
/// When the system refuses, as for a mount point or in a folder without permissions.
pub fn put_aside(path: &Path) -> io::Result<Option<PathBuf>> {
    let own = std::process::id();
    for _ in 0..MAX_NAMES {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let aside = path.with_file_name(format!("{PREFIX}{own}-{number}"));
        let Err(error) = std::fs::rename(path, &aside) else {
            return Ok(Some(aside));
        };
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT) => return Ok(None),
            // Left by a process that had this one's id.
            Some(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR | Errno::EISDIR) => {}
            _ => return Err(error),
        }
    }
    Err(Errno::EEXIST.into())
}

/// Empties a folder in no time, and never fails: what was in it is trash, beside it or in it. A folder that cannot
/// even be renamed stays, is logged and counted.
pub fn empty(folder: &Path) {
    let Err(error) = put_aside(folder) else {
        return;
    };
    // A mount point cannot be renamed; what is in it can.
    match put_aside_in(folder) {
        Ok(()) => {}
        Err(_) => {
            count_failure();
            tracing::warn!(folder = %folder.display(), %error, "the folder cannot be emptied");
        }
    }
}

fn put_aside_in(folder: &Path) -> io::Result<()> {
    let metadata = folder.symlink_metadata()?;
    if !metadata.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let mode = metadata.permissions().mode();
    if mode & 0o700 != 0o700 {
        std::fs::set_permissions(folder, Permissions::from_mode(mode | 0o700))?;
    }
    let mut first = Ok(());
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(is_trash) {
            first = first.and(put_aside(&entry.path()).map(drop));
        }
    }
    first
}

/// Removes what was put aside in these folders. Blocks. Trash that stays is logged and counted, and tried again
/// by the next call.
pub fn empty_trash(folders: &[PathBuf]) {
    for folder in folders {
        // None is as good as an empty one.
        let Ok(entries) = std::fs::read_dir(folder) else {
            continue;
        };
        for entry in entries.flatten() {
            if entry.file_name().to_str().is_some_and(is_trash)
                && let Err(error) = remove(&entry.path())
            {
                tracing::warn!("what was left of an earlier run stays for now: {error}");
            }
        }
    }
}

/// Removes what was put aside in these folders, in a thread of its own. Where none can be had, it stays for
/// the next start.
pub fn empty_trash_in_background(folders: Vec<PathBuf>) {
    let started = std::thread::Builder::new()
        .name("trash".to_owned())
        .spawn(move || empty_trash(&folders));
    if let Err(error) = started {
        count_failure();
        tracing::warn!(%error, "what was left of an earlier run stays for now: no thread for it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_empty_at_once_and_its_trash_goes_later() {
        let base = tempfile::tempdir().expect("a folder");
        let folder = base.path().join("tmp");
        for round in 0..3 {
            std::fs::create_dir_all(folder.join("a/b")).expect("made");
            std::fs::set_permissions(&folder, Permissions::from_mode(0o0)).expect("set");
            empty(&folder);
            assert!(!folder.exists(), "{round}");
        }
        std::fs::write(&folder, "a file in its place").expect("written");
        empty(&folder);
        empty(&folder);
        assert!(!folder.exists());
        let names = || std::fs::read_dir(base.path()).expect("there").count();
        assert_eq!(names(), 4);
        empty_trash(&[base.path().to_owned(), base.path().join("none")]);
        assert_eq!(names(), 0);
    }
}
