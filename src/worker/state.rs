//! What the handles and tasks of a worker share.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use tokio::sync::{Notify, watch};

use super::cgroup::Group;
use super::exit::{Exit, ExitStatusKind};
use super::guardian::{Control, ProcessState};
use super::options::{Options, Stats};
use super::stderr::StderrLog;
use super::stdin::Unsent;
use crate::ids::WorkerId;

/// The state that all handles and tasks of a worker share.
pub(super) struct Shared {
    pub(super) id: WorkerId,
    pub(super) pid: u32,
    pub(super) started_at: SystemTime,
    pub(super) unsent: Unsent,
    pub(super) stderr: StderrLog,
    pub(super) counters: Counters,
    pub(super) control: Control,
    /// Set when no process is left.
    pub(super) gone: watch::Sender<Option<Exit>>,
    pub(super) processes: watch::Receiver<ProcessState>,
    pub(super) asks: Asks,
    /// The control group that keeps the worker's limits, where it has some.
    pub(super) group: Option<Group>,
    /// The worker was started when its folders took more than they may: its files do not grow.
    pub(super) began_full: bool,
    /// Milliseconds of processor time that were taken by [`super::Worker::take_use`].
    pub(super) used_ms: AtomicU64,
    exit: OnceLock<Exit>,
}

/// Wishes, each of which is granted once; so flags do, and no queue is needed.
#[derive(Debug, Default)]
pub(super) struct Asks {
    pub(super) stop: AtomicBool,
    pub(super) kill: AtomicBool,
    pub(super) stdout_ended: AtomicBool,
    pub(super) stalled: AtomicBool,
    pub(super) mute: AtomicBool,
    pub(super) wake: Notify,
}

/// A wish of a handle, or the processes of a pipe.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ask {
    Stop,
    Kill,
    StdoutEnded,
}

/// The resources that a worker has got before its process was started.
#[derive(Debug)]
pub(super) struct LaunchResources {
    pub(super) stderr: StderrLog,
    /// The control group of its limits, if it has any.
    pub(super) group: Option<Group>,
    /// The worker's folders took more than they may: its files do not grow.
    pub(super) began_full: bool,
}

impl Shared {
    pub(super) fn new(
        id: WorkerId,
        launched: super::guardian::Launched,
        options: &Options,
        provisions: LaunchResources,
    ) -> Self {
        let LaunchResources {
            stderr,
            group,
            began_full,
        } = provisions;
        Self {
            id,
            pid: launched.pid,
            started_at: SystemTime::now(),
            unsent: Unsent::new(options.max_unsent),
            stderr,
            counters: Counters::default(),
            control: launched.control,
            gone: watch::Sender::new(None),
            processes: launched.processes,
            asks: Asks::default(),
            group,
            began_full,
            used_ms: AtomicU64::new(0),
            exit: OnceLock::new(),
        }
    }

    /// Leaves a wish for the life task.
    pub(super) fn ask(&self, ask: Ask) {
        let flag = match ask {
            Ask::Stop => &self.asks.stop,
            Ask::Kill => &self.asks.kill,
            Ask::StdoutEnded => &self.asks.stdout_ended,
        };
        if !flag.swap(true, Ordering::Relaxed) {
            self.asks.wake.notify_one();
        }
    }

    /// How the worker ended, as known at the first call; call it when the leader has ended.
    pub(super) fn exit(&self) -> Exit {
        let now = || Exit {
            status: self
                .processes
                .borrow()
                .leader
                .unwrap_or(ExitStatusKind::Lost),
            asked: self.asks.stop.load(Ordering::Relaxed) || self.asks.kill.load(Ordering::Relaxed),
            stalled: self.asks.stalled.load(Ordering::Relaxed),
            mute: self.asks.mute.load(Ordering::Relaxed),
        };
        self.exit.get_or_init(now).clone()
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            unsent: self.unsent.bytes(),
            bytes_in: self.unsent.written(),
            bytes_out: self.counters.bytes.load(Ordering::Relaxed),
            messages_out: self.counters.messages.load(Ordering::Relaxed),
            oversized: self.counters.oversized.load(Ordering::Relaxed),
            stderr_lines: self.stderr.total(),
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("id", &self.id)
            .field("pid", &self.pid)
            .field("exit", &self.exit.get())
            .finish_non_exhaustive()
    }
}

/// Counters of stdout.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) bytes: AtomicU64,
    pub(super) messages: AtomicU64,
    pub(super) oversized: AtomicU64,
}
