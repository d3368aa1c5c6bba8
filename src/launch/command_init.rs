//! The process above a command that stdiopool runs for itself (npm, uv, what prints a secret): it ends the command
//! with everything that started when stdiopool ends, in whatever way, or is no longer interested.
//!
//! The init process is this program executed once more, with an empty environment, and renamed `sp-command`; a parent-death signal
//! would not do, as it reaches only the first process, and belongs to the thread that started that.
//!
//! ```text
//!  stdiopool ==== socket: command, then open as long as it is wanted ====> sp-command (subreaper) --> command --> ...
//!            <--- its stdout, stderr; sp-command ends as the command did
//! ```

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::{set_child_subreaper, set_name, set_pdeathsig};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::wait::WaitPidFlag;
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, getpid, getppid, setsid};
use serde::{Deserialize, Serialize};

use super::confinement::{Confine, Confinement};
use crate::process::{close_from_3, end_descendants, keep_private, reap_one, take_over};

/// First argument that makes this program the process above a command.
pub(super) const ARGUMENT: &str = "__command";
/// How long this process tries to kill what the command has left.
const END_LIMIT: Duration = Duration::from_secs(60);
/// Exit status when the command could not be executed, as a shell's.
const NOT_EXECUTED: i32 = 127;

/// Whether this program's `main` calls [`run_command_if_asked`], so that it can be executed for that.
static IS_PREPARED: AtomicBool = AtomicBool::new(false);

/// The command to run. Its environment may hold secrets: no `Debug`.
#[derive(Serialize, Deserialize)]
pub(super) struct CommandStart {
    pub(super) program: OsString,
    pub(super) args: Vec<OsString>,
    pub(super) env: Vec<(OsString, OsString)>,
    pub(super) dir: Option<PathBuf>,
    /// What the command is kept to; `None`: it does what stdiopool may.
    pub(super) confinement: Option<Confinement>,
}

/// Whether [`run_command_if_asked`] was called in this process.
pub(super) fn is_prepared() -> bool {
    IS_PREPARED.load(Ordering::Relaxed)
}

/// Becomes the process above a command and never returns, if the program was started as one; else notes that it can
/// be. Commands that are confined are so by `confine`. Must be called in `main` before any thread exists.
pub fn run_command_if_asked(confine: Confine) {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_none_or(|arg| arg != ARGUMENT) {
        IS_PREPARED.store(true, Ordering::Relaxed);
        return;
    }
    let code = match run(confine) {
        Ok(status) => end_as(status),
        Err(error) => {
            // Stderr is what the one who wants the command reads.
            eprintln!("cannot be run: {error}");
            NOT_EXECUTED
        }
    };
    std::process::exit(code);
}

fn run(confine: Confine) -> io::Result<ExitStatus> {
    let stdin = io::stdin();
    getsockopt(&stdin, sockopt::SockType)?;
    close_from_3(0)?;
    let socket = stdin.as_fd().try_clone_to_owned()?;
    // A session of its own: Ctrl-C in a terminal does not reach it, as it has to outlive stdiopool for a moment, and it has
    // no part in the processor's time that the supervisor's session goes first with.
    setsid()?;
    set_name(c"sp-command")?;
    keep_private()?;
    set_child_subreaper(true)?;
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    let ends = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let (command, stdin_of_command) = take_over::<CommandStart>(socket.as_fd())?;
    let (leader, held) = start(command, stdin_of_command, confine)?;
    // The command alone holds its pipes open, so that their end is its end.
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    let status = until_the_end(leader, &socket, &ends);
    end_descendants(END_LIMIT);
    // A lock that stdin may be: kept until nothing is left that could touch what it protects.
    drop(held);
    Ok(status.unwrap_or(ExitStatus::from_raw(libc::SIGKILL)))
}

/// Starts the command; its pid, and its stdin.
#[allow(unsafe_code, reason = "what is set between fork and exec")]
fn start(wanted: CommandStart, stdin: OwnedFd, confine: Confine) -> io::Result<(u32, OwnedFd)> {
    let held = stdin.try_clone()?;
    let mut command = Command::new(wanted.program);
    command
        .args(wanted.args)
        .env_clear()
        .envs(wanted.env)
        .stdin(Stdio::from(stdin));
    if let Some(dir) = &wanted.dir {
        command.current_dir(dir);
    }
    let (confinement, dir, init) = (wanted.confinement, wanted.dir, getpid());
    let prepare = move || prepare(confinement.as_ref(), dir.as_deref(), confine, init);
    // SAFETY: this process has one thread, so that the child may do whatever a process may.
    unsafe { command.pre_exec(prepare) };
    #[allow(
        clippy::disallowed_methods,
        reason = "a command of stdiopool's own, not a worker"
    )]
    let child = command.spawn()?;
    Ok((child.id(), held))
}

/// Runs in the child between fork and exec.
#[allow(unsafe_code, reason = "a signal's disposition")]
fn prepare(
    confinement: Option<&Confinement>,
    dir: Option<&Path>,
    confine: Confine,
    init: Pid,
) -> io::Result<()> {
    if let Some(confinement) = confinement {
        // What it sends to its own group does not reach this process's parent.
        setsid()?;
        confine(confinement, dir).inspect_err(|error| {
            // Stderr is what the one who wants the command reads; the error itself arrives as a number.
            eprintln!("its sandbox cannot be had: {error}");
        })?;
    }
    // Should the process above be killed; it has one thread. Forgotten when the user changes, so that this comes behind.
    set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != init {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // SAFETY: the default disposition runs no code of ours.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// Waits until the command has ended, or nobody wants it any more (`None`).
fn until_the_end(leader: u32, socket: &OwnedFd, ends: &SignalFd) -> Option<ExitStatus> {
    loop {
        while let Some((pid, status)) = reap_one(WaitPidFlag::empty()) {
            if pid == leader {
                return Some(ExitStatus::from_raw(status));
            }
        }
        let mut polled = [
            PollFd::new(socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(ends.as_fd(), PollFlags::POLLIN),
        ];
        // Interrupted: the loop looks again.
        let _ready = poll(&mut polled, PollTimeout::NONE);
        // Nothing is sent: readable is its end.
        if polled[0].any() == Some(true) {
            return None;
        }
        while let Ok(Some(_)) = ends.read_signal() {}
    }
}

/// Ends this process by the signal that ended the command; or else the exit status to end with.
fn end_as(status: ExitStatus) -> i32 {
    if let Some(number) = status.signal() {
        if let Ok(signal) = Signal::try_from(number) {
            let _unblocked = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
            let _ends = nix::sys::signal::raise(signal);
        }
        return 128 + number;
    }
    status.code().unwrap_or(NOT_EXECUTED)
}
