//! Messages of the worker that are off: counted, told in the log, and to whoever waits for them.

use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::{Desk, Link};
use crate::bridge::{Era, Malformed, MalformedOutcome, NotGreeted};
use crate::escape;
use crate::launch::Redactor;
use crate::protocol::{Failure, Flaw, Joined, Reason, is_noise};
use crate::telemetry::labels;

/// How much of a message is quoted, in characters.
const QUOTED: usize = 200;
/// How much of it is read for that, in bytes, so that secrets are masked before it is cut.
const READ: usize = 64 << 10;
/// How much of what was read is not quoted where more follows: a secret may go on there.
const MARGIN: usize = 8 << 10;

/// The beginning of a message for people: escapes read, secrets masked, on one line.
fn excerpt(line: &[u8], redactor: &Redactor) -> String {
    let read = &line[..line.len().min(READ)];
    let plain = unescaped(&String::from_utf8_lossy(read));
    let mut masked = redactor.redact(&plain);
    let mut is_cut = read.len() < line.len();
    if is_cut {
        let most = masked.len().saturating_sub(MARGIN);
        let end = (0..=most).rev().find(|end| masked.is_char_boundary(*end));
        masked.truncate(end.unwrap_or_default());
    }
    if let Some((end, _)) = masked.char_indices().nth(QUOTED) {
        masked.truncate(end);
        is_cut = true;
    }
    let mut shown = escape::for_log(&masked).into_owned();
    if is_cut {
        shown.push('…');
    }
    shown
}

/// A text with the escapes of JSON read, as far as there are any, so that no spelling hides a secret.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        // The longest escape is of two halves of a pair.
        let lens = [12, 6, 2].into_iter();
        let read = lens
            .filter_map(|len| Some((len, rest.get(at..at + len)?)))
            .find_map(|(len, escape)| {
                let text: String = serde_json::from_str(&format!("\"{escape}\"")).ok()?;
                (text.chars().count() == 1).then_some((len, text))
            });
        let (len, text) = read.unwrap_or((1, "\\".to_owned()));
        plain.push_str(&text);
        rest = &rest[at + len..];
    }
    plain.push_str(rest);
    plain
}

/// How long a call may still be open that a message of which nothing can be made may have answered.
const SUSPICION_GRACE: Duration = Duration::from_secs(10);

/// How long the lines of one message may be apart.
const LINE_GRACE: Duration = Duration::from_secs(1);

impl Link {
    /// A message of the worker was off; `desk` waits for it, if anybody does.
    pub(super) fn malformed(&self, malformed: &Malformed, desk: Option<Desk>) {
        let Malformed {
            flaw,
            outcome,
            line,
        } = malformed;
        let outcome = match outcome {
            MalformedOutcome::Taken => labels::Malformed::Taken,
            MalformedOutcome::Failed(_) | MalformedOutcome::NotGreeted => labels::Malformed::Failed,
            MalformedOutcome::Suspected(_) => labels::Malformed::Suspected,
            MalformedOutcome::Dropped => labels::Malformed::Dropped,
        };
        let suspicion = match malformed.outcome {
            MalformedOutcome::Suspected(number) => Some(number),
            _ => None,
        };
        self.order.metrics.malformed(*flaw, outcome);
        let untold = self.warnings.next(Instant::now());
        if untold.is_none() && desk.is_none() && suspicion.is_none() {
            return;
        }
        let excerpt = excerpt(line, &self.order.spec.redactor);
        if let Some(untold) = untold {
            let what = flaw.text();
            tracing::warn!(
                parent: &self.span, worker = %self.id, server = %self.order.server, tenant = self.order.whose(), cause = flaw.as_str(),
                outcome = outcome.as_str(), untold, "a message of server `{}` {what}: {excerpt}", self.order.server
            );
        }
        if let Some(number) = suspicion {
            self.look_again(number, *flaw, excerpt);
        } else if let Some(desk) = desk {
            let failure = Failure::new(
                Reason::AnswerInvalid,
                format!(
                    "server `{}` answered this request with a message that {}; it begins: {excerpt}",
                    self.order.server,
                    flaw.text()
                ),
            );
            drop(desk.lease);
            desk.mailbox.fail(desk.client_id, failure);
        }
    }

