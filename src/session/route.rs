//! Where a session's requests go: the pool key, and how a worker for it is started.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::alone::Alone;
use super::catalog::Place;
use super::eras::Eras;
use super::link::Link;
use super::packages::{Installs, Start};
use super::record::Session;
use super::roots::{RootsSlot, RootsTable, SessionRoots};
use super::shared::Shared;
use crate::bridge::{ClientRoots, Era, Greeting};
use crate::config::template::Reference;
use crate::config::{Config, Interactive, Server, Share};
use crate::held::{Charge, Kind, Ledger, charged};
use crate::ids::{Lineage, PoolKey, ProgramId, ServerName, TenantId};
use crate::launch::LaunchSpec;
use crate::pool::{KeyFacts, Want, share_of_session};
use crate::protocol::{Failure, Reason};
use crate::telemetry::{Metrics, ServerMetrics};
use crate::tenancy::{
    self, ClientConfig, Principal, caller_of, lineage, policy, pool_key, program_id,
};
use crate::worker;

/// What a route takes beside what its worker is started with, in bytes.
const ROUTE_BYTES: usize = 2 << 10;

/// Everything that follows from one pool.toml; replaced whole by a reload.
#[derive(Debug)]
pub struct Setup {
    /// Grows with each reload, so that a route knows whether it is still right.
    pub generation: u64,
    /// The configuration.
    pub config: Arc<Config>,
    /// Who may come in.
    pub authenticator: crate::tenancy::Authenticator,
    /// Turns a tenant's config into launch specs.
    pub resolver: crate::tenancy::Resolver,
    programs: BTreeMap<ServerName, ProgramId>,
    /// Servers that are started with what credentials say of a user beside the name.
    with_claims: BTreeSet<ServerName>,
    /// Of the servers' installs; kept once, not once a session.
    environments: BTreeMap<ServerName, Installs>,
}

impl Setup {
    /// What follows from that configuration.
    pub fn new(
        generation: u64,
        config: Arc<Config>,
        authenticator: crate::tenancy::Authenticator,
        resolver: crate::tenancy::Resolver,
    ) -> Self {
        let named =
            |(name, server): (&ServerName, &Server)| (name.clone(), program_id(name, server));
        let with_claims = config.servers.iter().filter(|(_, server)| {
            server.references().any(|(_, reference)| {
                matches!(reference, Reference::UserEmail | Reference::UserClaim(_))
            })
        });
        let environment = |(name, server): (&ServerName, &Server)| {
            let environment = resolver.install_environment(server);
            (name.clone(), Installs::from(environment))
        };
        Self {
            generation,
            with_claims: with_claims.map(|(name, _)| name.clone()).collect(),
            environments: config.servers.iter().map(environment).collect(),
            programs: config.servers.iter().map(named).collect(),
            config,
            authenticator,
            resolver,
        }
    }

    /// Whether the server is started with what credentials say of a user beside the name.
    pub(super) fn starts_with_claims(&self, server: &ServerName) -> bool {
        self.with_claims.contains(server)
    }

    /// Whether not every caller gets all of a server's tools as they are, or the server is told who
    /// calls.
    pub(super) fn is_selective(&self, server: &ServerName) -> bool {
        let policy = &self.config.policy;
        let named = self.config.servers.get(server);
        policy.denies_by_default
            || !policy.rules.is_empty()
            || named.is_some_and(|server| {
                !server.tools.offers_everything()
                    || !server.bind.is_empty()
                    || !server.identity.is_empty()
            })
    }

    /// The server of that name, if it is there for that caller.
    ///
    /// # Errors
    /// [`Reason::NotFound`], whether it is not there at all or not for them.
    pub fn server_for(&self, principal: &Principal, name: &str) -> Result<ServerName, Failure> {
        let found = self.config.server_name(name);
        found
            .filter(|_| policy::server(&self.config.policy, principal, name).is_allowed)
            .ok_or_else(|| Failure::new(Reason::NotFound, format!("no server `{name}`")))
    }

    /// What that server runs.
    pub(super) fn program(&self, server: &ServerName) -> Option<ProgramId> {
        self.programs.get(server).copied()
    }
}

