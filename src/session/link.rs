//! A worker as the sessions see it: its multiplexer, its process, and who waits for what.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use super::launchpad::Launchpad;
use super::mailbox::{Mailbox, Pushed};
use super::record::Session;
use super::route::Order;
use super::shared::Shared;
use crate::bridge::{
    Action, Anomaly, AskRef, CallId, ClientRequest, Hello, Level, Mux, Opened, SessionNo,
};
use crate::ids::{PoolKey, WorkerId};
use crate::pool::Lease;
use crate::protocol::{Envelope, Failure, Reason};
use crate::telemetry::labels;
use crate::worker::{Exit, Inbox, Oversized, SendError, Worker};

/// How long a shared worker may take to answer a call that was cancelled. It need not answer at
/// all (basic/utilities/cancellation), so the slot is given back soon.
const CANCEL_GRACE: Duration = Duration::from_secs(2);
/// The same where the worker may ask its client: it serves no other session before it answered,
/// and is ended when it does not.
const CANCEL_GRACE_INTERACTIVE: Duration = Duration::from_secs(10);
/// How many of a worker's last stderr lines an error quotes.
const QUOTED_STDERR_LINES: usize = 8;

/// One worker and the calls it is busy with.
pub struct Link {
    id: WorkerId,
    key: PoolKey,
    order: Arc<Order>,
    worker: OnceLock<Worker>,
    state: Mutex<State>,
    /// Lines of stderr that are in the metrics already.
    stderr_counted: AtomicU64,
    shared: Weak<Shared>,
}

struct State {
    mux: Mux,
    desks: FxHashMap<CallId, Desk>,
    /// How the process ended, once it has.
    exited: Option<String>,
    stop_asked: bool,
    greeted: Option<oneshot::Sender<Result<(), String>>>,
    /// Reused between messages.
    scratch: Vec<Action>,
}

/// Where a call's answer goes.
struct Desk {
    mailbox: Arc<Mailbox>,
    lease: Lease<Launchpad>,
    client_id: Box<str>,
}

/// A call that the worker has been sent, or that needed no worker.
#[derive(Debug)]
pub(super) enum Called {
    /// The answer will come to the mailbox.
    Sent(CallId),
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
    /// The session ended meanwhile.
    SessionEnded,
}

/// What is done once the lock is released, in order.
enum Deferred {
    Answer(Desk, Bytes, bool),
    Release(Desk),
    ToSession(SessionNo, Bytes),
    Broadcast(Bytes),
    LevelSet(SessionNo, Level),
    Subscribed(SessionNo, String),
    Unsubscribed(SessionNo, String),
    AskFailed(AskRef),
    Anomaly(Anomaly),
    Greeted(oneshot::Sender<Result<(), String>>, Result<(), String>),
}

