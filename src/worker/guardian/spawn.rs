//! Executes a worker's program, in a process that its init process has forked for it.
#![allow(unsafe_code, reason = "code between fork and exec")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use nix::sys::prctl::{set_no_new_privs, set_pdeathsig};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, chdir, getppid, setsid};

use super::domain::{self, FileRules};
use super::mounts::{self, Mounts};
use super::root::Root;
use super::wire::{Launch, SpawnFailure, SpawnFds, Stage};
use super::{filter, identity, namespaces, recording};
use crate::process::close_from_3;

/// Signals the guardian ignores; a worker gets the default back, as execve(2) would keep them ignored.
pub(super) const IGNORED: [Signal; 4] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGPIPE,
];

/// The descriptor by which a template is spoken to.
const CONTROL: RawFd = 3;

/// Becomes the leader of a worker, in a process forked for it by its init process `init`; or a template, forked by the guardian, which
/// keeps `control`. Returns only when that fails. The launch data, which holds secrets, is read here and nowhere else.
pub(super) fn execute(fds: SpawnFds, init: Pid, control: Option<OwnedFd>) -> SpawnFailure {
    let failed = |stage, error: &io::Error| SpawnFailure {
        stage,
        errno: error.raw_os_error().unwrap_or(libc::EINVAL),
    };
    let SpawnFds {
        pipes,
        launch,
        sockets,
    } = fds;
    let launch = match Launch::from_memfd(launch) {
        Ok(launch) => launch,
        Err(error) => return failed(Stage::Launch, &error),
    };
    let (sockets, control) = match launch.waits {
        true => (None, sockets),
        false => (sockets, control),
    };
    let [stdin, stdout, stderr] = pipes.map(Stdio::from);
    let mut command = Command::new(&launch.program);
    command
        .arg0(&launch.arg0)
        .args(&launch.args)
        .env_clear()
        .envs(launch.env.iter().map(|(name, value)| (name, value)))
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr);
    let done = Arc::new(AtomicU8::new(0));
    let reached = Arc::clone(&done);
    // SAFETY: the process was forked by one of a single thread, and has one itself: it may do what any process may.
    unsafe {
        command.pre_exec(move || {
            prepare(init, &launch, sockets.as_ref(), &reached)?;
            control.as_ref().map_or(Ok(()), keep_control)
        });
    }
    let error = command.exec();
    failed(stage_of(done.load(Ordering::Relaxed)), &error)
}

/// What was being done when a start failed, by how far it had come.
fn stage_of(reached: u8) -> Stage {
    match reached {
        MOUNTING => Stage::Mounts,
        BECOMING => Stage::Identity,
        ENTERING => Stage::Folder,
        DIVIDING => Stage::Namespaces,
        ROOTING => Stage::Root,
        FILTERING => Stage::Filter,
        GROUPING => Stage::Groups,
        NETWORKING => Stage::Network,
        RECORDING => Stage::Recording,
        _ => Stage::Exec,
    }
}

/// How far a start has come.
const MOUNTING: u8 = 1;
const BECOMING: u8 = 2;
const ENTERING: u8 = 3;
const EXECUTING: u8 = 4;
const DIVIDING: u8 = 5;
const ROOTING: u8 = 6;
const FILTERING: u8 = 7;
const GROUPING: u8 = 8;
const NETWORKING: u8 = 9;
const RECORDING: u8 = 10;

/// What is set between fork and exec. The order is what it is for: mounts need privileges, which go with the user;
/// the folder is entered as that user, below the mounts, since from where it was before `..` led around them; a Landlock domain
/// keeps from mounting; the request to be killed with the parent is forgotten when the user changes; a filter of system calls, which
/// forbids some of these, comes last, and so does one by which calls are recorded.
fn prepare(
    init: Pid,
    launch: &Launch,
    sockets: Option<&OwnedFd>,
    reached: &AtomicU8,
) -> io::Result<()> {
    let reach = |stage| reached.store(stage, Ordering::Relaxed);
    setsid()?;
    reach(RECORDING);
    // Before the limit on descriptors, which its number is above.
    let recorder = match (launch.recording, sockets) {
        (Some(recording), Some(to)) => Some((recording, recording::channel(to)?)),
        _ => None,
    };
    reach(GROUPING);
    for group in &launch.groups {
        // 0 is whoever writes it.
        std::fs::write(group, "0")?;
    }
    limit_files(launch.file_size)?;
    reach(DIVIDING);
    namespaces::make_others(launch.root.is_some(), launch.network.is_host())?;
    reach(NETWORKING);
    launch.network.open(sockets)?;
    reach(ROOTING);
    if let Some(root) = &launch.root {
        root.enter(launch.user.is_some())?;
    }
    reach(MOUNTING);
    let may_make_user_namespace = !launch.may_gain_privileges && launch.user.is_none();
    // Cloned, as this may be called again as far as its type says: it is not.
    let mounts = Mounts::new(launch.mounts.clone(), may_make_user_namespace);
    mounts.with(launch.written.clone()).apply()?;
    reach(BECOMING);
    if let Some(user) = launch.user {
        if launch.root.is_none() {
            mounts::hide_processes();
        }
        identity::become_user(user)?;
        if launch.waits {
            identity::may_become_another()?;
        }
    }
    kill_with_parent(init)?;
    if !launch.may_gain_privileges {
        set_no_new_privs()?;
    }
    if launch.is_apart {
        let writable = launch.root.as_ref().map(Root::writable);
        domain::enter(&writable.map(FileRules::writable).unwrap_or_default())?;
        // Files that a server makes are its own, also in folders that all may write.
        umask(Mode::from_bits_truncate(0o077));
    }
    reach(ENTERING);
    chdir(Path::new(&launch.cwd))?;
    reach(EXECUTING);
    limit(Resource::RLIMIT_NOFILE, launch.open_files)?;
    limit(Resource::RLIMIT_CPU, launch.cpu_seconds)?;
    // On exec rather than now: the pipe by which a failed exec is reported must stay open until then.
    close_from_3(libc::CLOSE_RANGE_CLOEXEC)?;
    for ignored in IGNORED {
        // SAFETY: the default disposition runs no code of ours.
        unsafe { signal(ignored, SigHandler::SigDfl) }?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    if launch.root.is_some() {
        reach(FILTERING);
        filter::apply()?;
        reach(EXECUTING);
    }
    if let Some((recording, channel)) = &recorder {
        reach(RECORDING);
        recording::begin(*recording, channel)?;
        // From here on, what is recorded waits for the supervisor.
        reach(EXECUTING);
    }
    Ok(())
}

/// Leaves a template, or a process that waits, the descriptor by which it is spoken to, across the exec.
fn keep_control(control: &OwnedFd) -> io::Result<()> {
    let kept = match control.as_raw_fd() {
        // SAFETY: takes numbers only; the descriptor is this function's to change.
        CONTROL => unsafe { libc::fcntl(CONTROL, libc::F_SETFD, 0) },
        // SAFETY: takes numbers only; whatever has the number would be closed by the exec that follows.
        other => unsafe { libc::dup2(other, CONTROL) },
    };
    match kept {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
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

/// How long a file may be. A write beyond is an error to whoever makes it, not its end. The hard limit stays, as it is lifted again
/// when there is room; a server that lifts it itself is ended.
fn limit_files(longest: Option<u64>) -> io::Result<()> {
    let Some(longest) = longest else {
        return Ok(());
    };
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE)?;
    setrlimit(Resource::RLIMIT_FSIZE, longest.min(hard), hard)?;
    // SAFETY: ignoring runs no code of ours.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }?;
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
