//! The kernel's queue of recorded calls (seccomp_unotify(2)): each waits until it is let go on.
#![allow(unsafe_code, reason = "ioctl(2) with structures of the kernel")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A call that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    id: u64,
    /// The thread that makes it.
    pub(super) thread: u32,
    /// The number of the call; `None` for one of another processor's interface, such as of 32 bits.
    pub(super) number: Option<i64>,
    pub(super) args: [u64; 6],
}

/// The queue of a worker with all its processes.
#[derive(Debug)]
pub(super) struct CallQueue(OwnedFd);

/// `SECCOMP_IOCTL_NOTIF_*`: direction, size of the structure, `!`, and a number.
const fn request(direction: u64, size: usize, number: u64) -> u64 {
    direction << 30 | (size as u64) << 16 | (b'!' as u64) << 8 | number
}
const READ_AND_WRITE: u64 = 3;
const WRITE: u64 = 1;
const RECEIVE: u64 = request(READ_AND_WRITE, size_of::<libc::seccomp_notif>(), 0);
const ANSWER: u64 = request(READ_AND_WRITE, size_of::<libc::seccomp_notif_resp>(), 1);
const IS_VALID: u64 = request(WRITE, size_of::<u64>(), 2);

#[cfg(target_arch = "x86_64")]
pub(crate) const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
pub(crate) const NATIVE: u32 = 0xc000_00b7;
#[cfg(target_arch = "riscv64")]
pub(crate) const NATIVE: u32 = 0xc000_00f3;

impl CallQueue {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Waits for the next call; `None` when no process of the worker is left.
    ///
    /// # Errors
    /// When the kernel has something against it: then nothing can be recorded any more.
    pub(super) fn next(&self) -> io::Result<Option<Waiting>> {
        loop {
            let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match poll(&mut polled, PollTimeout::NONE) {
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let events = polled[0].revents().unwrap_or(PollFlags::empty());
            if !events.contains(PollFlags::POLLIN) {
                return Ok(None);
            }
            // SAFETY: all zeroes is a valid value of this plain structure, and what the kernel asks for.
            let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
            match self.ioctl(RECEIVE, (&raw mut call).cast()) {
                Ok(()) => {}
                // The thread was killed meanwhile.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => {
                    continue;
                }
                Err(error) => return Err(error),
            }
            let is_native = call.data.arch == NATIVE;
            return Ok(Some(Waiting {
                id: call.id,
                thread: call.pid,
                number: is_native.then(|| i64::from(call.data.nr)),
                args: call.data.args,
            }));
        }
    }

    /// Whether the call still waits, so that what was read of its process is of that process.
    pub(super) fn is_waiting(&self, call: &Waiting) -> bool {
        let mut id = call.id;
        self.ioctl(IS_VALID, (&raw mut id).cast()).is_ok()
    }

    /// Lets a call go on, or fails it with an error number.
    pub(super) fn answer(&self, call: &Waiting, error: Option<i32>) {
        let mut answer = libc::seccomp_notif_resp {
            id: call.id,
            val: 0,
            error: error.map_or(0, |number| -number),
            flags: 0,
        };
        if error.is_none() {
            answer.flags = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or(1);
        }
        // The thread was killed meanwhile.
        let _nobody_waits = self.ioctl(ANSWER, (&raw mut answer).cast());
    }

    fn ioctl(&self, request: u64, argument: *mut libc::c_void) -> io::Result<()> {
        // SAFETY: each caller passes a pointer to the structure that its request reads and writes, which lives for the call.
        match unsafe { libc::ioctl(self.0.as_raw_fd(), request as _, argument) } {
            ..0 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_those_of_the_kernel() {
        assert_eq!(RECEIVE, 0xc050_2100);
        assert_eq!(ANSWER, 0xc018_2101);
        assert_eq!(IS_VALID, 0x4008_2102);
    }
}
