//! What every endpoint for which credentials are needed has in common: who comes in, and how a refusal
//! is answered, counted and written down.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use http::header::HOST;
use http::request::Parts;
use http::{HeaderValue, Response};

use super::listener::Peer;
use super::router::Front;
use super::{reply, trail, well_known};
use crate::protocol::Failure;
use crate::session::Setup;
use crate::tenancy::{Credentials, Principal};

/// The way that one request came in.
pub(super) struct Entrance {
    host: Option<HeaderValue>,
    path: String,
    peer: Option<IpAddr>,
}

impl Entrance {
    /// Of a request to the resource at its path.
    pub(super) fn of(request: &Request) -> Self {
        Self::of_resource(request, request.uri().path())
    }

    /// Of a request to the resource at `path`, whose own path says more than may be repeated.
    pub(super) fn of_resource(request: &Request, path: &str) -> Self {
        Self {
            host: request.headers().get(HOST).cloned(),
            path: path.to_owned(),
            peer: request.extensions().get::<Peer>().map(|peer| peer.0),
        }
    }

    /// The response: the one there is, or what is said of a refusal. Who has to show credentials is
    /// told how to get some.
    pub(super) fn answer(
        &self,
        front: &Front,
        outcome: Result<Response<Body>, Failure>,
    ) -> Response<Body> {
        let mut response = outcome.unwrap_or_else(|failure| {
            front.sessions.metrics().rejected(failure.reason);
            if let Some(audit) = &front.audit {
                trail::refused(audit, None, &failure, self.peer, Some(&self.path));
            }
            reply::failure(&failure, None)
        });
        let host = self.host.as_ref();
        well_known::challenge(front, host, &self.path, &mut response);
        response
    }
}

/// Who comes in with that request, to a path of that tenant, and under which setup.
///
/// # Errors
/// What the guard or the authenticator says.
pub(super) async fn admitted(
    front: &Front,
    path_tenant: Option<&str>,
    request: &Parts,
) -> Result<(Arc<Setup>, Principal), Failure> {
    front.guard.check(&request.headers)?;
    let setup = front.sessions.setup();
    let credentials = Credentials {
        headers: &request.headers,
        peer: request.extensions.get::<Peer>().map(|peer| peer.0),
        path_tenant,
    };
    let principal = setup.authenticator.authenticate(credentials).await?;
    Ok((setup, principal))
}
