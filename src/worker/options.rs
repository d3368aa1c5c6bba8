//! Bounds of a worker, and counters of what went through its pipes.

use std::time::Duration;

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
    /// Lines of stderr kept for [`super::Worker::stderr_tail`]. Default 200.
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

/// The traffic through a worker's pipes so far.
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
