//! What the worker says, on its way to the sessions it concerns.

use std::ops::Range;

use bytes::Bytes;
use serde_json::json;

use super::action::{Action, Anomaly, Malformed, MalformedOutcome};
use super::call::{AttachedSession, Call, OpenQuestion, Purpose};
use super::discovery::HandshakeError;
use super::era::Era;
use super::for_worker::error_response;
use super::level::Level;
use super::mux::{MAX_ASKS, Mux};
use super::numbers::{AskRef, CallId, SessionNo};
use super::params;
use super::server_info::{ServerInfo, ServerInfoError};
use super::stateless::{plain_notification, refused_revisions};
use crate::protocol::{
    Envelope, Flaw, Kind, Line, MAX_KEPT_ID, RawId, bare_notification, code, replaced,
    result_response, span_of, splice,
};

/// A response that a client gets as it is, under its own id.
struct Answered {
    call: CallId,
    is_error: bool,
    /// Where the worker's id stands.
    id: Range<usize>,
    client_id: RawId,
}

impl Mux {
    /// What the worker says: one line, or several that are one message. What it is, is the verdict's to say.
    pub fn worker_line(&mut self, line: Bytes, out: &mut Vec<Action>) {
        let answered = match Line::of(&line) {
            Line::Message(envelope) => self.usual(&line, &envelope, out),
            Line::Mended(mended) => {
                self.mended(&line, mended, out);
                None
            }
            Line::Broken(broken) => {
                self.broken(&line, &broken, out);
                None
            }
            Line::Log => {
                out.push(Action::Anomaly(Anomaly::Garbage));
                None
            }
        };
        push_answer(line, answered, out);
    }

    /// A line of the worker that is a message as it stands; the line again if it is none.
    pub fn message_line(&mut self, line: Bytes, out: &mut Vec<Action>) -> Option<Bytes> {
        let answered = match Line::message(&line) {
            Some(envelope) => self.usual(&line, &envelope, out),
            None => return Some(line),
        };
        push_answer(line, answered, out);
        None
    }

    /// A message that was made of a line, or of a part of it.
    pub(super) fn mended_message(&mut self, message: Bytes, out: &mut Vec<Action>) {
        let answered = match Envelope::parse(&message) {
            Ok(envelope) => self.usual(&message, &envelope, out),
            Err(_) => {
                out.push(Action::Anomaly(Anomaly::Garbage));
                return;
            }
        };
        push_answer(message, answered, out);
    }

    /// A message in which nothing is but the members of its envelope; `Some` if all of it is the answer to
    /// a client.
    fn usual(
        &mut self,
        line: &Bytes,
        envelope: &Envelope<'_>,
        out: &mut Vec<Action>,
    ) -> Option<Answered> {
        let has_object = envelope.params.is_none_or(|it| it.get().starts_with('{'));
        match envelope.kind() {
            Kind::Response => return self.response(line, envelope, out),
            Kind::Request if has_object => self.question(line, envelope, out),
            Kind::Request => {
                let id = envelope.id.map_or("null", |id| id.get());
                let why = "`params` must be an object";
                let refused = error_response(id, code::INVALID_PARAMS, why);
                out.push(Action::ToWorker(refused));
            }
            Kind::Notification if has_object => self.worker_notification(line, envelope, out),
            Kind::Notification => out.push(Action::Anomaly(Anomaly::Garbage)),
        }
        None
    }

