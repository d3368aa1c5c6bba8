//! Streams that break: what was told on them lately can be told again, and a call goes on
//! meanwhile (2025-11-25, basic/transports, "Resumability and Redelivery"). A broken connection is
//! no cancellation in these revisions.
//!
//! Each event of a stream is named after the stream and its place in it. A client that lost a
//! stream names the last event it got in `Last-Event-ID` of a GET, and gets what came after it on
//! that stream and on no other. It may come back before its old connection is seen to be broken: then the
//! stream is taken from that.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use super::stream::PostStream;
use crate::bridge::SessionNo;

/// How long a broken stream waits for its client.
const RESUMED_WITHIN: Duration = Duration::from_secs(60);
/// Most streams of one session that wait; the oldest goes first.
const MAX_OF_SESSION: usize = 8;
/// How long a stream may take to be handed over by a connection that still holds it.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(1);

/// Where a stream is.
#[derive(Debug)]
enum Place {
    /// Its client is gone, as far as anyone knows.
    Waits(Box<PostStream>),
    /// A connection tells it. Its client may know better: that the connection is broken is seen here
    /// only when something is written to it.
    Told(oneshot::Sender<oneshot::Sender<Box<PostStream>>>),
}

/// Asks for a stream that is being told.
pub(super) type HandOver = oneshot::Receiver<oneshot::Sender<Box<PostStream>>>;

/// Streams that wait for their clients, and those that may come to.
#[derive(Debug, Default)]
pub struct Parked(Mutex<FxHashMap<SessionNo, BTreeMap<u64, Place>>>);

impl Parked {
    /// A stream is told from now on; whoever wants it instead comes to the receiver.
    pub(super) fn told(&self, session: SessionNo, no: u64) -> HandOver {
        let (ask, asked) = oneshot::channel();
        let mut all = self.0.lock();
        all.entry(session).or_default().insert(no, Place::Told(ask));
        asked
    }

    /// Lets a stream wait for its client, for a while.
    pub(super) fn park(self: &Arc<Self>, session: SessionNo, stream: Box<PostStream>) {
        let no = stream.no();
        let crowded_out = {
            let mut all = self.0.lock();
            let of_session = all.entry(session).or_default();
            of_session.insert(no, Place::Waits(stream));
            let waits =
                |(no, place): (&u64, &Place)| matches!(place, Place::Waits(_)).then_some(*no);
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
                // One that was taken up and lost again meanwhile waits a little shorter.
                let late = parked.remove(session, no, |place| matches!(place, Place::Waits(_)));
                drop(late);
            }
        });
    }

    /// The stream is over, and nobody can want it.
    pub(super) fn forget(&self, session: SessionNo, no: u64) {
        drop(self.remove(session, no, |_| true));
    }

    /// The stream of that number, from the connection that tells it if it does not wait.
    ///
    /// # Cancel-Safety
    /// A dropped call may lose the stream: what it waited for is cancelled.
    pub(super) async fn take(&self, session: SessionNo, no: u64) -> Option<Box<PostStream>> {
        // The connection may notice that it is broken just now, and let the stream wait.
        for _ in 0..2 {
            match self.remove(session, no, |_| true)? {
                Place::Waits(stream) => return Some(stream),
                Place::Told(ask) => {
                    let (give, given) = oneshot::channel();
                    if ask.send(give).is_ok()
                        && let Ok(Ok(stream)) =
                            tokio::time::timeout(HANDED_OVER_WITHIN, given).await
                    {
                        return Some(stream);
                    }
                }
            }
        }
        None
    }

    fn remove(
        &self,
        session: SessionNo,
        no: u64,
        is_meant: impl Fn(&Place) -> bool,
    ) -> Option<Place> {
        let mut all = self.0.lock();
        let of_session = all.get_mut(&session)?;
        let found = match of_session.get(&no) {
            Some(place) if is_meant(place) => of_session.remove(&no),
            _ => None,
        };
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
