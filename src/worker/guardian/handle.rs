//! Starts workers through the guardian, and another guardian when that is gone.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use nix::sys::prctl::set_child_subreaper;
use tokio::sync::watch;

use super::connection::{Connection, GuardianError, LaunchError, ProcessState, Started};
use super::control::Control;
use super::network::{Sockets, handing_out};
use super::queue::{self, TakesQueue};
use super::wire::{ForkedFrom, Launch};
use crate::ids::WorkerId;

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

/// A worker that runs.
pub(crate) struct Launched {
    pub(crate) pid: u32,
    pub(crate) processes: watch::Receiver<ProcessState>,
    pub(crate) control: Control,
    /// The sockets of its own network, where it has some.
    pub(crate) sockets: Option<Sockets>,
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
        connection.end().await;
    }

    /// Starts a worker whose stdin, stdout and stderr are `fds`. Where its launch says that it is recorded, `recorder` gets the queue of its
    /// calls, on a thread of its own, before its program is executed.
    pub(crate) async fn launch(
        &self,
        id: WorkerId,
        origin: ForkedFrom,
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
        let leaders = pair.as_ref().map(|(_, leaders)| leaders);
        let fds = [stdin, stdout, stderr, &memfd].into_iter().chain(leaders);
        let raw: Vec<_> = fds.map(AsRawFd::as_raw_fd).collect();
        let connection = self.live_connection().await?;
        let namespaces = launch.namespaces();
        let (connection, started) = match connection.launch(id.0, namespaces, origin, &raw).await {
            // The guardian was killed and its reader has not noticed yet; nothing was started.
            Err(LaunchError::Unreached) => {
                let connection = self.live_connection().await?;
                let started = connection.launch(id.0, namespaces, origin, &raw).await;
                (connection, started?)
            }
            started => (connection, started?),
        };
        let Started { pids, processes } = started;
        let control = Control::new(connection, id, pids.init);
        let mut sockets = None;
        if let Some((ours, _)) = &pair
            && launch.network.has_sockets()
        {
            // Sent before its program was executed.
            let received = match &awaited {
                None => Sockets::receive(ours),
                Some(awaited) => awaited.sockets().and_then(Sockets::of),
            };
            match received {
                Ok(received) => sockets = Some(received),
                Err(error) => {
                    control.kill_tree().await;
                    return Err(LaunchError::Io(error));
                }
            }
        }
        Ok(Launched {
            pid: pids.leader,
            processes,
            control,
            sockets,
        })
    }

    /// Starts a process that waits, whose stdin, stdout and stderr are `fds`, and which is spoken to by `control`.
    pub(crate) async fn launch_waiting(
        &self,
        id: WorkerId,
        launch: &Launch,
        fds: [OwnedFd; 3],
        control: OwnedFd,
    ) -> Result<Launched, LaunchError> {
        let memfd = launch.to_memfd().map_err(LaunchError::Io)?;
        let [stdin, stdout, stderr] = &fds;
        let raw = [stdin, stdout, stderr, &memfd, &control].map(AsRawFd::as_raw_fd);
        let connection = self.live_connection().await?;
        let started = connection.launch(id.0, launch.namespaces(), ForkedFrom::Init, &raw);
        let Started { pids, processes } = started.await?;
        Ok(Launched {
            pid: pids.leader,
            processes,
            control: Control::new(connection, id, pids.init),
            sockets: None,
        })
    }

    async fn live_connection(&self) -> Result<Arc<Connection>, LaunchError> {
        let mut connection = self.0.connection.lock().await;
        if self.0.shut.load(Ordering::Relaxed) {
            let text = "the guardian process is shut down".to_owned();
            return Err(LaunchError::Guardian(text));
        }
        if !connection.is_open() {
            *connection = Connection::start(&self.0.program)
                .await
                .map_err(|error| LaunchError::Guardian(error.to_string()))?;
        }
        Ok(connection.clone())
    }
}

impl Launched {
    /// Has this process, which waits as `from`, made worker `id`, by the socket by which it is spoken to. This value controls nothing any more
    /// then.
    pub(crate) async fn adopt(
        &self,
        from: WorkerId,
        id: WorkerId,
        launch: &Launch,
        socket: &OwnedFd,
    ) -> Result<Self, LaunchError> {
        let memfd = launch.to_memfd().map_err(LaunchError::Io)?;
        let raw = [&memfd, socket].map(AsRawFd::as_raw_fd);
        let origin = ForkedFrom::Waiting(from.0);
        let connection = Arc::clone(self.control.connection());
        let started = connection.launch(id.0, launch.namespaces(), origin, &raw);
        let Started { pids, processes } = started.await?;
        Ok(Self {
            pid: pids.leader,
            processes,
            control: Control::new(connection, id, pids.init),
            sockets: None,
        })
    }
}

impl fmt::Debug for Guardian {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guardian")
            .field("program", &self.0.program)
            .finish_non_exhaustive()
    }
}