    /// What became of a response; `Some` if all of it is the answer to a client.
    fn response(
        &mut self,
        line: &Bytes,
        envelope: &Envelope<'_>,
        out: &mut Vec<Action>,
    ) -> Option<Answered> {
        let raw_id = envelope.id.map_or("null", |id| id.get());
        let (id, call) = self.answered_call(line, envelope, out)?;
        let accepted = envelope.result.is_some();
        match call.purpose {
            Purpose::Handshake => {
                self.handshake_answered(envelope, out);
                return None;
            }
            Purpose::Probe => {
                out.push(Action::Probed);
                return None;
            }
            Purpose::Own => return None,
            Purpose::Plain => {}
            Purpose::SetLevel(level) => self.level_set(call.session, level, accepted, out),
            Purpose::Subscribe(uri) if accepted => match call.session {
                Some(session) => {
                    self.subscribe(session, &uri);
                    out.push(Action::Subscribed(session, uri));
                }
                None => self.drop_unwanted(&uri, out),
            },
            Purpose::Unsubscribe(uri) if accepted => {
                if let Some(session) = call.session {
                    self.unsubscribe(session, &uri);
                    out.push(Action::Unsubscribed(session, uri));
                }
            }
            Purpose::Subscribe(_) | Purpose::Unsubscribe(_) => {}
        }
        if call.cancelled {
            out.push(Action::Released(id));
            return None;
        }
        if let Some(rounds) = &call.rounds {
            out.push(Action::Answer {
                call: id,
                message: rounds.answer(&call.client_id, envelope),
                is_error: !accepted,
            });
            return None;
        }
        Some(Answered {
            call: id,
            is_error: !accepted,
            id: span_of(line, raw_id),
            client_id: call.client_id,
        })
    }

    /// The call that a response ends; `None` for a response that ends none, of which everything is done then.
    #[inline]
    fn answered_call(
        &mut self,
        line: &Bytes,
        envelope: &Envelope<'_>,
        out: &mut Vec<Action>,
    ) -> Option<(CallId, Call)> {
        let raw_id = envelope.id.map_or("null", |id| id.get());
        let Some(wire) = worker_side_id(raw_id) else {
            out.push(Action::Anomaly(Anomaly::UnknownId));
            self.answers_nobody(line, raw_id, out);
            return None;
        };
        if self.listening.ends(wire, envelope.error.is_some()) {
            return None;
        }
        let id = self.wires.get(&wire).copied().unwrap_or(wire);
        let rounds = self.calls.get(&id).and_then(|call| call.rounds.as_ref());
        if rounds.is_some_and(|rounds| rounds.wire != Some(wire)) {
            out.push(Action::Anomaly(Anomaly::DuplicateAnswer));
            return None;
        }
        self.wires.remove(&wire);
        if self.wants_input(id, envelope, out) {
            self.shows_life(id);
            return None;
        }
        self.orphans.remove(&id);
        let call = self.end_call(id);
        self.notices.answered(wire);
        if call.is_none() && id.0 < self.next_call {
            out.push(Action::Anomaly(Anomaly::DuplicateAnswer));
        } else if call.is_none() {
            out.push(Action::Anomaly(Anomaly::UnknownId));
            self.answers_nobody(line, raw_id, out);
        }
        Some((id, call?))
    }

    /// The worker has answered `logging/setLevel`.
    fn level_set(
        &mut self,
        session: Option<SessionNo>,
        level: Level,
        accepted: bool,
        out: &mut Vec<Action>,
    ) {
        if accepted {
            // Noted even if the call was cancelled meanwhile: the worker has done it.
            self.worker_level = Some(self.worker_level.map_or(level, |l| l.min(level)));
        }
        // A server that cannot be told may log all the same: what the session does not want is kept from it.
        if let Some(session) = session {
            self.attached_session(session).level = Some(level);
            if accepted {
                self.worker_level = self.attached_to.values().filter_map(|s| s.level).min();
            }
            out.push(Action::LevelSet(session, level));
        }
    }

    fn handshake_answered(&mut self, envelope: &Envelope<'_>, out: &mut Vec<Action>) {
        let (asked, read): (_, fn(&str) -> _) = match self.era {
            Era::Legacy => ("initialize", ServerInfo::parse),
            Era::Modern => ("server/discover", ServerInfo::discovered),
        };
        let error = envelope.error.map_or("null", |error| error.get());
        let outcome = match (envelope.result, refused_revisions(error)) {
            (Some(result), _) => read(result.get())
                .map(Box::new)
                .map_err(HandshakeError::from),
            // A server that names its revisions in an error speaks the stateless ones, whatever it was asked.
            (None, Some(versions)) => Err(ServerInfoError::Versions(versions).into()),
            (None, None) => Err(HandshakeError {
                why: format!("it answered `{asked}` with an error: {error}"),
                may_take_the_other: true,
            }),
        };
        if let Ok(server_info) = &outcome {
            self.server_info = Some(server_info.clone());
        }
        if outcome.is_ok() && self.era == Era::Modern {
            self.listen(out);
        } else if outcome.is_ok() {
            self.notices.sent(self.next_call);
            let initialized = bare_notification("notifications/initialized");
            out.push(Action::ToWorker(initialized.into()));
        }
        out.push(Action::HandshakeDone(outcome));
    }

