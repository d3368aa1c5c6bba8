//! Carries out what the multiplexer says: towards the worker at once, the rest after the lock.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::super::mailbox::{Pushed, Topic};
use super::super::record::Session;
use super::fanout::Audience;
use super::life::DISCOVERY_GRACE;
use super::{Desk, Link, State};
use crate::bridge::{
    Action, Anomaly, AskRef, Era, Hello, Level, Listing, Malformed, MalformedOutcome, NotGreeted,
    SessionNo,
};
use crate::protocol::Envelope;
use crate::telemetry::labels;

/// What is done once the lock is released, in order.
enum Deferred {
    Answer(Desk, Bytes, bool),
    Release(Desk),
    ToSession(SessionNo, Bytes),
    AskSession(SessionNo, AskRef, Bytes),
    ToSubscribers(String, Bytes),
    Broadcast(Bytes),
    LevelSet(SessionNo, Level),
    Subscribed(SessionNo, String),
    Unsubscribed(SessionNo, String),
    AskFailed(AskRef),
    Asked,
    Anomaly(Anomaly),
    RootsWanted,
    Malformed(Box<Malformed>, Option<Box<Desk>>),
    Probed,
    Greeted(
        oneshot::Sender<Result<(), NotGreeted>>,
        Result<(), NotGreeted>,
    ),
    Introduced(Hello),
}

impl Link {
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

