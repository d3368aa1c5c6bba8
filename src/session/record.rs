//! One client's session: what must be known of it whichever worker serves it.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::aggregate::{Members, Membership};
use super::ended::Ended;
use super::mailbox::{Mailbox, Pushed, WhenFull};
use super::replay::Replay;
use super::roots::SessionRoots;
use super::route::{Order, Route};
use super::subscriptions::Subscriptions;
use crate::bridge::aggregate::Alias;
use crate::bridge::{ClientHello, Era, Level, SessionNo};
use crate::config::Config;
use crate::held::{Account, Charge, Kind, Shelf};
use crate::ids::{ServerName, TenantId, WorkerId};
use crate::protocol::{Failure, Revision};
use crate::tenancy::{ClientConfig, Principal};

/// Most configs of one session whose ways are remembered; the least recently used that no request is
/// going goes first, and is worked out again when it comes back.
const MAX_OTHER_ROUTES: usize = 64;

/// The value of `Mcp-Session-Id`: a credential, 128 random bits as hexadecimal digits
/// (basic/transports, "Session Management": globally unique and cryptographically secure).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// The text, to be kept where it is not shown.
    pub fn shared(&self) -> &Arc<str> {
        &self.0
    }

    /// A new one.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bits = [0_u8; 16];
        getrandom::fill(&mut bits)?;
        Ok(Self(hex(&bits).into()))
    }

    /// As it stands in the header.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Names the session in logs and tables, and to its process, without giving the credential away.
    pub fn fingerprint(&self) -> String {
        hex(&Sha256::digest(self.0.as_bytes())[..6])
    }
}

impl From<&str> for SessionId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

/// Found by what a client presents.
impl Borrow<str> for SessionId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId#{}", self.fingerprint())
    }
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// A legacy client's session. It is virtual: it outlives the worker that serves it.
#[derive(Debug)]
pub struct Session {
    /// Names it inside the supervisor.
    pub no: SessionNo,
    /// Names it to its client.
    pub id: SessionId,
    /// Whose it is; no one else may use it.
    pub principal: Principal,
    /// The server it talks to.
    pub server: ServerName,
    /// What it is part of, if its client has a session with all servers.
    pub(super) membership: Option<Membership>,
    /// What belongs to it, if it is one with all servers.
    pub(super) members: Mutex<Members>,
    /// It is no client's own: it stands for all requests of a caller without sessions.
    pub is_stateless: bool,
    /// How the client introduced itself.
    pub client: ClientHello,
    /// What it set for its server when it began, or for each, if it is one with all; what it sets with a
    /// request goes over that.
    pub config: Option<Arc<ClientConfig>>,
    /// When it began.
    pub created: std::time::SystemTime,
    /// What belongs to no request: the stream of GET.
    pub outbox: Arc<Mailbox>,
    /// What that stream told lately.
    pub replay: Mutex<Replay>,
    /// The roots of its client, if that has any to tell.
    roots: Option<Arc<SessionRoots>>,
    /// What its tenant holds.
    account: Account,
    /// What it takes itself.
    _charge: Charge,
    streams: AtomicU64,
    /// Notified when it ends.
    end_told: Notify,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    revision: Revision,
    level: Option<Level>,
    subscriptions: Subscriptions,
    last_used: Instant,
    /// Requests and streams that keep it from expiring.
    in_use: usize,
    ended: Option<Ended>,
    route: Option<Arc<Route>>,
    /// The ways of requests that set something themselves, by the fingerprint of what they set.
    others: Option<Box<Shelf<[u8; 32], Arc<Route>>>>,
    /// The workers at which it has a seat.
    seats: BTreeSet<WorkerId>,
}

impl Session {
    /// A session of that tenant, which takes what was charged for its [`weight`](Self::weight).
    pub(super) fn new(
        no: SessionNo,
        id: SessionId,
        principal: Principal,
        server: ServerName,
        client: ClientHello,
        charge: Charge,
    ) -> Self {
        let account = charge.account().clone();
        let subscriptions = Subscriptions::new(account.nothing(Kind::Subscription));
        let has_roots = client.capabilities.contains_key("roots");
        Self {
            no,
            id,
            principal,
            server,
            membership: None,
            members: Mutex::default(),
            is_stateless: false,
            client,
            config: None,
            created: std::time::SystemTime::now(),
            outbox: Arc::new(Mailbox::of(WhenFull::DropOldest, &account)),
            replay: Mutex::new(Replay::of_session(&account)),
            roots: has_roots.then(Arc::default),
            _charge: charge,
            account,
            streams: AtomicU64::new(first_stream()),
            end_told: Notify::new(),
            state: Mutex::new(State {
                revision: Revision::LATEST,
                level: None,
                subscriptions,
                last_used: Instant::now(),
                in_use: 0,
                ended: None,
                route: None,
                others: None,
                seats: BTreeSet::new(),
            }),
        }
    }

