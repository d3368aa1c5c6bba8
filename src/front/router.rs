//! Routes, and what every request to an MCP endpoint must pass first.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::routing::{any, get};
use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::addresses::Addresses;
use super::body::Body;
use super::client_config::Configs;
use super::config_handles;
use super::entrance::Entrance;
use super::guard::Guard;
use super::holding::{BodyLimits, Drained, Pacing, draining};
use super::http_sse::{self, Channels};
use super::incoming::{Unread, read_body};
use super::late::Late;
use super::limits::{Counted, RateLimits};
use super::listener::Peer;
use super::oauth;
use super::post::{Post, Tally, find_session};
use super::reply::{self, VERSION_HEADER};
use super::resume::{Found, Parked};
use super::trail::{self, Trail};
use super::{stream, well_known};
use crate::fair::LARGE;
use crate::ids::ServerName;
use crate::protocol::{Failure, FailureStatus, Reason, Revision};
use crate::session::{EventId, Session, Sessions};
use crate::telemetry::RequestSpan;
use crate::telemetry::audit::Audit;
use crate::tenancy::oauth::Grants;
use crate::tenancy::{Handles, Principal};

/// How much of a body that is too large is taken in before it is refused, in bytes.
pub(super) const MAX_DISCARDED: usize = 64 << 20;
/// How long that may take.
pub(super) const DISCARD_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// The same of a request that is refused before its body is read: whose it is may not be known.
const MAX_UNREAD: usize = 64 << 10;
/// How long that may take.
pub(super) const UNREAD_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);

/// How long a stream may take to be handed over by a connection that still holds it before the one that its client is
/// back on says that it waits.
const HANDED_OVER_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);

/// What the front door needs.
#[derive(Debug)]
pub struct Front {
    /// The sessions behind it.
    pub sessions: Sessions,
    /// Who may speak to it.
    pub guard: Guard,
    /// Largest body, in bytes.
    pub max_body: usize,
    /// The audit log, if there is one.
    pub audit: Option<Arc<Audit>>,
    /// How much tenants and users have asked.
    pub limits: Arc<RateLimits>,
    /// What clients know it as.
    pub addresses: Addresses,
    /// The server at `/mcp`, where one command is hosted without a file.
    pub only_server: Option<ServerName>,
    /// Streams that broke, and wait for their clients.
    pub parked: Arc<Parked>,
    /// Clients of the transport of 2024-11-05.
    pub channels: Arc<Channels>,
    /// Configs that callers have stored.
    pub handles: Arc<Handles>,
    /// What tenants have authorised upstream.
    pub grants: Arc<Grants>,
    /// Shutting down: no new work.
    pub draining: CancellationToken,
}

impl Front {
    /// Lets a request with those headers in, or says why not.
    ///
    /// # Errors
    /// As [`Guard::check`].
    pub(super) fn guarded(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let setup = self.sessions.setup();
        self.guard
            .check(headers, &setup.config.http.allowed_origins)
    }

    /// Bytes of bodies a second that may come for the caller's tenant, at this moment.
    pub(super) fn body_rate(&self, principal: &Principal) -> NonZeroU64 {
        self.sessions.setup().config.body_rate(&principal.tenant)
    }

    /// Counts the requests of a POST, and writes them down for the audit log.
    pub(super) fn tally(
        &self,
        principal: &Principal,
        server: &ServerName,
        arrived: Instant,
    ) -> Tally {
        let audit = self.audit.as_ref();
        let trail = audit.map(|audit| Trail::new(audit, &self.sessions, principal, server));
        let statuses = self.statuses();
        Tally::new(self.sessions.metrics(), server, arrived, statuses, trail)
    }

    /// Which statuses the answers to requests have that failed.
    pub(super) fn statuses(&self) -> FailureStatus {
        self.sessions.setup().config.http.failure_status
    }

