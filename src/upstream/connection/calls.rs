//! What the worker's sessions want of it: calls, and what becomes of them; notifications, answers, attachments.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::own_tools::ToolEdition;
use super::{
    CallRefused, Called, PendingCall, RequestedList, SessionRequest, State, WorkerConnection,
};
use crate::bridge::{Action, AskRef, CallId, ClientRequest, Listing, RequestOutcome, SessionNo};
use crate::held::{Charge, Full, Kind};
use crate::pool::StopReason;
use crate::protocol::{Envelope, Failure, RawId};
use crate::upstream::attachment::Attachment;
use crate::upstream::lease::WorkerLease;
use crate::upstream::outbox::Outbox;
use crate::upstream::response::error_response;
use crate::worker::SendError;

/// How long a shared worker may take to answer a call that was cancelled. A server need not answer such a call at
/// all (basic/utilities/cancellation), so the slot is given back soon.
const CANCEL_GRACE: Duration = Duration::from_secs(2);
/// How long a worker may take that may ask its client: it serves no other session before it answered,
/// and is ended when it does not.
const CANCEL_GRACE_INTERACTIVE: Duration = Duration::from_secs(10);

/// Bytes that an answer takes beside its text: its name, and its places in tables.
const KEPT_BESIDE: usize = 256;

impl WorkerConnection {
    /// Hands a session's request to the worker. The answer, or the reason there is none, comes to
    /// `outbox`; the lease is held until then. Without one, it is a request of stdiopool itself, and whoever asks
    /// holds a lease for as long.
    pub(crate) fn call<A: Attachment>(
        &self,
        asked: SessionRequest<'_, A>,
        lease: Option<WorkerLease>,
        outbox: &Arc<Outbox>,
    ) -> Result<Called, CallRefused> {
        let (session, envelope) = (asked.session, asked.envelope);
        let listing = self.listing_of(session.is_stateless(), envelope);
        let tools = asked
            .tool_filter
            .as_ref()
            .and_then(|_| self.tools_asked(envelope));
        let client_id: RawId = envelope.id.map_or("null", |id| id.get()).into();
        // Taken out of the closure when the call is on its way; else dropped after the lock.
        let mut lease = lease;
        self.with_mux(|state, out| {
            self.introduce_caller(state, &asked, out)?;
            let request = ClientRequest {
                session: session.no(),
                envelope,
            };
            let (id, line) = match state.mux.request(request, out) {
                RequestOutcome::Sent(id, line) => (id, line),
                RequestOutcome::Local(answer) => {
                    outbox.expect_answer();
                    outbox.answer(answer, false);
                    return Ok(Called::Answered);
                }
                RequestOutcome::Refused { code, why } => {
                    let id = envelope.id.map_or("null", |id| id.get());
                    outbox.expect_answer();
                    outbox.answer(error_response(id, code, &why), true);
                    return Ok(Called::Answered);
                }
            };
            let kept = match self.charge_kept(state.mux.kept(id)) {
                Ok(kept) => kept,
                Err(full) => {
                    state.mux.fail(id, out);
                    return Err(CallRefused::NoRoom(full));
                }
            };
            // Itself and others.
            let is_busy = state.mux.in_flight() > 1;
            if let Err(refused) = self.send_call(line, is_busy) {
                state.mux.fail(id, out);
                return Err(refused);
            }
            let now = Instant::now();
            outbox.expect_answer();
            let pending = PendingCall {
                outbox: Arc::clone(outbox),
                lease: lease.take(),
                client_id,
                alias: session.alias().cloned(),
                tool_filter: asked.tool_filter,
                listing,
                tools,
                arrived: asked.arrived,
                sent: now,
                kept,
            };
            state.pending_calls.insert(id, pending);
            Ok(Called::Sent(id, now))
        })
    }

