//! What comes from the process: lines, lines too long, its end.

use bytes::Bytes;

use super::Link;
use super::slumber::Heard;
use crate::bridge::CallId;
use crate::held::Kind;
use crate::protocol::{Failure, Reason};
use crate::telemetry::labels;
use crate::worker::{Exit, Inbox, Oversized};

impl Inbox for Link {
    fn message(&self, line: Bytes) {
        // What it is from here on is charged where it waits.
        self.assembly.lock().charge = None;
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
        self.with_mux(|state, out| state.mux.worker_line(line, out));
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
        let refused = self.assembly.lock().refused.take();
        self.order.metrics.anomaly(labels::Anomaly::Oversized);
        let failed = self.with_mux(|state, out| {
            let named = line
                .id
                .as_deref()
                .and_then(|id| id.parse().ok())
                .map(CallId);
            let only = || match state.desks.len() {
                1 => state.desks.keys().next().copied(),
                _ => None,
            };
            let id = match (named, line.has_method) {
                (_, true) => None,
                (Some(id), false) => Some(id),
                (None, false) => only(),
            }?;
            let desk = state.desks.remove(&id)?;
            state.mux.fail(id, out);
            Some(desk)
        });
        if let (Some(id), true, Some(worker)) = (&line.id, line.has_method, self.worker.get()) {
            // It asked the client something: without an answer it would wait for good.
            let failure = Failure::new(Reason::MessageTooLarge, "the request is too large");
            let _closed_or_full = worker.send(failure.to_response(Some(id)).into());
        }
        tracing::warn!(worker = %self.id, server = %self.order.server, bytes = line.len, "message over the bound was discarded");
        if let Some(desk) = failed {
            let too_large = || {
                Failure::new(
                    Reason::AnswerTooLarge,
                    format!(
                        "the answer of server `{}` is {} bytes long, more than the {} bytes that are let through (raise `servers.{}.max_message`)",
                        self.order.server,
                        line.len,
                        self.order.options.max_message,
                        self.order.server
                    ),
                )
            };
            let failure = refused.map_or_else(too_large, Failure::from);
            drop(desk.lease);
            desk.mailbox.fail(desk.client_id, failure);
        }
    }

    fn exited(&self, exit: Exit) {
        let condemned = self.state.lock().condemned.clone();
        let how = if let Some(condemned) = condemned {
            condemned
        } else if exit.stalled {
            "stopped reading its input and was killed".to_owned()
        } else if let Some(stop) = self.cut_short() {
            format!("was stopped ({stop})")
        } else if exit.asked {
            "was stopped".to_owned()
        } else {
            exit.to_string()
        };
        let (desks, greeted, seated, was_greeted) = {
            let mut state = self.state.lock();
            state.exited = Some(how.clone());
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