/// How one worker is started and spoken to; what the pool hands to its launcher.
#[derive(Debug)]
pub struct Order {
    /// The server it is one of.
    pub server: ServerName,
    /// Whose it is; `None` for a spare, which is nobody's yet.
    pub tenant: Option<TenantId>,
    /// What its answers about itself depend on: its pool key, whichever session it belongs to.
    pub identity: PoolKey,
    /// The caller it was first started for, what they set themselves, and a fingerprint of the
    /// session: what its launch spec may depend on. `None` for a spare.
    pub principal: Option<Principal>,
    /// See [`Order::principal`].
    pub client: Option<Arc<ClientConfig>>,
    /// What the caller sets is part of what is started: with what its tenant has configured alone, something else is.
    pub is_callers: bool,
    /// See [`Order::principal`].
    pub session: String,
    /// What to start.
    pub spec: LaunchSpec,
    /// Whether that is a package's program, and how it is had.
    pub start: Start,
    /// What it runs.
    pub program: ProgramId,
    /// What to tell it first.
    pub greeting: Greeting,
    /// Whether it is known to understand that.
    pub era_is_certain: bool,
    /// Its clients may be asked something.
    pub asks_clients: bool,
    /// Roots of the clients that it serves, for a program that asks for them.
    pub(super) roots: Option<Arc<ClientRoots>>,
    /// The program asks for its client's roots, and they are not known.
    pub lacks_roots: bool,
    /// No other process of its tenant and server with the same launch spec is there.
    pub(super) is_alone: bool,
    /// What tells it apart from workers with other roots, if its sessions have some.
    pub(super) roots_slot: Option<RootsSlot>,
    /// How long it may take to answer that.
    pub start_timeout: Duration,
    /// How long it may take over a request.
    pub request_timeout: Duration,
    /// How long a request may take, whatever its progress.
    pub max_request_time: Duration,
    /// Bounds of its pipes.
    pub options: worker::Options,
    /// Bytes of memory it may hold.
    pub max_memory: Option<u64>,
    /// How long what it said of itself is remembered; `None`: not at all.
    pub catalog_age: Option<Duration>,
    /// A worker is started when a client connects, though its answer is known.
    pub starts_on_connect: bool,
    /// Losing it ends its sessions.
    pub stateful: bool,
    /// It serves more than one request: sessions keep their standing with it.
    pub keeps_seats: bool,
    /// Where its doings are counted.
    pub metrics: Arc<ServerMetrics>,
}

/// Where a route is charged, and what makes room for it: ends something of its tenant that nobody uses, and
/// says whether there was anything.
#[derive(Clone, Copy)]
pub(super) struct Room<'a> {
    pub(super) ledger: &'a Ledger,
    pub(super) make: &'a (dyn Fn() -> bool + Send + Sync),
}

/// A session's way to its workers.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) generation: u64,
    /// What was known of the eras.
    pub(super) edition: u64,
    pub(super) share: Share,
    pub(super) key: PoolKey,
    pub(super) facts: Arc<KeyFacts>,
    pub(super) order: Arc<Order>,
    /// It is worked out again when it is next gone.
    reconsidered: AtomicBool,
    _charge: Charge,
}

impl Route {
    /// Has it worked out again when it is next gone: what is started may be something else by now.
    pub(super) fn reconsider(&self) {
        self.reconsidered.store(true, Ordering::Relaxed);
    }

    /// Whether it is to be worked out again.
    pub(super) fn is_reconsidered(&self) -> bool {
        self.reconsidered.load(Ordering::Relaxed)
    }

    /// Whether its workers are started with the access token that is in force, if they take one.
    pub(super) fn has_fresh_token(&self, setup: &Setup, session: &Session) -> bool {
        let (tenant, server) = (session.tenant(), &session.server);
        setup
            .resolver
            .has_fresh_token(tenant, server, &self.order.spec)
    }

    /// How its workers are spoken to.
    pub(super) fn era(&self) -> Era {
        self.order.greeting.era
    }

