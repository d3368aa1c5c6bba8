//! Lines of a worker that are not as they must be: what is clear in them is taken, and whoever waits for
//! what is not is told so at once.

use bytes::Bytes;
use smallvec::SmallVec;

use super::action::{Action, Malformed, MalformedOutcome};
use super::call::Purpose;
use super::for_worker::error_response;
use super::mux::Mux;
use super::numbers::CallId;
use super::worker_side::worker_side_id;
use crate::protocol::{Broken, Flaw, Mended, Says, code, raw_error_response, wrapped_number};

impl Mux {
    /// The messages that could be made of a line.
    pub(super) fn mended(&mut self, line: &Bytes, mended: Mended, out: &mut Vec<Action>) {
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
        for broken in mended.broken {
            self.broken(line, &broken, out);
        }
    }

    /// A message of which nothing can be made: if it is an answer, or may be one, each call that it may answer fails.
    /// `line` is empty of one that was too long to be kept.
    pub fn broken(&mut self, line: &Bytes, broken: &Broken, out: &mut Vec<Action>) {
        let malformed = |outcome| {
            Action::Malformed(Malformed {
                flaw: broken.flaw,
                outcome,
                line: line.clone(),
            })
        };
        let named = self.calls_named(&broken.ids);
        let asks = matches!(broken.says, Says::Asks | Says::AsksAndAnswers);
        // A request that names an open call is a log of what the worker was sent: an answer to it would be logged in turn, and taken
        // for that of the call.
        let is_logged = broken.flaw == Flaw::Syntax && !named.is_empty();
        if asks && !is_logged {
            let text = format!("the message {}", broken.flaw.text());
            // Without an answer it would wait for good.
            out.extend(broken.ids.iter().map(|id| {
                let refused = error_response(id, code::INVALID_REQUEST, &text);
                Action::ToWorker(refused)
            }));
        }
        let calls = match broken.says {
            Says::Asks => SmallVec::new(),
            Says::Answers | Says::AsksAndAnswers => named,
            Says::AnswersNotification if self.server_info.is_some() => {
                self.notices.take();
                SmallVec::new()
            }
            Says::AnswersUnknownMethod if self.notices.take() => SmallVec::new(),
            Says::AnswersNotification
            | Says::AnswersUnknownMethod
            | Says::AnswersOnly
            | Says::AnswersOneOf => self.only_call().into_iter().collect(),
        };
        match (&calls[..], &broken.error) {
            ([], _) if broken.says == Says::AnswersOneOf => {
                let outcome = self.suspect(&self.everyone());
                out.push(malformed(outcome));
            }
            ([], _) => out.push(malformed(MalformedOutcome::Dropped)),
            ([call], Some(error)) => {
                // Of which request it is, is all that was missing.
                out.push(malformed(MalformedOutcome::Taken));
                let wire = self.wire_of(*call).0;
                let error = raw_error_response(&wire.to_string(), error.as_bytes());
                self.mended_message(error, out);
            }
            (calls, _) => {
                for call in calls {
                    let outcome = self.answered_badly(*call, out);
                    out.push(malformed(outcome));
                }
            }
        }
    }

    /// A valid answer to a request that was never made. An answer that gives an id back in another form than it got it still
    /// says whose it is; any other is of somebody else's conversation.
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

    /// The calls whose requests the worker got under those ids (raw JSON), and has not answered. Each once.
    fn calls_named(&self, ids: &[String]) -> SmallVec<[CallId; 1]> {
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
        let is_handshake = |id: &&CallId| matches!(self.calls[*id].purpose, Purpose::Handshake);
        if let Some(handshake) = self.calls.keys().find(is_handshake) {
            return Some(*handshake);
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
            Purpose::Handshake => MalformedOutcome::HandshakeFailed,
            // The worker is there.
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

#[cfg(test)]
#[path = "suspicion_tests.rs"]
mod suspicion_tests;
#[cfg(test)]
#[path = "malformed_tests.rs"]
mod tests;
