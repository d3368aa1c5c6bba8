//! A request of the stateless revision under way: what its worker says, and what its client is told
//! of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::body::Body;
use super::errors;
use super::post::Tally;
use super::reply;
use super::stateless::LISTS_LAST;
use super::stream::{FIRST_WORDS, QUIET_CALL};
use crate::bridge::stateless::{Dress, Fault, Question, input_required, pages_required, status_of};
use crate::bridge::{Era, Level};
use crate::held;
use crate::ids::ServerName;
use crate::protocol::{Envelope, Failure, FaultKind, Kind, Reason, code};
use crate::session::{Exchange, Next, Parcel, Purpose, Session, Sessions, Suspended};
use crate::tenancy::Principal;

/// How long a worker that has asked its client something may take to ask for more: what is asked
/// together is put to the client together.
const GATHER: Duration = Duration::from_millis(25);
/// The last words of a request.
pub(super) struct Final {
    pub(super) status: u16,
    pub(super) message: Bytes,
}

impl From<(&Fault, &str)> for Final {
    fn from((fault, id): (&Fault, &str)) -> Self {
        Self {
            status: fault.status,
            message: errors::fault(fault, id).into(),
        }
    }
}

impl From<Final> for Response<Body> {
    fn from(last: Final) -> Self {
        let status = StatusCode::from_u16(last.status).unwrap_or(StatusCode::OK);
        reply::json(status, last.message)
    }
}

/// A request under way.
pub(super) struct Conversation {
    pub(super) sessions: Sessions,
    pub(super) principal: Principal,
    pub(super) server: ServerName,
    pub(super) caller: Arc<Session>,
    pub(super) exchange: Exchange,
    /// What the worker has asked and nobody has answered.
    pub(super) questions: Vec<Question>,
    /// Capabilities it needed and the client lacks.
    pub(super) lacking: Option<Value>,
    /// When the questions are put to the client.
    pub(super) gathered_at: Option<Instant>,
    pub(super) id: String,
    pub(super) method: String,
    pub(super) uri: Option<String>,
    pub(super) token: Option<String>,
    pub(super) level: Option<Level>,
    pub(super) capabilities: Map<String, Value>,
    pub(super) responses: Map<String, Value>,
    pub(super) substance: String,
    pub(super) server_info: Option<String>,
    /// How its worker is spoken to.
    pub(super) era: Era,
    pub(super) tally: Tally,
}

/// What comes next in a conversation.
pub(super) enum Said {
    /// A notification that belongs to the request.
    Notification(Bytes),
    /// Nothing for a while.
    Nothing,
    /// The response.
    Final(Final),
}

impl Conversation {
    /// Takes a call up that waits for this request: its worker gets the answers. What is missing or
    /// cannot be an answer is asked for again.
    pub(super) fn resume(&mut self, state: &str) -> Result<(), Final> {
        let purpose = Purpose {
            principal: &self.principal,
            server: &self.server,
            substance: &self.substance,
        };
        let Some(call) = self.sessions.resume(purpose, state) else {
            self.tally.answered(true);
            let why = "`requestState` is not valid: it was changed, used before, is another request's, or came too late; send the request without it";
            let fault = Fault::new(FaultKind::InvalidParams, why);
            return Err((&fault, &*self.id).into());
        };
        self.exchange = call.exchange;
        self.lacking = call.lacking;
        self.exchange.begin_anew();
        for question in call.questions {
            self.ask(question);
        }
        if !self.questions.is_empty() {
            return Err(self.suspend());
        }
        Ok(())
    }

    /// Answers a question from what the request brought, or notes it for the client.
    fn ask(&mut self, question: Question) {
        let brought = self.responses.get(&question.key);
        if let Some(response) = brought.filter(|response| question.is_answered_by(response)) {
            let answer = question.answer(response);
            self.tell_worker(&answer);
        } else if question.is_declared(&self.capabilities) {
            self.gathered_at
                .get_or_insert_with(|| Instant::now() + GATHER);
            self.questions.push(question);
        } else {
            self.lacking.get_or_insert_with(|| question.needs());
            let refusal = question.refusal();
            self.tell_worker(&refusal);
        }
    }

    fn tell_worker(&self, answer: &str) {
        if let Ok(envelope) = Envelope::parse(answer.as_bytes()) {
            // A worker that is gone fails its call, which says so.
            let _was_asked = self.sessions.answer(&self.caller, &envelope);
        }
    }

    /// Puts the questions to the client; the call waits for its next request.
    fn suspend(&mut self) -> Final {
        let questions = std::mem::take(&mut self.questions);
        let purpose = Purpose {
            principal: &self.principal,
            server: &self.server,
            substance: &self.substance,
        };
        let call = Suspended {
            exchange: std::mem::take(&mut self.exchange),
            questions: questions.clone(),
            caller: Arc::clone(&self.caller),
            lacking: self.lacking.take(),
        };
        match self.sessions.suspend(purpose, call) {
            Ok(state) => {
                self.tally.answered(false);
                Final {
                    status: 200,
                    message: input_required(&self.id, &questions, &state),
                }
            }
            Err(failure) => self.failed(&failure),
        }
    }

    fn failed(&mut self, failure: &Failure) -> Final {
        self.tally.failed(failure.reason);
        Final {
            status: failure
                .reason
                .status_of_answer(self.sessions.setup().config.http.failure_status),
            message: errors::message(failure, Some(&self.id)).into(),
        }
    }

    /// What comes first.
    pub(super) async fn first(&mut self) -> Said {
        self.next_within(FIRST_WORDS).await
    }

    /// What comes next.
    pub(super) async fn next(&mut self) -> Said {
        self.next_within(QUIET_CALL).await
    }