    /// Works out the way of a session's requests under that setup, with what the caller sets.
    ///
    /// # Errors
    /// A [`Failure`] for the caller when its config does not make a launch spec, or its tenant holds too
    /// much.
    pub(super) async fn find(
        setup: &Setup,
        session: &Session,
        client: Option<&Arc<ClientConfig>>,
        (eras, roots, alone): (&Eras, &RootsTable, &Alone),
        (metrics, room): (&Metrics, Room<'_>),
    ) -> Result<Self, Failure> {
        let config = &setup.config;
        let (name, tenant) = (&session.server, session.tenant());
        let unknown = || Failure::new(Reason::NotFound, format!("no server `{name}`"));
        let server = config.servers.get(name).ok_or_else(unknown)?;
        let user = &session.principal;
        let fingerprint = session.id.fingerprint();
        let own = client.map(|client| &**client);
        let resolved = setup.resolver.resolve(user, name, &fingerprint, own);
        let spec = resolved.await?;
        // Where it makes no difference, what becomes of it is its tenant's.
        let is_callers = match own {
            None => false,
            Some(_) => {
                let plain = setup.resolver.resolve(user, name, &fingerprint, None).await;
                !plain.is_ok_and(|plain| plain.fingerprint() == spec.fingerprint())
            }
        };
        // What it is started with, and with what the caller sets once more.
        let bytes = ROUTE_BYTES + spec.bytes() + own.map_or(0, ClientConfig::bytes);
        let account = room.ledger.account(tenant);
        let charge = charged(&account, (Kind::Route, bytes), room.make).map_err(Failure::from)?;
        let edition = eras.edition() + roots.edition() + alone.edition();
        let program = setup.program(name).ok_or_else(unknown)?;
        let (era, era_is_certain) = eras.for_client(program, session.is_stateless);
        let introduced = Introduction::of(session, server, &spec, era);
        let is_exclusive = introduced.is_exclusive;
        // What it says of itself does not change with each access token.
        let lasting = spec.lasting_fingerprint();
        let identity = pool_key(name, tenant, &lasting, &introduced.class, None);
        let scope = (server.share != Share::Tenant).then(|| session.id.as_str());
        let wants_roots = introduced.has_own_roots && roots.is_asking(program);
        let known_roots = session
            .roots()
            .filter(|_| wants_roots)
            .and_then(SessionRoots::known);
        let class = introduced.whole_class();
        let way = pool_key(name, tenant, &spec.fingerprint(), &class, scope);
        let caller = caller_of(server, user, &fingerprint, own);
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
            let other = Introduction::of(session, server, &spec, era.other());
            place_of(&other).1
        });
        let settings = config.tenants.get(tenant);
        let max_of_tenant = settings.and_then(|tenant| tenant.max_workers);
        let tenant_max_workers = max_of_tenant.unwrap_or(config.pool.max_workers_per_tenant);
        let is_single_use = server.share == Share::Request;
        // Another request's process has nothing to do with it.
        let is_followed = |lineage: &Lineage| (!is_single_use).then_some(*lineage);
        let is_alone = alone.holds(server, tenant, name) && !is_single_use;
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
            // Whose state lives in one process cannot be served by another.
            max_workers_per_key: if server.stateful || is_alone {
                1
            } else if is_exclusive && session.is_stateless {
                // Each serves one call at a time, and any can serve any.
                tenant_max_workers.max(server.max_workers_per_key)
            } else {
                server.max_workers_per_key
            },
            lineage: is_followed(&lineage),
            siblings: is_followed(&siblings),
            one_of_siblings: is_alone,
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
            // A spare was told something that only the older era has.
            spare: (era == Era::Initialize && spec.scratch.is_some())
                .then(|| spare_key(name, &spec)),
        };
        let order = Order {
            tenant: Some(tenant.clone()),
            identity,
            principal: Some(user.clone()),
            client: client.cloned(),
            is_callers,
            session: fingerprint,
            program,
            era_is_certain,
            asks_clients: server.interactive != Interactive::Never,
            lacks_roots: wants_roots && known_roots.is_none(),
            roots: known_roots,
            is_alone,
            roots_slot,
            ..Order::new(setup, name, server, (spec, introduced.greeting), metrics)
        };
        Ok(Self {
            generation: setup.generation,
            edition,
            share: server.share,
            key,
            facts: Arc::new(facts),
            order: Arc::new(order),
            reconsidered: AtomicBool::new(false),
            _charge: charge,
        })
    }
}

/// How a worker for a session is spoken to in an era.
struct Introduction {
    greeting: Greeting,
    /// It serves one caller's requests at a time.
    is_exclusive: bool,
    /// Its clients have roots, and it may ask for them.
    has_own_roots: bool,
    /// What tells it apart from workers that are told something else, roots aside.
    class: Vec<u8>,
}

impl Introduction {
    fn of(session: &Session, server: &Server, spec: &LaunchSpec, era: Era) -> Self {
        let greeting = match (era, server.share) {
            (Era::Stateless, _) => Greeting::stateless(),
            (Era::Initialize, Share::Tenant) => Greeting::shared(&session.client),
            (Era::Initialize, Share::Session | Share::Request) => {
                Greeting::exclusive(&session.client)
            }
        };
        let greeting = match server.interactive {
            Interactive::Never => greeting.without_questions(),
            Interactive::Exclusive | Interactive::Always => greeting,
        };
        let greeting = greeting.with_roots(&spec.roots);
        let is_exclusive = match era {
            Era::Initialize => {
                greeting.is_interactive() && (server.share == Share::Tenant || session.is_stateless)
            }
            // What it asks, it asks in the answer to a request; only its log lines name none. A caller without
            // session has capabilities where it wants log lines.
            Era::Stateless => session.is_stateless && !session.client.capabilities.is_empty(),
        };
        let mut class = greeting.class();
        if era == Era::Stateless && is_exclusive {
            class.extend_from_slice(b"logs");
        }
        let has_own_roots = session.roots().is_some()
            && era == Era::Initialize
            && server.interactive != Interactive::Never
            && spec.roots.is_empty();
        Self {
            greeting,
            is_exclusive,
            has_own_roots,
            class,
        }
    }

