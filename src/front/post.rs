//! POST: messages in, answers out.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::value::RawValue;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::body::Body;
use super::client_config::{Configs, together};
use super::late::Late;
use super::reply::{self, SESSION_HEADER};
use super::router::{Front, check_version, other_version};
use super::stream::{self, FIRST_WORDS, QUIET_CALL, Unheard};
use super::trail::Trail;
use crate::bridge::ClientHello;
use crate::bridge::stateless::is_stateless;
use crate::held::{self, Account};
use crate::ids::ServerName;
use crate::protocol::{Envelope, EnvelopeError, Failure, FailureStatus, IdScanner, Kind, Reason};
use crate::session::{Exchange, Initialized, Next, Parcel, Session, SessionId};
use crate::telemetry::labels::{Method, Outcome};
use crate::telemetry::{Metrics, RequestSpan, ServerMetrics};
use crate::tenancy::{ClientConfig, Principal};

/// Most messages in one batch.
const MAX_BATCH: usize = 64;

/// One message of a batch.
struct BatchItem<'a> {
    message: &'a [u8],
    envelope: Envelope<'a>,
    /// What it sets for its server, if that is not what its session does; of a request, or what is wrong with that.
    config: Result<Option<Arc<ClientConfig>>, Failure>,
}

/// A POST whose caller and server are known.
pub(super) struct Post<'a> {
    pub(super) front: &'a Front,
    pub(super) principal: &'a Principal,
    pub(super) server: ServerName,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a Bytes,
    /// What its tenant holds.
    pub(super) account: &'a Account,
    /// What it sets for its server.
    pub(super) config: Option<ClientConfig>,
    /// What is wrong with what its address and headers set. What is no request sets nothing.
    pub(super) misfit: Option<Failure>,
    pub(super) arrived: Instant,
    /// Says that its answer is late.
    pub(super) late: &'a Late,
}

