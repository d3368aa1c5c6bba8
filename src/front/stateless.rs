//! POST of the stateless revision, 2026-07-28: each request by itself.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::stream as streams;
use http::{HeaderMap, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::post::{Post, Tally, timed_out};
use super::reply;
use super::stream::{KEEP_ALIVE, QUIET_PERIOD, put_event};
use crate::bridge::Level;
use crate::bridge::stateless::{
    Dress, Fault, Filter, Question, StatelessRequest, check_param_headers, discovered,
    input_required, pages_required,
};
use crate::ids::ServerName;
use crate::protocol::{Envelope, Failure, Kind, code};
use crate::session::{Exchange, Listener, Next, Parcel, Purpose, Sessions, Suspended};
use crate::tenancy::Principal;

/// How long a worker that has asked its client something may take to ask for more: what is asked
/// together is put to the client together.
const GATHER: Duration = Duration::from_millis(25);
/// How long a client may keep lists and what a server says of itself, where nothing says that
/// they have changed.
const LISTS_LAST: Duration = Duration::from_secs(60);

/// The last words of a request.
struct Final {
    status: u16,
    message: Bytes,
}

impl From<(&Fault, &str)> for Final {
    fn from((fault, id): (&Fault, &str)) -> Self {
        Self {
            status: fault.status,
            message: fault.to_response(id).into(),
        }
    }
}

impl From<Final> for Response<Body> {
    fn from(last: Final) -> Self {
        let status = StatusCode::from_u16(last.status).unwrap_or(StatusCode::OK);
        reply::json(status, last.message)
    }
}

fn header<'h>(headers: &'h HeaderMap) -> impl Fn(&str) -> Option<&'h str> {
    |name| headers.get(name)?.to_str().ok()
}

