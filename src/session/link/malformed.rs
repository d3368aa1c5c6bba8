//! Messages of the worker that are off: counted, told in the log, and to whoever waits for them.

use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::assembly::TooLong;
use super::excerpt::excerpt;
use super::{Desk, Link};
use crate::bridge::{Era, Malformed, MalformedOutcome, NotGreeted};
use crate::protocol::{Failure, Flaw, Joined, Line, Reason};
use crate::telemetry::labels;
use crate::worker::Oversized;

/// How long a call may still be open that a message of which nothing can be made may have answered.
const SUSPICION_GRACE: Duration = Duration::from_secs(10);

/// How long the lines of one message may be apart.
const LINE_GRACE: Duration = Duration::from_secs(1);

/// What was wrong with a message, for who waits for its answer.
enum Fault {
    /// It is off in that way, and begins so.
    Off(Flaw, String),
    TooLong(TooLong),
}

impl Fault {
    fn flaw(&self) -> Flaw {
        match self {
            Self::Off(flaw, _) => *flaw,
            Self::TooLong(_) => Flaw::TooLong,
        }
    }
}

impl Link {
    /// A message of the worker was off; `desk` waits for it, if anybody does.
    pub(super) fn malformed(&self, malformed: &Malformed, desk: Option<Desk>) {
        let flaw = malformed.flaw;
        let (outcome, suspicion) = match malformed.outcome {
            MalformedOutcome::Taken => (labels::Malformed::Taken, None),
            MalformedOutcome::Failed(_) | MalformedOutcome::NotGreeted => {
                (labels::Malformed::Failed, None)
            }
            MalformedOutcome::Suspected(number) => (labels::Malformed::Suspected, Some(number)),
            MalformedOutcome::Dropped => (labels::Malformed::Dropped, None),
        };
        self.order.metrics.malformed(flaw, outcome);
        // What is too long is in the log already.
        let untold = match flaw {
            Flaw::TooLong => None,
            _ => self.warnings.next(Instant::now()),
        };
        if untold.is_none() && desk.is_none() && suspicion.is_none() {
            return;
        }
        let fault = self.fault_of(malformed);
        if let (Some(untold), Fault::Off(_, excerpt)) = (untold, &fault) {
            let what = flaw.text();
            tracing::warn!(
                parent: &self.span, worker = %self.id, server = %self.order.server, tenant = self.order.whose(), cause = flaw.as_str(),
                outcome = outcome.as_str(), untold, "a message of server `{}` {what}: {excerpt}", self.order.server
            );
        }
        if let Some(number) = suspicion {
            self.look_again(number, fault);
        } else if let Some(desk) = desk {
            let failure = self.failure(&fault, None);
            drop(desk.lease);
            desk.mailbox.fail(desk.client_id, failure);
        }
    }

    /// A line that was too long to be kept: whoever may be meant by it is told.
    pub(super) fn too_long(&self, line: &Oversized) {
        let refused = {
            let mut assembly = self.assembly.lock();
            let refused = assembly.refused.take();
            let len = line.len;
            assembly.too_long = Some(TooLong { len, refused });
            refused
        };
        self.order.metrics.anomaly(labels::Anomaly::Oversized);
        if let Some(untold) = self.warnings.next(Instant::now()) {
            let is_message = line.message.is_some();
            tracing::warn!(
                parent: &self.span, worker = %self.id, server = %self.order.server, tenant = self.order.whose(), bytes = line.len, is_message, untold,
                has_room = refused.is_none(), "a line of server `{}` was too long, and was dropped", self.order.server
            );
        }
        if let Some(message) = &line.message {
            self.with_mux(|state, out| state.mux.broken(&Bytes::new(), message, out));
        }
    }

    fn fault_of(&self, malformed: &Malformed) -> Fault {
        let too_long = self.assembly.lock().too_long;
        match (malformed.flaw, too_long) {
            (Flaw::TooLong, Some(too_long)) => Fault::TooLong(too_long),
            (flaw, _) => Fault::Off(flaw, excerpt(&malformed.line, &self.order.spec.redactor)),
        }
    }

    /// What a caller is told whose answer that was, or may have been so long ago.
    fn failure(&self, fault: &Fault, ago: Option<Duration>) -> Failure {
        let server = &self.order.server;
        let reason = match fault {
            Fault::TooLong(TooLong {
                refused: Some(full),
                ..
            }) => return Failure::from(*full),
            Fault::TooLong(_) => Reason::AnswerTooLarge,
            Fault::Off(..) => Reason::AnswerInvalid,
        };
        let text = match (fault, ago) {
            (_, Some(ago)) => format!(
                "server `{server}` has not answered this request, and {}",
                self.what_may_answer(fault, ago)
            ),
            (Fault::TooLong(long), None) => {
                format!("the answer of server `{server}` {}", self.how_long(*long))
            }
            (Fault::Off(flaw, excerpt), None) => format!(
                "server `{server}` answered this request with a message that {}; it begins: {excerpt}",
                flaw.text()
            ),
        };
        Failure::new(reason, text)
    }

