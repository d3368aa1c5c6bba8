//! How one worker is started and spoken to, and of which spares some are kept.

use std::sync::Arc;
use std::time::Duration;

use super::catalog::{CatalogKey, ListKey};
use super::command::Start;
use super::roots::RootsSlot;
use super::runtime_config::RuntimeConfig;
use crate::bridge::{ClientRoots, Era, Handshake, Listing};
use crate::config::{Server, Share};
use crate::ids::{PoolKey, ProgramId, ServerName, TenantId};
use crate::launch::LaunchSpec;
use crate::launch::packages::{Installer, Slot};
use crate::pool::{AcquireRequest, KeyFacts};
use crate::protocol::Failure;
use crate::telemetry::{Metrics, ServerMetrics};
use crate::tenancy::{ClientConfig, Principal, lineage, pool_key, program_id};
use crate::usage::NOBODY;
use crate::worker;

/// How one worker is started and spoken to; what the pool hands to its launcher.
#[derive(Debug)]
pub struct StartPlan {
    /// The server it is one of.
    pub server: ServerName,
    /// The tenant whose worker it is; `None` for a spare, which is nobody's yet.
    pub tenant: Option<TenantId>,
    /// The launch identity, on which the worker's answers about itself depend: its pool key, whichever session it belongs to.
    pub identity: PoolKey,
    /// The caller it was first started for, what they set themselves, and a fingerprint of the
    /// session: what its launch spec may depend on. `None` for a spare.
    pub principal: Option<Principal>,
    /// See [`StartPlan::principal`].
    pub client: Option<Arc<ClientConfig>>,
    /// The caller's settings are part of the launch: without them, the tenant's config leads to another.
    pub is_callers: bool,
    /// See [`StartPlan::principal`].
    pub session: String,
    /// What to start.
    pub spec: LaunchSpec,
    /// Whether that is a package's program, and how it is had.
    pub start: Start,
    /// The program that the worker runs.
    pub program: ProgramId,
    /// The handshake with the worker.
    pub handshake: Handshake,
    /// Whether the program is known to understand that handshake.
    pub era_is_certain: bool,
    /// The worker's clients may be asked something.
    pub asks_clients: bool,
    /// Roots of the clients that it serves, for a program that asks for them.
    pub(crate) roots: Option<Arc<ClientRoots>>,
    /// The program asks for its client's roots, and they are not known.
    pub lacks_roots: bool,
    /// No other process of its tenant and server with an equal launch spec is there.
    pub(crate) is_one_at_a_time: bool,
    /// The slot that tells the worker apart from workers with other roots, if its sessions have some.
    pub(crate) roots_slot: Option<RootsSlot>,
    /// How long the process may take to answer its first request.
    pub start_timeout: Duration,
    /// How long the process may take over a request.
    pub request_timeout: Duration,
    /// How long a request may take, whatever its progress.
    pub max_request_time: Duration,
    /// Bounds of its pipes.
    pub options: worker::Options,
    /// Bytes of memory it may hold.
    pub max_memory: Option<u64>,
    /// How long the worker's introduction and lists are remembered; `None`: not at all.
    pub catalog_age: Option<Duration>,
    /// A worker is started when a client connects, though its answer is known.
    pub starts_on_connect: bool,
    /// Losing it ends its sessions.
    pub stateful: bool,
    /// The worker serves more than one request: sessions keep their settings with it.
    pub keeps_attachments: bool,
    /// The metrics of the worker's server.
    pub metrics: Arc<ServerMetrics>,
}

/// The spares of a server, as the pool keeps them; `None` for a server that has none.
///
/// # Errors
/// A [`Failure`] when its config does not make a launch spec.
pub(crate) fn spares(
    runtime: &RuntimeConfig,
    name: &ServerName,
    metrics: &Metrics,
) -> Result<Option<AcquireRequest<StartPlan>>, Failure> {
    let config = &runtime.config;
    let server = config.servers.get(name);
    let (Some(server), Some(spec)) = (server, runtime.resolver.resolve_spare(name)?) else {
        return Ok(None);
    };
    let key = spare_key(name, &spec);
    // No tenant's name is empty.
    let nobody = TenantId::new("");
    let facts = KeyFacts {
        tenant_weight: 0,
        server_max_workers: server.max_workers,
        max_workers_per_key: server.min_idle,
        lineage: Some(lineage(name, &nobody, b"", b"spare", None)),
        max_lifetime: server.max_lifetime,
        is_spare: true,
        ..KeyFacts::neutral(nobody.clone(), name.clone())
    };
    let plan = StartPlan::new(runtime, name, server, spec, Handshake::of_spare(), metrics);
    Ok(Some(AcquireRequest {
        key,
        facts: Arc::new(facts),
        claim: 0.into(),
        spec: Arc::new(plan),
    }))
}

