//! One client's session: what must be known of it whichever worker serves it.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::ended::Ended;
use super::id::SessionId;
use super::replay::Replay;
use super::roots::SessionRoots;
use super::routes::SessionRoutes;
use super::subscriptions::Subscriptions;
use super::weight::{weight_of_config, weight_of_principal};
use crate::bridge::aggregate::Alias;
use crate::bridge::{ClientInfo, Level, SessionNo};
use crate::config::Config;
use crate::held::{Account, Charge, Full, Kind};
use crate::ids::{ServerName, TenantId, WorkerId};
use crate::protocol::{Failure, Revision};
use crate::tenancy::{ClientConfig, Principal};
use crate::upstream::{Outbox, Pushed, WhenFull};

/// The sessions with single servers that belong to one with all.
pub(crate) type MemberSessions = BTreeMap<ServerName, Arc<Session>>;

/// The kind of a session, with what only sessions of that kind have.
#[derive(Debug)]
pub(crate) enum SessionKind {
    /// A client's own, with one server.
    Client,
    /// A client's own, with all servers at once: what belongs to it so far.
    Aggregate(Mutex<MemberSessions>),
    /// The part of an aggregate that is with one server. The client knows of the aggregate alone.
    Member(Membership),
    /// No client's own: it stands for all requests of a caller without sessions.
    StatelessCaller {
        /// The names by which a caller who has come through all servers at once knows things of this one.
        alias: Option<Alias>,
    },
    /// No client's own: it stands for one who listens for changes without a session.
    ChangeListener(Scope),
}

/// The scope of a listener.
#[derive(Debug)]
pub(crate) enum Scope {
    /// The listener hears of one server.
    Server,
    /// The listener hears of all servers at once.
    All,
    /// The listener hears of one server, as a part of listening to all.
    Member(Membership),
}

/// The session with all servers that a session is part of.
#[derive(Debug)]
pub(crate) struct Membership {
    /// The names by which the client of all servers knows things of this one.
    alias: Alias,
    /// The session with all servers.
    whole: Weak<Session>,
}

impl SessionKind {
    /// The kind of a client's own session with that server, or with all.
    pub(crate) fn of_client(server: &ServerName) -> Self {
        match *server == ServerName::all() {
            true => Self::Aggregate(Mutex::default()),
            false => Self::Client,
        }
    }
}

/// A session, of a client, of a caller without sessions or of a listener. A session outlives the workers that serve it.
#[derive(Debug)]
pub struct Session {
    /// Names it inside the supervisor.
    pub no: SessionNo,
    /// Names it to its client.
    pub id: SessionId,
    /// The principal whose session it is; no one else may use it.
    pub principal: Principal,
    /// The server it talks to.
    pub server: ServerName,
    /// What the session is.
    kind: SessionKind,
    /// How the client introduced itself.
    pub client: ClientInfo,
    /// What the client set for its server when the session began, or for each, if it is one with all; what it sets with a
    /// request goes over that.
    pub config: Option<Arc<ClientConfig>>,
    /// When the session began.
    pub created: std::time::SystemTime,
    /// What belongs to no request: the stream of GET.
    pub outbox: Arc<Outbox>,
    /// Events lately sent on the session's own GET stream, for `Last-Event-ID`.
    pub replay: Mutex<Replay>,
    /// The roots of its client, if that has any to tell.
    roots: Option<Arc<SessionRoots>>,
    /// The account of the session's tenant.
    account: Account,
    /// What the record takes itself.
    charge: Charge,
    streams: AtomicU64,
    /// The routes by which the session's requests reach workers.
    pub(crate) routes: SessionRoutes,
    /// Notified when it ends.
    end_told: Notify,
    state: Mutex<State>,
}

/// Whose a session is, and what it is called.
pub(crate) struct SessionIdentity {
    /// Names it to workers.
    pub(crate) no: SessionNo,
    /// Names it to its client.
    pub(crate) id: SessionId,
    /// The caller who has opened the session.
    pub(crate) principal: Principal,
    /// The server that it is with.
    pub(crate) server: ServerName,
    /// The introduction of the session's client.
    pub(crate) client: ClientInfo,
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
    /// The workers at which it is attached.
    attached_to: BTreeSet<WorkerId>,
}

