//! A worker's init process: parent of its leader, and what every other process of the worker falls to when its own
//! parent ends. So who belongs to a worker is what descends from its init process, which no process can choose.
//!
//! It is a fork of the guardian without exec, so that its memory is the guardian's but for a few pages. It keeps
//! the leader unreaped, so that a signal to the leader's group cannot hit another process, until the guardian
//! ends it. When the guardian dies, it kills what it has and ends.
//!
//! ```text
//!  guardian --fork--> init (subreaper) --fork, exec--> leader --> ...
//!     ^                 |   ^----------- orphans ------------------+
//!     +-- Told (pipe) --+
//! ```
#![allow(
    unsafe_code,
    reason = "fork, waitid and sigwait, in processes of one thread"
)]

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use nix::sys::prctl::{set_child_subreaper, set_name, set_pdeathsig};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};

use super::spawn::execute;
use super::wire::{SPAWN_FDS, SpawnFailure, Stage};
use crate::process::{close_all_but, end_descendants};

/// Sent by the kernel when the guardian dies; blocked, and waited for together with the ends of children.
const PARENT_DIED: Signal = Signal::SIGUSR1;
/// How long it tries to kill what it has once the guardian is dead.
const END_LIMIT: Duration = Duration::from_secs(60);

/// What an init process says, once each, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The program runs.
    Started { leader: u32 },
    /// It could not be started; the init process ends.
    Failed(SpawnFailure),
    /// The leader ended; `status` as waitpid(2) gives it.
    Exited { status: i32 },
}

/// One packet in the pipe that all init processes write to: short enough to be written and read whole (pipe(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) id: u64,
    pub(super) event: Event,
}

impl Told {
    /// Bytes of each packet.
    pub(super) const LEN: usize = 20;

    fn to_bytes(self) -> [u8; Self::LEN] {
        let (kind, a, b) = match self.event {
            Event::Started { leader } => (0, leader.cast_signed(), 0),
            Event::Failed(SpawnFailure { stage, errno }) => (1, stage_to_number(stage), errno),
            Event::Exited { status } => (2, status, 0),
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
    }
}

fn stage_of_number(number: i32) -> Stage {
    match number {
        0 => Stage::Launch,
        1 => Stage::Exec,
        _ => Stage::Init,
    }
}

/// Forks the init process of worker `id`, which starts it on the descriptors of a `Spawn` and says into `pipe` what
/// comes of it. Its pid.
///
/// # Errors
/// When it cannot be forked.
pub(super) fn start(
    id: u64,
    fds: [OwnedFd; SPAWN_FDS],
    pipe: BorrowedFd<'_>,
) -> Result<u32, SpawnFailure> {
    let guardian = getpid();
    // SAFETY: the guardian has one thread, so that the child may do whatever a process may.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => Ok(child.as_raw().cast_unsigned()),
        Ok(ForkResult::Child) => leave(|| run(id, fds, pipe, guardian)),
        Err(errno) => Err(failure(Stage::Exec, &errno.into())),
    }
}

/// Runs what a forked process does, then ends it without what the guardian would do at its end.
fn leave(act: impl FnOnce()) -> ! {
    // A panic must not come out in the copy of the guardian's loop.
    let code = i32::from(catch_unwind(AssertUnwindSafe(act)).is_err());
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(code) }
}

fn failure(stage: Stage, error: &io::Error) -> SpawnFailure {
    let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
    SpawnFailure { stage, errno }
}

fn run(id: u64, fds: [OwnedFd; SPAWN_FDS], pipe: BorrowedFd<'_>, guardian: Pid) {
    let pipe = pipe.as_raw_fd();
    match begin(fds, pipe, guardian) {
        Ok(leader) => {
            tell(pipe, id, Event::Started { leader });
            serve(pipe, id, leader, guardian);
        }
        Err(failure) => tell(pipe, id, Event::Failed(failure)),
    }
}

/// Sets this process up and starts the leader; its pid.
fn begin(fds: [OwnedFd; SPAWN_FDS], pipe: RawFd, guardian: Pid) -> Result<u32, SpawnFailure> {
    let failed = |error: io::Error| failure(Stage::Exec, &error);
    set_up(guardian).map_err(failed)?;
    let (mut outcome, mut teller) = io::pipe().map_err(failed)?;
    let init = getpid();
    // SAFETY: as a fork of the guardian, this process has one thread.
    let leader = match unsafe { fork() }.map_err(|errno| failed(errno.into()))? {
        ForkResult::Parent { child } => child.as_raw(),
        ForkResult::Child => leave(|| {
            let SpawnFailure { stage, errno } = execute(fds, init);
            let [stage, errno] = [stage_to_number(stage), errno].map(i32::to_le_bytes);
            // Nobody is left to tell if this fails.
            let _init_is_gone = teller.write_all(&[stage, errno].concat());
        }),
    };
    drop((teller, fds));
    // Nothing of the guardian's: neither its socket, which tells of its death, nor the supervisor's stderr.
    // SAFETY: takes two numbers; 0 is /dev/null, and 2 is used by nobody here.
    unsafe { libc::dup2(0, 2) };
    close_all_but([pipe, outcome.as_raw_fd()]).map_err(failed)?;
    // Closed by exec, or after the reason why that failed.
    let mut said = Vec::with_capacity(8);
    outcome.read_to_end(&mut said).map_err(failed)?;
    let Some((stage, errno)) = said.split_first_chunk::<4>() else {
        return Ok(leader.cast_unsigned());
    };
    let errno = errno.try_into().map_or(libc::EINVAL, i32::from_le_bytes);
    let stage = stage_of_number(i32::from_le_bytes(*stage));
    Err(SpawnFailure { stage, errno })
}

fn set_up(guardian: Pid) -> io::Result<()> {
    set_name(c"sp-init")?;
    set_child_subreaper(true)?;
    // Whatever comes waits; only SIGKILL and SIGSTOP do not.
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?;
    set_pdeathsig(PARENT_DIED)?;
    if getppid() != guardian {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

fn tell(pipe: RawFd, id: u64, event: Event) {
    let bytes = Told { id, event }.to_bytes();
    // SAFETY: the buffer is valid for its length. A packet is written whole or, without the guardian, not at all.
    let _guardian_is_gone = unsafe { libc::write(pipe, bytes.as_ptr().cast(), bytes.len()) };
}

/// Reaps orphans, says when the leader has ended, until the guardian kills or leaves this process.
fn serve(pipe: RawFd, id: u64, leader: u32, guardian: Pid) {
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
        if getppid() != guardian {
            end_descendants(END_LIMIT);
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
        ] {
            let told = Told {
                id: u64::MAX,
                event,
            };
            assert_eq!(Told::from_bytes(&told.to_bytes()), Some(told));
        }
        assert_eq!(Told::from_bytes(&[9; Told::LEN]), None);
        assert_eq!(Told::from_bytes(&[0; 7]), None);
    }
}
