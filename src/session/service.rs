//! What the front asks of the sessions.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::directory::{MAX_SESSIONS, TooMany};
use super::ended::Ended;
use super::eras::Eras;
use super::keep::{self, Records};
use super::launchpad::Launchpad;
use super::link::Link;
use super::packages;
use super::record::{Session, SessionId};
use super::route::{self, Setup};
use super::rules::Finding;
use super::shared::{Happening, Newcomer, Shared, Watcher};
use crate::bridge::{AskRef, ClientHello, Hello, advertised};
use crate::held::{self, Ledger};
use crate::ids::{ServerName, TenantId, WorkerId};
use crate::pool::{Limits, Observer, Pool};
use crate::protocol::{Envelope, Failure, Reason, Revision};
use crate::store::SessionRow;
use crate::telemetry::Metrics;
use crate::tenancy::{ClientConfig, Principal};
use crate::worker::Guardian;

/// The sessions and the pool of workers that serve them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sessions {
    pub(super) shared: Arc<Shared>,
}

/// A handle that does not keep the sessions alive.
#[derive(Clone, Debug)]
pub struct WeakSessions(Weak<Shared>);

impl WeakSessions {
    /// The sessions, if they are still there.
    pub fn upgrade(&self) -> Option<Sessions> {
        self.0.upgrade().map(|shared| Sessions { shared })
    }
}

/// A new session and what to tell its client.
#[derive(Debug)]
pub struct Initialized {
    /// The session.
    pub session: Arc<Session>,
    /// The raw `initialize` result.
    pub result: Bytes,
}

impl Sessions {
    /// The sessions of an earlier run, if any were kept, and a pool without workers.
    pub fn new(
        setup: Arc<Setup>,
        limits: Limits,
        guardian: Guardian,
        metrics: Arc<Metrics>,
        observer: Arc<dyn Observer>,
        watcher: Arc<dyn Watcher>,
        records: Records,
    ) -> Self {
        let Records {
            kept,
            trace,
            packages,
        } = records;
        let (store, rows, eras) = match kept {
            Some(kept) => (
                Some(kept.sessions),
                kept.session_rows,
                Eras::new(Some(kept.eras), kept.era_rows),
            ),
            None => (None, vec![], Eras::default()),
        };
        let shared = Shared::new(
            setup,
            guardian,
            metrics,
            watcher,
            (store, eras),
            (trace, packages),
        );
        let shared = Arc::new(shared);
        shared.directory.add_dormant(rows, &shared.ledger);
        let launchpad = Arc::new(Launchpad::new(Arc::downgrade(&shared)));
        shared.set_pool(Pool::new(limits, launchpad, observer));
        let sessions = Self { shared };
        sessions.drop_unserved();
        // Whose time ended while stdiopool did not run is not found again, not even at once.
        let timeout = sessions.setup().config.pool.session_timeout;
        sessions.forget_dormant(|row| keep::is_forgotten(row, timeout));
        sessions.stock();
        sessions
    }

    /// A handle that does not keep them alive.
    pub fn downgrade(&self) -> WeakSessions {
        WeakSessions(Arc::downgrade(&self.shared))
    }

    /// The pool that serves the sessions.
    pub fn pool(&self) -> &Pool<Launchpad> {
        self.shared.pool()
    }

    /// What follows from the current pool.toml.
    pub fn setup(&self) -> Arc<Setup> {
        self.shared.setup()
    }

    /// Where things are counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// What is held for tenants.
    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// Puts a new pool.toml in force. Sessions of servers and tenants that are gone end; the
    /// others go on, with workers started anew where what they are started with has changed.
    pub fn replace_setup(&self, setup: Arc<Setup>) {
        let servers = |setup: &Setup| -> Vec<_> { setup.config.servers.keys().cloned().collect() };
        let before = servers(&self.setup());
        self.shared.replace_setup(Arc::clone(&setup));
        let config = &setup.config;
        self.shared
            .end_sessions(|session| session.ended_under(config));
        self.drop_unserved();
        self.stock();
        if before != servers(&setup) {
            self.offer_has_changed();
        }
    }

