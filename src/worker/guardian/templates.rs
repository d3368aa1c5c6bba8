//! Templates of workers, and the workers forked from them, as the guardian has them.
//!
//! A template is a child of the guardian without an init process of its own (`primed/template.py`). Its forks fall to the guardian, so
//! that they outlive it: each is the init process of one worker, its keeper, and forks the worker's leader. A helper process of the
//! guardian's own gives the leader what takes privileges (`helper.rs`), which the template has not.
//!
//! ```text
//!  supervisor --Spawn--> guardian --the worker's number, descriptors--> template --fork, fork--> keeper --fork--> leader
//!                           |   <--Forked, Started, Exited (same socket)---------------------------+                |
//!                           +--fork--> helper <-------- its pid, a namespace of mounts, "go" ------------------------+
//! ```
//!
//! A template, and whatever it has imported, can say untrue things of its own workers, and of no others: each has a socket of its own,
//! and a keeper is a child of this process in the template's session, or is not believed.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};

use super::helper;
use super::init::{self, Event, InitReport};
use super::mounts::can_hide_from_users;
use super::state::{Control, Fork, Guardian, Origin, Worker, pid_of};
use super::wire::{SpawnFailure, SpawnFds, Stage};
use crate::process::{Process, receive_packet};

/// The program of a template, for CPython's `-c`; its settings are the argument behind it.
pub const TEMPLATE_PROGRAM: &str = include_str!("primed/template.py");

/// Numbers of the system calls that a template's forks make by number, as JSON.
pub fn system_calls_of_templates() -> serde_json::Value {
    serde_json::json!({ "keyctl": libc::SYS_keyctl, "landlock_restrict_self": libc::SYS_landlock_restrict_self })
}

/// Whether this host lets workers be forked from templates and isolated like others; else why not.
///
/// # Errors
/// What is missing, in words.
pub fn can_be_primed() -> Result<(), &'static str> {
    let is = |setting: &str, value: &str| {
        let path = std::path::Path::new("/proc/sys").join(setting);
        std::fs::read_to_string(path).is_ok_and(|text| text.trim() == value)
    };
    if !nix::unistd::geteuid().is_root() {
        Err("stdiopool is not root, so that tenants have no users of their own")
    } else if !can_hide_from_users() {
        Err("the host lets no folders be hidden from users (mount namespaces)")
    } else if is("user/max_user_namespaces", "0")
        || is("kernel/unprivileged_userns_clone", "0")
        || is("kernel/apparmor_restrict_unprivileged_userns", "1")
    {
        Err(
            "users without privileges may make no user namespaces (user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)",
        )
    } else {
        Ok(())
    }
}

/// Reports that are taken of one template before others have their turn.
const REPORTS_AT_ONCE: usize = 64;

fn failed(errno: i32) -> SpawnFailure {
    let stage = Stage::Template;
    SpawnFailure { stage, errno }
}

fn pair() -> Result<(OwnedFd, OwnedFd), SpawnFailure> {
    let kind = SockType::SeqPacket;
    let pair = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC);
    pair.map_err(|errno| failed(errno as i32))
}

/// Starts a template on the descriptors of a `Spawn`.
///
/// # Errors
/// When it cannot be forked.
pub(super) fn start(id: u64, fds: SpawnFds, pipe: BorrowedFd<'_>) -> Result<Worker, SpawnFailure> {
    let (ours, theirs) = pair()?;
    let kept = theirs.try_clone();
    let kept = kept.map_err(|error| failed(error.raw_os_error().unwrap_or(libc::EMFILE)))?;
    let pid = init::start_template(id, fds, pipe, theirs)?;
    let control = Control {
        ours,
        _theirs: kept,
    };
    let mut template = Worker::new(pid, Origin::Guardian(Rc::new(control)));
    template.leader = Some(pid);
    Ok(template)
}

impl Worker {
    /// A worker that its template has not forked yet, and need not any more, is gone. The helper of a worker whose start is under way is ended.
    pub(super) fn give_up_fork(&mut self) {
        let (helper, is_fork) = match &self.origin {
            Origin::Template(fork) => (fork.helper, true),
            Origin::Waiting { helper } => (*helper, false),
            Origin::Init | Origin::Guardian(_) => return,
        };
        if let Some(helper) = helper {
            // Nobody has waited for it, so that the pid is its own.
            let _ended_already = nix::sys::signal::kill(pid_of(helper), Signal::SIGKILL);
        }
        if is_fork && self.init == 0 {
            self.dying = true;
            self.init_reaped = true;
        }
    }

    fn fork(&self) -> Option<&Fork> {
        match &self.origin {
            Origin::Template(fork) => Some(fork),
            Origin::Init | Origin::Guardian(_) | Origin::Waiting { .. } => None,
        }
    }

    /// Whether the worker's template has still to fork it.
    fn is_pending(&self) -> bool {
        self.init == 0 && !self.init_reaped
    }
}

