//! A worker as the sessions see it: its multiplexer, its process, and who waits for what.

mod effects;
mod fanout;
mod inbox;
mod malformed;
pub(super) mod own_tools;
mod roots;
mod slumber;
mod tools;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use nix::sys::signal::Signal;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::own_tools::{Changes, OwnTools};
use super::berth::Berth;
use super::catalog::Edition;
use super::eras::Refusal;
use super::launchpad::Launchpad;
use super::mailbox::Mailbox;
use super::offer::Offer;
use super::record::Session;
use super::route::Order;
use super::shared::Shared;
use crate::bridge::aggregate::Alias;
use crate::bridge::{
    Action, AskRef, CallId, ClientRequest, Era, Hello, Level, Listing, Mux, NotGreeted, Opened,
    SessionNo,
};
use crate::fair::{Flow, Scheduler};
use crate::held::{Account, Charge, Full};
use crate::ids::{PoolKey, WorkerId};
use crate::launch::packages::view::{View, read_only_dependency};
use crate::pool::{Lease, Stop, StopReason};
use crate::protocol::{Envelope, Failure, MessageLines, RawId};
use crate::telemetry::{Warnings, labels};
use crate::worker::memory::{freeze, thaw};
use crate::worker::{Exit, SendError, Worker};

/// A slot on a worker of a session.
pub(super) type LinkLease = Lease<Launchpad>;

/// How long a shared worker may take to answer a call that was cancelled. It need not answer at
/// all (basic/utilities/cancellation), so the slot is given back soon.
const CANCEL_GRACE: Duration = Duration::from_secs(2);
/// The same where the worker may ask its client: it serves no other session before it answered,
/// and is ended when it does not.
const CANCEL_GRACE_INTERACTIVE: Duration = Duration::from_secs(10);
/// How long a process that is there may still take to answer `server/discover`.
const DISCOVERY_GRACE: Duration = Duration::from_secs(1);
/// How many of a worker's last stderr lines an error quotes.
const QUOTED_STDERR_LINES: usize = 8;

/// One worker and the calls it is busy with.
pub struct Link {
    id: WorkerId,
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

/// A message that is not whole yet: what is charged for a long one, and whether there was room for it.
#[derive(Debug, Default)]
struct Assembly {
    charge: Option<Charge>,
    refused: Option<Full>,
    /// A message that goes over several lines.
    lines: MessageLines,
    /// Somebody looks after a message over several lines that does not go on.
    is_watched: bool,
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

    /// Ends it for an operator, whatever it has in flight.
    pub fn stop_for_operator(&self) {
        self.stop(Stop::from(StopReason::Admin));
    }

    /// Starts the stop ladder; a process that is still being started is stopped as soon as it is there.
    pub(super) fn stop(&self, stop: Stop) {
        self.state.lock().stop.get_or_insert(stop);
        // What is stopped hears neither the end of its input nor a polite signal.
        self.wake();
        if let Some(worker) = self.worker.get() {
            worker.stop();
        }
    }

    /// Lets the worker's memory be paged out, until [`Self::wake`].
    pub(super) fn fall_asleep(&self) {
        self.slumber.begin();
    }

    /// It is needed: a page-out under way ends.
    pub(super) fn wake(&self) {
        self.slumber.end();
        self.thaw();
    }

    /// Stops its processes for as long as it sleeps.
    pub(super) fn freeze(&self, processes: Vec<u32>) {
        let mut frozen = self.frozen.lock();
        // Whoever wakes it says so before it takes this lock.
        if self.is_asleep() {
            freeze(&processes);
            *frozen = processes;
        }
    }

    fn thaw(&self) {
        let frozen = std::mem::take(&mut *self.frozen.lock());
        thaw(&frozen);
    }

    /// Whether it may be paged out now.
    pub(super) fn is_asleep(&self) -> bool {
        self.slumber.is_asleep()
    }