    /// Has the worker know of a caller what it must know before the caller's request: its settings where the session is new
    /// here, the log level of a caller without a session.
    ///
    /// # Errors
    /// The process is gone, or the session has ended: it is attached no longer then.
    #[inline]
    fn introduce_caller<A: Attachment>(
        &self,
        state: &mut State,
        asked: &SessionRequest<'_, A>,
        out: &mut Vec<Action>,
    ) -> Result<(), CallRefused> {
        let (session, no) = (asked.session, asked.session.no());
        if state.exited.is_some() {
            session.detach(self.id);
            return Err(CallRefused::Gone);
        }
        if asked.is_new_here || !state.mux.is_attached(no) {
            self.note_first_request();
            let (level, subscriptions) = session.settings();
            let subscriptions = subscriptions.iter().filter(|_| self.plan.keeps_attachments);
            let subscriptions = subscriptions.map(String::as_str);
            state.mux.attach(no, level, subscriptions, out);
            if !session.is_stateless() {
                let client = session.client();
                if self.plan.asks_clients {
                    state.mux.introduce(no, client);
                } else {
                    state.mux.introduce(no, &client.without_questions());
                }
            }
            // Whoever ends a session marks it first and visits its attachments then: one of the
            // two sees the other.
            if session.has_ended() {
                state.mux.detach(no, out);
                return Err(CallRefused::SessionEnded);
            }
            // What the worker must know first has to reach it first.
            self.flush_to_worker(out);
        }
        if session.is_stateless() {
            state.mux.without_session(no, asked.level, out);
            self.flush_to_worker(out);
        }
        Ok(())
    }

    /// Queues the line of a call; of a busy worker it may wait to be written together with others.
    ///
    /// # Errors
    /// The process is gone, or does not take it.
    #[inline]
    fn send_call(&self, line: Bytes, is_busy: bool) -> Result<(), CallRefused> {
        let sent = self.worker.get().map(|worker| match is_busy {
            true => worker.send_gathered(line),
            false => worker.send(line),
        });
        match sent {
            Some(Ok(())) => Ok(()),
            Some(Err(SendError::Full { unsent })) => Err(CallRefused::Stalled { unsent }),
            Some(Err(SendError::NoRoom(full))) => Err(CallRefused::NoRoom(full)),
            Some(Err(SendError::Closed)) | None => Err(CallRefused::Gone),
        }
    }

    pub(super) fn listing_of(
        &self,
        is_stateless: bool,
        envelope: &Envelope<'_>,
    ) -> Option<RequestedList> {
        self.plan.catalog_age?;
        let listing = Listing::asked(envelope.method.as_deref()?, envelope.params)?;
        let catalog = &self.services.knowledge.catalog;
        let edition = catalog.edition(self.plan.catalog_key()?)?;
        Some(RequestedList {
            list: self.plan.list_for(is_stateless, listing),
            edition,
        })
    }

    /// In which edition a request asks for its tools from the first on, if it does.
    pub(super) fn tools_asked(&self, envelope: &Envelope<'_>) -> Option<ToolEdition> {
        let listing = Listing::asked(envelope.method.as_deref()?, envelope.params)?;
        (listing == Listing::Tools).then(|| self.tool_edition())
    }

    /// Gives a listener an attachment, beside the one at the worker that took its subscriptions: what one
    /// process changes, another may not see.
    pub(crate) fn listen_for<A: Attachment>(&self, listener: &A) {
        let (_, subscriptions) = listener.settings();
        if subscriptions.is_empty() || !self.plan.keeps_attachments || !listener.attach(self.id) {
            return;
        }
        self.with_mux(|state, out| {
            if state.exited.is_some() || state.mux.server_info().is_none() {
                listener.detach(self.id);
                return;
            }
            let subscriptions = subscriptions.iter().map(String::as_str);
            state.mux.attach_listener(listener.no(), subscriptions, out);
            // Whoever ends it marks it first and visits its attachments then.
            if listener.has_ended() {
                state.mux.detach(listener.no(), out);
            }
        });
    }

    /// Passes a session's notification on, if it is attached here.
    pub(crate) fn notification(&self, session: SessionNo, envelope: &Envelope<'_>) {
        let cancelled = self.with_mux(|state, out| {
            let cancelled = state.mux.notification(session, envelope, out);
            if let Some(pending) = cancelled.and_then(|id| state.pending_calls.get(&id)) {
                pending.outbox.give_up();
            }
            cancelled
        });
        if let Some(id) = cancelled {
            self.forget_in_time(id);
        }
    }

    /// Passes a session's answer to a question of this worker on; false if it was not asked. An answer that has to wait
    /// for others is charged until the worker has it.
    ///
    /// # Errors
    /// The worker's tenant has no room for what has to wait; the question stays open.
    pub(crate) fn answer(
        &self,
        session: SessionNo,
        ask: AskRef,
        envelope: &Envelope<'_>,
    ) -> Result<bool, Full> {
        let keep = |given: &str| self.kept(given);
        self.with_mux(|state, out| state.mux.answer(session, ask, envelope, keep, out))
    }

