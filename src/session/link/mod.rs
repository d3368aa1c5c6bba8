//! A worker as the sessions see it: its multiplexer, its process, and who waits for what.

mod assembly;
mod calls;
mod effects;
mod excerpt;
mod fanout;
mod inbox;
mod life;
mod malformed;
pub(super) mod own_tools;
mod roots;
mod slumber;
mod stderr;
mod tools;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::Span;

use self::assembly::Assembly;
use self::own_tools::{Changes, OwnTools};
use super::berth::Berth;
use super::catalog::Edition;
use super::launchpad::Launchpad;
use super::mailbox::Mailbox;
use super::offer::Offer;
use super::record::Session;
use super::route::Order;
use super::shared::Shared;
use crate::bridge::aggregate::Alias;
use crate::bridge::{Action, CallId, Era, Hello, Level, Listing, Mux, NotGreeted};
use crate::fair::{Flow, Scheduler};
use crate::held::{Account, Full};
use crate::ids::{PoolKey, WorkerId};
use crate::launch::packages::view::View;
use crate::pool::{Lease, Stop};
use crate::protocol::{Envelope, RawId};
use crate::telemetry::Warnings;
use crate::worker::Worker;

/// A slot on a worker of a session.
pub(super) type LinkLease = Lease<Launchpad>;

/// One worker and the calls it is busy with.
pub struct Link {
    id: WorkerId,
    /// What is logged of it is in this span.
    span: Span,
    key: PoolKey,
    order: Arc<Order>,
    worker: OnceLock<Worker>,
    /// The entry of the package cache that it was started from.
    entry: OnceLock<String>,
    /// Its private view of a package.
    view: OnceLock<Arc<View>>,
    /// Where its process can be handed over, for a spare.
    berth: OnceLock<Weak<Berth>>,
    state: Mutex<State>,
    slumber: slumber::Slumber,
    /// What its tenant holds; a spare has none.
    account: Option<Account>,
    /// The work that its worker makes: its tenant's, or its own.
    flow: Flow,
    /// A long message that is not whole yet.
    assembly: Mutex<Assembly>,
    /// Held by whoever tells it roots.
    roots_turn: tokio::sync::Mutex<()>,
    /// What is known of its tools.
    tools: OwnTools,
    /// Notifications for many sessions.
    rounds: Mutex<fanout::Rounds>,
    /// Processes that were stopped for their sleep.
    frozen: Mutex<Vec<u32>>,
    /// Lines of stderr that are in the metrics already.
    stderr_counted: AtomicU64,
    /// Messages that were off, in the log.
    warnings: Warnings,
    shared: Weak<Shared>,
}

struct State {
    mux: Mux,
    desks: FxHashMap<CallId, Desk>,
    /// How the process ended, once it has.
    exited: Option<String>,
    /// The signal that ended it by itself, without being asked to.
    died_of: Option<i32>,
    /// Why it is being ended, where that is more than that it was asked to.
    condemned: Option<String>,
    /// Why it was told to stop, once it was.
    stop: Option<Stop>,
    /// Why it will never serve, in words.
    start_failure: Option<String>,
    /// How its start ended that is held against nobody.
    declined: Option<String>,
    greeted: Option<oneshot::Sender<Result<(), NotGreeted>>>,
    /// Waits for the answer to a `ping`, once it has been greeted.
    settled: Option<oneshot::Sender<()>>,
    /// Reused between messages.
    scratch: Vec<Action>,
    /// Events since the invariants were last checked.
    #[cfg(debug_assertions)]
    unchecked: usize,
}

#[cfg(debug_assertions)]
impl State {
    /// Whether the invariants are checked after this event: after each where there is little to walk, else now and then,
    /// so that a worker of a thousand sessions is not slow because it is looked at.
    fn is_to_be_checked(&mut self) -> bool {
        self.unchecked += 16;
        let is_due = self.unchecked >= self.mux.extent();
        if is_due {
            self.unchecked = 0;
        }
        is_due
    }
}

/// Where a call's answer goes.
struct Desk {
    mailbox: Arc<Mailbox>,
    /// `None` of a request of stdiopool itself on behalf of another that holds one.
    lease: Option<LinkLease>,
    client_id: RawId,
    /// What its server's things are called for its client.
    alias: Option<Alias>,
    /// Its answer lists tools, of which its caller gets to see these.
    offer: Option<Arc<Offer>>,
    /// The list that was asked for, if its answer may be remembered.
    listing: Option<(Era, Listing, Edition)>,
    /// Its answer lists tools from the first on, of that edition.
    tools: Option<(Changes, Option<Edition>)>,
    /// When the request came in, if that is recorded.
    arrived: Option<Instant>,
    /// When the worker was sent it.
    sent: Instant,
}