    /// The worker asks something.
    fn question(&mut self, line: &Bytes, envelope: &Envelope<'_>, out: &mut Vec<Action>) {
        let raw_id = envelope.id.map_or("null", |id| id.get());
        let method = envelope.method.as_deref().unwrap_or_default();
        let about_roots = method == "roots/list";
        let token = envelope
            .params
            .and_then(|params| params::progress_token(params.get()));
        // The id and the token would be kept until the client has answered.
        if raw_id.len() > MAX_KEPT_ID || token.is_some_and(|token| token.len() > MAX_KEPT_ID) {
            out.push(Action::Malformed(Malformed {
                flaw: Flaw::Id,
                outcome: MalformedOutcome::Dropped,
                line: line.clone(),
            }));
            let why = format!("an id or a progress token may have at most {MAX_KEPT_ID} bytes");
            let refused = error_response(raw_id, code::INVALID_REQUEST, &why);
            out.push(Action::ToWorker(refused));
            return;
        }
        if let Some(answer) = self.own_answer(method, raw_id) {
            out.push(Action::ToWorker(answer));
            return;
        }
        let refuse = |code, why: &str| Action::ToWorker(error_response(raw_id, code, why));
        if !self.is_accepted(method) {
            let why = format!("the client does not support `{method}`");
            out.push(refuse(code::METHOD_NOT_FOUND, &why));
            return;
        }
        if about_roots && self.roots_wanted(raw_id, out) {
            return;
        }
        let is_attributable = self.orphans.is_empty();
        let Some(session) = self.owner().filter(|_| is_attributable) else {
            out.push(Action::Anomaly(Anomaly::Unattributable));
            out.push(if about_roots {
                // One of several sessions may be meant, and their roots may differ.
                Action::ToWorker(result_response(raw_id, br#"{"roots":[]}"#))
            } else {
                refuse(
                    code::INTERNAL_ERROR,
                    "no single client session can have caused this request",
                )
            });
            return;
        };
        if self.asks.len() >= MAX_ASKS {
            let why = format!("{MAX_ASKS} requests to clients are waiting for answers already");
            out.push(refuse(code::SERVER_ERROR, &why));
            return;
        }
        let question = OpenQuestion {
            session,
            worker_id: raw_id.into(),
            token: token.map(Into::into),
            input: None,
            about_roots,
        };
        let ask = self.new_ask();
        self.is_asked(session);
        self.asks.insert(ask.number, question);
        let message = splice(line, span_of(line, raw_id), ask.to_string().as_bytes());
        out.push(Action::Ask {
            session,
            call: self.stream_of(session),
            ask,
            message,
        });
    }

    /// The answer to a question that no client has to be asked.
    fn own_answer(&self, method: &str, raw_id: &str) -> Option<Bytes> {
        match method {
            "ping" => Some(result_response(raw_id, b"{}")),
            "roots/list" if !self.roots.is_empty() => {
                let roots = self.roots.iter().map(|uri| json!({ "uri": uri }));
                let result = json!({ "roots": roots.collect::<Vec<_>>() });
                Some(result_response(raw_id, result.to_string().as_bytes()))
            }
            _ => None,
        }
    }

    /// Whether the worker's clients answer such questions.
    fn is_accepted(&self, method: &str) -> bool {
        let accepts = &self.accepts;
        match method {
            "roots/list" => accepts.roots,
            "sampling/createMessage" => accepts.sampling,
            "elicitation/create" => accepts.elicitation,
            // A request of a later revision or an extension: worth a try where clients answer at all.
            _ => accepts.roots || accepts.sampling || accepts.elicitation,
        }
    }

    /// The name of the next question to a client.
    pub(super) fn new_ask(&mut self) -> AskRef {
        let number = self.next_ask;
        self.next_ask += 1;
        AskRef {
            worker: self.worker,
            number,
        }
    }

    fn worker_notification(
        &mut self,
        line: &Bytes,
        envelope: &Envelope<'_>,
        out: &mut Vec<Action>,
    ) {
        let params = envelope.params.map_or("{}", |params| params.get());
        let method = envelope.method.as_deref().unwrap_or_default();
        if self.era == Era::Modern && is_of_a_subscription(method) {
            let (plain, subscription) = plain_notification(method, params);
            if method == "notifications/subscriptions/acknowledged" {
                self.listening.begins(subscription, out);
            } else if !self.listening.is_current(subscription) {
                // The subscription that took its place tells the same.
            } else if method == "notifications/resources/updated" {
                self.resource_updated(&plain, params, out);
            } else {
                out.push(Action::Broadcast(plain));
            }
            return;
        }
        match method {
            "notifications/progress" => self.progress(line, params, out),
            "notifications/message" => self.log_message(line, params, out),
            "notifications/cancelled" => self.question_withdrawn(line, params, out),
            "notifications/resources/updated" => self.resource_updated(line, params, out),
            "notifications/tools/list_changed"
            | "notifications/prompts/list_changed"
            | "notifications/resources/list_changed" => out.push(Action::Broadcast(line.clone())),
            // A notification that nobody knows: unlike a question, nobody waits for an answer to it, so that one of a call which has gone
            // may reach the owner.
            _ => match self.owner() {
                Some(session) => out.push(self.to_session(session, line.clone())),
                None => out.push(Action::Anomaly(Anomaly::Unattributable)),
            },
        }
    }

    /// On the stream of the session's only call, else on the session's own.
    fn to_session(&self, session: super::SessionNo, message: Bytes) -> Action {
        match self.attached_to.get(&session) {
            Some(AttachedSession { in_flight, .. }) if in_flight.len() == 1 => {
                match self.stream_of(session) {
                    Some(call) => Action::ToCall(call, message),
                    None => Action::ToSession(session, message),
                }
            }
            _ => Action::ToSession(session, message),
        }
    }

    fn progress(&mut self, line: &Bytes, params: &str, out: &mut Vec<Action>) {
        let found = serde_json::from_str::<params::Progress<'_>>(params)
            .ok()
            .and_then(|progress| {
                let id = worker_side_id(progress.token.get())?;
                let call = self.calls.get(&id).filter(|call| !call.cancelled)?;
                Some((id, progress.token.get(), call.client_token.as_deref()?))
            });
        let Some((id, token, client_token)) = found else {
            out.push(Action::Anomaly(Anomaly::UnknownToken));
            return;
        };
        let span = span_of(line, token);
        out.push(Action::ToCall(
            id,
            splice(line, span, client_token.as_bytes()),
        ));
        self.shows_life(id);
    }

    /// A log message carries no request: with one active session it is that session's; with several, or none, it goes to all
    /// that are attached, for they share tenant and config. Each gets what it asked for.
    fn log_message(&mut self, line: &Bytes, params: &str, out: &mut Vec<Action>) {
        if self.era == Era::Modern {
            self.log_of_a_request(line, out);
            return;
        }
        let level = params::level(params);
        let wants = |attached: &AttachedSession| {
            let threshold = attached.level.or(self.worker_level.map(|_| Level::ASSUMED));
            match (level, threshold) {
                (Some(level), Some(threshold)) => level >= threshold,
                _ => true,
            }
        };
        let mut active = self.active.iter();
        if let (Some(&only), None) = (active.next(), active.next()) {
            if self.attached_to.get(&only).is_some_and(wants) {
                out.push(self.to_session(only, line.clone()));
            }
            return;
        }
        let mut sessions: Vec<_> = self
            .attached_to
            .iter()
            .filter(|(_, attached)| wants(attached))
            .collect();
        sessions.sort_by_key(|(session, _)| **session);
        out.extend(
            sessions
                .into_iter()
                .map(|(s, _)| Action::ToSession(*s, line.clone())),
        );
    }

    /// A worker of the stateless revision logs only what a request asked for (2026-07-28,
    /// server/utilities/logging), but does not say which request. With one that asked it is that
    /// one's, with several of one session it is that session's; else it may be anyone's.
    fn log_of_a_request(&self, line: &Bytes, out: &mut Vec<Action>) {
        let asked = |(id, call): (&CallId, &Call)| {
            (call.wants_logs && !call.cancelled).then_some((*id, call.session?))
        };
        let mut asked = self.calls.iter().filter_map(asked);
        let Some((id, session)) = asked.next() else {
            out.push(Action::Anomaly(Anomaly::Unattributable));
            return;
        };
        let mut others = asked.map(|(_, session)| session).peekable();
        out.push(if others.peek().is_none() {
            Action::ToCall(id, line.clone())
        } else if others.all(|other| other == session) {
            Action::ToSession(session, line.clone())
        } else {
            Action::Anomaly(Anomaly::Unattributable)
        });
    }

    /// The worker takes a question back (basic/utilities/cancellation).
    fn question_withdrawn(&mut self, line: &Bytes, params: &str, out: &mut Vec<Action>) {
        let Ok(cancelled) = serde_json::from_str::<params::Cancelled<'_>>(params) else {
            out.push(Action::Anomaly(Anomaly::UnknownId));
            return;
        };
        let raw_id = cancelled.request_id.get();
        if self.roots_not_wanted(raw_id) {
            return;
        }
        let number = self
            .asks
            .iter()
            .find(|(_, question)| &*question.worker_id == raw_id)
            .map(|(number, _)| *number);
        let Some((number, question)) = number.and_then(|n| Some((n, self.asks.remove(&n)?))) else {
            out.push(Action::Anomaly(Anomaly::UnknownId));
            return;
        };
        let ask = AskRef {
            worker: self.worker,
            number,
        };
        let message = splice(line, span_of(line, raw_id), ask.to_string().as_bytes());
        out.push(match self.stream_of(question.session) {
            Some(call) => Action::ToCall(call, message),
            None => Action::ToSession(question.session, message),
        });
    }

    /// Sessions that subscribe to the resource, or to one it is part of: in order, each once.
    pub fn subscribers_of(&self, uri: &str) -> Vec<SessionNo> {
        self.subscribers.of(uri)
    }

    /// To the subscribers of the resource, or of one it is part of.
    fn resource_updated(&mut self, line: &Bytes, params: &str, out: &mut Vec<Action>) {
        let Some(uri) = params::uri(params) else {
            out.push(Action::Anomaly(Anomaly::Unattributable));
            return;
        };
        if self.subscribers.has_any(&uri) {
            out.push(Action::ToSubscribers {
                uri: uri.into_owned(),
                message: line.clone(),
            });
        }
    }
}

fn push_answer(line: Bytes, answered: Option<Answered>, out: &mut Vec<Action>) {
    if let Some(answered) = answered {
        let Answered {
            call,
            is_error,
            id,
            client_id,
        } = answered;
        out.push(Action::Answer {
            call,
            message: replaced(line, id, client_id.as_bytes()),
            is_error,
        });
    }
}

/// Whether a notification belongs to a subscription (2026-07-28, basic/patterns/subscriptions).
fn is_of_a_subscription(method: &str) -> bool {
    matches!(
        method,
        "notifications/subscriptions/acknowledged"
            | "notifications/tools/list_changed"
            | "notifications/prompts/list_changed"
            | "notifications/resources/list_changed"
            | "notifications/resources/updated"
    )
}

/// Ids and tokens towards the worker are plain numbers; some servers echo them as strings.
pub(super) fn worker_side_id(raw: &str) -> Option<CallId> {
    let digits = raw
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(raw);
    let whole = digits.parse().ok().or_else(|| whole_number(digits));
    whole.map(CallId)
}

/// The number that a fraction or a power is, if it is a whole one: some decoders keep all as doubles.
fn whole_number(text: &str) -> Option<u64> {
    /// Up to which every whole number is a double.
    const MAX: f64 = 9_007_199_254_740_992.0;
    let value: f64 = text.parse().ok()?;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number from 0 to 2^53"
    )]
    (value.fract() == 0.0 && (0.0..=MAX).contains(&value)).then_some(value as u64)
}
