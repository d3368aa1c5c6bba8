//! The guardian's own main loop. Runs before any thread exists and starts none.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::{set_child_subreaper, set_name};
use nix::sys::signal::{SigHandler, SigSet, Signal, killpg, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::wait::WaitPidFlag;
use nix::unistd::{dup2_stdin, setsid};

use super::super::cgroup::remove_groups_of;
use super::super::processor_use::processor_time;
use super::init::{self, Event, InitReport};
use super::mounts;
use super::namespaces::Namespaces;
use super::probe;
use super::spawn::IGNORED;
use super::state::{Guardian, Origin, Worker, pid_of};
use super::templates;
use super::wire::{
    ForkedFrom, Received, Report, Request, SpawnFailure, SpawnFds, Stage, receive, send,
};
use crate::process::{
    ProcessTable, RunState, close_from_3, give_up_privileges, keep_private, kill, reap_one,
    take_short_slices,
};

/// First argument that makes this program a guardian.
pub(super) const ARGUMENT: &str = "__guardian";
/// Between two looks at a tree that is being killed.
const KILL_ROUND: Duration = Duration::from_millis(5);
/// Between two looks at a tree that is being killed once [`QUICK_ROUNDS`] were not enough: something is stuck in the kernel.
const SLOW_KILL_ROUND: Duration = Duration::from_millis(100);
const QUICK_ROUNDS: u32 = 200;
/// Between two looks for what belongs to no worker, while there are workers. Orphans that fall to this process are looked for
/// when an init process ends; this look is for those that one may have missed.
const STRAY_SCAN: Duration = Duration::from_secs(30);
/// Status, as waitpid(2) gives it, of a leader of which only that it was killed is known.
const KILLED: i32 = libc::SIGKILL;

/// Becomes the guardian and never returns, if the program was started as one; else does nothing.
///
/// Must be the first thing in `main`, before any thread exists.
pub fn run_guardian_if_asked() {
    mounts::try_if_asked();
    probe::try_if_asked();
    let mut args = std::env::args_os().skip(1);
    if args.next().is_none_or(|arg| arg != ARGUMENT) {
        return;
    }
    let code = match Guardian::set_up().map(Guardian::run) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("the guardian is started by stdiopool itself, not by hand: {error}");
            1
        }
    };
    std::process::exit(code);
}

/// The findings of a look at the process table.
#[derive(Default)]
struct Findings {
    /// Children that are no worker's init process: all must go.
    strays: usize,
    /// Init processes of workers that are ended.
    inits: usize,
}

impl Guardian {
    fn set_up() -> io::Result<Self> {
        let stdin = io::stdin();
        getsockopt(&stdin, sockopt::SockType)?;
        // Whatever the supervisor inherited or left open; this process has opened nothing yet.
        close_from_3(0)?;
        let socket = stdin.as_fd().try_clone_to_owned()?;
        let supervisor = std::os::unix::process::parent_id();
        dup2_stdin(std::fs::File::open("/dev/null")?)?;
        // A session of its own: Ctrl-C in the supervisor's terminal does not reach it.
        setsid()?;
        // Workers inherit it; where the kernel has no such slices, those of workers are longer.
        let _as_they_are = take_short_slices();
        set_child_subreaper(true)?;
        set_name(c"sp-guardian")?;
        // A host that keeps it from that has taken more away.
        let _as_it_is = give_up_privileges(true);
        keep_private()?;
        ignore_signals()?;
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let (told, reports) = io::pipe()?;
        fcntl(&told, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self {
            socket,
            signals: SignalFd::with_flags(&mask, flags)?,
            told,
            reports,
            workers: BTreeMap::new(),
            renamed: BTreeMap::new(),
            supervisor,
            ending: false,
            next_scan: Instant::now(),
            rounds: 0,
        })
    }

    fn run(mut self) {
        self.report(&Report::Ready);
        loop {
            self.wait();
            // Before the ends of init processes, which have said all they had to.
            self.hear();
            self.hear_templates();
            self.reap();
            let killing = self.ending || self.workers.values().any(|w| w.dying);
            if killing || (!self.workers.is_empty() && Instant::now() >= self.next_scan) {
                let nothing_left = self.sweep();
                if self.ending && nothing_left {
                    // One that lives removes its own, and may be making some for another guardian.
                    if std::os::unix::process::parent_id() != self.supervisor {
                        remove_groups_of(self.supervisor);
                    }
                    return;
                }
            }
        }
    }

