//! A thread whose call waits: its memory, its descriptors, and the folder that it is in.

use std::io::IoSliceMut;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use super::decode::{Memory, NotRead};
use crate::process::open_pidfd;

/// A thread of a worker, which does not go on before its call is answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acting(pub(super) u32);

impl Acting {
    /// The folder of a descriptor, or the working directory, as the thread sees it.
    pub(super) fn folder(self, descriptor: i32) -> Option<PathBuf> {
        let link = match descriptor {
            libc::AT_FDCWD => format!("/proc/{}/cwd", self.0),
            descriptor => format!("/proc/{}/fd/{descriptor}", self.0),
        };
        std::fs::read_link(link).ok().filter(|it| it.is_absolute())
    }

    /// Whether the process has a descriptor of that number.
    pub(super) fn has(self, descriptor: u32) -> bool {
        let link = format!("/proc/{}/fd/{descriptor}", self.0);
        std::path::Path::new(&link).symlink_metadata().is_ok()
    }

    /// The number of a socket; `None` for another descriptor.
    pub(super) fn socket(self, descriptor: i32) -> Option<u64> {
        let link = std::fs::read_link(format!("/proc/{}/fd/{descriptor}", self.0)).ok()?;
        let name = link.to_str()?.strip_prefix("socket:[")?;
        name.strip_suffix(']')?.parse().ok()
    }

    /// A descriptor of the same open file or socket.
    pub(super) fn duplicate(self, descriptor: i32) -> Option<OwnedFd> {
        let pidfd = open_pidfd(self.process()?).ok()?;
        pidfd_getfd(pidfd, descriptor, PidfdGetfdFlags::empty()).ok()
    }

    /// The process that the thread is of.
    fn process(self) -> Option<u32> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0)).ok()?;
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix("Tgid:"))?;
        line.trim().parse().ok()
    }
}

impl Memory for Acting {
    fn bytes(&self, at: u64, len: usize) -> Result<Vec<u8>, NotRead> {
        let mut bytes = vec![0; len];
        let base = usize::try_from(at).map_err(|_| NotRead::Nothing)?;
        let remote = [RemoteIoVec { base, len }];
        let pid = Pid::from_raw(self.0.cast_signed());
        match process_vm_readv(pid, &mut [IoSliceMut::new(&mut bytes)], &remote) {
            Ok(0) | Err(Errno::EFAULT) => Err(NotRead::Nothing),
            Ok(read) => {
                bytes.truncate(read);
                Ok(bytes)
            }
            Err(_) => Err(NotRead::Refused),
        }
    }
}