impl Post<'_> {
    /// Serves a request of this revision.
    pub(super) async fn serve_stateless(&self, envelope: &Envelope<'_>) -> Response<Body> {
        match envelope.kind() {
            Kind::Request => {}
            // This revision has none that a client could send.
            Kind::Notification => return reply::empty(StatusCode::ACCEPTED),
            Kind::Response => {
                let why = "clients of this revision send no responses: what a result asked for comes with the next request";
                let fault = Fault::new(400, code::INVALID_REQUEST, why);
                return Final::from((&fault, "null")).into();
            }
        }
        let id = envelope.id.map_or("null", |id| id.get());
        let mut tally = self.tally();
        tally.asks(envelope);
        let request = match StatelessRequest::read(envelope, header(self.headers)) {
            Ok(request) => request,
            Err(fault) => {
                tally.answered(true);
                return Final::from((&fault, id)).into();
            }
        };
        let served = match &*request.method {
            "server/discover" => self.discover(&request, tally).await,
            "subscriptions/listen" => self.listen(&request, tally).await,
            _ => self.call(&request, tally).await,
        };
        served.unwrap_or_else(|failure| {
            self.front.sessions.metrics().rejected(failure.reason);
            reply::failure(&failure, Some(id))
        })
    }

    async fn discover(
        &self,
        request: &StatelessRequest<'_>,
        mut tally: Tally,
    ) -> Result<Response<Body>, Failure> {
        let sessions = &self.front.sessions;
        let caller = sessions.caller(&self.principal, &self.server, request.can_be_asked())?;
        let hello = sessions.introduction(&caller).await?;
        tally.answered(false);
        let body = discovered(request.id, hello.text(), LISTS_LAST);
        Ok(reply::json(StatusCode::OK, body))
    }

    async fn listen(
        &self,
        request: &StatelessRequest<'_>,
        mut tally: Tally,
    ) -> Result<Response<Body>, Failure> {
        let Some(asked) = Filter::asked(request.param("notifications")) else {
            tally.answered(true);
            let why = "`params.notifications` must say what to listen for";
            let fault = Fault::new(400, code::INVALID_PARAMS, why);
            return Ok(Final::from((&fault, request.id)).into());
        };
        let sessions = &self.front.sessions;
        let listener = sessions
            .listen(&self.principal, &self.server, asked)
            .await?;
        tally.answered(false);
        Ok(reply::event_stream(listening(
            listener,
            request.id.to_owned(),
        )))
    }

    async fn call(
        &self,
        request: &StatelessRequest<'_>,
        mut tally: Tally,
    ) -> Result<Response<Body>, Failure> {
        let sessions = &self.front.sessions;
        let can_be_asked = request.can_be_asked() || request.level.is_some();
        let caller = sessions.caller(&self.principal, &self.server, can_be_asked)?;
        if &*request.method == "tools/call"
            && let Some(tool) = request.param("name")
            && let Ok(tool) = serde_json::from_str::<String>(tool)
            && let Some(schema) = sessions.tool_schema(&caller, &tool).await
        {
            let arguments = request.param("arguments");
            if let Err(fault) = check_param_headers(&schema, arguments, &header(self.headers)) {
                tally.answered(true);
                return Ok(Final::from((&fault, request.id)).into());
            }
        }
        let mut conversation = Conversation {
            sessions: sessions.clone(),
            principal: self.principal.clone(),
            server: self.server.clone(),
            caller: std::sync::Arc::clone(&caller),
            exchange: Exchange::stateless(request.level),
            questions: Vec::new(),
            lacking: None,
            gathered_at: None,
            id: request.id.to_owned(),
            method: request.method.clone().into_owned(),
            uri: request
                .param("uri")
                .and_then(|uri| serde_json::from_str(uri).ok()),
            token: request.token.map(ToOwned::to_owned),
            level: request.level,
            capabilities: request.capabilities.clone(),
            responses: request.responses.clone(),
            substance: request.substance(),
            server_info: None,
            tally,
        };
        let hello = sessions.known_introduction(&caller).await;
        conversation.server_info = hello.and_then(|hello| hello.server_info());
        match &request.state {
            Some(state) => {
                if let Err(last) = conversation.resume(state) {
                    return Ok(last.into());
                }
            }
            None => {
                let line = Bytes::from(request.for_worker());
                let envelope = Envelope::parse(&line).map_err(|error| {
                    Failure::new(crate::protocol::Reason::Internal, error.to_string())
                })?;
                let exchange = &mut conversation.exchange;
                let sent = sessions.request_once(&caller, &line, &envelope, exchange);
                if let Err(failure) = sent.await {
                    conversation.tally.failed(failure.reason);
                    return Ok(reply::failure(&failure, Some(request.id)));
                }
            }
        }
        Ok(match conversation.next().await {
            Said::Final(last) => last.into(),
            first => reply::event_stream(telling(conversation, first)),
        })
    }
}

/// A request under way.
struct Conversation {
    sessions: Sessions,
    principal: Principal,
    server: ServerName,
    caller: std::sync::Arc<crate::session::Session>,
    exchange: Exchange,
    /// What the worker has asked and nobody has answered.
    questions: Vec<Question>,
    /// Capabilities it needed and the client lacks.
    lacking: Option<Value>,
    /// When the questions are put to the client.
    gathered_at: Option<Instant>,
    id: String,
    method: String,
    uri: Option<String>,
    token: Option<String>,
    level: Option<Level>,
    capabilities: serde_json::Map<String, Value>,
    responses: serde_json::Map<String, Value>,
    substance: String,
    server_info: Option<String>,
    tally: Tally,
}

/// What comes next in a conversation.
enum Said {
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
    fn resume(&mut self, state: &str) -> Result<(), Final> {
        let purpose = Purpose {
            principal: &self.principal,
            server: &self.server,
            substance: &self.substance,
        };
        let Some(call) = self.sessions.resume(purpose, state) else {
            self.tally.answered(true);
            let why = "`requestState` is not valid: it was changed, used before, is another request's, or came too late; send the request without it";
            let fault = Fault::new(400, code::INVALID_PARAMS, why);
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
            let _was_asked = self
                .sessions
                .answer(&self.caller, answer.as_bytes(), &envelope);
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
            status: failure.reason.http_status(),
            message: failure.to_response(Some(&self.id)).into(),
        }
    }

