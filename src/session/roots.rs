//! Whose roots a worker is told.
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
//! Sessions of a tenant share a worker only where their roots are the same: each set of roots has its own pool key. A
//! worker that was started before anybody's roots were known becomes that of the first session that has some.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rustc_hash::FxHashSet;
use tokio::sync::oneshot;

use super::exchange::Exchange;
use super::link::Link;
use super::mailbox::{Mailbox, Pushed};
use super::record::Session;
use super::service::Sessions;
use crate::bridge::{AskRef, ClientRoots};
use crate::held::{Account, Bounds, Charge, Kind, Shelf, TenantTable};
use crate::ids::{Lineage, PoolKey, ProgramId, TenantId, WorkerId};
use crate::protocol::{Envelope, Failure, RawJson};
use crate::tenancy::{ClientConfig, derived_key, derived_lineage};

/// How long a client may take to say what its roots are; then it has none.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often they are asked for anew because they changed while they were asked for.
const MAX_CHANGES: usize = 3;
/// Questions of stdiopool itself are those of this worker, which there is not.
const SELF: WorkerId = WorkerId(0);
/// Sets of roots that are told apart of one server and tenant, for each way in which its workers are started.
const MAX_SETS: usize = 64;
/// Ways in which workers that are told roots are started.
const WAYS: Bounds = Bounds {
    of_tenant: 1_000,
    of_all: 50_000,
};

/// What is known of a session's roots.
#[derive(Debug, Default)]
pub(super) struct SessionRoots {
    state: Mutex<State>,
    /// Held by whoever asks its client.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    known: Option<(Arc<ClientRoots>, Charge)>,
    /// The question under way: its number, and who waits.
    asked: Option<(u64, oneshot::Sender<ClientRoots>)>,
    next: u64,
    /// How often they have changed.
    changes: u64,
}

impl SessionRoots {
    /// What they are, if they are known.
    pub(super) fn known(&self) -> Option<Arc<ClientRoots>> {
        let state = self.state.lock();
        state.known.as_ref().map(|(roots, _)| Arc::clone(roots))
    }

    /// They are others now.
    fn forget(&self) {
        let mut state = self.state.lock();
        state.known = None;
        state.changes += 1;
    }

    fn set(&self, roots: ClientRoots, account: &Account) {
        let charge = account.charge_anyway(Kind::Session, roots.weight());
        self.state.lock().known = Some((Arc::new(roots), charge));
    }

    /// Asks the client with `push`, unless they are known; one that does not answer in time, or with what cannot be
    /// used, has none.
    async fn learn(&self, account: &Account, push: impl Fn(Bytes) -> bool) {
        let _turn = self.turn.lock().await;
        for _ in 0..MAX_CHANGES {
            if self.known().is_some() {
                return;
            }
            let (ask, changes, answer) = self.begin();
            let question = format!(r#"{{"jsonrpc":"2.0","id":{ask},"method":"roots/list"}}"#);
            let roots = if push(question.into()) {
                let answer = tokio::time::timeout(PATIENCE, answer).await;
                answer.ok().and_then(Result::ok)
            } else {
                None
            };
            let is_current = self.state.lock().changes == changes;
            if is_current {
                self.set(roots.unwrap_or_else(ClientRoots::none), account);
            }
        }
    }

    fn begin(&self) -> (AskRef, u64, oneshot::Receiver<ClientRoots>) {
        let (tell, answer) = oneshot::channel();
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        state.asked = Some((number, tell));
        let ask = AskRef {
            worker: SELF,
            number,
        };
        (ask, state.changes, answer)
    }

    /// The client answers; false if that was not asked.
    fn answered(&self, number: u64, result: Option<RawJson<'_>>) -> bool {
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
        // Who waited may have gone with its request.
        let _waits = tell.send(roots);
        true
    }
}

/// One way in which workers are started, and what tells the workers of each set of roots apart.
#[derive(Debug)]
struct Way {
    /// Of workers whose roots are not known yet.
    unclaimed: u64,
    /// By the digest of the roots.
    claimed: Shelf<[u8; 32], u64>,
}

/// What makes pool keys of workers with the same roots: the way in which they are started, whatever their configuration,
/// and a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RootsSlot {
    way: Lineage,
    number: u64,
}

impl RootsSlot {
    /// The pool key of its workers, of those that have `key` with whatever roots.
    pub(super) fn key(self, key: PoolKey) -> PoolKey {
        derived_key(key, self.number)
    }

    /// Their lineage.
    pub(super) fn lineage(self) -> Lineage {
        derived_lineage(self.way, self.number)
    }
}