    /// What one of a client that introduces itself so takes, in bytes, about.
    pub(super) fn weight(client: &ClientHello) -> usize {
        /// In the tables that find it.
        const PLACES: usize = 512;
        size_of::<Self>() + PLACES + client.weight()
    }

    /// The roots of its client; `None` of one that is not to be asked for them.
    pub(super) fn roots(&self) -> Option<&SessionRoots> {
        self.roots.as_deref()
    }

    /// Has all its ways worked out again.
    pub(super) fn reconsider_routes(&self) {
        for route in self.routes() {
            route.reconsider();
        }
    }

    /// What its tenant holds.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The same for a caller without sessions.
    pub(super) fn without_state(mut self) -> Self {
        self.is_stateless = true;
        self.roots = None;
        self
    }

    /// The same as part of a session with all servers: it tells on that one's stream.
    pub(super) fn member_of(mut self, whole: &Arc<Self>, alias: Alias) -> Self {
        self.outbox = Arc::clone(&whole.outbox);
        self.roots.clone_from(&whole.roots);
        self.membership = Some(Membership {
            alias,
            whole: Some(Arc::downgrade(whole)),
        });
        self
    }

    /// The same for a caller that has come through all servers at once.
    pub(super) fn through_all(mut self, alias: Alias) -> Self {
        self.membership = Some(Membership { alias, whole: None });
        self
    }

    /// Whether it is one with all servers at once.
    pub fn is_with_all(&self) -> bool {
        self.server == ServerName::all()
    }

    /// The session with all servers that it is part of.
    pub(super) fn whole(&self) -> Option<Arc<Self>> {
        self.membership.as_ref()?.whole.as_ref()?.upgrade()
    }

    /// What things of its server are called, if it is part of one with all servers.
    pub(super) fn alias(&self) -> Option<&Alias> {
        self.membership.as_ref().map(|member| &member.alias)
    }

    /// Puts a message that belongs to no request on its stream.
    pub(super) fn tell(&self, message: Bytes) -> Pushed {
        self.outbox.push(match self.alias() {
            Some(alias) => alias.notification(message),
            None => message,
        })
    }

    /// The same for a client that sets something for its server.
    pub(super) fn with_config(mut self, config: Option<Arc<ClientConfig>>) -> Self {
        self.config = config;
        self
    }

    /// What it, one with all servers, sets for that one.
    pub(super) fn part_for(&self, server: &ServerName) -> Option<Arc<ClientConfig>> {
        let part = self.config.as_ref()?.part(server)?;
        Some(Arc::new(part.clone()))
    }

    /// In the words of which era a worker's answers to it are.
    pub(super) fn words(&self, order: &Order) -> Era {
        match self.is_stateless {
            true => order.greeting.era,
            false => Era::Initialize,
        }
    }

    /// The revision agreed with the client.
    pub fn revision(&self) -> Revision {
        self.state.lock().revision
    }

    pub(super) fn agree(&self, revision: Revision) {
        self.state.lock().revision = revision;
    }

    /// A number for another stream of it; its own is number 0.
    pub fn next_stream(&self) -> u64 {
        self.streams.fetch_add(1, Ordering::Relaxed)
    }

    /// Its tenant.
    pub fn tenant(&self) -> &TenantId {
        &self.principal.tenant
    }

    /// Whether it is over.
    pub fn has_ended(&self) -> bool {
        self.ended().is_some()
    }

    /// Why it is over, if it is.
    pub(super) fn ended(&self) -> Option<Ended> {
        self.state.lock().ended
    }

    /// Marks it as over, for that reason; false if it was already. Who waits on its behalf is told.
    pub(super) fn end(&self, why: Ended) -> bool {
        let first = {
            let mut state = self.state.lock();
            let first = state.ended.is_none();
            state.ended.get_or_insert(why);
            first
        };
        self.end_told.notify_waiters();
        // A member's is that of the whole.
        if self.whole().is_none() {
            self.outbox.close();
        }
        first
    }

    /// What a request of it is told that was under way when it ended for that reason.
    pub(super) fn failure(&self, why: Ended) -> Failure {
        why.failure(&self.server, self.is_stateless)
    }

    /// Why it cannot go on under that pool.toml, if it cannot.
    pub(super) fn ended_under(&self, config: &Config) -> Option<Ended> {
        let has_server = self.is_with_all() || config.has_server(&self.server);
        match (has_server, config.has_tenant(self.tenant())) {
            (true, true) => None,
            (false, true) => Some(Ended::ServerRemoved),
            (_, false) => Some(Ended::TenantRemoved),
        }
    }

    /// Waits until the session has ended.
    ///
    /// # Cancel-Safety
    /// Cancel-safe.
    async fn until_ended(&self) -> Ended {
        let mut told = pin!(self.end_told.notified());
        // Registered before the look, so that no end between the two is missed.
        told.as_mut().enable();
        loop {
            if let Some(why) = self.ended() {
                return why;
            }
            told.as_mut().await;
            told.set(self.end_told.notified());
            told.as_mut().enable();
        }
    }

