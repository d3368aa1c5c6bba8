//! What the guardian has: its sockets and its workers.

use std::collections::BTreeMap;
use std::io::{PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;

use super::wire::SpawnFailure;

/// The guardian's state; its main loop is in `process.rs`.
pub(super) struct Guardian {
    pub(super) socket: OwnedFd,
    pub(super) signals: SignalFd,
    /// The pipe by which init processes report; `reports` is its other end.
    pub(super) told: PipeReader,
    pub(super) reports: PipeWriter,
    pub(super) workers: BTreeMap<u64, Worker>,
    /// The ids of workers, by those under which they waited, which their init processes know them by.
    pub(super) renamed: BTreeMap<u64, u64>,
    /// The pid of the process that started this one.
    pub(super) supervisor: u32,
    /// The supervisor is gone: kill everything, then exit.
    pub(super) ending: bool,
    pub(super) next_scan: Instant,
    pub(super) rounds: u32,
}

/// A worker; every process of it descends from `init`.
pub(super) struct Worker {
    /// Of a template the process itself; 0 for a worker that its template has not forked yet.
    pub(super) init: u32,
    /// `init` was waited for; what it left, if anything, has fallen to this process.
    pub(super) init_reaped: bool,
    /// The first process, also the id of its session and process group. `init` does not reap it, so that its pid
    /// keeps its meaning as long as `init` is there.
    pub(super) leader: Option<u32>,
    /// Why there is no leader.
    pub(super) failure: Option<SpawnFailure>,
    /// Whether the end of the leader has been reported.
    pub(super) exited: bool,
    pub(super) dying: bool,
    pub(super) origin: Origin,
}

/// What a worker was forked from, and what goes with that.
pub(super) enum Origin {
    /// An init process, forked for it.
    Init,
    /// This process: it is a template, spoken to by this socket.
    Guardian(Rc<Control>),
    /// A template.
    Template(Fork),
    /// A process that had waited: an init process, forked for that. And the helper that makes it a worker, until it was waited for.
    Waiting { helper: Option<u32> },
}

/// The socket of a template.
pub(super) struct Control {
    /// The guardian's end.
    pub(super) ours: OwnedFd,
    /// The template's, so that its end is none of the socket, which would be readable for ever.
    pub(super) _theirs: OwnedFd,
}

/// The origin of a worker that was forked from a template, which it may outlive.
pub(super) struct Fork {
    /// The template's id.
    pub(super) template: u64,
    /// The template's session, which a keeper is in.
    pub(super) session: u32,
    /// What the keeper says comes by the template's socket.
    pub(super) control: Rc<Control>,
    /// The helper process, until it was waited for.
    pub(super) helper: Option<u32>,
}

impl Worker {
    /// A worker that has an init process.
    pub(super) fn new(init: u32, origin: Origin) -> Self {
        Self {
            init,
            init_reaped: false,
            leader: None,
            failure: None,
            exited: false,
            dying: false,
            origin,
        }
    }
}

pub(super) fn pid_of(pid: u32) -> Pid {
    // Linux pids are below 2^22 (PID_MAX_LIMIT).
    Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX))
}
