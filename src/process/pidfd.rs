//! A descriptor of a process, which goes on meaning that one when its pid is another's.

use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Opens a pidfd of the process that has this pid now.
///
/// # Errors
/// `ESRCH` when there is none, and what else the kernel has against it.
pub(crate) fn open_pidfd(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_that_is_nobodys_is_no_such_process() {
        open_pidfd(std::process::id()).expect("this process is there");
        for pid in [0, u32::MAX] {
            let refused = open_pidfd(pid).expect_err("none");
            assert_eq!(refused.raw_os_error(), Some(libc::ESRCH));
        }
    }
}
