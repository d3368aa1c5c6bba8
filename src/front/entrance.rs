//! What every endpoint for which credentials are needed has in common: who comes in, and how a refusal
//! is answered, counted and written down.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, Response};

use super::body::Body;
use super::listener::Peer;
use super::net::Activity;
use super::router::Front;
use super::{reply, trail, well_known};
use crate::protocol::Failure;
use crate::session::Setup;
use crate::telemetry::RequestSpan;
use crate::tenancy::{Credentials, Principal};

/// The way that one request came in.
#[derive(Clone, Copy)]
pub(super) struct Entrance<'a> {
    headers: &'a HeaderMap,
    path: &'a str,
    peer: Option<&'a Peer>,
}

impl<'a> Entrance<'a> {
    /// Of a request to the resource at its path.
    pub(super) fn of(request: &'a Parts, peer: Option<&'a Peer>) -> Self {
        Self {
            headers: &request.headers,
            path: request.uri.path(),
            peer,
        }
    }

    /// Of a routed request to the resource at `path`, whose own path says more than may be repeated.
    pub(super) fn of_resource(request: &'a Parts, path: &'a str) -> Self {
        let peer = request.extensions.get::<Peer>();
        Self {
            path,
            ..Self::of(request, peer)
        }
    }

    /// What it comes over, where that is known.
    pub(super) fn connection(self) -> Option<&'a Activity> {
        self.peer.map(|peer| &**peer.place.activity())
    }

    /// Who comes in, to a path of that tenant, and under which setup.
    ///
    /// # Errors
    /// What the guard or the authenticator says.
    pub(super) async fn admitted(
        self,
        front: &Front,
        path_tenant: Option<&str>,
    ) -> Result<(Arc<Setup>, Principal), Failure> {
        front.guarded(self.headers)?;
        let setup = front.sessions.setup();
        let credentials = Credentials {
            headers: self.headers,
            peer: self.peer.map(|peer| peer.ip),
            path_tenant,
        };
        let principal = setup.authenticator.authenticate(credentials).await?;
        RequestSpan::with_current(|span| span.is_of(&principal.tenant));
        if let Some(peer) = self.peer {
            peer.is_used_by(&principal.tenant, front.sessions.ledger())?;
        }
        Ok((setup, principal))
    }

    /// The response: the one there is, or what is said of a refusal. Who has to show credentials is
    /// told how to get some. The audit log has `who` it is, if that is known.
    pub(super) fn answer(
        self,
        front: &Front,
        who: Option<&Principal>,
        outcome: Result<Response<Body>, Failure>,
    ) -> Response<Body> {
        let mut response = outcome.unwrap_or_else(|failure| {
            front.sessions.metrics().rejected(failure.reason);
            if let Some(audit) = &front.audit {
                let peer = self.peer.map(|peer| peer.ip);
                trail::refused(audit, (who, None), &failure, peer, Some(self.path));
            }
            reply::failure(&failure)
        });
        well_known::challenge(front, self.headers, self.path, &mut response);
        response
    }
}
