//! Pages other processes out: process_madvise(2) with `MADV_PAGEOUT` over their mappings.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use procfs::process::{MMPermissions, MMapPath, Process};

use crate::process::open_pidfd;

/// Bytes advised in one call, so that a process that is needed meanwhile waits for no more.
const CHUNK: u64 = 8 << 20;

/// Pages out what these processes hold and nobody else uses. Blocks while the kernel writes pages
/// out: some 100 ms for 100 MiB to zram. Stops early when `is_cancelled`.
///
/// # Errors
/// When the kernel does not allow it. A process that has ended meanwhile is none.
pub fn page_out(pids: &[u32], is_cancelled: impl Fn() -> bool) -> io::Result<()> {
    for &pid in pids {
        match page_out_one(pid, &is_cancelled) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            result => result?,
        }
    }
    Ok(())
}

fn page_out_one(pid: u32, is_cancelled: &impl Fn() -> bool) -> io::Result<()> {
    let pidfd = open_pidfd(pid)?;
    for (start, end) in mappings(pid) {
        let mut at = start;
        while at < end {
            if is_cancelled() {
                return Ok(());
            }
            let len = CHUNK.min(end - at);
            match advise(&pidfd, at, len) {
                Ok(()) => at += len,
                // Locked, huge or device memory cannot be paged out, and a mapping may be gone.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOMEM)) => {
                    break;
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// What the process has mapped and may be paged out.
fn mappings(pid: u32) -> Vec<(u64, u64)> {
    let maps = i32::try_from(pid)
        .ok()
        .and_then(|pid| Process::new(pid).ok()?.maps().ok());
    let may_go = |map: &procfs::process::MemoryMap| {
        // Memory that is merely reserved holds nothing; the kernel's own pages are not the process's.
        let is_used = map
            .perms
            .intersects(MMPermissions::READ | MMPermissions::WRITE | MMPermissions::EXECUTE);
        is_used
            && !matches!(
                map.pathname,
                MMapPath::Vdso | MMapPath::Vvar | MMapPath::Vsyscall
            )
    };
    maps.into_iter()
        .flat_map(|maps| maps.0)
        .filter(may_go)
        .map(|map| map.address)
        .collect()
}

#[allow(unsafe_code, reason = "process_madvise has no safe wrapper in nix")]
fn advise(pidfd: &OwnedFd, at: u64, len: u64) -> io::Result<()> {
    let range = libc::iovec {
        iov_base: usize::try_from(at).map_err(io::Error::other)? as *mut libc::c_void,
        iov_len: usize::try_from(len).map_err(io::Error::other)?,
    };
    let (ranges, flags) = (1_usize, 0_usize);
    // SAFETY: the range is an address in the other process, which the kernel checks; only the one
    // iovec is read from our memory, and MADV_PAGEOUT changes no content.
    let done = unsafe {
        libc::syscall(
            libc::SYS_process_madvise,
            pidfd.as_raw_fd(),
            std::ptr::from_ref(&range),
            ranges,
            libc::MADV_PAGEOUT,
            flags,
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
