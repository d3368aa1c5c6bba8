//! The connections of one listener: how many there are, of which peer and tenant, and who makes room.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::activity::{Activity, CloseRequest, Timeouts};
use super::victims::{Candidate, victims};
use crate::fair::Flow;
use crate::held::Ledger;
use crate::ids::TenantId;
use crate::protocol::{Failure, Reason};

/// One in so many slots, of all or of a peer, is freed at once where strangers hold them: a flood must not make
/// each new connection look through all of them.
const FREED_SHARE: usize = 64;
/// Connections of a peer that are asked to leave, and still there, at the least.
const LEAVING: usize = 16;
/// How often the log says at the most that connections were refused or closed to make room.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// The limits of a listener's connections.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectionLimits {
    /// Connections at once.
    pub all: usize,
    /// Connections of one peer: an address, or a /64 network of IPv6.
    pub per_peer: usize,
    /// Connections of one tenant.
    pub per_tenant: usize,
    /// Peers for which the two above do not hold.
    pub proxies: Vec<IpNet>,
    /// How long a connection may be without a request.
    pub idle_timeout: Duration,
    /// How long a peer may take nothing of what is written to it.
    pub write_timeout: Duration,
}

impl ConnectionLimits {
    /// The limits of a listener for few clients, which all come from one address.
    pub fn of_few(all: usize) -> Self {
        Self {
            all,
            per_peer: all,
            per_tenant: all,
            proxies: Vec::new(),
            idle_timeout: Duration::from_secs(80),
            write_timeout: Duration::from_secs(30),
        }
    }

    /// Whether counts by peer do not hold for that address.
    pub(super) fn is_proxy(&self, peer: IpAddr) -> bool {
        self.proxies.iter().any(|proxies| proxies.contains(&peer))
    }
}

/// Counts connections that did not stay as long as their peers wanted; the label `reason` of
/// `stdiopool_connections_closed_total`.
#[derive(Debug, Default)]
pub(super) struct Counts {
    refused: AtomicU64,
    pub(super) evicted: AtomicU64,
    timed_out: AtomicU64,
}

/// The connections of one listener.
#[derive(Debug)]
pub struct ConnectionSlots {
    pub(super) limits: RwLock<ConnectionLimits>,
    pub(super) table: Mutex<Table>,
    freed: Notify,
    pub(super) counts: Counts,
    said_at: Mutex<Option<Instant>>,
    pub(super) room_made_at: Mutex<Option<Instant>>,
    pub(super) ledger: Ledger,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    next: u64,
    pub(super) records: FxHashMap<u64, SlotRecord>,
    all: Count,
    pub(super) of_peer: FxHashMap<IpAddr, Count>,
    of_tenant: FxHashMap<TenantId, usize>,
    is_closing: bool,
}

/// Connections that are there.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Count {
    there: usize,
    /// Asked to leave, and still there.
    leaving: usize,
    /// Bytes that are held for those of them of whom nothing is known yet, beyond what each connection takes.
    pub(super) held: u64,
}

impl Count {
    /// Whether one more makes too many, those left out that are on their way.
    fn is_full(self, most: usize) -> bool {
        self.there - self.leaving >= most
    }
}

#[derive(Debug)]
pub(super) struct SlotRecord {
    pub(super) activity: Arc<Activity>,
    pub(super) peer: IpAddr,
    tenant: Option<TenantId>,
    is_counted: bool,
    is_leaving: bool,
}

/// Why there is no slot for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NoSlot {
    /// The peer has as many connections as it may.
    OfPeer,
    /// All are taken; some may become free.
    AtAll,
}

impl ConnectionSlots {
    /// All free. Work for connections of unknown callers is of one flow, beside those of tenants, and
    /// their memory is of one account.
    pub fn new(limits: ConnectionLimits, ledger: &Ledger) -> Arc<Self> {
        Arc::new(Self {
            limits: RwLock::new(limits),
            table: Mutex::default(),
            freed: Notify::new(),
            counts: Counts::default(),
            said_at: Mutex::default(),
            room_made_at: Mutex::default(),
            ledger: ledger.clone(),
        })
    }

    /// Puts other limits in force. Connections that are there stay, with the time-outs they have.
    pub fn set_limits(&self, limits: ConnectionLimits) {
        *self.limits.write() = limits;
    }

    /// Connections now.
    pub fn count(&self) -> usize {
        self.table.lock().records.len()
    }

