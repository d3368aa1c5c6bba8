//! What a worker is told of its clients' roots, and the time that it gets to take it in.

use std::time::Duration;

use tokio::sync::oneshot;

use super::WorkerConnection;
use crate::bridge::{AskRef, ClientRoots};

/// How long a worker may take to answer the `ping` after which it has asked whatever it asks by itself. One that waits
/// for roots before it reads on does not answer.
const QUESTIONS: Duration = Duration::from_secs(2);
/// How long a worker has for what it does with roots that it was told, before it gets a request: servers look each
/// folder up, and go by the old ones until they have.
const TAKING_IN: Duration = Duration::from_millis(50);

impl WorkerConnection {
    /// Whether the worker may ask its clients for their roots.
    pub(crate) fn may_ask_for_roots(&self) -> bool {
        self.state.lock().mux.may_ask_for_roots()
    }

    /// Whether that question of the worker is for a client's roots.
    pub(crate) fn is_about_roots(&self, ask: AskRef) -> bool {
        self.state.lock().mux.is_about_roots(ask)
    }

    /// Gives a worker that has just taken its handshake the time to ask for roots, and to take in what it is told, if that is
    /// known already. Whoever waits for it knows afterwards whether it asks.
    ///
    /// # Cancel-Safety
    /// A dropped call leaves the worker as it is.
    pub(crate) async fn begin_with_roots(&self) {
        if self.plan.is_spare() || !self.may_ask_for_roots() {
            return;
        }
        let answered = self.roots_answered();
        if let Some(roots) = &self.plan.roots {
            self.with_mux(|state, out| state.mux.tell_roots(roots, out));
        }
        self.take_roots_in(answered).await;
    }

    /// Has the worker work with those roots, and waits until it can have taken them in.
    ///
    /// # Cancel-Safety
    /// A dropped call may have told it; whoever calls next does not wait for it.
    pub(crate) async fn tell_roots(&self, roots: &ClientRoots) {
        let _guard = self.roots_asking.lock().await;
        let answered = self.roots_answered();
        if self.with_mux(|state, out| state.mux.tell_roots(roots, out)) {
            self.take_roots_in(answered).await;
        }
    }

    fn roots_answered(&self) -> u64 {
        self.state.lock().mux.roots_answered()
    }

    async fn take_roots_in(&self, answered_before: u64) {
        let (tell, settled) = oneshot::channel();
        self.with_mux(|state, out| {
            state.settled = Some(tell);
            state.mux.probe(out);
        });
        // Whether it answers or not, it had its time.
        let _in_time = tokio::time::timeout(QUESTIONS, settled).await;
        if self.roots_answered() > answered_before {
            tokio::time::sleep(TAKING_IN).await;
        }
    }
}
