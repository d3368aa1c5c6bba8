//! How much of the disk a worker's own folders take, and what keeps it from taking more.
//!
//! The kernel keeps each file within the limit (`RLIMIT_FSIZE`); all together are measured. A worker over its limit gets errors
//! when it makes files longer (EFBIG), until some of it is gone: it can still remove, and read.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// Files and folders that one look counts: with more, what was counted is what is known.
const MAX_ENTRIES: usize = 500_000;

/// Bytes on the disk of everything in these folders, and of files that those processes hold open and have removed.
pub fn disk_usage(folders: &[PathBuf], pids: &[u32]) -> u64 {
    let mut left = MAX_ENTRIES;
    let mut total: u64 = 0;
    let mut waiting: Vec<PathBuf> = folders.to_vec();
    while let Some(folder) = waiting.pop() {
        // A link that was put there meanwhile leads to sizes only.
        for item in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Some(rest) = left.checked_sub(1) else {
                return total;
            };
            left = rest;
            let Ok(meta) = item.metadata() else { continue };
            total = total.saturating_add(meta.blocks().saturating_mul(512));
            if meta.is_dir() {
                waiting.push(item.path());
            }
        }
    }
    let removed = pids.iter().map(|pid| removed_files(*pid, folders));
    removed.fold(total, u64::saturating_add)
}

/// Of files in these folders that have no name any more.
fn removed_files(pid: u32, folders: &[PathBuf]) -> u64 {
    let open = fs::read_dir(format!("/proc/{pid}/fd"));
    let sizes = open.into_iter().flatten().flatten().filter_map(|item| {
        let name = fs::read_link(item.path()).ok()?;
        let name = name.to_str()?.strip_suffix(" (deleted)")?;
        // As the worker sees it, which may be below another path.
        let is_own = folders
            .iter()
            .any(|folder| Path::new(name).starts_with(folder));
        let is_temporary = name.starts_with("/tmp/") || name.starts_with("/var/tmp/");
        let meta = fs::metadata(item.path()).ok()?;
        (is_own || is_temporary).then_some(meta.blocks().saturating_mul(512))
    });
    sizes.sum()
}

/// Sets how long files may be that these processes write, in bytes, from now on.
///
/// # Errors
/// When one may not be limited, as those of other users where root lacks CAP_SYS_RESOURCE; those that have ended are passed over.
#[allow(unsafe_code, reason = "nix has no wrapper for other processes' limits")]
pub fn limit_files(pids: &[u32], longest: u64) -> std::io::Result<()> {
    for pid in pids {
        let pid = pid.cast_signed();
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: the old limit has a place for the call; a new one is not set.
        let had =
            unsafe { libc::prlimit(pid, libc::RLIMIT_FSIZE, std::ptr::null(), &raw mut limit) };
        // The hard one stays, as raising it again takes a privilege.
        limit.rlim_cur = longest.min(limit.rlim_max);
        // SAFETY: the new limit lives for the call; the old one is not asked for.
        let has_failed = had != 0
            || unsafe {
                libc::prlimit(
                    pid,
                    libc::RLIMIT_FSIZE,
                    &raw const limit,
                    std::ptr::null_mut(),
                )
            } != 0;
        if has_failed && Errno::last() != Errno::ESRCH {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_removed_files_are_counted_and_links_are_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("deep")).expect("made");
        fs::write(folder.path().join("deep/file"), vec![1; 1 << 20]).expect("written");
        std::os::unix::fs::symlink("/usr", folder.path().join("link")).expect("linked");
        let folders = [folder.path().to_owned()];
        let used = disk_usage(&folders, &[]);
        assert!((1 << 20..1 << 21).contains(&used), "{used}");
        let held = fs::File::open(folder.path().join("deep/file")).expect("there");
        fs::remove_file(folder.path().join("deep/file")).expect("there");
        assert!(disk_usage(&folders, &[]) < 1 << 20);
        assert!(disk_usage(&folders, &[std::process::id()]) >= 1 << 20);
        drop(held);
    }
}
