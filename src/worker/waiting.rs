//! Processes that wait: nobody's yet, with a package's dependencies imported, until one is made the worker of a tenant.
//!
//! ```text
//!  spawn_waiting --settings--> imports, says what --spawn_from_waiting--> a Worker
//!                                   |
//!                                   +-- kill, or its own end
//! ```
//!
//! The three pipes of the process are those of the worker that it becomes, and nothing is written to or read from them before.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::ExitStatusKind;
use super::guardian::{Control, Launch, LaunchError, Launched, ProcessState};
use super::pipes::Pipes;
use crate::ids::WorkerId;

/// The longest line that such a process may say, in bytes.
const MAX_LINE: usize = 4 << 20;
/// The most of a process's stderr that is told when it failed, in bytes.
const MAX_WORDS: usize = 4096;
/// A process that is nobody's yet. Dropping it does not end it.
pub struct Waiting {
    pub(super) id: WorkerId,
    pub(super) launched: Launched,
    pub(super) pipes: Pipes,
    pub(super) socket: UnixStream,
}

/// Ends a process that waits, and knows when it has ended, also after it has become a worker.
#[derive(Clone)]
pub struct WaitingEnd {
    control: Control,
    processes: watch::Receiver<ProcessState>,
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, pid) = (self.id, self.launched.pid);
        f.debug_struct("Waiting")
            .field("id", &id)
            .field("pid", &pid)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for WaitingEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitingEnd").finish_non_exhaustive()
    }
}

impl Waiting {
    /// The pid of the process, and of the worker that it becomes.
    pub fn pid(&self) -> u32 {
        self.launched.pid
    }

    /// A handle by which it is ended.
    pub fn end(&self) -> WaitingEnd {
        WaitingEnd {
            control: self.launched.control.clone(),
            processes: self.launched.processes.clone(),
        }
    }

    /// Tells it its settings, a line, and waits for the line that it says then.
    ///
    /// # Errors
    /// When it has ended, or says more than a line may have.
    pub async fn ask(&mut self, settings: &str) -> io::Result<Vec<u8>> {
        self.socket.write_all(settings.as_bytes()).await?;
        self.socket.write_all(b"\n").await?;
        let mut line = vec![];
        while !line.ends_with(b"\n") {
            if line.len() > MAX_LINE {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            if self.socket.read_buf(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(line)
    }
}

impl Waiting {
    /// The last of what it has said on its stderr so far, for whoever is told why it failed.
    pub fn last_words(&mut self) -> String {
        let mut said = vec![0; MAX_WORDS];
        let len = self.pipes.stderr.try_read(&mut said).unwrap_or(0);
        let text = String::from_utf8_lossy(&said[..len]).into_owned();
        let lines: Vec<_> = text.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }
}

impl WaitingEnd {
    /// Kills it with everything that descends from it, unless it has become a worker.
    pub async fn kill(&self) {
        self.control.kill_tree().await;
    }

    /// Waits until nothing of it is left; `None` if it has become a worker, or nobody is there any more to say so.
    pub async fn wait(&self) -> Option<ExitStatusKind> {
        let mut processes = self.processes.clone();
        let gone = processes.wait_for(|it| it.gone).await.ok()?;
        Some(gone.leader.unwrap_or(ExitStatusKind::Lost))
    }
}

/// Has the guardian make worker `id` of a process that waits.
pub(super) async fn adopt(
    waiting: Waiting,
    id: WorkerId,
    launch: &Launch,
) -> Result<(Launched, Pipes), LaunchError> {
    let socket = waiting.socket.into_std().map_err(LaunchError::Io)?;
    let socket = OwnedFd::from(socket);
    let from = waiting.id;
    let adopted = waiting.launched.adopt(from, id, launch, &socket).await;
    if adopted.is_err() {
        // No effect on what is a worker by now, which the guardian ends itself.
        waiting.launched.control.kill_tree().await;
    }
    Ok((adopted?, waiting.pipes))
}