pub(super) fn spare_key(name: &ServerName, spec: &LaunchSpec) -> PoolKey {
    pool_key(
        name,
        &TenantId::new(""),
        &spec.fingerprint(),
        b"spare",
        None,
    )
}

impl StartPlan {
    /// For nobody yet.
    pub(super) fn new(
        runtime: &RuntimeConfig,
        name: &ServerName,
        server: &Server,
        spec: LaunchSpec,
        handshake: Handshake,
        metrics: &Metrics,
    ) -> Self {
        let config = &runtime.config;
        Self {
            server: name.clone(),
            start: Start::of(server, &spec, runtime.installs_of(name)),
            tenant: None,
            identity: spare_key(name, &spec),
            principal: None,
            client: None,
            is_callers: false,
            session: String::new(),
            program: program_id(name, server),
            spec,
            handshake,
            era_is_certain: false,
            asks_clients: true,
            roots: None,
            lacks_roots: false,
            is_one_at_a_time: false,
            roots_slot: None,
            start_timeout: server.start_timeout,
            request_timeout: server.request_timeout,
            max_request_time: server.max_request_time,
            options: worker::Options {
                max_message: server.max_message,
                ..worker::Options::default()
            },
            // The state of a process may show in its lists.
            catalog_age: config.pool.catalog_age.filter(|_| !server.stateful),
            starts_on_connect: server.starts_on_connect,
            max_memory: server.limits.memory,
            stateful: server.stateful,
            keeps_attachments: server.share != Share::Request,
            metrics: metrics.server(name),
        }
    }

    /// The catalog's key of what the worker says of itself; `None` for a spare, which is nobody's.
    pub(crate) fn catalog_key(&self) -> Option<CatalogKey<'_>> {
        Some(CatalogKey {
            tenant: self.tenant.as_ref()?,
            identity: self.identity,
        })
    }

    /// How long that is remembered, and where; `None` if it is not.
    pub(crate) fn remembered(&self) -> Option<(CatalogKey<'_>, Duration)> {
        Some((self.catalog_key()?, self.catalog_age?))
    }

    /// The method that a process is asked first.
    pub(crate) fn first_question(&self) -> &'static str {
        match self.is_spare() {
            true => "ping",
            false => self.handshake.era.first_question(),
        }
    }

    /// In the words of which era a worker's answers are, to a caller with or without a session.
    pub(crate) fn words_for(&self, is_stateless: bool) -> Era {
        self.handshake.words_for(is_stateless)
    }

    /// The key of a list as a caller with or without a session gets it.
    pub(crate) fn list_for(&self, is_stateless: bool, listing: Listing) -> ListKey {
        ListKey {
            era: self.words_for(is_stateless),
            listing,
        }
    }

    /// Whether the worker is a spare, of no tenant yet.
    pub fn is_spare(&self) -> bool {
        self.tenant.is_none()
    }

    /// The tenant to whom what the worker uses is charged: of a spare nobody, whose name is empty.
    pub fn charged_tenant(&self) -> TenantId {
        let nobody = || TenantId::new(NOBODY);
        self.tenant.clone().unwrap_or_else(nobody)
    }

    /// The tenant whose worker it is, for people.
    pub fn whose(&self) -> &str {
        self.tenant.as_ref().map_or("(spare)", TenantId::as_str)
    }

    /// The installer's slot of the worker's package; `None` for a worker without one, or when there are too many.
    pub(crate) fn slot(&self, installer: &Arc<Installer>) -> Option<Arc<Slot>> {
        match &self.start {
            Start::Package(package) => package.slot(&self.server, installer),
            Start::AsWritten | Start::NotUnderstood(_) | Start::Refused { .. } => None,
        }
    }
}
