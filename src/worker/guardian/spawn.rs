//! Executes a worker's program, in a process that its init process has forked for it.
#![allow(unsafe_code, reason = "code between fork and exec")]

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::prctl::{set_no_new_privs, set_pdeathsig};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::unistd::{Pid, getppid, setsid};

use super::mounts::ReadOnly;
use super::wire::{Launch, SPAWN_FDS, SpawnFailure, Stage};
use crate::process::close_from_3;

/// Signals the guardian ignores; a worker gets the default back, as execve(2) would keep them ignored.
pub(super) const IGNORED: [Signal; 4] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGPIPE,
];

/// Becomes the leader of a worker, in a process forked for it by its init process `init`. Returns only when that
/// fails. The launch data, which holds secrets, is read here and nowhere else.
pub(super) fn execute(fds: [OwnedFd; SPAWN_FDS], init: Pid) -> SpawnFailure {
    let failed = |stage, error: &io::Error| SpawnFailure {
        stage,
        errno: error.raw_os_error().unwrap_or(libc::EINVAL),
    };
    let [stdin, stdout, stderr, launch] = fds;
    let launch = match Launch::from_memfd(launch) {
        Ok(launch) => launch,
        Err(error) => return failed(Stage::Launch, &error),
    };
    let mut command = Command::new(&launch.program);
    command
        .arg0(&launch.arg0)
        .args(&launch.args)
        .env_clear()
        .envs(launch.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&launch.cwd)
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(stdout))
        .stderr(Stdio::from(stderr));
    let read_only = ReadOnly::new(launch.read_only, launch.may_gain_privileges);
    let limits = Limits {
        open_files: launch.open_files,
        cpu_seconds: launch.cpu_seconds,
        may_gain_privileges: launch.may_gain_privileges,
    };
    // SAFETY: `prepare` only makes system calls: it allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(move || prepare(init, &limits, &read_only));
    }
    failed(Stage::Exec, &command.exec())
}

/// What the kernel holds the worker to.
struct Limits {
    open_files: Option<u64>,
    cpu_seconds: Option<u64>,
    may_gain_privileges: bool,
}

/// Runs in the child between fork and exec.
fn prepare(init: Pid, limits: &Limits, read_only: &ReadOnly) -> io::Result<()> {
    setsid()?;
    read_only.apply()?;
    kill_with_parent(init)?;
    if !limits.may_gain_privileges {
        set_no_new_privs()?;
    }
    limit(Resource::RLIMIT_NOFILE, limits.open_files)?;
    limit(Resource::RLIMIT_CPU, limits.cpu_seconds)?;
    // On exec rather than now: the pipe by which a failed exec is reported must stay open until then.
    close_from_3(libc::CLOSE_RANGE_CLOEXEC)?;
    for ignored in IGNORED {
        // SAFETY: the default disposition runs no code of ours.
        unsafe { signal(ignored, SigHandler::SigDfl) }?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// The leader dies with its init process, which has one thread, so that "the creating thread" of prctl(2) is the
/// process; and it may have died before the request was made.
fn kill_with_parent(init: Pid) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != init {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

fn limit(resource: Resource, value: Option<u64>) -> io::Result<()> {
    if let Some(value) = value {
        // Without privileges the hard limit can only go down.
        let (_, hard) = getrlimit(resource)?;
        let value = value.min(hard);
        setrlimit(resource, value, value)?;
    }
    Ok(())
}
