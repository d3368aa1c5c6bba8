//! The steps in which a route is worked out: what is started, how it is spoken to, whose it is, what the pool must know of it.

use std::sync::Arc;

use super::introduction::Introduction;
use super::knowledge::Knowledge;
use super::plan::{StartPlan, spare_key};
use super::request::RouteRequest;
use super::roots::RootsSlot;
use super::runtime_config::RuntimeConfig;
use crate::bridge::ClientRoots;
use crate::config::{Interactive, Server, Share};
use crate::ids::{Lineage, PoolKey, ProgramId};
use crate::launch::LaunchSpec;
use crate::pool::{KeyFacts, share_of_session};
use crate::protocol::Failure;
use crate::telemetry::Metrics;
use crate::tenancy::{ClientConfig, caller_of, lineage, pool_key};

/// What a route is worked out from.
#[derive(Clone, Copy)]
pub(super) struct Search<'a> {
    pub(super) runtime: &'a RuntimeConfig,
    pub(super) request: &'a RouteRequest<'a>,
    pub(super) knowledge: &'a Knowledge,
    /// The server that the request names.
    pub(super) server: &'a Server,
}

/// What is started.
pub(super) struct LaunchChoice {
    pub(super) spec: LaunchSpec,
    /// What the caller sets is part of `spec`.
    is_callers: bool,
}

/// How a worker is spoken to.
pub(super) struct Dialogue {
    program: ProgramId,
    /// Whether the program is known to speak that era.
    era_is_certain: bool,
    introduced: Introduction,
    /// The worker may ask for the roots of its client, and its program does.
    wants_roots: bool,
    /// The roots of the client, if they are known.
    known_roots: Option<Arc<ClientRoots>>,
}

/// Keys by which the request's workers are known, and those of its caller with other values or other clients.
pub(super) struct Identity {
    /// Of all sessions that have the launch and the class in common, whatever the access token is.
    lasting: PoolKey,
    /// Of the workers that may have the request.
    pub(super) key: PoolKey,
    lineage: Lineage,
    /// The lineage in the other era, where the era is not certain.
    lineage_if_declined: Option<Lineage>,
    siblings: Lineage,
    roots_slot: Option<RootsSlot>,
}

