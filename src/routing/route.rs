//! The way of a session's requests: the pool key, what the pool must know of it, and how a worker for it is started.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::introduction::Introduction;
use super::knowledge::Knowledge;
use super::plan::{StartPlan, spare_key};
use super::request::RouteRequest;
use super::roots::RootsSlot;
use super::runtime_config::RuntimeConfig;
use crate::bridge::Era;
use crate::config::{Interactive, Share};
use crate::held::{Charge, Kind, Ledger, charged};
use crate::ids::{Lineage, PoolKey, ServerName, TenantId};
use crate::pool::{KeyFacts, share_of_session};
use crate::protocol::{Failure, Reason};
use crate::telemetry::Metrics;
use crate::tenancy::{self, ClientConfig, caller_of, lineage, pool_key};

/// What a route takes beside what its worker is started with, in bytes.
const ROUTE_BYTES: usize = 2 << 10;

/// Where a route is charged, and what makes room for it: ends something of its tenant that nobody uses, and
/// says whether there was anything.
#[derive(Clone, Copy)]
pub(crate) struct Room<'a> {
    pub(crate) ledger: &'a Ledger,
    pub(crate) make: &'a (dyn Fn() -> bool + Send + Sync),
}

/// A session's way to its workers.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) generation: u64,
    /// `Knowledge::edition` when the route was worked out.
    pub(crate) edition: u64,
    pub(crate) share: Share,
    pub(crate) key: PoolKey,
    pub(crate) facts: Arc<KeyFacts>,
    pub(crate) plan: Arc<StartPlan>,
    /// The route is worked out again at its next use.
    reconsidered: AtomicBool,
    _charge: Charge,
}

impl Route {
    /// Has the route worked out again at its next use: what is started may be something else by now.
    pub(crate) fn reconsider(&self) {
        self.reconsidered.store(true, Ordering::Relaxed);
    }

    /// Whether the way is to be worked out again.
    pub(crate) fn is_reconsidered(&self) -> bool {
        self.reconsidered.load(Ordering::Relaxed)
    }

    /// Whether its workers are started with the access token that is in force, if they take one.
    pub(crate) fn has_fresh_token(
        &self,
        runtime: &RuntimeConfig,
        tenant: &TenantId,
        server: &ServerName,
    ) -> bool {
        runtime
            .resolver
            .has_fresh_token(tenant, server, &self.plan.spec)
    }

    /// How its workers are spoken to.
    pub(crate) fn era(&self) -> Era {
        self.plan.handshake.era
    }

