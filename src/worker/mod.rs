//! Runs one process tree at a time: starts it, moves lines in and out, ends it for sure.
//!
//! ```text
//!            send                       stdin.rs            +--------+
//!  caller ---------> queue ----------> writer task -------> |        |
//!         <--------- Inbox <-- framing.rs -- reader task <- | worker | <--- guardian (parent,
//!  stderr_tail <---- ring  <--------------- stderr task <-- |        |      subreaper, killer)
//!                                                           +--------+
//!            stop, kill ---> life task (ladder.rs) ---> guardian: SIGTERM, kill the tree
//!
//!  Running --stop--> stdin closes --> SIGTERM --> tree killed --> Gone
//!     +----- the leader exits: what it wrote is delivered, Inbox::exited, rest killed --^
//! ```
//!
//! Invariants
//! - `Inbox::exited` comes once and last. `Worker::wait` returns when no process of the tree is left.
//! - None of the three pipes waits for another, and no pipe of one worker for another worker.
//! - Memory is bounded by [`Options`]: one message, the unsent bytes, the stderr lines.
//! - Nobody survives the supervisor: see the module `guardian`.
//!
//! Not done here: what a line means, restarts, deadlines of calls, how many workers there are.
//! The process-count limit of a tree needs cgroups and is not set.

mod exit;
pub mod framing;
mod guardian;
mod ladder;
mod life;
pub mod memory;
mod output;
mod spawn;
mod stderr;
mod stdin;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::broadcast;

pub use exit::{Exit, ExitStatusKind};
pub use guardian::{Guardian, GuardianError, can_make_read_only, run_guardian_if_asked};
pub use spawn::{SpawnError, find_program, spawn};
use stdin::Delivery;
pub use stdin::SendError;

use crate::held::Account;
use crate::ids::WorkerId;
use crate::protocol::Broken;

/// Takes what a worker says. Called from its reader task, in order; must return soon and not block,
/// as nothing more is read meanwhile.
pub trait Inbox: Send + Sync + 'static {
    /// A line of stdout, without its line end; not blank.
    fn message(&self, line: Bytes);
    /// A line of stdout longer than [`Options::max_message`] was dropped.
    fn oversized(&self, line: Oversized);
    /// A long line is not whole yet, and so many bytes of it are there. `false`: there is no room for more of it,
    /// and it is dropped as one that is too long.
    fn assembling(&self, bytes: usize) -> bool {
        let _unbounded = bytes;
        true
    }
    /// The first process ended. The last call, and made exactly once; what else belongs to the
    /// worker is being killed, and can be awaited with [`Worker::wait`].
    fn exited(&self, exit: Exit);
}

/// A line that was longer than the limit and therefore dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oversized {
    /// Its length in bytes.
    pub len: u64,
    /// The message that it was, with the ids at its top level; `None` for a log's line.
    pub message: Option<Broken>,
}

/// Bounds of one worker.
#[derive(Clone, Debug)]
pub struct Options {
    /// Longest line of stdout that is delivered, in bytes. Default 32 MiB.
    pub max_message: usize,
    /// Bytes that may wait to be written to stdin before `send` says `Full`; a single longer
    /// message is taken when nothing waits. Default 8 MiB.
    pub max_unsent: usize,
    /// After `stop`: time to take the rest of the input and exit before SIGTERM. Default 2 s.
    pub stdin_grace: Duration,
    /// Time between SIGTERM and SIGKILL. Default 3 s.
    pub term_grace: Duration,
    /// A worker that takes none of the bytes that wait for it for so long is killed. Default 30 s.
    pub stall_timeout: Duration,
    /// Lines of stderr kept for [`Worker::stderr_tail`]. Default 200.
    pub stderr_lines: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_message: 32 << 20,
            max_unsent: 8 << 20,
            stdin_grace: Duration::from_secs(2),
            term_grace: Duration::from_secs(3),
            stall_timeout: Duration::from_secs(30),
            stderr_lines: 200,
        }
    }
}

