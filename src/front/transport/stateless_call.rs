//! A request of the stateless revision under way: what its worker says, and what its client is told
//! of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::bridge::stateless::{
    Fault, Question, ResponseAdapter, input_required, is_tool_error, pages_required, plain_answer,
    told_during_call,
};
use crate::bridge::{Era, Level};
use crate::front::pipeline::context::RequestContext;
use crate::front::response::body::Body;
use crate::front::response::errors;
use crate::front::response::reply;
use crate::front::response::sse::{FIRST_WORDS, QUIET_CALL};
use crate::gateway::{Gateway, Next, Purpose, ResponseStream, SessionTable, Suspended};
use crate::held;
use crate::ids::ServerName;
use crate::protocol::{Envelope, Failure, FaultKind, Kind, Reason, code, error_response};
use crate::session::Session;
use crate::tenancy::Principal;
use crate::upstream::OutboundMessage;

/// How long a worker that has asked its client something may take to ask for more: what is asked
/// together is put to the client together.
const GATHER: Duration = Duration::from_millis(25);
/// How long a client may keep lists and what a server says of itself, where nothing says that
/// they have changed.
pub(in crate::front) const LISTS_LAST: Duration = Duration::from_secs(60);

/// The last words of a request.
pub(in crate::front) struct Final {
    pub(in crate::front) status: u16,
    pub(in crate::front) message: Bytes,
}

