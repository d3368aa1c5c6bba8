//! How the kernel shares the processors between the supervisor and what runs beside it (sched(7)).
#![allow(unsafe_code, reason = "sched_setattr(2) has no safe wrapper")]

use std::io;
use std::path::Path;

use nix::unistd::{getpid, getsid};

/// How long a time slice is, in nanoseconds; without this 1.4 ms on two processors, 2.8 on eight.
pub(super) const SLICE: u64 = 300_000;
/// How long a time slice of a process is that goes behind others, in nanoseconds: whoever has a shorter one may interrupt it.
pub(super) const LONG_SLICE: u64 = 3_000_000;
/// Niceness of the supervisor's threads and of its session: nine times the weight of a process with 0.
const PRECEDENCE: i32 = -10;
/// The thread that asks.
const OWN: libc::pid_t = 0;
/// What a thread starts does not inherit its niceness (`SCHED_FLAG_RESET_ON_FORK`).
const RESET_ON_FORK: u64 = 1;
/// Niceness of the session that this process is of, where the kernel groups by sessions (sched(7), "The autogroup feature").
const OF_SESSION: &str = "/proc/self/autogroup";

/// Makes the time slices short that the kernel gives this thread, and all that it starts, where others want the processor too: a
/// call passes client, supervisor and worker, and at each may wait for the time slice of a busy neighbour to end. Linux takes
/// `sched_runtime` of a normal thread for the length of its time slice, 0.1 to 100 ms, from 6.12 on; before, it means nothing.
/// A thread with another policy than the normal one stays as it is.
///
/// # Errors
/// When the kernel refuses it.
pub(crate) fn take_short_slices() -> io::Result<()> {
    let mut attr = scheduling(OWN)?;
    if i64::from(attr.sched_policy) != i64::from(libc::SCHED_OTHER) {
        return Ok(());
    }
    attr.sched_runtime = SLICE;
    schedule_as(OWN, &attr)
}

/// Gives a thread of the normal policy time slices of that length, in nanoseconds, if they are as long as they `had` to be.
/// Kernels that have one length for all time slices tell 0, and leave them.
///
/// # Errors
/// When the kernel refuses it: the thread is gone, or another user's and this process has not CAP_SYS_NICE.
pub(super) fn set_slice(thread: libc::pid_t, had: u64, length: u64) -> io::Result<()> {
    let mut attr = scheduling(thread)?;
    if i64::from(attr.sched_policy) != i64::from(libc::SCHED_OTHER) || attr.sched_runtime != had {
        return Ok(());
    }
    attr.sched_runtime = length;
    schedule_as(thread, &attr)
}

/// How long a thread's time slices are, in nanoseconds; 0 where the kernel does not tell.
#[cfg(test)]
pub(super) fn slice_of(thread: libc::pid_t) -> io::Result<u64> {
    Ok(scheduling(thread)?.sched_runtime)
}

fn schedule_as(thread: libc::pid_t, attr: &libc::sched_attr) -> io::Result<()> {
    // SAFETY: the kernel reads what `attr.size` says, which is all of it.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, thread, &raw const *attr, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How a thread is scheduled (sched_getattr(2)).
fn scheduling(thread: libc::pid_t) -> io::Result<libc::sched_attr> {
    let size = u32::try_from(size_of::<libc::sched_attr>()).map_err(io::Error::other)?;
    // SAFETY: plain numbers, of which all zeros is one.
    let mut attr: libc::sched_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes `size` bytes at most, which is what there is.
    match unsafe { libc::syscall(libc::SYS_sched_getattr, thread, &raw mut attr, size, 0) } {
        0 => Ok(attr),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets the runtime's threads go before workers and other processes, thread by thread: each calls this when it starts. What
/// a thread starts (threads, processes) begins with the usual niceness and usual time slices. A thread whose policy or niceness
/// somebody chose stays as it is.
///
/// # Errors
/// When the kernel refuses it: a niceness below 0 takes CAP_SYS_NICE, or `RLIMIT_NICE`.
pub(crate) fn take_precedence() -> io::Result<()> {
    let mut attr = scheduling(OWN)?;
    if i64::from(attr.sched_policy) != i64::from(libc::SCHED_OTHER) || attr.sched_nice != 0 {
        return Ok(());
    }
    attr.sched_nice = PRECEDENCE;
    attr.sched_flags |= RESET_ON_FORK;
    schedule_as(OWN, &attr)
}

/// Lets this process's session go before the sessions of workers, where the kernel shares the processors by sessions first
/// and by niceness within each: it would be one of as many as there are busy workers. Only the leader of a session may say
/// so, since the session is its own then: a service manager starts services as such. A shell's session stays as it is.
///
/// # Errors
/// When the kernel refuses it: that takes CAP_SYS_NICE, or `RLIMIT_NICE`.
pub(crate) fn take_precedence_of_session() -> io::Result<()> {
    let is_own = getsid(None)? == getpid();
    if !is_own || !Path::new(OF_SESSION).exists() {
        return Ok(());
    }
    let now = std::fs::read_to_string(OF_SESSION)?;
    // "/autogroup-NUMBER nice NICENESS"; nothing where the kernel could group, and does not.
    if now.trim_end().ends_with(" nice 0") {
        std::fs::write(OF_SESSION, PRECEDENCE.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_short_where_the_kernel_knows_of_them() {
        let slice = || scheduling(OWN).expect("it is told").sched_runtime;
        // In a thread of its own: others' time slices stay as they are.
        let slices = std::thread::spawn(move || {
            let before = slice();
            take_short_slices().expect("it may");
            (before, slice())
        });
        match slices.join().expect("no panic") {
            (0, after) => assert_eq!(after, 0, "an older kernel"),
            (_, after) => assert_eq!(after, SLICE),
        }
    }

    #[test]
    fn whoever_may_goes_first_and_starts_what_does_not() {
        let nice = || scheduling(OWN).expect("it is told").sched_nice;
        let seen = std::thread::spawn(move || {
            let before = nice();
            let taken = take_precedence();
            let of_child = std::thread::spawn(nice).join().expect("no panic");
            (before, taken, nice(), of_child)
        });
        match seen.join().expect("no panic") {
            (0, Ok(()), own, of_child) => assert_eq!((own, of_child), (PRECEDENCE, 0)),
            (0, Err(error), own, _) => {
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
                assert_eq!(own, 0);
            }
            (chosen, taken, own, _) => assert!(taken.is_ok() && own == chosen),
        }
    }
}