/// What went through a worker's pipes so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes that wait to be written to stdin.
    pub unsent: usize,
    /// Bytes the stdin pipe took.
    pub bytes_in: u64,
    /// Bytes read from stdout.
    pub bytes_out: u64,
    /// Lines delivered from stdout.
    pub messages_out: u64,
    /// Lines of stdout dropped for their length.
    pub oversized: u64,
    /// Lines of stderr.
    pub stderr_lines: u64,
}

/// Handle of a worker; clones share it. Dropping handles does not stop it.
#[derive(Clone, Debug)]
pub struct Worker(Arc<life::Shared>);

impl Worker {
    /// Its identity.
    pub fn id(&self) -> WorkerId {
        self.0.id
    }

    /// Pid of its first process, which is also its session and process group while that lives.
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// When it was started.
    pub fn started_at(&self) -> SystemTime {
        self.0.started_at
    }

    /// What waits to be written to its stdin is charged to that account from now on, unless another is charged
    /// already.
    pub fn charge_to(&self, account: &Account) {
        self.0.unsent.charge_to(account);
    }

    /// Sends one message, to which `\n` is appended; it must not contain one. Never waits.
    ///
    /// # Errors
    /// [`SendError::Full`] when too much waits already, [`SendError::NoRoom`] when whoever is charged for it has no
    /// room, [`SendError::Closed`] when it takes no more.
    pub fn send(&self, message: Bytes) -> Result<(), SendError> {
        self.0.unsent.push(message, Delivery::AtOnce)
    }

    /// The same for a worker that is busy: what others are about to send it goes in the same write,
    /// so that it is not woken for each.
    ///
    /// # Errors
    /// As [`Worker::send`].
    pub fn send_gathered(&self, message: Bytes) -> Result<(), SendError> {
        self.0.unsent.push(message, Delivery::Gathered)
    }

    /// Begins to stop it: closes stdin after what waits, then SIGTERM, then kills the tree, as
    /// [`Options`] say. Returns at once; repeating it changes nothing.
    pub fn stop(&self) {
        self.0.ask(life::Ask::Stop);
    }

    /// Kills the whole tree. Returns at once.
    pub fn kill(&self) {
        self.0.ask(life::Ask::Kill);
    }

    /// Waits until no process of the tree is left. May be called and cancelled any number of times.
    pub async fn wait(&self) -> Exit {
        let mut gone = self.0.gone.subscribe();
        match gone.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().unwrap_or_else(|| self.0.exit()),
            // The sender is in `self`; it cannot be dropped meanwhile.
            Err(_) => self.0.exit(),
        }
    }

    /// The last `n` lines of stderr, oldest first: at most 4 KiB each, without control characters,
    /// known secrets masked.
    pub fn stderr_tail(&self, n: usize) -> Vec<String> {
        self.0.stderr.tail(n)
    }

    /// The last `n` lines of stderr, as in [`Worker::stderr_tail`], and those that follow them.
    /// A receiver that lags loses lines.
    pub fn stderr_follow(&self, n: usize) -> (Vec<String>, broadcast::Receiver<String>) {
        self.0.stderr.follow(n)
    }

    /// Counters, each exact, together not of one moment.
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }

    /// Pids of the processes of each worker, from one look at `/proc`.
    pub fn trees(workers: &[Self]) -> Vec<Vec<u32>> {
        let workers = workers.iter().map(|it| (&it.0.control, it.0.pid));
        let workers: Vec<_> = workers.collect();
        let trees = guardian::Control::trees(&workers);
        trees.unwrap_or_else(|_unreadable| vec![Vec::new(); workers.len()])
    }

    /// Pids of all its processes, the first process first; empty when none is left or `/proc`
    /// cannot be read. Scans `/proc`: some milliseconds, so not for the hot path.
    pub fn tree(&self) -> Vec<u32> {
        self.0.control.tree(self.0.pid).unwrap_or_default()
    }
}
