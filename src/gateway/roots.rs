//! The roots that a worker is told: those of the sessions that it serves.
//!
//! Roots are asked of a client once it is known that its server asks for them: by stdiopool, with the first request that
//! needs a worker and on its stream, and again after the client said that they have changed. So they are known before a
//! worker is chosen. A worker that asks for them by itself, as most do when they have started, is answered with the
//! roots of the sessions it serves; before there is any, it waits.
//!
//! ```text
//!  session   Unknown ── roots/list, answered ──▶ Known ── roots/list_changed ──▶ Unknown
//!  worker    waits  ── its first session's ────▶ told  ── others (own process) ▶ told that they changed
//! ```
//!
//! Sessions of a tenant share a worker only where their roots are equal: each set of roots has its own pool key. A
//! worker that was started before anybody's roots were known becomes that of the first session that has some.

use std::sync::Arc;

use super::response_stream::ResponseStream;
use super::state::Gateway;
use crate::bridge::{AskRef, ClientRoots};
use crate::protocol::{Envelope, Failure};
use crate::session::{SELF, Session};
use crate::tenancy::ClientConfig;
use crate::upstream::{Outbox, Pushed, WorkerConnection};

impl Gateway {
    /// Whether the roots of the session's client have to be known before its request can be sent: its server asks for
    /// them.
    pub(crate) async fn lacks_roots(
        &self,
        session: &Arc<Session>,
        config: Option<&Arc<ClientConfig>>,
    ) -> Result<bool, Failure> {
        if session.roots().is_none() {
            return Ok(false);
        }
        Ok(self.route(session, config).await?.plan.lacks_roots)
    }

    /// Has the worker work with the roots of the session's client. False if they are not known, and it asks for them.
    pub(crate) async fn settle_roots(
        &self,
        session: &Session,
        connection: &WorkerConnection,
    ) -> bool {
        let Some(roots) = session.roots() else {
            return true;
        };
        if !self
            .state
            .knowledge
            .roots
            .is_asking(connection.plan().program)
            || !connection.may_ask_for_roots()
        {
            return true;
        }
        let Some(roots) = roots.known() else {
            return false;
        };
        connection.tell_roots(&roots).await;
        true
    }

    /// Asks the session's client for its roots: in the outbox of a request, else on the session's own stream.
    ///
    /// # Cancel-Safety
    /// A dropped call has learnt nothing; the next one asks anew.
    pub(crate) async fn learn_roots(&self, session: &Arc<Session>, outbox: Option<&Outbox>) {
        let Some(roots) = session.roots() else {
            return;
        };
        let learning = roots.learn(session.account(), |question| match outbox {
            Some(outbox) => outbox.push(question) == Pushed::Whole,
            None => !session.outbox.push(question).is_loss(),
        });
        learning.await;
        session.routes.reconsider();
    }

    /// Has a request wait until the roots of its client are known; it is sent then. False if it cannot wait: they are known
    /// on return.
    pub(crate) async fn roots_for(
        &self,
        session: &Arc<Session>,
        envelope: &Envelope<'_>,
        response_stream: &mut ResponseStream,
    ) -> bool {
        if response_stream.wait_for_roots(self, session, envelope) {
            return true;
        }
        self.learn_roots(session, None).await;
        false
    }

    /// The session's client answers a question of stdiopool itself; `None` if it was a worker that asked.
    pub(crate) fn answered_roots(
        &self,
        session: &Session,
        ask: AskRef,
        envelope: &Envelope<'_>,
    ) -> Option<bool> {
        if ask.worker != SELF {
            return None;
        }
        let roots = session.roots();
        Some(roots.is_some_and(|roots| roots.answered(ask.number, envelope.result)))
    }

    /// The session's client answered a worker that asked for roots during a call.
    pub(crate) fn note_roots(
        &self,
        session: &Session,
        connection: &WorkerConnection,
        envelope: &Envelope<'_>,
    ) {
        let told = envelope
            .result
            .map(|result| ClientRoots::read(result.get()));
        let (Some(roots), Some(Ok(told))) = (session.roots(), told) else {
            return;
        };
        let digest = told.digest();
        if roots.known().is_none_or(|known| known.digest() != digest) {
            roots.set(told, session.account());
            session.routes.reconsider();
        }
        if let Some(slot) = connection.plan().roots_slot {
            self.state
                .knowledge
                .roots
                .told(session.tenant(), slot, digest);
        }
    }

    /// The session's client has other roots. Says whether its workers are told with its next request; else the
    /// notification is for them.
    pub(crate) fn roots_changed(
        &self,
        session: &Session,
        connection: Option<&WorkerConnection>,
    ) -> bool {
        let Some(roots) = session.roots() else {
            return false;
        };
        match connection {
            Some(connection) => self
                .state
                .knowledge
                .roots
                .is_asking(connection.plan().program),
            None => {
                roots.forget();
                session.routes.reconsider();
                true
            }
        }
    }
}
