//! What the worker's sessions want of it: calls, and what becomes of them; notifications, answers, seats.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::catalog::Edition;
use super::super::mailbox::Mailbox;
use super::super::record::Session;
use super::super::response::error_response;
use super::own_tools::Changes;
use super::{Asked, CallRefused, Called, Desk, Link, LinkLease};
use crate::bridge::{AskRef, CallId, ClientRequest, Era, Listing, Opened, SessionNo};
use crate::pool::StopReason;
use crate::protocol::{Envelope, Failure, RawId};
use crate::worker::SendError;

/// How long a shared worker may take to answer a call that was cancelled. It need not answer at
/// all (basic/utilities/cancellation), so the slot is given back soon.
const CANCEL_GRACE: Duration = Duration::from_secs(2);
/// The same where the worker may ask its client: it serves no other session before it answered,
/// and is ended when it does not.
const CANCEL_GRACE_INTERACTIVE: Duration = Duration::from_secs(10);

impl Link {
    /// Hands a session's request to the worker. The answer, or the reason there is none, comes to
    /// `mailbox`; the lease is held until then. Without one, it is a request of stdiopool itself, and whoever asks
    /// holds a lease for as long.
    pub(in crate::session) fn call(
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
        // The end of the session, and what its client cancels, come to where it has seats.
        let is_new_here = session.take_seat(self.id);
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
                Opened::Refused { code, why } => {
                    let id = envelope.id.map_or("null", |id| id.get());
                    mailbox.expect_answer();
                    mailbox.answer(error_response(id, code, &why), true);
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

    pub(super) fn listing_of(
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
    pub(super) fn tools_asked(
        &self,
        envelope: &Envelope<'_>,
    ) -> Option<(Changes, Option<Edition>)> {
        let listing = Listing::asked(envelope.method.as_deref()?, envelope.params)?;
        (listing == Listing::Tools).then(|| self.tool_edition())
    }

    /// Gives a listener a seat, beside the one at the worker that took its subscriptions: what one
    /// process changes, another may not see.
    pub(in crate::session) fn listen_for(&self, listener: &Session) {
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
    pub(in crate::session) fn notification(&self, session: SessionNo, envelope: &Envelope<'_>) {
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
    pub(in crate::session) fn answer(
        &self,
        session: SessionNo,
        ask: AskRef,
        envelope: &Envelope<'_>,
    ) -> bool {
        self.with_mux(|state, out| state.mux.answer(session, ask, envelope, out))
    }

    /// Nobody waits for the call any more: the worker is told, the slot comes back when it
    /// answers or, failing that, after a grace period. Returns the client's id of the call, as
    /// raw JSON; `None` for one that is over.
    pub(in crate::session) fn abandon(&self, id: CallId, why: &str) -> Option<RawId> {
        let client_id = self.with_mux(|state, out| {
            state.mux.cancel(id, why, out);
            state.desks.get(&id).map(|desk| desk.client_id.clone())
        })?;
        self.forget_in_time(id);
        Some(client_id)
    }

    /// What the worker itself calls a request of its own, as raw JSON.
    pub(in crate::session) fn name_of_question(&self, ask: AskRef) -> Option<Box<str>> {
        self.state.lock().mux.name_of_question(ask)
    }

    /// The session has ended.
    pub(in crate::session) fn detach(&self, session: SessionNo, why: &Failure) {
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

    pub(super) fn forget_in_time(&self, id: CallId) {
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

    pub(super) fn forget(&self, id: CallId) {
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
}
