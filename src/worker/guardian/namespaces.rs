//! Namespaces of one worker, beside that of its mounts: of processes and users, which its init process is made in; and of
//! hostname, System V objects and network, which its leader makes for itself.
//!
//! ```text
//!  guardian --clone(pid, user)--> init = process 1 --fork--> leader = process 2, unshare(mounts, ipc, uts, net), exec
//! ```
//!
//! Process 1 is the init process that each worker has anyway, so that no further process waits for orphans: when it ends, the kernel
//! ends all others of the namespace. Namespaces that take long to make, as of a network, the leader makes, so that the guardian does not wait.
#![allow(unsafe_code, reason = "clone, unshare and ioctl")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::sys::prctl::set_dumpable;
use nix::unistd::{Gid, Pid, Uid, geteuid};
use serde::{Deserialize, Serialize};

/// In which namespaces an init process is made.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Namespaces {
    /// A namespace of users, in which there is the process's own only, so that it may make the others.
    pub(crate) user: bool,
    /// A namespace of processes, of which the init process is the first.
    pub(crate) pids: bool,
}

impl Namespaces {
    /// What a worker takes that has a root of its own, or no network.
    pub(crate) fn of(has_own_root: bool, has_network: bool) -> Self {
        let needs_rights = has_own_root || !has_network;
        Self {
            user: needs_rights && !geteuid().is_root(),
            pids: has_own_root,
        }
    }
}

/// fork(2) into namespaces; `None` in the child.
///
/// # Errors
/// When the host does not let them be made, or has no room for a process.
///
/// # Safety
/// The process has one thread.
pub(super) unsafe fn fork_into(namespaces: Namespaces) -> io::Result<Option<Pid>> {
    let mut flags = libc::SIGCHLD;
    if namespaces.user {
        flags |= libc::CLONE_NEWUSER;
    }
    if namespaces.pids {
        flags |= libc::CLONE_NEWPID;
    }
    // SAFETY: without a stack this is fork(2). Four zeroes: their order differs from one processor to another.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::c_long::from(flags), 0, 0, 0, 0) };
    match pid {
        ..0 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => {
            let pid = i32::try_from(pid).map_err(io::Error::other)?;
            Ok(Some(Pid::from_raw(pid)))
        }
    }
}

/// Makes this process, in a new namespace of users, the user and group that it was outside. The first of this namespace does
/// it, before it starts another; `uid` and `gid` are those of the process that made it.
///
/// # Errors
/// When the host forbids it.
pub(super) fn map_user(uid: Uid, gid: Gid) -> io::Result<()> {
    // Else what maps the user in /proc is root's.
    set_dumpable(true)?;
    let mapped = write_maps(uid, gid);
    set_dumpable(false)?;
    mapped
}

fn write_maps(uid: Uid, gid: Gid) -> io::Result<()> {
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}

/// The pid of this process where `/proc` was mounted, which knows those of the namespaces within its own.
///
/// # Errors
/// Without `/proc`.
pub(super) fn pid_outside() -> io::Result<u32> {
    let link = std::fs::read_link("/proc/self")?;
    let pid = link.to_str().and_then(|text| text.parse().ok());
    pid.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
}

/// Makes the namespaces of this process that its init process did not make for it: with a root of its own, those of mounts,
/// hostname and System V objects too.
///
/// # Errors
/// When the host forbids it.
pub(super) fn make_others(has_own_root: bool, has_network: bool) -> io::Result<()> {
    let mut flags = 0;
    if has_own_root {
        flags |= libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    }
    if !has_network {
        flags |= libc::CLONE_NEWNET;
    }
    if flags == 0 {
        return Ok(());
    }
    // SAFETY: takes a number only.
    if unsafe { libc::unshare(flags) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if has_own_root {
        set_hostname()?;
    }
    if !has_network {
        raise_loopback()?;
    }
    Ok(())
}

/// Says the one name that every resolver knows.
fn set_hostname() -> io::Result<()> {
    let name = c"localhost";
    // SAFETY: the text is as long as is said, and lives for the call.
    match unsafe { libc::sethostname(name.as_ptr(), name.count_bytes()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A new network has a loopback that is down (netdevice(7)).
fn raise_loopback() -> io::Result<()> {
    // SAFETY: takes numbers only.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was opened just now and is nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: all zeroes is a valid value of this plain structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = byte.cast_signed();
    }
    let flags = libc::IFF_UP | libc::IFF_RUNNING;
    request.ifr_ifru.ifru_flags = flags.try_into().unwrap_or_default();
    // SAFETY: the structure is the one that this request reads, and lives for the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