    /// Writes down that a known caller was refused.
    pub(super) fn refused(&self, principal: &Principal, server: &ServerName, failure: &Failure) {
        if let Some(audit) = &self.audit {
            let of = (Some(principal), Some(server));
            trail::refused(audit, of, failure, None, None);
        }
    }
}

impl Front {
    /// What whoever sent a body is answered that was not taken: by the id of its request, where that is known, as a status
    /// ends the whole session of some clients (docs/clients.md).
    ///
    /// # Errors
    /// Why it was not taken, where nobody waits for an answer by an id.
    fn answered_unread(
        &self,
        principal: &Principal,
        server: &ServerName,
        Unread { failure, id }: Unread,
    ) -> Result<Response<Body>, Failure> {
        let id = id.ok_or_else(|| failure.clone())?;
        self.refused(principal, server, &failure);
        self.sessions.metrics().rejected(failure.reason);
        Ok(reply::answer(&failure, Some(&id), self.statuses()))
    }
}

/// The endpoints of the front door.
pub(super) fn router(front: Arc<Front>) -> Router {
    let mut router = Router::new()
        .route("/{server}/mcp", any(of_server))
        .route("/t/{tenant}/{server}/mcp", any(of_tenant))
        .route("/{server}/sse", any(of_server))
        .route("/{server}/messages", any(of_server))
        .route("/t/{tenant}/{server}/sse", any(of_tenant))
        .route("/t/{tenant}/{server}/messages", any(of_tenant))
        .route(well_known::PATH, get(metadata))
        .route(&format!("{}/{{*path}}", well_known::PATH), get(metadata))
        .route("/v1/config", any(config_handles::all))
        .route("/v1/config/{handle}", any(config_handles::one))
        .route("/t/{tenant}/v1/config", any(config_handles::all_of_tenant))
        .route("/t/{tenant}/v1/config/{handle}", any(config_handles::one_of_tenant))
        .route("/v1/oauth/{server}", any(oauth::of_server))
        .route("/t/{tenant}/v1/oauth/{server}", any(oauth::of_tenant))
        .route("/oauth/authorize/{state}", get(oauth::authorize))
        .route("/oauth/callback", get(oauth::callback))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .fallback(|| async {
            let why =
                "no such path (MCP endpoints are `/{server}/mcp`, `/mcp` for all servers as one, and the same below `/t/{tenant}`; `…/sse` for clients of 2024-11-05)";
            reply::failure(&Failure::new(Reason::NotFound, why))
        });
    for name in ["mcp", "sse", "messages"] {
        router = if front.only_server.is_some() {
            router.route(&format!("/{name}"), any(of_only_server))
        } else {
            router
                .route(&format!("/{name}"), any(of_all))
                .route(&format!("/t/{{tenant}}/{name}"), any(of_all_for_tenant))
        };
    }
    router.with_state(front)
}

