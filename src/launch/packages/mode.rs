//! Modes of what is installed: it is read-only, and readable by all users that servers run as.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

pub(super) fn set_mode(path: &Path, change: impl FnOnce(u32) -> u32) -> io::Result<()> {
    let mode = path.symlink_metadata()?.permissions().mode();
    std::fs::set_permissions(path, Permissions::from_mode(change(mode)))
}

/// The mode of something that everyone may read, and nobody write; and execute, or pass, if its owner may.
pub(super) fn read_only(mode: u32) -> u32 {
    let run = if mode & 0o100 == 0 { 0 } else { 0o111 };
    // Neither is it run as its owner, whoever made it.
    (mode & !0o7333) | 0o444 | run
}

/// Takes the right to write in a folder and all below it from everyone, and lets everyone read it.
pub(super) fn make_read_only(path: &Path) -> io::Result<()> {
    let kind = path.symlink_metadata()?;
    if kind.is_symlink() {
        return Ok(());
    }
    if kind.is_dir() {
        for item in std::fs::read_dir(path)? {
            make_read_only(&item?.path())?;
        }
    }
    set_mode(path, read_only)
}
