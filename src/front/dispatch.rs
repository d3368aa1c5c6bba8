//! The way in for every request: the few paths that nearly all of them go to are told apart here, and
//! the rest is left to the router.
//!
//! A router decodes paths into maps, boxes what it is given and copies itself for each request, which
//! shows beside what a tool call costs here (docs/performance.md).

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use tower::util::ServiceExt;

use super::body::Body;
use super::heads::Heads;
use super::listener::Peer;
use super::router::{self, Front, Offer};

/// What is served at an address. Cheap to clone.
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
        let router = router::router(Arc::clone(&front));
        // Those for pages in browsers get more headers than are set here.
        let is_plain = front.allowed_origins.is_empty();
        Self {
            router,
            front: Some(front).filter(|_| is_plain),
        }
    }
}

impl Dispatch {
    /// For one connection, the heads of whose requests are noted.
    pub(super) fn service(
        self,
        peer: Peer,
        heads: Heads,
    ) -> impl Service<
        Request<Incoming>,
        Response = Response<Body>,
        Error = Infallible,
        Future: Send + 'static,
    > + Send
    + 'static {
        service_fn(move |request| {
            heads.came();
            self.clone().answer(request, peer)
        })
    }

    /// Boxed, because a connection without a request under way is to be small.
    fn answer(self, request: Request<Incoming>, peer: Peer) -> Answered {
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            if let Some(front) = &self.front
                && let Some((tenant, offer)) = endpoint_at(front, parts.uri.path())
            {
                let endpoint = router::endpoint(front, tenant, offer, (&parts, body), Some(peer));
                return Ok(endpoint.await);
            }
            parts.extensions.insert(peer);
            let answer = self
                .router
                .oneshot(Request::from_parts(parts, body))
                .await?;
            Ok(answer.map(Body::Stream))
        })
    }
}

type Answered = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// The endpoint of the front door at that path, if its names need no decoding.
fn endpoint_at<'a>(front: &'a Front, path: &'a str) -> Option<(Option<&'a str>, Offer<'a>)> {
    match (place(path)?, &front.only_server) {
        ((None, Offer::All), Some(only)) => Some((None, Offer::Server(only.as_str()))),
        ((Some(_), Offer::All), Some(_)) => None,
        (found, _) => Some(found),
    }
}

/// The tenant and what is offered at an MCP endpoint of Streamable HTTP. `None` for other paths, and
/// for names that have to be decoded first.
fn place(path: &str) -> Option<(Option<&str>, Offer<'_>)> {
    let names = path.strip_suffix("/mcp")?;
    if names.is_empty() {
        return Some((None, Offer::All));
    }
    let names = names.strip_prefix('/')?;
    let is_name = |name: &&str| !name.is_empty() && !name.contains(['%', '/']);
    match names.split_once('/') {
        None => Some(names)
            .filter(is_name)
            .map(|server| (None, Offer::Server(server))),
        Some(("t", names)) => {
            let (tenant, server) = match names.split_once('/') {
                None => (names, None),
                Some((tenant, server)) => (tenant, Some(server)),
            };
            let offer = match server {
                None => Offer::All,
                Some(server) => Offer::Server(Some(server).filter(is_name)?),
            };
            Some((Some(Some(tenant).filter(is_name)?), offer))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_told_from_other_paths() {
        let server = Offer::Server;
        for (path, expected) in [
            ("/mcp", Some((None, Offer::All))),
            ("/demo/mcp", Some((None, server("demo")))),
            ("/mcp/mcp", Some((None, server("mcp")))),
            ("/t/mcp", Some((None, server("t")))),
            ("/t/acme/mcp", Some((Some("acme"), Offer::All))),
            ("/t/acme/demo/mcp", Some((Some("acme"), server("demo")))),
            ("/t/t/t/mcp", Some((Some("t"), server("t")))),
            ("//mcp", None),
            ("/t//mcp", None),
            ("/t//demo/mcp", None),
            ("/t/acme//mcp", None),
            ("/x/demo/mcp", None),
            ("/t/acme/demo/more/mcp", None),
            ("/d%65mo/mcp", None),
            ("/t/%61cme/mcp", None),
            ("/demo/mcp/", None),
            ("/demo/sse", None),
            ("mcp", None),
            ("/", None),
        ] {
            assert_eq!(place(path), expected, "{path}");
        }
    }
}
