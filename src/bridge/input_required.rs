//! A session's requests at a worker of the stateless revision: what it wants to know, its client is
//! asked, and the request is sent again with the answers (2026-07-28, basic/patterns/mrtr).
//!
//! ```text
//!  request ──▶ at the worker ── result ──▶ answered
//!                 ▲       └── input required ──▶ waits for its client
//!                 └────────── every answer ────────┘   └── an error ──▶ answered with it
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};

use super::action::Action;
use super::call::{Call, OpenQuestion, Purpose};
use super::client_request::{ClientRequest, RequestOutcome};
use super::mux::{MAX_ASKS, Mux};
use super::numbers::{CallId, SessionNo};
use super::params;
use super::rounds::{Input, Rounds};
use super::stateless::{InputRequest, Outcome, Template};
use crate::protocol::{Envelope, code, raw_error_response, result_response};

/// Most times that one request is sent. A server that still wants input then does not know what it
/// wants.
const MAX_ROUNDS: u8 = 8;

impl Mux {
    /// A session's request for a worker of the stateless revision; `None` if it can be sent as it
    /// is, because its client speaks that revision too.
    pub(super) fn stateless_request(
        &mut self,
        request: ClientRequest<'_>,
        out: &mut Vec<Action>,
    ) -> Option<RequestOutcome> {
        let ClientRequest {
            session, envelope, ..
        } = request;
        let client_id = envelope.id.map_or("null", |id| id.get());
        let method = envelope.method.as_deref().unwrap_or_default();
        let raw_params = envelope.params.map_or("{}", |params| params.get());
        if let Some(opened) = self.answered_here(session, envelope, out) {
            return Some(opened);
        }
        let next = self.next_call;
        let attached = self.attached_session(session);
        let identity = attached.identity.as_deref()?;
        let level = attached.level;
        let token = params::progress_token(raw_params);
        let template = Template::read(
            method,
            envelope.params,
            identity,
            level,
            token.map(|_| next),
        );
        let Some(template) = template else {
            let why = "`params` must be an object".to_owned();
            let code = code::INVALID_PARAMS;
            return Some(RequestOutcome::Refused { code, why });
        };
        let line = template.line(next, &BTreeMap::new(), None);
        let id = self.new_call(Call {
            session: Some(session),
            client_id: client_id.into(),
            client_token: token.map(Into::into),
            purpose: Purpose::Plain,
            cancelled: false,
            wants_logs: level.is_some(),
            rounds: Some(Box::new(Rounds {
                template,
                wire: Some(CallId(next)),
                count: 1,
                missing: 0,
                responses: BTreeMap::new(),
                state: None,
                keys: 0,
            })),
        });
        Some(RequestOutcome::Sent(id, line))
    }

    /// What becomes of a request that a worker of the stateless revision has no word for: it concerns the session alone. `None`
    /// for every other request.
    fn answered_here(
        &mut self,
        session: SessionNo,
        envelope: &Envelope<'_>,
        out: &mut Vec<Action>,
    ) -> Option<RequestOutcome> {
        let raw_params = envelope.params.map_or("{}", |params| params.get());
        let refuse = |code, why: &str| {
            let why = why.to_owned();
            Some(RequestOutcome::Refused { code, why })
        };
        match envelope.method.as_deref().unwrap_or_default() {
            "ping" => {}
            "logging/setLevel" => {
                let Some(level) = params::level(raw_params) else {
                    return refuse(code::INVALID_PARAMS, "`level` is no log level");
                };
                self.attached_session(session).level = Some(level);
                out.push(Action::LevelSet(session, level));
            }
            "resources/subscribe" => {
                let Some(uri) = params::uri(raw_params) else {
                    return refuse(code::INVALID_PARAMS, "`uri` is missing");
                };
                let info = self.server_info.as_ref();
                if info.is_some_and(|info| !info.subscribes) {
                    return refuse(code::METHOD_NOT_FOUND, "the server has no subscriptions");
                }
                if let Some((code, why)) = self.cannot_subscribe(session, &uri) {
                    return Some(RequestOutcome::Refused { code, why });
                }
                let uri = uri.into_owned();
                self.subscribe(session, &uri);
                out.push(Action::Subscribed(session, uri));
                self.listen(out);
            }
            "resources/unsubscribe" => {
                let Some(uri) = params::uri(raw_params) else {
                    return refuse(code::INVALID_PARAMS, "`uri` is missing");
                };
                self.unsubscribe(session, &uri);
                out.push(Action::Unsubscribed(session, uri.into_owned()));
                self.listen(out);
            }
            _ => return None,
        }
        let id = envelope.id.map_or("null", |id| id.get());
        Some(RequestOutcome::Local(result_response(id, b"{}")))
    }