async fn readyz(State(front): State<Arc<Front>>) -> (StatusCode, &'static str) {
    if front.draining.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

async fn metadata(State(front): State<Arc<Front>>, request: Request) -> Response<Body> {
    let path = request.uri().path();
    let of = path.strip_prefix(well_known::PATH).unwrap_or_default();
    well_known::metadata(&front, request.headers().get(HOST), of)
}

async fn of_server(
    State(front): State<Arc<Front>>,
    Path(server): Path<String>,
    request: Request,
) -> Response<Body> {
    routed(&front, None, Offer::Server(&server), request).await
}

async fn of_tenant(
    State(front): State<Arc<Front>>,
    Path((tenant, server)): Path<(String, String)>,
    request: Request,
) -> Response<Body> {
    routed(&front, Some(&tenant), Offer::Server(&server), request).await
}

async fn of_all(State(front): State<Arc<Front>>, request: Request) -> Response<Body> {
    routed(&front, None, Offer::All, request).await
}

async fn of_all_for_tenant(
    State(front): State<Arc<Front>>,
    Path(tenant): Path<String>,
    request: Request,
) -> Response<Body> {
    routed(&front, Some(&tenant), Offer::All, request).await
}

async fn of_only_server(State(front): State<Arc<Front>>, request: Request) -> Response<Body> {
    let server = front.only_server.clone();
    let server = server.as_ref().map_or("", ServerName::as_str);
    routed(&front, None, Offer::Server(server), request).await
}

/// What an endpoint offers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Offer<'a> {
    /// One server.
    Server(&'a str),
    /// All of them, as one.
    All,
}

async fn routed(
    front: &Front,
    tenant: Option<&str>,
    offer: Offer<'_>,
    request: Request,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let peer = parts.extensions.get::<Peer>();
    let late = parts.extensions.get::<Late>().cloned().unwrap_or_default();
    endpoint(front, tenant, offer, (&parts, body), (peer, &late)).await
}

/// One MCP endpoint.
pub(super) async fn endpoint<B>(
    front: &Front,
    tenant: Option<&str>,
    offer: Offer<'_>,
    (parts, mut body): (&Parts, B),
    (peer, late): (Option<&Peer>, &Late),
) -> Response<Body>
where
    B: HttpBody<Data = Bytes, Error: fmt::Display> + Send + Unpin,
{
    let arrived = Instant::now();
    let entrance = Entrance::of(parts, peer);
    let place = (entrance, tenant, offer);
    let mut who = None;
    let outcome = serve(front, place, (parts, &mut body), (arrived, late), &mut who).await;
    if outcome.is_err() {
        take_unread(parts.version, body).await;
    }
    let closes = matches!(&outcome, Err(failure) if failure.reason == Reason::Draining);
    let mut answer = entrance.answer(front, who.as_ref(), outcome);
    if closes {
        close_after(&mut answer, parts.version);
    }
    answer
}

/// Has the connection end after that answer; over HTTP/2 it says so itself.
fn close_after(answer: &mut Response<Body>, version: Version) {
    if version != Version::HTTP_2 {
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(CONNECTION, close);
    }
}

async fn serve<B>(
    front: &Front,
    (entrance, tenant, offer): (Entrance<'_>, Option<&str>, Offer<'_>),
    (parts, body): (&Parts, B),
    (arrived, late): (Instant, &Late),
    who: &mut Option<Principal>,
) -> Result<Response<Body>, Failure>
where
    B: HttpBody<Data = Bytes, Error: fmt::Display> + Send + Unpin,
{
    let headers = &parts.headers;
    let (setup, principal) = entrance.admitted(front, tenant).await?;
    let principal: &Principal = who.insert(principal);
    let server = match offer {
        Offer::All => ServerName::all(),
        Offer::Server(name) => setup.server_for(principal, name)?,
    };
    RequestSpan::with_current(|span| span.is_for(&server));
    let path = parts.uri.path();
    let configs = Configs {
        front,
        principal,
        server: &server,
    };
    let config = configs.of_request(&parts.uri, headers);
    let rate = || front.body_rate(principal);
    // Of a message over its caller's limits so much is read that its answer can say so.
    let limits = |over: Option<&Failure>| {
        let max = over.map(|failure| over_limit(front, headers, failure));
        Ok::<_, Failure>(BodyLimits {
            max: max.transpose()?.unwrap_or(front.max_body),
            rate: &rate,
            connection: entrance.connection(),
            drain: &front.draining,
        })
    };
    if path.ends_with("/sse") {
        let config = config?;
        if parts.method != Method::GET {
            return Ok(reply::method_not_allowed("GET"));
        }
        if front.draining.is_cancelled() {
            return Err(draining());
        }
        let permit = front
            .limits
            .admit(&setup.config, principal, Counted::Stream)?;
        let opened = http_sse::open(front, principal.clone(), server, config, &parts.uri);
        return opened.map(|stream| permit.kept_by(stream));
    }
    if path.ends_with("/messages") {
        if parts.method != Method::POST {
            return Ok(reply::method_not_allowed("POST"));
        }
        check_content_type(headers)?;
        let admitted = front
            .limits
            .admit(&setup.config, principal, Counted::Request);
        let account = front.sessions.ledger().account(&principal.tenant);
        let limits = limits(admitted.as_ref().err())?;
        let uri = &parts.uri;
        let body = match read_body(headers, body, limits, &account).await {
            Ok(body) => body,
            Err(unread) => {
                let unread = (unread.failure, unread.id);
                return http_sse::answered_unread(front, principal, &server, unread, uri);
            }
        };
        // What is wrong with it is told where requests are answered.
        let message = (config, body.bytes);
        return http_sse::take_in(front, principal, &server, message, uri, admitted);
    }
    if parts.method != Method::POST {
        check_version(headers, || {
            let session = find_session(front, headers, principal, &server).ok()?;
            Some(session.revision())
        })?;
    }
    match parts.method {
        Method::POST => {
            check_accepts(headers, &["application/json", "text/event-stream"])?;
            check_content_type(headers)?;
            let admitted = front
                .limits
                .admit(&setup.config, principal, Counted::Request);
            let limits = limits(admitted.as_ref().err())?;
            let account = front.sessions.ledger().account(&principal.tenant);
            let body = match read_body(headers, body, limits, &account).await {
                Ok(body) => body,
                Err(unread) => {
                    let closes = unread.failure.reason == Reason::Draining;
                    let mut answer = front.answered_unread(principal, &server, unread)?;
                    if closes {
                        close_after(&mut answer, parts.version);
                    }
                    return Ok(answer);
                }
            };
            let (config, misfit) = match config {
                Ok(config) => (config, None),
                Err(failure) => (None, Some(failure)),
            };
            let post = Post {
                account: &account,
                front,
                principal,
                server,
                headers,
                body: &body.bytes,
                config,
                misfit,
                arrived,
                late,
            };
            let permit = match admitted {
                Ok(permit) => permit,
                Err(failure) => return post.serve_over_limit(failure).await,
            };
            if body.bytes.len() >= LARGE {
                late.beside(account.flow()).await;
            }
            Ok(permit.kept_by(post.serve().await))
        }
        Method::GET => {
            check_accepts(headers, &["text/event-stream"])?;
            let session = find_session(front, headers, principal, &server)?;
            if front.draining.is_cancelled() {
                return Err(draining());
            }
            let permit = front
                .limits
                .admit(&setup.config, principal, Counted::Stream)?;
            let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
            let last = last.and_then(EventId::parse);
            let body = match last {
                Some(last) if last.stream != 0 => again(front, &session, last).await,
                last => Some(stream::of_session(session, last)),
            };
            // Clients take 204 as the end of a stream, and do not ask for it again (WHATWG HTML, 9.2.3). An empty
            // stream they take for another that broke.
            let Some(body) = body else {
                return Ok(reply::empty(StatusCode::NO_CONTENT));
            };
            Ok(permit.kept_by(reply::event_stream(body)))
        }
        Method::DELETE => {
            let session = find_session(front, headers, principal, &server)?;
            front.sessions.end(&session);
            front.parked.end(session.no);
            front.sessions.written().await;
            Ok(reply::empty(StatusCode::NO_CONTENT))
        }
        _ => Ok(reply::method_not_allowed("GET, POST, DELETE")),
    }
}

/// How long the body may be of a message over its caller's limits, which is read so that its answer can say so.
///
/// # Errors
/// `failure` where that is told by a status.
fn over_limit(front: &Front, headers: &HeaderMap, failure: &Failure) -> Result<usize, Failure> {
    /// A call of a tool is shorter, nearly always.
    const MAX: usize = 64 << 10;
    let length = headers.get(CONTENT_LENGTH).and_then(|it| it.to_str().ok());
    let length = length.and_then(|length| length.parse::<usize>().ok());
    let is_short = length.is_some_and(|length| length <= MAX.min(front.max_body));
    match front.statuses() {
        FailureStatus::Auto if is_short => Ok(MAX),
        FailureStatus::Auto | FailureStatus::Http => Err(failure.clone()),
    }
}

/// What a client has not heard of the stream of a call, and what comes; `None` if that is over.
async fn again(front: &Front, session: &Session, last: EventId) -> Option<Body> {
    let parked = &front.parked;
    match parked.take(session.no, last.stream) {
        Found::Nothing => None,
        Found::Stream(stream) => stream::resumed(stream, last, session.no, parked),
        Found::Coming(mut coming) => {
            let given = tokio::time::timeout(HANDED_OVER_WITHIN, coming.next()).await;
            match given {
                Ok(stream) => stream::resumed(stream?, last, session.no, parked),
                Err(_elapsed) => Some(stream::claimed(coming, last, session.no, parked)),
            }
        }
    }
}

/// An unknown revision MUST be refused (2025-06-18, basic/transports, "Protocol Version Header"). `agreed` is that of the
/// session that the headers name.
pub(super) fn check_version(
    headers: &HeaderMap,
    agreed: impl FnOnce() -> Option<Revision>,
) -> Result<(), Failure> {
    let mut presented = headers
        .get_all(&VERSION_HEADER)
        .iter()
        .map(|version| version.to_str().unwrap_or_default().trim());
    match presented.find(|text| Revision::parse(text).is_none()) {
        None => Ok(()),
        Some(text) => Err(other_version(text, agreed())),
    }
}

/// The failure of a request whose `MCP-Protocol-Version` is none that can be served there.
pub(super) fn other_version(sent: &str, agreed: Option<Revision>) -> Failure {
    let why = match agreed {
        Some(agreed) => format!(
            "this session speaks revision {agreed}, as was agreed on in `initialize`, but `MCP-Protocol-Version` says `{sent}` (send `MCP-Protocol-Version: {agreed}` with each request of the session, or open another one)"
        ),
        None => {
            let known = Revision::ALL.map(Revision::as_str).join(", ");
            format!(
                "unsupported protocol version `{sent}` in `MCP-Protocol-Version` (supported: {known})"
            )
        }
    };
    Failure::new(Reason::UnsupportedVersion, why)
}

/// The client MUST accept what it may be answered with (basic/transports, "Sending Messages").
fn check_accepts(headers: &HeaderMap, needed: &[&str]) -> Result<(), Failure> {
    match headers.get(ACCEPT).map(HeaderValue::as_bytes) {
        None => return Ok(()),
        // What the SDKs send.
        Some(b"application/json, text/event-stream" | b"*/*") => return Ok(()),
        Some(_) => {}
    }
    let ranges = || {
        let values = headers.get_all(ACCEPT).iter();
        let texts = values.filter_map(|value| value.to_str().ok());
        texts.flat_map(|text| text.split(',')).map(|range| {
            let media = range.split(';').next().unwrap_or_default();
            media.trim()
        })
    };
    let is_accepted = |media: &&str| ranges().any(|range| covers(range, media));
    if needed.iter().all(is_accepted) {
        return Ok(());
    }
    let needed = needed.join("` and `");
    Err(Failure::new(
        Reason::NotAcceptable,
        format!("`Accept` must list `{needed}`"),
    ))
}

/// Whether a media range is of that type (RFC 9110, 12.5.1).
fn covers(range: &str, media: &str) -> bool {
    let main_type = media.split('/').next().unwrap_or_default();
    range == "*/*"
        || range.eq_ignore_ascii_case(media)
        || range
            .strip_suffix("/*")
            .is_some_and(|main| main.eq_ignore_ascii_case(main_type))
}

pub(super) fn check_content_type(headers: &HeaderMap) -> Result<(), Failure> {
    // RFC 9110, 8.4: whoever decodes it sees another message than whoever does not.
    if let Some(coding) = headers.get(CONTENT_ENCODING)
        && !coding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        let coding = String::from_utf8_lossy(coding.as_bytes());
        return Err(Failure::new(
            Reason::UnsupportedMediaType,
            format!("`Content-Encoding: {coding}` is not understood: send the body as it is"),
        ));
    }
    let value = headers.get(CONTENT_TYPE);
    // What the SDKs send.
    if value.is_some_and(|value| value == "application/json") {
        return Ok(());
    }
    let text = value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media = text.split(';').next().unwrap_or_default().trim();
    if media.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Failure::new(
        Reason::UnsupportedMediaType,
        format!("`Content-Type` must be `application/json`, not `{text}`"),
    ))
}

