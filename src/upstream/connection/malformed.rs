//! Messages of the worker that are off: counted, told in the log, and to whoever waits for them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::time::{Instant, sleep_until};

use super::assembly::TooLong;
use super::excerpt::excerpt;
use super::{PendingCall, WorkerConnection};
use crate::bridge::{HandshakeError, Malformed, MalformedOutcome};
use crate::fair::{LARGE, large};
use crate::held::Full;
use crate::protocol::{Failure, Flaw, Joined, Line, Reason};
use crate::telemetry::labels;
use crate::worker::Oversized;

/// How long a call may still be open that a message of which nothing can be made may have answered.
const SUSPICION_GRACE: Duration = Duration::from_secs(10);

/// How long the lines of one message may be apart. A server that writes a message in parts may be busy between them.
const LINE_GRACE: Duration = Duration::from_secs(5);

/// How long a message over several lines may take in all: what never ends must not hold up for long what comes behind it.
const LINES_GRACE: Duration = Duration::from_secs(10);

/// How long the second line may take to come where the first is more likely cut off.
const DOUBTFUL_GRACE: Duration = Duration::from_secs(1);

/// The detail of a malformed message, for whoever waits for its answer.
enum MalformedDetail {
    /// The message is off in that way, and begins so.
    Off(Flaw, String),
    TooLong(TooLong),
}

impl MalformedDetail {
    fn flaw(&self) -> Flaw {
        match self {
            Self::Off(flaw, _) => *flaw,
            Self::TooLong(_) => Flaw::TooLong,
        }
    }
}

impl WorkerConnection {
    /// A message of the worker was off. `pending`: the call that waits for the answer, if one does.
    pub(super) fn malformed(&self, malformed: &Malformed, pending: Option<PendingCall>) {
        let flaw = malformed.flaw;
        let (outcome, suspicion) = match malformed.outcome {
            MalformedOutcome::Taken => (labels::Malformed::Taken, None),
            MalformedOutcome::Failed(_) | MalformedOutcome::HandshakeFailed => {
                (labels::Malformed::Failed, None)
            }
            MalformedOutcome::Suspected(number) => (labels::Malformed::Suspected, Some(number)),
            MalformedOutcome::Dropped => (labels::Malformed::Dropped, None),
        };
        self.plan.metrics.malformed(flaw, outcome);
        // A line that is too long is in the log already.
        let untold = match flaw {
            Flaw::TooLong => None,
            _ => self.warnings.next(Instant::now()),
        };
        if untold.is_none() && pending.is_none() && suspicion.is_none() {
            return;
        }
        let detail = self.detail_of(malformed);
        if let (Some(untold), MalformedDetail::Off(_, excerpt)) = (untold, &detail) {
            let what = flaw.text();
            tracing::warn!(
                parent: &self.span, worker = %self.id, server = %self.plan.server, tenant = self.plan.whose(), cause = flaw.as_str(),
                outcome = outcome.as_str(), untold, "a message of server `{}` {what}: {excerpt}", self.plan.server
            );
        }
        if let Some(number) = suspicion {
            self.look_again(number, detail);
        } else if let Some(pending) = pending {
            let failure = self.failure(&detail, None);
            drop(pending.lease);
            pending.outbox.fail(pending.client_id, failure);
        }
    }

    /// A line that was too long to be kept: whoever may be meant by it is told.
    pub(super) fn too_long(&self, line: &Oversized) {
        let refused = {
            let mut assembly = self.assembly.lock();
            // A line that is no message by itself may be a part of one.
            if line.message.is_none() && assembly.lines.too_long(line.len) {
                assembly.lines_refused = assembly.refused.take();
                return;
            }
            assembly.refused.take()
        };
        self.was_too_long(line, refused);
    }

    /// A message, over several lines or not, was too long to be kept, or there was no room for it.
    fn was_too_long(&self, line: &Oversized, refused: Option<Full>) {
        let len = line.len;
        self.assembly.lock().too_long = Some(TooLong { len, refused });
        self.plan.metrics.anomaly(labels::Anomaly::Oversized);
        if let Some(untold) = self.warnings.next(Instant::now()) {
            let is_message = line.message.is_some();
            tracing::warn!(
                parent: &self.span, worker = %self.id, server = %self.plan.server, tenant = self.plan.whose(), bytes = line.len, is_message, untold,
                has_room = refused.is_none(), "a line of server `{}` was too long, and was dropped", self.plan.server
            );
        }
        if let Some(message) = &line.message {
            self.with_mux(|state, out| state.mux.broken(&Bytes::new(), message, out));
        }
    }