    /// Works out the way of a session's requests under that pool.toml, with what the caller sets.
    ///
    /// # Errors
    /// A [`Failure`] for the caller when its config does not make a launch spec, or its tenant holds too
    /// much.
    pub(crate) async fn find(
        runtime: &RuntimeConfig,
        request: &RouteRequest<'_>,
        knowledge: &Knowledge,
        (metrics, room): (&Metrics, Room<'_>),
    ) -> Result<Self, Failure> {
        let Knowledge {
            dialects,
            roots,
            one_at_a_time,
            ..
        } = knowledge;
        let config = &runtime.config;
        let (name, tenant) = (request.server, request.tenant());
        let unknown = || Failure::new(Reason::NotFound, format!("no server `{name}`"));
        let server = config.servers.get(name).ok_or_else(unknown)?;
        let user = request.principal;
        let fingerprint = request.session_fingerprint;
        let own = request.config.map(|config| &**config);
        let resolved = runtime.resolver.resolve(user, name, fingerprint, own);
        let spec = resolved.await?;
        // Where it makes no difference, what becomes of it is its tenant's.
        let is_callers = match own {
            None => false,
            Some(_) => {
                let plain = runtime
                    .resolver
                    .resolve(user, name, fingerprint, None)
                    .await;
                !plain.is_ok_and(|plain| plain.fingerprint() == spec.fingerprint())
            }
        };
        // The bytes of what a worker is started with, and of what the caller sets once more.
        let bytes = ROUTE_BYTES + spec.bytes() + own.map_or(0, ClientConfig::bytes);
        let account = room.ledger.account(tenant);
        let charge = charged(&account, Kind::Route, bytes, room.make).map_err(Failure::from)?;
        let edition = knowledge.edition();
        let program = runtime.program(name).ok_or_else(unknown)?;
        let (era, era_is_certain) = dialects.for_client(program, request.is_stateless);
        let introduced = Introduction::of(request, server, &spec, era);
        let is_exclusive = introduced.is_exclusive;
        // A server's introduction does not change with each access token.
        let lasting = spec.lasting_fingerprint();
        let identity = pool_key(name, tenant, &lasting, &introduced.class, None);
        let scope = (server.share != Share::Tenant).then_some(request.session_id);
        let wants_roots = introduced.has_own_roots && roots.is_asking(program);
        let known_roots = request.known_roots.filter(|_| wants_roots);
        let known_roots = known_roots.and_then(|known| known());
        let class = introduced.whole_class();
        let way = pool_key(name, tenant, &spec.fingerprint(), &class, scope);
        let caller = caller_of(server, user, fingerprint, own);
        let place_of = |introduced: &Introduction| {
            let lineage = lineage(name, tenant, &caller, &introduced.whole_class(), scope);
            let has_slot = introduced.has_own_roots && server.share == Share::Tenant;
            let slot = has_slot.then(|| {
                let known = known_roots.as_ref().map(|roots| roots.digest());
                roots.slot(tenant, lineage, known)
            });
            (slot, slot.map_or(lineage, RootsSlot::lineage))
        };
        let (roots_slot, lineage) = place_of(&introduced);
        let key = roots_slot.map_or(way, |slot| slot.key(way));
        let if_declined = (!era_is_certain).then(|| {
            let other = Introduction::of(request, server, &spec, era.other());
            place_of(&other).1
        });
        let settings = config.tenants.get(tenant);
        let max_of_tenant = settings.and_then(|tenant| tenant.max_workers);
        let tenant_max_workers = max_of_tenant.unwrap_or(config.pool.max_workers_per_tenant);
        let is_single_use = server.share == Share::Request;
        // Another request's process has nothing to do with it.
        let is_followed = |lineage: &Lineage| (!is_single_use).then_some(*lineage);
        let is_one_at_a_time = one_at_a_time.holds(server, tenant, name) && !is_single_use;
        let siblings = tenancy::lineage(name, tenant, &caller, b"any client", scope);
        let facts = KeyFacts {
            tenant: tenant.clone(),
            tenant_weight: settings.map_or(1, |tenant| tenant.weight),
            tenant_max_workers,
            server: name.clone(),
            server_max_workers: server.max_workers,
            max_in_flight: if is_single_use {
                1
            } else {
                server.max_in_flight
            },
            max_of_session: match server.share {
                Share::Tenant => share_of_session(server.max_in_flight),
                // There are no others.
                Share::Session | Share::Request => server.max_in_flight,
            },
            // A session whose state lives in one process cannot be served by another.
            max_workers_per_key: if server.stateful || is_one_at_a_time {
                1
            } else if is_exclusive && request.is_stateless {
                // Each serves one call at a time, and any can serve any.
                tenant_max_workers.max(server.max_workers_per_key)
            } else {
                server.max_workers_per_key
            },
            lineage: is_followed(&lineage),
            siblings: is_followed(&siblings),
            one_of_siblings: is_one_at_a_time,
            lineage_if_declined: if_declined.as_ref().and_then(is_followed),
            caller_configured: is_callers,
            exclusive: is_exclusive,
            max_requests: if is_single_use {
                1
            } else {
                server.max_requests
            },
            idle_timeout: server.idle_timeout,
            max_lifetime: server.max_lifetime,
            is_spare: false,
            spare: (introduced.handshake.takes_spares() && spec.scratch.is_some())
                .then(|| spare_key(name, &spec)),
        };
        let plan = StartPlan {
            tenant: Some(tenant.clone()),
            identity,
            principal: Some(user.clone()),
            client: request.config.cloned(),
            is_callers,
            session: fingerprint.to_owned(),
            program,
            era_is_certain,
            asks_clients: server.interactive != Interactive::Never,
            lacks_roots: wants_roots && known_roots.is_none(),
            roots: known_roots,
            is_one_at_a_time,
            roots_slot,
            ..StartPlan::new(runtime, name, server, spec, introduced.handshake, metrics)
        };
        Ok(Self {
            generation: runtime.generation,
            edition,
            share: server.share,
            key,
            facts: Arc::new(facts),
            plan: Arc::new(plan),
            reconsidered: AtomicBool::new(false),
            _charge: charge,
        })
    }
}
