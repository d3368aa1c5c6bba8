//! The supervisor's side of the guardian: starts it, speaks with it, replaces it when it is killed.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nix::sys::prctl::set_child_subreaper;
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};
use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};

use super::heartbeat::{self, Heartbeat, Step};
use super::namespaces::Namespaces;
use super::network::{Sockets, handing_out};
use super::process::ARGUMENT;
use super::queue::{self, TakesQueue};
use super::sweep;
use super::wire::{Launch, Received, Report, Request, SpawnFailure, receive, send};
use crate::ids::WorkerId;
use crate::process::{Process, ProcessTable, RunState};
use crate::worker::ExitStatusKind;

/// How long a new guardian may take to say that it runs.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the exec of a program may take. It reads the program's file, so it can hang where that is on a file system
/// that does not answer.
const EXEC_TIMEOUT: Duration = Duration::from_secs(30);
/// Name in process lists; not the program's own, so that killing that by name spares the guardian.
const NAME: &str = "sp-guardian";

/// Why there is no guardian.
#[derive(Debug, thiserror::Error)]
pub enum GuardianError {
    /// The socket pair or the supervisor's own settings failed.
    #[error("cannot prepare the guardian process: {0}")]
    Setup(#[source] io::Error),
    /// The program could not be started once more.
    #[error("cannot start the guardian process `{}`: {error}", program.display())]
    Start {
        /// What was started.
        program: PathBuf,
        /// Why that failed.
        #[source]
        error: io::Error,
    },
    /// The process started, but is no guardian, or ended at once.
    #[error("the guardian process `{}` did not report within {READY_TIMEOUT:?}; does its main call `run_guardian_if_asked` first?", program.display())]
    Silent {
        /// What was started.
        program: PathBuf,
    },
}

/// Handle of the process that starts workers; clones share it. See the module's documentation.
#[derive(Clone)]
pub struct Guardian(Arc<Inner>);

struct Inner {
    program: PathBuf,
    /// An async mutex, as starting a guardian waits for it, and only one may be started.
    connection: tokio::sync::Mutex<Arc<Connection>>,
    /// After [`Guardian::shutdown`] no new one is started.
    shut: AtomicBool,
    /// What no worker reaches, whatever its list says.
    closed: OnceLock<Arc<[SocketAddr]>>,
}

/// The connection with one guardian process.
struct Connection {
    socket: AsyncFd<OwnedFd>,
    /// Pid of the process.
    guardian: u32,
    state: Mutex<State>,
    /// Becomes true when the process is gone and nothing is left of its workers.
    ended: watch::Sender<bool>,
}

struct State {
    open: bool,
    workers: HashMap<u64, Entry>,
}

struct Entry {
    started: Option<oneshot::Sender<Result<Pids, SpawnFailure>>>,
    processes: watch::Sender<ProcessState>,
}

/// What is known of a worker that was started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ProcessState {
    /// How the leader ended.
    pub(crate) leader: Option<ExitStatusKind>,
    /// Nothing of the worker is left.
    pub(crate) gone: bool,
}

/// The processes of a worker that the guardian names.
#[derive(Debug, Clone, Copy)]
struct Pids {
    leader: u32,
    init: u32,
}

/// A worker that runs.
pub(crate) struct Launched {
    pub(crate) pid: u32,
    pub(crate) processes: watch::Receiver<ProcessState>,
    pub(crate) control: Control,
    /// Those of its own network, where it has some.
    pub(crate) sockets: Option<Sockets>,
}

/// Why a launch failed.
#[derive(Debug)]
pub(crate) enum LaunchError {
    /// The guardian tried and failed.
    Failed(SpawnFailure),
    /// The request did not get to the guardian.
    Unreached,
    /// The guardian was lost before it said how it went. Nothing is left of what it may have started.
    Lost,
    /// The program was not executed within this time.
    Late(Duration),
    /// No guardian is there.
    Guardian(String),
    /// Something failed in the supervisor.
    Io(io::Error),
}

