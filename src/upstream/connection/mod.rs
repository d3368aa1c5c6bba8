//! One worker as its callers see it: its multiplexer, its process, and the calls that wait for it.
//!
//! A [`WorkerConnection`] is made before its process is started and lasts until the process is gone. What the multiplexer decides is
//! carried out by `effects`, what the process says comes in by `inbox`; `lifecycle` has its start and end, `hibernation` its sleep, `calls`
//! what sessions want of it, `malformed` and `assembly` what is off or comes in pieces, `broadcasts` what is for many sessions.
//!
//! ```text
//!  made ── process is there ──▶ handshake ── settled ──▶ serves ◀── woken, paged out ──▶ asleep
//!    │                              │                      │                              │
//!    └─ the start fails ─┐          └─ refused, declined ──┼── stop, exit, a broken pipe ─┘
//!                        ▼                                 ▼
//!                      gone ◀── the process has ended: what is pending fails, leases go back
//! ```
//!
//! Invariants:
//! - the multiplexer, the pending calls and what is known of the end are under one lock (`State`), which is held across no await;
//! - what goes to the worker is queued under that lock; what callers are told follows once it is released (`effects`);
//! - a call is pending until it is answered, its worker is gone, or it was given up on: each of them takes it out, and its lease with it.
//!
//! A connection deliberately knows no session but as an [`Attachment`](super::Attachment), chooses no worker, and sends nothing again.

mod assembly;
mod broadcasts;
mod calls;
mod effects;
mod egress;
mod excerpt;
mod hibernation;
mod inbox;
mod life;
mod lifecycle;
mod limits;
mod malformed;
mod observed;
pub(crate) mod own_tools;
mod roots;
mod stderr;
mod tools;

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock, Weak};
use std::time::SystemTime;

use bytes::Bytes;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::Span;

use self::assembly::Assembly;
use self::own_tools::{OwnTools, ToolEdition};
use super::broadcast::Broadcasts;
use super::lease::WorkerLease;
use super::outbox::Outbox;
use super::services::Services;
use crate::bridge::aggregate::Alias;
use crate::bridge::{Action, CallId, HandshakeError, Level, Mux, ServerInfo};
use crate::fair::Flow;
use crate::held::{Account, Charge, Full};
use crate::ids::{PoolKey, WorkerId};
use crate::launch::packages::view::View;
use crate::pool::{Stop, StopReason};
use crate::protocol::{Envelope, RawId, TraceContext};
use crate::routing::StartPlan;
use crate::routing::{Edition, ListKey};
use crate::telemetry::{Waking, Warnings};
use crate::worker::Worker;

pub use self::life::{Life, LifeEntry, LifeStage};

/// One worker and the calls it is busy with.
pub struct WorkerConnection {
    id: WorkerId,
    /// The span of the log lines about the worker.
    span: Span,
    key: PoolKey,
    plan: Arc<StartPlan>,
    worker: OnceLock<Worker>,
    /// The entry of the package cache that it was started from.
    entry: OnceLock<String>,
    /// The worker's private view of a package.
    view: OnceLock<Arc<View>>,
    state: Mutex<State>,
    hibernation: hibernation::Hibernation,
    /// When its process was begun to be started.
    began: Instant,
    /// When it was ready, once it was.
    ready_at: OnceLock<Instant>,
    /// The trace of the request that it is started for, as its process is told.
    start_trace: OnceLock<TraceContext>,
    /// The account of the worker's tenant; a spare has none.
    account: Option<Account>,
    /// The work that its worker makes: its tenant's, or its own.
    flow: Flow,
    /// A long message that is not whole yet.
    assembly: Mutex<Assembly>,
    /// Held by whoever tells it roots.
    roots_asking: tokio::sync::Mutex<()>,
    /// What is known of the worker's tools.
    tools: OwnTools,
    /// Notifications for many sessions.
    broadcasts: Mutex<Broadcasts>,
    /// Processes that were stopped for their sleep.
    frozen: Mutex<Vec<u32>>,
    /// What the worker went through.
    life: Mutex<Life>,
    /// Lines of stderr that are in the metrics already.
    stderr_counted: AtomicU64,
    /// Messages that were off, in the log.
    warnings: Warnings,
    /// Hosts that were not reached, in the log.
    egress_warnings: Warnings,
    /// What a strict worker would be refused, in the log.
    observed_warnings: Warnings,
    /// The pool was told that it is not to be ended.
    is_pinned: AtomicBool,
    /// What the connections share.
    services: Arc<Services>,
    /// The connection itself, for what goes on beside its calls.
    me: Weak<Self>,
}