    /// Whether spares can be started as that order says. If their package has to be installed first,
    /// they are once it is.
    fn is_installed_or_later(&self, order: &route::Order) -> bool {
        let Some(slot) = self
            .shared
            .slot(order)
            .filter(|slot| slot.settled().is_none())
        else {
            return true;
        };
        let (sessions, generation) = (self.clone(), self.setup().generation);
        let installer = &self.shared.installer;
        // The operator's own, of each server by itself.
        let whose = format!("(spare) {}", order.server);
        installer.ensure(&slot, &whose, &self.shared.package_watcher());
        self.shared.tasks.spawn(async move {
            packages::until_settled(&slot).await;
            // A reload meanwhile has looked at the spares itself.
            if sessions.setup().generation == generation {
                sessions.stock();
            }
        });
        false
    }

    /// Tells the pool which spares to keep.
    fn stock(&self) {
        let setup = self.setup();
        let names = setup.config.servers.keys();
        let spares = names.filter_map(|name| {
            route::spares(&setup, name, self.metrics()).unwrap_or_else(|failure| {
                tracing::error!(server = %name, "no spares can be kept: {failure}");
                None
            })
        });
        let spares = spares.filter(|spare| self.is_installed_or_later(&spare.spec));
        self.pool().stock(spares.collect());
    }

    /// Forgets the sessions of an earlier run that cannot be taken up: their server or tenant is
    /// gone, or the process that held their state.
    fn drop_unserved(&self) {
        let config = Arc::clone(&self.setup().config);
        self.forget_dormant(|row| {
            let tenant = TenantId::new(row.tenant.clone());
            let server = config.server_name(&row.server);
            let server = server.and_then(|name| config.servers.get(&name));
            let is_with_all = row.server == ServerName::all().as_str();
            let is_lost = !is_with_all && server.is_none_or(|server| server.stateful);
            !config.has_tenant(&tenant) || is_lost
        });
    }

    /// Every session that has been used since stdiopool started.
    pub fn all(&self) -> Vec<Arc<Session>> {
        self.shared.directory.all()
    }

    /// How many sessions there are.
    pub fn count(&self) -> usize {
        self.shared.directory.len()
    }

    /// Every worker, those being started or stopped included.
    pub fn links(&self) -> Vec<Arc<Link>> {
        self.shared.links()
    }

    /// The worker of that id.
    pub fn link(&self, id: WorkerId) -> Option<Arc<Link>> {
        self.shared.link(id)
    }

    /// Opens a session: finds or starts a worker, whose own `initialize` result is the answer.
    ///
    /// # Errors
    /// Whatever keeps a worker from being had, as a [`Failure`] for the caller.
    ///
    /// # Cancel-Safety
    /// A dropped call leaves no session behind; a worker whose start was begun stays for the next.
    pub async fn initialize(
        &self,
        principal: Principal,
        server: ServerName,
        client: ClientHello,
    ) -> Result<Initialized, Failure> {
        self.initialize_with(principal, server, client, None).await
    }

    /// The same for a client that sets something for its server. If its server cannot be started
    /// without more of that, the session is opened all the same: that can come with the requests.
    ///
    /// # Errors
    /// As [`Sessions::initialize`].
    ///
    /// # Cancel-Safety
    /// As [`Sessions::initialize`].
    pub async fn initialize_with(
        &self,
        principal: Principal,
        server: ServerName,
        client: ClientHello,
        config: Option<Arc<ClientConfig>>,
    ) -> Result<Initialized, Failure> {
        let id = SessionId::random().map_err(|error| {
            Failure::new(
                Reason::Internal,
                format!("no randomness for a session id: {error}"),
            )
        })?;
        self.initialize_as(id, (principal, server), client, config)
            .await
    }