/// Acts on one worker.
#[derive(Clone)]
pub(crate) struct Control {
    connection: Arc<Connection>,
    id: u64,
    /// The init process: everything of the worker descends from it. 0 while it is not known.
    init: u32,
}

impl Guardian {
    /// Starts the guardian: this very program (`/proc/self/exe`) once more. Makes this process the
    /// child subreaper of all its descendants, for the case that the guardian is killed.
    ///
    /// Must be called within a tokio runtime, whose end also ends the guardian and all workers.
    ///
    /// # Errors
    /// When the process cannot be started, or its `main` does not call
    /// [`run_guardian_if_asked`](super::run_guardian_if_asked) first.
    pub async fn start() -> Result<Self, GuardianError> {
        Self::start_with(Path::new("/proc/self/exe")).await
    }

    /// Starts the guardian with another program that calls [`run_guardian_if_asked`](super::run_guardian_if_asked).
    ///
    /// # Errors
    /// As [`Guardian::start`].
    pub async fn start_with(program: &Path) -> Result<Self, GuardianError> {
        set_child_subreaper(true).map_err(|errno| GuardianError::Setup(errno.into()))?;
        let connection = Connection::start(program).await?;
        Ok(Self(Arc::new(Inner {
            program: program.to_owned(),
            connection: tokio::sync::Mutex::new(connection),
            shut: AtomicBool::new(false),
            closed: OnceLock::new(),
        })))
    }

    /// Where this process listens, which no worker with a list of hosts reaches, whatever is on it. Said once, before the first
    /// such worker is started.
    pub fn close_to_workers(&self, listeners: Vec<SocketAddr>) {
        let _said_before = self.0.closed.set(listeners.into());
    }

    /// What [`Self::close_to_workers`] said.
    pub(crate) fn closed_to_workers(&self) -> Arc<[SocketAddr]> {
        self.0.closed.get().cloned().unwrap_or_default()
    }

    /// Kills all workers that are left, with their descendants, and ends the guardian. Returns when
    /// no process is left. Cancelling the call does not stop that.
    pub async fn shutdown(&self) {
        let connection = {
            let connection = self.0.connection.lock().await;
            self.0.shut.store(true, Ordering::Relaxed);
            connection.clone()
        };
        // The guardian sees its end of the socket close; it still reports until it exits.
        let _already_closed = shutdown(connection.socket.as_raw_fd(), Shutdown::Write);
        let mut ended = connection.ended.subscribe();
        let _sender_is_in_connection = ended.wait_for(|&ended| ended).await;
    }

    /// Starts a worker whose stdin, stdout and stderr are `fds`. Where its launch says that it is recorded, `recorder` gets the queue of its
    /// calls, on a thread of its own, before its program is executed.
    pub(crate) async fn launch(
        &self,
        id: WorkerId,
        launch: &Launch,
        fds: [OwnedFd; 3],
        recorder: Option<TakesQueue>,
    ) -> Result<Launched, LaunchError> {
        let memfd = launch.to_memfd().map_err(LaunchError::Io)?;
        let [stdin, stdout, stderr] = &fds;
        let hands_out = launch.network.has_sockets() || recorder.is_some();
        let pair = hands_out.then(handing_out).transpose();
        let pair = pair.map_err(LaunchError::Io)?;
        let awaited = match (&pair, recorder) {
            (Some((ours, _)), Some(recorder)) => Some(queue::take(ours, recorder)),
            _ => None,
        };
        let awaited = awaited.transpose().map_err(LaunchError::Io)?;
        let sockets = pair.as_ref().map(|(_, leaders)| leaders);
        let fds = [stdin, stdout, stderr, &memfd].into_iter().chain(sockets);
        let raw: Vec<_> = fds.map(AsRawFd::as_raw_fd).collect();
        let connection = self.live_connection().await?;
        let namespaces = launch.namespaces();
        let launched = match connection.launch(id.0, namespaces, &raw).await {
            // The guardian was killed and its reader has not noticed yet; nothing was started.
            Err(LaunchError::Unreached) => {
                let connection = self.live_connection().await?;
                connection.launch(id.0, namespaces, &raw).await
            }
            result => result,
        };
        let mut launched = launched?;
        if let Some((ours, _)) = &pair
            && launch.network.has_sockets()
        {
            // Sent before its program was executed.
            let received = match &awaited {
                None => Sockets::receive(ours),
                Some(awaited) => awaited.sockets().and_then(Sockets::of),
            };
            match received {
                Ok(sockets) => launched.sockets = Some(sockets),
                Err(error) => {
                    launched.control.kill_tree().await;
                    return Err(LaunchError::Io(error));
                }
            }
        }
        Ok(launched)
    }

