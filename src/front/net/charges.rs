//! What a connection holds beyond what each does: a long head, and requests over HTTP/2 beside each other.
//!
//! Counts of connections and streams are not enough: a head may be 128 KiB long, and a connection over HTTP/2 has
//! hundreds of streams, each of which keeps its head, its task and its answer until the client takes that.
//! So both are charged, and whose they are is not known before credentials were looked at:
//!
//! ```text
//!  head, handshake, request ──▶ of strangers: an account of all of them, of which one peer has a quarter
//!                           └─▶ of a connection that showed credentials before: an account of all such
//!  its caller is known      ──▶ of the caller's tenant, which is refused if it has no room
//! ```
//!
//! Where one of the first two has no room, the connections go that have held some for longest: what is valid is read, and
//! its caller known, within moments.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use parking_lot::Mutex;

use super::activity::CloseRequest;
use super::connection_slots::ConnectionSlot;
use crate::held::{Account, Charge, Full, Kind};

/// Bytes of a head that each connection may have.
pub(super) const FREE_HEAD: usize = 8 << 10;
/// Requests at once that each connection may have.
const FREE_REQUESTS: u32 = 8;
/// What a request over HTTP/2 and its answer take beside their head, in bytes: 3.7 KiB as measured.
const REQUEST: usize = 4 << 10;
/// How far what those hold may pass their limit while others that were asked to end have not ended.
const SLACK: u64 = 2;

/// The memory charged for one connection, of a caller that is not known, or of a tenant. Dropping it gives it back.
#[derive(Debug)]
pub(in crate::front) struct ConnectionCharge {
    charge: Charge,
    /// Until the caller is known.
    of_connection: Option<OfConnection>,
}

/// The memory charged for a request, shared by its answer and by who finds out whose it is.
pub(in crate::front) type RequestCharge = Arc<Mutex<ConnectionCharge>>;

/// Bytes that count for a connection.
#[derive(Debug)]
struct OfConnection {
    slot: Arc<ConnectionSlot>,
    bytes: u64,
    /// The peer, where the connection is a stranger's.
    peer: Option<IpAddr>,
}

impl OfConnection {
    fn new(slot: &Arc<ConnectionSlot>) -> Self {
        Self {
            slot: Arc::clone(slot),
            bytes: 0,
            peer: (!slot.activity().is_known()).then(|| slot.peer()),
        }
    }

    fn grow(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.slot.activity().holds(bytes);
        if let Some(peer) = self.peer {
            self.slot.slots().holds_for(peer, bytes);
        }
    }

    /// Whether the connection's peer holds more than its part.
    fn is_over(&self) -> bool {
        self.peer
            .is_some_and(|peer| self.slot.slots().is_over(peer))
    }
}

impl Drop for OfConnection {
    fn drop(&mut self) {
        self.slot.activity().holds_no_longer(self.bytes);
        if let Some(peer) = self.peer {
            self.slot.slots().holds_no_longer(peer, self.bytes);
        }
    }
}

impl ConnectionCharge {
    /// Charges so many bytes to those whose credentials were not looked at. `None` where there is no room even though others
    /// were asked to end: then this connection ends.
    fn of(slot: &Arc<ConnectionSlot>, bytes: usize) -> Option<Self> {
        let of_connection = OfConnection::new(slot);
        let ledger = slot.slots().ledger();
        let account = match of_connection.peer {
            Some(_) => ledger.strangers(),
            None => ledger.shared(),
        };
        let held = Self {
            charge: account.nothing(Kind::Connection),
            of_connection: Some(of_connection),
        };
        held.with(bytes)
    }

    /// With so many bytes more, as [`ConnectionCharge::of`].
    fn with(mut self, bytes: usize) -> Option<Self> {
        let Some(of_connection) = &mut self.of_connection else {
            return Some(self);
        };
        of_connection.grow(bytes as u64);
        let is_over = of_connection.is_over();
        let has_room = self.charge.grow(bytes).is_ok();
        if is_over || !has_room {
            let (slot, account) = (&of_connection.slot, self.charge.account());
            let peer = of_connection.peer.filter(|_| is_over);
            slot.slots()
                .make_room(slot, of_connection.peer.is_none(), peer);
            if account.held() > account.limit().saturating_mul(SLACK) {
                slot.ends();
                return None;
            }
        }
        if !has_room {
            self.charge.grow_anyway(bytes);
        }
        Some(self)
    }

    /// For a head of which so many bytes have come and that has not ended, `before` of which are charged.
    pub(super) fn of_head(
        slot: &Arc<ConnectionSlot>,
        before: Option<Self>,
        bytes: usize,
    ) -> Option<Self> {
        let Some(before) = before else {
            return Self::of(slot, bytes);
        };
        let charged = usize::try_from(before.charge.bytes()).unwrap_or(usize::MAX);
        before.with(bytes.saturating_sub(charged))
    }

