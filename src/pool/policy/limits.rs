//! What bounds the pool, and what the policy must know of a key.

use std::time::Duration;

use crate::ids::{Lineage, PoolKey, ServerName, TenantId};

/// How many of the least recently used are looked at for one of a tenant over its share.
pub(super) const LOOK_AT: usize = 16;

/// Bounds of the whole pool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolLimits {
    /// Workers of all tenants, at least 1. Default 64.
    pub max_workers: usize,
    /// Bytes that all workers together may hold. Default no limit.
    pub max_memory: u64,
    /// Bytes that a worker of a server which was never measured is taken to hold. Default 96 MiB.
    pub unknown_memory: u64,
    /// How long until an idle worker is paged out; `None` where that cannot be done. Default `None`.
    pub hibernate_after: Option<Duration>,
    /// Workers being started at once, at least 1: a start is bound by CPU. One more is started for a
    /// tenant that has none of them when another's take longer than usual. Default 2.
    pub max_starting: usize,
    /// How long a start counts as one: what takes longer waits for something else than the CPU, and
    /// a server that hangs must not keep the others from being started. Default 10 s.
    pub start_counts_for: Duration,
    /// Requests that wait, of all tenants. Default 1024.
    pub queue_limit: usize,
    /// How long a request waits at the most. Default 30 s.
    pub queue_timeout: Duration,
    /// How long a request waits for capacity before a busy worker of someone who holds more is
    /// closed to new requests. Default 1 s.
    pub yield_after: Duration,
    /// How long a worker that takes no new requests may go on with those that it has while others wait for the next
    /// worker of its key. Default 30 s.
    pub drain_timeout: Duration,
    /// Wait after a key's first failed start; doubles with each further one. Default 1 s.
    pub backoff_first: Duration,
    /// Longest such wait. Default 60 s.
    pub backoff_max: Duration,
    /// Failures in a row after which a key's requests are refused at once during the wait. Default 5.
    pub refuse_after: u32,
    /// Distinct keys of a tenant and server that must fail in a row for the circuit of that tenant and
    /// server to open. Default 3.
    pub circuit_keys: usize,
    /// Distinct tenants for which a server must fail in a row for its circuit to open for everyone.
    /// Default 3.
    pub circuit_tenants: usize,
    /// How long a circuit stays open before one start is tried. Default 30 s.
    pub circuit_open: Duration,
    /// A worker that crashes sooner than this after it was ready, without having served anything,
    /// counts as a failed start. Default 10 s.
    pub crash_loop_within: Duration,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            max_workers: 64,
            max_memory: u64::MAX,
            unknown_memory: 96 << 20,
            hibernate_after: None,
            max_starting: 2,
            start_counts_for: Duration::from_secs(10),
            queue_limit: 1024,
            queue_timeout: Duration::from_secs(30),
            yield_after: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(30),
            backoff_first: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            refuse_after: 5,
            circuit_keys: 3,
            circuit_tenants: 3,
            circuit_open: Duration::from_secs(30),
            crash_loop_within: Duration::from_secs(10),
        }
    }
}

/// The facts that the policy must know of a pool key. The facts of the newest request hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyFacts {
    /// The tenant that the key's workers are of.
    pub tenant: TenantId,
    /// The tenant's share under contention, at least 1.
    pub tenant_weight: u32,
    /// Workers the tenant may have, at least 1.
    pub tenant_max_workers: usize,
    /// Nobody's: its workers wait to be adopted.
    pub is_spare: bool,
    /// The key of the spares that a worker of this one can be made of.
    pub spare: Option<PoolKey>,
    /// The server they run.
    pub server: ServerName,
    /// Workers the server may have, of all tenants; 0 for no limit of its own.
    pub server_max_workers: usize,
    /// Requests at once per worker, at least 1.
    pub max_in_flight: usize,
    /// Requests at once per worker of one session, at least 1: what it leaves is for others. Without
    /// meaning where a worker is exclusive.
    pub max_of_session: usize,
    /// Workers of this key and of all others of its lineage, at least 1; those that take no new requests and those that
    /// are being stopped count.
    pub max_workers_per_key: usize,
    /// What the key has in common with the keys before and after it; `None` for a key that has none.
    pub lineage: Option<Lineage>,
    /// Where a worker counts that was declined ([`super::Event::Declined`]), until it is gone: with the key that is
    /// tried next.
    pub lineage_if_declined: Option<Lineage>,
    /// What the key has in common with those whose processes differ from its own in what they are told of their clients
    /// alone, and with those before and after them; `None` for a key that has nothing to do with others.
    pub siblings: Option<Lineage>,
    /// No worker of it is started while one of its siblings is there.
    pub one_of_siblings: bool,
    /// The key's workers are started with something that its caller sets: what becomes of them says nothing of its tenant's
    /// configuration, nor of the server.
    pub caller_configured: bool,
    /// One owner's requests at a time per worker.
    pub exclusive: bool,
    /// Requests after which a worker is recycled; 0 for never.
    pub max_requests: u64,
    /// How long a worker may be idle.
    pub idle_timeout: Duration,
    /// How long a worker may live.
    pub max_lifetime: Duration,
}

impl KeyFacts {
    /// Facts of a key of that tenant and server with nothing that limits it but one worker for one request at a time: of no lineage,
    /// for everyone, for ever.
    pub fn neutral(tenant: TenantId, server: ServerName) -> Self {
        Self {
            tenant,
            tenant_weight: 1,
            tenant_max_workers: usize::MAX,
            server,
            server_max_workers: 0,
            max_in_flight: 1,
            max_of_session: 1,
            max_workers_per_key: 1,
            lineage: None,
            lineage_if_declined: None,
            siblings: None,
            one_of_siblings: false,
            caller_configured: false,
            exclusive: false,
            max_requests: 0,
            idle_timeout: Duration::MAX,
            max_lifetime: Duration::MAX,
            is_spare: false,
            spare: None,
        }
    }
}

/// How many requests at once one session may have on a worker that many share and that serves `max_in_flight`: three
/// quarters, rounded down, and at least one. So of two or more slots, sessions whose requests are never answered
/// leave one at least to the others.
pub fn share_of_session(max_in_flight: usize) -> usize {
    let left = max_in_flight.div_ceil(4);
    max_in_flight.saturating_sub(left).max(1)
}

#[cfg(test)]
mod tests {
    use super::share_of_session;

    #[test]
    fn a_session_leaves_room_where_there_is_any() {
        let shares = [1, 2, 3, 4, 8, 32, 100].map(share_of_session);
        assert_eq!(shares, [1, 1, 2, 3, 6, 24, 75]);
        for slots in 2..500 {
            let share = share_of_session(slots);
            assert!((1..slots).contains(&share));
            assert_eq!(share, (3 * slots / 4).max(1));
        }
    }
}