    /// Kills the process for holding more memory than it may; whoever waits for it is told so.
    pub fn end_for_memory(&self, held: u64, limit: u64) {
        let (held, limit) = (held.div_ceil(1 << 20), limit >> 20);
        let how = format!(
            "held {held} MiB of memory, more than the {limit} MiB it may (raise `servers.{}.limits.memory`), and was killed",
            self.order.server
        );
        tracing::warn!(worker = %self.id, server = %self.order.server, tenant = self.order.whose(), "worker {how}");
        self.state.lock().condemned = Some(how);
        if let Some(shared) = self.shared.upgrade() {
            shared.pool().retire(self.id, StopReason::Memory);
        }
        if let Some(worker) = self.worker.get() {
            worker.kill();
        }
    }

    /// Shakes hands with the process, or asks a spare whether it is there. The receiver gets the outcome, or an error when the link
    /// is dropped first.
    pub(super) fn greet(&self, worker: Worker) -> oneshot::Receiver<Result<(), NotGreeted>> {
        let (tell, outcome) = oneshot::channel();
        let _first = self.worker.set(worker.clone());
        if let Some(account) = &self.account {
            worker.charge_to(account);
        }
        // Set before this look: a stop that came earlier is seen here, a later one sees the worker.
        if self.state.lock().stop.is_some() {
            worker.stop();
        }
        self.with_mux(|state, out| match &state.exited {
            None => {
                state.greeted = Some(tell);
                if self.order.is_spare() {
                    state.mux.probe(out);
                } else {
                    state.mux.greet(&self.order.greeting, out);
                }
            }
            Some(how) => {
                let _listening = tell.send(Err(self.not_greeted(how)));
            }
        });
        outcome
    }

    /// Why the handshake is over.
    fn not_greeted(&self, how: &str) -> NotGreeted {
        NotGreeted {
            why: format!(
                "it {how} before it answered `{}`",
                self.order.first_question()
            ),
            may_take_the_other: self.order.greeting.era == Era::Stateless,
        }
    }

    /// Asks a process that says nothing whether it is there.
    pub(super) fn ask_whether_it_is_there(&self) {
        self.with_mux(|state, out| state.mux.probe(out));
    }

    /// It is there, and had its time.
    fn does_not_discover(&self) {
        let told = self.state.lock().greeted.take();
        if let Some(told) = told {
            let _timed_out = told.send(Err(NotGreeted {
                why: "it answered `ping`, and not `server/discover`".to_owned(),
                may_take_the_other: true,
            }));
        }
    }