    fn carry_out(&self, state: &mut State, action: Action, deferred: &mut SmallVec<[Deferred; 1]>) {
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
                deferred.push(Deferred::Asked);
            }
            Action::Ask {
                call: None,
                session,
                ask,
                message,
            } => deferred.push(Deferred::AskSession(session, ask, message)),
            Action::ToSession(session, message) => {
                deferred.push(Deferred::ToSession(session, message));
            }
            Action::ToSubscribers { uri, message } => {
                deferred.push(Deferred::ToSubscribers(uri, message))
            }
            Action::Broadcast(message) => deferred.push(Deferred::Broadcast(message)),
            Action::LevelSet(session, level) => deferred.push(Deferred::LevelSet(session, level)),
            Action::Subscribed(session, uri) => deferred.push(Deferred::Subscribed(session, uri)),
            Action::Unsubscribed(session, uri) => {
                deferred.push(Deferred::Unsubscribed(session, uri));
            }
            Action::Probed if self.order.greeting.era == Era::Stateless => {
                deferred.push(Deferred::Probed);
            }
            Action::Probed => {
                if let Some(tell) = state.greeted.take() {
                    deferred.push(Deferred::Greeted(tell, Ok(())));
                } else if let Some(tell) = state.settled.take() {
                    // Nobody waits any more when that took too long.
                    let _waits = tell.send(());
                }
            }
            Action::RootsWanted => deferred.push(Deferred::RootsWanted),
            Action::Greeted(outcome) => {
                if let Ok(hello) = &outcome {
                    deferred.push(Deferred::Introduced(Hello::clone(hello)));
                }
                if let Some(tell) = state.greeted.take() {
                    deferred.push(Deferred::Greeted(tell, outcome.map(|_| ())));
                }
            }
            Action::Anomaly(anomaly) => deferred.push(Deferred::Anomaly(anomaly)),
            Action::Malformed(malformed) => {
                let desk = match malformed.outcome {
                    MalformedOutcome::Failed(call) => state.desks.remove(&call).map(Box::new),
                    MalformedOutcome::NotGreeted => {
                        if let Some(tell) = state.greeted.take() {
                            let outcome = Err(self.answered_malformed(&malformed));
                            deferred.push(Deferred::Greeted(tell, outcome));
                        }
                        None
                    }
                    MalformedOutcome::Taken
                    | MalformedOutcome::Suspected(_)
                    | MalformedOutcome::Dropped => None,
                };
                deferred.push(Deferred::Malformed(Box::new(malformed), desk));
            }
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
                self.remember(&desk, &message, is_error);
                self.record(&desk);
                if desk.offer.is_some() && !is_error {
                    self.learn_tools(&desk, &message);
                }
                let message = match &desk.offer {
                    Some(offer) if !is_error => offer.trimmed(message),
                    _ => message,
                };
                let message = match &desk.alias {
                    Some(alias) if !is_error => alias.response(message),
                    _ => message,
                };
                // The slot first: whoever gets the answer may call again at once.
                if let Some(lease) = desk.lease {
                    lease.served();
                }
                desk.mailbox.answer(message, is_error);
            }
            Deferred::Release(desk) => drop(desk),
            Deferred::ToSession(no, message) => {
                if let Some(session) = directory(no)
                    && session.tell(message).is_loss()
                {
                    self.count_dropped();
                }
            }
            Deferred::AskSession(no, ask, message) => {
                let pushed = directory(no).map(|session| session.tell(message));
                if !matches!(pushed, Some(Pushed::Whole | Pushed::InPlaceOfOlder)) {
                    self.finish(Deferred::AskFailed(ask));
                }
            }
            Deferred::Asked => {
                if let Some(shared) = self.shared.upgrade() {
                    shared.callers.note_asking(&self.order.server);
                }
            }
            Deferred::Introduced(hello) => {
                if let Some(shared) = self.shared.upgrade() {
                    if let Some(place) = self.order.catalog_place() {
                        shared.catalog.greeted(place, &hello);
                    }
                    let info = hello.server_info();
                    let (program, era) = (self.order.program, hello.era());
                    shared.eras.speaks(program, era, info.as_deref());
                    if let Some(tenant) = &self.order.tenant {
                        for listener in shared.directory.listening(tenant, &self.order.server) {
                            self.listen_for(&listener);
                        }
                    }
                }
            }
            Deferred::ToSubscribers(uri, message) => {
                let topic = Topic::of("notifications/resources/updated", Some(&uri));
                self.spread(message, topic, Audience::Subscribers(uri));
            }
            Deferred::Broadcast(message) => {
                if let Some(topic) = self.forget_changed(&message) {
                    self.spread(message, topic, Audience::All);
                }
            }
            Deferred::LevelSet(no, level) => {
                if let Some(session) = directory(no) {
                    session.set_level(level);
                    self.keep_standing(&session);
                }
            }
            Deferred::Subscribed(no, uri) => {
                if let Some(session) = directory(no) {
                    if let (Some(whole), Some(alias)) = (session.whole(), session.alias()) {
                        whole.add_subscription(alias.uri(&uri));
                    }
                    session.add_subscription(uri);
                    self.keep_standing(&session);
                }
                self.pin_while_subscribed();
            }
            Deferred::Unsubscribed(no, uri) => {
                if let Some(session) = directory(no) {
                    if let (Some(whole), Some(alias)) = (session.whole(), session.alias()) {
                        whole.remove_subscription(&alias.uri(&uri));
                    }
                    session.remove_subscription(&uri);
                    self.keep_standing(&session);
                }
                self.pin_while_subscribed();
            }
            Deferred::AskFailed(ask) => self.with_mux(|state, out| {
                state
                    .mux
                    .ask_failed(ask.number, "the client is not listening", out);
            }),
            Deferred::RootsWanted => {
                if let Some(shared) = self.shared.upgrade() {
                    shared.roots.note_asking(self.order.program);
                }
            }
            Deferred::Probed => {
                let shared = self.shared.upgrade();
                let link = shared.as_ref().and_then(|shared| shared.link(self.id));
                if let (Some(shared), Some(link)) = (shared, link) {
                    shared.tasks.spawn(async move {
                        tokio::time::sleep(DISCOVERY_GRACE).await;
                        link.does_not_discover();
                    });
                }
            }
            Deferred::Malformed(malformed, desk) => {
                self.malformed(&malformed, desk.map(|desk| *desk));
            }
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
                tracing::debug!(parent: &self.span, worker = %self.id, server = %self.order.server, anomaly = anomaly.as_str(), "message out of order");
            }
            Deferred::Greeted(tell, outcome) => {
                // Nobody listens any more when the start has timed out.
                let _timed_out = tell.send(outcome);
            }
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
    fn remember(&self, desk: &Desk, message: &Bytes, is_error: bool) {
        let Some((era, listing, edition)) = desk.listing.filter(|_| !is_error) else {
            return;
        };
        if let Some(shared) = self.shared.upgrade()
            && let Ok(envelope) = Envelope::parse(message)
            && let Some(result) = envelope.result.filter(|r| Listing::is_whole(r.get()))
            && let Some(place) = self.order.catalog_place()
        {
            let result = result.get().as_bytes();
            let catalog = &shared.catalog;
            catalog.listed(place, edition, (era, listing), result);
        }
    }

    /// Records the call, for `stdiopool tune`.
    fn record(&self, desk: &Desk) {
        if let Some(shared) = self.shared.upgrade()
            && let Some(trace) = &shared.trace
            && let Some(tenant) = &self.order.tenant
            && let Some(arrived) = desk.arrived
        {
            let server = &self.order.server;
            trace.call(server, tenant, arrived.into_std(), desk.sent.elapsed());
        }
    }

    /// A list has changed: what was remembered of it is wrong. Returns which list that is.
    fn forget_changed(&self, message: &Bytes) -> Option<Topic> {
        let envelope = Envelope::parse(message).ok()?;
        let method = envelope.method.as_deref()?;
        if Listing::Tools.is_changed_by(method) {
            self.tools.changed();
        }
        if let Some(shared) = self.shared.upgrade()
            && let Some(place) = self.order.catalog_place()
        {
            let is_meant = |listing: Listing| listing.is_changed_by(method);
            shared.catalog.changed(place, is_meant);
        }
        Some(Topic::of(method, None))
    }

    fn keep_standing(&self, session: &Arc<Session>) {
        if let Some(shared) = self.shared.upgrade() {
            match session.whole() {
                Some(whole) => shared.keep_standing(&whole),
                None => shared.keep_standing(session),
            }
        }
    }

    fn pin_while_subscribed(&self) {
        if let Some(shared) = self.shared.upgrade() {
            self.order.pin_while_subscribed(self, &shared);
        }
    }

    pub(super) fn count_dropped(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared
                .metrics
                .notifications_dropped(labels::DropReason::QueueFull, 1);
        }
    }
}
