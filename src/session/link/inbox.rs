//! What comes from the process: lines, lines too long, its end.

use bytes::Bytes;

use super::Link;
use super::slumber::Heard;
use crate::held::Kind;
use crate::protocol::{Failure, Reason};
use crate::worker::{Exit, ExitStatusKind, Inbox, Oversized};

impl Inbox for Link {
    fn message(&self, line: Bytes) {
        let joined = self.joined(line);
        match self.slumber.heard() {
            Heard::Usual => {}
            Heard::Woke(took) => {
                self.order.metrics.worker_woke(took);
                if let Some(shared) = self.shared.upgrade()
                    && let Some(trace) = &shared.trace
                {
                    trace.wake(&self.order.server, took);
                }
            }
            Heard::Stirred => {
                if let Some(shared) = self.shared.upgrade() {
                    shared.pool().stirred(self.id);
                }
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

    fn oversized(&self, line: Oversized) {
        self.too_long(&line);
    }

    fn exited(&self, exit: Exit) {
        let condemned = self.state.lock().condemned.clone();
        let how = if let Some(condemned) = condemned {
            condemned
        } else if exit.stalled {
            "stopped reading its input and was killed".to_owned()
        } else if let Some(stop) = self.stopped_for(exit.asked) {
            format!("was stopped ({stop})")
        } else if exit.asked {
            "was stopped".to_owned()
        } else {
            exit.to_string()
        };
        let (desks, greeted, seated, was_greeted) = {
            let mut state = self.state.lock();
            state.exited = Some(how.clone());
            state.died_of = match exit.status {
                ExitStatusKind::Signal(signal) if !exit.asked => Some(signal),
                _ => None,
            };
            let desks = std::mem::take(&mut state.desks);
            let was_greeted = state.mux.hello().is_some();
            (
                desks,
                state.greeted.take(),
                state.mux.sessions(),
                was_greeted,
            )
        };
        let stderr = self.quote_stderr();
        if let Some(tell) = greeted {
            let _timed_out = tell.send(Err(self.not_greeted(&how)));
        }
        for (_, desk) in desks {
            let failure = Failure::new(
                Reason::WorkerExited,
                format!(
                    "server `{}` {how} while this request was in flight{stderr}",
                    self.order.server
                ),
            );
            drop(desk.lease);
            desk.mailbox.fail(desk.client_id, failure);
        }
        // A start that fails is reported by whoever started it.
        if let Some(shared) = self.shared.upgrade().filter(|_| was_greeted) {
            shared.worker_exited(self, &exit, &seated);
        }
    }
}