impl Session {
    /// A session of that kind and tenant, which takes what was charged for its [`weight`](Self::weight).
    pub(crate) fn new(kind: SessionKind, identity: SessionIdentity, charge: Charge) -> Self {
        let SessionIdentity {
            no,
            id,
            principal,
            server,
            client,
        } = identity;
        let account = charge.account().clone();
        let subscriptions = Subscriptions::new(account.nothing(Kind::Subscription));
        let is_asked = matches!(kind, SessionKind::Client | SessionKind::Aggregate(_));
        let has_roots = is_asked && client.capabilities.contains_key("roots");
        Self {
            no,
            id,
            principal,
            server,
            kind,
            client,
            config: None,
            created: std::time::SystemTime::now(),
            outbox: Arc::new(Outbox::of(WhenFull::DropOldest, &account)),
            replay: Mutex::new(Replay::of_session(&account)),
            roots: has_roots.then(Arc::default),
            charge,
            account,
            streams: AtomicU64::new(first_stream()),
            routes: SessionRoutes::default(),
            end_told: Notify::new(),
            state: Mutex::new(State {
                revision: Revision::LATEST,
                level: None,
                subscriptions,
                last_used: Instant::now(),
                in_use: 0,
                ended: None,
                attached_to: BTreeSet::new(),
            }),
        }
    }

    /// Bytes that a session of `client`, opened by `principal`, occupies, about; its config aside.
    pub(crate) fn weight(principal: &Principal, client: &ClientInfo) -> usize {
        /// In the tables that find it.
        const PLACES: usize = 512;
        size_of::<Self>() + PLACES + weight_of_principal(principal) + client.weight()
    }

    /// The roots of its client; `None` of one that is not to be asked for them.
    pub(crate) fn roots(&self) -> Option<&SessionRoots> {
        self.roots.as_deref()
    }

    /// The account of the session's tenant.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Makes it part of a session with all servers: it tells on the whole session's stream, and has its client's roots.
    pub(crate) fn member_of(mut self, whole: &Arc<Self>, alias: Alias) -> Self {
        self.outbox = Arc::clone(&whole.outbox);
        self.roots.clone_from(&whole.roots);
        let whole = Arc::downgrade(whole);
        let membership = Membership { alias, whole };
        self.kind = match self.is_stateless() {
            true => SessionKind::ChangeListener(Scope::Member(membership)),
            false => SessionKind::Member(membership),
        };
        self
    }

    /// Whether the session is no client's own: its caller knows of no sessions.
    pub fn is_stateless(&self) -> bool {
        match self.kind {
            SessionKind::Client | SessionKind::Aggregate(_) | SessionKind::Member(_) => false,
            SessionKind::StatelessCaller { .. } | SessionKind::ChangeListener(_) => true,
        }
    }

    /// Whether the session is one with all servers at once.
    pub fn is_with_all(&self) -> bool {
        match self.kind {
            SessionKind::Aggregate(_) | SessionKind::ChangeListener(Scope::All) => true,
            SessionKind::Client
            | SessionKind::Member(_)
            | SessionKind::StatelessCaller { .. }
            | SessionKind::ChangeListener(Scope::Server | Scope::Member(_)) => false,
        }
    }

    fn membership(&self) -> Option<&Membership> {
        match &self.kind {
            SessionKind::Member(membership)
            | SessionKind::ChangeListener(Scope::Member(membership)) => Some(membership),
            SessionKind::Client
            | SessionKind::Aggregate(_)
            | SessionKind::StatelessCaller { .. }
            | SessionKind::ChangeListener(Scope::Server | Scope::All) => None,
        }
    }

    /// Whether the session is part of one with all servers: it counts with that, and ends with that.
    pub(crate) fn is_member(&self) -> bool {
        self.membership().is_some()
    }

    /// The session with all servers that it is part of.
    pub(crate) fn whole(&self) -> Option<Arc<Self>> {
        self.membership()?.whole.upgrade()
    }

    /// The names by which the session's client knows things of its server, if it came through all servers at once.
    pub(crate) fn alias(&self) -> Option<&Alias> {
        match &self.kind {
            SessionKind::StatelessCaller { alias } => alias.as_ref(),
            _ => self.membership().map(|member| &member.alias),
        }
    }

    /// The members of a session with all servers; `None` of one that is not with all.
    pub(crate) fn members(&self) -> Option<&Mutex<MemberSessions>> {
        match &self.kind {
            SessionKind::Aggregate(members) => Some(members),
            _ => None,
        }
    }

    /// The members that a session with all servers has now.
    pub(crate) fn all_members(&self) -> Vec<Arc<Self>> {
        let members = self.members().map(Mutex::lock);
        members.map_or_else(Vec::new, |members| members.values().cloned().collect())
    }

    /// The member with that server, if there is one.
    pub(crate) fn member_with(&self, server: &ServerName) -> Option<Arc<Self>> {
        self.members()?.lock().get(server).cloned()
    }

    /// Takes its sessions with single servers out of it.
    pub(crate) fn take_members(&self) -> MemberSessions {
        let members = self.members().map(Mutex::lock);
        members.map_or_else(MemberSessions::new, |mut members| {
            std::mem::take(&mut *members)
        })
    }