/// A request, and whose.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) session: &'a Session,
    pub(super) envelope: &'a Envelope<'a>,
    /// When it came in, if that is recorded.
    pub(super) arrived: Option<Instant>,
    /// Log lines that a caller without a session wants.
    pub(super) level: Option<Level>,
    /// What its caller gets to see of the tools, if that is not all.
    pub(super) offer: Option<&'a Arc<Offer>>,
}

/// A call that the worker has been sent, or that needed no worker.
#[derive(Debug)]
pub(super) enum Called {
    /// The answer will come to the mailbox; and when that was.
    Sent(CallId, Instant),
    /// The answer is in the mailbox.
    Answered,
}

/// Why a call could not be handed to this worker.
#[derive(Debug)]
pub(super) enum CallRefused {
    /// The process is gone; nothing of the call reached it, so another worker may serve it.
    Gone,
    /// The process does not read what it is sent.
    Stalled {
        /// Bytes that wait for it already.
        unsent: usize,
    },
    /// The process does not read fast enough, and its tenant has no room for what waits.
    NoRoom(Full),
    /// The session ended meanwhile.
    SessionEnded,
}

impl Link {
    /// The work that its worker makes.
    pub(super) fn flow(&self) -> &Flow {
        &self.flow
    }

    pub(super) fn new(id: WorkerId, key: PoolKey, order: Arc<Order>, shared: Weak<Shared>) -> Self {
        let mux = Mux::new(id, &order.greeting);
        let tenant = order.tenant.as_ref();
        let account = tenant.and_then(|it| Some(shared.upgrade()?.ledger.account(it)));
        let flow = match (&account, shared.upgrade()) {
            (Some(account), _) => account.flow().clone(),
            (None, Some(shared)) => shared.ledger.scheduler().flow(),
            // It is ending.
            (None, None) => Scheduler::default().flow(),
        };
        Self {
            account,
            flow,
            assembly: Mutex::default(),
            id,
            // There is one for each worker, so that it may be there whatever the log is filtered by.
            span: tracing::error_span!(parent: None, "worker", %id, server = %order.server, tenant = order.whose()),
            key,
            order,
            worker: OnceLock::new(),
            entry: OnceLock::new(),
            view: OnceLock::new(),
            berth: OnceLock::new(),
            state: Mutex::new(State {
                mux,
                desks: FxHashMap::default(),
                exited: None,
                died_of: None,
                condemned: None,
                stop: None,
                start_failure: None,
                declined: None,
                greeted: None,
                settled: None,
                scratch: Vec::new(),
                #[cfg(debug_assertions)]
                unchecked: 0,
            }),
            slumber: slumber::Slumber::default(),
            roots_turn: tokio::sync::Mutex::default(),
            tools: OwnTools::default(),
            rounds: Mutex::default(),
            frozen: Mutex::default(),
            stderr_counted: AtomicU64::new(0),
            warnings: Warnings::default(),
            shared,
        }
    }

    /// What is logged of it is in this span.
    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// The worker's id.
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// What it was started as.
    pub fn order(&self) -> &Arc<Order> {
        &self.order
    }

    /// Notes which entry of the package cache it is started from.
    pub(super) fn started_from(&self, entry: &str) {
        // A link has one process, which is started once.
        let _first = self.entry.set(entry.to_owned());
    }

    /// Notes which private view of a package the process runs from.
    pub(super) fn runs_from(&self, view: Arc<View>) {
        // A link has one process, which is started once.
        let _first = self.view.set(view);
    }

    /// The private view of a package that the process runs from, if it does.
    pub(super) fn view(&self) -> Option<Arc<View>> {
        self.view.get().cloned()
    }

    /// The entry of the package cache that it was started from, if it was.
    pub(super) fn entry(&self) -> Option<&str> {
        self.entry.get().map(String::as_str)
    }

    /// Whether it is a process of that key that has not answered its first request yet.
    pub(super) fn is_starting_for(&self, key: PoolKey) -> bool {
        self.key == key && self.worker.get().is_some() && self.hello().is_none()
    }

    /// Its process, once there is one.
    pub fn worker(&self) -> Option<&Worker> {
        self.worker.get()
    }

    pub(super) fn moor(&self, berth: &Arc<Berth>) {
        let _first = self.berth.set(Arc::downgrade(berth));
    }

    /// Where its process can be handed over, while it lives and is nobody's.
    pub(super) fn berth(&self) -> Option<Arc<Berth>> {
        self.berth.get()?.upgrade()
    }

    /// What the worker said of itself; `None` before the handshake is over.
    pub fn hello(&self) -> Option<Hello> {
        self.state.lock().mux.hello().cloned()
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("id", &self.id)
            .field("server", &self.order.server)
            .finish_non_exhaustive()
    }
}
