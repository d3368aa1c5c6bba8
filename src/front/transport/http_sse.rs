//! The transport of 2024-11-05, HTTP with SSE: one long GET that carries everything to the client,
//! and POSTs that carry everything from it (2024-11-05, basic/transports, "HTTP with SSE").
//!
//! The session lives as long as the GET. What a POST asks is answered on the stream of the GET, and is
//! under way, for the limits of its caller, until its answer is sent there or the stream ends.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::{Response, StatusCode};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::channels::{Channel, Channels, MAX_PENDING};
use super::local::{answered_here, initialized, session_id};
use super::wait_progress::WaitProgress;
use crate::bridge::ClientInfo;
use crate::front::pipeline::body::Unread;
use crate::front::pipeline::client_config::together;
use crate::front::pipeline::context::RequestContext;
use crate::front::pipeline::inbound::Inbound;
use crate::front::pipeline::limits::Permit;
use crate::front::pipeline::parse::unreadable;
use crate::front::response::body::Body;
use crate::front::response::reply;
use crate::front::response::sse::{
    FIRST_WORDS, Frames, KEEP_ALIVE, QUIET_CALL, QUIET_PERIOD, message_of,
};
use crate::gateway::{Gateway, Next, ResponseStream, SessionTable};
use crate::held;
use crate::protocol::{Envelope, Failure, Kind, RawId, Reason};
use crate::session::{Session, SessionId, session_not_found};
use crate::telemetry::{RequestSpan, in_request};
use crate::tenancy::{ClientConfig, Principal};
use crate::upstream::{OutboundMessage, Outbox, Reader, WhenFull};

/// Ends a channel with its stream.
struct Open {
    id: SessionId,
    channel: Arc<Channel>,
    channels: Arc<Channels>,
    sessions: Arc<SessionTable>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.channels.0.lock().remove(&self.id);
        self.channel.tasks.lock().abort_all();
        self.channel.permits.lock().clear();
        if let Some(session) = self.channel.session.lock().take() {
            self.sessions.end(&session);
        }
    }
}

/// GET: opens the stream, whose first event says where to POST.
///
/// # Errors
/// Without randomness for a session id.
pub(in crate::front) fn open(inbound: &Inbound<'_>) -> Result<Response<Body>, Failure> {
    let front = inbound.front;
    let id = session_id()?;
    let account = inbound.account.clone();
    let channel = Arc::new(Channel {
        principal: inbound.principal().clone(),
        server: inbound.server.clone(),
        config: inbound.config().cloned(),
        outbox: Arc::new(Outbox::of(WhenFull::DropOldest, &account)),
        account,
        session: Mutex::default(),
        tasks: Mutex::default(),
        permits: Mutex::default(),
    });
    front
        .channels
        .0
        .lock()
        .insert(id.clone(), Arc::clone(&channel));
    let path = inbound.head.parts.uri.path();
    let path = path.strip_suffix("/sse").unwrap_or_default();
    let endpoint = front.addresses.path(&format!("{path}/messages"));
    let endpoint = format!("{endpoint}?session_id={}", id.as_str());
    let open = Open {
        id,
        channel,
        channels: Arc::clone(&front.channels),
        sessions: Arc::clone(&front.sessions),
    };
    Ok(reply::event_stream(channel_stream(open, &endpoint.into())))
}

/// The own stream of a channel's session.
enum Own {
    /// There is no session yet.
    NotYet,
    /// The session's own stream is read.
    Read(Reader),
    /// The session is over: what is under way in it is told still.
    Over,
}

/// What a channel's client is told.
struct ChannelStream {
    open: Open,
    reader: Reader,
    own: Own,
    frames: Frames,
    /// The permit of the request that the last piece ended.
    sent: Option<Permit>,
}

fn channel_stream(open: Open, endpoint: &Bytes) -> Body {
    let reader = open.channel.outbox.read(None);
    let mut frames = Frames::new(&open.channel.account);
    frames.put_typed("endpoint", endpoint);
    let state = ChannelStream {
        open,
        reader,
        own: Own::NotYet,
        frames,
        sent: None,
    };
    Body::from_stream(stream::unfold(state, |mut stream| async move {
        let piece = stream.next_piece().await?;
        Some((Ok::<_, Infallible>(piece), stream))
    }))
}