    /// Puts a message that belongs to no request on its stream.
    pub(crate) fn tell(&self, message: Bytes) -> Pushed {
        self.outbox.push(match self.alias() {
            Some(alias) => alias.notification(message),
            None => message,
        })
    }

    /// Makes it the session of a client that sets something for its server, and charges that with the session.
    ///
    /// # Errors
    /// The tenant has no room for the config.
    pub(crate) fn with_charged_config(
        mut self,
        config: Option<Arc<ClientConfig>>,
    ) -> Result<Self, Full> {
        if let Some(config) = &config {
            self.charge.grow(weight_of_config(config))?;
        }
        Ok(self.with_config(config))
    }

    /// As [`with_charged_config`](Self::with_charged_config), whatever the limits: for a session that was there before.
    pub(crate) fn with_restored_config(mut self, config: Option<Arc<ClientConfig>>) -> Self {
        if let Some(config) = &config {
            self.charge.grow_anyway(weight_of_config(config));
        }
        self.with_config(config)
    }

    /// Makes it the session of a client that sets something for its server, which is charged elsewhere.
    pub(crate) fn with_config(mut self, config: Option<Arc<ClientConfig>>) -> Self {
        self.config = config;
        self
    }

    /// What a session with all servers sets for that one.
    pub(crate) fn part_for(&self, server: &ServerName) -> Option<Arc<ClientConfig>> {
        let part = self.config.as_ref()?.part(server)?;
        Some(Arc::new(part.clone()))
    }

    /// The revision agreed with the client.
    pub fn revision(&self) -> Revision {
        self.state.lock().revision
    }

    pub(crate) fn agree(&self, revision: Revision) {
        self.state.lock().revision = revision;
    }

    /// A number for another stream of it; its own is number 0.
    pub fn next_stream(&self) -> u64 {
        self.streams.fetch_add(1, Ordering::Relaxed)
    }

    /// The session's tenant.
    pub fn tenant(&self) -> &TenantId {
        &self.principal.tenant
    }

    /// Whether the session is over.
    pub fn has_ended(&self) -> bool {
        self.ended().is_some()
    }

    /// Why the session is over, if it is.
    pub(crate) fn ended(&self) -> Option<Ended> {
        self.state.lock().ended
    }

    /// Marks the session as ended for `why`, and tells whoever waits on its behalf; false if it had ended already.
    pub(crate) fn end(&self, why: Ended) -> bool {
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
    pub(crate) fn failure(&self, why: Ended) -> Failure {
        why.failure(&self.server, self.is_stateless())
    }

    /// Why the session cannot go on under that pool.toml, if it cannot.
    pub(crate) fn ended_under(&self, config: &Config) -> Option<Ended> {
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
    pub(crate) async fn unless_ended<T>(
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

    /// How long nothing has used the session; `None` while something does.
    pub fn idle_for(&self, now: Instant) -> Option<std::time::Duration> {
        let state = self.state.lock();
        (state.in_use == 0).then(|| now.saturating_duration_since(state.last_used))
    }

    /// The level from which on its client wants messages of the log; `None` if it has not said so.
    pub(crate) fn level(&self) -> Option<Level> {
        self.state.lock().level
    }

    pub(crate) fn set_level(&self, level: Level) {
        self.state.lock().level = Some(level);
    }

    pub(crate) fn add_subscription(&self, uri: String) {
        self.with_subscriptions(|all| all.add(uri));
    }

    pub(crate) fn remove_subscription(&self, uri: &str) {
        self.with_subscriptions(|all| all.remove(uri));
    }

    pub(crate) fn with_subscriptions<T>(&self, with: impl FnOnce(&mut Subscriptions) -> T) -> T {
        with(&mut self.state.lock().subscriptions)
    }

    /// What a new worker must be told to be where an earlier one was.
    pub(crate) fn settings(&self) -> (Option<Level>, Vec<String>) {
        let state = self.state.lock();
        (state.level, state.subscriptions.agreed().cloned().collect())
    }

    /// Notes an attachment; false if it is noted already.
    pub(crate) fn attach(&self, worker: WorkerId) -> bool {
        self.state.lock().attached_to.insert(worker)
    }

    /// Forgets the attachments at workers that are gone.
    pub(crate) fn keep_attached(&self, is_there: impl Fn(WorkerId) -> bool) {
        self.state.lock().attached_to.retain(|id| is_there(*id));
    }

    pub(crate) fn detach(&self, worker: WorkerId) {
        self.state.lock().attached_to.remove(&worker);
    }

    /// The workers at which it is attached.
    pub fn attached_to(&self) -> Vec<WorkerId> {
        self.state.lock().attached_to.iter().copied().collect()
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
