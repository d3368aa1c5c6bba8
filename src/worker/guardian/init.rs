//! A worker's init process: parent of its leader, and what every other process of the worker falls to when its own
//! parent ends. So who belongs to a worker is what descends from its init process, which no process can choose.
//!
//! An init process is a fork of the guardian without exec, so that its memory is the guardian's but for a few pages. The init process keeps
//! the leader unreaped, so that a signal to the leader's group cannot hit another process, until the guardian
//! ends it. When the guardian dies, it kills what it has and ends.
//!
//! ```text
//!  guardian --fork--> init (subreaper) --fork, exec--> leader --> ...
//!     ^                       |   ^------- orphans -----------------+
//!     +-- InitReport (pipe) --+
//! ```
#![allow(
    unsafe_code,
    reason = "fork, waitid and sigwait, in processes of one thread"
)]

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::{set_child_subreaper, set_name, set_pdeathsig};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::{ForkResult, Gid, Pid, Uid, fork, getegid, geteuid, getpid, getppid};

use super::namespaces::{self, Namespaces, fork_into};
use super::spawn::execute;
use super::wire::{SpawnFailure, SpawnFds, Stage};
use crate::process::{close_all_but, end_descendants, open_pidfd};

/// Sent by the kernel when the guardian dies; blocked, and waited for together with the ends of children.
const PARENT_DIED: Signal = Signal::SIGUSR1;
/// How long an init process tries to kill what it has once the guardian is dead.
const END_LIMIT: Duration = Duration::from_secs(60);

/// The reports of an init process, once each, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The program runs.
    Started { leader: u32 },
    /// The leader could not be started; the init process ends.
    Failed(SpawnFailure),
    /// The leader ended; `status` as waitpid(2) gives it.
    Exited { status: i32 },
    /// A template has forked this process, which is to keep a worker.
    Forked { keeper: u32 },
}

/// One packet in the pipe that all init processes write to: short enough to be written and read whole (pipe(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InitReport {
    pub(super) id: u64,
    pub(super) event: Event,
}

impl InitReport {
    /// Bytes of each packet.
    pub(super) const LEN: usize = 20;

    fn to_bytes(self) -> [u8; Self::LEN] {
        let (kind, a, b) = match self.event {
            Event::Started { leader } => (0, leader.cast_signed(), 0),
            Event::Failed(SpawnFailure { stage, errno }) => (1, stage_to_number(stage), errno),
            Event::Exited { status } => (2, status, 0),
            Event::Forked { keeper } => (3, keeper.cast_signed(), 0),
        };
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.id.to_le_bytes());
        for (place, number) in bytes[8..].chunks_exact_mut(4).zip([kind, a, b]) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// Reads a packet; `None` if it is none.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let id = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
        let number = |at: usize| {
            let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
            Some(i32::from_le_bytes(bytes))
        };
        let (kind, a, b) = (number(8)?, number(12)?, number(16)?);
        let event = match kind {
            0 => Event::Started {
                leader: a.cast_unsigned(),
            },
            1 => Event::Failed(SpawnFailure {
                stage: stage_of_number(a),
                errno: b,
            }),
            2 => Event::Exited { status: a },
            3 => Event::Forked {
                keeper: a.cast_unsigned(),
            },
            _ => return None,
        };
        Some(Self { id, event })
    }
}

fn stage_to_number(stage: Stage) -> i32 {
    match stage {
        Stage::Launch => 0,
        Stage::Exec => 1,
        Stage::Init => 2,
        Stage::Mounts => 3,
        Stage::Identity => 4,
        Stage::Folder => 5,
        Stage::Namespaces => 6,
        Stage::Root => 7,
        Stage::Filter => 8,
        Stage::Groups => 9,
        Stage::Network => 10,
        Stage::Recording => 11,
        Stage::Template => 12,
    }
}

/// The stage of that number; [`Stage::Init`] where there is none.
pub(super) fn stage_of_number(number: i32) -> Stage {
    match number {
        0 => Stage::Launch,
        1 => Stage::Exec,
        3 => Stage::Mounts,
        4 => Stage::Identity,
        5 => Stage::Folder,
        6 => Stage::Namespaces,
        7 => Stage::Root,
        8 => Stage::Filter,
        9 => Stage::Groups,
        10 => Stage::Network,
        11 => Stage::Recording,
        12 => Stage::Template,
        _ => Stage::Init,
    }
}

/// The origin of an init process.
struct Origin {
    guardian: Pid,
    /// The guardian, for one that does not see its pid.
    watched: Option<OwnedFd>,
    namespaces: Namespaces,
    user: (Uid, Gid),
}