    /// Connections that were closed by a rule: refused, evicted to make room, timed out.
    pub fn closed(&self) -> [u64; 3] {
        let Counts {
            refused,
            evicted,
            timed_out,
        } = &self.counts;
        [refused, evicted, timed_out].map(|count| count.load(Ordering::Relaxed))
    }

    /// The time-outs of connections from now on.
    pub(in crate::front) fn timeouts(&self) -> Timeouts {
        let limits = self.limits.read();
        Timeouts {
            idle: limits.idle_timeout,
            write: limits.write_timeout,
        }
    }

    /// A slot for a connection of that peer, once there is one. `None`: the peer has too many.
    ///
    /// # Cancel-Safety
    /// A dropped call takes no slot.
    pub(in crate::front) async fn take(self: &Arc<Self>, peer: IpAddr) -> Option<ConnectionSlot> {
        let peer = peer.to_canonical();
        loop {
            let freed = self.freed.notified();
            match self.try_take(peer) {
                Ok(slot) => return Some(slot),
                Err(NoSlot::OfPeer) => {
                    self.counts.refused.fetch_add(1, Ordering::Relaxed);
                    let most = self.limits.read().per_peer;
                    self.say(|| tracing::warn!(%peer, most, "connections of a peer are refused: it has as many as it may (raise `http.connections_per_peer`, or list a proxy in `http.proxies`)"));
                    return None;
                }
                Err(NoSlot::AtAll) => freed.await,
            }
        }
    }

    fn try_take(self: &Arc<Self>, peer: IpAddr) -> Result<ConnectionSlot, NoSlot> {
        let limits = self.limits.read();
        let is_counted = !limits.is_proxy(peer);
        let network = network_of(peer);
        let mut table = self.table.lock();
        let of_peer = table.of_peer.get(&network).copied().unwrap_or_default();
        if is_counted && of_peer.there >= limits.per_peer {
            // Connections that are asked to leave are there for a moment.
            let slack = (limits.per_peer / 8).max(LEAVING);
            let is_much = of_peer.there >= limits.per_peer + slack;
            let evicts = || table.evict(limits.per_peer / FREED_SHARE, Some(network));
            if is_much || (of_peer.is_full(limits.per_peer) && self.counted(evicts) == 0) {
                return Err(NoSlot::OfPeer);
            }
        }
        if table.all.there >= limits.all {
            if table.all.leaving == 0 {
                let evicted = self.counted(|| table.evict(limits.all / FREED_SHARE, None));
                self.say(|| tracing::warn!(most = limits.all, evicted, "all connections are in use: those of strangers are closed first, then idle ones (raise `http.connections`, and the limit on open files)"));
            }
            return Err(NoSlot::AtAll);
        }
        let number = table.next;
        table.next += 1;
        let activity = Arc::new(Activity::new(self.strangers().clone()));
        if table.is_closing {
            activity.close_request(CloseRequest::Finish);
        }
        let record = SlotRecord {
            activity: Arc::clone(&activity),
            peer: network,
            tenant: None,
            is_counted,
            is_leaving: false,
        };
        table.records.insert(number, record);
        table.all.there += 1;
        if is_counted {
            table.of_peer.entry(network).or_default().there += 1;
        }
        Ok(ConnectionSlot {
            number,
            peer: network,
            activity,
            slots: Arc::clone(self),
        })
    }

    /// Counts as many as were evicted.
    fn counted(&self, evict: impl FnOnce() -> usize) -> usize {
        let evicted = evict();
        let count = evicted as u64;
        self.counts.evicted.fetch_add(count, Ordering::Relaxed);
        evicted
    }

    /// Every connection, present and to come, finishes what it has under way.
    pub(in crate::front) fn close(&self) {
        let mut table = self.table.lock();
        table.is_closing = true;
        for record in table.records.values() {
            record.activity.close_request(CloseRequest::Finish);
        }
    }

    /// The work for those of whom nothing is known yet.
    pub(in crate::front) fn strangers(&self) -> &Flow {
        self.ledger.strangers().flow()
    }

    /// The memory that is held, by account.
    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(super) fn timed_out(&self) {
        self.counts.timed_out.fetch_add(1, Ordering::Relaxed);
    }

    /// Says something, unless something was said a short time ago.
    pub(super) fn say(&self, say: impl FnOnce()) {
        let mut said_at = self.said_at.lock();
        if said_at.is_none_or(|at| at.elapsed() >= SAID_EVERY) {
            *said_at = Some(Instant::now());
            say();
        }
    }
}