/// Which programs ask for roots, and which workers have which.
#[derive(Debug)]
pub(super) struct RootsTable {
    asking: Mutex<FxHashSet<ProgramId>>,
    ways: Mutex<TenantTable<Lineage, Way>>,
    next: AtomicU64,
    /// Grows whenever a session may have to go to another worker than before.
    edition: AtomicU64,
}

impl Default for RootsTable {
    fn default() -> Self {
        Self {
            asking: Mutex::default(),
            ways: Mutex::new(TenantTable::new(WAYS)),
            next: AtomicU64::new(0),
            edition: AtomicU64::new(0),
        }
    }
}

impl RootsTable {
    pub(super) fn edition(&self) -> u64 {
        self.edition.load(Ordering::Acquire)
    }

    fn changed(&self) {
        self.edition.fetch_add(1, Ordering::Release);
    }

    /// Whether a process of that program has asked for roots.
    pub(super) fn is_asking(&self, program: ProgramId) -> bool {
        self.asking.lock().contains(&program)
    }

    /// A process of that program has asked for roots.
    pub(super) fn note_asking(&self, program: ProgramId) {
        if self.asking.lock().insert(program) {
            self.changed();
        }
    }

    fn fresh(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Where workers with those roots are, of those that are started in that way; without roots, where those are that
    /// have not been told any.
    pub(super) fn slot(
        &self,
        tenant: &TenantId,
        way: Lineage,
        roots: Option<[u8; 32]>,
    ) -> RootsSlot {
        let mut ways = self.ways.lock();
        if ways.peek(tenant, &way).is_none() {
            let new = Way {
                unclaimed: self.fresh(),
                claimed: Shelf::default(),
            };
            if ways.insert(tenant, way, new, |_| false).is_err() {
                let number = self.fresh();
                return RootsSlot { way, number };
            }
        }
        let number = match ways.get(tenant, &way) {
            None => self.fresh(),
            Some(known) => match roots {
                None => known.unclaimed,
                Some(roots) => known.of(roots, || self.fresh()),
            },
        };
        RootsSlot { way, number }
    }

    /// A worker of that slot was told those roots by a client itself.
    fn told(&self, tenant: &TenantId, slot: RootsSlot, roots: [u8; 32]) {
        let mut ways = self.ways.lock();
        let Some(way) = ways.get(tenant, &slot.way) else {
            return;
        };
        if way.claimed.peek(&roots) == Some(&slot.number) {
            return;
        }
        let is_unclaimed = way.unclaimed == slot.number;
        if is_unclaimed {
            way.unclaimed = self.fresh();
        } else {
            way.claimed.take_oldest(|number| *number != slot.number);
        }
        if way.claimed.peek(&roots).is_none() {
            way.claim(roots, slot.number);
        }
        drop(ways);
        // Whoever is on the way there may have other roots.
        self.changed();
    }
}

impl Way {
    fn of(&mut self, roots: [u8; 32], fresh: impl FnOnce() -> u64) -> u64 {
        if let Some(number) = self.claimed.get(&roots) {
            return *number;
        }
        let number = std::mem::replace(&mut self.unclaimed, fresh());
        self.claim(roots, number);
        number
    }

    fn claim(&mut self, roots: [u8; 32], number: u64) {
        if self.claimed.len() >= MAX_SETS {
            self.claimed.take_oldest(|_| false);
        }
        self.claimed.put(roots, number);
    }
}

impl Sessions {
    /// Whether the roots of the session's client have to be known before its request can be sent: its server asks for
    /// them.
    pub(super) async fn lacks_roots(
        &self,
        session: &Arc<Session>,
        config: Option<&Arc<ClientConfig>>,
    ) -> Result<bool, Failure> {
        if session.roots().is_none() {
            return Ok(false);
        }
        Ok(self.route(session, config).await?.order.lacks_roots)
    }

    /// Has the worker work with the roots of the session's client. False if they are not known, and it asks for them.
    pub(super) async fn settle_roots(&self, session: &Session, link: &Link) -> bool {
        let Some(roots) = session.roots() else {
            return true;
        };
        if !self.shared.roots.is_asking(link.order().program) || !link.may_ask_for_roots() {
            return true;
        }
        let Some(roots) = roots.known() else {
            return false;
        };
        link.tell_roots(&roots).await;
        true
    }

