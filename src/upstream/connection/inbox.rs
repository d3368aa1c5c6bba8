//! What comes from the process: lines, lines too long, its end.

use bytes::Bytes;

use super::hibernation::Heard;
use super::{LifeStage, WorkerConnection};
use crate::counted::in_ms;
use crate::held::Kind;
use crate::pool::StopReason;
use crate::profile::Seen;
use crate::protocol::{Failure, Line, Reason};
use crate::upstream::events::ConnectionEvent;
use crate::upstream::outcomes::why_stopped;
use crate::worker::{EgressAttempt, Exit, ExitStatusKind, Inbox, Oversized};

impl Inbox for WorkerConnection {
    fn message(&self, line: Bytes) {
        let joined = self.joined(line);
        match self.hibernation.heard() {
            Heard::Usual => {}
            Heard::Woke(took) => {
                self.plan.metrics.worker_woke(took);
                let how = format!("woken, and heard of after {}", in_ms(took));
                self.note_life(LifeStage::Woken, &how);
                if let Some(trace) = &self.services.trace {
                    trace.wake(&self.plan.server, took);
                }
            }
            Heard::SpontaneousWake => {
                self.note_life(LifeStage::Woken, "said something unasked");
                self.services.pool.spontaneous_wake(self.id);
            }
        }
        for joined in joined {
            self.judge(joined);
        }
    }

    fn assembling(&self, bytes: usize) -> bool {
        let Some(account) = &self.account else {
            return true;
        };
        let mut assembly = self.assembly.lock();
        let charge = assembly
            .charge
            .get_or_insert_with(|| account.nothing(Kind::Answer));
        let grown = charge.resize(bytes);
        if let Err(full) = grown {
            assembly.charge = None;
            assembly.refused = Some(full);
        }
        grown.is_ok()
    }

    fn joining(&self) -> usize {
        self.assembly.lock().lines.kept()
    }

    fn ends_with(&self, line: &[u8]) -> bool {
        self.assembly.lock().lines.ends_with(line)
    }

    fn is_log(&self, line: &[u8]) -> bool {
        matches!(Line::of(line), Line::Log)
    }

    fn oversized(&self, line: Oversized) {
        self.too_long(&line);
    }

    fn reached(&self, reached: &EgressAttempt) {
        self.note_reached(reached);
    }

    fn observed(&self, seen: &Seen) {
        self.note_observed(seen);
    }

    fn exited(&self, exit: Exit) {
        self.note_killed_for_memory(&exit);
        let kill_reason = self.state.lock().kill_reason.clone();
        let how = if let Some((_, kill_reason)) = kill_reason {
            kill_reason
        } else if exit.stalled {
            "stopped reading its input and was killed".to_owned()
        } else if let Some(stop) = self.stopped_for(exit.asked) {
            format!("was stopped ({})", why_stopped(&stop))
        } else if exit.asked {
            "was stopped".to_owned()
        } else {
            exit.to_string()
        };
        let (pending_calls, handshake, attached, had_server_info) = {
            let mut state = self.state.lock();
            state.exited = Some(how.clone());
            state.died_of = match exit.status {
                ExitStatusKind::Signal(signal) if !exit.is_own_doing() => Some(signal),
                _ => None,
            };
            let pending_calls = std::mem::take(&mut state.pending_calls);
            let had_server_info = state.mux.server_info().is_some();
            (
                pending_calls,
                state.handshake.take(),
                state.mux.sessions(),
                had_server_info,
            )
        };
        let stderr = self.quote_stderr();
        if let Some(tell) = handshake {
            let _timed_out = tell.send(Err(self.handshake_failed(&how)));
        }
        for (_, pending) in pending_calls {
            let failure = Failure::new(
                Reason::WorkerExited,
                format!(
                    "server `{}` {how} while this request was in flight{stderr}",
                    self.plan.server
                ),
            );
            drop(pending.lease);
            pending.outbox.fail(pending.client_id, failure);
        }
        // A start that fails is reported by whoever started it.
        if !had_server_info {
            return;
        }
        if !exit.asked {
            tracing::warn!(
                parent: &self.span, worker = %self.id, server = %self.plan.server, tenant = self.plan.whose(),
                "worker {exit}"
            );
        }
        self.services.pool.retire(self.id, StopReason::Invalidated);
        self.tell(ConnectionEvent::Exited(attached));
    }
}