    /// What comes next.
    async fn next(&mut self) -> Said {
        loop {
            let until = self
                .gathered_at
                .unwrap_or_else(|| Instant::now() + QUIET_PERIOD);
            let next = match tokio::time::timeout_at(until, self.exchange.next()).await {
                Ok(next) => next,
                Err(_elapsed) if self.gathered_at.is_some() => {
                    return Said::Final(self.suspend());
                }
                Err(_quiet) => return Said::Nothing,
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
                Next::TimedOut { timeout, .. } => {
                    return Said::Final(self.failed(&timed_out(timeout)));
                }
                Next::Done => {
                    let why = "the call ended without an answer";
                    let failure = Failure::new(crate::protocol::Reason::Internal, why);
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
                let params: serde_json::Map<String, Value> = serde_json::from_str(params).ok()?;
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
            let failure = Failure::new(crate::protocol::Reason::Internal, why);
            return self.failed(&failure);
        };
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
                    Final { status, message }
                }
            };
        }
        Final {
            status: 200,
            message: dress.result(envelope.result.map_or("null", |result| result.get())),
        }
    }
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

/// The reply as a stream. Dropping it cancels the call (basic/transports/streamable-http,
/// "Cancellation").
fn telling(conversation: Conversation, first: Said) -> Body {
    let state = Some((conversation, Some(first)));
    Body::from_stream(streams::unfold(state, |state| async move {
        let (mut conversation, first) = state?;
        let said = match first {
            Some(first) => first,
            None => conversation.next().await,
        };
        let mut frame = BytesMut::new();
        let rest = match said {
            Said::Nothing => {
                frame.extend_from_slice(KEEP_ALIVE);
                Some((conversation, None))
            }
            Said::Notification(message) => {
                put_event(&mut frame, &message);
                Some((conversation, None))
            }
            Said::Final(last) => {
                put_event(&mut frame, &last.message);
                None
            }
        };
        Some((Ok::<_, std::convert::Infallible>(frame.freeze()), rest))
    }))
}

/// The stream of a listener.
fn listening(listener: Listener, id: String) -> Body {
    let reader = listener.session().outbox.take_over();
    let in_use = listener.session().in_use();
    let state = Some((listener, in_use, true));
    Body::from_stream(streams::unfold(
        (state, id),
        move |(state, id)| async move {
            let (listener, in_use, is_first) = state?;
            let mut frame = BytesMut::new();
            if is_first {
                put_event(&mut frame, &listener.filter().acknowledgement(&id));
                let state = Some((listener, in_use, false));
                return Some((
                    Ok::<_, std::convert::Infallible>(frame.freeze()),
                    (state, id),
                ));
            }
            loop {
                let outbox = &listener.session().outbox;
                let next = tokio::time::timeout(QUIET_PERIOD, outbox.next_of_stream(reader)).await;
                match next {
                    Err(_quiet) => frame.extend_from_slice(KEEP_ALIVE),
                    Ok(None) => {
                        put_event(&mut frame, &Filter::farewell(&id));
                        return Some((Ok(frame.freeze()), (None, id)));
                    }
                    Ok(Some(Parcel::Message(message))) => {
                        match listener.filter().passes(&message, &id) {
                            Some(message) => put_event(&mut frame, &message),
                            None => continue,
                        }
                    }
                    Ok(Some(Parcel::Answer { .. } | Parcel::Failed { .. })) => continue,
                }
                let state = Some((listener, in_use, false));
                return Some((Ok(frame.freeze()), (state, id)));
            }
        },
    ))
}
