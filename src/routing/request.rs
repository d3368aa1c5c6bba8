//! A request that wants a worker, as far as its route depends on who makes it.

use std::fmt;
use std::sync::Arc;

use crate::bridge::{ClientInfo, ClientRoots};
use crate::ids::{ServerName, TenantId};
use crate::tenancy::{ClientConfig, Principal};

/// Tells the roots of a client, once they are known.
pub(crate) type KnownRoots<'a> = &'a (dyn Fn() -> Option<Arc<ClientRoots>> + Send + Sync);

/// The inputs that the route of a session's requests depends on.
#[derive(Clone, Copy)]
pub(crate) struct RouteRequest<'a> {
    /// The caller.
    pub(crate) principal: &'a Principal,
    /// The server that is asked.
    pub(crate) server: &'a ServerName,
    /// Names the session to its client: a credential.
    pub(crate) session_id: &'a str,
    /// Names the session without giving that credential away.
    pub(crate) session_fingerprint: &'a str,
    /// How the client introduced itself.
    pub(crate) client: &'a ClientInfo,
    /// The request's caller has no session.
    pub(crate) is_stateless: bool,
    /// The roots of its client; `None` for one that is not to be asked for them.
    pub(crate) known_roots: Option<KnownRoots<'a>>,
    /// What the caller sets for the server.
    pub(crate) config: Option<&'a Arc<ClientConfig>>,
}

impl RouteRequest<'_> {
    /// The tenant of who asks.
    pub(super) fn tenant(&self) -> &TenantId {
        &self.principal.tenant
    }
}

impl fmt::Debug for RouteRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteRequest")
            .field("principal", self.principal)
            .field("server", self.server)
            .field("session", &self.session_fingerprint)
            .field("is_stateless", &self.is_stateless)
            .finish_non_exhaustive()
    }
}