    /// Opens a session under a name that was made for it before.
    ///
    /// # Errors
    /// As [`Sessions::initialize`].
    ///
    /// # Cancel-Safety
    /// As [`Sessions::initialize`].
    pub async fn initialize_as(
        &self,
        id: SessionId,
        (principal, server): (Principal, ServerName),
        client: ClientHello,
        config: Option<Arc<ClientConfig>>,
    ) -> Result<Initialized, Failure> {
        let setup = self.setup();
        if server != ServerName::all() {
            setup.server_for(&principal, server.as_str())?;
        } else if let Some(config) = &config {
            let checked = setup.resolver.check_parts(&principal.tenant, config);
            checked.await?;
        }
        let max_of_tenant = setup.config.pool.max_sessions_per_tenant;
        let directory = &self.shared.directory;
        directory
            .has_room(&principal.tenant, max_of_tenant)
            .map_err(|why| too_many_sessions(why, max_of_tenant))?;
        let no = self.shared.directory.next_no();
        let asked = client.protocol_version.clone();
        let account = self.shared.ledger.account(&principal.tenant);
        let charge = account.charge(held::Kind::Session, Session::weight(&client))?;
        let session = Session::new(no, id, principal, server, client, charge);
        let session = Arc::new(session.with_config(config));
        let newcomer = Newcomer::enter(&self.shared, &session)?;
        let hello = if session.is_with_all() {
            self.hello_of_all(&session.principal)?
        } else {
            self.hello_if_possible(&session).await?
        };
        let revision = Revision::negotiate(&asked, hello.revision);
        session.agree(revision);
        directory
            .insert(Arc::clone(&session), max_of_tenant)
            .map_err(|why| too_many_sessions(why, max_of_tenant))?;
        drop(newcomer);
        // One that ended before the table had it is in it for ever.
        if let Some(why) = session.ended() {
            directory.remove(&session);
            return Err(session.failure(why));
        }
        if let Some(route) = session.route() {
            self.shared.directory.set_keys(no, vec![route.key]);
        }
        if let Some(store) = &self.shared.store
            && self.may_be_kept(&session)
        {
            let row = keep::row_of(&session);
            let account = session.account();
            let charge = account.charge_anyway(held::Kind::Store, row.weight());
            if let Err(error) = store.insert(row, charge).await {
                tracing::warn!(%error, "a session will not survive a restart");
            }
        }
        self.shared
            .watcher
            .happened(Happening::SessionOpened(&session));
        let result = hello.result_for(revision);
        let result = self.advertised(&session, result);
        Ok(Initialized { session, result })
    }

    /// Whether a session can be taken up again after a restart: its state is in no process, and
    /// nothing of it is a secret, which is not written down.
    fn may_be_kept(&self, session: &Session) -> bool {
        let setup = self.setup();
        let server = setup.config.servers.get(&session.server);
        let config = session.config.as_ref();
        let may_be_kept = |config| setup.resolver.may_be_kept(&session.server, config);
        (session.is_with_all() || server.is_some_and(|server| !server.stateful))
            && config.is_none_or(|config| may_be_kept(config))
    }

    /// What a server says of itself, and what its clients may set for it.
    fn advertised(&self, session: &Session, result: Bytes) -> Bytes {
        match self.advert(session) {
            Some(schema) => advertised(&result, &schema.to_string()).unwrap_or(result),
            None => result,
        }
    }

    /// What a worker for this session says of itself, or would, as far as can be known: a server
    /// that waits for values of its client has none yet.
    pub(super) async fn hello_if_possible(&self, session: &Arc<Session>) -> Result<Hello, Failure> {
        // What it could be started with, and ended because of, is not waited for.
        let failure = match self.route(session, None).await {
            Err(failure) if failure.reason == Reason::ConfigInvalid => failure,
            Err(failure) => return Err(failure),
            Ok(_) => return self.hello(session).await,
        };
        if !self.awaits_client(&self.setup(), session).await {
            return Err(failure);
        }
        Hello::unknown(session.server.as_str()).map_err(|_| failure)
    }