    /// Waits for a request, a child's end or the time to look again; handles a request.
    fn wait(&mut self) {
        let timeout = self.timeout();
        let controls = self.controls();
        let mut polled = vec![
            PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.told.as_fd(), PollFlags::POLLIN),
        ];
        let heard = controls.values().map(|control| control.ours.as_fd());
        polled.extend(heard.map(|control| PollFd::new(control, PollFlags::POLLIN)));
        // A socket at its end is always readable: not asked any more.
        let first = usize::from(self.ending);
        let ready = poll(&mut polled[first..], timeout);
        let asked = !self.ending && polled[0].any() == Some(true);
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
        let (request, fds) = match receive::<Request>(self.socket.as_fd()) {
            Ok(Received::Message(request, fds)) => (request, fds),
            Ok(Received::Garbage) => return,
            Err(error) if is_passing(&error) => return,
            Ok(Received::End) | Err(_) => {
                self.ending = true;
                return;
            }
        };
        match request {
            Request::Spawn {
                id,
                namespaces,
                origin,
            } => self.spawn(id, namespaces, origin, fds),
            Request::Signal { id, signal } => self.signal(id, signal),
            Request::Ping => self.report(&Report::Pong),
            Request::KillTree { id } => {
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.dying = true;
                    self.rounds = 0;
                    worker.give_up_fork();
                }
            }
        }
    }

    fn spawn(&mut self, id: u64, namespaces: Namespaces, origin: ForkedFrom, fds: Vec<OwnedFd>) {
        let failed = |errno| SpawnFailure {
            stage: Stage::Launch,
            errno,
        };
        if let ForkedFrom::Waiting(from) = origin {
            if let Err(failure) = self.adopt(from, id, fds) {
                self.report(&Report::SpawnFailed { id, failure });
            }
            return;
        }
        let started = if self.workers.contains_key(&id) {
            Err(failed(libc::EEXIST))
        } else {
            // Left out by the kernel where this process may open no more files.
            let fds = SpawnFds::of(fds).ok_or_else(|| failed(libc::EMFILE));
            fds.and_then(|fds| match origin {
                ForkedFrom::Init => init::start(id, namespaces, fds, self.reports.as_fd())
                    .map(|init| Worker::new(init, Origin::Init)),
                ForkedFrom::Guardian => templates::start(id, fds, self.reports.as_fd()),
                ForkedFrom::Template(template) => self.fork_of(template, id, fds),
                ForkedFrom::Waiting(_) => Err(failed(libc::EINVAL)),
            })
        };
        match started {
            Ok(worker) => {
                if self.workers.is_empty() {
                    self.next_scan = Instant::now() + STRAY_SCAN;
                }
                if let (Some(pid), init) = (worker.leader, worker.init) {
                    self.report(&Report::Spawned { id, pid, init });
                }
                self.workers.insert(id, worker);
            }
            Err(failure) => self.report(&Report::SpawnFailed { id, failure }),
        }
    }

    fn signal(&mut self, id: u64, number: i32) {
        // The leader may be a zombie, whose pid and group id are still its own: nobody but this process could reap
        // it once its init process is dead, and has not.
        if let Some(worker) = self.workers.get(&id)
            && !worker.init_reaped
            && let Some(leader) = worker.leader
            && let Ok(signal) = Signal::try_from(number)
        {
            // ESRCH: the leader is a zombie and the group has no other member.
            let _no_one_left = killpg(pid_of(leader), signal);
        }
    }

    /// Takes what init processes have said.
    fn hear(&mut self) {
        let mut bytes = [0; InitReport::LEN * 64];
        // WouldBlock: nothing more was said. All packets are as long, so that none is read in part.
        while let Ok(len @ 1..) = self.told.read(&mut bytes) {
            for report in bytes[..len]
                .chunks_exact(InitReport::LEN)
                .filter_map(InitReport::from_bytes)
            {
                self.take(report);
            }
        }
    }

    pub(super) fn take(&mut self, InitReport { id, event }: InitReport) {
        let id = self.renamed.get(&id).copied().unwrap_or(id);
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        match event {
            Event::Started { leader } => {
                worker.leader = Some(leader);
                let init = worker.init;
                let pid = leader;
                self.report(&Report::Spawned { id, pid, init });
            }
            Event::Failed(failure) => {
                worker.failure = Some(failure);
                if matches!(worker.origin, Origin::Waiting { .. }) {
                    worker.dying = true;
                    self.rounds = 0;
                }
            }
            Event::Exited { status } => {
                worker.dying = true;
                self.rounds = 0;
                self.leader_exited(id, status);
            }
            // Init processes are no forks of a template.
            Event::Forked { .. } => {}
        }
    }

    /// Reports the end of a leader, once.
    fn leader_exited(&mut self, id: u64, status: i32) {
        if let Some(worker) = self.workers.get_mut(&id)
            && !std::mem::replace(&mut worker.exited, true)
        {
            // Both are still there, as zombies at least, unless something killed the init process.
            let pids: Vec<u32> = worker.leader.into_iter().chain([worker.init]).collect();
            let used_ms = u64::try_from(processor_time(&pids).as_millis()).unwrap_or(u64::MAX);
            self.report(&Report::LeaderExited {
                id,
                status,
                used_ms,
            });
        }
    }

    /// Waits for every child that ended: init processes, and what has fallen to this process.
    fn reap(&mut self) {
        while let Some((pid, status)) = reap_one(WaitPidFlag::WUNTRACED) {
            if libc::WIFSTOPPED(status) {
                // Only a worker would do that to its init process, to be rid of it.
                let _ended_meanwhile = nix::sys::signal::kill(pid_of(pid), Signal::SIGCONT);
                continue;
            }
            let mut workers = self.workers.iter_mut();
            if let Some((&id, worker)) = workers.find(|(_, w)| !w.init_reaped && w.init == pid) {
                worker.init_reaped = true;
                worker.dying = true;
                self.rounds = 0;
                if matches!(worker.origin, Origin::Guardian(_)) {
                    self.leader_exited(id, status);
                    self.template_ended(id);
                }
                continue;
            }
            if self.helper_ended(pid) || self.adopter_ended(pid) {
                continue;
            }
            let mut workers = self.workers.iter();
            let leader = workers.find(|(_, w)| w.init_reaped && w.leader == Some(pid));
            if let Some((&id, _)) = leader {
                self.leader_exited(id, status);
            }
        }
    }

    /// One look at the process table: kills what must go, reports what is gone. Whether nothing
    /// at all is left below this process.
    fn sweep(&mut self) -> bool {
        self.next_scan = Instant::now() + STRAY_SCAN;
        self.rounds = self.rounds.saturating_add(1);
        let Some(first) = self.look() else {
            return false;
        };
        if first.strays > 0 {
            return false;
        }
        // A table is read entry by entry and may miss a process born meanwhile: look twice.
        let Some(second) = self.look() else {
            return false;
        };
        if second.strays > 0 {
            return false;
        }
        let over = self.workers.iter().filter(|(_, w)| w.init_reaped);
        let over: Vec<u64> = over.map(|(&id, _)| id).collect();
        for id in over {
            self.gone(id);
        }
        first.inits == 0 && second.inits == 0
    }

    /// Nothing of a worker is left.
    fn gone(&mut self, id: u64) {
        self.renamed.retain(|_, to| *to != id);
        if self.workers.get(&id).is_some_and(|w| w.leader.is_some()) {
            self.leader_exited(id, KILLED);
            self.report(&Report::Gone { id });
            self.workers.remove(&id);
        } else if let Some(worker) = self.workers.remove(&id) {
            let failure = worker.failure.unwrap_or(SpawnFailure {
                stage: Stage::Init,
                errno: libc::ECHILD,
            });
            self.report(&Report::SpawnFailed { id, failure });
        }
    }

    /// Kills what must go: everything below the init process of a worker that is ended, and then that; and what has
    /// no init process any more, because something killed it.
    fn look(&mut self) -> Option<Findings> {
        let table = ProcessTable::scan().ok()?;
        let mut findings = Findings::default();
        let workers = self.workers.values().filter(|worker| !worker.init_reaped);
        let workers: HashMap<u32, &Worker> = workers.map(|w| (w.init, w)).collect();
        for child in table.children(std::process::id()) {
            let Some(worker) = workers.get(&child.pid) else {
                if !self.ending && (self.is_of_a_fork(&child) || self.is_an_adopter(&child)) {
                    continue;
                }
                findings.strays += 1;
                table.descent([child]).into_iter().for_each(kill);
                continue;
            };
            if !worker.dying && !self.ending {
                continue;
            }
            findings.inits += 1;
            let mut living = table.descent(table.children(child.pid));
            living.retain(|process| process.state != RunState::Zombie);
            living.iter().for_each(|process| kill(*process));
            // The init process has yet to say how the leader ended, unless something keeps it from that.
            let is_template = matches!(worker.origin, Origin::Guardian(_));
            let has_said_all = worker.exited || worker.failure.is_some() || is_template;
            if living.is_empty() && (has_said_all || self.rounds >= QUICK_ROUNDS) {
                kill(child);
            }
        }
        Some(findings)
    }

    fn report(&mut self, report: &Report) {
        // Blocks while the supervisor is stopped; its death shows as the socket's end.
        while let Err(Errno::EINTR) = send(self.socket.as_raw_fd(), report, &[]) {}
    }
}

/// Whether the socket is still good.
fn is_passing(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::Interrupted, io::ErrorKind::WouldBlock];
    // Of memory the kernel may be short for a moment.
    kinds.contains(&error.kind())
        || matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::ENOBUFS))
}

#[allow(unsafe_code, reason = "signal dispositions")]
fn ignore_signals() -> nix::Result<()> {
    for ignored in IGNORED {
        // SAFETY: ignoring runs no code of ours.
        unsafe { signal(ignored, SigHandler::SigIgn) }?;
    }
    Ok(())
}