    /// What comes of that work for the session, unless the session ends before: then that is told at once, and the work is
    /// dropped.
    ///
    /// # Errors
    /// Why the session has ended, also where that is what the work failed for; else that of the work.
    ///
    /// # Cancel-Safety
    /// As of the work.
    pub(super) async fn unless_ended<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            done = work => match (done, self.ended()) {
                (Err(_), Some(why)) => Err(self.failure(why)),
                (done, _) => done,
            },
            why = self.until_ended() => Err(self.failure(why)),
        }
    }

    /// Keeps it from expiring until the guard is dropped.
    pub fn in_use(self: &Arc<Self>) -> InUse {
        self.state.lock().in_use += 1;
        InUse(Arc::clone(self))
    }

    /// Requests and streams under way.
    pub fn uses(&self) -> usize {
        self.state.lock().in_use
    }

    /// How long nothing has used it; `None` while something does.
    pub fn idle_for(&self, now: Instant) -> Option<std::time::Duration> {
        let state = self.state.lock();
        (state.in_use == 0).then(|| now.saturating_duration_since(state.last_used))
    }

    pub(super) fn set_level(&self, level: Level) {
        self.state.lock().level = Some(level);
    }

    pub(super) fn add_subscription(&self, uri: String) {
        self.with_subscriptions(|all| all.add(uri));
    }

    pub(super) fn remove_subscription(&self, uri: &str) {
        self.with_subscriptions(|all| all.remove(uri));
    }

    pub(super) fn with_subscriptions<T>(&self, with: impl FnOnce(&mut Subscriptions) -> T) -> T {
        with(&mut self.state.lock().subscriptions)
    }

    /// What a new worker must be told to be where an earlier one was.
    pub(super) fn standing(&self) -> (Option<Level>, Vec<String>) {
        let state = self.state.lock();
        (state.level, state.subscriptions.agreed().cloned().collect())
    }

    /// Notes a seat; false if it is noted already.
    pub(super) fn take_seat(&self, worker: WorkerId) -> bool {
        self.state.lock().seats.insert(worker)
    }

    /// Forgets the seats at workers that are gone.
    pub(super) fn keep_seats(&self, is_there: impl Fn(WorkerId) -> bool) {
        self.state.lock().seats.retain(|id| is_there(*id));
    }

    pub(super) fn lose_seat(&self, worker: WorkerId) {
        self.state.lock().seats.remove(&worker);
    }

    /// The workers at which it has a seat.
    pub fn seats(&self) -> Vec<WorkerId> {
        self.state.lock().seats.iter().copied().collect()
    }

    /// What holds for a request that sets `own` itself; `None`: what holds for all its requests.
    pub fn refined(&self, own: Option<ClientConfig>) -> Option<Arc<ClientConfig>> {
        let own = own?;
        let whole = match &self.config {
            Some(config) => ClientConfig::clone(config).with(&own),
            None => own,
        };
        let is_new = match &self.config {
            Some(config) => config.fingerprint() != whole.fingerprint(),
            None => !whole.is_empty(),
        };
        is_new.then(|| Arc::new(whole))
    }

    pub(super) fn route(&self) -> Option<Arc<Route>> {
        self.state.lock().route.clone()
    }

    pub(super) fn set_route(&self, route: Arc<Route>) {
        self.state.lock().route = Some(route);
    }

    /// The way of its requests that set what has that fingerprint.
    pub(super) fn other_route(&self, fingerprint: &[u8; 32]) -> Option<Arc<Route>> {
        let mut state = self.state.lock();
        let route = state.others.as_mut()?.get(fingerprint)?;
        Some(Arc::clone(route))
    }

    /// Remembers such a way; returns the one that goes for it. If all are in use it is not remembered.
    pub(super) fn set_other_route(
        &self,
        fingerprint: [u8; 32],
        route: Arc<Route>,
    ) -> Option<Arc<Route>> {
        let mut state = self.state.lock();
        let others = state.others.get_or_insert_default();
        if others.peek(&fingerprint).is_some() || others.len() < MAX_OTHER_ROUTES {
            return others.put(fingerprint, route);
        }
        let gone = others.take_oldest(|route| Arc::strong_count(route) > 1)?;
        others.put(fingerprint, route);
        Some(gone)
    }

    /// All its ways.
    pub(super) fn routes(&self) -> Vec<Arc<Route>> {
        let state = self.state.lock();
        let others = state.others.iter().flat_map(|others| others.iter());
        let others = others.map(|(_, route)| route);
        state.route.iter().chain(others).cloned().collect()
    }
}

/// The first number of a session's streams. A client may come back after a restart, with the number of a stream of before:
/// none of now may have that.
fn first_stream() -> u64 {
    /// Streams for each second that a run lasted at the least.
    const A_SECOND: u32 = 16;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    1 + (now.unwrap_or_default().as_secs() << A_SECOND)
}

/// Keeps a session from expiring.
#[derive(Debug)]
pub struct InUse(Arc<Session>);

impl Drop for InUse {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.in_use -= 1;
        state.last_used = Instant::now();
    }
}