    /// Whether nothing keeps the session's server from being started but what its client may still set.
    pub(super) async fn awaits_client(&self, setup: &Setup, session: &Session) -> bool {
        let (tenant, config) = (session.tenant(), session.config.as_deref());
        let resolver = &setup.resolver;
        resolver
            .awaits_client(tenant, &session.server, config)
            .await
    }

    /// What a worker for this session says of itself: as remembered, or from one that is there or
    /// started for it.
    pub(super) async fn hello(&self, session: &Arc<Session>) -> Result<Hello, Failure> {
        session.unless_ended(self.find_hello(session)).await
    }

    async fn find_hello(&self, session: &Arc<Session>) -> Result<Hello, Failure> {
        let order = Arc::clone(&self.route(session, None).await?.order);
        let known = order
            .remembered()
            .and_then(|(place, age)| self.shared.catalog.hello(place, age));
        if let Some(known) = known {
            self.shared.metrics.catalog_hit();
            if order.starts_on_connect {
                let (sessions, session) = (self.clone(), Arc::clone(session));
                self.shared.tasks.spawn(async move {
                    // If it does not start, the first call will say why.
                    let mut waited = Duration::ZERO;
                    let _started = sessions.lease(&session, None, &mut waited).await;
                });
            }
            return Ok(known);
        }
        let mut waited = Duration::ZERO;
        let (_, lease) = self.lease(session, None, &mut waited).await?;
        lease.worker().hello().ok_or_else(|| {
            let why = "a worker was ready without having said hello";
            Failure::new(Reason::Internal, why)
        })
    }

    /// The session of that id, if it is this principal's and talks to this server.
    pub fn find(
        &self,
        id: &str,
        principal: &Principal,
        server: &ServerName,
    ) -> Option<Arc<Session>> {
        let directory = &self.shared.directory;
        directory
            .find(id, principal, server)
            .or_else(|| directory.revive(id, principal, server, &self.shared.ledger))
    }

    /// Takes a listener in: its mailbox gets what belongs to it.
    pub(super) fn take_in_listener(&self, session: &Arc<Session>) -> Result<(), Failure> {
        let max_of_tenant = self.setup().config.pool.max_sessions_per_tenant;
        let directory = &self.shared.directory;
        directory
            .insert(Arc::clone(session), max_of_tenant)
            .map_err(|why| too_many_sessions(why, max_of_tenant))
    }

    /// Passes a session's notification on to the workers at which it has a seat. None is started
    /// for it.
    pub fn notification(&self, session: &Session, envelope: &Envelope<'_>) {
        let method = envelope.method.as_deref();
        let is_of_roots = method == Some("notifications/roots/list_changed");
        if is_of_roots {
            self.roots_changed(session, None);
        }
        for link in session.seats().into_iter().filter_map(|id| self.link(id)) {
            if !is_of_roots || !self.roots_changed(session, Some(&link)) {
                link.notification(session.no, envelope);
            }
        }
        let members: Vec<_> = session.members.lock().values().cloned().collect();
        for member in members {
            self.notification(&member, envelope);
        }
    }

    /// Passes a session's answer on to the worker that asked. Says whether the session was asked.
    pub fn answer(&self, session: &Session, envelope: &Envelope<'_>) -> bool {
        let ask = envelope.id.and_then(|id| AskRef::parse(id.get()));
        if let Some(taken) = ask.and_then(|ask| self.answered_roots(session, ask, envelope)) {
            return taken;
        }
        let Some((ask, link)) = ask.and_then(|ask| Some((ask, self.link(ask.worker)?))) else {
            return false;
        };
        // Of all servers, the one that asked.
        let member = session.members.lock().get(&link.order().server).cloned();
        let asked = member.as_deref().unwrap_or(session);
        let is_of_roots = link.is_about_roots(ask);
        let taken = link.answer(asked.no, ask, envelope);
        if taken && is_of_roots {
            self.note_roots(asked, &link, envelope);
        }
        taken
    }