impl ChannelStream {
    async fn next_piece(&mut self) -> Option<Bytes> {
        if let Some(piece) = self.frames.next_piece() {
            return Some(piece);
        }
        // Whoever asks for more has sent what it had.
        drop(self.sent.take());
        let channel = Arc::clone(&self.open.channel);
        let (outbound, is_own) = loop {
            if matches!(self.own, Own::NotYet)
                && let Some(session) = channel.session.lock().clone()
            {
                self.own = Own::Read(session.outbox.read(None));
            }
            let unasked = async {
                match &self.own {
                    Own::NotYet => std::future::pending().await,
                    Own::Read(reader) => reader.next().await,
                    Own::Over => {
                        channel.settled().await;
                        None
                    }
                }
            };
            tokio::select! {
                biased;
                outbound = self.reader.next() => break (outbound?, false),
                outbound = unasked => match (outbound, &self.own) {
                    (Some(outbound), _) => break (outbound, true),
                    // What the last of them has said may have come since.
                    (None, Own::Over) => break (self.reader.try_next()?, false),
                    (None, _) => self.own = Own::Over,
                },
                () = tokio::time::sleep(QUIET_PERIOD) => {
                    return Some(Bytes::from_static(KEEP_ALIVE));
                }
            }
        };
        if !is_own && !matches!(outbound, OutboundMessage::Message(_)) {
            self.sent = channel.permits.lock().pop_front().flatten();
        }
        self.frames.put_typed("message", &message_of(outbound));
        self.frames.next_piece()
    }
}

/// The channel that an address of `…/messages` names, if it is its caller's.
///
/// # Errors
/// When there is none.
fn named_by(inbound: &Inbound<'_>) -> Result<Arc<Channel>, Failure> {
    let query = inbound.head.parts.uri.query();
    let mut pairs = query.into_iter().flat_map(|query| query.split('&'));
    let id = pairs.find_map(|pair| pair.strip_prefix("session_id="));
    let channel = id.and_then(|id| {
        let channels = inbound.front.channels.0.lock();
        let channel = channels.get(id)?;
        let is_theirs =
            channel.principal.is_same_as(inbound.principal()) && channel.server == inbound.server;
        is_theirs.then(|| Arc::clone(channel))
    });
    channel.ok_or_else(session_not_found)
}

/// What whoever sent a body is told that was not taken: on the stream by the id of its request, where that is known.
///
/// # Errors
/// Why it was not taken, where there is no answer that could say so.
pub(in crate::front) fn answer_unread(
    inbound: &Inbound<'_>,
    unread: Unread,
) -> Result<Response<Body>, Failure> {
    let Unread { failure, id } = unread;
    let id = id.ok_or_else(|| failure.clone())?;
    let Ok(channel) = named_by(inbound) else {
        return Err(failure);
    };
    refused(inbound, &channel, id.as_str().into(), failure)
}

/// Tells of a request that was turned away, in its answer; counts it and writes it down.
///
/// # Errors
/// `failure` where its client does not read what it is told: then whoever answers with a status does both.
fn refused(
    inbound: &Inbound<'_>,
    channel: &Channel,
    id: RawId,
    failure: Failure,
) -> Result<Response<Body>, Failure> {
    let front = inbound.front;
    let answered = channel.refuse(None, id, failure.clone())?;
    front.refused(inbound.principal(), &inbound.server, &failure);
    front.gateway.metrics().rejected(failure.reason);
    Ok(answered)
}

