//! What clients say, on its way to the worker.

use bytes::Bytes;
use serde_json::json;

use super::action::Action;
use super::call::{Call, Purpose};
use super::client_info::ClientInfo;
use super::client_request::{ClientRequest, RequestOutcome};
use super::discovery::discover_request;
use super::era::Era;
use super::for_worker::{cancellation, error_response, for_worker};
use super::handshake::{Handshake, initialize_request};
use super::level::Level;
use super::mux::{EverAttached, Mux};
use super::numbers::{AskRef, CallId, SessionNo};
use super::params;
use super::stateless::identity;
use crate::protocol::{self, Envelope, RawId, bare_request, code, is_usual_error, result_response};

impl Mux {
    /// Opens the conversation; [`Action::HandshakeDone`] tells how it went.
    pub fn begin_handshake(&mut self, handshake: &Handshake, out: &mut Vec<Action>) {
        let id = self.new_call(Call {
            session: None,
            client_id: "null".into(),
            client_token: None,
            purpose: Purpose::Handshake,
            cancelled: false,
            wants_logs: false,
            rounds: None,
        });
        out.push(Action::ToWorker(match self.era {
            Era::Legacy => initialize_request(id.0, handshake),
            Era::Modern => discover_request(id.0, handshake),
        }));
    }

    /// Asks whether the worker reads and answers yet, which may be done before the handshake
    /// (basic/lifecycle, "Initialization"): [`Action::Probed`], whatever it answers.
    pub fn probe(&mut self, out: &mut Vec<Action>) {
        let id = self.new_call(Call {
            session: None,
            client_id: "null".into(),
            client_token: None,
            purpose: Purpose::Probe,
            cancelled: false,
            wants_logs: false,
            rounds: None,
        });
        let ping = bare_request(id.0, "ping");
        out.push(Action::ToWorker(ping.into()));
    }