impl Table {
    /// Asks up to `most` connections to leave, those of that peer only if one is given; how many were asked.
    fn evict(&mut self, most: usize, of: Option<IpAddr>) -> usize {
        let candidates = self.records.iter().filter_map(|(number, record)| {
            let activity = &record.activity;
            let is_meant = of.is_none_or(|peer| peer == record.peer) && !record.is_leaving;
            is_meant.then(|| Candidate {
                number: *number,
                is_known: record.tenant.is_some(),
                is_idle: activity.is_idle(),
                quiet_since: activity.quiet_since(),
            })
        });
        let gone = victims(candidates, most);
        for number in &gone {
            let Some(record) = self.records.get_mut(number) else {
                continue;
            };
            record.is_leaving = true;
            record.activity.close_request(CloseRequest::Leave);
            self.all.leaving += 1;
            if record.is_counted
                && let Some(count) = self.of_peer.get_mut(&record.peer)
            {
                count.leaving += 1;
            }
        }
        gone.len()
    }

    /// Keeps nothing of a peer without connections.
    pub(super) fn forget_if_empty(&mut self, peer: IpAddr) {
        if self.of_peer.get(&peer) == Some(&Count::default()) {
            self.of_peer.remove(&peer);
        }
    }

    /// The connection of that number has ended.
    fn remove(&mut self, number: u64) {
        let Some(record) = self.records.remove(&number) else {
            return;
        };
        let leaving = usize::from(record.is_leaving);
        self.all.there -= 1;
        self.all.leaving -= leaving;
        if !record.is_counted {
            return;
        }
        if let Some(count) = self.of_peer.get_mut(&record.peer) {
            count.there -= 1;
            count.leaving -= leaving;
        }
        self.forget_if_empty(record.peer);
        if let Some(tenant) = &record.tenant
            && let Some(count) = self.of_tenant.get_mut(tenant)
        {
            *count -= 1;
            if *count == 0 {
                self.of_tenant.remove(tenant);
            }
        }
    }
}

/// The network that counts as one peer: an address; of IPv6 the network that one host is commonly given.
fn network_of(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) => {
            let network = address.to_bits() & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
    }
}

/// The slot of one connection. Dropping it gives it back.
pub(in crate::front) struct ConnectionSlot {
    pub(super) number: u64,
    peer: IpAddr,
    activity: Arc<Activity>,
    slots: Arc<ConnectionSlots>,
}

