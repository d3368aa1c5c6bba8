//! Streams that break: what was told on them lately can be told again, and a call goes on
//! meanwhile (2025-11-25, basic/transports, "Resumability and Redelivery"). A broken connection is
//! no cancellation in these revisions.
//!
//! Each event of a stream is named after the stream and its place in it. A client that lost a
//! stream names the last event it got in `Last-Event-ID` of a GET, and gets what came after it on
//! that stream and on no other. The client may come back before its old connection is seen to be broken: then the
//! stream is taken from that connection, as soon as it can give it.
//!
//! Streams kept for clients that are gone go before their tenant is refused anything for lack of memory: the one
//! that has waited longest first.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::post_stream::PostStream;
use crate::bridge::SessionNo;
use crate::held::{Account, AccountKey, Reclaim};

/// How long a broken stream waits for its client.
const RESUMED_WITHIN: Duration = Duration::from_secs(60);
/// Most streams of one session that wait; the oldest goes first.
const MAX_OF_SESSION: usize = 8;
/// A stream that keeps fewer bytes than this makes no room by going: its call goes on.
const LEAST_KEPT: usize = 4096;

/// Whether a stream waits for its client or is told to it.
#[derive(Debug)]
enum StreamState {
    /// The stream's client is gone, as far as anyone knows.
    Waits {
        stream: Box<PostStream>,
        since: Instant,
        /// The stream's place among those of its tenant that wait.
        order: u64,
    },
    /// A connection tells the stream. The client may know better: that the connection is broken is seen here
    /// only when something is written to it.
    Live(Arc<HandOver>),
}

/// Between the connection that tells a stream and the one that its client has come back on.
#[derive(Debug, Default)]
pub(in crate::front) struct HandOver {
    /// The latest that wants it.
    taker: Mutex<Option<oneshot::Sender<Box<PostStream>>>>,
    asked: Notify,
}

impl HandOver {
    /// Waits until another connection wants the stream.
    ///
    /// # Cancel-Safety
    /// A dropped call misses nothing.
    pub(in crate::front) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Gives the stream to the connection that wants it; back if none does, or that is gone again.
    pub(in crate::front) fn give(&self, stream: Box<PostStream>) -> Option<Box<PostStream>> {
        match self.taker.lock().take() {
            Some(taker) => taker.send(stream).err(),
            None => Some(stream),
        }
    }
}

/// The outcome of asking for a stream.
#[derive(Debug)]
pub(in crate::front) enum Resumption {
    /// The stream is over, or never was.
    Nothing,
    /// The stream has waited.
    Stream(Box<PostStream>),
    /// The connection that tells it gives it away as soon as it can.
    Pending(PendingHandOver),
}

/// A stream that another connection has still. Dropping it lets the stream wait for the next that asks for it.
#[derive(Debug)]
pub(in crate::front) struct PendingHandOver {
    given: oneshot::Receiver<Box<PostStream>>,
    session: SessionNo,
    parked: Arc<Parked>,
}

impl PendingHandOver {
    /// The stream; `None` if it is over, or another connection has asked for it since.
    ///
    /// # Cancel-Safety
    /// A dropped call loses nothing.
    pub(in crate::front) async fn next(&mut self) -> Option<Box<PostStream>> {
        (&mut self.given).await.ok()
    }
}

impl Drop for PendingHandOver {
    fn drop(&mut self) {
        self.given.close();
        // Given, and not taken.
        if let Ok(stream) = self.given.try_recv() {
            self.parked.park(self.session, stream);
        }
    }
}

/// Streams that wait for their clients, and those that may come to.
#[derive(Debug, Default)]
pub struct Parked(Mutex<Streams>);

/// Streams by session and number.
#[derive(Debug, Default)]
struct Streams {
    of_sessions: FxHashMap<SessionNo, BTreeMap<u64, StreamState>>,
    /// Where those are that wait, of each tenant, the one first that has waited longest.
    waiting: FxHashMap<AccountKey, BTreeMap<u64, (SessionNo, u64)>>,
    /// Counts those that came to wait.
    last: u64,
}

impl Streams {
    /// Lets a stream wait.
    fn wait(&mut self, session: SessionNo, stream: Box<PostStream>, since: Instant) {
        self.last += 1;
        let (no, order) = (stream.no(), self.last);
        let of_tenant = self.waiting.entry(stream.account().key()).or_default();
        of_tenant.insert(order, (session, no));
        let state = StreamState::Waits {
            stream,
            since,
            order,
        };
        let of_session = self.of_sessions.entry(session).or_default();
        let before = of_session.insert(no, state);
        debug_assert!(!matches!(before, Some(StreamState::Waits { .. })));
    }

    fn get(&self, session: SessionNo, no: u64) -> Option<&StreamState> {
        self.of_sessions.get(&session)?.get(&no)
    }

    fn take(&mut self, session: SessionNo, no: u64) -> Option<StreamState> {
        let of_session = self.of_sessions.get_mut(&session)?;
        let found = of_session.remove(&no);
        if of_session.is_empty() {
            self.of_sessions.remove(&session);
        }
        if let Some(StreamState::Waits { stream, order, .. }) = &found {
            let key = stream.account().key();
            if let Some(of_tenant) = self.waiting.get_mut(&key) {
                of_tenant.remove(order);
                if of_tenant.is_empty() {
                    self.waiting.remove(&key);
                }
            }
        }
        found
    }