impl Origin {
    /// Whether the guardian is dead.
    fn is_gone(&self) -> bool {
        let Some(guardian) = &self.watched else {
            return getppid() != self.guardian;
        };
        let mut polled = [PollFd::new(guardian.as_fd(), PollFlags::POLLIN)];
        !matches!(poll(&mut polled, PollTimeout::ZERO), Ok(0))
    }
}

/// Forks the init process of worker `id`, in those namespaces, which starts it on the descriptors of a `Spawn` and says into `pipe`
/// what comes of it. Returns the pid of the init process.
///
/// # Errors
/// When it cannot be forked.
pub(super) fn start(
    id: u64,
    namespaces: Namespaces,
    fds: SpawnFds,
    pipe: BorrowedFd<'_>,
) -> Result<u32, SpawnFailure> {
    let guardian = getpid();
    let watched = match namespaces.pids {
        true => Some(open_pidfd(guardian.as_raw().cast_unsigned())),
        false => None,
    };
    let watched = watched.transpose();
    let origin = Origin {
        guardian,
        watched: watched.map_err(|error| failure(Stage::Namespaces, &error))?,
        namespaces,
        user: (geteuid(), getegid()),
    };
    let stage = match namespaces == Namespaces::default() {
        true => Stage::Exec,
        false => Stage::Namespaces,
    };
    // SAFETY: the guardian has one thread, so that the child may do whatever a process may.
    match unsafe { fork_into(namespaces) } {
        Ok(Some(child)) => Ok(child.as_raw().cast_unsigned()),
        Ok(None) => leave(|| run(id, fds, pipe, &origin)),
        Err(error) => Err(failure(stage, &error)),
    }
}

/// Forks template `id`, a child of the guardian without an init process of its own, which finds `control` as its descriptor 3.
/// Returns its pid; that its program could not be executed is said into `pipe`.
///
/// # Errors
/// When it cannot be forked.
pub(super) fn start_template(
    id: u64,
    fds: SpawnFds,
    pipe: BorrowedFd<'_>,
    control: OwnedFd,
) -> Result<u32, SpawnFailure> {
    let guardian = getpid();
    let pipe = pipe.as_raw_fd();
    // SAFETY: the guardian has one thread, so that the child may do whatever a process may.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => Ok(child.as_raw().cast_unsigned()),
        Ok(ForkResult::Child) => leave(|| {
            let failure = execute(fds, guardian, Some(control));
            tell(pipe, id, Event::Failed(failure));
        }),
        Err(errno) => Err(failure(Stage::Exec, &errno.into())),
    }
}

/// Runs what a forked process does, then ends it without what the guardian would do at its end.
pub(super) fn leave(act: impl FnOnce()) -> ! {
    // A panic must not come out in the copy of the guardian's loop.
    let code = i32::from(catch_unwind(AssertUnwindSafe(act)).is_err());
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(code) }
}

fn failure(stage: Stage, error: &io::Error) -> SpawnFailure {
    let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
    SpawnFailure { stage, errno }
}

fn run(id: u64, fds: SpawnFds, pipe: BorrowedFd<'_>, origin: &Origin) {
    let pipe = pipe.as_raw_fd();
    match begin(fds, pipe, origin) {
        Ok(leader) => {
            let pid = leader.outside;
            tell(pipe, id, Event::Started { leader: pid });
            serve(pipe, id, leader.here, origin);
        }
        Err(failure) => tell(pipe, id, Event::Failed(failure)),
    }
}

/// Pids of the leader: that by which the init process knows it, and that by which all others do.
struct Leader {
    here: u32,
    outside: u32,
}