    /// What is wrong with rules about tools, and the servers with rules whose tools nobody has listed yet.
    pub fn rule_findings(&self) -> (Vec<Finding>, Vec<ServerName>) {
        self.shared.tools.told(&self.setup().config)
    }

    /// Records what a worker holds, for `stdiopool tune`.
    pub fn record_memory(&self, server: &ServerName, bytes: u64, asleep: bool) {
        if let Some(trace) = &self.shared.trace {
            trace.memory(server, bytes, asleep);
        }
    }

    /// Ends a session.
    pub fn end(&self, session: &Arc<Session>) -> bool {
        self.shared.end_session(session)
    }

    /// Waits until what has happened to sessions so far is safe from the death of this process.
    pub async fn written(&self) {
        self.note_uses(Duration::ZERO).await;
    }

    /// Ends the sessions that nothing has used for `timeout`; returns how many.
    pub fn expire(&self, timeout: Duration) -> usize {
        let now = Instant::now();
        self.shared.forget_idle_callers(timeout);
        let ended = self
            .all()
            .iter()
            // A member ends with its whole.
            .filter(|session| session.membership.is_none())
            .filter(|session| session.idle_for(now).is_some_and(|idle| idle >= timeout))
            .filter(|session| self.end(session))
            .count();
        ended + self.forget_dormant(|row| keep::is_forgotten(row, timeout))
    }

    /// Writes down when the sessions were last used, of those that were within `period`.
    pub async fn note_uses(&self, period: Duration) {
        let Some(store) = &self.shared.store else {
            return;
        };
        let used = keep::recent_uses(&self.all(), period);
        if let Err(error) = store.touch(used).await {
            tracing::warn!(%error, "when sessions were last used is not saved");
        }
    }

    /// Ends all sessions of a tenant, those that a restart left behind included.
    pub fn end_of_tenant(&self, tenant: &TenantId) {
        self.shared
            .end_sessions(|session| (session.tenant() == tenant).then_some(Ended::TenantRemoved));
        self.forget_dormant(|row| row.tenant == tenant.as_str());
    }

    fn forget_dormant(&self, is_meant: impl Fn(&SessionRow) -> bool) -> usize {
        let dropped = self.shared.directory.drop_dormant(is_meant);
        for id in &dropped {
            if let Some(store) = &self.shared.store {
                store.remove(*id);
            }
        }
        dropped.len()
    }

    /// Ends the calls that wait for another request of their clients.
    pub fn end_suspended(&self) {
        self.shared.waiting.clear();
    }

    /// Closes every session's own stream, so that connections can end.
    pub fn close_streams(&self) {
        for session in self.all() {
            session.outbox.close();
        }
    }

    /// Waits until every worker's task has ended. To be called after the pool has stopped them.
    pub async fn join(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

fn too_many_sessions(why: TooMany, max_of_tenant: usize) -> Failure {
    let (reason, message) = match why {
        TooMany::InAll => (
            Reason::PoolExhausted,
            format!(
                "there are {MAX_SESSIONS} sessions already (lower `pool.session_timeout` so that forgotten ones end sooner)"
            ),
        ),
        TooMany::OfTenant => (
            Reason::TenantLimit,
            format!(
                "this tenant has {max_of_tenant} sessions already (end some with DELETE, or raise `pool.max_sessions_per_tenant`)"
            ),
        ),
    };
    Failure::new(reason, message).retry_after(Duration::from_secs(60))
}

/// What a client with an unknown session id is told: to initialize again (basic/transports,
/// "Session Management").
pub(crate) fn session_not_found() -> Failure {
    Failure::new(
        Reason::NotFound,
        "no such session (it ended or never was; send `initialize` again)",
    )
}