    fn detail_of(&self, malformed: &Malformed) -> MalformedDetail {
        let too_long = self.assembly.lock().too_long;
        match (malformed.flaw, too_long) {
            (Flaw::TooLong, Some(too_long)) => MalformedDetail::TooLong(too_long),
            (flaw, _) => {
                MalformedDetail::Off(flaw, excerpt(&malformed.line, &self.plan.spec.redactor))
            }
        }
    }

    /// What a caller is told whose answer that was, or may have been so long ago.
    fn failure(&self, detail: &MalformedDetail, ago: Option<Duration>) -> Failure {
        let server = &self.plan.server;
        let reason = match detail {
            MalformedDetail::TooLong(TooLong {
                refused: Some(full),
                ..
            }) => return Failure::from(*full),
            MalformedDetail::TooLong(_) => Reason::AnswerTooLarge,
            MalformedDetail::Off(..) => Reason::AnswerInvalid,
        };
        let text = match (detail, ago) {
            (_, Some(ago)) => format!(
                "server `{server}` has not answered this request, and {}",
                self.what_may_answer(detail, ago)
            ),
            (MalformedDetail::TooLong(long), None) => {
                format!("the answer of server `{server}` {}", self.how_long(*long))
            }
            (MalformedDetail::Off(flaw, excerpt), None) => format!(
                "server `{server}` answered this request with a message that {}; it begins: {excerpt}",
                flaw.text()
            ),
        };
        Failure::new(reason, text)
    }

    fn what_may_answer(&self, detail: &MalformedDetail, ago: Duration) -> String {
        let seconds = ago.as_secs();
        match detail {
            MalformedDetail::TooLong(long) => format!(
                "{seconds} s ago it wrote a message that may be the answer and {}",
                self.how_long(*long)
            ),
            MalformedDetail::Off(flaw, excerpt) => format!(
                "{seconds} s ago it wrote a message that {} and may be the answer; it begins: {excerpt}",
                flaw.text()
            ),
        }
    }

    fn how_long(&self, TooLong { len, .. }: TooLong) -> String {
        format!(
            "is {len} bytes long, more than the {} bytes that are let through (raise `servers.{}.max_message`)",
            self.plan.options.max_message, self.plan.server
        )
    }

    /// Ends the calls that a message may have answered when the worker has shown no sign of life for them meanwhile.
    fn look_again(&self, number: u64, detail: MalformedDetail) {
        if let Some(connection) = self.me.upgrade() {
            self.services.tasks.spawn(async move {
                tokio::time::sleep(SUSPICION_GRACE).await;
                connection.suspicion_over(number, &detail);
            });
        }
    }

    fn suspicion_over(&self, number: u64, detail: &MalformedDetail) {
        let (pending_calls, handshake) = self.with_mux(|state, out| {
            let (mut pending_calls, mut handshake) = (Vec::new(), None);
            for outcome in state.mux.suspicion_over(number, out) {
                match outcome {
                    MalformedOutcome::Failed(call) => {
                        pending_calls.extend(state.pending_calls.remove(&call))
                    }
                    MalformedOutcome::HandshakeFailed => handshake = state.handshake.take(),
                    MalformedOutcome::Taken
                    | MalformedOutcome::Suspected(_)
                    | MalformedOutcome::Dropped => {}
                }
            }
            (pending_calls, handshake)
        });
        let count = || {
            let failed = labels::Malformed::Failed;
            self.plan.metrics.malformed(detail.flaw(), failed);
        };
        if let Some(tell) = handshake {
            count();
            let question = self.plan.first_question();
            let what = self.what_may_answer(detail, SUSPICION_GRACE);
            let why = format!("it has not answered `{question}`, and {what}");
            let _timed_out = tell.send(Err(HandshakeError::unanswered(&self.plan.handshake, why)));
        }
        for pending in pending_calls {
            count();
            match pending.lease {
                // The worker may still ask something on behalf of the call.
                Some(lease) if self.plan.handshake.is_interactive() => lease.give_up(),
                lease => drop(lease),
            }
            let failure = self.failure(detail, Some(SUSPICION_GRACE));
            pending.outbox.fail(pending.client_id, failure);
        }
    }