impl fmt::Debug for ConnectionSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionSlot")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl ConnectionSlot {
    /// The activity of its connection.
    pub(in crate::front) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    pub(super) fn slots(&self) -> &Arc<ConnectionSlots> {
        &self.slots
    }

    /// The peer that the connection counts for.
    pub(super) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// A caller of that tenant uses the connection, which counts as the tenant's from the first such caller on.
    ///
    /// # Errors
    /// [`Reason::TenantLimit`] when the tenant has as many as it may.
    pub(in crate::front) fn is_known_to(&self, tenant: &TenantId) -> Result<(), Failure> {
        let most = self.slots.limits.read().per_tenant;
        let mut table = self.slots.table.lock();
        let Table {
            records, of_tenant, ..
        } = &mut *table;
        let Some(record) = records.get_mut(&self.number) else {
            return Ok(());
        };
        if record.tenant.is_some() {
            return Ok(());
        }
        if record.is_counted {
            let count = of_tenant.entry(tenant.clone()).or_default();
            if *count >= most {
                let why = format!(
                    "tenant `{tenant}` has {count} connections open, which is the most (raise `http.connections_per_tenant`, or list a proxy in `http.proxies`)"
                );
                let failure = Failure::new(Reason::TenantLimit, why);
                return Err(failure.retry_after(Duration::from_secs(1)));
            }
            *count += 1;
        }
        record.tenant = Some(tenant.clone());
        self.activity.becomes_known();
        Ok(())
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.slots.table.lock().remove(self.number);
        self.slots.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn limits(all: usize, per_peer: usize, per_tenant: usize) -> ConnectionLimits {
        ConnectionLimits {
            per_peer,
            per_tenant,
            proxies: vec!["10.9.0.0/16".parse().expect("a network")],
            ..ConnectionLimits::of_few(all)
        }
    }

    fn take(slots: &Arc<ConnectionSlots>, peer: &str) -> Option<Option<ConnectionSlot>> {
        let peer = peer.parse().expect("an address");
        slots.take(peer).now_or_never()
    }

    fn slot(slots: &Arc<ConnectionSlots>, peer: &str) -> ConnectionSlot {
        take(slots, peer).flatten().expect("a slot")
    }

    #[test]
    fn a_peer_may_have_so_many_and_a_proxy_more() {
        let slots = ConnectionSlots::new(limits(100, 2, 100), &Ledger::unlimited());
        let mut mine = vec![];
        for peer in ["192.0.2.1", "::ffff:192.0.2.1"] {
            mine.push(slot(&slots, peer));
        }
        mine.iter().for_each(|one| {
            one.activity().request_begins();
            one.is_known_to(&TenantId::new("acme")).expect("few");
        });
        assert!(matches!(take(&slots, "192.0.2.1"), Some(None)));
        let others: Vec<_> = ["192.0.2.2", "2001:db8::1"]
            .map(|peer| slot(&slots, peer))
            .into();
        let network = slot(&slots, "2001:db8::2");
        network.activity().request_begins();
        for one in &others {
            one.activity().request_begins();
        }
        // Strangers make room for the next of their own network.
        assert!(take(&slots, "2001:db8::3").flatten().is_some());
        assert!(others[1].activity().is_leaving() || network.activity().is_leaving());
        let of_proxy: Vec<_> = (0..50).map(|_| slot(&slots, "10.9.1.1")).collect();
        assert_eq!(of_proxy.len(), 50);
        drop(mine);
        drop(slot(&slots, "192.0.2.1"));
        drop((others, network, of_proxy));
        let table = slots.table.lock();
        assert!(table.records.is_empty() && table.of_peer.is_empty() && table.of_tenant.is_empty());
    }

    #[test]
    fn a_peer_that_comes_again_and_again_is_looked_through_once_for_a_share_of_its_places() {
        let slots = ConnectionSlots::new(limits(2_000, 640, 100), &Ledger::unlimited());
        let mut mine: Vec<_> = (0..640).map(|_| slot(&slots, "192.0.2.1")).collect();
        let another = slot(&slots, "192.0.2.2");
        for asked in [1, 10] {
            mine.push(slot(&slots, "192.0.2.1"));
            assert_eq!(slots.closed(), [0, 10, 0], "ten at once");
            mine.extend((1..asked).map(|_| slot(&slots, "192.0.2.1")));
        }
        mine.push(slot(&slots, "192.0.2.1"));
        assert_eq!(slots.closed(), [0, 20, 0], "those are not enough any more");
        assert!(!another.activity().is_leaving(), "another's stay");
        let (left, stay): (Vec<_>, Vec<_>) = mine
            .into_iter()
            .partition(|one| one.activity().is_leaving());
        assert_eq!((left.len(), stay.len()), (20, 632));
        drop((left, stay, another));
        let table = slots.table.lock();
        assert_eq!(table.all, Count::default());
        assert!(table.records.is_empty() && table.of_peer.is_empty());
    }

    #[test]
    fn strangers_make_room_before_idle_callers_and_busy_callers_stay() {
        let slots = ConnectionSlots::new(limits(3, 3, 3), &Ledger::unlimited());
        let busy = slot(&slots, "192.0.2.1");
        let known = slot(&slots, "192.0.2.2");
        let stranger = slot(&slots, "192.0.2.3");
        busy.activity().request_begins();
        for one in [&busy, &known] {
            one.is_known_to(&TenantId::new("acme")).expect("few");
        }
        assert!(take(&slots, "192.0.2.4").is_none(), "it waits");
        assert!(stranger.activity().is_leaving() && !known.activity().is_leaving());
        assert!(take(&slots, "192.0.2.4").is_none(), "it waits");
        assert!(!known.activity().is_leaving(), "one leaves already");
        drop(stranger);
        let next = slot(&slots, "192.0.2.4");
        next.is_known_to(&TenantId::new("globex")).expect("few");
        next.activity().request_begins();
        assert!(take(&slots, "192.0.2.5").is_none(), "it waits");
        assert!(known.activity().is_leaving());
        assert!(!busy.activity().is_leaving() && !next.activity().is_leaving());
        assert_eq!(slots.closed(), [0, 2, 0]);
    }

    #[test]
    fn a_tenant_may_have_so_many() {
        let slots = ConnectionSlots::new(limits(100, 100, 2), &Ledger::unlimited());
        let (acme, globex) = (TenantId::new("acme"), TenantId::new("globex"));
        let all: Vec<_> = (0..4).map(|_| slot(&slots, "192.0.2.1")).collect();
        for one in &all[..2] {
            one.is_known_to(&acme).expect("few");
            one.is_known_to(&acme).expect("it is counted once");
        }
        let refused = all[2].is_known_to(&acme).expect_err("a third");
        assert_eq!(refused.reason, Reason::TenantLimit);
        all[3].is_known_to(&globex).expect("another tenant");
    }
}