impl Post<'_> {
    /// Serves it.
    pub(super) async fn serve(mut self) -> Response<Body> {
        if self.body.trim_ascii_start().first() == Some(&b'[') {
            return self.in_time(None, Box::pin(self.batch())).await;
        }
        let envelope = match Envelope::parse(self.body) {
            Ok(envelope) => envelope,
            Err(error) => {
                let id = id_of(self.body);
                return self.refuse(&unreadable(&error), id.as_deref());
            }
        };
        let misfit = self.misfit.take();
        let read = match misfit.filter(|_| envelope.kind() == Kind::Request) {
            Some(failure) => Err(failure),
            None => self.configs().of_message(&envelope),
        };
        let under = self.config.take();
        let read = read.and_then(|(own, rest)| Ok((together(under, own)?, rest)));
        let rest = match read {
            Ok((config, rest)) => {
                self.config = config;
                rest
            }
            Err(failure) => return self.refuse_message(&failure, &envelope),
        };
        // From here on nobody sees what was for stdiopool alone.
        let Some(rest) = rest else {
            return self.serve_plain(&envelope).await;
        };
        let envelope = match Envelope::parse(&rest) {
            Ok(envelope) => envelope,
            Err(error) => return self.refuse(&unreadable(&error), None),
        };
        let front = self.front;
        let post = Post {
            body: &rest,
            front,
            ..self
        };
        post.serve_plain(&envelope).await
    }

    /// Answers a message whose worker might read it otherwise, or drop it.
    fn refuse_message(&self, failure: &Failure, envelope: &Envelope<'_>) -> Response<Body> {
        note_method(envelope);
        // What is no request has no answer.
        let id = envelope.id.filter(|_| envelope.kind() == Kind::Request);
        self.refuse(failure, id.map(|id| id.get()))
    }

    /// Answers a message that is over its caller's limits. A request is told so in its answer. What needs no answer is
    /// served: it asks for nothing, ends what is under way more often than not, and clients take a refusal of it for the
    /// end of their session.
    ///
    /// # Errors
    /// `failure` where there is no answer that could say so.
    pub(super) async fn serve_over_limit(
        self,
        failure: Failure,
    ) -> Result<Response<Body>, Failure> {
        let envelope = Envelope::parse(self.body).map_err(|_| failure.clone())?;
        match (envelope.kind(), envelope.id) {
            (Kind::Request, Some(id)) => {
                note_method(&envelope);
                Ok(self.refuse(&failure, Some(id.get())))
            }
            (Kind::Notification | Kind::Response, _) => Ok(self.serve().await),
            (Kind::Request, None) => Err(failure),
        }
    }

    fn configs(&self) -> Configs<'_> {
        Configs {
            front: self.front,
            principal: self.principal,
            server: &self.server,
        }
    }

    async fn serve_plain(self, envelope: &Envelope<'_>) -> Response<Body> {
        let version = self.headers.get(&reply::VERSION_HEADER);
        let version = version.and_then(|version| version.to_str().ok());
        let id = envelope.id.map(|id| id.get());
        let opens = envelope.method.as_deref() == Some("initialize") && id.is_some();
        // A client that opens a session cannot know yet what is spoken here: the revision is agreed on in the message.
        let version = version.map(str::trim).filter(|_| !opens);
        if is_stateless(version, envelope) {
            // A request of a session whose header says otherwise is no request of the stateless revision.
            if let Some(sent) = version.filter(|_| !is_stateless(None, envelope))
                && let Ok(session) = self.session()
            {
                return self.refuse(&other_version(sent, Some(session.revision())), id);
            }
            return Box::pin(self.serve_stateless(envelope)).await;
        }
        if opens {
            return Box::pin(self.initialize(envelope)).await;
        }
        let session = match self.check_version().and_then(|()| self.session()) {
            Ok(session) => session,
            Err(failure) => {
                note_method(envelope);
                return self.refuse(&failure, id);
            }
        };
        match envelope.kind() {
            Kind::Request => self.request(&session, envelope).await,
            Kind::Notification if envelope.lacks_id() => self.refuse(&without_id(envelope), None),
            Kind::Notification => {
                let _in_use = session.in_use();
                self.front.sessions.notification(&session, envelope);
                reply::empty(StatusCode::ACCEPTED)
            }
            Kind::Response => {
                let _in_use = session.in_use();
                // An answer to a question that was withdrawn, or whose worker is gone, is late,
                // not wrong.
                self.front.sessions.answer(&session, envelope);
                reply::empty(StatusCode::ACCEPTED)
            }
        }
    }

    async fn initialize(&self, envelope: &Envelope<'_>) -> Response<Body> {
        let id = envelope.id.map(|id| id.get());
        let mut tally = self.tally();
        tally.asks(envelope);
        let hello = match ClientHello::parse(envelope.params) {
            Ok(hello) => hello,
            Err(why) => {
                let failure = Failure::from(why);
                return tally.answer(&failure, id);
            }
        };
        let sessions = &self.front.sessions;
        let config = self.config.clone().map(Arc::new);
        let (principal, server) = (self.principal.clone(), self.server.clone());
        let opened = async {
            let id = session_id()?;
            let header = HeaderValue::from_str(id.as_str()).ok();
            let opening = sessions.initialize_as(id, (principal, server), hello, config);
            let opened = self.in_time(header.clone(), opening).await?;
            Ok::<_, Failure>((opened, header))
        };
        match opened.await {
            Ok((opened, header)) => {
                tally.answered(false);
                let answer = match self.hold(initialized(envelope, &opened)) {
                    Ok(answer) => answer,
                    Err(failure) => {
                        sessions.end(&opened.session);
                        return reply::answer(&failure, id, self.statuses());
                    }
                };
                let mut response = reply::json(StatusCode::OK, answer);
                if let Some(value) = header {
                    response.headers_mut().insert(&SESSION_HEADER, value);
                }
                response
            }
            Err(failure) => tally.answer(&failure, id),
        }
    }

    /// An answer that no mailbox has held, charged until it is sent.
    ///
    /// # Errors
    /// When its tenant has no room for it.
    pub(super) fn hold(&self, answer: Bytes) -> Result<Bytes, Failure> {
        Ok(self.account.hold(held::Kind::Answer, answer)?)
    }

    fn check_version(&self) -> Result<(), Failure> {
        check_version(self.headers, || Some(self.session().ok()?.revision()))
    }

    /// The session the client names.
    fn session(&self) -> Result<Arc<Session>, Failure> {
        find_session(self.front, self.headers, self.principal, &self.server)
    }

    async fn request(&self, session: &Arc<Session>, envelope: &Envelope<'_>) -> Response<Body> {
        let _in_use = session.in_use();
        let id = envelope.id.map(|id| id.get());
        let mut tally = self.tally();
        tally.asks(envelope);
        if let Some(answer) = answered_here(envelope) {
            tally.answered(false);
            return reply::json(StatusCode::OK, answer);
        }
        if session.is_with_all() {
            let sessions = &self.front.sessions;
            let found = sessions.addressed(self.principal, self.body, envelope);
            if let Some((server, _)) = found {
                tally.is_of(&server);
            }
        }
        let mut exchange = Exchange::new()
            .with_config(session.refined(self.config.clone()))
            .asked_by(self.principal, session);
        let sessions = &self.front.sessions;
        if let Err(failure) = sessions.begin_request(session, self.body, envelope, &mut exchange) {
            return tally.answer(&failure, id);
        }
        let mut call = Unheard::new(exchange, tally, session, &self.front.parked);
        let mut first = call.first(FIRST_WORDS).await;
        // With a status it can only be told before anything else is.
        while first.is_none() && call.is_being_sent() && self.statuses() == FailureStatus::Http {
            first = call.first(QUIET_CALL).await;
        }
        if first.is_none() && call.is_being_sent() {
            self.front.parked.make_room(session.no);
        }
        let Some((exchange, mut tally)) = call.into_parts() else {
            let failure = Failure::new(Reason::Internal, "the call has been taken away");
            return reply::answer(&failure, id, self.statuses());
        };
        match first {
            None => {
                let body = self.stream(exchange, VecDeque::new(), tally, session);
                reply::event_stream(body)
            }
            Some(Next::Parcel(parcel @ Parcel::Message(_))) => {
                let body = self.stream(exchange, VecDeque::from([parcel]), tally, session);
                reply::event_stream(body)
            }
            Some(Next::Parcel(parcel)) => {
                tally.note(&parcel);
                tally.finish(&exchange);
                match parcel {
                    Parcel::Answer { message, .. } | Parcel::Message(message) => {
                        reply::json(StatusCode::OK, message)
                    }
                    Parcel::Failed { id, failure } => {
                        reply::answer(&failure, Some(&id), self.statuses())
                    }
                }
            }
            // The client cancelled it: there is nothing to answer
            // (basic/utilities/cancellation), and an empty stream says so.
            Some(Next::Done) => reply::event_stream(Body::empty()),
            Some(Next::TimedOut { limit, .. }) => tally.answer(&limit.failure(), id),
        }
    }

    /// Several messages at once, in the one revision that has them (2025-03-26, basic/transports).
    async fn batch(&self) -> Response<Body> {
        if let Err(failure) = self.check_version() {
            return self.refuse(&failure, None);
        }
        let items: Vec<&RawValue> = match serde_json::from_slice(self.body) {
            Ok(items) => items,
            Err(error) => {
                return self.refuse(&unreadable(&EnvelopeError::Syntax(error)), None);
            }
        };
        let session = match self.session() {
            Ok(session) => session,
            Err(failure) => return self.refuse(&failure, None),
        };
        let refuse = |why: String| self.refuse(&Failure::new(Reason::InvalidRequest, why), None);
        if !session.revision().has_batches() {
            let revision = session.revision();
            return refuse(format!(
                "revision {revision} has no batches; send one message per POST"
            ));
        }
        if items.is_empty() || items.len() > MAX_BATCH {
            return refuse(format!(
                "a batch holds 1 to {MAX_BATCH} messages, not {}",
                items.len()
            ));
        }
        let mut plain = Vec::with_capacity(items.len());
        for item in items {
            let own = item.get().as_bytes();
            let envelope = match Envelope::parse(own) {
                Ok(envelope) => envelope,
                Err(error) => return self.refuse(&unreadable(&error), None),
            };
            let is_request = envelope.kind() == Kind::Request;
            let read = match &self.misfit {
                Some(failure) if is_request => Err(failure.clone()),
                _ => self.configs().of_message(&envelope),
            };
            match read.and_then(|(own, rest)| Ok((together(self.config.clone(), own)?, rest))) {
                Ok((config, rest)) => {
                    let rest = rest.map_or(Cow::Borrowed(own), |rest| Cow::Owned(rest.to_vec()));
                    plain.push((rest, Ok(config)));
                }
                Err(failure) if is_request => plain.push((Cow::Borrowed(own), Err(failure))),
                // What is no request has no answer that could say so.
                Err(failure) => return self.refuse(&failure, None),
            }
        }
        let mut messages = Vec::with_capacity(plain.len());
        for (message, own) in &plain {
            match Envelope::parse(message) {
                Ok(envelope) if envelope.method.as_deref() == Some("initialize") => {
                    return refuse("`initialize` must not be part of a batch".to_owned());
                }
                Ok(envelope) => {
                    let config = own.clone().map(|own| session.refined(own));
                    messages.push(BatchItem {
                        message,
                        envelope,
                        config,
                    });
                }
                Err(error) => return self.refuse(&unreadable(&error), None),
            }
        }
        self.send_batch(&session, messages).await
    }

    async fn send_batch(
        &self,
        session: &Arc<Session>,
        messages: Vec<BatchItem<'_>>,
    ) -> Response<Body> {
        let _in_use = session.in_use();
        let sessions = &self.front.sessions;
        let mut tally = self.tally();
        let mut exchange = Exchange::new().asked_by(self.principal, session);
        let mut settled = VecDeque::new();
        let mut has_requests = false;
        for item in messages {
            let BatchItem {
                message,
                envelope,
                config,
            } = item;
            let envelope = &envelope;
            match envelope.kind() {
                Kind::Notification => sessions.notification(session, envelope),
                Kind::Response => {
                    sessions.answer(session, envelope);
                }
                Kind::Request => {
                    has_requests = true;
                    tally.asks(envelope);
                    if let Some(answer) = answered_here(envelope) {
                        let (at, is_error) = (Instant::now(), false);
                        settled.push_back(Parcel::Answer {
                            message: answer,
                            at,
                            is_error,
                        });
                        continue;
                    }
                    let id = || envelope.id.map_or("null", |id| id.get()).into();
                    match config {
                        Ok(config) => exchange.set_config(config),
                        Err(failure) => {
                            settled.push_back(Parcel::Failed { id: id(), failure });
                            continue;
                        }
                    }
                    let sent = sessions.request(session, message, envelope, &mut exchange);
                    if let Err(failure) = sent.await {
                        settled.push_back(Parcel::Failed { id: id(), failure });
                    }
                }
            }
        }
        if !has_requests {
            return reply::empty(StatusCode::ACCEPTED);
        }
        loop {
            match exchange.next_within(FIRST_WORDS).await {
                Some(Next::Parcel(parcel @ Parcel::Message(_))) => {
                    settled.push_back(parcel);
                    break;
                }
                Some(Next::Parcel(parcel)) => settled.push_back(parcel),
                Some(Next::Done) => return self.array(settled, tally, &exchange),
                Some(Next::TimedOut { limit, unanswered }) => {
                    settled.extend(unanswered.into_iter().map(|id| {
                        let failure = limit.failure();
                        Parcel::Failed { id, failure }
                    }));
                    return self.array(settled, tally, &exchange);
                }
                None => break,
            }
        }
        reply::event_stream(self.stream(exchange, settled, tally, session))
    }

    /// A batch's answers as one JSON array.
    fn array(
        &self,
        settled: VecDeque<Parcel>,
        mut tally: Tally,
        exchange: &Exchange,
    ) -> Response<Body> {
        // Copied: they are charged here, and in the parcels until those are gone.
        let mut charge = self.account.nothing(held::Kind::Answer);
        let mut body = BytesMut::new();
        for parcel in settled {
            tally.note(&parcel);
            body.put_u8(if body.is_empty() { b'[' } else { b',' });
            let message = stream::message_of(parcel);
            if let Err(full) = charge.grow(message.len() + 1) {
                let failure = Failure::from(full);
                self.front.sessions.metrics().rejected(failure.reason);
                return reply::failure(&failure);
            }
            body.put_slice(&message);
        }
        if body.is_empty() {
            body.put_u8(b'[');
        }
        body.put_u8(b']');
        tally.finish(exchange);
        reply::json(StatusCode::OK, charge.carried_by(body.freeze()))
    }

    fn stream(
        &self,
        exchange: Exchange,
        backlog: VecDeque<Parcel>,
        tally: Tally,
        session: &Arc<Session>,
    ) -> Body {
        stream::of_post(exchange, backlog, tally, session, &self.front.parked)
    }

    /// Answers what never became a request of a session.
    fn refuse(&self, failure: &Failure, id: Option<&str>) -> Response<Body> {
        self.front.sessions.metrics().rejected(failure.reason);
        self.front.refused(self.principal, &self.server, failure);
        reply::answer(failure, id, self.statuses())
    }

    /// Which statuses failures have.
    pub(super) fn statuses(&self) -> FailureStatus {
        self.front.statuses()
    }

    /// Waits for what may take long: its client hears of it soon, unless it is to be told by a status how it ends.
    pub(super) async fn in_time<F: Future>(
        &self,
        session: Option<HeaderValue>,
        future: F,
    ) -> F::Output {
        match self.statuses() {
            FailureStatus::Auto => self.late.unless_soon(session, future).await,
            FailureStatus::Http => future.await,
        }
    }

    pub(super) fn tally(&self) -> Tally {
        self.front.tally(self.principal, &self.server, self.arrived)
    }
}