impl Link {
    pub(super) fn new(id: WorkerId, key: PoolKey, order: Arc<Order>, shared: Weak<Shared>) -> Self {
        let mux = Mux::new(id, &order.greeting);
        Self {
            id,
            key,
            order,
            worker: OnceLock::new(),
            state: Mutex::new(State {
                mux,
                desks: FxHashMap::default(),
                exited: None,
                stop_asked: false,
                greeted: None,
                scratch: Vec::new(),
            }),
            stderr_counted: AtomicU64::new(0),
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

    /// Its process, once there is one.
    pub fn worker(&self) -> Option<&Worker> {
        self.worker.get()
    }

    /// What the worker said of itself; `None` before the handshake is over.
    pub fn hello(&self) -> Option<Hello> {
        self.state.lock().mux.hello().cloned()
    }

    /// Starts the stop ladder; a process that is still being started is stopped as soon as it is there.
    pub(super) fn stop(&self) {
        self.state.lock().stop_asked = true;
        if let Some(worker) = self.worker.get() {
            worker.stop();
        }
    }

    /// Shakes hands with the process. The receiver gets the outcome, or an error when the link
    /// is dropped first.
    pub(super) fn greet(&self, worker: Worker) -> oneshot::Receiver<Result<(), String>> {
        let (tell, outcome) = oneshot::channel();
        let _first = self.worker.set(worker.clone());
        // Set before this look: a stop that came earlier is seen here, a later one sees the worker.
        if self.state.lock().stop_asked {
            worker.stop();
        }
        self.with_mux(|state, out| match &state.exited {
            None => {
                state.greeted = Some(tell);
                state.mux.greet(&self.order.greeting, out);
            }
            Some(how) => {
                let _listening = tell.send(Err(not_greeted(how)));
            }
        });
        outcome
    }

    /// Hands a session's request to the worker. The answer, or the reason there is none, comes to
    /// `mailbox`; the lease is held until then.
    pub(super) fn call(
        &self,
        session: &Session,
        message: &[u8],
        envelope: &Envelope<'_>,
        lease: Lease<Launchpad>,
        mailbox: &Arc<Mailbox>,
    ) -> Result<Called, CallRefused> {
        let is_new_here = self.order.keeps_seats && session.take_seat(self.id);
        let client_id: Box<str> = envelope.id.map_or("null", |id| id.get()).into();
        // Taken out of the closure when the call is on its way; else dropped after the lock.
        let mut lease = Some(lease);
        self.with_mux(|state, out| {
            if state.exited.is_some() {
                session.lose_seat(self.id);
                return Err(CallRefused::Gone);
            }
            if is_new_here || !state.mux.is_attached(session.no) {
                let (level, subscriptions) = session.standing();
                let subscriptions = if self.order.keeps_seats {
                    subscriptions
                } else {
                    vec![]
                };
                let subscriptions = subscriptions.iter().map(String::as_str);
                state.mux.attach(session.no, level, subscriptions, out);
                // Whoever ends a session marks it first and visits its seats then: one of the
                // two sees the other.
                if session.has_ended() {
                    state.mux.detach(session.no, out);
                    return Err(CallRefused::SessionEnded);
                }
                // What the worker must know first has to reach it first.
                self.flush_to_worker(out);
            }
            let request = ClientRequest {
                session: session.no,
                message,
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
            match self.worker.get().map(|worker| worker.send(line)) {
                Some(Ok(())) => {}
                Some(Err(SendError::Full { unsent })) => {
                    state.mux.fail(id, out);
                    return Err(CallRefused::Stalled { unsent });
                }
                Some(Err(SendError::Closed)) | None => {
                    state.mux.fail(id, out);
                    return Err(CallRefused::Gone);
                }
            }
            if let Some(lease) = lease.take() {
                mailbox.expect_answer();
                let mailbox = Arc::clone(mailbox);
                state.desks.insert(
                    id,
                    Desk {
                        mailbox,
                        lease,
                        client_id,
                    },
                );
            }
            Ok(Called::Sent(id))
        })
    }

    /// Passes a session's notification on, if it has a seat here.
    pub(super) fn notification(&self, session: SessionNo, message: &[u8], envelope: &Envelope<'_>) {
        let cancelled = self.with_mux(|state, out| {
            let cancelled = state.mux.notification(session, message, envelope, out);
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
    pub(super) fn answer(
        &self,
        session: SessionNo,
        ask: AskRef,
        message: &[u8],
        envelope: &Envelope<'_>,
    ) -> bool {
        self.with_mux(|state, out| state.mux.answer(session, ask, message, envelope, out))
    }

    /// Nobody waits for the call any more: the worker is told, the slot comes back when it
    /// answers or, failing that, after a grace period. Returns the client's id of the call, as
    /// raw JSON; `None` for one that is over.
    pub(super) fn abandon(&self, id: CallId, why: &str) -> Option<Box<str>> {
        let client_id = self.with_mux(|state, out| {
            state.mux.cancel(id, why, out);
            state.desks.get(&id).map(|desk| desk.client_id.clone())
        })?;
        self.forget_in_time(id);
        Some(client_id)
    }

    /// The session has ended.
    pub(super) fn detach(&self, session: SessionNo) {
        let orphaned = self.with_mux(|state, out| {
            let calls: Vec<_> = state
                .desks
                .keys()
                .filter(|id| state.mux.caller(**id) == Some(session))
                .copied()
                .collect();
            state.mux.detach(session, out);
            for desk in calls.iter().filter_map(|id| state.desks.get(id)) {
                desk.mailbox.give_up();
            }
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
            desk.lease.spoil();
        }
    }

    /// Runs `step` on the multiplexer and carries out what it says: what goes to the worker under
    /// the lock, so that it arrives in the order decided, the rest after it.
    fn with_mux<R>(&self, step: impl FnOnce(&mut State, &mut Vec<Action>) -> R) -> R {
        let mut deferred = Vec::new();
        let result = {
            let mut state = self.state.lock();
            let mut out = std::mem::take(&mut state.scratch);
            let result = step(&mut state, &mut out);
            for action in out.drain(..) {
                self.carry_out(&mut state, action, &mut deferred);
            }
            state.scratch = out;
            #[cfg(debug_assertions)]
            state.mux.check_invariants();
            result
        };
        for effect in deferred {
            self.finish(effect);
        }
        result
    }

    fn carry_out(&self, state: &mut State, action: Action, deferred: &mut Vec<Deferred>) {
        match action {
            Action::ToWorker(line) => self.to_worker(line),
            Action::Answer {
                call,
                message,
                is_error,
            } => {
                if let Some(desk) = state.desks.remove(&call) {
                    deferred.push(Deferred::Answer(desk, message, is_error));
                }
            }
            Action::Released(id) => {
                if let Some(desk) = state.desks.remove(&id) {
                    deferred.push(Deferred::Release(desk));
                }
            }
            Action::ToCall(id, message) => {
                if let Some(desk) = state.desks.get(&id)
                    && desk.mailbox.push(message) == Pushed::Refused
                {
                    self.count_dropped();
                }
            }
            Action::Ask {
                call: Some(id),
                ask,
                message,
                ..
            } => {
                let pushed = state.desks.get(&id).map(|desk| desk.mailbox.push(message));
                if pushed != Some(Pushed::Whole) {
                    deferred.push(Deferred::AskFailed(ask));
                }
            }
            Action::Ask {
                call: None,
                session,
                message,
                ..
            }
            | Action::ToSession(session, message) => {
                deferred.push(Deferred::ToSession(session, message));
            }
            Action::Broadcast(message) => deferred.push(Deferred::Broadcast(message)),
            Action::LevelSet(session, level) => deferred.push(Deferred::LevelSet(session, level)),
            Action::Subscribed(session, uri) => deferred.push(Deferred::Subscribed(session, uri)),
            Action::Unsubscribed(session, uri) => {
                deferred.push(Deferred::Unsubscribed(session, uri));
            }
            Action::Greeted(outcome) => {
                if let Some(tell) = state.greeted.take() {
                    deferred.push(Deferred::Greeted(tell, outcome.map(|_| ())));
                }
            }
            Action::Anomaly(anomaly) => deferred.push(Deferred::Anomaly(anomaly)),
        }
    }

    fn finish(&self, effect: Deferred) {
        let directory = |no| {
            self.shared
                .upgrade()
                .and_then(|shared| shared.directory.get(no))
        };
        match effect {
            Deferred::Answer(desk, message, is_error) => {
                // The slot first: whoever gets the answer may call again at once.
                desk.lease.served();
                desk.mailbox.answer(message, is_error);
            }
            Deferred::Release(desk) => drop(desk),
            Deferred::ToSession(no, message) => {
                if let Some(session) = directory(no)
                    && session.outbox.push(message) != Pushed::Whole
                {
                    self.count_dropped();
                }
            }
            Deferred::Broadcast(message) => {
                let sessions = self.shared.upgrade().map(|s| s.directory.of_key(self.key));
                for session in sessions.into_iter().flatten() {
                    if session.outbox.push(message.clone()) != Pushed::Whole {
                        self.count_dropped();
                    }
                }
            }
            Deferred::LevelSet(no, level) => {
                if let Some(session) = directory(no) {
                    session.set_level(level);
                }
            }
            Deferred::Subscribed(no, uri) => {
                if let Some(session) = directory(no) {
                    session.add_subscription(uri);
                }
                self.pin_while_subscribed();
            }
            Deferred::Unsubscribed(no, uri) => {
                if let Some(session) = directory(no) {
                    session.remove_subscription(&uri);
                }
                self.pin_while_subscribed();
            }
            Deferred::AskFailed(ask) => self.with_mux(|state, out| {
                state
                    .mux
                    .ask_failed(ask.number, "the client is not listening", out);
            }),
            Deferred::Anomaly(anomaly) => {
                match anomaly {
                    Anomaly::Garbage => self.order.metrics.garbage_lines(1),
                    Anomaly::UnknownId => self.order.metrics.anomaly(labels::Anomaly::UnknownId),
                    Anomaly::DuplicateAnswer => {
                        self.order.metrics.anomaly(labels::Anomaly::DuplicateAnswer);
                    }
                    Anomaly::UnknownToken => {
                        self.order.metrics.anomaly(labels::Anomaly::UnknownToken);
                    }
                    Anomaly::Unattributable => {
                        self.order.metrics.anomaly(labels::Anomaly::Unattributable);
                    }
                }
                tracing::debug!(worker = %self.id, server = %self.order.server, anomaly = anomaly.as_str(), "message out of order");
            }
            Deferred::Greeted(tell, outcome) => {
                // Nobody listens any more when the start has timed out.
                let _timed_out = tell.send(outcome);
            }
        }
    }

    fn flush_to_worker(&self, out: &mut Vec<Action>) {
        out.retain_mut(|action| match action {
            Action::ToWorker(line) => {
                self.to_worker(std::mem::take(line));
                false
            }
            _ => true,
        });
    }

    fn to_worker(&self, line: Bytes) {
        if let Some(Err(error)) = self.worker.get().map(|worker| worker.send(line)) {
            // A worker that takes nothing in is ended by its stall timeout; one that is gone
            // needs no telling.
            tracing::debug!(worker = %self.id, %error, "message to the worker was dropped");
        }
    }

    fn pin_while_subscribed(&self) {
        if let Some(shared) = self.shared.upgrade() {
            self.order.pin_while_subscribed(self, &shared);
        }
    }

    fn count_dropped(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared
                .metrics
                .notifications_dropped(labels::DropReason::QueueFull, 1);
        }
    }

    /// What became of a start whose handshake did not succeed.
    pub(super) fn how_the_start_ended(&self) -> labels::StartOutcome {
        let state = self.state.lock();
        match state.exited {
            _ if state.stop_asked => labels::StartOutcome::Cancelled,
            Some(_) => labels::StartOutcome::Exited,
            None => labels::StartOutcome::Refused,
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

    /// Quotes the end of the worker's stderr, with its secrets masked.
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

impl Inbox for Link {
    fn message(&self, line: Bytes) {
        self.with_mux(|state, out| state.mux.worker_line(line, out));
    }

    fn oversized(&self, line: Oversized) {
        self.order.metrics.anomaly(labels::Anomaly::Oversized);
        let failed = self.with_mux(|state, out| {
            let named = line
                .id
                .as_deref()
                .and_then(|id| id.parse().ok())
                .map(CallId);
            let only = || match state.desks.len() {
                1 => state.desks.keys().next().copied(),
                _ => None,
            };
            let id = match (named, line.has_method) {
                (_, true) => None,
                (Some(id), false) => Some(id),
                (None, false) => only(),
            }?;
            let desk = state.desks.remove(&id)?;
            state.mux.fail(id, out);
            Some(desk)
        });
        if let (Some(id), true, Some(worker)) = (&line.id, line.has_method, self.worker.get()) {
            // It asked the client something: without an answer it would wait for good.
            let failure = Failure::new(Reason::MessageTooLarge, "the request is too large");
            let _closed_or_full = worker.send(failure.to_response(Some(id)).into());
        }
        tracing::warn!(worker = %self.id, server = %self.order.server, bytes = line.len, "message over the bound was discarded");
        if let Some(desk) = failed {
            let failure = Failure::new(
                Reason::MessageTooLarge,
                format!(
                    "the answer of server `{}` is {} bytes long, more than the {} bytes that are let through (raise `servers.{}.max_message`)",
                    self.order.server, line.len, self.order.options.max_message, self.order.server
                ),
            );
            drop(desk.lease);
            desk.mailbox.fail(desk.client_id, failure);
        }
    }

    fn exited(&self, exit: Exit) {
        let how = if exit.stalled {
            "stopped reading its input and was killed".to_owned()
        } else if exit.asked {
            "was stopped".to_owned()
        } else {
            exit.to_string()
        };
        let (desks, greeted, seated, was_greeted) = {
            let mut state = self.state.lock();
            state.exited = Some(how.clone());
            let desks = std::mem::take(&mut state.desks);
            let was_greeted = state.mux.hello().is_some();
            (
                desks,
                state.greeted.take(),
                state.mux.sessions(),
                was_greeted,
            )
        };
        let stderr = self.quote_stderr();
        if let Some(tell) = greeted {
            let _timed_out = tell.send(Err(not_greeted(&how)));
        }
        for (_, desk) in desks {
            let failure = Failure::new(
                Reason::WorkerExited,
                format!(
                    "server `{}` {how} while this request was in flight{stderr}",
                    self.order.server
                ),
            );
            drop(desk.lease);
            desk.mailbox.fail(desk.client_id, failure);
        }
        // A start that fails is reported by whoever started it.
        if let Some(shared) = self.shared.upgrade().filter(|_| was_greeted) {
            shared.worker_exited(self, &exit, &seated);
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

fn not_greeted(how: &str) -> String {
    format!("it {how} before it answered `initialize`")
}
