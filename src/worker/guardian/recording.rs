//! Puts a worker behind a filter that lets recorded calls wait until the supervisor has looked at them (seccomp_unotify(2)), and hands the
//! supervisor their queue.
#![allow(unsafe_code, reason = "seccomp(2) and descriptors by number")]

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde::{Deserialize, Serialize};

use super::filter::OF_TERMINALS;
use crate::worker::recorder::call_queue::NATIVE;
use crate::worker::recorder::calls::{CALLS, CALLS_OF_HOSTS};
use crate::worker::recorder::decode::NEW_NAMESPACES;

/// What of a worker is recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Recording {
    /// Paths, and calls that a strict server may not make.
    Isolation,
    /// Hosts as well.
    All,
}

/// The number of the leader's end of the channel, above those that a worker comes to: the filter lets calls on it pass.
const CHANNEL: RawFd = 900;

/// The descriptor by which the queue is handed over, under a number by which the filter knows it.
///
/// # Errors
/// When there is no room for it.
pub(super) fn channel(to: &OwnedFd) -> io::Result<OwnedFd> {
    let command = |least: RawFd| {
        // SAFETY: takes numbers only.
        unsafe { libc::fcntl(to.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) }
    };
    let mut fd = command(CHANNEL);
    if fd < 0 {
        // The limit of open files may be lower.
        fd = command(3);
    }
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was made just now and is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts this process, and what it starts, behind the filter, and sends the queue. From then on recorded calls wait. The process must be
/// unable to gain privileges.
///
/// # Errors
/// When the kernel has no such filters (before Linux 5.5), this process is behind one already, or the supervisor is gone.
pub(super) fn begin(recording: Recording, channel: &OwnedFd) -> io::Result<()> {
    let program = program(recording, channel.as_raw_fd());
    let queue = install(&program)?;
    let fds = [queue.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(
        channel.as_raw_fd(),
        &[IoSlice::new(&[QUEUE])],
        &rights,
        flags,
        None,
    )?;
    Ok(())
}

/// What the packet with the queue says; that with the sockets of a network says another.
pub(super) const QUEUE: u8 = 1;

/// Tries the filter, which this process is behind from then on.
///
/// # Errors
/// As [`begin`].
pub(super) fn try_out() -> io::Result<()> {
    install(&program(Recording::Isolation, CHANNEL)).map(drop)
}

fn install(program: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_ptr().cast_mut(),
    };
    let listening = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // Else each signal lets a call begin anew, and wait again (before Linux 5.19).
    let once = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let seccomp = |flags: libc::c_ulong| {
        let operation = libc::SECCOMP_SET_MODE_FILTER;
        // SAFETY: the program is as long as it says, and lives for the call.
        unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, &raw const program) }
    };
    let mut fd = seccomp(listening | once);
    if fd < 0 && Errno::last() == Errno::EINVAL {
        fd = seccomp(listening);
    }
    let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0);
    let fd = fd.ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel made it just now, and it is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opcodes: `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JEQ | BPF_K`, `BPF_JMP | BPF_JSET | BPF_K`, `BPF_RET | BPF_K`.
const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_SET: u16 = 0x45;
const RETURN: u16 = 0x06;
/// Offsets in `seccomp_data`, in bytes; of an argument, that of the lower half on processors that have it first.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const fn argument(n: u32) -> u32 {
    16 + 8 * n
}