    async fn live_connection(&self) -> Result<Arc<Connection>, LaunchError> {
        let mut connection = self.0.connection.lock().await;
        if self.0.shut.load(Ordering::Relaxed) {
            let text = "the guardian process is shut down".to_owned();
            return Err(LaunchError::Guardian(text));
        }
        if !connection.state.lock().open {
            *connection = Connection::start(&self.0.program)
                .await
                .map_err(|error| LaunchError::Guardian(error.to_string()))?;
        }
        Ok(connection.clone())
    }
}

impl fmt::Debug for Guardian {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guardian")
            .field("program", &self.0.program)
            .finish_non_exhaustive()
    }
}

impl Control {
    /// Sends a signal to the leader's process group.
    pub(crate) async fn signal(&self, signal: nix::sys::signal::Signal) {
        let signal = signal as i32;
        self.request(&Request::Signal {
            id: self.id,
            signal,
        })
        .await;
    }

    /// Kills the whole tree.
    pub(crate) async fn kill_tree(&self) {
        self.request(&Request::KillTree { id: self.id }).await;
    }

    async fn request(&self, request: &Request) {
        // Without a guardian the worker is being killed anyway, and its processes will say so.
        if let Err(error) = self.connection.send(request, &[]).await {
            tracing::debug!(worker = %WorkerId(self.id), %error, "guardian not reached");
        }
    }

    /// All processes of the worker whose leader is `leader`, which starts the list while it lives.
    /// Scans `/proc`.
    ///
    /// # Errors
    /// When `/proc` cannot be listed.
    pub(crate) fn tree(&self, leader: u32) -> io::Result<Vec<u32>> {
        let mut trees = Self::trees(&[(self, leader)])?;
        Ok(trees.pop().unwrap_or_default())
    }

    /// All processes of each of many workers, from one scan: what descends from its init process, that
    /// excluded.
    ///
    /// # Errors
    /// When `/proc` cannot be listed.
    pub(crate) fn trees(workers: &[(&Self, u32)]) -> io::Result<Vec<Vec<u32>>> {
        let table = ProcessTable::scan()?;
        let tree = |(control, leader): &(&Self, u32)| {
            let init = control.init;
            let is_there = match table.get(init) {
                // One that has ended is no child of the guardian, whatever its pid means now.
                Some(init) => init.parent == control.connection.guardian,
                // The host hides it (`hidepid`), as it is not dumpable: its leader stands for it, which it alone waits for.
                None => table
                    .get(*leader)
                    .is_some_and(|it| it.parent == init && it.session == *leader),
            };
            if !is_there {
                return Vec::new();
            }
            let mut children: Vec<Process> = table.children(init).collect();
            children.sort_by_key(|child| child.pid != *leader);
            let tree = table.descent(children);
            tree.into_iter().map(|process| process.pid).collect()
        };
        Ok(workers.iter().map(tree).collect())
    }
}

