//! What a guardian reports, until it ends; and what is done when it is silent or lost.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use super::connection::{Connection, Entry, Pids};
use super::heartbeat::{self, Heartbeat, Step};
use super::sweep;
use super::wire::{Received, Report, Request, send};
use crate::process::{Process, RunState};
use crate::worker::ExitStatusKind;

impl Connection {
    /// Reads reports until the guardian ends, then sees to it that nothing is left.
    pub(super) async fn read(self: Arc<Self>, child: Child, was_ready: bool) {
        if was_ready {
            self.take_all().await;
        }
        self.lost(child).await;
    }

    async fn take_all(self: &Arc<Self>) {
        enum Woken {
            Received(io::Result<Received<Report>>),
            Tick,
        }
        let mut heartbeat = Heartbeat::default();
        let mut ticks = tokio::time::interval(heartbeat::PERIOD);
        // A supervisor that was stopped meanwhile has missed the answers, not the guardian.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let woken = tokio::select! {
                // What was said is heard before silence is counted.
                biased;
                received = self.receive() => Woken::Received(received),
                _ = ticks.tick() => Woken::Tick,
            };
            match woken {
                Woken::Received(Ok(Received::Message(report, _))) => {
                    heartbeat.heard();
                    self.take(report);
                }
                Woken::Received(Ok(Received::Garbage)) => {
                    tracing::warn!("unreadable report from the guardian");
                }
                Woken::Received(Ok(Received::End) | Err(_)) => return,
                Woken::Tick => {
                    let step = heartbeat.tick(|| self.is_stopped());
                    if !self.act(step) {
                        return;
                    }
                }
            }
        }
    }

    fn is_stopped(&self) -> bool {
        Process::now(self.guardian).is_some_and(|it| it.state == RunState::Stopped)
    }

    /// Does what the heartbeat says; whether the guardian is kept.
    fn act(&self, step: Step) -> bool {
        match step {
            Step::Wait => {}
            Step::Ping => {
                // Not waited for: where there is no room, there is no answer either, and silence is counted.
                let _no_room = send(self.socket.as_raw_fd(), &Request::Ping, &[]);
            }
            Step::Continue => {
                tracing::warn!(
                    pid = self.guardian,
                    "the guardian process was stopped (SIGSTOP, or a debugger); it is let go on: while it is stopped no worker starts or ends"
                );
                // The guardian is not reaped before this task ends, so that the pid is its own.
                let pid = nix::unistd::Pid::from_raw(self.guardian.cast_signed());
                let _ended_meanwhile =
                    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT);
            }
            Step::GiveUp => {
                tracing::error!(
                    pid = self.guardian,
                    "the guardian process does not answer; it is killed, and with it all workers"
                );
                return false;
            }
        }
        true
    }

    fn take(self: &Arc<Self>, report: Report) {
        match report {
            Report::Ready | Report::Pong => {}
            Report::Spawned { id, pid, init } => {
                let pids = Pids { leader: pid, init };
                let waiting = self.with(id, |entry| entry.started.take()).flatten();
                // Whoever asked may have given up; then nobody owns the worker.
                if waiting.is_none_or(|waiting| waiting.send(Ok(pids)).is_err()) {
                    let connection = self.clone();
                    // Not here: this task must go on reading while the request waits for room.
                    tokio::spawn(async move { connection.kill_tree(id).await });
                }
            }
            Report::SpawnFailed { id, failure } => {
                let entry = self.state.lock().workers.remove(&id);
                if let Some(waiting) = entry.and_then(|entry| entry.started) {
                    let _gave_up = waiting.send(Err(failure));
                }
            }
            Report::LeaderExited {
                id,
                status,
                used_ms,
            } => {
                let status = ExitStatusKind::from(ExitStatus::from_raw(status));
                self.with(id, |entry| {
                    entry.processes.send_modify(|processes| {
                        processes.leader = Some(status);
                        processes.used = Duration::from_millis(used_ms);
                    });
                });
            }
            Report::Gone { id } => {
                if let Some(entry) = self.state.lock().workers.remove(&id) {
                    entry
                        .processes
                        .send_modify(|processes| processes.gone = true);
                }
            }
        }
    }

    fn with<R>(&self, id: u64, act: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        self.state.lock().workers.get_mut(&id).map(act)
    }

    async fn lost(&self, mut child: Child) {
        let entries: Vec<Entry> = {
            let mut state = self.state.lock();
            state.open = false;
            // Dropping `started` tells those who wait for a start.
            state.workers.drain().map(|(_, entry)| entry).collect()
        };
        if !entries.is_empty() {
            tracing::error!(
                workers = entries.len(),
                "the guardian process was lost: its workers end, calls in flight at them fail, sessions of stateful servers end; the next call starts another guardian and new workers"
            );
        }
        for entry in &entries {
            entry.processes.send_modify(|processes| {
                processes.leader.get_or_insert(ExitStatusKind::Lost);
            });
        }
        let reaped = tokio::task::spawn_blocking(move || {
            // No effect on one that has ended; one that closed its socket otherwise must end.
            let _ended_already = child.kill();
            let reaped = child.wait();
            sweep::unregister(child.id());
            reaped
        })
        .await;
        if !matches!(reaped, Ok(Ok(_))) {
            tracing::error!(?reaped, "cannot wait for the guardian process");
        }
        sweep::sweep().await;
        for entry in &entries {
            entry
                .processes
                .send_modify(|processes| processes.gone = true);
        }
        self.ended.send_replace(true);
    }
}
