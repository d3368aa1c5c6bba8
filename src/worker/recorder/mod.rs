//! Records what a worker does, with all its processes: each call that is recorded waits in the kernel until it was looked at here, and goes
//! on as it would have (seccomp_unotify(2)).
//!
//! ```text
//!  guardian: the leader puts itself behind a filter, hands the queue over, and executes its program
//!  a thread: call waits -> decode (arguments, memory) -> files, hosts (as the worker sees them) -> Record -> call goes on
//! ```
//!
//! Invariants
//! - A call goes on whatever became of looking at it: nothing that a server does, and no mistake here, keeps it waiting.
//! - What is recorded is what was asked for, not what came of it: what the call works on may be another thing a moment later. The record
//!   serves people who choose keys; it keeps nothing from anybody.
//! - No process of a worker can leave the filter, or reach the queue.
//!
//! Not done here: which keys follow (`profile`), and who is told (`upstream`).

mod acting;
pub(crate) mod call_queue;
pub(crate) mod calls;
pub(crate) mod decode;
mod files;
mod hosts;
mod sample;

use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use self::acting::Acting;
use self::call_queue::{CallQueue, Waiting};
use self::calls::Act;
use self::decode::{Address, NotRead, Wish, decode};
use self::files::Files;
use self::hosts::Hosts;
use super::Inbox;
use super::guardian::{FAMILIES, Recording, Root};
use crate::profile::{Peak, Record, Seen};

pub(super) use sample::sample;

/// How a worker is recorded.
#[derive(Clone)]
pub(super) struct Recorder {
    /// Where to.
    pub(super) record: Arc<Record>,
    /// What the worker would see if it were strict.
    pub(super) root: Root,
    /// The program of the worker, whose execution is the first call.
    pub(super) program: PathBuf,
    /// The user that it runs as.
    pub(super) user: u32,
    /// The inbox that is told of each kind of thing that a strict server would have been refused, once.
    pub(super) told: Option<Arc<dyn Inbox>>,
}

impl Recorder {
    /// What of the worker waits to be recorded.
    pub(super) fn recording(&self) -> Recording {
        match self.record.is_full() {
            true => Recording::All,
            false => Recording::Isolation,
        }
    }

    /// Records until no process of the worker is left. Blocks.
    pub(super) fn serve(self, queue: OwnedFd) {
        let queue = CallQueue::new(queue);
        if self.record.is_full() {
            let program = self.program.canonicalize();
            self.record.note(Seen::Ran(program.unwrap_or(self.program)));
        }
        let mut observer = Observer {
            record: self.record,
            told: self.told,
            files: Files::new(self.root, self.user),
            hosts: Hosts::default(),
            has_begun: false,
            descriptors: 0,
        };
        loop {
            match queue.next() {
                Ok(Some(call)) => observer.handle(&queue, &call),
                Ok(None) => return,
                Err(error) => {
                    // With the queue, every recorded call of the worker fails.
                    tracing::error!(%error, "a worker cannot be recorded any more");
                    return;
                }
            }
        }
    }
}

/// What is known of a worker while it is recorded.
struct Observer {
    record: Arc<Record>,
    told: Option<Arc<dyn Inbox>>,
    files: Files,
    hosts: Hosts,
    /// The execution of the worker's program is not looked at: by it the process begins to be one that can be.
    has_begun: bool,
    /// The most descriptors that were seen in one process, all numbers below that in use.
    descriptors: u32,
}

impl Observer {
    fn handle(&mut self, queue: &CallQueue, call: &Waiting) {
        let seen = catch_unwind(AssertUnwindSafe(|| self.seen(call)));
        // A panic was logged where it happened.
        let seen = seen.unwrap_or_else(|_| vec![Seen::Unread]);
        if queue.is_waiting(call) {
            seen.into_iter().for_each(|it| self.note(it));
        }
        queue.answer(call, self.instead(call));
    }

    /// The error that a call gets instead of going on. What is asked of io_uring is in memory alone, and would not be seen: programs do
    /// without.
    fn instead(&self, call: &Waiting) -> Option<i32> {
        let is_ring = call.number == Some(libc::SYS_io_uring_setup);
        (is_ring && self.record.is_full()).then_some(libc::ENOSYS)
    }

    fn note(&self, seen: Seen) {
        let told = self.told.as_ref();
        if self.record.note(seen.clone())
            && let Some(inbox) = told
        {
            inbox.observed(&seen);
        }
    }

    fn seen(&mut self, call: &Waiting) -> Vec<Seen> {
        let by = Acting(call.thread);
        let Some(number) = call.number else {
            return vec![Seen::Refused("calls of a 32-bit program")];
        };
        if !std::mem::replace(&mut self.has_begun, true) {
            return vec![];
        }
        match decode(number, &call.args, &by) {
            Ok(wishes) => {
                let seen = wishes.into_iter().flat_map(|it| self.of_wish(by, it));
                seen.collect()
            }
            Err(NotRead::Refused) => vec![Seen::Unread],
            Err(NotRead::Nothing) => vec![],
        }
    }

    /// Notes how many descriptors the process has, which is about to open one more: programs open hundreds for a moment, between two
    /// looks at what a worker holds.
    fn count_descriptors(&mut self, by: Acting) {
        let before = self.descriptors;
        // Numbers of descriptors are given out from the lowest on.
        while by.has(self.descriptors) {
            self.descriptors += 1;
        }
        if self.descriptors > before {
            self.record.note_peak(Peak {
                // And the one that is about to be.
                open_files: u64::from(self.descriptors) + 1,
                ..Peak::default()
            });
        }
    }

    fn of_wish(&mut self, by: Acting, wish: Wish) -> Vec<Seen> {
        match wish {
            Wish::Path(folder, path, act) => {
                if self.record.is_full() && matches!(act, Act::Open(_)) {
                    self.count_descriptors(by);
                }
                let mut seen = self.files.seen(by, folder, &path, act);
                if !self.record.is_full() {
                    seen.retain(|it| !matches!(it, Seen::Ran(_)));
                }
                seen
            }
            Wish::Family(family) if !FAMILIES.contains(&family) => {
                vec![Seen::Refused("socket of another family")]
            }
            Wish::Family(_) => vec![],
            Wish::Connect(socket, Address::Host(to)) if self.record.is_full() => {
                self.hosts.connect(by, socket, to)
            }
            Wish::Connect(_, Address::Host(_)) => vec![],
            Wish::Connect(socket, Address::Path(path)) => {
                match self.hosts.connect_path(by, socket, &path) {
                    // A strict server asks in its own network, or by DNS.
                    true => vec![],
                    false => self.files.seen(by, libc::AT_FDCWD, &path, Act::Open(0)),
                }
            }
            Wish::Connect(_, Address::Abstract(name)) => {
                let name = String::from_utf8_lossy(&name).into_owned();
                vec![Seen::Unavailable(format!("abstract socket @{name}"))]
            }
            Wish::Listen(socket) => self.hosts.listen(by, socket),
            Wish::Send(socket, to, bytes) => self.hosts.send(by, socket, to.as_ref(), bytes),
            Wish::Receive(socket) => self.hosts.receive(by, socket),
            // Programs do without, and strict servers have always done so.
            Wish::Refused("io_uring_setup") => vec![],
            Wish::Refused(call) => vec![Seen::Refused(call)],
        }
    }
}