/// A body of that many bytes is more than it may be.
pub(super) fn too_large(size: &str, max: usize) -> Failure {
    let why = format!("the body is {size} bytes, more than {max} (raise `http.max_body`)");
    Failure::new(Reason::MessageTooLarge, why)
}

/// Takes in what a client is still sending, within bounds, and shows it to `pass` piece by piece: many read the answer only
/// when they have sent everything, and a connection closed before that loses it (RFC 9112, 9.6). Whether that was all.
pub(super) async fn discard(
    mut body: impl HttpBody<Data = Bytes> + Unpin,
    (mut left, timeout): (usize, std::time::Duration),
    mut pacing: Option<&mut Pacing<'_>>,
    mut pass: impl FnMut(&[u8]),
) -> bool {
    let mut deadline = tokio::time::Instant::now() + timeout;
    loop {
        // Too slow is as good as too much: the answer is then sent at once.
        let frame = match tokio::time::timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => return true,
            Ok(Some(Err(_))) | Err(_) => return false,
        };
        let data = frame.data_ref().map_or(&[][..], |data| data);
        match left.checked_sub(data.len()) {
            Some(rest) => left = rest,
            None => return false,
        }
        pass(data);
        if let Some(pacing) = &mut pacing {
            match pacing.came(data.len()).await {
                Ok(waited) => deadline += waited,
                Err(Drained) => return false,
            }
        }
    }
}