    fn what_may_answer(&self, fault: &Fault, ago: Duration) -> String {
        let seconds = ago.as_secs();
        match fault {
            Fault::TooLong(long) => format!(
                "{seconds} s ago it wrote a message that may be the answer and {}",
                self.how_long(*long)
            ),
            Fault::Off(flaw, excerpt) => format!(
                "{seconds} s ago it wrote a message that {} and may be the answer; it begins: {excerpt}",
                flaw.text()
            ),
        }
    }

    fn how_long(&self, TooLong { len, .. }: TooLong) -> String {
        format!(
            "is {len} bytes long, more than the {} bytes that are let through (raise `servers.{}.max_message`)",
            self.order.options.max_message, self.order.server
        )
    }

    /// Ends the calls that a message may have answered when the worker has shown no sign of life for them meanwhile.
    fn look_again(&self, number: u64, fault: Fault) {
        let shared = self.shared.upgrade();
        let link = shared.as_ref().and_then(|shared| shared.link(self.id));
        if let (Some(shared), Some(link)) = (shared, link) {
            shared.tasks.spawn(async move {
                tokio::time::sleep(SUSPICION_GRACE).await;
                link.suspicion_over(number, &fault);
            });
        }
    }

    fn suspicion_over(&self, number: u64, fault: &Fault) {
        let (desks, greeted) = self.with_mux(|state, out| {
            let (mut desks, mut greeted) = (Vec::new(), None);
            for outcome in state.mux.suspicion_over(number, out) {
                match outcome {
                    MalformedOutcome::Failed(call) => desks.extend(state.desks.remove(&call)),
                    MalformedOutcome::NotGreeted => greeted = state.greeted.take(),
                    MalformedOutcome::Taken
                    | MalformedOutcome::Suspected(_)
                    | MalformedOutcome::Dropped => {}
                }
            }
            (desks, greeted)
        });
        let count = || {
            let failed = labels::Malformed::Failed;
            self.order.metrics.malformed(fault.flaw(), failed);
        };
        if let Some(tell) = greeted {
            count();
            let question = self.order.first_question();
            let what = self.what_may_answer(fault, SUSPICION_GRACE);
            let _timed_out = tell.send(Err(NotGreeted {
                why: format!("it has not answered `{question}`, and {what}"),
                may_take_the_other: self.order.greeting.era == Era::Stateless,
            }));
        }
        for desk in desks {
            count();
            match desk.lease {
                // It may still ask something on behalf of the call.
                Some(lease) if self.order.greeting.is_interactive() => lease.give_up(),
                lease => drop(lease),
            }
            let failure = self.failure(fault, Some(SUSPICION_GRACE));
            desk.mailbox.fail(desk.client_id, failure);
        }
    }

    /// What is to be judged now that this line has come: nothing while a message goes on over several lines.
    pub(super) fn joined(&self, line: Bytes) -> SmallVec<[Joined; 2]> {
        let mut assembly = self.assembly.lock();
        // What it is from here on is charged where it waits.
        assembly.charge = None;
        let told = assembly.lines.line(line);
        let begins = assembly.lines.is_joining() && !assembly.is_watched;
        assembly.is_watched |= begins;
        drop(assembly);
        if begins {
            self.watch_lines();
        }
        told
    }

    /// Judges a message as it is that does not go on.
    fn watch_lines(&self) {
        let shared = self.shared.upgrade();
        let link = shared.as_ref().and_then(|shared| shared.link(self.id));
        let (Some(shared), Some(link)) = (shared, link) else {
            return;
        };
        shared.tasks.spawn(async move {
            let mut seen = 0;
            loop {
                tokio::time::sleep(LINE_GRACE).await;
                let left = {
                    let mut assembly = link.assembly.lock();
                    let heard = assembly.lines.heard();
                    let has_grown = std::mem::replace(&mut seen, heard) != heard;
                    if has_grown && assembly.lines.is_joining() {
                        continue;
                    }
                    assembly.is_watched = false;
                    assembly.lines.give_up()
                };
                left.into_iter().for_each(|left| link.judge(left));
                return;
            }
        });
    }

    /// Takes a message or a log's line.
    pub(super) fn judge(&self, joined: Joined) {
        // A worker's log costs no more than being looked at: nobody waits for the lock meanwhile.
        if Line::is_plain_log(&joined.text) {
            self.order.metrics.garbage_lines(joined.lines);
        } else {
            self.with_mux(|state, out| state.mux.worker_line(joined.text, out));
        }
    }

    /// What comes of a handshake that was answered with that.
    pub(super) fn answered_malformed(&self, malformed: &Malformed) -> NotGreeted {
        let what = match self.fault_of(malformed) {
            Fault::Off(flaw, excerpt) => format!("{}; it begins: {excerpt}", flaw.text()),
            Fault::TooLong(long) => self.how_long(long),
        };
        let question = self.order.first_question();
        NotGreeted {
            why: format!("it answered `{question}` with a message that {what}"),
            may_take_the_other: self.order.greeting.era == Era::Stateless,
        }
    }
}
