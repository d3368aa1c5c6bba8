//! Streams that break: what was told on them lately can be told again, and a call goes on
//! meanwhile (2025-11-25, basic/transports, "Resumability and Redelivery"). A broken connection is
//! no cancellation in these revisions.
//!
//! Each event of a stream is named after the stream and its place in it. A client that lost a
//! stream names the last event it got in `Last-Event-ID` of a GET, and gets what came after it on
//! that stream and on no other.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::stream::PostStream;
use crate::bridge::SessionNo;

/// How long a broken stream waits for its client.
const RESUMED_WITHIN: Duration = Duration::from_secs(60);
/// Most streams of one session that wait; the oldest goes first.
const MAX_OF_SESSION: usize = 8;
/// Streams that wait for their clients.
#[derive(Debug, Default)]
pub struct Parked(Mutex<FxHashMap<SessionNo, BTreeMap<u64, PostStream>>>);

impl Parked {
    /// Lets a stream wait for its client, for a while.
    pub(super) fn park(self: &Arc<Self>, session: SessionNo, stream: PostStream) {
        let no = stream.no();
        let crowded_out = {
            let mut all = self.0.lock();
            let of_session = all.entry(session).or_default();
            of_session.insert(no, stream);
            if of_session.len() > MAX_OF_SESSION {
                of_session.pop_first()
            } else {
                None
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
                drop(parked.take(session, no));
            }
        });
    }

    /// The stream of that number, if it waits.
    pub(super) fn take(&self, session: SessionNo, stream: u64) -> Option<PostStream> {
        let mut all = self.0.lock();
        let of_session = all.get_mut(&session)?;
        let found = of_session.remove(&stream);
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
