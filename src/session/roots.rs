//! What is known of the roots of a session's client: asked of it once, and again after it said that they have changed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::bridge::{AskRef, ClientRoots};
use crate::held::{Account, Charge, Kind};
use crate::ids::WorkerId;
use crate::protocol::{RawJson, bare_request};

/// How long a client may take to say what its roots are; then it has none.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a client is asked for its roots anew because they changed while it was asked.
const MAX_CHANGES: usize = 3;
/// Questions of stdiopool itself are those of this worker, which there is not.
pub(crate) const SELF: WorkerId = WorkerId(0);

/// A session's roots, as far as they are known.
#[derive(Debug, Default)]
pub(crate) struct SessionRoots {
    state: Mutex<State>,
    /// Held by whoever asks its client.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    known: Option<(Arc<ClientRoots>, Charge)>,
    /// The question under way: its number, and who waits.
    asked: Option<(u64, oneshot::Sender<ClientRoots>)>,
    next: u64,
    /// How often the roots have changed.
    changes: u64,
}

/// A question that the client is asked.
struct RootsQuestion {
    /// The id of the request.
    name: AskRef,
    /// How often the roots had changed then.
    changes: u64,
    answer: oneshot::Receiver<ClientRoots>,
}

impl SessionRoots {
    /// The client's roots, if they are known.
    pub(crate) fn known(&self) -> Option<Arc<ClientRoots>> {
        let state = self.state.lock();
        state.known.as_ref().map(|(roots, _)| Arc::clone(roots))
    }

    /// Forgets the roots: the client has said that they changed.
    pub(crate) fn forget(&self) {
        let mut state = self.state.lock();
        state.known = None;
        state.changes += 1;
    }

    pub(crate) fn set(&self, roots: ClientRoots, account: &Account) {
        let charge = account.charge_anyway(Kind::Session, roots.weight());
        self.state.lock().known = Some((Arc::new(roots), charge));
    }

    /// Asks the client with `push`, unless they are known; one that does not answer in time, or with what cannot be
    /// used, has none.
    pub(crate) async fn learn(&self, account: &Account, push: impl Fn(Bytes) -> bool) {
        let _guard = self.asking.lock().await;
        for _ in 0..MAX_CHANGES {
            if self.known().is_some() {
                return;
            }
            let asked = self.begin();
            let question = bare_request(asked.name, "roots/list");
            let roots = if push(question.into()) {
                let answer = tokio::time::timeout(ANSWER_TIMEOUT, asked.answer).await;
                answer.ok().and_then(Result::ok)
            } else {
                None
            };
            let is_current = self.state.lock().changes == asked.changes;
            if is_current {
                self.set(roots.unwrap_or_else(ClientRoots::none), account);
            }
        }
    }

    fn begin(&self) -> RootsQuestion {
        let (tell, answer) = oneshot::channel();
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        state.asked = Some((number, tell));
        RootsQuestion {
            name: AskRef {
                worker: SELF,
                number,
            },
            changes: state.changes,
            answer,
        }
    }

    /// The client answers; false if that was not asked.
    pub(crate) fn answered(&self, number: u64, result: Option<RawJson<'_>>) -> bool {
        let waiting = {
            let mut state = self.state.lock();
            state.asked.take_if(|(asked, _)| *asked == number)
        };
        let Some((_, tell)) = waiting else {
            return false;
        };
        let roots = match result.map(|result| ClientRoots::read(result.get())) {
            Some(Ok(roots)) => roots,
            Some(Err(error)) => {
                tracing::warn!("a client's answer to `roots/list` is taken for none: {error}");
                ClientRoots::none()
            }
            None => ClientRoots::none(),
        };
        // The waiting request may have gone.
        let _waits = tell.send(roots);
        true
    }
}