    /// Attaches the session to this worker, and brings the worker to the point the session
    /// had reached with an earlier one. Does nothing for a session that is attached.
    pub fn attach<'u>(
        &mut self,
        session: SessionNo,
        level: Option<Level>,
        subscriptions: impl IntoIterator<Item = &'u str>,
        out: &mut Vec<Action>,
    ) {
        if self.attached_to.contains_key(&session) {
            return;
        }
        self.attached_session(session).level = level;
        if self.era == Era::Modern {
            for uri in subscriptions {
                self.subscribe(session, uri);
            }
            self.listen(out);
            return;
        }
        for uri in subscriptions {
            if !self.is_subscribed(uri) {
                let params = json!({ "uri": uri }).to_string();
                self.own_request("resources/subscribe", &params, out);
            }
            self.subscribe(session, uri);
        }
        if let Some(level) = level
            && self.worker_level.is_none_or(|current| level < current)
        {
            self.worker_level = Some(level);
            let params = json!({ "level": level.as_str() }).to_string();
            self.own_request("logging/setLevel", &params, out);
        }
    }

    /// Attaches a session that never calls: what the worker asks unasked is not meant for it.
    pub fn attach_listener<'u>(
        &mut self,
        session: SessionNo,
        subscriptions: impl IntoIterator<Item = &'u str>,
        out: &mut Vec<Action>,
    ) {
        let ever_attached = self.ever_attached;
        self.attach(session, None, subscriptions, out);
        self.ever_attached = ever_attached;
    }

    /// A worker of the stateless revision is told with each request of the session who sends it.
    /// Requests of a session that is not introduced are of that revision themselves, and are
    /// passed on as they are.
    pub fn introduce(&mut self, session: SessionNo, client: &ClientInfo) {
        if self.era == Era::Modern {
            let identity = identity(&client.client_info, &client.capabilities);
            self.attached_session(session).identity = Some(identity.into());
        }
    }

    /// The session stands for callers without one, and is about to call: what the worker says
    /// outside of calls is for none of them, and this one wants log lines from `level` on.
    pub fn without_session(
        &mut self,
        session: SessionNo,
        level: Option<Level>,
        out: &mut Vec<Action>,
    ) {
        self.ever_attached = EverAttached::Several;
        if self.era == Era::Modern {
            self.attached_session(session).level = level;
            return;
        }
        let logs = self
            .server_info
            .as_ref()
            .is_some_and(|server_info| server_info.logs);
        let Some(level) = level.filter(|_| logs) else {
            return;
        };
        self.attached_session(session).level = Some(level);
        if self.worker_level.is_none_or(|current| level < current) {
            self.worker_level = Some(level);
            let params = json!({ "level": level.as_str() }).to_string();
            self.own_request("logging/setLevel", &params, out);
        }
    }

    /// The worker's id of a request of its own that is not answered yet, as raw JSON.
    pub fn name_of_question(&self, ask: AskRef) -> Option<Box<str>> {
        let question = self.asks.get(&ask.number)?;
        Some(question.worker_id.clone())
    }

    /// Whether the session is attached here.
    pub fn is_attached(&self, session: SessionNo) -> bool {
        self.attached_to.contains_key(&session)
    }

    /// The session has ended: its calls are cancelled, its questions refused, its subscriptions
    /// given up.
    pub fn detach(&mut self, session: SessionNo, out: &mut Vec<Action>) {
        let Some(attached) = self.attached_to.get(&session) else {
            return;
        };
        for id in attached.in_flight.clone() {
            self.cancel(id, "the session ended", out);
            if let Some(call) = self.calls.get_mut(&id) {
                call.session = None;
                self.add_orphan(id);
            }
        }
        self.active.remove(&session);
        let questions: Vec<u64> = self
            .asks
            .iter()
            .filter(|(_, question)| question.session == session)
            .map(|(number, _)| *number)
            .collect();
        for number in questions {
            self.ask_failed(number, "the client's session ended", out);
        }
        let attached = self.attached_to.remove(&session).unwrap_or_default();
        for uri in &attached.subscriptions {
            self.subscribers.remove(uri, session);
        }
        if self.era == Era::Modern {
            self.listen(out);
            return;
        }
        for uri in attached.subscriptions {
            if !self.is_subscribed(&uri) {
                self.own_request(
                    "resources/unsubscribe",
                    &json!({ "uri": uri }).to_string(),
                    out,
                );
            }
        }
    }

    /// A client's request. The session must have been [attached](Self::attach).
    pub fn request(&mut self, request: ClientRequest<'_>, out: &mut Vec<Action>) -> RequestOutcome {
        if self.is_unused {
            self.is_unused = false;
            self.no_roots_to_come(out);
        }
        if self.era == Era::Modern
            && let Some(opened) = self.stateless_request(request, out)
        {
            return opened;
        }
        let ClientRequest { session, envelope } = request;
        let client_id = envelope.id.map_or("null", |id| id.get());
        let raw_params = envelope.params.map_or("{}", |params| params.get());
        let mut replaced_params = None;
        let purpose = match envelope.method.as_deref() {
            Some("logging/setLevel") => match params::level(raw_params) {
                Some(level) => {
                    let effective = self.most_verbose(session, level);
                    replaced_params = Some(format!(r#"{{"level":"{}"}}"#, effective.as_str()));
                    Purpose::SetLevel(level)
                }
                // Not ours to judge: the worker says what it thinks of it.
                None => Purpose::Plain,
            },
            Some("resources/subscribe") => match params::uri(raw_params) {
                Some(uri) => match self.cannot_subscribe(session, &uri) {
                    Some((code, why)) => {
                        return RequestOutcome::Refused { code, why };
                    }
                    None => Purpose::Subscribe(uri.into_owned()),
                },
                None => Purpose::Plain,
            },
            Some("resources/unsubscribe") => match params::uri(raw_params) {
                Some(uri) if self.others_subscribe(session, &uri) => {
                    self.unsubscribe(session, &uri);
                    out.push(Action::Unsubscribed(session, uri.into_owned()));
                    return RequestOutcome::Local(result_response(client_id, b"{}"));
                }
                Some(uri) => Purpose::Unsubscribe(uri.into_owned()),
                None => Purpose::Plain,
            },
            _ => Purpose::Plain,
        };
        let token = params::progress_token_of(envelope);
        let id = self.new_call(Call {
            session: Some(session),
            client_id: client_id.into(),
            client_token: token.map(Into::into),
            purpose,
            cancelled: false,
            wants_logs: self.era == Era::Modern
                && self
                    .attached_to
                    .get(&session)
                    .is_some_and(|attached| attached.level.is_some()),
            rounds: None,
        });
        let line = match replaced_params {
            Some(params) => protocol::request(id.0, "logging/setLevel", params).into(),
            None => for_worker(envelope, token, id),
        };
        RequestOutcome::Sent(id, line)
    }

    /// A client's notification, from a session that may or may not be attached here. Names the
    /// call that it cancelled, if any.
    pub fn notification(
        &mut self,
        session: SessionNo,
        envelope: &Envelope<'_>,
        out: &mut Vec<Action>,
    ) -> Option<CallId> {
        match envelope.method.as_deref() {
            // The worker was told that once, by stdiopool.
            Some("notifications/initialized") | None => None,
            // Rules for requests would not see it, and some servers do what it says.
            Some(_) if envelope.lacks_id() => None,
            Some("notifications/cancelled") => {
                let cancelled: params::Cancelled<'_> =
                    serde_json::from_str(envelope.params?.get()).ok()?;
                let id = self.call_of(session, cancelled.request_id.get())?;
                self.cancel(id, "the client cancelled the request", out);
                Some(id)
            }
            Some(_) => {
                // The stateless revision has no others.
                if self.is_attached(session)
                    && self.era == Era::Legacy
                    && self.may_tell(session, envelope)
                {
                    let params = envelope.params.map(|params| params.get());
                    self.notices.sent(self.next_call);
                    out.push(Action::ToWorker(envelope.rewritten(None, params)));
                }
                None
            }
        }
    }

    /// Whether a notification can only concern the session itself: progress is of a question that it was
    /// asked, under the worker's own token.
    fn may_tell(&self, session: SessionNo, envelope: &Envelope<'_>) -> bool {
        if envelope.method.as_deref() != Some("notifications/progress") {
            return true;
        }
        let params = envelope.params.map_or("{}", |params| params.get());
        let progress = serde_json::from_str::<params::Progress<'_>>(params);
        progress.is_ok_and(|progress| {
            self.asks.values().any(|question| {
                question.session == session
                    && question.token.as_deref() == Some(progress.token.get())
            })
        })
    }

    /// The call a session made under that raw JSON id and that is not cancelled yet.
    fn call_of(&self, session: SessionNo, client_id: &str) -> Option<CallId> {
        let in_flight = &self.attached_to.get(&session)?.in_flight;
        in_flight
            .iter()
            .rev()
            .find(|id| {
                let call = &self.calls[id];
                !call.cancelled && &*call.client_id == client_id
            })
            .copied()
    }

    /// A client's answer to a question of this worker. Only the session that was asked may answer,
    /// once; anything else is ignored. Says whether it was taken. What of an answer has to wait for others is what
    /// `keep` makes of its raw JSON.
    ///
    /// # Errors
    /// That of `keep`; the question is open then as it was.
    pub fn answer<E>(
        &mut self,
        session: SessionNo,
        ask: AskRef,
        envelope: &Envelope<'_>,
        keep: impl FnOnce(&str) -> Result<Bytes, E>,
        out: &mut Vec<Action>,
    ) -> Result<bool, E> {
        let is_theirs = ask.worker == self.worker
            && self
                .asks
                .get(&ask.number)
                .is_some_and(|q| q.session == session);
        if !is_theirs {
            return Ok(false);
        }
        let waits = self
            .asks
            .get(&ask.number)
            .is_some_and(|q| q.input.is_some());
        let kept = envelope.result.filter(|_| waits);
        let kept = kept.map(|given| keep(given.get())).transpose()?;
        let Some(question) = self.asks.remove(&ask.number) else {
            return Ok(false);
        };
        if let Some(input) = question.input {
            self.input_given(input, kept, envelope, out);
            return Ok(true);
        }
        if question.about_roots {
            self.roots_given(envelope.result);
        }
        // A worker drops what is no answer, and waits on.
        let is_answer = match (envelope.result, envelope.error) {
            (Some(result), _) => result.get().starts_with('{'),
            (None, error) => error.is_some_and(|error| is_usual_error(error.get())),
        };
        out.push(Action::ToWorker(match is_answer {
            true => envelope.rewritten(Some(&question.worker_id), None),
            false => {
                let why = "the client's answer is neither a result nor an error";
                error_response(&question.worker_id, code::INTERNAL_ERROR, why)
            }
        }));
        Ok(true)
    }

    /// A question could not be put to its session, or will not be answered.
    pub fn ask_failed(&mut self, number: u64, why: &str, out: &mut Vec<Action>) {
        if let Some(question) = self.asks.remove(&number) {
            if let Some(input) = &question.input {
                self.input_failed(input, why, out);
                return;
            }
            let answer = error_response(&question.worker_id, code::INTERNAL_ERROR, why);
            out.push(Action::ToWorker(answer));
        }
    }

    /// The caller gave up: the worker is told, its answer will be for no one. The call's slot
    /// stays taken until the worker answers or [`Self::forget`] is called.
    pub fn cancel(&mut self, id: CallId, reason: &str, out: &mut Vec<Action>) {
        if let Some(call) = self.calls.get_mut(&id)
            && !call.cancelled
        {
            call.cancelled = true;
            let wire = match &call.rounds {
                None => id,
                Some(rounds) => match rounds.wire {
                    Some(wire) => wire,
                    // The worker knows nothing of it; only its client was asked something.
                    None => {
                        self.drop_inputs(id);
                        self.end_call(id);
                        out.push(Action::Released(id));
                        return;
                    }
                },
            };
            self.notices.sent(self.next_call);
            out.push(cancellation(wire, reason));
        }
    }

    /// The runtime waits no longer for a cancelled call's answer. The call's slot is free; a late answer
    /// counts as a duplicate. Says whether there was such a call.
    pub fn forget(&mut self, id: CallId, out: &mut Vec<Action>) -> bool {
        let ended = self.end_call(id).is_some();
        if ended {
            self.add_orphan(id);
            out.push(Action::Released(id));
        }
        ended
    }

    /// Ends the call because its answer is known to be unusable (too large to be read), or what it has to keep is too much.
    pub fn fail(&mut self, id: CallId, out: &mut Vec<Action>) -> Option<RawId> {
        let call = self.end_call(id)?;
        if call.rounds.is_some() {
            self.drop_inputs(id);
        }
        out.push(Action::Released(id));
        Some(call.client_id)
    }

    /// The most verbose of what this session asks for now and the others asked for before.
    fn most_verbose(&self, session: SessionNo, level: Level) -> Level {
        self.attached_to
            .iter()
            .filter(|(other, _)| **other != session)
            .filter_map(|(_, attached)| attached.level)
            .fold(level, Level::min)
    }
}
