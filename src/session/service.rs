//! What the front asks of the sessions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::json;
use tokio::time::Instant;

use super::directory::{MAX_SESSIONS, TooMany};
use super::eras::Eras;
use super::exchange::Exchange;
use super::keep::{self, Records};
use super::launchpad::Launchpad;
use super::link::{Asked, CallRefused, Called, Link};
use super::record::{Session, SessionId};
use super::route::{self, Route, Setup};
use super::shared::{Happening, Shared, Watcher};
use super::stateless;
use crate::bridge::{AskRef, ClientHello, Era, Hello, Listing, asked_level, called_tool};
use crate::config::Share;
use crate::ids::{ServerName, TenantId, WorkerId};
use crate::pool::{Claim, Lease, Limits, Observer, Pool, Want, Warmth};
use crate::protocol::{Envelope, Failure, Method, Reason, Revision, code};
use crate::store::SessionRow;
use crate::telemetry::Metrics;
use crate::tenancy::Principal;
use crate::worker::Guardian;

/// How often a call is offered to another worker because the one it got had just ended. Nothing
/// of it had reached that one, so that offering it again is safe.
const MAX_OFFERS: usize = 3;

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
        let Records { kept, trace } = records;
        let (store, rows, eras) = match kept {
            Some(kept) => (
                Some(kept.sessions),
                kept.session_rows,
                Eras::new(Some(kept.eras), kept.era_rows),
            ),
            None => (None, vec![], Eras::default()),
        };
        let shared = Shared::new(setup, guardian, metrics, watcher, store, eras, trace);
        let shared = Arc::new(shared);
        shared.directory.add_dormant(rows);
        let launchpad = Arc::new(Launchpad::new(Arc::downgrade(&shared)));
        shared.set_pool(Pool::new(limits, launchpad, observer));
        let sessions = Self { shared };
        sessions.drop_unserved();
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

    /// Puts a new pool.toml in force. Sessions of servers and tenants that are gone end; the
    /// others go on, with workers started anew where what they are started with has changed.
    pub fn replace_setup(&self, setup: Arc<Setup>) {
        let servers = |setup: &Setup| -> Vec<_> { setup.config.servers.keys().cloned().collect() };
        let before = servers(&self.setup());
        self.shared.replace_setup(Arc::clone(&setup));
        for session in self.shared.directory.all() {
            let config = &setup.config;
            let has_server = session.is_with_all() || config.has_server(&session.server);
            if !has_server || !config.has_tenant(session.tenant()) {
                self.shared.end_session(&session);
            }
        }
        self.drop_unserved();
        self.stock();
        if before != servers(&setup) {
            self.offer_has_changed();
        }
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
        let max_of_tenant = self.setup().config.pool.max_sessions_per_tenant;
        let directory = &self.shared.directory;
        directory
            .has_room(&principal.tenant, max_of_tenant)
            .map_err(|why| too_many_sessions(why, max_of_tenant))?;
        let id = SessionId::random().map_err(|error| {
            Failure::new(
                Reason::Internal,
                format!("no randomness for a session id: {error}"),
            )
        })?;
        let no = self.shared.directory.next_no();
        let asked = client.protocol_version.clone();
        let session = Session::new(no, id, principal, server, client, Instant::now());
        let session = Arc::new(session);
        let hello = if session.is_with_all() {
            self.hello_of_all(&session.principal)?
        } else {
            self.hello(&session).await?
        };
        let revision = Revision::negotiate(&asked, hello.revision);
        session.agree(revision);
        directory
            .insert(Arc::clone(&session), max_of_tenant)
            .map_err(|why| too_many_sessions(why, max_of_tenant))?;
        if let Some(route) = session.route() {
            self.shared.directory.set_key(no, route.key);
        }
        if let Some(store) = &self.shared.store
            && session.route().is_none_or(|route| !route.order.stateful)
            && let Err(error) = store.insert(keep::row_of(&session)).await
        {
            tracing::warn!(%error, "a session will not survive a restart");
        }
        self.shared
            .watcher
            .happened(Happening::SessionOpened(&session));
        let result = hello.result_for(revision);
        Ok(Initialized { session, result })
    }

    /// What a worker for this session says of itself: as remembered, or from one that is there or
    /// started for it.
    pub(super) async fn hello(&self, session: &Arc<Session>) -> Result<Hello, Failure> {
        let order = Arc::clone(&self.route(session).await?.order);
        let known = order
            .catalog_age
            .and_then(|age| self.shared.catalog.hello(order.identity, age));
        if let Some(known) = known {
            self.shared.metrics.catalog_hit();
            if order.starts_on_connect {
                let (sessions, session) = (self.clone(), Arc::clone(session));
                self.shared.tasks.spawn(async move {
                    // If it does not start, the first call will say why.
                    let mut waited = Duration::ZERO;
                    let _started = sessions.lease(&session, &mut waited).await;
                });
            }
            return Ok(known);
        }
        let mut waited = Duration::ZERO;
        let (_, lease) = self.lease(session, &mut waited).await?;
        lease.worker().hello().ok_or_else(|| {
            let why = "a worker was ready without having said hello";
            Failure::new(Reason::Internal, why)
        })
    }

    /// The answer to a request for which no worker has to be started or woken: a list that is
    /// remembered, or a log level that the next worker will be told.
    async fn answer_without_worker(
        &self,
        session: &Arc<Session>,
        envelope: &Envelope<'_>,
    ) -> Option<Bytes> {
        let method = envelope.method.as_deref()?;
        let asked = Listing::asked(method, envelope.params);
        if asked.is_none() && method != "logging/setLevel" {
            return None;
        }
        // What goes wrong here goes wrong again, and is told, on the way to a worker.
        let route = self.route(session).await.ok()?;
        let order = &route.order;
        let (catalog, age) = (&self.shared.catalog, order.catalog_age?);
        let warmth = self.shared.pool().warmth(route.key);
        let result: Bytes = match asked {
            Some(listing) if warmth < Warmth::Awake => {
                let list = catalog.list(order.identity, session.words(order), listing, age)?;
                Bytes::copy_from_slice(&list)
            }
            None if warmth == Warmth::Cold => {
                let hello = catalog.hello(order.identity, age)?;
                let level = asked_level(envelope.params).filter(|_| hello.logs)?;
                session.set_level(level);
                self.shared.keep_standing(session);
                Bytes::from_static(b"{}")
            }
            _ => return None,
        };
        self.shared.metrics.catalog_hit();
        let answer = response(envelope.id?.get(), "result", &result);
        Some(match asked {
            Some(Listing::Tools) => self.shared.offered(&session.server, answer),
            _ => answer,
        })
    }

    /// The session of that id, if it is this principal's and talks to this server.
    pub fn find(
        &self,
        id: &SessionId,
        principal: &Principal,
        server: &ServerName,
    ) -> Option<Arc<Session>> {
        let directory = &self.shared.directory;
        directory
            .find(id, principal, server)
            .or_else(|| directory.revive(id, principal, server))
    }

    /// Sends a session's request to a worker; what comes back arrives in `exchange`.
    ///
    /// # Errors
    /// Whatever keeps a worker from being had, as a [`Failure`] for the caller.
    ///
    /// # Cancel-Safety
    /// A dropped call has sent nothing; once it has returned, dropping `exchange` cancels.
    pub async fn request(
        &self,
        session: &Arc<Session>,
        message: &[u8],
        envelope: &Envelope<'_>,
        exchange: &mut Exchange,
    ) -> Result<(), Failure> {
        if session.is_with_all() {
            return self
                .request_of_all(session, message, envelope, exchange)
                .await;
        }
        if let Some(answer) = self.answer_without_worker(session, envelope).await {
            exchange.mailbox.expect_answer();
            exchange.mailbox.answer(answer, false);
            return Ok(());
        }
        if let Some(tool) = called_tool(
            envelope.method.as_deref().unwrap_or_default(),
            envelope.params,
        ) && !self.shared.offers(&session.server, &tool)
        {
            // The same as for one that never was.
            let error =
                json!({ "code": code::INVALID_PARAMS, "message": format!("unknown tool: {tool}") });
            let id = envelope.id.map_or("null", |id| id.get());
            let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#);
            exchange.mailbox.expect_answer();
            exchange.mailbox.answer(answer.into(), true);
            return Ok(());
        }
        let arrived = Instant::now();
        for _ in 0..MAX_OFFERS {
            let leased = self.lease_near(session, exchange.prefers, &mut exchange.waited);
            let (_, lease) = leased.await?;
            let link = Arc::clone(lease.worker());
            if session.is_stateless && !exchange.fits(link.order().greeting.era) {
                let why = format!(
                    "server `{}` has just turned out to be spoken to otherwise",
                    session.server
                );
                let failure = Failure::new(Reason::PoolExhausted, why);
                return Err(failure.retry_after(Duration::from_millis(100)));
            }
            let asked = Asked {
                session,
                message,
                envelope,
                arrived,
                level: exchange.level,
            };
            match link.call(asked, lease, &exchange.mailbox) {
                Ok(Called::Sent(call)) => {
                    exchange.opened(link, call);
                    return Ok(());
                }
                Ok(Called::Answered) => return Ok(()),
                Err(CallRefused::Gone) => {}
                Err(CallRefused::SessionEnded) => return Err(session_not_found()),
                Err(CallRefused::Stalled { unsent }) => {
                    let why = format!(
                        "server `{}` does not read its input ({unsent} bytes wait for it)",
                        session.server
                    );
                    let failure = Failure::new(Reason::PoolExhausted, why);
                    return Err(failure.retry_after(Duration::from_secs(5)));
                }
            }
        }
        let why = format!(
            "server `{}` ended {MAX_OFFERS} times before it took the request",
            session.server
        );
        Err(Failure::new(Reason::WorkerExited, why).retry_after(Duration::from_secs(1)))
    }

    /// The same for the only request of a POST: if its worker dies before it said anything, another
    /// gets it, provided that it may be [sent twice](Method::may_repeat), or calls a tool
    /// that the server calls read-only or idempotent.
    ///
    /// # Errors
    /// As [`Sessions::request`].
    ///
    /// # Cancel-Safety
    /// As [`Sessions::request`].
    pub async fn request_once(
        &self,
        session: &Arc<Session>,
        message: &Bytes,
        envelope: &Envelope<'_>,
        exchange: &mut Exchange,
    ) -> Result<(), Failure> {
        // Whether it may be is decided when it has to be.
        exchange.keep(self.clone(), Arc::clone(session), message.clone());
        self.request(session, message, envelope, exchange).await
    }

    /// Whether that request of the session may be sent a second time.
    pub(super) fn may_repeat(
        &self,
        session: &Session,
        message: &[u8],
        envelope: &Envelope<'_>,
    ) -> bool {
        if session.is_with_all() {
            let found = self.addressed(&session.principal, message, envelope);
            return found.is_some_and(|(server, own)| {
                let member = session.members.lock().get(&server).cloned();
                member.is_some_and(|member| {
                    Envelope::parse(&own.message)
                        .is_ok_and(|envelope| self.may_repeat(&member, &own.message, &envelope))
                })
            });
        }
        let method = envelope.method.as_deref().unwrap_or_default();
        Method::of(method).is_some_and(|method| method.may_repeat)
            || called_tool(method, envelope.params).is_some_and(|tool| {
                let identity = session.route().map(|route| route.order.identity);
                identity.is_some_and(|identity| self.shared.catalog.is_repeatable(identity, &tool))
            })
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
    pub fn notification(&self, session: &Session, message: &[u8], envelope: &Envelope<'_>) {
        for link in session.seats().into_iter().filter_map(|id| self.link(id)) {
            link.notification(session.no, message, envelope);
        }
        let members: Vec<_> = session.members.lock().values().cloned().collect();
        for member in members {
            self.notification(&member, message, envelope);
        }
    }

    /// Passes a session's answer on to the worker that asked. Says whether the session was asked.
    pub fn answer(&self, session: &Session, message: &[u8], envelope: &Envelope<'_>) -> bool {
        let ask = envelope.id.and_then(|id| AskRef::parse(id.get()));
        let Some((ask, link)) = ask.and_then(|ask| Some((ask, self.link(ask.worker)?))) else {
            return false;
        };
        // Of all servers, the one that asked.
        let member = session.members.lock().get(&link.order().server).cloned();
        let asked = member.as_deref().unwrap_or(session);
        link.answer(asked.no, ask, message, envelope)
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
        let theirs = self.all().into_iter();
        for session in theirs.filter(|session| session.tenant() == tenant) {
            self.end(&session);
        }
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

    /// A worker for the session. One that refuses to be spoken to in the way of its client's era is
    /// replaced by one of the other era, once.
    pub(super) async fn lease(
        &self,
        session: &Arc<Session>,
        waited: &mut Duration,
    ) -> Result<(Arc<Route>, Lease<Launchpad>), Failure> {
        self.lease_near(session, None, waited).await
    }

    /// The same, of the worker that knows something of the request if that has a free slot.
    async fn lease_near(
        &self,
        session: &Arc<Session>,
        prefers: Option<WorkerId>,
        waited: &mut Duration,
    ) -> Result<(Arc<Route>, Lease<Launchpad>), Failure> {
        let first = self.route(session).await?;
        let leased = self.lease_on(session, first.clone(), prefers, waited);
        let refused = match leased.await {
            Ok(lease) => return Ok((first, lease)),
            Err(failure) if failure.reason == Reason::StartFailed => failure,
            Err(failure) => return Err(failure),
        };
        let second = self.route(session).await?;
        if second.era() == first.era() {
            return Err(refused);
        }
        match self.lease_on(session, second.clone(), None, waited).await {
            Ok(lease) => Ok((second, lease)),
            // Of two eras in vain, the one that nearly every server speaks says more.
            Err(_) if first.era() == Era::Initialize => Err(refused),
            Err(failure) => Err(failure),
        }
    }

    async fn lease_on(
        &self,
        session: &Arc<Session>,
        route: Arc<Route>,
        prefers: Option<WorkerId>,
        waited: &mut Duration,
    ) -> Result<Lease<Launchpad>, Failure> {
        let (key, facts) = match route.share {
            // A process of its own for every request: so is its key.
            Share::Request => (one_off(route.key), Arc::clone(&route.facts)),
            Share::Tenant | Share::Session => (route.key, Arc::clone(&route.facts)),
        };
        let want = Want {
            key,
            facts,
            claim: Claim {
                owner: if session.is_stateless {
                    stateless::next_owner()
                } else {
                    session.no.0
                },
                prefers,
            },
            spec: Arc::clone(&route.order),
        };
        let since = Instant::now();
        let lease = self.shared.pool().acquire(want).await;
        *waited += since.elapsed();
        lease
    }

    /// The session's route under the pool.toml in force.
    pub(super) async fn route(&self, session: &Arc<Session>) -> Result<Arc<Route>, Failure> {
        let setup = self.shared.setup();
        if let Some(route) = session.route()
            && route.generation == setup.generation
            && route.edition == self.shared.eras.edition()
        {
            return Ok(route);
        }
        let route =
            Arc::new(Route::find(&setup, session, &self.shared.eras, &self.shared.metrics).await?);
        session.set_route(Arc::clone(&route));
        self.shared.directory.set_key(session.no, route.key);
        Ok(route)
    }
}

/// A response under a raw JSON id.
pub(super) fn response(id: &str, member: &str, body: &[u8]) -> Bytes {
    let mut answer = BytesMut::with_capacity(body.len() + id.len() + 40);
    answer.put_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    answer.put_slice(id.as_bytes());
    answer.put_slice(b",\"");
    answer.put_slice(member.as_bytes());
    answer.put_slice(b"\":");
    answer.put_slice(body);
    answer.put_u8(b'}');
    answer.freeze()
}

/// A key that no other request has.
fn one_off(key: crate::ids::PoolKey) -> crate::ids::PoolKey {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    crate::tenancy::derived_key(key, number)
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
