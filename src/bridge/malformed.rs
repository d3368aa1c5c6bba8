//! Lines of a worker that are not as they must be: what is clear in them is taken, and whoever waits for
//! what is not is told so at once.

use std::borrow::Cow;

use bytes::Bytes;
use smallvec::SmallVec;

use super::mux::{Action, Anomaly, CallId, Malformed, MalformedOutcome, Mux, Purpose};
use super::worker_side::worker_side_id;
use crate::protocol::{
    Envelope, Flaw, Unmendable, code, is_usual_error, mended, portable, wrapped_number,
};

/// Whom a message of which nothing can be made may answer.
enum Meant {
    /// These, and nobody else.
    Calls(SmallVec<[CallId; 1]>),
    /// One of these, if anybody.
    Perhaps(SmallVec<[CallId; 1]>),
    Nobody,
}

/// Whether a message can go on as it stands: it is its members and nothing else, every client can read them,
/// and its result or error is one.
pub(super) fn is_usual(envelope: &Envelope<'_>, line: &[u8]) -> bool {
    // Emoji that are escaped, in nearly all cases.
    let is_readable = || {
        let text = std::str::from_utf8(line);
        text.is_ok_and(|text| !matches!(portable(text), Ok(Cow::Owned(_))))
    };
    envelope.is_exact
        && (!envelope.is_doubtful || is_readable())
        && envelope.id.is_none_or(|id| id.get() != "null")
        && envelope.result.is_none_or(|it| it.get().starts_with('{'))
        && envelope.error.is_none_or(|it| is_usual_error(it.get()))
}

impl Mux {
    /// Several lines of the worker that may be one message.
    pub fn worker_lines(&mut self, lines: Bytes, out: &mut Vec<Action>) {
        self.unusual(lines, out);
    }

    /// A line that cannot go on as it stands.
    pub(super) fn unusual(&mut self, line: Bytes, out: &mut Vec<Action>) {
        match mended(&line) {
            Ok(mended) => {
                for flaw in mended.flaws {
                    out.push(Action::Malformed(Malformed {
                        flaw,
                        outcome: MalformedOutcome::Taken,
                        line: line.clone(),
                    }));
                }
                for message in mended.messages {
                    self.mended_message(message, out);
                }
                for why in mended.lost {
                    self.unmendable(&line, &why, out);
                }
            }
            Err(why) => self.unmendable(&line, &why, out),
        }
    }

