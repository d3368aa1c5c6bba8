//! The way in for every request: the few paths that nearly all of them go to are told apart here, and
//! the rest is left to the router.
//!
//! A router decodes paths into maps, boxes what it is given and copies itself for each request, which
//! shows beside what a tool call costs here (docs/performance.md).

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::FutureExt;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use tokio_util::sync::CancellationToken;
use tower::util::ServiceExt;

use super::endpoint::endpoint;
use super::router;
use super::state::Front;
use crate::front::net::listener::{Listener, Serve};
use crate::front::net::peer::Peer;
use crate::front::net::tls::Tls;
use crate::front::net::{ConnectionSlots, Served, Unclear, unambiguous};
use crate::front::pipeline::cors;
use crate::front::pipeline::discard::take_unread;
use crate::front::pipeline::head::Head;
use crate::front::pipeline::target::endpoint_at;
use crate::front::response::body::Body;
use crate::front::response::late::{Answer, Late};
use crate::front::response::reply;
use crate::protocol::{Failure, Reason};
use crate::telemetry::{RequestSpan, of_request};

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// How much sooner than we close an idle connection its client is told to give it up, at the most: so that no
/// request is on its way then.
const HINT_MARGIN: Duration = Duration::from_secs(5);

/// Serves the requests of a listener. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Dispatch {
    router: Router,
    front: Option<Arc<Front>>,
}

impl From<Router> for Dispatch {
    /// What that router serves.
    fn from(router: Router) -> Self {
        Self {
            router,
            front: None,
        }
    }
}

impl From<Arc<Front>> for Dispatch {
    /// The endpoints of the front door.
    fn from(front: Arc<Front>) -> Self {
        Self {
            router: router::router(Arc::clone(&front)),
            front: Some(front),
        }
    }
}

impl Dispatch {
    /// Serves what comes to that listener until `stop`; then accepts no more, lets every connection finish its request, and
    /// cuts those that take longer than `grace`. With `tls`, HTTPS only.
    ///
    /// # Cancel-Safety
    /// A dropped call cuts every connection.
    pub async fn serve(
        self,
        listener: Listener,
        tls: Option<Tls>,
        slots: Arc<ConnectionSlots>,
        stop: CancellationToken,
        grace: Duration,
    ) {
        listener.serve(self, tls, slots, stop, grace).await;
    }
}

impl Serve for Dispatch {
    fn service(
        self,
        peer: Peer,
        idle_timeout: Duration,
    ) -> impl Service<
        Request<Incoming>,
        Response = Response<Served>,
        Error = Infallible,
        Future: Send + 'static,
    > + Send
    + 'static {
        let hint = keep_alive_hint(idle_timeout);
        service_fn(move |request: Request<Incoming>| {
            let version = request.version();
            let (served, unclear) = Served::begin(&peer.slot, &request);
            let activity = Arc::clone(peer.slot.activity());
            let dispatch = self.clone();
            let peer = Peer {
                held: served.held(),
                ..peer.clone()
            };
            // The answer's own bytes are what there is no room for.
            let has_room = !activity.is_closing();
            let span = RequestSpan::begin();
            // Boxed, because a connection without a request under way is to be small.
            let answer = has_room.then(|| {
                Answer::of(move |late| {
                    let of_body = Arc::clone(&span);
                    let answer = dispatch.answer(request, peer, late, unclear);
                    let answer =
                        answer.map(|response| response.map(|body| body.in_request(of_body)));
                    Box::pin(of_request(span, answer))
                })
            });
            let hint = hint.clone().filter(|_| version == Version::HTTP_11);
            async move {
                // Of a pipeline that nobody reads, no more is kept than one answer.
                if version != Version::HTTP_2 {
                    poll_fn(|_| activity.poll_writable()).await;
                }
                let Some(answer) = answer else {
                    return Ok(no_room(version).map(|body| served.with(body)));
                };
                let mut answer = answer.await;
                if let Some(hint) = hint {
                    answer.headers_mut().insert(KEEP_ALIVE.clone(), hint);
                }
                Ok(answer.map(|body| served.with(body)))
            }
        })
    }
}