/// The response to `initialize`.
pub(super) fn initialized(envelope: &Envelope<'_>, opened: &Initialized) -> Bytes {
    let id = envelope.id.map_or("null", |id| id.get());
    let mut body = BytesMut::with_capacity(opened.result.len() + 64);
    body.put_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    body.put_slice(id.as_bytes());
    body.put_slice(b",\"result\":");
    body.put_slice(&opened.result);
    body.put_u8(b'}');
    body.freeze()
}

/// The name of a session to come.
pub(super) fn session_id() -> Result<SessionId, Failure> {
    SessionId::random().map_err(|error| {
        let why = format!("no randomness for a session id: {error}");
        Failure::new(Reason::Internal, why)
    })
}

/// The session that the headers name, if it is the caller's.
pub(super) fn find_session(
    front: &Front,
    headers: &HeaderMap,
    principal: &Principal,
    server: &ServerName,
) -> Result<Arc<Session>, Failure> {
    let presented = headers.get(&SESSION_HEADER).ok_or_else(|| {
        Failure::new(
            Reason::SessionRequired,
            "header `Mcp-Session-Id` is missing (send `initialize` first and repeat the header of its response)",
        )
    })?;
    let session = presented
        .to_str()
        .ok()
        .and_then(|text| front.sessions.find(text, principal, server))
        .ok_or_else(crate::session::session_not_found)?;
    RequestSpan::with_current(|span| span.is_in(session.id.shared()));
    Ok(session)
}