    /// A message of which nothing can be made. If it is an answer, or may be one, each call that it names fails.
    fn unmendable(&mut self, line: &Bytes, why: &Unmendable, out: &mut Vec<Action>) {
        if !why.is_message {
            out.push(Action::Anomaly(Anomaly::Garbage));
            return;
        }
        let malformed = |outcome| {
            Action::Malformed(Malformed {
                flaw: why.flaw,
                outcome,
                line: line.clone(),
            })
        };
        // What names a call that is open is a log of what the worker was sent: an answer to it would be logged in turn, and taken
        // for that of the call.
        let is_logged = why.flaw == Flaw::Syntax && !self.calls_named(&why.ids).is_empty();
        if why.has_method && !is_logged {
            let text = format!("the message {}", why.flaw.text());
            // Without an answer it would wait for good.
            out.extend(why.ids.iter().map(|id| {
                let refused = super::client_side::error_response(id, code::INVALID_REQUEST, &text);
                Action::ToWorker(refused)
            }));
        }
        if why.has_method && !why.has_answer {
            out.push(malformed(MalformedOutcome::Dropped));
            return;
        }
        match (self.whom_it_answers(why), &why.error) {
            (Meant::Nobody, _) if why.is_quoted => out.push(Action::Anomaly(Anomaly::Garbage)),
            (Meant::Nobody, _) => out.push(malformed(MalformedOutcome::Dropped)),
            (Meant::Perhaps(calls), _) => {
                let outcome = self.suspect(&calls);
                out.push(malformed(outcome));
            }
            (Meant::Calls(calls), Some(error)) if calls.len() == 1 => {
                // Of which request it is, is all that was missing.
                out.push(malformed(MalformedOutcome::Taken));
                let wire = self.wire_of(calls[0]).0;
                let error = format!(r#"{{"jsonrpc":"2.0","id":{wire},"error":{error}}}"#);
                self.mended_message(error.into(), out);
            }
            (Meant::Calls(calls), _) => {
                for call in calls {
                    let outcome = self.answered_badly(call, out);
                    out.push(malformed(outcome));
                }
            }
        }
    }

    /// A valid answer to a request that was never made. What gives an id back in another form than it got it still says
    /// whose it is; any other is of somebody else's conversation.
    pub(super) fn answers_nobody(&mut self, line: &Bytes, raw_id: &str, out: &mut Vec<Action>) {
        let near = wrapped_number(raw_id.trim_matches('"'));
        let near = near.filter(|near| near != raw_id);
        let outcome = match self.calls_named(near.as_slice())[..] {
            [call] => self.answered_badly(call, out),
            _ => MalformedOutcome::Dropped,
        };
        if outcome != MalformedOutcome::Dropped {
            out.push(Action::Malformed(Malformed {
                flaw: Flaw::Id,
                outcome,
                line: line.clone(),
            }));
        }
    }

    /// Whom such a message may answer: those that it names, or the only one where it names nobody.
    fn whom_it_answers(&self, why: &Unmendable) -> Meant {
        let named = self.calls_named(&why.ids);
        if why.is_quoted {
            return Meant::Nobody;
        }
        if !named.is_empty() {
            return Meant::Calls(named);
        }
        // A log may be JSON, and quote what others say to each other: an id that nobody has is somebody else's.
        let is_nameless_answer =
            why.has_version && why.has_answer && !why.has_method && !why.has_id;
        let error = why.error.as_deref().and_then(code_of);
        // Who has read a request's method has read its id too: this is about a notification.
        let is = |code: i32| error == Some(f64::from(code));
        let is_of_notification = is(code::METHOD_NOT_FOUND) && self.hello.is_some();
        if !is_nameless_answer || is_of_notification {
            return Meant::Nobody;
        }
        // What is JSON and names nobody may answer a notification, but for one that says that it has not read its request.
        let is_lost = why.flaw == Flaw::Syntax || is(code::PARSE_ERROR);
        match self.only_call() {
            Some(only) => Meant::Calls(SmallVec::from_elem(only, 1)),
            None if is_lost => Meant::Perhaps(self.everyone()),
            None => Meant::Nobody,
        }
    }

    /// The calls whose requests the worker got under those ids (raw JSON), and has not answered. Each once.
    pub fn calls_named(&self, ids: &[String]) -> SmallVec<[CallId; 1]> {
        let mut calls = SmallVec::new();
        for wire in ids.iter().filter_map(|id| worker_side_id(id)) {
            if let Some(call) = self.call_on_wire(wire)
                && !calls.contains(&call)
            {
                calls.push(call);
            }
        }
        calls
    }

    /// The call whose request the worker got under that id, and has not answered.
    fn call_on_wire(&self, wire: CallId) -> Option<CallId> {
        let id = self.wires.get(&wire).copied().unwrap_or(wire);
        let call = self.calls.get(&id)?;
        let rounds = call.rounds.as_ref();
        rounds
            .is_none_or(|rounds| rounds.wire == Some(wire))
            .then_some(id)
    }

    /// The only call that the worker has not answered; before the handshake is over, the handshake.
    fn only_call(&self) -> Option<CallId> {
        let is_greeting = |id: &&CallId| matches!(self.calls[*id].purpose, Purpose::Greeting);
        if let Some(greeting) = self.calls.keys().find(is_greeting) {
            return Some(*greeting);
        }
        let mut calls = self.calls.keys();
        match (calls.next(), calls.next()) {
            (Some(only), None) => self.call_on_wire(self.wire_of(*only)),
            _ => None,
        }
    }

    /// The id that the worker knows a call by.
    pub(super) fn wire_of(&self, call: CallId) -> CallId {
        let rounds = self.calls.get(&call).and_then(|it| it.rounds.as_ref());
        rounds.and_then(|rounds| rounds.wire).unwrap_or(call)
    }

    /// Whether the worker has been sent that call, and has not answered.
    pub(super) fn is_with_worker(&self, id: CallId) -> bool {
        self.calls.contains_key(&id) && self.call_on_wire(self.wire_of(id)) == Some(id)
    }

    /// Ends a call whose answer nothing can be made of.
    pub(super) fn answered_badly(&mut self, id: CallId, out: &mut Vec<Action>) -> MalformedOutcome {
        self.orphans.remove(&id);
        let Some(call) = self.end_call(id) else {
            return MalformedOutcome::Dropped;
        };
        match call.purpose {
            Purpose::Greeting => MalformedOutcome::NotGreeted,
            // It is there.
            Purpose::Probe => {
                out.push(Action::Probed);
                MalformedOutcome::Dropped
            }
            Purpose::Own => MalformedOutcome::Dropped,
            _ if call.cancelled => {
                out.push(Action::Released(id));
                MalformedOutcome::Dropped
            }
            Purpose::Plain
            | Purpose::SetLevel(_)
            | Purpose::Subscribe(_)
            | Purpose::Unsubscribe(_) => MalformedOutcome::Failed(id),
        }
    }
}

/// The code of an error.
fn code_of(error: &str) -> Option<f64> {
    #[derive(serde::Deserialize)]
    struct View {
        code: f64,
    }
    serde_json::from_str::<View>(error).ok().map(|it| it.code)
}

#[cfg(test)]
#[path = "malformed_tests.rs"]
mod tests;
