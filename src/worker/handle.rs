//! The handle by which a worker is spoken to and ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::broadcast;

use super::cgroup::{Breaches, Group, TenantGroup};
use super::exit::Exit;
use super::guardian::Control;
use super::options::Stats;
use super::state::{Ask, Shared};
use super::stdin::{Delivery, SendError};
use crate::held::Account;
use crate::ids::WorkerId;

/// Handle of a worker; clones share it. Dropping handles does not stop it.
#[derive(Clone, Debug)]
pub struct Worker(pub(super) Arc<Shared>);

impl Worker {
    /// The worker's id.
    pub fn id(&self) -> WorkerId {
        self.0.id
    }

    /// Pid of its first process, which is also its session and process group while that lives.
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// When the worker was started.
    pub fn started_at(&self) -> SystemTime {
        self.0.started_at
    }

    /// Bytes that wait to be written to its stdin are charged to that account from now on, unless another is charged
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

    /// Sends one message to a worker that is busy: what others are about to send it goes in that write too,
    /// so that it is not woken for each.
    ///
    /// # Errors
    /// As [`Worker::send`].
    pub fn send_gathered(&self, message: Bytes) -> Result<(), SendError> {
        self.0.unsent.push(message, Delivery::Gathered)
    }

    /// Begins to stop it: closes stdin after what waits, then SIGTERM, then kills the tree, as
    /// [`super::Options`] say. Returns at once; repeating it changes nothing.
    pub fn stop(&self) {
        self.0.ask(Ask::Stop);
    }

    /// Kills the whole tree. Returns at once.
    pub fn kill(&self) {
        self.0.ask(Ask::Kill);
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

    /// Whether the worker's folders took more than they may when it was started, so that its files have not grown since.
    pub fn began_full(&self) -> bool {
        self.0.began_full
    }

    /// How often limits of the worker were reached, as far as a control group keeps them.
    pub fn breaches(&self) -> Breaches {
        let group = self.0.group.as_ref();
        group.map_or_else(Breaches::default, Group::breaches)
    }

    /// The control group of all workers of its tenant, where tenants have a share of the processors each.
    pub fn tenant_group(&self) -> Option<&TenantGroup> {
        self.0.group.as_ref()?.tenant()
    }

    /// The part of `total`, its processor time since it was started, that was not taken before: what is measured at several
    /// places is charged once.
    pub fn take_use(&self, total: Duration) -> Duration {
        let total = u64::try_from(total.as_millis()).unwrap_or(u64::MAX);
        let before = self.0.used_ms.fetch_max(total, Ordering::Relaxed);
        Duration::from_millis(total.saturating_sub(before))
    }

    /// The processor time since the worker's start that was taken, which is all that is known of it.
    pub fn taken_use(&self) -> Duration {
        Duration::from_millis(self.0.used_ms.load(Ordering::Relaxed))
    }

    /// As [`Worker::take_use`], of all that it had used when its first process ended. What other processes of it used after they were
    /// last looked at is not in it, unless they were waited for.
    pub fn take_last_use(&self) -> Duration {
        let used = self.0.processes.borrow().used;
        self.take_use(used)
    }

    /// Pid of the process that adopts and reaps what its processes leave behind, and so has their processor time.
    pub fn init_pid(&self) -> u32 {
        self.0.control.init()
    }

    /// Counters, each exact, together not of one moment.
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }

    /// Pids of the processes of each worker, from one look at `/proc`.
    pub fn trees(workers: &[Self]) -> Vec<Vec<u32>> {
        let workers = workers.iter().map(|it| (&it.0.control, it.0.pid));
        let workers: Vec<_> = workers.collect();
        let trees = Control::trees(&workers);
        trees.unwrap_or_else(|_unreadable| vec![Vec::new(); workers.len()])
    }

    /// Pids of all its processes, the first process first; empty when none is left or `/proc`
    /// cannot be read. Scans `/proc`: some milliseconds, so not for the hot path.
    pub fn tree(&self) -> Vec<u32> {
        self.0.control.tree(self.0.pid).unwrap_or_default()
    }
}