    /// For a request that begins; nothing if it is one of a few with a short head.
    pub(super) fn of_request(
        slot: &Arc<ConnectionSlot>,
        headers: &HeaderMap,
    ) -> Option<RequestCharge> {
        let head = size_of(headers);
        if head <= FREE_HEAD && slot.activity().under_way() <= FREE_REQUESTS {
            return None;
        }
        Self::of(slot, head + REQUEST).map(|held| Arc::new(Mutex::new(held)))
    }

    /// The caller is of that tenant: it is the tenant's from now on.
    ///
    /// # Errors
    /// [`Full`] where the tenant has no room for it; it stays whose it was.
    pub(in crate::front) fn moves_to(&mut self, account: &Account) -> Result<(), Full> {
        if self.of_connection.is_some() {
            let bytes = usize::try_from(self.charge.bytes()).unwrap_or(usize::MAX);
            self.charge = account.charge(Kind::Connection, bytes)?;
            self.of_connection = None;
        }
        Ok(())
    }
}

impl ConnectionSlot {
    /// Ends the connection, because what it holds cannot be held. Once, whatever else it holds.
    pub(super) fn ends(&self) {
        if !self.activity().is_closing() {
            self.activity().close_request(CloseRequest::Close);
            self.slots().has_no_room(1);
        }
    }
}

/// Bytes of names and values, about.
fn size_of(headers: &HeaderMap) -> usize {
    let sizes = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len());
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::front::net::connection_slots::{ConnectionLimits, ConnectionSlots};
    use crate::held::{HeldLimits, Ledger};
    use crate::ids::TenantId;

    /// Strangers have 80 KiB, a peer 20, all others 320.
    fn slots() -> Arc<ConnectionSlots> {
        let ledger = Ledger::new(HeldLimits {
            of_tenant: 30 << 10,
            of_all: 640 << 10,
        });
        ConnectionSlots::new(ConnectionLimits::of_few(100), &ledger)
    }

    async fn slot(slots: &Arc<ConnectionSlots>, peer: &str) -> Arc<ConnectionSlot> {
        let peer = peer.parse().expect("an address");
        Arc::new(slots.take(peer).await.expect("a slot"))
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_held_something_for_longest_goes_first() {
        let slots = slots();
        let mut heads = vec![];
        for n in 0..12 {
            tokio::time::advance(std::time::Duration::from_millis(5)).await;
            let one = slot(&slots, &format!("192.0.2.{}", 1 + n / 2)).await;
            let held = ConnectionCharge::of_head(&one, None, 9 << 10).expect("room for it");
            heads.push((one, held));
        }
        let gone = |heads: &[(Arc<ConnectionSlot>, ConnectionCharge)]| {
            let closing = heads.iter().filter(|(one, _)| one.activity().is_closing());
            closing.count()
        };
        // Eight fit; of each that came then two or three were asked to go, the first ones.
        let count = gone(&heads);
        assert!((2..8).contains(&count), "{count}");
        assert!(
            heads[..count]
                .iter()
                .all(|(one, _)| one.activity().is_closing())
        );
        // A third one of an address is over the part of it: its first goes, and nobody else's.
        let (of_address, another) = (slot(&slots, "192.0.2.6").await, gone(&heads));
        heads.drain(..count);
        tokio::time::advance(std::time::Duration::from_millis(5)).await;
        let held = ConnectionCharge::of_head(&of_address, None, 9 << 10);
        assert!(held.is_some() && !of_address.activity().is_closing());
        assert_eq!(gone(&heads), 1, "{another}");
        assert_eq!(slots.closed()[1], count as u64 + 1, "each is counted once");
        drop((heads, held));
        assert_eq!(slots.ledger().strangers().held(), 0);
    }

    #[tokio::test]
    async fn what_is_held_for_a_request_is_its_tenants_as_soon_as_that_is_known() {
        let slots = slots();
        let one = slot(&slots, "192.0.2.1").await;
        let mut headers = HeaderMap::new();
        headers.insert(
            "x-long",
            HeaderValue::from_str(&"a".repeat(9 << 10)).expect("text"),
        );
        one.activity().request_begins();
        let held = ConnectionCharge::of_request(&one, &headers).expect("a long head");
        let bytes = (13 << 10) + 6;
        assert_eq!(slots.ledger().strangers().held(), bytes);
        let tenant = slots.ledger().account(&TenantId::new("acme"));
        held.lock().moves_to(&tenant).expect("room");
        let of = |account: &Account| account.held();
        assert_eq!((of(&tenant), of(slots.ledger().strangers())), (bytes, 0));
        // The connection is known from now on, and one of another tenant pays for itself.
        one.is_known_to(&TenantId::new("acme")).expect("few");
        let second = ConnectionCharge::of_request(&one, &headers).expect("a long head");
        assert_eq!(of(slots.ledger().shared()), bytes);
        let _full = tenant.charge_anyway(Kind::Body, 30 << 10);
        second
            .lock()
            .moves_to(&tenant)
            .expect_err("its tenant has no room");
        let other = slots.ledger().account(&TenantId::new("other"));
        second.lock().moves_to(&other).expect("another has");
        drop((held, second));
        assert_eq!((of(&other), of(slots.ledger().shared())), (0, 0));
        let (bytes, _) = one.activity().held();
        assert_eq!(bytes, 0);
    }
}
