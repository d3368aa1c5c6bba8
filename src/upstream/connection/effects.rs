//! Carries out what the multiplexer says: towards the worker at once, the rest after the lock.

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::lifecycle::DISCOVERY_GRACE;
use super::{PendingCall, State, WorkerConnection};
use crate::bridge::{
    Action, Anomaly, AskRef, CallId, HandshakeError, Listing, Malformed, MalformedOutcome,
    ServerInfo,
};
use crate::held::Full;
use crate::protocol::Envelope;
use crate::telemetry::labels;
use crate::upstream::broadcast::{Audience, Broadcast};
use crate::upstream::events::ConnectionEvent;
use crate::upstream::outbound_message::{Pushed, Topic};

/// What is done once the lock is released, in order.
enum Deferred {
    Answer(PendingCall, Bytes, bool),
    Release(PendingCall),
    /// The call's tenant has no room for what the call has to keep.
    NoRoom(Box<PendingCall>, Full),
    Broadcast(Bytes),
    /// For those who know the sessions.
    Tell(ConnectionEvent<'static>),
    /// For them too, of a subscription, which may keep a worker from being ended.
    Subscription(ConnectionEvent<'static>),
    AskFailed(AskRef, Pushed),
    Anomaly(Anomaly),
    RootsWanted,
    Malformed(Box<Malformed>, Option<Box<PendingCall>>),
    Probed,
    HandshakeDone(
        oneshot::Sender<Result<(), HandshakeError>>,
        Result<(), HandshakeError>,
    ),
    Introduced(ServerInfo),
}

impl WorkerConnection {
    /// Runs `step` on the multiplexer and carries out what it says: what goes to the worker under
    /// the lock, so that it arrives in the order decided, the rest after it.
    pub(super) fn with_mux<R>(&self, step: impl FnOnce(&mut State, &mut Vec<Action>) -> R) -> R {
        let mut deferred = SmallVec::<[_; 1]>::new();
        let result = {
            let mut state = self.state.lock();
            let mut out = std::mem::take(&mut state.scratch);
            let result = step(&mut state, &mut out);
            for action in out.drain(..) {
                self.carry_out(&mut state, action, &mut deferred);
            }
            state.scratch = out;
            #[cfg(debug_assertions)]
            if state.is_to_be_checked() {
                state.mux.check_invariants();
            }
            result
        };
        for effect in deferred {
            self.finish(effect);
        }
        result
    }

    /// Carries out one action under the lock, as far as that may be; the rest goes into `deferred`.
    fn carry_out(&self, state: &mut State, action: Action, deferred: &mut SmallVec<[Deferred; 1]>) {
        match action {
            Action::ToWorker(line) => self.to_worker(line),
            Action::Answer {
                call,
                message,
                is_error,
            } => {
                if let Some(pending) = state.pending_calls.remove(&call) {
                    deferred.push(Deferred::Answer(pending, message, is_error));
                }
            }
            Action::Released(id) => {
                if let Some(pending) = state.pending_calls.remove(&id) {
                    deferred.push(Deferred::Release(pending));
                }
            }
            Action::Kept(id) => charge_kept(state, id, deferred),
            Action::ToCall(id, message) => self.to_call(state, id, message),
            Action::Ask {
                call: Some(id),
                ask,
                message,
                ..
            } => ask_in_call(state, id, ask, message, deferred),
            Action::Ask {
                call: None,
                session,
                ask,
                message,
            } => deferred.push(Deferred::Tell(ConnectionEvent::AskSession(
                session, ask, message,
            ))),
            Action::ToSession(session, message) => {
                deferred.push(Deferred::Tell(ConnectionEvent::ToSession(session, message)));
            }
            Action::ToSubscribers { uri, message } => {
                let topic = Topic::of("notifications/resources/updated", Some(&uri));
                let broadcast = Broadcast::new(message, topic, Audience::Subscribers(uri));
                deferred.push(Deferred::Tell(ConnectionEvent::Broadcast(broadcast)));
            }
            Action::Broadcast(message) => deferred.push(Deferred::Broadcast(message)),
            Action::LevelSet(session, level) => {
                deferred.push(Deferred::Tell(ConnectionEvent::LevelSet(session, level)));
            }
            Action::Subscribed(session, uri) => {
                let event = ConnectionEvent::Subscribed(session, uri);
                deferred.push(Deferred::Subscription(event));
            }
            Action::Unsubscribed(session, uri) => {
                let event = ConnectionEvent::Unsubscribed(session, uri);
                deferred.push(Deferred::Subscription(event));
            }
            Action::Probed => self.probed(state, deferred),
            Action::RootsWanted => deferred.push(Deferred::RootsWanted),
            Action::HandshakeDone(outcome) => handshake_done(state, outcome, deferred),
            Action::Anomaly(anomaly) => deferred.push(Deferred::Anomaly(anomaly)),
            Action::Malformed(malformed) => self.fail_malformed(state, malformed, deferred),
        }
    }

    /// Puts a message on the stream of its call.
    #[inline]
    fn to_call(&self, state: &State, id: CallId, message: Bytes) {
        if let Some(pending) = state.pending_calls.get(&id)
            && matches!(
                pending.outbox.push(message),
                Pushed::Refused | Pushed::NoRoom(_)
            )
        {
            self.count_dropped();
        }
    }

    /// The process has answered a `ping`. One that was asked in a way that older programs do not know may leave that
    /// question unanswered; of any other, whoever waits for the handshake or for the `ping` itself is told.
    fn probed(&self, state: &mut State, deferred: &mut SmallVec<[Deferred; 1]>) {
        if self.plan.handshake.may_be_unknown() {
            deferred.push(Deferred::Probed);
        } else if let Some(tell) = state.handshake.take() {
            deferred.push(Deferred::HandshakeDone(tell, Ok(())));
        } else if let Some(tell) = state.settled.take() {
            // Nobody waits any more when that took too long.
            let _waits = tell.send(());
        }
    }

    /// Takes out the call, or ends the handshake, that a malformed message was the answer to.
    fn fail_malformed(
        &self,
        state: &mut State,
        malformed: Malformed,
        deferred: &mut SmallVec<[Deferred; 1]>,
    ) {
        let pending = match malformed.outcome {
            MalformedOutcome::Failed(call) => state.pending_calls.remove(&call).map(Box::new),
            MalformedOutcome::HandshakeFailed => {
                if let Some(tell) = state.handshake.take() {
                    let outcome = Err(self.answered_malformed(&malformed));
                    deferred.push(Deferred::HandshakeDone(tell, outcome));
                }
                None
            }
            MalformedOutcome::Taken
            | MalformedOutcome::Suspected(_)
            | MalformedOutcome::Dropped => None,
        };
        deferred.push(Deferred::Malformed(Box::new(malformed), pending));
    }

    /// Does what had to wait until the lock was released.
    fn finish(&self, effect: Deferred) {
        match effect {
            Deferred::Answer(pending, message, is_error) => {
                self.answer_call(pending, message, is_error);
            }
            Deferred::Release(pending) => drop(pending),
            Deferred::NoRoom(pending, full) => {
                // The worker has answered, and waits for nothing of the call.
                if let Some(lease) = pending.lease {
                    lease.served();
                }
                pending.outbox.fail(pending.client_id, full.into());
            }
            Deferred::Tell(event) => self.tell(event),
            Deferred::Subscription(event) => {
                self.tell(event);
                self.pin_while_subscribed();
            }
            Deferred::Introduced(info) => self.introduced(&info),
            Deferred::Broadcast(message) => {
                if let Some(topic) = self.forget_changed(&message) {
                    let broadcast = Broadcast::new(message, topic, Audience::All);
                    self.tell(ConnectionEvent::Broadcast(broadcast));
                }
            }
            Deferred::AskFailed(ask, pushed) => self.ask_failed(ask, &pushed.unasked()),
            Deferred::RootsWanted => {
                let roots = &self.services.knowledge.roots;
                roots.note_asking(self.plan.program);
            }
            Deferred::Probed => self.await_discovery(),
            Deferred::Malformed(malformed, pending) => {
                self.malformed(&malformed, pending.map(|pending| *pending));
            }
            Deferred::Anomaly(anomaly) => self.count_anomaly(anomaly),
            Deferred::HandshakeDone(tell, outcome) => {
                // Nobody listens any more when the start has timed out.
                let _timed_out = tell.send(outcome);
            }
        }
    }

    /// Hands its answer to the caller, as the caller is to see it, and gives the slot back.
    #[inline]
    fn answer_call(&self, pending: PendingCall, message: Bytes, is_error: bool) {
        self.remember(&pending, &message, is_error);
        self.record(&pending);
        if pending.tool_filter.is_some() && !is_error {
            self.learn_tools(&pending, &message);
        }
        let message = match &pending.tool_filter {
            Some(filter) if !is_error => filter.filtered(message),
            _ => message,
        };
        let message = match &pending.alias {
            Some(alias) if !is_error => alias.response(message),
            _ => message,
        };
        // The slot first: whoever gets the answer may call again at once.
        if let Some(lease) = pending.lease {
            lease.served();
        }
        pending.outbox.answer(message, is_error);
    }

    /// The process has said who it is: that is remembered of its launch and of its program.
    fn introduced(&self, info: &ServerInfo) {
        let knowledge = &self.services.knowledge;
        if let Some(place) = self.plan.catalog_key() {
            knowledge.catalog.introduced(place, info);
        }
        let program_info = info.server_info();
        let (program, era) = (self.plan.program, info.era());
        knowledge
            .dialects
            .speaks(program, era, program_info.as_deref());
        self.tell(ConnectionEvent::Introduced);
    }

    /// Gives a process that has answered a `ping`, but not the question before it, some time for that question yet.
    fn await_discovery(&self) {
        if let Some(connection) = self.me.upgrade() {
            self.services.tasks.spawn(async move {
                tokio::time::sleep(DISCOVERY_GRACE).await;
                connection.does_not_discover();
            });
        }
    }

    fn count_anomaly(&self, anomaly: Anomaly) {
        let metrics = &self.plan.metrics;
        match anomaly {
            Anomaly::Garbage => metrics.garbage_lines(1),
            Anomaly::UnknownId => metrics.anomaly(labels::Anomaly::UnknownId),
            Anomaly::DuplicateAnswer => metrics.anomaly(labels::Anomaly::DuplicateAnswer),
            Anomaly::UnknownToken => metrics.anomaly(labels::Anomaly::UnknownToken),
            Anomaly::Unattributable => metrics.anomaly(labels::Anomaly::Unattributable),
        }
        tracing::debug!(parent: &self.span, worker = %self.id, server = %self.plan.server, anomaly = anomaly.as_str(), "message out of order");
    }

    /// Tells those who know its sessions.
    pub(super) fn tell(&self, event: ConnectionEvent<'_>) {
        // When they are gone, so are the sessions.
        if let Some(events) = self.services.events.upgrade() {
            events.happened(self.id, &self.plan, event);
        }
    }

    pub(super) fn flush_to_worker(&self, out: &mut Vec<Action>) {
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
            tracing::debug!(parent: &self.span, worker = %self.id, %error, "message to the worker was dropped");
        }
    }

    /// Remembers a list for clients that will ask the same.
    fn remember(&self, pending: &PendingCall, message: &Bytes, is_error: bool) {
        let Some(asked) = pending.listing.filter(|_| !is_error) else {
            return;
        };
        if let Ok(envelope) = Envelope::parse(message)
            && let Some(result) = envelope.result.filter(|r| Listing::is_whole(r.get()))
            && let Some(place) = self.plan.catalog_key()
        {
            let result = result.get().as_bytes();
            let catalog = &self.services.knowledge.catalog;
            catalog.listed(place, asked.edition, asked.list, result);
        }
    }

    /// Records the call, for `stdiopool tune`.
    fn record(&self, pending: &PendingCall) {
        if let Some(trace) = &self.services.trace
            && let Some(tenant) = &self.plan.tenant
            && let Some(arrived) = pending.arrived
        {
            let server = &self.plan.server;
            trace.call(server, tenant, arrived.into_std(), pending.sent.elapsed());
        }
    }

    /// A list has changed: what was remembered of it is wrong. Returns which list that is.
    fn forget_changed(&self, message: &Bytes) -> Option<Topic> {
        let envelope = Envelope::parse(message).ok()?;
        let method = envelope.method.as_deref()?;
        if Listing::Tools.is_changed_by(method) {
            self.tools.changed();
        }
        if let Some(place) = self.plan.catalog_key() {
            let is_meant = |listing: Listing| listing.is_changed_by(method);
            let catalog = &self.services.knowledge.catalog;
            catalog.changed(place, is_meant);
        }
        Some(Topic::of(method, None))
    }

    pub(super) fn count_dropped(&self) {
        let reason = labels::DropReason::QueueFull;
        self.services.metrics.notifications_dropped(reason, 1);
    }
}

/// Counts what a call keeps while its client is asked; one for which there is no room ends.
fn charge_kept(state: &mut State, id: CallId, deferred: &mut SmallVec<[Deferred; 1]>) {
    let bytes = state.mux.kept(id);
    let pending = state.pending_calls.get_mut(&id);
    let charge = pending.and_then(|pending| pending.kept.as_mut());
    let Some(Err(full)) = charge.map(|charge| charge.resize(bytes)) else {
        return;
    };
    // The questions of the call are not asked: the actions that follow find no such call.
    let mut released = vec![];
    state.mux.fail(id, &mut released);
    if let Some(pending) = state.pending_calls.remove(&id) {
        deferred.push(Deferred::NoRoom(Box::new(pending), full));
    }
}

/// Puts a question of the worker on the stream of the call that it is about.
fn ask_in_call(
    state: &State,
    id: CallId,
    ask: AskRef,
    message: Bytes,
    deferred: &mut SmallVec<[Deferred; 1]>,
) {
    let pending = state.pending_calls.get(&id);
    let pushed = pending.map_or(Pushed::Refused, |pending| pending.outbox.push(message));
    if pushed != Pushed::Whole {
        deferred.push(Deferred::AskFailed(ask, pushed));
    }
    deferred.push(Deferred::Tell(ConnectionEvent::AskedClient));
}

/// The handshake is over: whoever waits for it is told, and what the process said of itself is kept first.
fn handshake_done(
    state: &mut State,
    outcome: Result<Box<ServerInfo>, HandshakeError>,
    deferred: &mut SmallVec<[Deferred; 1]>,
) {
    if let Ok(info) = &outcome {
        deferred.push(Deferred::Introduced(ServerInfo::clone(info)));
    }
    if let Some(tell) = state.handshake.take() {
        deferred.push(Deferred::HandshakeDone(tell, outcome.map(|_| ())));
    }
}