    /// Hands a session's request to the worker. The answer, or the reason there is none, comes to
    /// `mailbox`; the lease is held until then. Without one, it is a request of stdiopool itself, and whoever asks
    /// holds a lease for as long.
    pub(super) fn call(
        &self,
        asked: Asked<'_>,
        lease: Option<LinkLease>,
        mailbox: &Arc<Mailbox>,
    ) -> Result<Called, CallRefused> {
        let Asked {
            session,
            envelope,
            arrived,
            level,
            offer,
        } = asked;
        let is_new_here = self.order.keeps_seats && session.take_seat(self.id);
        if is_new_here
            && session.is_stateless
            && let Some(shared) = self.shared.upgrade()
        {
            // Nobody tells it when a worker ends.
            session.keep_seats(|id| shared.link(id).is_some());
        }
        let listing = self.listing_of(session, envelope);
        let tools = offer.and_then(|_| self.tools_asked(envelope));
        let client_id: RawId = envelope.id.map_or("null", |id| id.get()).into();
        // Taken out of the closure when the call is on its way; else dropped after the lock.
        let mut lease = lease;
        self.with_mux(|state, out| {
            if state.exited.is_some() {
                session.lose_seat(self.id);
                return Err(CallRefused::Gone);
            }
            if is_new_here || !state.mux.is_attached(session.no) {
                let (level, subscriptions) = session.standing();
                let subscriptions = subscriptions.iter().filter(|_| self.order.keeps_seats);
                let subscriptions = subscriptions.map(String::as_str);
                state.mux.attach(session.no, level, subscriptions, out);
                if !session.is_stateless {
                    let client = &session.client;
                    if self.order.asks_clients {
                        state.mux.introduce(session.no, client);
                    } else {
                        state.mux.introduce(session.no, &client.without_questions());
                    }
                }
                // Whoever ends a session marks it first and visits its seats then: one of the
                // two sees the other.
                if session.has_ended() {
                    state.mux.detach(session.no, out);
                    return Err(CallRefused::SessionEnded);
                }
                // What the worker must know first has to reach it first.
                self.flush_to_worker(out);
            }
            if session.is_stateless {
                state.mux.without_session(session.no, level, out);
                self.flush_to_worker(out);
            }
            let request = ClientRequest {
                session: session.no,
                envelope,
            };
            let (id, line) = match state.mux.request(request, out) {
                Opened::Sent(id, line) => (id, line),
                Opened::Local(answer) => {
                    mailbox.expect_answer();
                    mailbox.answer(answer, false);
                    return Ok(Called::Answered);
                }
            };
            // Itself and others.
            let is_busy = state.mux.in_flight() > 1;
            let sent = self.worker.get().map(|worker| match is_busy {
                true => worker.send_gathered(line),
                false => worker.send(line),
            });
            match sent {
                Some(Ok(())) => {}
                Some(Err(SendError::Full { unsent })) => {
                    state.mux.fail(id, out);
                    return Err(CallRefused::Stalled { unsent });
                }
                Some(Err(SendError::NoRoom(full))) => {
                    state.mux.fail(id, out);
                    return Err(CallRefused::NoRoom(full));
                }
                Some(Err(SendError::Closed)) | None => {
                    state.mux.fail(id, out);
                    return Err(CallRefused::Gone);
                }
            }
            let now = Instant::now();
            mailbox.expect_answer();
            let mailbox = Arc::clone(mailbox);
            state.desks.insert(
                id,
                Desk {
                    mailbox,
                    lease: lease.take(),
                    client_id,
                    alias: session.alias().cloned(),
                    offer: offer
                        .filter(|_| envelope.method.as_deref() == Some("tools/list"))
                        .cloned(),
                    listing,
                    tools,
                    arrived,
                    sent: now,
                },
            );
            Ok(Called::Sent(id, now))
        })
    }

    fn listing_of(
        &self,
        session: &Session,
        envelope: &Envelope<'_>,
    ) -> Option<(Era, Listing, Edition)> {
        self.order.catalog_age?;
        let listing = Listing::asked(envelope.method.as_deref()?, envelope.params)?;
        let shared = self.shared.upgrade()?;
        let edition = shared.catalog.edition(self.order.catalog_place()?)?;
        Some((session.words(&self.order), listing, edition))
    }

    /// In which edition a request asks for its tools from the first on, if it does.
    fn tools_asked(&self, envelope: &Envelope<'_>) -> Option<(Changes, Option<Edition>)> {
        let listing = Listing::asked(envelope.method.as_deref()?, envelope.params)?;
        (listing == Listing::Tools).then(|| self.tool_edition())
    }

    /// Gives a listener a seat, beside the one at the worker that took its subscriptions: what one
    /// process changes, another may not see.
    pub(super) fn listen_for(&self, listener: &Session) {
        let (_, subscriptions) = listener.standing();
        if subscriptions.is_empty() || !self.order.keeps_seats || !listener.take_seat(self.id) {
            return;
        }
        self.with_mux(|state, out| {
            if state.exited.is_some() || state.mux.hello().is_none() {
                listener.lose_seat(self.id);
                return;
            }
            let subscriptions = subscriptions.iter().map(String::as_str);
            state.mux.attach_listener(listener.no, subscriptions, out);
            // Whoever ends it marks it first and visits its seats then.
            if listener.has_ended() {
                state.mux.detach(listener.no, out);
            }
        });
    }

    /// Passes a session's notification on, if it has a seat here.
    pub(super) fn notification(&self, session: SessionNo, envelope: &Envelope<'_>) {
        let cancelled = self.with_mux(|state, out| {
            let cancelled = state.mux.notification(session, envelope, out);
            if let Some(desk) = cancelled.and_then(|id| state.desks.get(&id)) {
                desk.mailbox.give_up();
            }
            cancelled
        });
        if let Some(id) = cancelled {
            self.forget_in_time(id);
        }
    }