impl Final {
    /// The fault of the request with that id (raw JSON).
    pub(in crate::front) fn fault(fault: &Fault, id: &str) -> Self {
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
pub(in crate::front) struct StatelessCall {
    pub(in crate::front) gateway: Gateway,
    pub(in crate::front) sessions: Arc<SessionTable>,
    pub(in crate::front) principal: Principal,
    pub(in crate::front) server: ServerName,
    pub(in crate::front) caller: Arc<Session>,
    pub(in crate::front) response_stream: ResponseStream,
    /// What the worker has asked and nobody has answered.
    pub(in crate::front) questions: Vec<Question>,
    /// Capabilities it needed and the client lacks.
    pub(in crate::front) lacking: Option<Value>,
    /// When the questions are put to the client.
    pub(in crate::front) gathered_at: Option<Instant>,
    pub(in crate::front) id: String,
    pub(in crate::front) method: String,
    pub(in crate::front) uri: Option<String>,
    pub(in crate::front) token: Option<String>,
    pub(in crate::front) level: Option<Level>,
    pub(in crate::front) capabilities: Map<String, Value>,
    pub(in crate::front) responses: Map<String, Value>,
    pub(in crate::front) substance: String,
    pub(in crate::front) server_info: Option<String>,
    /// In the words of which era its worker answers.
    pub(in crate::front) words: Era,
    pub(in crate::front) context: RequestContext,
}

/// The next item of a call's stream.
pub(in crate::front) enum StreamItem {
    /// A notification that belongs to the request.
    Notification(Bytes),
    /// Nothing for a while.
    Nothing,
    /// The response.
    Final(Final),
}

impl StatelessCall {
    /// Takes a call up that waits for this request: its worker gets the answers. Answers that are missing or
    /// cannot be answers are asked for again.
    pub(in crate::front) fn resume(&mut self, state: &str) -> Result<(), Final> {
        let purpose = Purpose {
            principal: &self.principal,
            server: &self.server,
            substance: &self.substance,
        };
        let Some(call) = self.sessions.resume(purpose, state) else {
            self.context.answered(true);
            let why = "`requestState` is not valid: it was changed, used before, is another request's, or came too late; send the request without it";
            let fault = Fault::new(FaultKind::InvalidParams, why);
            return Err(Final::fault(&fault, &self.id));
        };
        self.response_stream = call.response_stream;
        self.lacking = call.lacking;
        self.response_stream.begin_anew();
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
            self.tell_worker(refusal.as_bytes());
        }
    }

    fn tell_worker(&self, answer: &[u8]) {
        if let Ok(envelope) = Envelope::parse(answer) {
            // A worker that is gone fails its call, which says so; of what a caller without a session answers, nothing waits for more.
            let _was_asked = self.gateway.answer(&self.caller, &envelope);
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
            response_stream: std::mem::take(&mut self.response_stream),
            questions: questions.clone(),
            caller: Arc::clone(&self.caller),
            lacking: self.lacking.take(),
        };
        match self.sessions.suspend(purpose, call) {
            Ok(state) => {
                self.context.answered(false);
                Final {
                    status: 200,
                    message: input_required(&self.id, &questions, &state),
                }
            }
            Err(failure) => self.failed(&failure),
        }
    }

    fn failed(&mut self, failure: &Failure) -> Final {
        self.context.failed(failure.reason);
        Final {
            status: failure
                .reason
                .status_of_answer(self.gateway.runtime_config().config.http.failure_status),
            message: errors::message(failure, Some(&self.id)).into(),
        }
    }

    /// The first item of the call's stream.
    pub(in crate::front) async fn first(&mut self) -> StreamItem {
        self.next_within(FIRST_WORDS).await
    }

    /// The next item of the call's stream.
    pub(in crate::front) async fn next(&mut self) -> StreamItem {
        self.next_within(QUIET_CALL).await
    }

    async fn next_within(&mut self, quiet: Duration) -> StreamItem {
        loop {
            let until = self.gathered_at.unwrap_or_else(|| Instant::now() + quiet);
            let next = match self.response_stream.next_by(until).await {
                Some(next) => next,
                None if self.gathered_at.is_some() => return StreamItem::Final(self.suspend()),
                None => return StreamItem::Nothing,
            };
            match next {
                Next::OutboundMessage(OutboundMessage::Message(message)) => {
                    if let Some(passed) = self.heard(&message) {
                        return StreamItem::Notification(passed);
                    }
                }
                Next::OutboundMessage(outbound @ OutboundMessage::Answer { .. }) => {
                    self.context.note(&outbound);
                    self.context.finish(&self.response_stream);
                    let OutboundMessage::Answer { message, .. } = outbound else {
                        continue;
                    };
                    return StreamItem::Final(self.answered(&message));
                }
                Next::OutboundMessage(OutboundMessage::Failed { failure, .. }) => {
                    return StreamItem::Final(self.failed(&failure));
                }
                Next::TimedOut { limit, .. } => {
                    return StreamItem::Final(self.failed(&limit.failure()));
                }
                Next::Done => {
                    let why = "the call ended without an answer";
                    let failure = Failure::new(Reason::Internal, why);
                    return StreamItem::Final(self.failed(&failure));
                }
            }
        }
    }

    /// A message of the worker that is no answer; what of it the client is told.
    fn heard(&mut self, message: &Bytes) -> Option<Bytes> {
        let envelope = Envelope::parse(message).ok()?;
        if envelope.kind() == Kind::Request {
            let ask = envelope.id?.get();
            let key = self.gateway.stateless_callers().name_of_question(ask);
            match Question::read(&envelope, key.unwrap_or_else(|| ask.to_owned())) {
                Some(question) => self.ask(question),
                None => {
                    let error = json!({ "code": code::METHOD_NOT_FOUND, "message": "clients of this revision cannot be asked that" });
                    self.tell_worker(error_response(ask, &error).as_bytes());
                }
            }
            return None;
        }
        told_during_call(message, &envelope, self.token.as_deref(), self.level)
    }

    /// The worker's answer as this revision wants it.
    fn answered(&mut self, message: &Bytes) -> Final {
        let Ok(envelope) = Envelope::parse(message) else {
            let why = "the server's answer cannot be read";
            let failure = Failure::new(Reason::Internal, why);
            return self.failed(&failure);
        };
        if let Some(plain) = plain_answer(self.words, &envelope) {
            if let Some(state) = &plain.state {
                let callers = self.gateway.stateless_callers();
                callers.note_state(&self.principal, state, &self.response_stream);
            }
            let (status, message) = (plain.status, message.clone());
            return Final { status, message };
        }
        let adapter = ResponseAdapter {
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
            return Final::fault(&Fault::missing(lacking), &self.id);
        }
        if let Some(error) = envelope.error {
            return match pages_required(&self.id, error.get(), &self.capabilities) {
                Some(Ok(message)) => Final {
                    status: 200,
                    message,
                },
                Some(Err(lacking)) => Final::fault(&Fault::missing(lacking), &self.id),
                None => {
                    let (status, message) = adapter.error(error.get());
                    let message = self.in_place_of_what_came(message);
                    Final { status, message }
                }
            };
        }
        let message = adapter.result(envelope.result.map_or("null", |result| result.get()));
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
