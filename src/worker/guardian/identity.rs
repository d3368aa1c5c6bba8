//! Becomes the user of a tenant, for good.
#![allow(unsafe_code, reason = "calls that nix has no safe wrapper for")]

use std::io;
use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_keepcaps;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use crate::process::{give_up_all_privileges, inherit_privileges};

/// Makes this process one of `user`, in the group of that number and no other, without any capability, now or by what
/// it executes, and with stdin, stdout and stderr its own. Not to be undone.
///
/// # Errors
/// When the kernel refuses a step: then the process must not go on.
pub(super) fn become_user(user: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    if uid.is_root() {
        return Err(Errno::EINVAL.into());
    }
    leave_keyring()?;
    own_pipes(user)?;
    drop_bounds()?;
    set_keepcaps(false)?;
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    give_up_all_privileges()?;
    Ok(())
}

/// Makes a namespace of users, without any as yet, in which what this process executes may change its user and group, and nothing else. For one
/// that has no rights; whoever has some over the namespace says which users there are (`adoption.rs`).
///
/// # Errors
/// When the host forbids it.
pub(super) fn may_become_another() -> io::Result<()> {
    /// CAP_SETGID and CAP_SETUID.
    const KEPT: [u32; 2] = [6, 7];
    unshare(CloneFlags::CLONE_NEWUSER)?;
    inherit_privileges(&KEPT)?;
    // Ambient capabilities alone go through execve(2), and the bounding set does not limit them.
    for number in KEPT.map(libc::c_ulong::from) {
        let raise = libc::PR_CAP_AMBIENT_RAISE.cast_unsigned();
        // SAFETY: takes numbers only.
        if unsafe {
            libc::prctl(
                libc::PR_CAP_AMBIENT,
                libc::c_ulong::from(raise),
                number,
                0,
                0,
            )
        } != 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    drop_bounds()
}

/// A session keyring of its own: what is in the one that stdiopool was started with is the operator's (session-keyring(7)).
fn leave_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: takes a number and a pointer, which is null for a keyring without a name.
    let joined = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, none) };
    if joined >= 0 {
        return Ok(());
    }
    match Errno::last() {
        // A kernel or container without keyrings has nothing to leave.
        Errno::ENOSYS | Errno::EPERM => Ok(()),
        errno => Err(errno.into()),
    }
}

/// Lets it open its own stdin, stdout and stderr anew, as `/dev/stderr` does: a pipe belongs to who made it.
fn own_pipes(user: u32) -> io::Result<()> {
    (0..3).try_for_each(|fd| give(fd, user))
}

/// Makes a pipe that user's.
///
/// # Errors
/// When the kernel refuses it.
pub(super) fn give(pipe: RawFd, user: u32) -> io::Result<()> {
    // SAFETY: takes numbers only.
    match unsafe { libc::fchown(pipe, user, user) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes every capability out of what a program could be given when it is executed.
fn drop_bounds() -> io::Result<()> {
    for capability in 0..64 as libc::c_ulong {
        // SAFETY: takes numbers only.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            return match Errno::last() {
                // The kernel knows none of that number or above.
                Errno::EINVAL => Ok(()),
                // Without CAP_SETPCAP they stay, and no new privileges are to be had by them (PR_SET_NO_NEW_PRIVS).
                Errno::EPERM => Ok(()),
                errno => Err(errno.into()),
            };
        }
    }
    Ok(())
}
