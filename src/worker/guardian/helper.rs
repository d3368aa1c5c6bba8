//! Gives a worker that was forked from a template what takes privileges: a process of the guardian's own, for each such start.
//!
//! The template has no rights, as it has imported what others wrote. Its fork makes a namespace of users, in which there is one user,
//! that of its tenant, and is handed a namespace of mounts and a Landlock ruleset:
//!
//! ```text
//!  leader: unshare(user) --pid--> helper: maps the user, control groups, mounts; setns(user), unshare(mounts)
//!         <--"go", mounts, ruleset--  ends
//!  leader: setns(mounts), becomes the user, gives up all rights, enters the domain
//! ```
#![allow(
    unsafe_code,
    reason = "fork, setns and unshare, in a process of one thread"
)]

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::{set_name, set_pdeathsig};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};

use super::init::leave;
use super::mounts::{self, Mounts};
use super::wire::{Launch, SpawnFailure, SpawnFds, Stage};
use super::{domain, identity};
use crate::process::{Process, close_all_but, receive_packet};

/// Forks the helper of a worker that `template` is to fork, which is spoken to by `socket`. Returns its pid.
///
/// # Errors
/// When it cannot be forked.
pub(super) fn start(template: u32, fds: &SpawnFds, socket: OwnedFd) -> Result<u32, SpawnFailure> {
    let guardian = getpid();
    // SAFETY: the guardian has one thread, so that the child may do whatever a process may.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => Ok(child.as_raw().cast_unsigned()),
        Ok(ForkResult::Child) => leave(|| {
            // The leader finds the socket closed, and says that the start has failed.
            let _told_by_the_leader = help(guardian, template, fds, &socket);
        }),
        Err(errno) => Err(SpawnFailure {
            stage: Stage::Template,
            errno: errno as i32,
        }),
    }
}

fn help(guardian: Pid, template: u32, fds: &SpawnFds, socket: &OwnedFd) -> io::Result<()> {
    set_name(c"sp-helper")?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != guardian {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    let launch = fds.launch.try_clone()?;
    let [stdin, stdout, stderr] = fds.pipes.each_ref().map(AsRawFd::as_raw_fd);
    // Nothing of the guardian's: the other end of the socket above all.
    close_all_but([
        stdin,
        stdout,
        stderr,
        launch.as_raw_fd(),
        socket.as_raw_fd(),
    ])?;
    let launch = Launch::from_memfd(launch)?;
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    let user = launch.user.filter(|user| *user != 0).ok_or_else(invalid)?;
    if launch.mounts.is_empty() || launch.root.is_some() || !launch.network.is_host() {
        return Err(invalid());
    }
    for pipe in [stdin, stdout, stderr] {
        identity::give(pipe, user)?;
    }
    Mounts::new(launch.mounts, false)
        .with(launch.written)
        .apply()?;
    mounts::hide_processes();
    let ruleset = domain::ruleset()?;
    let leader = leader(guardian, template, socket)?;
    for group in &launch.groups {
        std::fs::write(group, leader.pid.to_string())?;
    }
    for map in ["uid_map", "gid_map"] {
        std::fs::write(leader.file(map), format!("{user} {user} 1"))?;
    }
    setns(
        File::open(leader.file("ns/user"))?,
        CloneFlags::CLONE_NEWUSER,
    )?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    let mounts = File::open("/proc/self/ns/mnt")?;
    let handed: Vec<RawFd> = std::iter::once(mounts.as_raw_fd())
        .chain(ruleset.as_ref().map(AsRawFd::as_raw_fd))
        .collect();
    let rights = [ControlMessage::ScmRights(&handed)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(b"go")],
        &rights,
        flags,
        None,
    )?;
    Ok(())
}

/// The process that becomes the worker's leader.
struct Leader {
    pid: u32,
    /// The leader's folder in `/proc`, which is no other process's.
    folder: File,
}

impl Leader {
    fn file(&self, name: &str) -> String {
        format!("/proc/self/fd/{}/{name}", self.folder.as_raw_fd())
    }
}

/// Waits for the leader to say its pid. Only a child of a child of the guardian's that is in the session of the template is believed.
fn leader(guardian: Pid, template: u32, socket: &OwnedFd) -> io::Result<Leader> {
    let mut said = [0; 4];
    let (len, _) = receive_packet(socket.as_fd(), &mut said)?;
    if len != said.len() {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    let pid = u32::from_le_bytes(said);
    let folder = File::open(format!("/proc/{pid}"))?;
    let guardian = guardian.as_raw().cast_unsigned();
    let is_it = Process::now(pid).is_some_and(|leader| {
        let keeper = Process::now(leader.parent);
        keeper.is_some_and(|keeper| keeper.parent == guardian && keeper.session == template)
    });
    match is_it {
        true => Ok(Leader { pid, folder }),
        false => Err(io::Error::from_raw_os_error(libc::EPERM)),
    }
}