struct State {
    mux: Mux,
    pending_calls: FxHashMap<CallId, PendingCall>,
    /// How the process ended, once it has.
    exited: Option<String>,
    /// The signal that ended it by itself, without being asked to.
    died_of: Option<i32>,
    /// Why the worker is being ended, where that is more than that it was asked to.
    kill_reason: Option<(StopReason, String)>,
    /// Why the worker was told to stop, once it was.
    stop: Option<Stop>,
    /// Why the worker will never serve, in words.
    start_failure: Option<String>,
    /// How a start ended that is held against nobody.
    declined: Option<String>,
    handshake: Option<oneshot::Sender<Result<(), HandshakeError>>>,
    /// Waits for the answer to a `ping`, once the handshake is over.
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

/// A list that a client has asked for.
#[derive(Clone, Copy, Debug)]
struct RequestedList {
    list: ListKey,
    edition: Edition,
}

/// Where a call's answer goes.
struct PendingCall {
    outbox: Arc<Outbox>,
    /// `None` of a request of stdiopool itself on behalf of another that holds one.
    lease: Option<WorkerLease>,
    client_id: RawId,
    /// The names by which the call's client knows things of the server.
    alias: Option<Alias>,
    /// The call's answer lists tools, of which its caller gets to see some, or something else.
    tool_filter: Option<Arc<dyn ToolFilter>>,
    /// The list that was asked for, if its answer may be remembered.
    listing: Option<RequestedList>,
    /// The call's answer lists tools from the first on, of that edition.
    tools: Option<ToolEdition>,
    /// When the request came in, if that is recorded.
    arrived: Option<Instant>,
    /// When the worker was sent it.
    sent: Instant,
    /// The charge for what later rounds of the call need, if it may have some.
    kept: Option<Charge>,
}

/// Filters a list of tools before its caller gets it.
pub(crate) trait ToolFilter: std::fmt::Debug + Send + Sync {
    /// The response to `tools/list` with what its caller gets to see.
    fn filtered(&self, response: Bytes) -> Bytes;
}

/// A request of a session, with what decides how it is sent.
pub(crate) struct SessionRequest<'a, A> {
    /// The caller's attachment.
    pub(crate) session: &'a A,
    /// The session was attached just now.
    pub(crate) is_new_here: bool,
    pub(crate) envelope: &'a Envelope<'a>,
    /// When the request came in, if that is recorded.
    pub(crate) arrived: Option<Instant>,
    /// Log lines that a caller without a session wants.
    pub(crate) level: Option<Level>,
    /// The tools in an answer that the caller gets to see, if that is not all.
    pub(crate) tool_filter: Option<Arc<dyn ToolFilter>>,
}

/// A call that the worker has been sent, or that needed no worker.
#[derive(Debug)]
pub(crate) enum Called {
    /// The answer will come to the outbox; and when that was.
    Sent(CallId, Instant),
    /// The answer is in the outbox.
    Answered,
}

/// Why a call could not be handed to this worker.
#[derive(Debug)]
pub(crate) enum CallRefused {
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

impl WorkerConnection {
    /// The work that its worker makes.
    pub(crate) fn flow(&self) -> &Flow {
        &self.flow
    }