    /// A charge for what the later rounds of a call need; `None` for one that has none.
    fn charge_kept(&self, bytes: usize) -> Result<Option<Charge>, Full> {
        let account = self.account.as_ref().filter(|_| bytes > 0);
        let charge = account.map(|account| account.charge(Kind::Suspended, bytes));
        charge.transpose()
    }

    /// What waits with a call, as bytes that carry their charge however short they are.
    fn kept(&self, text: &str) -> Result<Bytes, Full> {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let Some(account) = &self.account else {
            return Ok(bytes);
        };
        let charge = account.charge(Kind::Suspended, text.len() + KEPT_BESIDE)?;
        Ok(charge.carried_by(bytes))
    }

    /// Nobody waits for the call any more: the worker is told, the slot comes back when it
    /// answers or, failing that, after a grace period. Returns the client's id of the call, as
    /// raw JSON; `None` for one that is over.
    pub(crate) fn abandon(&self, id: CallId, why: &str) -> Option<RawId> {
        let client_id = self.with_mux(|state, out| {
            state.mux.cancel(id, why, out);
            state
                .pending_calls
                .get(&id)
                .map(|pending| pending.client_id.clone())
        })?;
        self.forget_in_time(id);
        Some(client_id)
    }

    /// What the worker itself calls a request of its own, as raw JSON.
    pub(crate) fn name_of_question(&self, ask: AskRef) -> Option<Box<str>> {
        self.state.lock().mux.name_of_question(ask)
    }

    /// The session has ended.
    pub(crate) fn detach(&self, session: SessionNo, why: &Failure) {
        let orphaned = self.with_mux(|state, out| {
            let calls: Vec<_> = state
                .pending_calls
                .keys()
                .filter(|id| state.mux.caller(**id) == Some(session))
                .copied()
                .collect();
            // Whoever has cancelled a request waits for no answer to it.
            let awaited: Vec<_> = calls
                .iter()
                .filter(|id| state.mux.is_awaited(**id))
                .collect();
            for pending in awaited
                .into_iter()
                .filter_map(|id| state.pending_calls.get(id))
            {
                pending.outbox.fail(pending.client_id.clone(), why.clone());
            }
            state.mux.detach(session, out);
            calls
        });
        for id in orphaned {
            self.forget_in_time(id);
        }
    }

    /// A session that was asked will not answer, for that reason.
    pub(crate) fn ask_failed(&self, ask: AskRef, why: &str) {
        self.with_mux(|state, out| state.mux.ask_failed(ask.number, why, out));
    }

    /// The sessions that subscribe to that resource of this worker.
    pub(crate) fn subscribers_of(&self, uri: &str) -> Vec<SessionNo> {
        self.state.lock().mux.subscribers_of(uri)
    }

    /// A stateful server's worker is kept while sessions subscribe to its resources: another one
    /// could not tell them what they want to know.
    pub(crate) fn pin_while_subscribed(&self) {
        if !self.plan.stateful {
            return;
        }
        let pinned = self.subscribers() > 0;
        let was_pinned = self.is_pinned.swap(pinned, Ordering::AcqRel);
        match (was_pinned, pinned) {
            (false, true) => self.services.pool.pin(self.id),
            (true, false) => self.services.pool.unpin(self.id),
            (true, true) | (false, false) => {}
        }
    }

    /// How many sessions subscribe to resources of this worker.
    pub fn subscribers(&self) -> usize {
        self.state.lock().mux.subscribers()
    }

    pub(super) fn forget_in_time(&self, id: CallId) {
        let Some(connection) = self.me.upgrade() else {
            return;
        };
        // What has ended has forgotten it.
        if self.state.lock().exited.is_some() {
            return;
        }
        let grace = if self.plan.handshake.is_interactive() {
            CANCEL_GRACE_INTERACTIVE
        } else {
            CANCEL_GRACE
        };
        self.services.tasks.spawn(async move {
            tokio::time::sleep(grace).await;
            connection.forget(id);
        });
    }

    pub(super) fn forget(&self, id: CallId) {
        let pending = self.with_mux(|state, out| {
            let pending = state.pending_calls.remove(&id);
            state.mux.forget(id, out);
            pending
        });
        if let Some(pending) = pending
            && self.plan.handshake.is_interactive()
        {
            // The worker may still ask something on behalf of the cancelled call.
            match pending.lease {
                Some(lease) => lease.give_up(),
                None => {
                    self.services.pool.retire(self.id, StopReason::Unanswered);
                }
            }
        }
    }
}
