//! Streams that break: what was told on them lately can be told again, and a call goes on
//! meanwhile (2025-11-25, basic/transports, "Resumability and Redelivery"). A broken connection is
//! no cancellation in these revisions.
//!
//! Each event of a stream is named after the stream and its place in it. A client that lost a
//! stream names the last event it got in `Last-Event-ID` of a GET, and gets what came after it on
//! that stream and on no other. It may come back before its old connection is seen to be broken: then the
//! stream is taken from that, as soon as that can give it.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::stream::PostStream;
use crate::bridge::SessionNo;

/// How long a broken stream waits for its client.
const RESUMED_WITHIN: Duration = Duration::from_secs(60);
/// Most streams of one session that wait; the oldest goes first.
const MAX_OF_SESSION: usize = 8;

/// Where a stream is.
#[derive(Debug)]
enum Place {
    /// Its client is gone, as far as anyone knows.
    Waits(Box<PostStream>, Instant),
    /// A connection tells it. Its client may know better: that the connection is broken is seen here
    /// only when something is written to it.
    Told(Arc<HandOver>),
}

/// Between the connection that tells a stream and the one that its client has come back on.
#[derive(Debug, Default)]
pub(super) struct HandOver {
    /// The latest that wants it.
    taker: Mutex<Option<oneshot::Sender<Box<PostStream>>>>,
    asked: Notify,
}

impl HandOver {
    /// Waits until another connection wants the stream.
    ///
    /// # Cancel-Safety
    /// A dropped call misses nothing.
    pub(super) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Gives the stream to the connection that wants it; back if none does, or that is gone again.
    pub(super) fn give(&self, stream: Box<PostStream>) -> Option<Box<PostStream>> {
        match self.taker.lock().take() {
            Some(taker) => taker.send(stream).err(),
            None => Some(stream),
        }
    }
}

/// What became of a stream that is asked for.
#[derive(Debug)]
pub(super) enum Found {
    /// It is over, or never was.
    Nothing,
    /// It has waited.
    Stream(Box<PostStream>),
    /// The connection that tells it gives it away as soon as it can.
    Coming(Coming),
}

/// A stream that another connection has still. Dropping it lets the stream wait for the next that asks for it.
#[derive(Debug)]
pub(super) struct Coming {
    given: oneshot::Receiver<Box<PostStream>>,
    session: SessionNo,
    parked: Arc<Parked>,
}

impl Coming {
    /// The stream; `None` if it is over, or another connection has asked for it since.
    ///
    /// # Cancel-Safety
    /// A dropped call loses nothing.
    pub(super) async fn next(&mut self) -> Option<Box<PostStream>> {
        (&mut self.given).await.ok()
    }
}

impl Drop for Coming {
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
pub struct Parked(Mutex<FxHashMap<SessionNo, BTreeMap<u64, Place>>>);

impl Parked {
    /// A stream is told from now on; whoever wants it instead says so there.
    pub(super) fn told(&self, session: SessionNo, no: u64) -> Arc<HandOver> {
        let hand_over = Arc::new(HandOver::default());
        let place = Place::Told(Arc::clone(&hand_over));
        self.0.lock().entry(session).or_default().insert(no, place);
        hand_over
    }

    /// Lets a stream wait for its client, for a while.
    pub(super) fn park(self: &Arc<Self>, session: SessionNo, stream: Box<PostStream>) {
        let no = stream.no();
        let since = Instant::now();
        let crowded_out = {
            let mut all = self.0.lock();
            let of_session = all.entry(session).or_default();
            of_session.insert(no, Place::Waits(stream, since));
            let waits =
                |(no, place): (&u64, &Place)| matches!(place, Place::Waits(..)).then_some(*no);
            let mut waiting = of_session.iter().filter_map(waits);
            match (waiting.next(), waiting.count() >= MAX_OF_SESSION) {
                (Some(oldest), true) => of_session.remove(&oldest),
                _ => None,
            }
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
                let is_meant = |place: &Place| matches!(place, Place::Waits(_, at) if *at == since);
                drop(parked.remove(session, no, is_meant));
            }
        });
    }

    /// The stream is over, and nobody can want it.
    pub(super) fn forget(&self, session: SessionNo, no: u64) {
        drop(self.remove(session, no, |_| true));
    }

    /// Ends the calls of a session that nobody can hear of any more: it has others that wait for a place.
    pub(super) fn make_room(&self, session: SessionNo) {
        let mut all = self.0.lock();
        let Some(of_session) = all.get_mut(&session) else {
            return;
        };
        let is_unheard = |place: &Place| match place {
            Place::Waits(stream, _) => !stream.can_be_resumed(),
            Place::Told(_) => false,
        };
        let numbers: Vec<u64> = of_session
            .iter()
            .filter(|(_, place)| is_unheard(place))
            .map(|(no, _)| *no)
            .collect();
        let unheard: Vec<_> = numbers
            .iter()
            .filter_map(|no| of_session.remove(no))
            .collect();
        drop(all);
        // Dropping them tells their workers.
        drop(unheard);
    }

    /// The stream of that number.
    pub(super) fn take(self: &Arc<Self>, session: SessionNo, no: u64) -> Found {
        let mut all = self.0.lock();
        let of_session = all.get(&session);
        match of_session.and_then(|of_session| of_session.get(&no)) {
            None => Found::Nothing,
            Some(Place::Told(hand_over)) => {
                let (give, given) = oneshot::channel();
                // Who asked before has its own connection behind it now.
                *hand_over.taker.lock() = Some(give);
                hand_over.asked.notify_one();
                Found::Coming(Coming {
                    given,
                    session,
                    parked: Arc::clone(self),
                })
            }
            Some(Place::Waits(..)) => match Self::removed(&mut all, session, no) {
                Some(Place::Waits(stream, _)) => Found::Stream(stream),
                Some(Place::Told(_)) | None => Found::Nothing,
            },
        }
    }

    fn remove(
        &self,
        session: SessionNo,
        no: u64,
        is_meant: impl Fn(&Place) -> bool,
    ) -> Option<Place> {
        let mut all = self.0.lock();
        let place = all.get(&session)?.get(&no)?;
        is_meant(place).then(|| Self::removed(&mut all, session, no))?
    }

    fn removed(
        all: &mut FxHashMap<SessionNo, BTreeMap<u64, Place>>,
        session: SessionNo,
        no: u64,
    ) -> Option<Place> {
        let of_session = all.get_mut(&session)?;
        let found = of_session.remove(&no);
        if of_session.is_empty() {
            all.remove(&session);
        }
        found
    }

    /// Nobody comes back: stdiopool ends.
    pub fn clear(&self) {
        let all = std::mem::take(&mut *self.0.lock());
        drop(all);
    }
}