    /// The numbers of those streams of a session that are meant.
    fn of_session(&self, session: SessionNo, is_meant: impl Fn(&StreamState) -> bool) -> Vec<u64> {
        let of_session = self.of_sessions.get(&session).into_iter().flatten();
        let meant = of_session.filter(|(_, state)| is_meant(state));
        meant.map(|(no, _)| *no).collect()
    }

    /// Takes the stream that has waited longest, of those of that tenant that keep something for their clients.
    fn take_oldest(&mut self, tenant: AccountKey) -> Option<Box<PostStream>> {
        let keeps = |(session, no): &&(SessionNo, u64)| match self.get(*session, *no) {
            Some(StreamState::Waits { stream, .. }) => stream.kept_bytes() >= LEAST_KEPT,
            Some(StreamState::Live(_)) | None => false,
        };
        let (session, no) = self.waiting.get(&tenant)?.values().find(keeps).copied()?;
        match self.take(session, no)? {
            StreamState::Waits { stream, .. } => Some(stream),
            StreamState::Live(_) => None,
        }
    }
}

impl Reclaim for Parked {
    fn reclaim(&self, account: &Account) -> bool {
        // Whoever asks may hold locks that the end of a call needs.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return false;
        };
        let oldest = self.0.lock().take_oldest(account.key());
        let Some(mut stream) = oldest else {
            return false;
        };
        tracing::debug!(
            bytes = stream.kept_bytes(),
            "an answer that was kept for a client that is gone makes room"
        );
        stream.discard();
        runtime.spawn(async move { drop(stream) });
        true
    }
}

impl Parked {
    /// A stream is told from now on; whoever wants it instead says so there.
    pub(in crate::front) fn live(&self, session: SessionNo, no: u64) -> Arc<HandOver> {
        let hand_over = Arc::new(HandOver::default());
        let state = StreamState::Live(Arc::clone(&hand_over));
        let mut all = self.0.lock();
        let before = all.take(session, no);
        all.of_sessions
            .entry(session)
            .or_default()
            .insert(no, state);
        drop(all);
        drop(before);
        hand_over
    }

    /// Lets a stream wait for its client, for a while.
    pub(in crate::front) fn park(self: &Arc<Self>, session: SessionNo, stream: Box<PostStream>) {
        let no = stream.no();
        let since = Instant::now();
        let crowded_out = {
            let mut all = self.0.lock();
            let before = all.take(session, no);
            all.wait(session, stream, since);
            let waiting =
                all.of_session(session, |state| matches!(state, StreamState::Waits { .. }));
            let oldest = (waiting.len() > MAX_OF_SESSION).then(|| all.take(session, waiting[0]));
            (before, oldest)
        };
        drop(crowded_out);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let parked: Weak<Self> = Arc::downgrade(self);
        runtime.spawn(async move {
            tokio::time::sleep(RESUMED_WITHIN).await;
            if let Some(parked) = parked.upgrade() {
                // One that was taken up and lost again meanwhile has its full time from then on.
                let is_meant =
                    |state: &StreamState| matches!(state, StreamState::Waits { since: at, .. } if *at == since);
                drop(parked.remove(session, no, is_meant));
            }
        });
    }

    /// The stream is over, and nobody can want it.
    pub(in crate::front) fn forget(&self, session: SessionNo, no: u64) {
        drop(self.remove(session, no, |_| true));
    }

    /// Ends the calls of a session that nobody can hear of any more: it has others that wait for a place.
    pub(in crate::front) fn make_room(&self, session: SessionNo) {
        let mut all = self.0.lock();
        let unheard = all.of_session(session, |state| match state {
            StreamState::Waits { stream, .. } => !stream.can_be_resumed(),
            StreamState::Live(_) => false,
        });
        let unheard: Vec<_> = unheard
            .into_iter()
            .filter_map(|no| all.take(session, no))
            .collect();
        drop(all);
        // Dropping them tells their workers.
        drop(unheard);
    }

    /// The stream of that number.
    pub(in crate::front) fn take(self: &Arc<Self>, session: SessionNo, no: u64) -> Resumption {
        let mut all = self.0.lock();
        match all.get(session, no) {
            None => Resumption::Nothing,
            Some(StreamState::Live(hand_over)) => {
                let (give, given) = oneshot::channel();
                // A client that asked before has left that connection.
                *hand_over.taker.lock() = Some(give);
                hand_over.asked.notify_one();
                Resumption::Pending(PendingHandOver {
                    given,
                    session,
                    parked: Arc::clone(self),
                })
            }
            Some(StreamState::Waits { .. }) => match all.take(session, no) {
                Some(StreamState::Waits { stream, .. }) => Resumption::Stream(stream),
                Some(StreamState::Live(_)) | None => Resumption::Nothing,
            },
        }
    }

    fn remove(
        &self,
        session: SessionNo,
        no: u64,
        is_meant: impl Fn(&StreamState) -> bool,
    ) -> Option<StreamState> {
        let mut all = self.0.lock();
        let is_meant = all.get(session, no).is_some_and(is_meant);
        is_meant.then(|| all.take(session, no)).flatten()
    }

    /// The session has ended: nobody comes back to its streams.
    pub(in crate::front) fn end(&self, session: SessionNo) {
        let mut all = self.0.lock();
        let waiting = all.of_session(session, |state| matches!(state, StreamState::Waits { .. }));
        let ended: Vec<_> = waiting
            .into_iter()
            .filter_map(|no| all.take(session, no))
            .collect();
        drop(all);
        drop(ended);
    }

    /// Nobody comes back: stdiopool ends.
    pub fn clear(&self) {
        let all = std::mem::take(&mut *self.0.lock());
        drop(all);
    }
}
