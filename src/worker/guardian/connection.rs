//! The supervisor's end of the socket to one guardian process: starts the process, and asks it for workers.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};
use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};

use super::namespaces::Namespaces;
use super::process::ARGUMENT;
use super::sweep;
use super::wire::{ForkedFrom, Received, Report, Request, SpawnFailure, receive, send};
use crate::ids::WorkerId;
use crate::worker::ExitStatusKind;

/// How long a new guardian may take to say that it runs.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the exec of a program may take: the kernel reads the program's file, and hangs where that is on a file system
/// that does not answer.
const EXEC_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a template may take to fork a worker, or a process that waits to become one; then the worker is started otherwise.
const FORK_TIMEOUT: Duration = Duration::from_secs(3);
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

/// The connection with one guardian process.
pub(super) struct Connection {
    pub(super) socket: AsyncFd<OwnedFd>,
    /// Pid of the process.
    pub(super) guardian: u32,
    pub(super) state: Mutex<State>,
    /// Becomes true when the process is gone and nothing is left of its workers.
    pub(super) ended: watch::Sender<bool>,
}

pub(super) struct State {
    pub(super) open: bool,
    pub(super) workers: HashMap<u64, Entry>,
}

/// A worker that was asked for and is not gone.
pub(super) struct Entry {
    pub(super) started: Option<oneshot::Sender<Result<Pids, SpawnFailure>>>,
    pub(super) processes: watch::Sender<ProcessState>,
}

/// What is known of a worker that was started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ProcessState {
    /// How the leader ended.
    pub(crate) leader: Option<ExitStatusKind>,
    /// Processor time that was used until the leader ended.
    pub(crate) used: Duration,
    /// Nothing of the worker is left.
    pub(crate) gone: bool,
}

/// The processes of a worker that the guardian names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pids {
    pub(super) leader: u32,
    pub(super) init: u32,
}

/// A worker whose program was executed.
pub(super) struct Started {
    pub(super) pids: Pids,
    pub(super) processes: watch::Receiver<ProcessState>,
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

impl Connection {
    pub(super) async fn start(program: &Path) -> Result<Arc<Self>, GuardianError> {
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

    pub(super) async fn receive(&self) -> io::Result<Received<Report>> {
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

    /// Whether the guardian is there, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        self.state.lock().open
    }

    /// Sends something about a worker. Without a guardian the worker is being killed anyway, and its processes will say so.
    pub(super) async fn request(&self, worker: u64, request: &Request) {
        if let Err(error) = self.send(request, &[]).await {
            tracing::debug!(worker = %WorkerId(worker), %error, "guardian not reached");
        }
    }

    /// Kills a worker with everything that descends from it.
    pub(super) async fn kill_tree(&self, id: u64) {
        self.request(id, &Request::KillTree { id }).await;
    }

    /// Ends the guardian, and with it all workers; returns when nothing is left of them.
    pub(super) async fn end(&self) {
        // The guardian sees its end of the socket close; it still reports until it exits.
        let _already_closed = shutdown(self.socket.as_raw_fd(), Shutdown::Write);
        let mut ended = self.ended.subscribe();
        let _sender_is_in_connection = ended.wait_for(|&ended| ended).await;
    }

    /// Has a worker started to which these descriptors are sent.
    ///
    /// # Errors
    /// Nothing of it is left then, or it is being killed.
    pub(super) async fn launch(
        &self,
        id: u64,
        namespaces: Namespaces,
        origin: ForkedFrom,
        fds: &[RawFd],
    ) -> Result<Started, LaunchError> {
        let (started, mut start) = oneshot::channel();
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
        let request = Request::Spawn {
            id,
            namespaces,
            origin,
        };
        if let Err(error) = self.send(&request, fds).await {
            let mut state = self.state.lock();
            state.workers.remove(&id);
            // A closed socket: the reader will notice too, but the caller must not come here again.
            state.open = false;
            tracing::debug!(%error, "guardian not reached");
            return Err(LaunchError::Unreached);
        }
        let _as_it_was = match origin {
            // The guardian says nothing more under the id by which the process waited.
            ForkedFrom::Waiting(from) => self.state.lock().workers.remove(&from),
            _ => None,
        };
        let limit = match origin {
            ForkedFrom::Init | ForkedFrom::Guardian => EXEC_TIMEOUT,
            ForkedFrom::Template(_) | ForkedFrom::Waiting(_) => FORK_TIMEOUT,
        };
        let Ok(started) = tokio::time::timeout(limit, &mut start).await else {
            self.kill_tree(id).await;
            if !matches!(origin, ForkedFrom::Init | ForkedFrom::Guardian) {
                // The guardian gives it up at once, so that the worker can be started otherwise.
                let _given_up = tokio::time::timeout(limit, start).await;
            }
            return Err(LaunchError::Late(limit));
        };
        let pids = started
            .map_err(|_| LaunchError::Lost)?
            .map_err(LaunchError::Failed)?;
        Ok(Started { pids, processes })
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