/// Sets this process up and starts the leader.
fn begin(fds: SpawnFds, pipe: RawFd, origin: &Origin) -> Result<Leader, SpawnFailure> {
    let failed = |error: io::Error| failure(Stage::Exec, &error);
    set_up(origin).map_err(failed)?;
    if origin.namespaces.user {
        let (uid, gid) = origin.user;
        let mapped = namespaces::map_user(uid, gid);
        mapped.map_err(|error| failure(Stage::Namespaces, &error))?;
    }
    let (mut outcome, mut report) = io::pipe().map_err(failed)?;
    let init = getpid();
    // SAFETY: as a fork of the guardian, this process has one thread.
    let leader = match unsafe { fork() }.map_err(|errno| failed(errno.into()))? {
        ForkResult::Parent { child } => child.as_raw(),
        ForkResult::Child => leave(|| {
            let pid = namespaces::pid_outside().unwrap_or_default().to_le_bytes();
            // Nobody is left to tell if this fails, here and below.
            let _init_is_gone = report.write_all(&pid);
            let SpawnFailure { stage, errno } = execute(fds, init, None);
            let [stage, errno] = [stage_to_number(stage), errno].map(i32::to_le_bytes);
            let _init_is_gone = report.write_all(&[stage, errno].concat());
        }),
    };
    drop((report, fds));
    // Nothing of the guardian's: neither its socket, which tells of its death, nor the supervisor's stderr.
    // SAFETY: takes two numbers; 0 is /dev/null, and 2 is used by nobody here.
    unsafe { libc::dup2(0, 2) };
    // Without one to watch, what is kept twice is kept once.
    let watched = origin.watched.as_ref().map_or(pipe, AsRawFd::as_raw_fd);
    close_all_but([pipe, outcome.as_raw_fd(), watched]).map_err(failed)?;
    // Closed by exec, or after the reason why that failed.
    let mut said = Vec::with_capacity(12);
    outcome.read_to_end(&mut said).map_err(failed)?;
    let killed = || failure(Stage::Init, &io::Error::from_raw_os_error(libc::ECHILD));
    let (pid, said) = said.split_first_chunk::<4>().ok_or_else(killed)?;
    let Some((stage, errno)) = said.split_first_chunk::<4>() else {
        let here = leader.cast_unsigned();
        let outside = match origin.namespaces.pids {
            true => u32::from_le_bytes(*pid),
            false => here,
        };
        if outside == 0 {
            return Err(failure(Stage::Namespaces, &io::ErrorKind::NotFound.into()));
        }
        return Ok(Leader { here, outside });
    };
    let errno = errno.try_into().map_or(libc::EINVAL, i32::from_le_bytes);
    let stage = stage_of_number(i32::from_le_bytes(*stage));
    Err(SpawnFailure { stage, errno })
}

fn set_up(origin: &Origin) -> io::Result<()> {
    set_name(c"sp-init")?;
    set_child_subreaper(true)?;
    // Whatever comes waits; only SIGKILL and SIGSTOP do not.
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?;
    set_pdeathsig(PARENT_DIED)?;
    if origin.is_gone() {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

/// Tells the guardian.
pub(super) fn tell(pipe: RawFd, id: u64, event: Event) {
    let bytes = InitReport { id, event }.to_bytes();
    // SAFETY: the buffer is valid for its length. A packet is written whole or, without the guardian, not at all.
    let _guardian_is_gone = unsafe { libc::write(pipe, bytes.as_ptr().cast(), bytes.len()) };
}

/// Reaps orphans, says when the leader has ended, until the guardian kills or leaves this process.
fn serve(pipe: RawFd, id: u64, leader: u32, origin: &Origin) {
    let mut awaited = SigSet::empty();
    awaited.add(Signal::SIGCHLD);
    awaited.add(PARENT_DIED);
    let mut has_ended = false;
    loop {
        while !has_ended && let Some((pid, status)) = peek() {
            if pid == leader {
                has_ended = true;
                tell(pipe, id, Event::Exited { status });
            } else {
                reap(pid);
            }
        }
        if origin.is_gone() {
            // With the first process of a namespace the kernel ends all others.
            if !origin.namespaces.pids {
                end_descendants(END_LIMIT);
            }
            return;
        }
        // Both are blocked: what came before this call is pending, not lost.
        let _either = awaited.wait();
    }
}

/// A child that has ended, which stays; and its status as waitpid(2) gives it.
fn peek() -> Option<(u32, i32)> {
    // SAFETY: all zeroes is a valid value of this plain structure.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is a valid place for the whole call.
    if unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, options) } != 0 {
        return None;
    }
    // SAFETY: waitid fills this in, or leaves the zeroes when no child has ended.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    let status = match info.si_code {
        libc::CLD_EXITED => (status & 0xff) << 8,
        libc::CLD_DUMPED => status | 0x80,
        _ => status,
    };
    u32::try_from(pid)
        .ok()
        .filter(|&pid| pid > 0)
        .map(|pid| (pid, status))
}

fn reap(pid: u32) {
    // SAFETY: no status is asked for.
    unsafe { libc::waitpid(pid.cast_signed(), std::ptr::null_mut(), 0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read_back() {
        let failure = SpawnFailure {
            stage: Stage::Exec,
            errno: libc::ENOENT,
        };
        for event in [
            Event::Started { leader: u32::MAX },
            Event::Failed(failure),
            Event::Exited { status: 9 },
            Event::Forked { keeper: 7 },
        ] {
            let told = InitReport {
                id: u64::MAX,
                event,
            };
            assert_eq!(InitReport::from_bytes(&told.to_bytes()), Some(told));
        }
        assert_eq!(InitReport::from_bytes(&[9; InitReport::LEN]), None);
        assert_eq!(InitReport::from_bytes(&[0; 7]), None);
    }
}