/// Takes in the little that a refused request brings over HTTP/2: where the answer overtakes the body, the
/// stream is reset after it, and some clients lose the answer then, though they must not (RFC 9113,
/// 8.1). HTTP/1.1 has no such reset, and there nobody who waits for leave to send is given it.
pub(super) async fn take_unread(version: http::Version, body: impl HttpBody<Data = Bytes> + Unpin) {
    if version == http::Version::HTTP_2 && !body.is_end_stream() {
        // Boxed, because it is rare, and what every request has room for is to be small.
        let bounds = (MAX_UNREAD, UNREAD_TIMEOUT);
        let _is_all = Box::pin(discard(body, bounds, None, |_| ())).await;
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_a_refused_request_still_brings_is_taken_in_within_bounds() {
        let chunk = || Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0; 1024])));
        let of = |count: usize| StreamBody::new(stream::iter((0..count).map(move |_| chunk())));
        let mut short = of(3);
        take_unread(http::Version::HTTP_2, &mut short).await;
        assert!(short.frame().await.is_none(), "all of it");
        let mut long = of(1000);
        take_unread(http::Version::HTTP_2, &mut long).await;
        assert!(long.frame().await.is_some(), "no more than some of it");
        let mut older = of(1);
        take_unread(http::Version::HTTP_11, &mut older).await;
        assert!(older.frame().await.is_some(), "nothing of it");
        let began = Instant::now();
        let silent = stream::pending::<Result<Frame<Bytes>, Infallible>>();
        take_unread(http::Version::HTTP_2, StreamBody::new(silent)).await;
        assert!((UNREAD_TIMEOUT..2 * UNREAD_TIMEOUT).contains(&began.elapsed()));
    }
}
