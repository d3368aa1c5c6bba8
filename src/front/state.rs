//! The state that the handlers of requests share. Handlers name the state, which names none of them.

use std::num::NonZeroU64;
use std::sync::Arc;

use http::HeaderMap;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::addresses::Addresses;
use super::pipeline::audit::{self, RequestAudit};
use super::pipeline::context::RequestContext;
use super::pipeline::guard::Guard;
use super::pipeline::limits::RateLimits;
use super::transport::channels::Channels;
use super::transport::parked::Parked;
use crate::gateway::{Gateway, SessionTable};
use crate::ids::ServerName;
use crate::protocol::{Failure, FailureStatus};
use crate::telemetry::audit::Audit;
use crate::tenancy::oauth::Grants;
use crate::tenancy::{Handles, Principal};
use crate::usage::Meter;

/// The state of the front door: below everything that handles a request.
#[derive(Debug)]
pub struct Front {
    /// Serves requests.
    pub gateway: Gateway,
    /// The sessions that there are.
    pub sessions: Arc<SessionTable>,
    /// The check of `Host` and `Origin`.
    pub guard: Guard,
    /// Largest body, in bytes.
    pub max_body: usize,
    /// The audit log, if there is one.
    pub audit: Option<Arc<Audit>>,
    /// How much tenants and users have asked.
    pub limits: Arc<RateLimits>,
    /// The addresses by which clients know this front door.
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
    pub(in crate::front) fn guarded(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let runtime = self.gateway.runtime_config();
        self.guard
            .check(headers, &runtime.config.http.allowed_origins)
    }

    /// Bytes of bodies a second that may come for the caller's tenant, at this moment.
    pub(in crate::front) fn body_rate(&self, principal: &Principal) -> NonZeroU64 {
        self.gateway
            .runtime_config()
            .config
            .body_rate(&principal.tenant)
    }

    /// The context of the requests of a POST that came at that time.
    pub(in crate::front) fn context(
        &self,
        principal: &Principal,
        server: &ServerName,
        arrived: Instant,
    ) -> RequestContext {
        let audit = self.audit.as_ref();
        let audit =
            audit.map(|audit| RequestAudit::new(audit, self.gateway.workers(), principal, server));
        let statuses = self.statuses();
        let usage = self.gateway.usage();
        let meter = Meter::new(usage, &principal.tenant, principal.user(), server);
        RequestContext::new(
            self.gateway.metrics(),
            meter,
            server,
            arrived,
            statuses,
            audit,
        )
    }

    /// The HTTP statuses of the answers to requests that failed.
    pub(in crate::front) fn statuses(&self) -> FailureStatus {
        self.gateway.runtime_config().config.http.failure_status
    }

    /// Writes down that a known caller was refused.
    pub(in crate::front) fn refused(
        &self,
        principal: &Principal,
        server: &ServerName,
        failure: &Failure,
    ) {
        if let Some(audit) = &self.audit {
            audit::refused(audit, Some(principal), Some(server), failure, None, None);
        }
    }
}
