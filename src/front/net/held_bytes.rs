//! Bytes that connections hold beyond what each does: how many are held for which peer, and who ends where there is no
//! room for more.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::activity::CloseRequest;
use super::connection_slots::{ConnectionSlot, ConnectionSlots};

/// One in so many of the bytes that all strangers may hold are for one peer.
const PART_OF_PEER: u64 = 4;
/// One in so many of the bytes that connections may hold are freed at once.
const FREED_PART: u64 = 8;
/// How often connections are looked through for those that hold most: those that were asked to end need a moment for it.
const ROOM_PERIOD: Duration = Duration::from_millis(2);

impl ConnectionSlots {
    /// So many bytes are held for a stranger of that peer.
    pub(super) fn holds_for(&self, peer: IpAddr, bytes: u64) {
        self.table.lock().of_peer.entry(peer).or_default().held += bytes;
    }

    /// So many of those are held no longer.
    pub(super) fn holds_no_longer(&self, peer: IpAddr, bytes: u64) {
        let mut table = self.table.lock();
        if let Some(count) = table.of_peer.get_mut(&peer) {
            count.held -= bytes;
        }
        table.forget_if_empty(peer);
    }

    /// Whether more is held for strangers of that peer than its part.
    pub(super) fn is_over(&self, peer: IpAddr) -> bool {
        let most = self.ledger.strangers().limit() / PART_OF_PEER;
        let held = self.table.lock().of_peer.get(&peer).map_or(0, |it| it.held);
        held > most && !self.limits.read().is_proxy(peer)
    }

    /// Asks connections to end that hold something, known ones or strangers, those of that peer only if one is given, until
    /// [one in a few](FREED_PART) of the bytes are free that they may hold. Connections that have held some for longest go first,
    /// and `but` last.
    pub(super) fn make_room(&self, but: &Arc<ConnectionSlot>, is_known: bool, of: Option<IpAddr>) {
        {
            let mut made_at = self.room_made_at.lock();
            if made_at.is_some_and(|at| at.elapsed() < ROOM_PERIOD) {
                return;
            }
            *made_at = Some(Instant::now());
        }
        let account = match is_known {
            true => self.ledger.shared(),
            false => self.ledger.strangers(),
        };
        let most = account.limit() / of.map_or(1, |_| PART_OF_PEER);
        let (mut holders, mut freed) = (Vec::new(), 0);
        let table = self.table.lock();
        for (number, record) in &table.records {
            let activity = &record.activity;
            let (bytes, since) = activity.held();
            if bytes == 0
                || activity.is_known() != is_known
                || of.is_some_and(|peer| peer != record.peer)
            {
                continue;
            }
            match activity.is_closing() {
                true => freed += bytes,
                false => holders.push((*number == but.number, since, bytes, Arc::clone(activity))),
            }
        }
        drop(table);
        holders.sort_unstable_by_key(|(is_last, since, ..)| (*is_last, *since));
        let mut count = 0;
        for (_, _, bytes, activity) in holders {
            if freed > most / FREED_PART {
                break;
            }
            freed += bytes;
            count += 1;
            activity.close_request(CloseRequest::Close);
        }
        self.has_no_room(count);
    }

    /// So many connections end because there is no room for what they hold.
    pub(super) fn has_no_room(&self, count: u64) {
        self.counts.evicted.fetch_add(count, Ordering::Relaxed);
        if count > 0 {
            self.say(|| tracing::warn!("connections are closed that hold more than there is room for: heads that do not end, or many requests over HTTP/2 whose answers are not taken (raise `http.memory`)"));
        }
    }
}
