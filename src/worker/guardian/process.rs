//! The guardian's own main loop. Runs before any thread exists and starts none.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, SigSet, Signal, killpg, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Pid, dup2_stdin, setsid};

use super::spawn::{IGNORED, close_from_3, prctl, spawn};
use super::tree::{Lineage, Marker, Process, ProcessTable, kill};
use super::wire::{Received, Report, Request, SpawnFailure, Stage, receive, send};

/// First argument that makes this program a guardian.
pub(super) const ARGUMENT: &str = "__guardian";
/// Between two looks at a tree that is being killed.
const KILL_ROUND: Duration = Duration::from_millis(5);
/// The same once [`QUICK_ROUNDS`] were not enough: something is stuck in the kernel.
const SLOW_KILL_ROUND: Duration = Duration::from_millis(100);
const QUICK_ROUNDS: u32 = 200;
/// Between two looks for orphans that belong to no worker, while there are workers.
const ORPHAN_SCAN: Duration = Duration::from_secs(5);

/// Becomes the guardian and never returns, if the program was started as one; else does nothing.
///
/// Must be the first thing in `main`, before any thread exists.
pub fn run_guardian_if_asked() {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_none_or(|arg| arg != ARGUMENT) {
        return;
    }
    let nonce = args.next().unwrap_or_default();
    let code = match Guardian::set_up(&nonce.to_string_lossy()).map(Guardian::run) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("the guardian is started by stdiopool itself, not by hand: {error}");
            1
        }
    };
    std::process::exit(code);
}

struct Guardian {
    socket: OwnedFd,
    signals: SignalFd,
    marker: Marker,
    workers: BTreeMap<u64, Worker>,
    lineage: Lineage,
    /// The supervisor is gone: kill everything, then exit.
    ending: bool,
    next_scan: Instant,
    rounds: u32,
}

struct Worker {
    /// Also the id of its session and process group.
    leader: u32,
    /// The leader was waited for: its pid must not be signalled any more.
    reaped: bool,
    dying: bool,
}

/// What a look at the process table says.
#[derive(Default)]
struct Findings {
    doomed: Vec<Process>,
    /// Dying workers of which something is left.
    held: BTreeSet<u64>,
}