    /// Asks the session's client for its roots: in the mailbox of a request, else on the session's own stream.
    ///
    /// # Cancel-Safety
    /// A dropped call has learnt nothing; the next one asks anew.
    pub(super) async fn learn_roots(&self, session: &Arc<Session>, mailbox: Option<&Mailbox>) {
        let Some(roots) = session.roots() else {
            return;
        };
        let learning = roots.learn(session.account(), |question| match mailbox {
            Some(mailbox) => mailbox.push(question) == Pushed::Whole,
            None => !session.outbox.push(question).is_loss(),
        });
        learning.await;
        session.reconsider_routes();
    }

    /// The same for a request that waits until they are known and is sent then. False if it cannot wait: they are known
    /// on return.
    pub(super) async fn roots_for(
        &self,
        session: &Arc<Session>,
        envelope: &Envelope<'_>,
        exchange: &mut Exchange,
    ) -> bool {
        if exchange.wait_for_roots(self, session, envelope) {
            return true;
        }
        self.learn_roots(session, None).await;
        false
    }

    /// The session's client answers a question of stdiopool itself; `None` if it was a worker that asked.
    pub(super) fn answered_roots(
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
    pub(super) fn note_roots(&self, session: &Session, link: &Link, envelope: &Envelope<'_>) {
        let told = envelope
            .result
            .map(|result| ClientRoots::read(result.get()));
        let (Some(roots), Some(Ok(told))) = (session.roots(), told) else {
            return;
        };
        let digest = told.digest();
        if roots.known().is_none_or(|known| known.digest() != digest) {
            roots.set(told, session.account());
            session.reconsider_routes();
        }
        if let Some(slot) = link.order().roots_slot {
            self.shared.roots.told(session.tenant(), slot, digest);
        }
    }

    /// The session's client has other roots. Says whether its workers are told with its next request; else the
    /// notification is for them.
    pub(super) fn roots_changed(&self, session: &Session, link: Option<&Link>) -> bool {
        let Some(roots) = session.roots() else {
            return false;
        };
        match link {
            Some(link) => self.shared.roots.is_asking(link.order().program),
            None => {
                roots.forget();
                session.reconsider_routes();
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: PoolKey = PoolKey([0; 16]);

    fn way(n: u8) -> Lineage {
        Lineage([n; 16])
    }

    #[test]
    fn each_set_of_roots_has_a_slot_and_the_first_takes_what_was_started() {
        let table = RootsTable::default();
        let anna = TenantId::new("anna");
        let slot = |roots: Option<u8>| table.slot(&anna, way(1), roots.map(|n| [n; 32]));
        let started = slot(None);
        assert_eq!(slot(None), started);
        let one = slot(Some(1));
        assert_eq!(one, started, "nobody's becomes the first one's");
        let two = slot(Some(2));
        assert_ne!(one.key(KEY), two.key(KEY));
        assert_ne!(slot(None).key(KEY), one.key(KEY));
        assert_ne!(slot(None).lineage(), two.lineage());
        assert_eq!((slot(Some(1)), slot(Some(2))), (one, two));
        let bob = TenantId::new("bob");
        assert_ne!(table.slot(&bob, way(1), Some([1; 32])), one);
        let other = table.slot(&anna, way(2), Some([1; 32]));
        assert_ne!(other.key(KEY), one.key(KEY));
    }

    #[test]
    fn a_worker_that_was_told_other_roots_serves_those() {
        let table = RootsTable::default();
        let anna = TenantId::new("anna");
        let slot = |roots: Option<u8>| table.slot(&anna, way(1), roots.map(|n| [n; 32]));
        let one = slot(Some(1));
        let edition = table.edition();
        table.told(&anna, one, [1; 32]);
        assert_eq!(table.edition(), edition, "what it had");
        table.told(&anna, one, [2; 32]);
        assert!(table.edition() > edition);
        assert_eq!(slot(Some(2)), one);
        assert_ne!(slot(Some(1)), one);
        let nobodys = slot(None);
        table.told(&anna, nobodys, [3; 32]);
        assert_eq!(slot(Some(3)), nobodys);
        assert_ne!(slot(None), nobodys);
    }

    #[test]
    fn sets_of_roots_are_bounded_and_never_mixed_up() {
        let table = RootsTable::default();
        let anna = TenantId::new("anna");
        let first = table.slot(&anna, way(1), Some([0; 32]));
        for n in 1..=200_u8 {
            let slot = table.slot(&anna, way(1), Some([n; 32]));
            assert_ne!(slot, first);
        }
        assert_ne!(table.slot(&anna, way(1), Some([0; 32])), first);
        let claimed = table.ways.lock();
        let sets = claimed.peek(&anna, &way(1)).map(|way| way.claimed.len());
        assert_eq!(sets, Some(MAX_SETS));
    }
}