/// POST: takes one message in; what it asks is answered on the stream, also that it is over a limit, which is why it has no
/// permit. What needs no answer is served nevertheless, as over Streamable HTTP.
///
/// # Errors
/// Why it is not taken, where there is no answer on the stream that could say so.
pub(in crate::front) fn take_in(
    inbound: &mut Inbound<'_>,
    admitted: Result<Permit, Failure>,
) -> Result<Response<Body>, Failure> {
    let (front, principal, arrived) = (inbound.front, inbound.principal(), Instant::now());
    let channel = named_by(inbound)?;
    let (config, rest) = {
        let envelope = Envelope::parse(&inbound.body).map_err(|error| unreadable(&error))?;
        let is_request = envelope.kind() == Kind::Request;
        let id = || envelope.id.map_or("null", |id| id.get()).into();
        if is_request && let Err(failure) = admitted {
            return refused(inbound, &channel, id(), failure);
        }
        match inbound.configured(&envelope) {
            Err(failure) if is_request => {
                let mut context = front.context(principal, &inbound.server, arrived);
                context.asks(&envelope);
                context.failed(failure.reason);
                return channel.refuse(admitted.ok(), id(), failure);
            }
            read => read?,
        }
    };
    let body = rest.unwrap_or_else(|| std::mem::take(&mut inbound.body));
    let envelope = Envelope::parse(&body).map_err(|error| unreadable(&error))?;
    let session = channel.session.lock().clone();
    if let Some(session) = &session {
        RequestSpan::with_current(|span| span.is_in(session.id.shared()));
    }
    match (envelope.kind(), session) {
        (Kind::Request, session) => {
            let mut tasks = channel.tasks.lock();
            while tasks.try_join_next().is_some() {}
            if tasks.len() >= MAX_PENDING || channel.outbox.len() >= MAX_PENDING {
                let why = format!(
                    "{MAX_PENDING} requests of this client are under way, or it does not read its answers"
                );
                let failure = Failure::new(Reason::TenantLimit, why);
                return Err(failure.retry_after(std::time::Duration::from_secs(1)));
            }
            let mut context = front.context(principal, &inbound.server, arrived);
            context.came_in(body.len());
            context.asks(&envelope);
            let request = context.request();
            let asked = Asked {
                gateway: front.gateway.clone(),
                channel: Arc::clone(&channel),
                session,
                message: body,
                config,
                principal: principal.clone(),
            };
            let permit = admitted?;
            tasks.spawn(in_request(request, asked.serve(context, permit)));
        }
        (Kind::Notification, Some(session)) => {
            front.gateway.notification(&session, &envelope);
        }
        (Kind::Response, Some(session)) => {
            front.gateway.answer(&session, &envelope)?;
        }
        (Kind::Notification | Kind::Response, None) => {
            let why = "`initialize` comes first";
            return Err(Failure::new(Reason::SessionRequired, why));
        }
    }
    Ok(reply::empty(StatusCode::ACCEPTED))
}

/// A request of a client, whose answer goes into its outbox.
struct Asked {
    gateway: Gateway,
    channel: Arc<Channel>,
    session: Option<Arc<Session>>,
    message: Bytes,
    config: Option<ClientConfig>,
    principal: Principal,
}

impl Asked {
    /// Serves the request, and puts what comes of it into the client's outbox.
    async fn serve(self, mut context: RequestContext, permit: Permit) {
        let Self {
            gateway,
            channel,
            session,
            message,
            config,
            principal,
        } = self;
        let Ok(envelope) = Envelope::parse(&message) else {
            return;
        };
        let id: RawId = envelope.id.map_or("null", |id| id.get()).into();
        if envelope.method.as_deref() == Some("initialize") {
            let opened = open_session(&gateway, &channel, config, &envelope).await;
            return settle(&channel, &mut context, permit, id, opened);
        }
        if let Some(answer) = answered_here(&envelope) {
            return settle(&channel, &mut context, permit, id, Ok(answer));
        }
        let Some(session) = session else {
            let failure = Failure::new(Reason::SessionRequired, "`initialize` comes first");
            return settle(&channel, &mut context, permit, id, Err(failure));
        };
        let _in_use = session.in_use();
        let mut response_stream = ResponseStream::new()
            .with_config(session.refined(config))
            .asked_by(&principal, &session);
        let member = match session.is_with_all() {
            true => {
                let view = gateway.aggregate_view();
                let found = view.addressed(&principal, &message, &envelope);
                found.map(|(server, _)| server)
            }
            false => None,
        };
        let sent = gateway.begin_request(&session, &message, &envelope, &mut response_stream);
        if let Err(failure) = sent {
            return settle(&channel, &mut context, permit, id, Err(failure));
        }
        let news =
            WaitProgress::of_request(&gateway, &session, member, &envelope, &response_stream);
        match relay(&channel, &mut response_stream, &news).await {
            Some(Last::Said(last)) => {
                context.note(&last);
                channel.settle(permit, last);
            }
            Some(Last::TimedOut(failure)) => {
                settle(&channel, &mut context, permit, id, Err(failure));
            }
            None => {}
        }
        context.finish(&response_stream);
    }
}