/// `ping` asks whether the other side of the connection is there; that is stdiopool, and no
/// worker needs to be woken for it.
pub(super) fn answered_here(envelope: &Envelope<'_>) -> Option<Bytes> {
    let id = envelope.id?.get();
    (envelope.method.as_deref() == Some("ping"))
        .then(|| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#).into())
}

/// What is logged of a request that is refused before anybody counts it says what it asked for.
fn note_method(envelope: &Envelope<'_>) {
    if let Some(method) = envelope.method.as_deref() {
        RequestSpan::with_current(|span| span.asks(Method::of(method)));
    }
}

/// The id of a body that is no message, where it says one (JSON-RPC 2.0, 5: `null` only if there was an error
/// in detecting it).
fn id_of(body: &[u8]) -> Option<String> {
    let mut scanner = IdScanner::new();
    scanner.feed(body);
    let scanned = scanner.finish();
    let id = scanned.only_id()?;
    matches!(id.as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9')).then(|| id.to_owned())
}

/// A request method in a message without `id`.
fn without_id(envelope: &Envelope<'_>) -> Failure {
    let method = envelope.method.as_deref().unwrap_or_default();
    let shown: String = method.chars().take(100).collect();
    let why = format!(
        "`{shown}` is a request, and has no `id`: nothing was done, since nobody could be told of it (JSON-RPC 2.0, 4.1)"
    );
    Failure::new(Reason::InvalidRequest, why)
}

pub(super) fn unreadable(error: &EnvelopeError) -> Failure {
    let reason = match error {
        EnvelopeError::Encoding(_) | EnvelopeError::Syntax(_) => Reason::ParseError,
        EnvelopeError::Shape(_) => Reason::InvalidRequest,
    };
    Failure::new(reason, error.to_string())
}

/// Counts a POST's requests and their outcomes.
pub(super) struct Tally {
    metrics: Arc<Metrics>,
    of_server: Arc<ServerMetrics>,
    arrived: Instant,
    /// Methods still without an outcome, in the order asked. In a batch the pairing of outcomes
    /// with methods is by order. Nearly always one.
    asked: SmallVec<[Method; 1]>,
    last_answer: Option<Instant>,
    /// When the last outcome was noted.
    settled: Option<Instant>,
    /// Which statuses failures have.
    statuses: FailureStatus,
    /// Writes requests and outcomes to the audit log, if there is one.
    trail: Option<Trail>,
    /// The HTTP request that they came with.
    request: Option<Arc<RequestSpan>>,
}

impl Tally {
    pub(super) fn new(
        metrics: &Arc<Metrics>,
        server: &ServerName,
        arrived: Instant,
        statuses: FailureStatus,
        trail: Option<Trail>,
    ) -> Self {
        Self {
            statuses,
            trail,
            request: RequestSpan::current(),
            of_server: metrics.server(server),
            metrics: Arc::clone(metrics),
            arrived,
            asked: SmallVec::new(),
            last_answer: None,
            settled: None,
        }
    }

    pub(super) fn asks(&mut self, envelope: &Envelope<'_>) {
        let method = Method::of(envelope.method.as_deref().unwrap_or_default());
        self.asked.push(method);
        if let Some(request) = &self.request {
            request.asks(method);
        }
        if let Some(trail) = &mut self.trail {
            trail.asks(envelope);
        }
    }

    /// The HTTP request that they came with.
    pub(super) fn request(&self) -> Option<Arc<RequestSpan>> {
        self.request.clone()
    }

    /// Of all servers, that one is asked.
    pub(super) fn is_of(&mut self, server: &ServerName) {
        self.of_server = self.metrics.server(server);
    }

    pub(super) fn answered(&mut self, is_error: bool) {
        self.settled(is_error, None);
    }

    fn settled(&mut self, is_error: bool, bytes: Option<usize>) {
        let outcome = if is_error {
            Outcome::Error
        } else {
            Outcome::Ok
        };
        self.outcome(outcome, None, bytes);
    }

    pub(super) fn failed(&mut self, reason: Reason) {
        self.metrics.rejected(reason);
        self.outcome(Outcome::Failed, Some(reason), None);
    }

    /// The response to a request with that id (raw JSON) that failed.
    pub(super) fn refuse(&mut self, failure: &Failure, id: &str) -> Response<Body> {
        self.answer(failure, Some(id))
    }

    fn answer(&mut self, failure: &Failure, id: Option<&str>) -> Response<Body> {
        self.failed(failure.reason);
        reply::answer(failure, id, self.statuses)
    }

    fn outcome(&mut self, outcome: Outcome, reason: Option<Reason>, bytes: Option<usize>) {
        let now = Instant::now();
        let took = now.saturating_duration_since(self.arrived);
        self.settled = Some(now);
        if let Some(trail) = &mut self.trail {
            let reason = reason.map(Reason::as_str);
            trail.outcome(outcome.as_str(), reason, bytes, took);
        }
        if !self.asked.is_empty() {
            let method = self.asked.remove(0);
            self.of_server.request(method, outcome, took);
        }
    }

    pub(super) fn note(&mut self, parcel: &Parcel) {
        match parcel {
            Parcel::Message(_) => {}
            Parcel::Answer {
                at,
                is_error,
                message,
            } => {
                self.last_answer = Some(*at);
                self.settled(*is_error, Some(message.len()));
            }
            Parcel::Failed { failure, .. } => self.failed(failure.reason),
        }
    }

    /// Notes the time the POST spent inside stdiopool: until its last request was sent, less the
    /// wait for a worker, and since the last answer came.
    pub(super) fn finish(&mut self, exchange: &Exchange) {
        if let Some(trail) = &mut self.trail {
            trail.was_of(exchange.worker());
        }
        let times = (exchange.sent_at(), self.last_answer, self.settled);
        if let (Some(sent), Some(answered), Some(settled)) = times {
            let before = sent.saturating_duration_since(self.arrived);
            let after = settled.saturating_duration_since(answered);
            self.metrics
                .overhead(before.saturating_sub(exchange.waited()) + after);
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        // Whoever asked is gone.
        while !self.asked.is_empty() {
            self.outcome(Outcome::Cancelled, None, None);
        }
    }
}
