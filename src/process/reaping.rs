//! Children that have ended, one at a time.

use nix::sys::wait::WaitPidFlag;

/// One child of this process that has ended, or with `WUNTRACED` was stopped, and its raw status; `None` if there is none now. Not by
/// nix, which cannot express an end by a real-time signal: the child would be reaped and its pid unknown.
#[allow(
    unsafe_code,
    reason = "nix loses the pid when it does not know the signal"
)]
pub(crate) fn reap_one(which: WaitPidFlag) -> Option<(u32, i32)> {
    let mut status = 0;
    let which = (which | WaitPidFlag::WNOHANG).bits();
    // SAFETY: `status` is a valid place for an int for the whole call.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, which) };
    // 0: none ended; -1: there is none.
    u32::try_from(pid)
        .ok()
        .filter(|&pid| pid > 0)
        .map(|pid| (pid, status))
}
