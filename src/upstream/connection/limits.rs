//! Workers that reach a limit: some are kept from going on, some are ended, and whoever waits for one is told which limit it was.

use super::{LifeStage, WorkerConnection};
use crate::pool::StopReason;
use crate::telemetry::labels::Limit;
use crate::worker::{Exit, ExitStatusKind};

impl WorkerConnection {
    /// Kills the process for holding more memory than it may.
    pub fn end_for_memory(&self, held: u64, limit: u64) {
        let (held, limit) = (held.div_ceil(1 << 20), limit >> 20);
        let how = format!(
            "held {held} MiB of memory, more than the {limit} MiB it may (raise `servers.{}.limits.memory`), and was killed",
            self.plan.server
        );
        self.end_for(StopReason::Memory, Limit::Memory, how);
    }

    /// Ends what is left of a worker of which the kernel has killed a process for the memory of all: half a server serves nobody.
    pub fn end_for_killed_process(&self, limit: u64) {
        let how = format!(
            "held more memory than the {} MiB it may: the kernel killed a process of it, and the others were ended (raise `servers.{}.limits.memory`)",
            limit >> 20,
            self.plan.server
        );
        self.end_for(StopReason::Memory, Limit::Memory, how);
    }

    /// Kills the process for having more processes than it may, where no control group keeps it from that.
    pub fn end_for_pids(&self, count: usize, limit: u64) {
        let how = format!(
            "had {count} processes, more than the {limit} it may (raise `servers.{}.limits.pids`), and was killed",
            self.plan.server
        );
        self.end_for(StopReason::Pids, Limit::Pids, how);
    }

    /// Kills the process for taking far more of the disk than it may.
    pub fn end_for_disk(&self, used: u64, limit: u64) {
        let (used, limit) = (used.div_ceil(1 << 20), limit >> 20);
        let how = format!(
            "took {used} MiB of the disk in its folders, more than the {limit} MiB it may (raise `servers.{}.limits.disk`, or remove some of it), and was killed",
            self.plan.server
        );
        self.end_for(StopReason::Disk, Limit::Disk, how);
    }

    fn end_for(&self, reason: StopReason, limit: Limit, how: String) {
        self.note_limit(limit, &how);
        self.state.lock().kill_reason = Some((reason, how));
        self.services.pool.retire(self.id, reason);
        if let Some(worker) = self.worker.get() {
            worker.kill();
        }
    }

    /// A limit was reached: counts it and says so in the log.
    pub fn note_limit(&self, limit: Limit, how: &str) {
        self.plan.metrics.limit_reached(limit);
        self.note_life(LifeStage::Limited, how);
        tracing::warn!(parent: &self.span, worker = %self.id, server = %self.plan.server, tenant = self.plan.whose(), limit = limit.as_str(), "worker {how}");
    }

    /// The process has ended: if the kernel killed it for the memory of its control group, that is why.
    pub(super) fn note_killed_for_memory(&self, exit: &Exit) {
        let was_killed = matches!(exit.status, ExitStatusKind::Signal(libc::SIGKILL));
        let worker = self.worker.get();
        if !was_killed || exit.asked || worker.is_none_or(|it| it.breaches().memory == 0) {
            return;
        }
        let limit = self.plan.max_memory.map_or_else(
            || "than it may".to_owned(),
            |limit| format!("than the {} MiB it may", limit >> 20),
        );
        let how = format!(
            "held more memory {limit}, and was killed by the kernel (raise `servers.{}.limits.memory`)",
            self.plan.server
        );
        let mut state = self.state.lock();
        if state.kill_reason.is_none() {
            state.kill_reason = Some((StopReason::Memory, how.clone()));
            drop(state);
            self.note_limit(Limit::Memory, &how);
            // The pool counts why workers are gone.
            self.services.pool.retire(self.id, StopReason::Memory);
        }
    }
}
