//! What a process sets for itself.
#![allow(
    unsafe_code,
    reason = "close_range has no safe wrapper, as it closes what others may own"
)]

use std::io;
use std::os::fd::RawFd;

use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// `RLIMIT_CORE`, in bytes: less than any core dump needs, and unlike 0 it also keeps dumps from a program in
/// `kernel.core_pattern`.
const CORE_LIMIT: u64 = 1;

/// Closes this process to others of its user (`/proc/PID/{environ,mem,fd}`, ptrace(2)), and rules out core dumps.
/// Holds across fork(2); execve(2) takes back the former.
///
/// # Errors
/// When the kernel refuses it.
pub(crate) fn keep_private() -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    let limit = CORE_LIMIT.min(hard);
    setrlimit(Resource::RLIMIT_CORE, limit, limit)?;
    Ok(set_dumpable(false)?)
}

/// Closes every descriptor from 3 on, as `flags` of close_range(2) say.
///
/// # Errors
/// When the kernel refuses it.
pub(crate) fn close_from_3(flags: libc::c_uint) -> io::Result<()> {
    close(3, libc::c_uint::MAX, flags)
}

/// Closes every descriptor from 3 on but those in `kept`.
///
/// # Errors
/// When the kernel refuses it.
pub(crate) fn close_all_but<const COUNT: usize>(mut kept: [RawFd; COUNT]) -> io::Result<()> {
    kept.sort_unstable();
    let mut from = 3;
    for fd in kept
        .into_iter()
        .filter_map(|fd| libc::c_uint::try_from(fd).ok())
    {
        if fd > from {
            close(from, fd - 1, 0)?;
        }
        from = from.max(fd + 1);
    }
    close(from, libc::c_uint::MAX, 0)
}

fn close(first: libc::c_uint, last: libc::c_uint, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: takes numbers only. Callers own no descriptor in the range, or let exec close it.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