    /// Passes a session's answer to a question of this worker on; false if it was not asked.
    pub(super) fn answer(&self, session: SessionNo, ask: AskRef, envelope: &Envelope<'_>) -> bool {
        self.with_mux(|state, out| state.mux.answer(session, ask, envelope, out))
    }

    /// Nobody waits for the call any more: the worker is told, the slot comes back when it
    /// answers or, failing that, after a grace period. Returns the client's id of the call, as
    /// raw JSON; `None` for one that is over.
    pub(super) fn abandon(&self, id: CallId, why: &str) -> Option<RawId> {
        let client_id = self.with_mux(|state, out| {
            state.mux.cancel(id, why, out);
            state.desks.get(&id).map(|desk| desk.client_id.clone())
        })?;
        self.forget_in_time(id);
        Some(client_id)
    }

    /// What the worker itself calls a request of its own, as raw JSON.
    pub(super) fn name_of_question(&self, ask: AskRef) -> Option<Box<str>> {
        self.state.lock().mux.name_of_question(ask)
    }

    /// The session has ended.
    pub(super) fn detach(&self, session: SessionNo, why: &Failure) {
        let orphaned = self.with_mux(|state, out| {
            let calls: Vec<_> = state
                .desks
                .keys()
                .filter(|id| state.mux.caller(**id) == Some(session))
                .copied()
                .collect();
            // Whoever has cancelled a request waits for no answer to it.
            let awaited: Vec<_> = calls
                .iter()
                .filter(|id| state.mux.is_awaited(**id))
                .collect();
            for desk in awaited.into_iter().filter_map(|id| state.desks.get(id)) {
                desk.mailbox.fail(desk.client_id.clone(), why.clone());
            }
            state.mux.detach(session, out);
            calls
        });
        for id in orphaned {
            self.forget_in_time(id);
        }
    }

    /// How many sessions subscribe to resources of this worker.
    pub fn subscribers(&self) -> usize {
        self.state.lock().mux.subscribers()
    }

    fn forget_in_time(&self, id: CallId) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let Some(link) = shared.link(self.id) else {
            return;
        };
        let grace = if self.order.greeting.is_interactive() {
            CANCEL_GRACE_INTERACTIVE
        } else {
            CANCEL_GRACE
        };
        shared.tasks.spawn(async move {
            tokio::time::sleep(grace).await;
            link.forget(id);
        });
    }

    fn forget(&self, id: CallId) {
        let desk = self.with_mux(|state, out| {
            let desk = state.desks.remove(&id);
            state.mux.forget(id, out);
            desk
        });
        if let Some(desk) = desk
            && self.order.greeting.is_interactive()
        {
            // It may still ask something on behalf of the cancelled call.
            match (desk.lease, self.shared.upgrade()) {
                (Some(lease), _) => lease.give_up(),
                (None, Some(shared)) => {
                    shared.pool().retire(self.id, StopReason::Unanswered);
                }
                // It is ending.
                (None, None) => {}
            }
        }
    }

    /// What became of a start whose handshake did not succeed.
    pub(super) fn how_the_start_ended(&self) -> labels::StartOutcome {
        let state = self.state.lock();
        match state.exited {
            _ if state.stop.is_some() => labels::StartOutcome::Cancelled,
            Some(_) => labels::StartOutcome::Exited,
            None => labels::StartOutcome::Refused,
        }
    }

    /// How it did not take the first message, where it was not silent.
    pub(super) fn how_it_refused(&self) -> Refusal {
        match self.state.lock().died_of.map(Signal::try_from) {
            None => Refusal::Said,
            Some(Ok(
                Signal::SIGSEGV
                | Signal::SIGABRT
                | Signal::SIGBUS
                | Signal::SIGILL
                | Signal::SIGFPE
                | Signal::SIGTRAP
                | Signal::SIGSYS
                | Signal::SIGPIPE,
            )) => Refusal::Crashed,
            Some(_) => Refusal::Killed,
        }
    }