    /// The class of its pool key: clients with roots share no worker with callers of whom none are known.
    fn whole_class(&self) -> Vec<u8> {
        let mut class = self.class.clone();
        if self.has_own_roots {
            class.extend_from_slice(b"roots");
        }
        class
    }
}

/// The spares of a server, as the pool keeps them; `None` for a server that has none.
///
/// # Errors
/// A [`Failure`] when its config does not make a launch spec.
pub(super) fn spares(
    setup: &Setup,
    name: &ServerName,
    metrics: &Metrics,
) -> Result<Option<Want<Order>>, Failure> {
    let config = &setup.config;
    let server = config.servers.get(name);
    let (Some(server), Some(spec)) = (server, setup.resolver.resolve_spare(name)?) else {
        return Ok(None);
    };
    let key = spare_key(name, &spec);
    let facts = KeyFacts {
        // No tenant's name is empty.
        tenant: TenantId::new(""),
        tenant_weight: 0,
        tenant_max_workers: usize::MAX,
        server: name.clone(),
        server_max_workers: server.max_workers,
        max_in_flight: 1,
        max_of_session: 1,
        max_workers_per_key: server.min_idle,
        lineage: Some(lineage(name, &TenantId::new(""), b"", b"spare", None)),
        lineage_if_declined: None,
        siblings: None,
        one_of_siblings: false,
        caller_configured: false,
        exclusive: false,
        max_requests: 0,
        idle_timeout: Duration::MAX,
        max_lifetime: server.max_lifetime,
        is_spare: true,
        spare: None,
    };
    // What it is told of its clients waits until it has some.
    let greeting = Greeting {
        capabilities: serde_json::Map::new(),
        client_info: serde_json::Value::Null,
        roots: vec![],
        era: Era::Initialize,
    };
    let order = Order::new(setup, name, server, (spec, greeting), metrics);
    Ok(Some(Want {
        key,
        facts: Arc::new(facts),
        claim: 0.into(),
        spec: Arc::new(order),
    }))
}

fn spare_key(name: &ServerName, spec: &LaunchSpec) -> PoolKey {
    pool_key(
        name,
        &TenantId::new(""),
        &spec.fingerprint(),
        b"spare",
        None,
    )
}

impl Order {
    /// For nobody yet.
    fn new(
        setup: &Setup,
        name: &ServerName,
        server: &Server,
        (spec, greeting): (LaunchSpec, Greeting),
        metrics: &Metrics,
    ) -> Self {
        let config = &setup.config;
        Self {
            server: name.clone(),
            start: Start::of(server, &spec, setup.environments.get(name)),
            tenant: None,
            identity: spare_key(name, &spec),
            principal: None,
            client: None,
            is_callers: false,
            session: String::new(),
            program: program_id(name, server),
            spec,
            greeting,
            era_is_certain: false,
            asks_clients: true,
            roots: None,
            lacks_roots: false,
            is_alone: false,
            roots_slot: None,
            start_timeout: server.start_timeout,
            request_timeout: server.request_timeout,
            max_request_time: server.max_request_time,
            options: worker::Options {
                max_message: server.max_message,
                ..worker::Options::default()
            },
            // What a process holds in its state may show in its lists.
            catalog_age: config.pool.catalog_age.filter(|_| !server.stateful),
            starts_on_connect: server.starts_on_connect,
            max_memory: server.limits.memory,
            stateful: server.stateful,
            keeps_seats: server.share != Share::Request,
            metrics: metrics.server(name),
        }
    }

    /// Where what it says of itself is remembered; `None` for a spare, which is nobody's.
    pub(super) fn catalog_place(&self) -> Option<Place<'_>> {
        Some((self.tenant.as_ref()?, self.identity))
    }

    /// How long that is remembered, and where; `None` if it is not.
    pub(super) fn remembered(&self) -> Option<(Place<'_>, Duration)> {
        Some((self.catalog_place()?, self.catalog_age?))
    }

    /// What a process is asked first.
    pub(super) fn first_question(&self) -> &'static str {
        match self.greeting.era {
            _ if self.is_spare() => "ping",
            Era::Initialize => "initialize",
            Era::Stateless => "server/discover",
        }
    }

    /// Whether it is a spare, of no tenant yet.
    pub fn is_spare(&self) -> bool {
        self.tenant.is_none()
    }

    /// Whose it is, for people.
    pub fn whose(&self) -> &str {
        self.tenant.as_ref().map_or("(spare)", TenantId::as_str)
    }

    /// A stateful server's worker is kept while sessions subscribe to its resources: another one
    /// could not tell them what they want to know.
    pub(super) fn pin_while_subscribed(&self, link: &Link, shared: &Shared) {
        if self.stateful {
            shared.set_pinned(link.id(), link.subscribers() > 0);
        }
    }
}
