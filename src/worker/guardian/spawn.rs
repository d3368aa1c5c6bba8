//! Forks and executes a worker, in the guardian.
#![allow(unsafe_code, reason = "code between fork and exec, and prctl")]

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::unistd::{Pid, getpid, getppid, setsid};

use super::MARKER_VARIABLE;
use super::wire::{Launch, SPAWN_FDS, SpawnFailure, Stage};

/// Signals the guardian ignores; a worker gets the default back, as execve(2) would keep them ignored.
pub(super) const IGNORED: [Signal; 4] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGPIPE,
];

/// Starts a worker on the descriptors of a `Spawn`. Returns when its program runs, with its pid.
pub(super) fn spawn(fds: Vec<OwnedFd>, marker: String) -> Result<u32, SpawnFailure> {
    let failed = |stage, errno| SpawnFailure { stage, errno };
    let fds: [OwnedFd; SPAWN_FDS] = fds
        .try_into()
        .map_err(|_| failed(Stage::Launch, libc::EBADF))?;
    let [stdin, stdout, stderr, launch] = fds;
    let launch = Launch::from_memfd(launch)
        .map_err(|error| failed(Stage::Launch, error.raw_os_error().unwrap_or(libc::EINVAL)))?;
    let mut command = Command::new(&launch.program);
    command
        .arg0(&launch.arg0)
        .args(&launch.args)
        .env_clear()
        .envs(launch.env.iter().map(|(name, value)| (name, value)))
        .env(MARKER_VARIABLE, marker)
        .current_dir(&launch.cwd)
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(stdout))
        .stderr(Stdio::from(stderr));
    let guardian = getpid();
    let limits = Limits {
        open_files: launch.open_files,
        cpu_seconds: launch.cpu_seconds,
        may_gain_privileges: launch.may_gain_privileges,
    };
    // SAFETY: `prepare` only makes system calls: it allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(move || prepare(guardian, &limits));
    }
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the one place that starts workers"
    )]
    let child = command.spawn();
    // Dropping a `Child` neither kills nor reaps it; the guardian reaps by pid.
    child.map(|child| child.id()).map_err(|error| {
        let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
        failed(Stage::Exec, errno)
    })
}

/// What the kernel holds the worker to.
struct Limits {
    open_files: Option<u64>,
    cpu_seconds: Option<u64>,
    may_gain_privileges: bool,
}

/// Runs in the child between fork and exec.
fn prepare(guardian: Pid, limits: &Limits) -> io::Result<()> {
    setsid()?;
    kill_with_parent(guardian)?;
    if !limits.may_gain_privileges {
        prctl(libc::PR_SET_NO_NEW_PRIVS, 1)?;
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

/// The leader dies with the guardian. The guardian has one thread, so "the creating thread" of
/// prctl(2) is the process; and it may have died before the request was made.
fn kill_with_parent(guardian: Pid) -> io::Result<()> {
    prctl(
        libc::PR_SET_PDEATHSIG,
        libc::c_ulong::try_from(libc::SIGKILL).unwrap_or(9),
    )?;
    if getppid() != guardian {
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

/// Closes every descriptor from 3 on, as `flags` of close_range(2) say.
pub(super) fn close_from_3(flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: takes numbers only. Callers own no descriptor from 3 on, or let exec close it.
    match unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// prctl(2) with one argument.
pub(super) fn prctl(option: libc::c_int, argument: libc::c_ulong) -> io::Result<()> {
    let zero: libc::c_ulong = 0;
    // SAFETY: the options used here take numbers, no pointers.
    match unsafe { libc::prctl(option, argument, zero, zero, zero) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
