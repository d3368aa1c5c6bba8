//! What every endpoint for which credentials are needed has in common: who comes in, and how a refusal
//! is answered, counted and written down.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, Response};

use super::{audit, challenge};
use crate::front::net::Activity;
use crate::front::net::peer::Peer;
use crate::front::response::body::Body;
use crate::front::response::reply;
use crate::front::state::Front;
use crate::protocol::Failure;
use crate::routing::RuntimeConfig;
use crate::telemetry::{RequestSpan, exports_spans};
use crate::tenancy::{Credentials, Principal};

/// A caller that has been admitted, and the runtime config that admitted it.
#[derive(Debug)]
pub(in crate::front) struct Caller {
    pub(in crate::front) runtime: Arc<RuntimeConfig>,
    pub(in crate::front) principal: Principal,
}

/// The gate through which one request comes in.
#[derive(Clone, Copy, Debug)]
pub(in crate::front) struct AuthGate<'a> {
    headers: &'a HeaderMap,
    path: &'a str,
    peer: Option<&'a Peer>,
}

impl<'a> AuthGate<'a> {
    /// The gate of a request to the resource at its path.
    pub(in crate::front) fn of(request: &'a Parts, peer: Option<&'a Peer>) -> Self {
        Self {
            headers: &request.headers,
            path: request.uri.path(),
            peer,
        }
    }

    /// The gate of a routed request to the resource at `path`, whose own path says more than may be repeated.
    pub(in crate::front) fn of_resource(request: &'a Parts, path: &'a str) -> Self {
        let peer = request.extensions.get::<Peer>();
        Self {
            path,
            ..Self::of(request, peer)
        }
    }

    /// The connection that the request comes over, where that is known.
    pub(in crate::front) fn connection(self) -> Option<&'a Activity> {
        self.peer.map(|peer| &**peer.slot.activity())
    }

    /// The caller, if it may use a path of that tenant.
    ///
    /// # Errors
    /// What the guard or the authenticator says.
    pub(in crate::front) async fn admit(
        self,
        front: &Front,
        path_tenant: Option<&str>,
    ) -> Result<Caller, Failure> {
        front.guarded(self.headers)?;
        let runtime = front.gateway.runtime_config();
        let credentials = Credentials {
            headers: self.headers,
            peer: self.peer.map(|peer| peer.ip),
            path_tenant,
        };
        let principal = runtime.authenticator.authenticate(credentials).await?;
        RequestSpan::with_current(|span| {
            span.is_of(&principal.tenant);
            if exports_spans() {
                span.progress().admitted(span.began().elapsed());
            }
        });
        if let Some(peer) = self.peer {
            peer.is_used_by(&principal.tenant, front.gateway.ledger())?;
        }
        Ok(Caller { runtime, principal })
    }

    /// The response: the one there is, or what is said of a refusal. A caller that has to show credentials is
    /// told how to get some. The audit log has the caller, if it is known.
    pub(in crate::front) fn answer(
        self,
        front: &Front,
        admitted: &Result<Caller, Failure>,
        outcome: Result<Response<Body>, Failure>,
    ) -> Response<Body> {
        let mut response = outcome.unwrap_or_else(|failure| {
            front.gateway.metrics().rejected(failure.reason);
            if let Some(log) = &front.audit {
                let peer = self.peer.map(|peer| peer.ip);
                let who = admitted.as_ref().ok().map(|caller| &caller.principal);
                audit::refused(log, who, None, &failure, peer, Some(self.path));
            }
            reply::failure(&failure)
        });
        challenge::complete(front, self.headers, self.path, &mut response);
        response
    }
}