/// Answers a request that no worker has.
fn settle(
    channel: &Channel,
    context: &mut RequestContext,
    permit: Permit,
    id: RawId,
    outcome: Result<Bytes, Failure>,
) {
    let outbound = match outcome {
        Ok(message) => {
            context.answered(false);
            match channel.account.hold(held::Kind::Answer, message) {
                Ok(message) => OutboundMessage::Answer {
                    message,
                    at: Instant::now(),
                    is_error: false,
                },
                Err(full) => OutboundMessage::Failed {
                    id,
                    failure: full.into(),
                },
            }
        }
        Err(failure) => {
            context.failed(failure.reason);
            OutboundMessage::Failed { id, failure }
        }
    };
    channel.settle(permit, outbound);
}

/// The end of a request.
enum Last {
    /// The last word of the request's worker, or why there is none.
    Said(OutboundMessage),
    TimedOut(Failure),
}

/// Passes on what is said of a request, and what it waits for, until its end: that is its one answer, or `None` if its client
/// has cancelled it.
async fn relay(
    channel: &Channel,
    response_stream: &mut ResponseStream,
    news: &WaitProgress,
) -> Option<Last> {
    let mut quiet = FIRST_WORDS;
    loop {
        let next = match response_stream.is_being_sent() {
            false => response_stream.next().await,
            true => match response_stream.next_within(quiet).await {
                Some(next) => next,
                None => {
                    quiet = QUIET_CALL;
                    let news = news.next().filter(|_| response_stream.is_being_sent());
                    if let Some(news) = news {
                        channel.outbox.pass_on(OutboundMessage::Message(news));
                    }
                    continue;
                }
            },
        };
        match next {
            Next::OutboundMessage(OutboundMessage::Message(message)) => {
                channel.outbox.pass_on(OutboundMessage::Message(message));
            }
            Next::OutboundMessage(last) => return Some(Last::Said(last)),
            Next::Done => return None,
            Next::TimedOut { limit, .. } => return Some(Last::TimedOut(limit.failure())),
        }
    }
}

async fn open_session(
    gateway: &Gateway,
    channel: &Channel,
    config: Option<ClientConfig>,
    envelope: &Envelope<'_>,
) -> Result<Bytes, Failure> {
    let client = ClientInfo::parse(envelope.params)?;
    let (principal, server) = (channel.principal.clone(), channel.server.clone());
    let config = together(channel.config.clone(), config)?.map(Arc::new);
    let id = session_id()?;
    let news = WaitProgress::of_opening(gateway, &id, envelope);
    let opening = gateway.initialize_as(id, principal, server, client, config);
    let mut opening = std::pin::pin!(opening);
    let mut patience = FIRST_WORDS;
    let opened = loop {
        match tokio::time::timeout(patience, &mut opening).await {
            Ok(opened) => break opened?,
            Err(_elapsed) => patience = QUIET_CALL,
        }
        if let Some(progress) = news.next() {
            channel.outbox.pass_on(OutboundMessage::Message(progress));
        }
    };
    let answer = initialized(envelope, &opened);
    let before = channel.session.lock().replace(opened.session);
    if let Some(before) = before {
        gateway.sessions().end(&before);
    }
    Ok(answer)
}