impl Guardian {
    /// The sockets of templates that are there, or of which a worker is.
    pub(super) fn controls(&self) -> BTreeMap<u64, Rc<Control>> {
        let control = |(&id, worker): (&u64, &Worker)| match &worker.origin {
            Origin::Guardian(control) => Some((id, Rc::clone(control))),
            Origin::Template(fork) => Some((fork.template, Rc::clone(&fork.control))),
            Origin::Init | Origin::Waiting { .. } => None,
        };
        self.workers.iter().filter_map(control).collect()
    }

    /// Has a template fork a worker. What comes of it is told by its reports.
    pub(super) fn fork_of(
        &self,
        template: u64,
        id: u64,
        fds: SpawnFds,
    ) -> Result<Worker, SpawnFailure> {
        let from = self.workers.get(&template).filter(|it| !it.dying);
        let (Some(Origin::Guardian(control)), Some(pid)) = (
            from.map(|template| &template.origin),
            from.and_then(|template| template.leader),
        ) else {
            return Err(failed(libc::ESRCH));
        };
        let (ours, theirs) = pair()?;
        let [stdin, stdout, stderr] = &fds.pipes;
        let all = [stdin, stdout, stderr, &fds.launch, &theirs].map(AsRawFd::as_raw_fd);
        let number = id.to_le_bytes();
        // A template that is stopped, or slow, is not waited for.
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let rights = [ControlMessage::ScmRights(&all)];
        let parts = [io::IoSlice::new(&number)];
        let sent = sendmsg::<()>(control.ours.as_raw_fd(), &parts, &rights, flags, None);
        sent.map_err(|errno| failed(errno as i32))?;
        drop(theirs);
        // Without a helper the leader finds its socket closed, and says that it has failed.
        let helper = helper::start(pid, &fds, ours)?;
        let fork = Fork {
            template,
            session: pid,
            control: Rc::clone(control),
            helper: Some(helper),
        };
        Ok(Worker::new(0, Origin::Template(fork)))
    }

    /// Takes what templates and the keepers of their workers have said.
    pub(super) fn hear_templates(&mut self) {
        for (template, control) in self.controls() {
            for _ in 0..REPORTS_AT_ONCE {
                let Some(report) = report_of(control.ours.as_fd()) else {
                    break;
                };
                self.take_of(template, report);
            }
        }
    }

    fn take_of(&mut self, template: u64, report: InitReport) {
        let worker = self.workers.get_mut(&report.id);
        let Some((worker, session)) = worker.and_then(|worker| {
            let fork = worker.fork().filter(|fork| fork.template == template)?;
            let session = fork.session;
            Some((worker, session))
        }) else {
            return;
        };
        match report.event {
            Event::Forked { keeper } => {
                let is_it = Process::now(keeper)
                    .is_some_and(|it| it.parent == std::process::id() && it.session == session);
                if is_it && worker.is_pending() {
                    worker.init = keeper;
                }
            }
            Event::Started { leader } => {
                let is_it = Process::now(leader)
                    .is_some_and(|it| it.parent == worker.init && it.session == leader);
                if worker.leader.is_none() && is_it {
                    self.take(report);
                }
            }
            // The template itself could not fork: there is no keeper whose end would be seen.
            Event::Failed(failure) if worker.init == 0 => {
                worker.failure = Some(failure);
                worker.give_up_fork();
                self.rounds = 0;
            }
            Event::Failed(failure) if worker.leader.is_none() => {
                worker.failure = Some(failure);
            }
            Event::Exited { .. } if worker.leader.is_some() => self.take(report),
            Event::Failed(_) | Event::Exited { .. } => {}
        }
    }

    /// A template is gone: what it was to fork comes to nothing.
    pub(super) fn template_ended(&mut self, template: u64) {
        for worker in self.workers.values_mut() {
            let is_its = worker.fork().is_some_and(|fork| fork.template == template);
            if is_its && worker.is_pending() {
                worker.failure = Some(failed(libc::ESRCH));
                worker.give_up_fork();
            }
        }
    }

    /// Notes the end of a helper; whether that process was one.
    pub(super) fn helper_ended(&mut self, pid: u32) -> bool {
        self.workers
            .values_mut()
            .any(|worker| match &mut worker.origin {
                Origin::Template(fork) if fork.helper == Some(pid) => {
                    fork.helper = None;
                    true
                }
                _ => false,
            })
    }

    /// Whether a child of this process belongs to a fork that is under way: the helper of a worker, or a process in the session of a template that
    /// has a worker to fork.
    pub(super) fn is_of_a_fork(&self, child: &Process) -> bool {
        self.workers.values().any(|worker| {
            worker.fork().is_some_and(|fork| {
                fork.helper == Some(child.pid)
                    || (worker.is_pending() && fork.session == child.session)
            })
        })
    }
}

/// The next report by the socket of a template.
fn report_of(control: BorrowedFd<'_>) -> Option<InitReport> {
    let mut polled = [PollFd::new(control, PollFlags::POLLIN)];
    match poll(&mut polled, PollTimeout::ZERO) {
        Ok(1..) => {}
        _ => return None,
    }
    let mut said = [0; InitReport::LEN];
    // Descriptors that it sends, for nobody asked for any, are closed.
    let (len, _) = receive_packet(control, &mut said).ok()?;
    InitReport::from_bytes(&said[..len])
}
