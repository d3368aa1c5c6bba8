//! The transport of 2024-11-05, HTTP with SSE: one long GET that carries everything to the client,
//! and POSTs that carry everything from it (2024-11-05, basic/transports, "HTTP with SSE").
//!
//! The session lives as long as the GET. What a POST asks is answered on the stream of the GET, and is
//! under way, for the limits of its caller, until its answer is sent there or the stream ends.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream as streams;
use http::{Response, StatusCode, Uri};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::body::Body;
use super::client_config::{Configs, together};
use super::errors;
use super::frames::Frames;
use super::limits::Permit;
use super::post::{Tally, answered_here, initialized, session_id, unreadable};
use super::reply;
use super::router::Front;
use super::stream::{KEEP_ALIVE, QUIET_PERIOD, message_of};
use crate::bridge::ClientHello;
use crate::held::{self, Account};
use crate::ids::ServerName;
use crate::protocol::{Envelope, Failure, Kind, RawId, Reason};
use crate::session::{
    Exchange, Mailbox, Next, Parcel, Reader, Session, SessionId, Sessions, WhenFull,
    session_not_found,
};
use crate::telemetry::{RequestSpan, in_request};
use crate::tenancy::{ClientConfig, Principal};

/// Most answers that wait for a client which does not read, and requests of it under way.
const MAX_PENDING: usize = 256;

/// Both directions of one client.
#[derive(Debug)]
struct Channel {
    principal: Principal,
    server: ServerName,
    /// What the GET set for the server, for the whole session.
    config: Option<ClientConfig>,
    /// What is for the client, but for what belongs to no request: that is in its session's own.
    mailbox: Arc<Mailbox>,
    /// What its tenant holds.
    account: Account,
    session: Mutex<Option<Arc<Session>>>,
    tasks: Mutex<JoinSet<()>>,
    /// Of the requests whose answers are in the mailbox, in their order there; those that were over a limit have none.
    permits: Mutex<VecDeque<Option<Permit>>>,
}

impl Channel {
    /// Puts the last words on a request into the mailbox. It is under way until they are sent.
    fn settle(&self, permit: impl Into<Option<Permit>>, parcel: Parcel) {
        // Held over both, so that the orders are the same. Never the other way round.
        let mut permits = self.permits.lock();
        let is_last = !matches!(parcel, Parcel::Message(_));
        // The stream that tells it is another request's.
        let parcel = match parcel {
            Parcel::Failed { id, failure } => Parcel::Failed {
                id,
                failure: errors::of_current_request(failure),
            },
            parcel => parcel,
        };
        self.mailbox.pass_on(parcel);
        // Of what is no last word, whoever calls this has none.
        if !is_last {
            return;
        }
        permits.push_back(permit.into());
    }

    /// Tells of a request that is not served, in its answer.
    ///
    /// # Errors
    /// `failure` where its client does not read what it is told.
    fn refuse(
        &self,
        permit: Option<Permit>,
        id: RawId,
        failure: Failure,
    ) -> Result<Response<Body>, Failure> {
        if self.mailbox.len() >= MAX_PENDING {
            return Err(failure);
        }
        self.settle(permit, Parcel::Failed { id, failure });
        Ok(reply::empty(StatusCode::ACCEPTED))
    }
}

impl Channel {
    /// Waits until nothing that its client has asked is under way.
    ///
    /// # Cancel-Safety
    /// A dropped call loses nothing.
    async fn settled(&self) {
        while std::future::poll_fn(|cx| self.tasks.lock().poll_join_next(cx))
            .await
            .is_some()
        {}
    }
}

/// The clients of this transport.
#[derive(Debug, Default)]
pub struct Channels(Mutex<FxHashMap<SessionId, Arc<Channel>>>);