/// Waits for recorded calls: one statement after another, each pair for a call.
fn program(recording: Recording, channel: RawFd) -> Vec<libc::sock_filter> {
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let wait = step(RETURN, libc::SECCOMP_RET_USER_NOTIF, 0, 0);
    let pass = step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0);
    let mut steps = vec![
        step(LOAD, ARCH, 0, 0),
        step(JUMP_IF_EQUAL, NATIVE, 1, 0),
        wait,
        step(LOAD, NUMBER, 0, 0),
    ];
    let of_hosts = match recording {
        Recording::Isolation => &[][..],
        Recording::All => CALLS_OF_HOSTS,
    };
    for (number, _) in CALLS.iter().chain(of_hosts) {
        // System calls have small numbers.
        let Ok(call) = u32::try_from(*number) else {
            continue;
        };
        let decided = |at: u32, test: u16, k: u32, is_set: libc::sock_filter, other| {
            vec![
                step(JUMP_IF_EQUAL, call, 0, 4),
                step(LOAD, argument(at), 0, 0),
                step(test, k, 0, 1),
                is_set,
                other,
            ]
        };
        let of_descriptor = libc::AT_EMPTY_PATH.cast_unsigned();
        let namespaces = u32::try_from(NEW_NAMESPACES).unwrap_or(u32::MAX);
        let [put_text, of_console] = OF_TERMINALS;
        // The record leaves out calls that ask for a descriptor alone, make a thread or a process, send the queue, or ask a terminal for what a
        // strict server may ask too.
        steps.extend(match *number {
            libc::SYS_ioctl => vec![
                step(JUMP_IF_EQUAL, call, 0, 5),
                step(LOAD, argument(1), 0, 0),
                step(JUMP_IF_EQUAL, put_text, 1, 0),
                step(JUMP_IF_EQUAL, of_console, 0, 1),
                wait,
                pass,
            ],
            libc::SYS_newfstatat => decided(3, JUMP_IF_SET, of_descriptor, pass, wait),
            libc::SYS_statx => decided(2, JUMP_IF_SET, of_descriptor, pass, wait),
            libc::SYS_clone | libc::SYS_unshare => decided(0, JUMP_IF_SET, namespaces, wait, pass),
            libc::SYS_sendmsg => decided(0, JUMP_IF_EQUAL, channel.cast_unsigned(), pass, wait),
            _ => vec![step(JUMP_IF_EQUAL, call, 0, 1), wait],
        });
    }
    steps.push(pass);
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program decides of a call.
    fn decision(program: &[libc::sock_filter], arch: u32, number: i64, args: [u32; 6]) -> u32 {
        let mut loaded = 0;
        let mut at = 0;
        loop {
            let it = &program[at];
            at += 1;
            let jump = |is: bool| usize::from(if is { it.jt } else { it.jf });
            match it.code {
                LOAD => {
                    loaded = match it.k {
                        NUMBER => u32::try_from(number).expect("small"),
                        ARCH => arch,
                        k => args[usize::try_from((k - 16) / 8).expect("small")],
                    }
                }
                JUMP_IF_EQUAL => at += jump(loaded == it.k),
                JUMP_IF_SET => at += jump(loaded & it.k != 0),
                RETURN => return it.k,
                code => panic!("no such step: {code}"),
            }
        }
    }

    #[test]
    fn recorded_calls_wait_and_others_pass() {
        let (wait, pass) = (libc::SECCOMP_RET_USER_NOTIF, libc::SECCOMP_RET_ALLOW);
        let all = program(Recording::All, 900);
        let isolation = program(Recording::Isolation, 900);
        // BPF_MAXINSNS
        assert!(all.len() < 4096);
        for (number, is_of_isolation) in [
            (libc::SYS_openat, true),
            (libc::SYS_execve, true),
            (libc::SYS_bpf, true),
            (libc::SYS_read, false),
            (libc::SYS_sendto, false),
        ] {
            assert_eq!(decision(&all, NATIVE, number, [0; 6]), wait);
            let of_isolation = if is_of_isolation { wait } else { pass };
            assert_eq!(decision(&isolation, NATIVE, number, [0; 6]), of_isolation);
        }
        let of = |number, args| decision(&all, NATIVE, number, args);
        assert_eq!(of(libc::SYS_getpid, [0; 6]), pass);
        assert_eq!(of(libc::SYS_newfstatat, [3, 0, 0, 0x1000, 0, 0]), pass);
        assert_eq!(of(libc::SYS_newfstatat, [3, 0, 0, 0x100, 0, 0]), wait);
        let user = libc::CLONE_NEWUSER.cast_unsigned();
        assert_eq!(of(libc::SYS_clone, [user | 17, 0, 0, 0, 0, 0]), wait);
        assert_eq!(of(libc::SYS_clone, [17, 0, 0, 0, 0, 0]), pass);
        for (request, decided) in [(0x5412, wait), (0x541c, wait), (0x5401, pass)] {
            let args = [0, request, 0, 0, 0, 0];
            assert_eq!(of(libc::SYS_ioctl, args), decided, "{request:#x}");
            assert_eq!(of(libc::SYS_fcntl, args), pass);
        }
        assert_eq!(of(libc::SYS_sendmsg, [900, 0, 0, 0, 0, 0]), pass);
        assert_eq!(of(libc::SYS_sendmsg, [9, 0, 0, 0, 0, 0]), wait);
        assert_eq!(decision(&all, NATIVE ^ 1, libc::SYS_getpid, [0; 6]), wait);
    }
}
