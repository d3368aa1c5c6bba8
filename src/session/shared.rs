//! What sessions, links and the launcher have in common.

use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::alone::Alone;
use super::callers::Callers;
use super::catalog::Catalog;
use super::directory::Directory;
use super::ended::Ended;
use super::eras::Eras;
use super::known_tools::KnownTools;
use super::late_lists::LateLists;
use super::launchpad::Launchpad;
use super::link::Link;
use super::record::Session;
use super::roots::RootsTable;
use super::route::{Route, Setup};
use super::rules::Finding;
use super::suspended::Waiting;
use super::tool_list::ToolList;
use crate::bridge::SessionNo;
use crate::held::Ledger;
use crate::ids::{ServerName, WorkerId};
use crate::launch::packages::Installer;
use crate::pool::{Pool, StopReason};
use crate::protocol::Failure;
use crate::store::{IdHash, SessionStore, Standing};
use crate::telemetry::{Metrics, TraceRecorder};
use crate::worker::{Exit, Guardian};

/// Page-outs at once.
const PAGE_OUTS: usize = 2;

/// What happens to workers and sessions.
#[derive(Clone, Copy, Debug)]
pub enum Happening<'a> {
    /// A process is being started.
    WorkerStarting(&'a Link),
    /// It can serve.
    WorkerReady(&'a Link),
    /// It never will, and why.
    WorkerStartFailed(&'a Link, &'a str),
    /// It ended after it could serve.
    WorkerExited(&'a Link, &'a Exit),
    /// Nothing of it is left, whether it ever could serve or not; how its first process ended, if there was one.
    WorkerGone(&'a Link, Option<&'a Exit>),
    /// A rule about tools does not do what it says, in words.
    RuleUnmatched(Option<&'a ServerName>, &'a str),
    /// Something happened to a package that a server runs, in words.
    Package(PackageEvent, &'a ServerName, &'a str),
    /// A client has opened a session.
    SessionOpened(&'a Session),
    /// It is over.
    SessionClosed(&'a Session),
}

/// What happens to a package.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PackageEvent {
    /// It is being installed.
    Installing,
    /// It is there.
    Installed,
    /// It cannot be had.
    Failed,
    /// Another version was run, which does not have what the server wrote beside its code.
    LeftBehind,
}

/// Is told what happens. Must not block.
pub trait Watcher: Send + Sync + std::fmt::Debug + 'static {
    /// Something happened.
    fn happened(&self, happening: Happening<'_>);
}

/// State below the sessions' API. Each field has its own small lock, none is held across an await
/// or while another is taken.
#[derive(Debug)]
pub struct Shared {
    pub(super) directory: Directory,
    pub(super) catalog: Catalog,
    pub(super) callers: Callers,
    /// Sessions that are being opened.
    pub(super) newcomers: Mutex<FxHashMap<SessionNo, Arc<Session>>>,
    pub(super) eras: Eras,
    /// What servers' tools are called.
    pub(super) tools: KnownTools,
    pub(super) roots: RootsTable,
    pub(super) alone: Alone,
    /// Calls that wait for their client's next request.
    pub(super) waiting: Waiting,
    /// Lists of all servers that some are missing in until their packages are there.
    pub(super) late_lists: LateLists,
    /// What is held for tenants.
    pub(super) ledger: Ledger,
    pub(super) metrics: Arc<Metrics>,
    pub(super) guardian: Guardian,
    pub(super) tasks: TaskTracker,
    pub(super) watcher: Arc<dyn Watcher>,
    /// Where sessions are written down.
    pub(super) store: Option<SessionStore>,
    /// Installs what workers are started from.
    pub(super) installer: Arc<Installer>,
    /// Where requests are recorded for `stdiopool tune`.
    pub(super) trace: Option<TraceRecorder>,
    /// Workers that may be paged out at once.
    pub(super) page_outs: Semaphore,
    setup: RwLock<Arc<Setup>>,
    links: RwLock<FxHashMap<WorkerId, Arc<Link>>>,
    pinned: Mutex<FxHashSet<WorkerId>>,
    pool: OnceLock<Pool<Launchpad>>,
}

impl Shared {
    pub(super) fn new(
        setup: Arc<Setup>,
        guardian: Guardian,
        metrics: Arc<Metrics>,
        watcher: Arc<dyn Watcher>,
        (store, eras): (Option<SessionStore>, Eras),
        (trace, installer): (Option<TraceRecorder>, Arc<Installer>),
    ) -> Self {
        let ledger = Ledger::new(setup.config.held_limits());
        installer.set_patience(setup.config.packages.install_timeout);
        ledger.set_limits(setup.config.held_limits(), setup.config.own_held_limits());
        Self {
            eras,
            roots: RootsTable::default(),
            alone: Alone::default(),
            directory: Directory::default(),
            catalog: Catalog::new(ledger.clone()),
            callers: Callers::default(),
            newcomers: Mutex::default(),
            tools: KnownTools::default(),
            late_lists: LateLists::default(),
            waiting: Waiting::new()
                .expect("the system has randomness, or nothing here can be safe"),
            ledger,
            metrics,
            guardian,
            tasks: TaskTracker::new(),
            watcher,
            store,
            installer,
            trace,
            page_outs: Semaphore::new(PAGE_OUTS),
            setup: RwLock::new(setup),
            links: RwLock::default(),
            pinned: Mutex::default(),
            pool: OnceLock::new(),
        }
    }

    pub(super) fn set_pool(&self, pool: Pool<Launchpad>) {
        let _first = self.pool.set(pool);
    }

    pub(super) fn pool(&self) -> &Pool<Launchpad> {
        self.pool.get().expect("set before the first session")
    }

    pub(super) fn setup(&self) -> Arc<Setup> {
        Arc::clone(&self.setup.read())
    }

    pub(super) fn replace_setup(&self, setup: Arc<Setup>) {
        let config = &setup.config;
        let own = config.own_held_limits();
        self.ledger.set_limits(config.held_limits(), own);
        self.installer.set_patience(config.packages.install_timeout);
        let found = self.tools.reconsider(config);
        self.tell_findings(&found);
        *self.setup.write() = setup;
    }

    /// Looks at a page of a server's list of tools: whether rules about them do what they say.
    pub(super) fn learn_tools(&self, server: &ServerName, result: &str) {
        let setup = self.setup();
        if setup.is_selective(server) {
            let found = self.tools.learn(&setup.config, server, result);
            self.tell_findings(&found);
        }
    }

    /// Looks at a whole list of a server's tools: whether what is set for them can be.
    pub(super) fn learn_tool_list(&self, server: &ServerName, list: &Arc<ToolList>) {
        let setup = self.setup();
        let found = self.tools.learn_list(&setup.config, server, list);
        self.tell_findings(&found);
    }

    /// Whether arguments are set for callers of that server's tools.
    pub(super) fn binds(&self, server: &ServerName) -> bool {
        let setup = self.setup();
        let server = setup.config.servers.get(server);
        server.is_some_and(|server| !server.bind.is_empty())
    }

    fn tell_findings(&self, findings: &[Finding]) {
        for finding in findings {
            let server = finding.server.as_ref();
            tracing::warn!(
                server = server.map(ServerName::as_str),
                "{}",
                finding.message
            );
            let told = Happening::RuleUnmatched(server, &finding.message);
            self.watcher.happened(told);
        }
    }

    pub(super) fn add_link(&self, link: Arc<Link>) {
        self.links.write().insert(link.id(), link);
    }

    pub(super) fn remove_link(&self, id: WorkerId) {
        self.links.write().remove(&id);
        self.pinned.lock().remove(&id);
    }

    pub(super) fn link(&self, id: WorkerId) -> Option<Arc<Link>> {
        self.links.read().get(&id).cloned()
    }

    pub(super) fn links(&self) -> Vec<Arc<Link>> {
        self.links.read().values().cloned().collect()
    }

    /// Grows whenever sessions may have to go another way than before.
    pub(super) fn edition(&self) -> u64 {
        self.eras.edition() + self.roots.edition() + self.alone.edition()
    }

    /// Writes down what a session has set.
    pub(super) fn keep_standing(&self, session: &Arc<Session>) {
        if let Some(store) = &self.store {
            let id = IdHash::of(session.id.as_str());
            store.set_standing(id, Arc::clone(session) as Arc<dyn Standing>);
        }
    }

    /// Pins or unpins a worker in the pool, once.
    pub(super) fn set_pinned(&self, id: WorkerId, pinned: bool) {
        let changed = {
            let mut table = self.pinned.lock();
            if pinned {
                table.insert(id)
            } else {
                table.remove(&id)
            }
        };
        match (changed, pinned) {
            (true, true) => self.pool().pin(id),
            (true, false) => self.pool().unpin(id),
            (false, _) => {}
        }
    }

    /// The worker's process is dead, though some of its tree may not be yet: it serves no one
    /// any more, and its sessions lose their seats.
    pub(super) fn worker_exited(&self, link: &Link, exit: &Exit, seated: &[SessionNo]) {
        if !exit.asked {
            tracing::warn!(
                parent: link.span(), worker = %link.id(), server = %link.order().server, tenant = link.order().whose(),
                "worker {exit}"
            );
        }
        self.pool().retire(link.id(), StopReason::Spoiled);
        for session in seated.iter().filter_map(|no| self.directory.get(*no)) {
            session.lose_seat(link.id());
            if link.order().stateful {
                self.end_session_because(&session, Ended::WorkerGone);
            }
        }
    }

    /// A way that a session does not take any more: what only it used ends.
    pub(super) fn leave_behind(&self, route: &Route) {
        if route.share == crate::config::Share::Session {
            self.pool().retire_key(route.key, StopReason::Session);
        }
    }

    /// Ends a session: its id is unknown from now on, its calls are cancelled, its streams close.
    /// Says whether it was still there.
    pub(super) fn end_session(&self, session: &Arc<Session>) -> bool {
        self.end_session_because(session, Ended::ByClient)
    }

    /// Ends every session for which there is a reason, whether or not a client knows of it: sessions, what stands for
    /// callers without sessions, and those that are just being opened.
    pub(super) fn end_sessions(&self, why: impl Fn(&Session) -> Option<Ended>) {
        for session in self.directory.all() {
            if let Some(why) = why(&session) {
                self.end_session_because(&session, why);
            }
        }
        self.end_callers(&why);
        let newcomers: Vec<_> = self.newcomers.lock().values().cloned().collect();
        for session in newcomers {
            if let Some(why) = why(&session) {
                session.end(why);
                for route in session.routes() {
                    self.leave_behind(&route);
                }
            }
        }
    }

    /// Ends a session for that reason, which its requests under way are told.
    pub(super) fn end_session_because(&self, session: &Arc<Session>, why: Ended) -> bool {
        if !session.end(why) {
            return false;
        }
        self.directory.remove(session);
        if let Some(store) = &self.store {
            store.remove(IdHash::of(session.id.as_str()));
        }
        for link in session.seats().into_iter().filter_map(|id| self.link(id)) {
            link.detach(session.no, &session.failure(why));
            link.order().pin_while_subscribed(&link, self);
        }
        for route in session.routes() {
            self.leave_behind(&route);
        }
        if !session.is_stateless {
            self.watcher.happened(Happening::SessionClosed(session));
        }
        let members = std::mem::take(&mut *session.members.lock());
        for member in members.values() {
            self.end_session_because(member, why);
        }
        true
    }
}

/// A session that no table has yet, while it is found out what its server says of itself. Who removes its server or its
/// tenant ends it all the same.
#[derive(Debug)]
pub(super) struct Newcomer<'a> {
    shared: &'a Shared,
    session: Arc<Session>,
}

impl<'a> Newcomer<'a> {
    /// Notes a session that is about to be opened.
    ///
    /// # Errors
    /// When its server or tenant has just been removed.
    pub(super) fn enter(shared: &'a Shared, session: &Arc<Session>) -> Result<Self, Failure> {
        let mut newcomers = shared.newcomers.lock();
        newcomers.insert(session.no, Arc::clone(session));
        drop(newcomers);
        let newcomer = Self {
            shared,
            session: Arc::clone(session),
        };
        // Whoever changes pool.toml puts it in force first and looks for newcomers then: one of the two sees the other.
        match session.ended_under(&shared.setup().config) {
            Some(why) => Err(session.failure(why)),
            None => Ok(newcomer),
        }
    }
}

impl Drop for Newcomer<'_> {
    fn drop(&mut self) {
        self.shared.newcomers.lock().remove(&self.session.no);
    }
}