    pub(super) fn new(
        id: WorkerId,
        key: PoolKey,
        plan: Arc<StartPlan>,
        services: Arc<Services>,
    ) -> Arc<Self> {
        let mux = Mux::new(id, &plan.handshake);
        let account = plan.tenant.as_ref().map(|it| services.ledger.account(it));
        let flow = match &account {
            Some(account) => account.flow().clone(),
            None => services.ledger.scheduler().flow(),
        };
        Arc::new_cyclic(|me| Self {
            account,
            flow,
            assembly: Mutex::new(Assembly::new(plan.options.max_message)),
            id,
            // There is one for each worker, so that it may be there whatever the log is filtered by.
            span: tracing::error_span!(parent: None, "worker", %id, server = %plan.server, tenant = plan.whose()),
            key,
            plan,
            worker: OnceLock::new(),
            entry: OnceLock::new(),
            view: OnceLock::new(),
            state: Mutex::new(State {
                mux,
                pending_calls: FxHashMap::default(),
                exited: None,
                died_of: None,
                kill_reason: None,
                stop: None,
                start_failure: None,
                declined: None,
                handshake: None,
                settled: None,
                scratch: Vec::new(),
                #[cfg(debug_assertions)]
                unchecked: 0,
            }),
            hibernation: hibernation::Hibernation::default(),
            began: Instant::now(),
            ready_at: OnceLock::new(),
            start_trace: OnceLock::new(),
            roots_asking: tokio::sync::Mutex::default(),
            tools: OwnTools::default(),
            broadcasts: Mutex::default(),
            frozen: Mutex::default(),
            life: Mutex::default(),
            stderr_counted: AtomicU64::new(0),
            warnings: Warnings::default(),
            egress_warnings: Warnings::default(),
            observed_warnings: Warnings::default(),
            is_pinned: AtomicBool::new(false),
            services,
            me: Weak::clone(me),
        })
    }

    /// The span of the log lines about the worker.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// The worker's id.
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// The pool key, which the connection's sessions have in common.
    pub(crate) fn key(&self) -> PoolKey {
        self.key
    }

    /// What the worker went through until now.
    pub fn life(&self) -> Life {
        self.life.lock().clone()
    }

    /// Notes what the worker has come to just now, and how.
    pub fn note_life(&self, stage: LifeStage, how: &str) {
        self.life.lock().note(SystemTime::now(), stage, how);
    }

    /// Goes on with the life of the spare that the worker was.
    pub(crate) fn goes_on_from(&self, spare: &Self) {
        *self.life.lock() = spare.life();
    }

    /// What the worker was started as.
    pub fn plan(&self) -> &Arc<StartPlan> {
        &self.plan
    }

    /// Notes which entry of the package cache it is started from.
    pub(crate) fn started_from(&self, entry: &str) {
        // A connection has one process, which is started once.
        let _first = self.entry.set(entry.to_owned());
    }

    /// Notes which private view of a package the process runs from.
    pub(crate) fn runs_from(&self, view: Arc<View>) {
        // A connection has one process, which is started once.
        let _first = self.view.set(view);
    }

    /// The private view of a package that the process runs from, if it does.
    pub(crate) fn view(&self) -> Option<Arc<View>> {
        self.view.get().cloned()
    }

    /// The entry of the package cache that it was started from, if it was.
    pub(crate) fn entry(&self) -> Option<&str> {
        self.entry.get().map(String::as_str)
    }

    /// Whether the worker is a process of that key that has not answered its first request yet.
    pub(crate) fn is_starting_for(&self, key: PoolKey) -> bool {
        self.key == key && self.worker.get().is_some() && self.server_info().is_none()
    }

    /// The worker's process, once there is one.
    pub fn worker(&self) -> Option<&Worker> {
        self.worker.get()
    }

    /// Notes that the worker is ready.
    pub(super) fn is_ready(&self) {
        // A worker becomes ready once.
        let _first = self.ready_at.set(Instant::now());
    }

    /// When its process was begun to be started, and when it was ready; `None` before that.
    pub(crate) fn start_times(&self) -> Option<(Instant, Instant)> {
        self.ready_at.get().map(|ready| (self.began, *ready))
    }

    /// The waking that is under way, if it was asleep and has said nothing since.
    pub(crate) fn waking(&self) -> Option<Arc<Waking>> {
        self.hibernation.waking()
    }

    /// Notes the trace of the request that it is started for.
    pub(super) fn starts_for(&self, context: TraceContext) {
        // A connection has one process, which is started once.
        let _first = self.start_trace.set(context);
    }

    /// The trace of the request that it is started for, as its process is told.
    pub(super) fn start_trace(&self) -> Option<&TraceContext> {
        self.start_trace.get()
    }

    /// What the worker said of itself; `None` before the handshake is over.
    pub fn server_info(&self) -> Option<ServerInfo> {
        self.state.lock().mux.server_info().cloned()
    }
}

impl std::fmt::Debug for WorkerConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerConnection")
            .field("id", &self.id)
            .field("server", &self.plan.server)
            .finish_non_exhaustive()
    }
}