impl Connection {
    async fn start(program: &Path) -> Result<Arc<Self>, GuardianError> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .map_err(|errno| GuardianError::Setup(errno.into()))?;
        let mut command = Command::new(program);
        command
            .arg0(NAME)
            .arg(ARGUMENT)
            // What the guardian begins with can be read for as long as it lives (/proc/PID/environ): nothing of ours.
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null());
        let child = sweep::start(&mut command).map_err(|error| GuardianError::Start {
            program: program.to_owned(),
            error,
        })?;
        // Holds the guardian's end of the socket until it is dropped.
        drop(command);
        let socket = nonblocking(ours)
            .and_then(register)
            .map_err(GuardianError::Setup)?;
        let connection = Arc::new(Self {
            socket,
            guardian: child.id(),
            state: Mutex::new(State {
                open: true,
                workers: HashMap::new(),
            }),
            ended: watch::Sender::new(false),
        });
        let ready = tokio::time::timeout(READY_TIMEOUT, connection.receive()).await;
        let is_ready = matches!(ready, Ok(Ok(Received::Message(Report::Ready, _))));
        tokio::spawn(connection.clone().read(child, is_ready));
        if !is_ready {
            let program = program.to_owned();
            return Err(GuardianError::Silent { program });
        }
        Ok(connection)
    }

    async fn receive(&self) -> io::Result<Received<Report>> {
        self.socket
            .async_io(Interest::READABLE, |fd| receive(fd.as_fd()))
            .await
    }

    async fn send(&self, request: &Request, fds: &[RawFd]) -> io::Result<()> {
        self.socket
            .async_io(Interest::WRITABLE, |fd| {
                Ok(send(fd.as_raw_fd(), request, fds)?)
            })
            .await
    }

    async fn launch(
        self: &Arc<Self>,
        id: u64,
        namespaces: Namespaces,
        fds: &[RawFd],
    ) -> Result<Launched, LaunchError> {
        let (started, start) = oneshot::channel();
        let (sender, processes) = watch::channel(ProcessState::default());
        {
            let mut state = self.state.lock();
            if !state.open {
                return Err(LaunchError::Unreached);
            }
            if state.workers.contains_key(&id) {
                let text = format!("worker {} exists already", WorkerId(id));
                return Err(LaunchError::Guardian(text));
            }
            let entry = Entry {
                started: Some(started),
                processes: sender,
            };
            state.workers.insert(id, entry);
        }
        if let Err(error) = self.send(&Request::Spawn { id, namespaces }, fds).await {
            let mut state = self.state.lock();
            state.workers.remove(&id);
            // A closed socket: the reader will notice too, but the caller must not come here again.
            state.open = false;
            tracing::debug!(%error, "guardian not reached");
            return Err(LaunchError::Unreached);
        }
        let connection = self.clone();
        let mut control = Control {
            connection,
            id,
            init: 0,
        };
        let Ok(started) = tokio::time::timeout(EXEC_TIMEOUT, start).await else {
            control.kill_tree().await;
            return Err(LaunchError::Late(EXEC_TIMEOUT));
        };
        let pids = started
            .map_err(|_| LaunchError::Lost)?
            .map_err(LaunchError::Failed)?;
        control.init = pids.init;
        Ok(Launched {
            pid: pids.leader,
            processes,
            control,
            sockets: None,
        })
    }

    /// Reads reports until the guardian ends, then sees to it that nothing is left.
    async fn read(self: Arc<Self>, child: Child, was_ready: bool) {
        if was_ready {
            self.take_all().await;
        }
        self.lost(child).await;
    }

    async fn take_all(self: &Arc<Self>) {
        enum Woken {
            Received(io::Result<Received<Report>>),
            Tick,
        }
        let mut heartbeat = Heartbeat::default();
        let mut ticks = tokio::time::interval(heartbeat::PERIOD);
        // A supervisor that was stopped meanwhile has missed the answers, not the guardian.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let woken = tokio::select! {
                // What was said is heard before silence is counted.
                biased;
                received = self.receive() => Woken::Received(received),
                _ = ticks.tick() => Woken::Tick,
            };
            match woken {
                Woken::Received(Ok(Received::Message(report, _))) => {
                    heartbeat.heard();
                    self.take(report);
                }
                Woken::Received(Ok(Received::Garbage)) => {
                    tracing::warn!("unreadable report from the guardian");
                }
                Woken::Received(Ok(Received::End) | Err(_)) => return,
                Woken::Tick => {
                    let step = heartbeat.tick(|| self.is_stopped());
                    if !self.act(step) {
                        return;
                    }
                }
            }
        }
    }

    fn is_stopped(&self) -> bool {
        Process::now(self.guardian).is_some_and(|it| it.state == RunState::Stopped)
    }

    /// Does what the heartbeat says; whether the guardian is kept.
    fn act(&self, step: Step) -> bool {
        match step {
            Step::Wait => {}
            Step::Ping => {
                // Not waited for: where there is no room, there is no answer either, and silence is counted.
                let _no_room = send(self.socket.as_raw_fd(), &Request::Ping, &[]);
            }
            Step::Continue => {
                tracing::warn!(
                    pid = self.guardian,
                    "the guardian process was stopped (SIGSTOP, or a debugger); it is let go on: while it is stopped no worker starts or ends"
                );
                // The guardian is not reaped before this task ends, so that the pid is its own.
                let pid = nix::unistd::Pid::from_raw(self.guardian.cast_signed());
                let _ended_meanwhile =
                    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT);
            }
            Step::GiveUp => {
                tracing::error!(
                    pid = self.guardian,
                    "the guardian process does not answer; it is killed, and with it all workers"
                );
                return false;
            }
        }
        true
    }

    fn take(self: &Arc<Self>, report: Report) {
        match report {
            Report::Ready | Report::Pong => {}
            Report::Spawned { id, pid, init } => {
                let pids = Pids { leader: pid, init };
                let waiting = self.with(id, |entry| entry.started.take()).flatten();
                // Whoever asked may have given up; then nobody owns the worker.
                if waiting.is_none_or(|waiting| waiting.send(Ok(pids)).is_err()) {
                    let connection = self.clone();
                    // Not here: this task must go on reading while the request waits for room.
                    tokio::spawn(async move {
                        Control {
                            connection,
                            id,
                            init,
                        }
                        .kill_tree()
                        .await
                    });
                }
            }
            Report::SpawnFailed { id, failure } => {
                let entry = self.state.lock().workers.remove(&id);
                if let Some(waiting) = entry.and_then(|entry| entry.started) {
                    let _gave_up = waiting.send(Err(failure));
                }
            }
            Report::LeaderExited { id, status } => {
                let status = ExitStatusKind::from(ExitStatus::from_raw(status));
                self.with(id, |entry| {
                    entry
                        .processes
                        .send_modify(|processes| processes.leader = Some(status));
                });
            }
            Report::Gone { id } => {
                if let Some(entry) = self.state.lock().workers.remove(&id) {
                    entry
                        .processes
                        .send_modify(|processes| processes.gone = true);
                }
            }
        }
    }

    fn with<R>(&self, id: u64, act: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        self.state.lock().workers.get_mut(&id).map(act)
    }

    async fn lost(&self, mut child: Child) {
        let entries: Vec<Entry> = {
            let mut state = self.state.lock();
            state.open = false;
            // Dropping `started` tells those who wait for a start.
            state.workers.drain().map(|(_, entry)| entry).collect()
        };
        if !entries.is_empty() {
            tracing::error!(
                workers = entries.len(),
                "the guardian process was lost: its workers end, calls in flight at them fail, sessions of stateful servers end; the next call starts another guardian and new workers"
            );
        }
        for entry in &entries {
            entry.processes.send_modify(|processes| {
                processes.leader.get_or_insert(ExitStatusKind::Lost);
            });
        }
        let reaped = tokio::task::spawn_blocking(move || {
            // No effect on one that has ended; one that closed its socket otherwise must end.
            let _ended_already = child.kill();
            let reaped = child.wait();
            sweep::unregister(child.id());
            reaped
        })
        .await;
        if !matches!(reaped, Ok(Ok(_))) {
            tracing::error!(?reaped, "cannot wait for the guardian process");
        }
        sweep::sweep().await;
        for entry in &entries {
            entry
                .processes
                .send_modify(|processes| processes.gone = true);
        }
        self.ended.send_replace(true);
    }
}

fn nonblocking(fd: OwnedFd) -> io::Result<OwnedFd> {
    let socket = std::os::unix::net::UnixStream::from(fd);
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[allow(
    unsafe_code,
    reason = "a promise about the descriptor that its type already keeps"
)]
fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names one open descriptor until it is dropped, which `AsyncFd` does
    // after taking it off its poller.
    unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
}