    async fn next_within(&mut self, quiet: Duration) -> Said {
        loop {
            let until = self.gathered_at.unwrap_or_else(|| Instant::now() + quiet);
            let next = match self.exchange.next_by(until).await {
                Some(next) => next,
                None if self.gathered_at.is_some() => return Said::Final(self.suspend()),
                None => return Said::Nothing,
            };
            match next {
                Next::Parcel(Parcel::Message(message)) => {
                    if let Some(passed) = self.heard(&message) {
                        return Said::Notification(passed);
                    }
                }
                Next::Parcel(parcel @ Parcel::Answer { .. }) => {
                    self.tally.note(&parcel);
                    self.tally.finish(&self.exchange);
                    let Parcel::Answer { message, .. } = parcel else {
                        continue;
                    };
                    return Said::Final(self.answered(&message));
                }
                Next::Parcel(Parcel::Failed { failure, .. }) => {
                    return Said::Final(self.failed(&failure));
                }
                Next::TimedOut { limit, .. } => {
                    return Said::Final(self.failed(&limit.failure()));
                }
                Next::Done => {
                    let why = "the call ended without an answer";
                    let failure = Failure::new(Reason::Internal, why);
                    return Said::Final(self.failed(&failure));
                }
            }
        }
    }

    /// A message of the worker that is no answer; what of it the client is told.
    fn heard(&mut self, message: &Bytes) -> Option<Bytes> {
        let envelope = Envelope::parse(message).ok()?;
        if envelope.kind() == Kind::Request {
            let ask = envelope.id?.get();
            let key = self.sessions.name_of_question(ask);
            match Question::read(&envelope, key.unwrap_or_else(|| ask.to_owned())) {
                Some(question) => self.ask(question),
                None => {
                    let error = json!({ "code": code::METHOD_NOT_FOUND, "message": "clients of this revision cannot be asked that" });
                    self.tell_worker(&format!(
                        r#"{{"jsonrpc":"2.0","id":{ask},"error":{error}}}"#
                    ));
                }
            }
            return None;
        }
        let params = envelope.params.map_or("{}", |params| params.get());
        match envelope.method.as_deref()? {
            "notifications/progress" => {
                // A call that waited for its client goes on under the token of the new request.
                let token = self.token.as_deref()?;
                let params: Map<String, Value> = serde_json::from_str(params).ok()?;
                let mut params = Value::Object(params);
                let token: Value = serde_json::from_str(token).ok()?;
                if params["progressToken"] == token {
                    return Some(message.clone());
                }
                params["progressToken"] = token;
                let told = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params });
                Some(told.to_string().into())
            }
            "notifications/message" => {
                #[derive(Deserialize)]
                struct Logged {
                    level: String,
                }
                let logged: Logged = serde_json::from_str(params).ok()?;
                let level = Level::parse(&logged.level)?;
                self.level
                    .is_some_and(|wanted| level >= wanted)
                    .then(|| message.clone())
            }
            // Changes go to those who listen; the rest is unknown to this revision.
            _ => None,
        }
    }

    /// The worker's answer as this revision wants it.
    fn answered(&mut self, message: &Bytes) -> Final {
        let Ok(envelope) = Envelope::parse(message) else {
            let why = "the server's answer cannot be read";
            let failure = Failure::new(Reason::Internal, why);
            return self.failed(&failure);
        };
        if self.era == Era::Stateless {
            // Said in the client's own words already.
            if let Some(state) = envelope.result.and_then(|result| state_of(result.get())) {
                let sessions = &self.sessions;
                sessions.note_state(&self.principal, &state, &self.exchange);
            }
            let status = envelope.error.map_or(200, |error| status_of(error.get()));
            let message = message.clone();
            return Final { status, message };
        }
        let dress = Dress {
            id: &self.id,
            method: &self.method,
            uri: self.uri.as_deref(),
            server_info: self.server_info.as_deref(),
            lists_last: LISTS_LAST,
        };
        let did_fail = envelope.error.is_some()
            || envelope
                .result
                .is_some_and(|result| is_tool_error(result.get()));
        if did_fail && let Some(lacking) = self.lacking.take() {
            return Final::from((&Fault::missing(lacking), &*self.id));
        }
        if let Some(error) = envelope.error {
            return match pages_required(&self.id, error.get(), &self.capabilities) {
                Some(Ok(message)) => Final {
                    status: 200,
                    message,
                },
                Some(Err(lacking)) => Final::from((&Fault::missing(lacking), &*self.id)),
                None => {
                    let (status, message) = dress.error(error.get());
                    let message = self.in_place_of_what_came(message);
                    Final { status, message }
                }
            };
        }
        let message = dress.result(envelope.result.map_or("null", |result| result.get()));
        Final {
            status: 200,
            message: self.in_place_of_what_came(message),
        }
    }

    /// What the client is told in place of an answer that was let in and goes now: charged as that was.
    fn in_place_of_what_came(&self, message: Bytes) -> Bytes {
        let account = self.caller.account();
        account.hold_anyway(held::Kind::Answer, message)
    }
}

/// What a result of this revision gives its client to bring back (basic/patterns/mrtr).
fn state_of(result: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct View {
        #[serde(rename = "requestState")]
        state: String,
    }
    memchr::memmem::find(result.as_bytes(), b"\"requestState\"")?;
    serde_json::from_str::<View>(result)
        .ok()
        .map(|view| view.state)
}

fn is_tool_error(result: &str) -> bool {
    #[derive(Deserialize)]
    struct View {
        #[serde(rename = "isError", default)]
        is_error: bool,
    }
    memchr::memmem::find(result.as_bytes(), b"\"isError\"").is_some()
        && serde_json::from_str::<View>(result).is_ok_and(|view| view.is_error)
}
