//! A record of what was asked of the pool, for `stdiopool tune` to play back.
//!
//! JSON lines, one a call, a start, a waking or a measurement. Tenants appear as names that mean
//! nothing outside the file; no argument, result, config or session is in it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::escape;
use crate::ids::{ServerName, TenantId};

/// Lines that may wait for the disk; more are left out.
const MAX_WAITING: usize = 65_536;
/// How soon a line is on disk.
const FLUSH: Duration = Duration::from_secs(1);

/// One line of a trace.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case", deny_unknown_fields)]
pub enum TraceLine {
    /// The first line.
    Trace {
        /// 1
        version: u32,
    },
    /// A request that needed a worker.
    Call {
        /// Seconds since the trace began when it arrived.
        at: f64,
        /// The tenant that asked.
        tenant: String,
        /// The server.
        server: String,
        /// Seconds that the worker took over it.
        took: f64,
    },
    /// A worker was started.
    Start {
        /// The server.
        server: String,
        /// Seconds until it was ready.
        took: f64,
    },
    /// A hibernated worker was woken.
    Wake {
        /// The server.
        server: String,
        /// Seconds until its first word.
        took: f64,
    },
    /// A worker was measured.
    Memory {
        /// The server.
        server: String,
        /// Bytes it held.
        bytes: u64,
        /// The worker was hibernated.
        asleep: bool,
    },
}

/// Writes a trace. Dropping it writes what is left.
#[derive(Debug)]
pub struct TraceRecorder {
    lines: SyncSender<TraceLine>,
    began: Instant,
    salt: [u8; 16],
}

impl TraceRecorder {
    /// Begins a trace in a new file, or in place of an old one.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = BufWriter::new(File::create(path)?);
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(io::Error::other)?;
        let (lines, waiting) = sync_channel(MAX_WAITING);
        std::thread::Builder::new()
            .name("trace writer".to_owned())
            .spawn(move || {
                if let Err(error) = write(file, &waiting) {
                    tracing::error!(%error, "the trace could not be written: it ends here");
                }
            })?;
        let recorder = Self {
            lines,
            began: Instant::now(),
            salt,
        };
        recorder.put(TraceLine::Trace { version: 1 });
        Ok(recorder)
    }

    /// A request that arrived then has been answered, and its worker took so long over it.
    pub fn call(&self, server: &ServerName, tenant: &TenantId, arrived: Instant, took: Duration) {
        let mut digest = Sha256::new_with_prefix(self.salt);
        digest.update(tenant.as_str());
        let digest = digest.finalize();
        let at = arrived.saturating_duration_since(self.began);
        self.put(TraceLine::Call {
            at: at.as_secs_f64(),
            tenant: data_encoding::HEXLOWER.encode(&digest[..6]),
            server: server.to_string(),
            took: took.as_secs_f64(),
        });
    }

    /// A worker was ready after so long.
    pub fn start(&self, server: &ServerName, took: Duration) {
        self.put(TraceLine::Start {
            server: server.to_string(),
            took: took.as_secs_f64(),
        });
    }

    /// A hibernated worker said its first word after so long.
    pub fn wake(&self, server: &ServerName, took: Duration) {
        self.put(TraceLine::Wake {
            server: server.to_string(),
            took: took.as_secs_f64(),
        });
    }

    /// A worker held so many bytes.
    pub fn memory(&self, server: &ServerName, bytes: u64, asleep: bool) {
        self.put(TraceLine::Memory {
            server: server.to_string(),
            bytes,
            asleep,
        });
    }

    fn put(&self, line: TraceLine) {
        match self.lines.try_send(line) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                tracing::debug!("a line of the trace is left out: the disk does not keep up");
            }
            // The trace's writer has said why it ended.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }
}

fn write(mut file: BufWriter<File>, waiting: &Receiver<TraceLine>) -> io::Result<()> {
    loop {
        match waiting.recv_timeout(FLUSH) {
            Ok(line) => {
                let line = serde_json::to_string(&line)?;
                file.write_all(escape::in_json(&line).as_bytes())?;
                file.write_all(b"\n")?;
            }
            Err(RecvTimeoutError::Timeout) => file.flush()?,
            Err(RecvTimeoutError::Disconnected) => return file.flush(),
        }
    }
}