    /// Whether the worker's result asks for input; if so, the client is asked.
    pub(super) fn wants_input(
        &mut self,
        id: CallId,
        envelope: &Envelope<'_>,
        out: &mut Vec<Action>,
    ) -> bool {
        let Some(call) = self.calls.get_mut(&id).filter(|call| !call.cancelled) else {
            return false;
        };
        let (Some(session), Some(rounds), Some(result)) =
            (call.session, &mut call.rounds, envelope.result)
        else {
            return false;
        };
        let (requests, state) = match Outcome::of(result.get()) {
            Outcome::Complete => return false,
            Outcome::InputRequired { requests, state } => (requests, state),
            Outcome::Unknown(kind) => {
                let why = format!(
                    "the server's result is of kind `{kind}`, which clients of this revision do not know"
                );
                self.end_with_error(
                    id,
                    &json!({ "code": code::INTERNAL_ERROR, "message": why }),
                    out,
                );
                return true;
            }
        };
        rounds.wire = None;
        rounds.state = state;
        let asked = begin_round(rounds, &self.roots, requests);
        out.push(Action::Kept(id));
        if self.asks.len() + asked.len() > MAX_ASKS {
            let why = format!("{MAX_ASKS} requests to clients are waiting for answers already");
            self.end_with_error(
                id,
                &json!({ "code": code::SERVER_ERROR, "message": why }),
                out,
            );
            return true;
        }
        if asked.is_empty() {
            self.next_round(id, out);
        }
        for request in asked {
            self.ask_for_input(session, id, request, out);
        }
        true
    }

    /// Asks the client of a call for one thing that the worker wants to know.
    fn ask_for_input(
        &mut self,
        session: SessionNo,
        id: CallId,
        request: InputRequest,
        out: &mut Vec<Action>,
    ) {
        let ask = self.new_ask();
        let message = request.message(&ask.to_string());
        let question = OpenQuestion {
            session,
            worker_id: "".into(),
            token: None,
            input: Some(Input {
                call: id,
                key: request.key,
            }),
            about_roots: false,
        };
        self.asks.insert(ask.number, question);
        out.push(Action::Ask {
            session,
            call: Some(id),
            ask,
            message,
        });
    }

    /// The client has answered a question of a round. `given` is the answer as it is kept; `None`: the client gave none.
    pub(super) fn input_given(
        &mut self,
        Input { call: id, key }: Input,
        given: Option<Bytes>,
        envelope: &Envelope<'_>,
        out: &mut Vec<Action>,
    ) {
        let Some(rounds) = self
            .calls
            .get_mut(&id)
            .and_then(|call| call.rounds.as_mut())
        else {
            return;
        };
        let Some(given) = given else {
            let why = envelope.error.map_or("null", |error| error.get());
            let error = serde_json::from_str(why).ok().filter(Value::is_object);
            let error = error.unwrap_or_else(
                || json!({ "code": code::INTERNAL_ERROR, "message": "the client did not answer" }),
            );
            self.end_with_error(id, &error, out);
            return;
        };
        rounds.responses.insert(key, given);
        rounds.missing = rounds.missing.saturating_sub(1);
        if rounds.missing == 0 {
            self.next_round(id, out);
        }
    }

    /// A question of a round will not be answered.
    pub(super) fn input_failed(&mut self, input: &Input, why: &str, out: &mut Vec<Action>) {
        let error = json!({ "code": code::INTERNAL_ERROR, "message": why });
        self.end_with_error(input.call, &error, out);
    }

    fn next_round(&mut self, id: CallId, out: &mut Vec<Action>) {
        let wire = CallId(self.next_call);
        let Some(rounds) = self
            .calls
            .get_mut(&id)
            .and_then(|call| call.rounds.as_mut())
        else {
            return;
        };
        if rounds.count >= MAX_ROUNDS {
            let why = format!("the server still asks for input after {MAX_ROUNDS} rounds");
            self.end_with_error(
                id,
                &json!({ "code": code::INTERNAL_ERROR, "message": why }),
                out,
            );
            return;
        }
        self.next_call += 1;
        rounds.count += 1;
        rounds.wire = Some(wire);
        let responses = std::mem::take(&mut rounds.responses);
        let line = rounds
            .template
            .line(wire.0, &responses, rounds.state.as_deref());
        self.wires.insert(wire, id);
        out.push(Action::ToWorker(line));
    }

    fn end_with_error(&mut self, id: CallId, error: &Value, out: &mut Vec<Action>) {
        self.drop_inputs(id);
        if let Some(call) = self.end_call(id) {
            out.push(Action::Answer {
                call: id,
                message: raw_error_response(&call.client_id, error.to_string().as_bytes()),
                is_error: true,
            });
        }
    }

    /// The call's questions concern no one any more.
    pub(super) fn drop_inputs(&mut self, id: CallId) {
        let is_of_call = |question: &OpenQuestion| {
            question
                .input
                .as_ref()
                .is_some_and(|input| input.call == id)
        };
        self.asks.retain(|_, question| !is_of_call(question));
    }
}

/// Begins a round in which the worker is told the roots that the operator has set. Returns what the client is asked.
fn begin_round(
    rounds: &mut Rounds,
    roots: &[String],
    requests: Vec<InputRequest>,
) -> Vec<InputRequest> {
    rounds.responses.clear();
    rounds.keys = requests.iter().map(|request| request.key.len()).sum();
    let is_known = |request: &InputRequest| request.method == "roots/list" && !roots.is_empty();
    let (known, asked): (Vec<_>, Vec<_>) = requests.into_iter().partition(is_known);
    rounds.missing = asked.len();
    let roots: Vec<_> = roots.iter().map(|uri| json!({ "uri": uri })).collect();
    let told = Bytes::from(json!({ "roots": roots }).to_string());
    for InputRequest { key, .. } in known {
        rounds.responses.insert(key, told.clone());
    }
    asked
}
