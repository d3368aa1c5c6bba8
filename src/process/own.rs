//! What a process sets for itself.
#![allow(
    unsafe_code,
    reason = "close_range has no safe wrapper, as it closes what others may own, and sched_setattr has none"
)]

use std::io;
use std::os::fd::RawFd;

use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// `RLIMIT_CORE`, in bytes: less than any core dump needs, and unlike 0 it also keeps dumps from a program in
/// `kernel.core_pattern`.
const CORE_LIMIT: u64 = 1;
/// How long a turn is, in nanoseconds; without this 1.4 ms on two processors, 2.8 on eight.
const TURN: u64 = 300_000;

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
pub(crate) fn close_all_but(mut kept: [RawFd; 2]) -> io::Result<()> {
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

/// Makes the turns short that the kernel gives this thread, and all that it starts, where others want the processor too: a
/// call passes client, supervisor and worker, and at each may wait for the turn of a busy neighbour to end. Linux takes
/// `sched_runtime` of a normal thread for the length of its turn, 0.1 to 100 ms, from 6.12 on; before, it means nothing.
/// A thread with another policy than the normal one stays as it is.
///
/// # Errors
/// When the kernel refuses it.
pub(crate) fn take_short_turns() -> io::Result<()> {
    let mut attr = scheduling()?;
    if i64::from(attr.sched_policy) != i64::from(libc::SCHED_OTHER) {
        return Ok(());
    }
    attr.sched_runtime = TURN;
    // SAFETY: the kernel reads what `attr.size` says, which is all of it.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How this thread is scheduled (sched_getattr(2)).
fn scheduling() -> io::Result<libc::sched_attr> {
    let size = u32::try_from(size_of::<libc::sched_attr>()).map_err(io::Error::other)?;
    // SAFETY: plain numbers, of which all zeros is one.
    let mut attr: libc::sched_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes `size` bytes at most, which is what there is.
    match unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, size, 0) } {
        0 => Ok(attr),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_short_where_the_kernel_knows_of_them() {
        let turn = || scheduling().expect("it is told").sched_runtime;
        // In a thread of its own: others' turns stay as they are.
        let turns = std::thread::spawn(move || {
            let before = turn();
            take_short_turns().expect("it may");
            (before, turn())
        });
        match turns.join().expect("no panic") {
            (0, after) => assert_eq!(after, 0, "an older kernel"),
            (_, after) => assert_eq!(after, TURN),
        }
    }
}