/// Ends a channel with its stream.
struct Open {
    id: SessionId,
    channel: Arc<Channel>,
    channels: Arc<Channels>,
    sessions: Sessions,
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
pub(super) fn open(
    front: &Front,
    principal: Principal,
    server: ServerName,
    config: Option<ClientConfig>,
    uri: &Uri,
) -> Result<Response<Body>, Failure> {
    let id = session_id()?;
    let account = front.sessions.ledger().account(&principal.tenant);
    let channel = Arc::new(Channel {
        principal,
        server,
        config,
        mailbox: Arc::new(Mailbox::of(WhenFull::DropOldest, &account)),
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
    let path = uri.path().strip_suffix("/sse").unwrap_or_default();
    let endpoint = front.addresses.path(&format!("{path}/messages"));
    let endpoint = format!(
        "event: endpoint\ndata: {endpoint}?session_id={}\n\n",
        id.as_str()
    );
    let open = Open {
        id,
        channel,
        channels: Arc::clone(&front.channels),
        sessions: front.sessions.clone(),
    };
    Ok(reply::event_stream(telling(open, endpoint.as_bytes())))
}

/// The own stream of a channel's session.
enum Own {
    /// There is no session yet.
    NotYet,
    /// It is read.
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
    /// Of the request that the last piece ended.
    sent: Option<Permit>,
}

fn telling(open: Open, first: &[u8]) -> Body {
    let reader = open.channel.mailbox.read(None);
    let mut frames = Frames::new(&open.channel.account);
    frames.put(first);
    let stream = ChannelStream {
        open,
        reader,
        own: Own::NotYet,
        frames,
        sent: None,
    };
    Body::from_stream(streams::unfold(stream, |mut stream| async move {
        let piece = stream.next_piece().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), stream))
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
        let (parcel, is_own) = loop {
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
                parcel = self.reader.next() => break (parcel?, false),
                parcel = unasked => match (parcel, &self.own) {
                    (Some(parcel), _) => break (parcel, true),
                    // What the last of them has said may have come since.
                    (None, Own::Over) => break (self.reader.try_next()?, false),
                    (None, _) => self.own = Own::Over,
                },
                () = tokio::time::sleep(QUIET_PERIOD) => {
                    return Some(Bytes::from_static(KEEP_ALIVE));
                }
            }
        };
        if !is_own && !matches!(parcel, Parcel::Message(_)) {
            self.sent = channel.permits.lock().pop_front().flatten();
        }
        self.frames.put(b"event: message\n");
        self.frames.put_event(&message_of(parcel));
        self.frames.next_piece()
    }
}

/// The channel that an address of `…/messages` names, if it is its caller's.
///
/// # Errors
/// When there is none.
fn named_by(
    front: &Front,
    principal: &Principal,
    server: &ServerName,
    uri: &Uri,
) -> Result<Arc<Channel>, Failure> {
    let id = uri.query().into_iter().flat_map(|query| query.split('&'));
    let id = id
        .filter_map(|pair| pair.strip_prefix("session_id="))
        .next();
    let channel = id.and_then(|id| {
        let channels = front.channels.0.lock();
        let channel = channels.get(id)?;
        let is_theirs = channel.principal.is_same_as(principal) && channel.server == *server;
        is_theirs.then(|| Arc::clone(channel))
    });
    channel.ok_or_else(session_not_found)
}

/// What whoever sent a body is told that was not taken: on the stream by the id of its request, where that is known.
///
/// # Errors
/// Why it was not taken, where there is no answer that could say so.
pub(super) fn answered_unread(
    front: &Front,
    principal: &Principal,
    server: &ServerName,
    (failure, id): (Failure, Option<String>),
    uri: &Uri,
) -> Result<Response<Body>, Failure> {
    let id = id.ok_or_else(|| failure.clone())?;
    let Ok(channel) = named_by(front, principal, server, uri) else {
        return Err(failure);
    };
    refused(
        front,
        (principal, server),
        &channel,
        id.as_str().into(),
        failure,
    )
}

/// Tells of a request that was turned away, in its answer; counts it and writes it down.
///
/// # Errors
/// `failure` where its client does not read what it is told: then whoever answers with a status does both.
fn refused(
    front: &Front,
    (principal, server): (&Principal, &ServerName),
    channel: &Channel,
    id: RawId,
    failure: Failure,
) -> Result<Response<Body>, Failure> {
    let answered = channel.refuse(None, id, failure.clone())?;
    front.refused(principal, server, &failure);
    front.sessions.metrics().rejected(failure.reason);
    Ok(answered)
}

/// POST: takes one message in; what it asks is answered on the stream, also that it is over a limit. What needs no answer is
/// served nevertheless, as with the newer transport.
pub(super) fn take_in(
    front: &Front,
    principal: &Principal,
    server: &ServerName,
    (config, body): (Result<Option<ClientConfig>, Failure>, Bytes),
    uri: &Uri,
    admitted: Result<Permit, Failure>,
) -> Result<Response<Body>, Failure> {
    let arrived = Instant::now();
    let channel = named_by(front, principal, server, uri)?;
    let configs = Configs {
        front,
        principal,
        server,
    };
    let read = {
        let envelope = Envelope::parse(&body).map_err(|error| unreadable(&error))?;
        let is_request = envelope.kind() == Kind::Request;
        if is_request && let Err(failure) = admitted {
            let id = envelope.id.map_or("null", |id| id.get()).into();
            return refused(front, (principal, server), &channel, id, failure);
        }
        let under = match config {
            // What is no request sets nothing.
            Err(_) if !is_request => Ok(None),
            under => under,
        };
        let read = under.and_then(|under| {
            let (own, rest) = configs.of_message(&envelope)?;
            Ok((together(under, own)?, rest))
        });
        match read {
            Err(failure) if is_request => {
                let mut tally = front.tally(principal, server, arrived);
                tally.asks(&envelope);
                tally.failed(failure.reason);
                let id = envelope.id.map_or("null", |id| id.get()).into();
                return channel.refuse(admitted.ok(), id, failure);
            }
            read => read?,
        }
    };
    let (config, body) = (read.0, read.1.unwrap_or(body));
    let envelope = Envelope::parse(&body).map_err(|error| unreadable(&error))?;
    let session = channel.session.lock().clone();
    if let Some(session) = &session {
        RequestSpan::with_current(|span| span.is_in(session.id.shared()));
    }
    match (envelope.kind(), session) {
        (Kind::Request, session) => {
            let mut tasks = channel.tasks.lock();
            while tasks.try_join_next().is_some() {}
            if tasks.len() >= MAX_PENDING || channel.mailbox.len() >= MAX_PENDING {
                let why = format!(
                    "{MAX_PENDING} requests of this client are under way, or it does not read its answers"
                );
                let failure = Failure::new(Reason::TenantLimit, why);
                return Err(failure.retry_after(std::time::Duration::from_secs(1)));
            }
            let mut tally = front.tally(principal, server, arrived);
            tally.asks(&envelope);
            let sessions = front.sessions.clone();
            let of_task = Arc::clone(&channel);
            let message = (body, config, principal.clone());
            let request = tally.request();
            let counted = (tally, admitted?);
            let serving = serve(sessions, of_task, session, message, counted);
            tasks.spawn(in_request(request, serving));
        }
        (Kind::Notification, Some(session)) => {
            front.sessions.notification(&session, &envelope);
        }
        (Kind::Response, Some(session)) => {
            front.sessions.answer(&session, &envelope);
        }
        (Kind::Notification | Kind::Response, None) => {
            let why = "`initialize` comes first";
            return Err(Failure::new(Reason::SessionRequired, why));
        }
    }
    Ok(reply::empty(StatusCode::ACCEPTED))
}

/// Serves a request, and puts what comes of it into the client's mailbox.
async fn serve(
    sessions: Sessions,
    channel: Arc<Channel>,
    session: Option<Arc<Session>>,
    (message, config, principal): (Bytes, Option<ClientConfig>, Principal),
    (mut tally, permit): (Tally, Permit),
) {
    let Ok(envelope) = Envelope::parse(&message) else {
        return;
    };
    let id: RawId = envelope.id.map_or("null", |id| id.get()).into();
    let answered = |message| match channel.account.hold(held::Kind::Answer, message) {
        Ok(message) => Parcel::Answer {
            message,
            at: Instant::now(),
            is_error: false,
        },
        Err(full) => Parcel::Failed {
            id: id.clone(),
            failure: full.into(),
        },
    };
    if envelope.method.as_deref() == Some("initialize") {
        match open_session(&sessions, &channel, config, &envelope).await {
            Ok(answer) => {
                tally.answered(false);
                channel.settle(permit, answered(answer));
            }
            Err(failure) => {
                tally.failed(failure.reason);
                channel.settle(permit, Parcel::Failed { id, failure });
            }
        }
        return;
    }
    if let Some(answer) = answered_here(&envelope) {
        tally.answered(false);
        channel.settle(permit, answered(answer));
        return;
    }
    let Some(session) = session else {
        let failure = Failure::new(Reason::SessionRequired, "`initialize` comes first");
        tally.failed(failure.reason);
        channel.settle(permit, Parcel::Failed { id, failure });
        return;
    };
    let _in_use = session.in_use();
    let mut exchange = Exchange::new()
        .with_config(session.refined(config))
        .asked_by(&principal, &session);
    let sent = sessions.request_once(&session, &message, &envelope, &mut exchange);
    if let Err(failure) = sent.await {
        tally.failed(failure.reason);
        channel.settle(permit, Parcel::Failed { id, failure });
        return;
    }
    // It ends with its one answer, or without any if its client has cancelled it.
    loop {
        match exchange.next().await {
            Next::Parcel(Parcel::Message(message)) => {
                channel.mailbox.pass_on(Parcel::Message(message));
            }
            Next::Parcel(last) => {
                tally.note(&last);
                channel.settle(permit, last);
                break;
            }
            Next::Done => break,
            Next::TimedOut { limit, .. } => {
                let failure = limit.failure();
                tally.failed(failure.reason);
                channel.settle(permit, Parcel::Failed { id, failure });
                break;
            }
        }
    }
    tally.finish(&exchange);
}

async fn open_session(
    sessions: &Sessions,
    channel: &Channel,
    config: Option<ClientConfig>,
    envelope: &Envelope<'_>,
) -> Result<Bytes, Failure> {
    let hello = ClientHello::parse(envelope.params)?;
    let (principal, server) = (channel.principal.clone(), channel.server.clone());
    let config = together(channel.config.clone(), config)?.map(Arc::new);
    let opened = sessions.initialize_with(principal, server, hello, config);
    let opened = opened.await?;
    let answer = initialized(envelope, &opened);
    let before = channel.session.lock().replace(opened.session);
    if let Some(before) = before {
        sessions.end(&before);
    }
    Ok(answer)
}