impl<'a> Search<'a> {
    /// What the caller sets for the server.
    pub(super) fn own_config(&self) -> Option<&'a ClientConfig> {
        self.request.config.map(|config| &**config)
    }

    /// What is started for the request.
    ///
    /// # Errors
    /// A [`Failure`] for the caller when its config does not make a launch spec.
    pub(super) async fn launch(&self) -> Result<LaunchChoice, Failure> {
        let (resolver, request) = (&self.runtime.resolver, self.request);
        let (user, session) = (request.principal, request.session_fingerprint);
        let own = self.own_config();
        let spec = resolver.resolve(user, request.server, session, own).await?;
        // Where it makes no difference, what becomes of it is its tenant's.
        let is_callers = match own {
            None => false,
            Some(_) => {
                let plain = resolver.resolve(user, request.server, session, None).await;
                !plain.is_ok_and(|plain| plain.fingerprint() == spec.fingerprint())
            }
        };
        Ok(LaunchChoice { spec, is_callers })
    }

    /// How a worker that runs `program` is spoken to for the request.
    pub(super) fn dialogue(&self, program: ProgramId, spec: &LaunchSpec) -> Dialogue {
        let Knowledge {
            dialects, roots, ..
        } = self.knowledge;
        let (era, era_is_certain) = dialects.for_client(program, self.request.is_stateless);
        let introduced = Introduction::of(self.request, self.server, spec, era);
        let wants_roots = introduced.has_own_roots && roots.is_asking(program);
        let known_roots = self.request.known_roots.filter(|_| wants_roots);
        Dialogue {
            program,
            era_is_certain,
            wants_roots,
            known_roots: known_roots.and_then(|known| known()),
            introduced,
        }
    }

    /// The keys by which the request's workers are known.
    pub(super) fn identity(&self, spec: &LaunchSpec, dialogue: &Dialogue) -> Identity {
        let Self {
            request, server, ..
        } = *self;
        let (name, tenant) = (request.server, request.tenant());
        let introduced = &dialogue.introduced;
        // A server's introduction does not change with each access token.
        let lasting = spec.lasting_fingerprint();
        let lasting = pool_key(name, tenant, &lasting, &introduced.class, None);
        let scope = (server.share != Share::Tenant).then_some(request.session_id);
        let class = introduced.whole_class();
        let way = pool_key(name, tenant, &spec.fingerprint(), &class, scope);
        let (user, session) = (request.principal, request.session_fingerprint);
        let caller = caller_of(server, user, session, self.own_config());
        let place_of = |introduced: &Introduction| {
            let lineage = lineage(name, tenant, &caller, &introduced.whole_class(), scope);
            let has_slot = introduced.has_own_roots && server.share == Share::Tenant;
            let slot = has_slot.then(|| {
                let known = dialogue.known_roots.as_ref().map(|roots| roots.digest());
                self.knowledge.roots.slot(tenant, lineage, known)
            });
            (slot, slot.map_or(lineage, RootsSlot::lineage))
        };
        let (roots_slot, own) = place_of(introduced);
        let lineage_if_declined = (!dialogue.era_is_certain).then(|| {
            let other = introduced.handshake.era.other();
            place_of(&Introduction::of(request, server, spec, other)).1
        });
        Identity {
            lasting,
            key: roots_slot.map_or(way, |slot| slot.key(way)),
            lineage: own,
            lineage_if_declined,
            siblings: lineage(name, tenant, &caller, b"any client", scope),
            roots_slot,
        }
    }

    /// Whether only one process of the server may be there for the tenant and its config.
    fn is_one_at_a_time(&self) -> bool {
        let (name, tenant) = (self.request.server, self.request.tenant());
        let is_single_use = self.server.share == Share::Request;
        self.knowledge
            .one_at_a_time
            .holds(self.server, tenant, name)
            && !is_single_use
    }

    /// What the pool must know of the request's workers.
    pub(super) fn facts(
        &self,
        launch: &LaunchChoice,
        dialogue: &Dialogue,
        identity: &Identity,
    ) -> KeyFacts {
        let (request, server) = (self.request, self.server);
        let (config, name, tenant) = (&self.runtime.config, request.server, request.tenant());
        let settings = config.tenants.get(tenant);
        let max_of_tenant = settings.and_then(|tenant| tenant.max_workers);
        let tenant_max_workers = max_of_tenant.unwrap_or(config.pool.max_workers_per_tenant);
        let is_single_use = server.share == Share::Request;
        let is_exclusive = dialogue.introduced.is_exclusive;
        // Another request's process has nothing to do with it.
        let is_followed = |lineage: Lineage| (!is_single_use).then_some(lineage);
        let is_one_at_a_time = self.is_one_at_a_time();
        KeyFacts {
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
            lineage: is_followed(identity.lineage),
            siblings: is_followed(identity.siblings),
            one_of_siblings: is_one_at_a_time,
            lineage_if_declined: identity.lineage_if_declined.and_then(is_followed),
            caller_configured: launch.is_callers,
            exclusive: is_exclusive,
            max_requests: if is_single_use {
                1
            } else {
                server.max_requests
            },
            idle_timeout: server.idle_timeout,
            max_lifetime: server.max_lifetime,
            is_spare: false,
            spare: (dialogue.introduced.handshake.takes_spares() && launch.spec.scratch.is_some())
                .then(|| spare_key(name, &launch.spec)),
        }
    }

    /// How one of the request's workers is started; `is_one_at_a_time` as the pool was told.
    pub(super) fn plan(
        &self,
        launch: LaunchChoice,
        dialogue: Dialogue,
        identity: &Identity,
        is_one_at_a_time: bool,
        metrics: &Metrics,
    ) -> StartPlan {
        let Self {
            runtime,
            request,
            server,
            ..
        } = *self;
        let LaunchChoice { spec, is_callers } = launch;
        let handshake = dialogue.introduced.handshake;
        StartPlan {
            tenant: Some(request.tenant().clone()),
            identity: identity.lasting,
            principal: Some(request.principal.clone()),
            client: request.config.cloned(),
            is_callers,
            session: request.session_fingerprint.to_owned(),
            program: dialogue.program,
            era_is_certain: dialogue.era_is_certain,
            asks_clients: server.interactive != Interactive::Never,
            lacks_roots: dialogue.wants_roots && dialogue.known_roots.is_none(),
            roots: dialogue.known_roots,
            is_one_at_a_time,
            roots_slot: identity.roots_slot,
            ..StartPlan::new(runtime, request.server, server, spec, handshake, metrics)
        }
    }
}
