//! The way of a session's requests: the pool key, what the pool must know of it, and how a worker for it is started.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::knowledge::Knowledge;
use super::plan::StartPlan;
use super::request::RouteRequest;
use super::runtime_config::RuntimeConfig;
use super::search::Search;
use crate::bridge::Era;
use crate::config::Share;
use crate::held::{Charge, Kind, Ledger, charged};
use crate::ids::{PoolKey, ServerName, TenantId};
use crate::pool::KeyFacts;
use crate::protocol::{Failure, Reason};
use crate::telemetry::Metrics;
use crate::tenancy::ClientConfig;

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

    /// Whether workers of the route are started with the access token that is in force, if they take one.
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

    /// The era in which workers of the route are spoken to.
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
        metrics: &Metrics,
        room: Room<'_>,
    ) -> Result<Self, Failure> {
        let (config, name) = (&runtime.config, request.server);
        let unknown = || Failure::new(Reason::NotFound, format!("no server `{name}`"));
        let server = config.servers.get(name).ok_or_else(unknown)?;
        let search = Search {
            runtime,
            request,
            knowledge,
            server,
        };
        let launch = search.launch().await?;
        // The bytes of what a worker is started with, and of what the caller sets once more.
        let own = search.own_config().map_or(0, ClientConfig::bytes);
        let bytes = ROUTE_BYTES + launch.spec.bytes() + own;
        let account = room.ledger.account(request.tenant());
        let charge = charged(&account, Kind::Route, bytes, room.make).map_err(Failure::from)?;
        // First: what is learnt from here on has the route worked out again.
        let edition = knowledge.edition();
        let program = runtime.program(name).ok_or_else(unknown)?;
        let dialogue = search.dialogue(program, &launch.spec);
        let identity = search.identity(&launch.spec, &dialogue);
        let facts = search.facts(&launch, &dialogue, &identity);
        let is_one_at_a_time = facts.one_of_siblings;
        let plan = search.plan(launch, dialogue, &identity, is_one_at_a_time, metrics);
        Ok(Self {
            generation: runtime.generation,
            edition,
            share: server.share,
            key: identity.key,
            facts: Arc::new(facts),
            plan: Arc::new(plan),
            reconsidered: AtomicBool::new(false),
            _charge: charge,
        })
    }
}