impl Guardian {
    fn set_up(nonce: &str) -> io::Result<Self> {
        let stdin = io::stdin();
        getsockopt(&stdin, sockopt::SockType)?;
        // Whatever the supervisor inherited or left open; this process has opened nothing yet.
        close_from_3(0)?;
        let socket = stdin.as_fd().try_clone_to_owned()?;
        dup2_stdin(std::fs::File::open("/dev/null")?)?;
        // A session of its own: Ctrl-C in the supervisor's terminal does not reach it.
        setsid()?;
        prctl(libc::PR_SET_CHILD_SUBREAPER, 1)?;
        std::fs::write("/proc/self/comm", "sp-guardian")?;
        ignore_signals()?;
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self {
            socket,
            signals: SignalFd::with_flags(&mask, flags)?,
            marker: Marker::new(nonce),
            workers: BTreeMap::new(),
            lineage: Lineage::new(),
            ending: false,
            next_scan: Instant::now(),
            rounds: 0,
        })
    }

    fn run(mut self) {
        self.report(&Report::Ready);
        loop {
            self.wait();
            // Before any request, so that a signal never goes to a leader that is known to be dead.
            self.reap();
            let killing = self.ending || self.workers.values().any(|w| w.dying);
            if killing || (!self.workers.is_empty() && Instant::now() >= self.next_scan) {
                let nothing_left = self.sweep();
                if self.ending && nothing_left {
                    return;
                }
            }
        }
    }

    /// Waits for a request, a child's end or the time to look again; handles a request.
    fn wait(&mut self) {
        let timeout = self.timeout();
        let mut polled = [
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
        ];
        // A socket at its end is always readable: not asked any more.
        let count = if self.ending { 1 } else { 2 };
        let ready = poll(&mut polled[..count], timeout);
        let asked = !self.ending && polled[1].any() == Some(true);
        if matches!(ready, Ok(n) if n > 0) {
            // Only wakes; which children ended is asked of waitpid(2), as signals coalesce.
            while let Ok(Some(_)) = self.signals.read_signal() {}
            if asked {
                self.request();
            }
        }
    }

    fn timeout(&self) -> PollTimeout {
        let wait = if self.ending || self.workers.values().any(|w| w.dying) {
            if self.rounds < QUICK_ROUNDS {
                KILL_ROUND
            } else {
                SLOW_KILL_ROUND
            }
        } else if self.workers.is_empty() {
            return PollTimeout::NONE;
        } else {
            self.next_scan.saturating_duration_since(Instant::now()) + KILL_ROUND
        };
        PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO)
    }

    fn request(&mut self) {
        let (request, fds) = match receive::<Request>(self.socket.as_raw_fd()) {
            Ok(Received::Message(request, fds)) => (request, fds),
            Ok(Received::Garbage) | Err(Errno::EINTR | Errno::EAGAIN) => return,
            Ok(Received::End) | Err(_) => {
                self.ending = true;
                return;
            }
        };
        match request {
            Request::Spawn { id } => self.spawn(id, fds),
            Request::Signal { id, signal } => self.signal(id, signal),
            Request::KillTree { id } => {
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.dying = true;
                    self.rounds = 0;
                }
            }
        }
    }

    fn spawn(&mut self, id: u64, fds: Vec<OwnedFd>) {
        let result = if self.workers.contains_key(&id) {
            Err(SpawnFailure {
                stage: Stage::Launch,
                errno: libc::EEXIST,
            })
        } else {
            spawn(fds, self.marker.value(id))
        };
        match result {
            Ok(pid) => {
                if self.workers.is_empty() {
                    self.next_scan = Instant::now() + ORPHAN_SCAN;
                }
                let worker = Worker {
                    leader: pid,
                    reaped: false,
                    dying: false,
                };
                self.workers.insert(id, worker);
                self.report(&Report::Spawned { id, pid });
            }
            Err(failure) => self.report(&Report::SpawnFailed { id, failure }),
        }
    }

    fn signal(&mut self, id: u64, number: i32) {
        // Its end may wait to be noticed; a zombie's pid and group id are still its own.
        if let Some(worker) = self.workers.get(&id)
            && !worker.reaped
            && let Ok(signal) = Signal::try_from(number)
        {
            // ESRCH: the leader is a zombie and the group has no other member.
            let _no_one_left = killpg(pid_of(worker.leader), signal);
        }
    }

    /// Waits for every child that ended, own or adopted.
    fn reap(&mut self) {
        while let Some((pid, status)) = reap_one() {
            let leader = self
                .workers
                .iter_mut()
                .find(|(_, worker)| !worker.reaped && worker.leader == pid);
            if let Some((&id, worker)) = leader {
                worker.reaped = true;
                worker.dying = true;
                self.rounds = 0;
                self.report(&Report::LeaderExited { id, status });
            }
        }
    }

    /// One look at the process table: kills what must go, reports what is gone. Whether nothing
    /// at all is left below this process.
    fn sweep(&mut self) -> bool {
        self.next_scan = Instant::now() + ORPHAN_SCAN;
        self.rounds = self.rounds.saturating_add(1);
        let Some(first) = self.look() else {
            return false;
        };
        let mut gone: Vec<u64> = self.dead(&first);
        if gone.is_empty() && !(self.ending && first.doomed.is_empty()) {
            return false;
        }
        // A table is read entry by entry and may miss a process born meanwhile: look twice.
        let Some(second) = self.look() else {
            return false;
        };
        gone.retain(|id| !second.held.contains(id));
        for id in gone {
            self.workers.remove(&id);
            self.report(&Report::Gone { id });
        }
        first.doomed.is_empty() && second.doomed.is_empty()
    }

    fn dead(&self, findings: &Findings) -> Vec<u64> {
        let reaped = self.workers.iter().filter(|(_, w)| w.dying && w.reaped);
        reaped
            .map(|(&id, _)| id)
            .filter(|id| !findings.held.contains(id))
            .collect()
    }

    /// Attributes everything below this process to a worker, and kills what has no living one.
    fn look(&mut self) -> Option<Findings> {
        let table = ProcessTable::scan().ok()?;
        let mut findings = Findings::default();
        let mut lineage = Lineage::new();
        for child in table.children(std::process::id()) {
            let owner = self.owner(child);
            let doomed = self.ending
                || owner
                    .and_then(|id| self.workers.get(&id))
                    .is_none_or(|worker| worker.dying);
            for process in table.descent([child]) {
                if let Some(id) = owner {
                    lineage.insert((process.pid, process.started), id);
                }
                if doomed {
                    kill(process);
                    findings.doomed.push(process);
                }
            }
            if doomed && owner.is_some() {
                findings.held.extend(owner);
            } else if doomed && self.rounds < QUICK_ROUNDS {
                // With its environment cleared and never seen below its worker, it may be any dying one's.
                let dying = self.workers.iter().filter(|(_, worker)| worker.dying);
                findings.held.extend(dying.map(|(&id, _)| id));
            }
        }
        self.lineage = lineage;
        Some(findings)
    }

    /// The worker to which a child of this process, often an adopted orphan, belongs.
    fn owner(&self, child: Process) -> Option<u64> {
        let session = self
            .workers
            .iter()
            // The id of a session is not reused while a member lives, even if its leader is reaped.
            .find(|(_, w)| w.leader == child.session && (!w.reaped || w.leader != child.pid))
            .map(|(&id, _)| id);
        let seen = || self.lineage.get(&(child.pid, child.started)).copied();
        let marked = || self.marker.of_process(child.pid);
        session
            .or_else(seen)
            .or_else(marked)
            .filter(|id| self.workers.contains_key(id))
    }

    fn report(&mut self, report: &Report) {
        // Blocks while the supervisor is stopped. That it is gone shows as the socket's end.
        while let Err(Errno::EINTR) = send(self.socket.as_raw_fd(), report, &[]) {}
    }
}

fn pid_of(pid: u32) -> Pid {
    // Linux pids are below 2^22 (PID_MAX_LIMIT).
    Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX))
}

/// One child that ended, and its raw status. Not by nix, which cannot express an end by a
/// real-time signal: the child would be reaped and its pid unknown.
#[allow(
    unsafe_code,
    reason = "nix loses the pid when it does not know the signal"
)]
fn reap_one() -> Option<(u32, i32)> {
    let mut status = 0;
    // SAFETY: `status` is a valid place for an int for the whole call.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    // 0: none ended; -1: there is none.
    u32::try_from(pid)
        .ok()
        .filter(|&pid| pid > 0)
        .map(|pid| (pid, status))
}

#[allow(unsafe_code, reason = "signal dispositions")]
fn ignore_signals() -> nix::Result<()> {
    for ignored in IGNORED {
        // SAFETY: ignoring runs no code of ours.
        unsafe { signal(ignored, SigHandler::SigIgn) }?;
    }
    Ok(())
}