    /// Ends the calls that a message may have answered when the worker has shown no sign of life for them meanwhile.
    fn look_again(&self, number: u64, flaw: Flaw, excerpt: String) {
        let shared = self.shared.upgrade();
        let link = shared.as_ref().and_then(|shared| shared.link(self.id));
        if let (Some(shared), Some(link)) = (shared, link) {
            shared.tasks.spawn(async move {
                tokio::time::sleep(SUSPICION_GRACE).await;
                link.suspicion_over(number, flaw, &excerpt);
            });
        }
    }

    fn suspicion_over(&self, number: u64, flaw: Flaw, excerpt: &str) {
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
        let seconds = SUSPICION_GRACE.as_secs();
        let what = format!(
            "{seconds} s ago it wrote a message that {} and may be the answer; it begins: {excerpt}",
            flaw.text()
        );
        if let Some(tell) = greeted {
            self.order
                .metrics
                .malformed(flaw, labels::Malformed::Failed);
            let question = self.order.first_question();
            let _timed_out = tell.send(Err(NotGreeted {
                why: format!("it has not answered `{question}`, and {what}"),
                may_take_the_other: self.order.greeting.era == Era::Stateless,
            }));
        }
        for desk in desks {
            self.order
                .metrics
                .malformed(flaw, labels::Malformed::Failed);
            let text = format!(
                "server `{}` has not answered this request, and {what}",
                self.order.server
            );
            match desk.lease {
                // It may still ask something on behalf of the call.
                Some(lease) if self.order.greeting.is_interactive() => lease.give_up(),
                lease => drop(lease),
            }
            desk.mailbox
                .fail(desk.client_id, Failure::new(Reason::AnswerInvalid, text));
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
                if let Some(left) = left {
                    link.judge(left);
                }
                return;
            }
        });
    }

    /// Takes a message or a log's line.
    pub(super) fn judge(&self, joined: Joined) {
        // A worker's log costs no more than being looked at: nobody waits for the lock meanwhile.
        if is_noise(&joined.text) {
            self.order.metrics.garbage_lines(joined.lines);
        } else if joined.lines == 1 {
            self.with_mux(|state, out| state.mux.worker_line(joined.text, out));
        } else {
            self.with_mux(|state, out| state.mux.worker_lines(joined.text, out));
        }
    }

    /// What comes of a handshake that was answered with that.
    pub(super) fn answered_malformed(&self, malformed: &Malformed) -> NotGreeted {
        NotGreeted {
            why: format!(
                "it answered `{}` with a message that {}; it begins: {}",
                self.order.first_question(),
                malformed.flaw.text(),
                excerpt(&malformed.line, &self.order.spec.redactor)
            ),
            may_take_the_other: self.order.greeting.era == Era::Stateless,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_short_masked_and_on_one_line() {
        let redactor = Redactor::new(["hunter/22\"".into()]);
        let line = br#"{"a":"hunter/22\"","b":"h\u0075nter\/22\"","c":"x\ny\u001b[1m","d":"\ud83d\ude00 \q"}"#;
        let quoted = excerpt(line, &redactor);
        assert_eq!(
            quoted,
            r#"{"a":"[redacted]","b":"[redacted]","c":"x\ny\x1b[1m","d":"😀 \q"}"#
        );
        let long = format!("{}é", "x".repeat(QUOTED - 1)).repeat(2);
        let quoted = excerpt(long.as_bytes(), &redactor);
        assert_eq!(quoted.chars().count(), QUOTED + 1);
        // A secret that begins in what is read and ends after it.
        let mut long = "y".repeat(READ - 4);
        long.push_str("hunter/22\"");
        let quoted = excerpt(long.as_bytes(), &redactor);
        assert!(!quoted.contains("hunt"), "{quoted}");
    }
}