impl Dispatch {
    /// With what pages in browsers have to be told.
    async fn answer(
        self,
        request: Request<Incoming>,
        peer: Peer,
        late: Late,
        unclear: Option<Unclear>,
    ) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let clear = match unclear {
            None => unambiguous(&mut parts),
            Some(unclear) => Err(unclear),
        };
        // Before anything that depends on what the request says.
        if let Err(unclear) = clear {
            return refuse(unclear, parts.version, body, &peer).await;
        }
        let runtime = self
            .front
            .as_ref()
            .map(|front| front.gateway.runtime_config());
        let config = runtime.map(|runtime| Arc::clone(&runtime.config));
        let origins = config.as_ref().map(|config| &config.http.allowed_origins);
        let Some(origins) = origins.filter(|origins| !origins.is_empty()) else {
            return self.answer_plain(parts, body, peer, late).await;
        };
        if let Some(told) = cors::preflight(origins, &parts.method, &parts.headers) {
            return told;
        }
        let exposed = cors::exposed(origins, &parts.headers);
        late.with_headers(exposed.clone());
        let mut response = self.answer_plain(parts, body, peer, late).await;
        response.headers_mut().extend(exposed);
        response
    }

    async fn answer_plain(
        self,
        mut parts: Parts,
        body: Incoming,
        peer: Peer,
        late: Late,
    ) -> Response<Body> {
        if let Some(front) = &self.front
            && let Some(meant) = front.addresses.meant(parts.uri.path())
            && let Some(uri) = with_path(&parts.uri, meant)
        {
            parts.uri = uri;
        }
        if let Some(front) = &self.front
            && let Some(named) = endpoint_at(front.only_server.as_ref(), parts.uri.path())
        {
            let head = Head::read(&parts, named, Some(&peer), &late);
            return endpoint(front, &head, body).await;
        }
        parts.extensions.insert(peer);
        parts.extensions.insert(late);
        let answer = self.router.oneshot(Request::from_parts(parts, body));
        let answer = answer.await.unwrap_or_else(|never| match never {});
        answer.map(Body::Stream)
    }
}

/// Refuses what can be read in two ways. Nothing more is served on its connection.
async fn refuse(unclear: Unclear, version: Version, body: Incoming, peer: &Peer) -> Response<Body> {
    let Unclear { refusal, failure } = unclear;
    tracing::debug!(peer = %peer.ip, %failure, "a request is refused for its head");
    take_unread(version, body).await;
    let mut refused = reply::refusal(&failure, refusal);
    // What comes after it may not be what its sender takes it for.
    reply::close_after(&mut refused, version);
    refused
}

/// What is told over a connection that ends because of what it holds, if it can still be.
fn no_room(version: Version) -> Response<Body> {
    let why = "there is no room for what this connection holds: long heads, or answers that are not taken (`http.memory`)";
    let failure = Failure::new(Reason::MemoryExhausted, why).retry_after(Duration::from_secs(1));
    let mut refused = reply::failure(&failure);
    reply::close_after(&mut refused, version);
    refused
}

/// The address with another path.
fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let path_and_query = match uri.query() {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
        None => PathAndQuery::try_from(path),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path_and_query.ok()?);
    Uri::from_parts(parts).ok()
}

/// What clients of HTTP/1.1 are told of when an idle connection is closed.
fn keep_alive_hint(idle_timeout: Duration) -> Option<HeaderValue> {
    let margin = HINT_MARGIN.min(idle_timeout / 4);
    let seconds = (idle_timeout - margin).as_secs();
    let text = (seconds > 0).then(|| format!("timeout={seconds}"))?;
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, join, simplex};

    use super::*;
    use crate::front::net::connection::Connection;
    use crate::front::net::{ConnectionLimits, ConnectionSlots};
    use crate::held::Ledger;

    #[tokio::test(start_paused = true)]
    async fn a_pipeline_is_answered_as_far_as_its_answers_are_taken() {
        const ASKED: usize = 200;
        let answered = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&answered);
        let answer = async move || {
            counted.fetch_add(1, Ordering::Relaxed);
            "answer"
        };
        let dispatch = Dispatch::from(Router::new().route("/", get(answer)));
        let slots = ConnectionSlots::new(ConnectionLimits::of_few(10), &Ledger::unlimited());
        let ip = "192.0.2.1".parse().expect("an address");
        let slot = Arc::new(slots.take(ip).await.expect("a slot"));
        let (timeouts, of) = (slots.timeouts(), Arc::clone(&slot));
        let service = dispatch.service(
            Peer {
                ip,
                slot: of,
                held: None,
            },
            timeouts.idle,
        );
        let connection = Connection {
            slot,
            service,
            timeouts,
        };
        let (asks, mut client) = simplex(16 << 10);
        let (mut answers, told) = simplex(512);
        let asked = "GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(ASKED);
        client.write_all(asked.as_bytes()).await.expect("sent");
        let serving = tokio::spawn(connection.serve(join(asks, told)));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let first = answered.load(Ordering::Relaxed);
        assert!((1..20).contains(&first), "{first} answers");
        let (mut count, mut piece) = (0, [0; 512]);
        while count < ASKED {
            let len = answers.read(&mut piece).await.expect("answers");
            assert!(len > 0, "closed after {count} answers");
            count += piece[..len].iter().filter(|byte| **byte == b'w').count();
        }
        assert_eq!(answered.load(Ordering::Relaxed), ASKED);
        serving.abort();
    }
}