    /// It will never serve, for that reason.
    pub(super) fn note_start_failure(&self, why: &str) {
        self.state.lock().start_failure = Some(why.to_owned());
    }

    /// Why it was stopped, if it has ended because of that.
    fn stopped_for(&self, has_obeyed: bool) -> Option<Stop> {
        let stop = self.state.lock().stop.clone();
        stop.filter(|stop| has_obeyed || stop.is_cut_short)
    }

    /// It is not what its order needs, for that reason; how its start ended. Another is started instead.
    pub(super) fn note_declined(&self, reason: StopReason, why: &str) {
        let mut state = self.state.lock();
        state.stop.get_or_insert(Stop::from(reason));
        state.declined = Some(why.to_owned());
    }

    /// Why it is over, once it is: the reason as it stands in metrics, and in words.
    pub fn ending(&self, exit: Option<&Exit>) -> (&'static str, String) {
        let state = self.state.lock();
        if let Some(why) = &state.start_failure {
            return (StopReason::StartFailed.as_str(), why.clone());
        }
        if let Some(how) = &state.condemned {
            return (StopReason::Memory.as_str(), how.clone());
        }
        let stop = state.stop.as_ref();
        match (stop.filter(|it| it.reason != StopReason::Spoiled), exit) {
            (Some(stop), _) => {
                let what_next = match stop.reason {
                    StopReason::Declined => "the protocol's other era is tried",
                    StopReason::NotBeside => {
                        "it is tried after the other process of its server has ended"
                    }
                    _ => return (stop.reason.as_str(), stop.to_string()),
                };
                let how = state.declined.as_ref();
                let told = how.map(|how| format!("{how}; {what_next}"));
                let told = told.unwrap_or_else(|| stop.to_string());
                (stop.reason.as_str(), told)
            }
            (None, Some(exit)) => (StopReason::Spoiled.as_str(), exit.to_string()),
            (None, None) => {
                let reason = StopReason::StartFailed;
                (reason.as_str(), Stop::from(reason).to_string())
            }
        }
    }

    /// Brings the count of its stderr lines in the metrics up to date.
    pub fn count_stderr(&self) {
        if let Some(worker) = self.worker.get() {
            let total = worker.stats().stderr_lines;
            let before = self.stderr_counted.fetch_max(total, Ordering::Relaxed);
            self.order
                .metrics
                .stderr_lines(total.saturating_sub(before));
        }
    }

    /// What the worker wrote to stderr so far, its end at least, with its secrets masked.
    pub(super) fn stderr_so_far(&self) -> String {
        let worker = self.worker.get();
        let lines = worker.map(|worker| worker.stderr_tail(QUOTED_STDERR_LINES));
        match lines.unwrap_or_default().as_slice() {
            [] => "it wrote nothing to stderr so far".to_owned(),
            lines => format!("stderr so far:\n{}", lines.join("\n")),
        }
    }

    /// Quotes the end of the worker's stderr, with its secrets masked.
    /// The dependency that could not write beside its own code, if its last lines on stderr tell of that.
    pub(super) fn blames_dependency(&self, packages: &std::path::Path) -> Option<String> {
        let worker = self.worker.get()?;
        let lines = worker.stderr_tail(QUOTED_STDERR_LINES);
        // Node says what is wrong on one line and where on another.
        let view = self.view();
        let view = view.as_ref().map_or(packages, |view| view.folder());
        read_only_dependency(&lines.join("\n"), &[packages, view])
    }

    pub(super) fn quote_stderr(&self) -> String {
        let lines = self
            .worker
            .get()
            .map(|worker| worker.stderr_tail(QUOTED_STDERR_LINES))
            .unwrap_or_default();
        if lines.is_empty() {
            "; it wrote nothing to stderr".to_owned()
        } else {
            format!("; its last lines on stderr:\n{}", lines.join("\n"))
        }
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