    /// Whether no message over several lines has begun, as a line comes. What was charged for the line is charged where its message waits from
    /// here on.
    pub(super) fn is_between_messages(&self) -> bool {
        let mut assembly = self.assembly.lock();
        assembly.charge = None;
        !assembly.lines.is_joining()
    }

    /// What is to be judged now that this line has come: nothing while a message goes on over several lines.
    pub(super) fn joined(&self, line: Bytes) -> SmallVec<[Joined; 2]> {
        let mut assembly = self.assembly.lock();
        let was_joining = assembly.lines.is_joining();
        let told = assembly.lines.line(line);
        if let Some(account) = &self.account {
            assembly.charge_lines(account);
        }
        if assembly.lines.is_joining() {
            let now = Instant::now();
            // The told lines have ended the message that was there: another has begun.
            if !was_joining || !told.is_empty() {
                assembly.began = Some(now);
            }
            let before = assembly.watched_since.replace(now);
            drop(assembly);
            if before.is_none() {
                self.watch_lines();
            }
        }
        told
    }

    /// Judges a message as it is that does not go on.
    fn watch_lines(&self) {
        let Some(connection) = self.me.upgrade() else {
            return;
        };
        self.services.tasks.spawn(async move {
            loop {
                let (due, left) = connection.lines_given_up();
                let Some(due) = due else {
                    return connection.judge_left(left).await;
                };
                sleep_until(due).await;
            }
        });
    }

    /// When a message that is not whole is looked at again, or what is there of one that does not go on.
    fn lines_given_up(&self) -> (Option<Instant>, SmallVec<[Joined; 2]>) {
        let mut assembly = self.assembly.lock();
        let grace = match assembly.lines.is_doubtful() {
            true => DOUBTFUL_GRACE,
            false => LINE_GRACE,
        };
        let due = assembly.watched_since.map(|since| since + grace);
        let latest = assembly.began.map(|began| began + LINES_GRACE);
        let due = due.map(|due| latest.map_or(due, |latest| due.min(latest)));
        let due = due.filter(|due| assembly.lines.is_joining() && *due > Instant::now());
        if due.is_some() {
            return (due, SmallVec::new());
        }
        assembly.watched_since = None;
        assembly.lines_charge = None;
        (None, assembly.lines.give_up())
    }

    async fn judge_left(self: Arc<Self>, left: SmallVec<[Joined; 2]>) {
        let is_large = left.iter().any(|left| left.len() >= LARGE);
        let flow = self.flow.clone();
        let judge = move || left.into_iter().for_each(|left| self.judge(left));
        match is_large {
            true => large(&flow, judge).await,
            false => judge(),
        }
    }

    /// Takes a message or a log's line.
    pub(super) fn judge(&self, joined: Joined) {
        let (text, lines) = match joined {
            Joined::Text { text, lines } => (text, lines),
            Joined::TooLong { len, message, .. } => {
                let refused = self.assembly.lock().lines_refused.take();
                return self.was_too_long(&Oversized { len, message }, refused);
            }
        };
        // A worker's log costs no more than being looked at: nobody waits for the lock meanwhile.
        if Line::is_plain_log(&text) {
            self.plan.metrics.garbage_lines(lines);
        } else {
            self.with_mux(|state, out| state.mux.worker_line(text, out));
        }
    }

    /// What comes of a handshake that was answered with that.
    pub(super) fn answered_malformed(&self, malformed: &Malformed) -> HandshakeError {
        let what = match self.detail_of(malformed) {
            MalformedDetail::Off(flaw, excerpt) => format!("{}; it begins: {excerpt}", flaw.text()),
            MalformedDetail::TooLong(long) => self.how_long(long),
        };
        let question = self.plan.first_question();
        let why = format!("it answered `{question}` with a message that {what}");
        HandshakeError::unanswered(&self.plan.handshake, why)
    }
}
