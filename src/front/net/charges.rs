//! What a connection holds beyond what each does: a long head, and requests over HTTP/2 beside each other.
//!
//! Counts of connections and streams are not enough: a head may be 128 KiB long, and a connection over HTTP/2 has
//! hundreds of streams, each of which keeps its head, its task and its answer until the client takes that.
//! So both are charged: to the tenant whose connection it is, to an account of all strangers, of which one peer has a
//! quarter, or to that of connections that several tenants use.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;

use super::activity::{Payer, Wish};
use super::places::{Places, Taken};
use crate::held::{Charge, Full, Kind};

/// Bytes of a head that each connection may have.
pub(super) const FREE_HEAD: usize = 8 << 10;
/// Requests at once that each connection may have.
const FREE_REQUESTS: u32 = 8;
/// What a request over HTTP/2 and its answer take beside their head, in bytes: 3.7 KiB as measured.
const REQUEST: usize = 4 << 10;
/// Requests that were refused for lack of room and whose answers a tenant's client does not take, at the most.
const REFUSED_REQUESTS: u32 = 64;

/// What is held for one connection. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Held {
    charge: Charge,
    /// Of a stranger.
    of_peer: Option<(Arc<Places>, IpAddr)>,
}

impl Held {
    /// Charges so many bytes to whoever answers for the connection.
    ///
    /// # Errors
    /// [`Full`] where a tenant has no room for them. `None` where strangers have none: then the connection ends.
    fn of(taken: &Arc<Taken>, bytes: usize) -> Result<Option<Self>, Full> {
        let places = taken.places();
        let (charge, of_peer) = match taken.activity().payer() {
            Payer::Tenant(account) => (account.charge(Kind::Connection, bytes)?, None),
            Payer::Many => {
                let shared = places.ledger().shared();
                (shared.charge(Kind::Connection, bytes)?, None)
            }
            Payer::Stranger => {
                let strangers = places.ledger().strangers();
                let Ok(charge) = strangers.charge(Kind::Connection, bytes) else {
                    return Ok(None);
                };
                // From here on it is given back by `drop`, whatever happens.
                let peer = taken.peer();
                if !places.holds_for(peer, charge.bytes()) {
                    return Ok(None);
                }
                (charge, Some((Arc::clone(places), peer)))
            }
        };
        Ok(Some(Self { charge, of_peer }))
    }

    /// For a head of which so many bytes have come and that has not ended, in place of what was held for it before.
    /// Where there is no room its connection is asked to end.
    pub(super) fn of_head(taken: &Arc<Taken>, before: Option<Self>, bytes: usize) -> Option<Self> {
        drop(before);
        match Self::of(taken, bytes) {
            Ok(Some(held)) => Some(held),
            Ok(None) | Err(_) => {
                ends(taken);
                None
            }
        }
    }

    /// For a request that begins; nothing if it is one of a few with a short head.
    ///
    /// # Errors
    /// [`Full`] where a tenant has no room for it: it is to be refused. Where strangers have none the connection is
    /// asked to end.
    pub(super) fn of_request(
        taken: &Arc<Taken>,
        headers: &HeaderMap,
    ) -> Result<Option<Self>, Full> {
        let head = size_of(headers);
        let under_way = taken.activity().under_way();
        if head <= FREE_HEAD && under_way <= FREE_REQUESTS {
            return Ok(None);
        }
        match Self::of(taken, head + REQUEST) {
            Ok(Some(held)) => Ok(Some(held)),
            Ok(None) => {
                ends(taken);
                Ok(None)
            }
            Err(full) => {
                if under_way > REFUSED_REQUESTS {
                    ends(taken);
                }
                Err(full)
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((places, peer)) = &self.of_peer {
            places.holds_no_longer(*peer, self.charge.bytes());
        }
    }
}

/// What it holds cannot be held: the connection ends.
fn ends(taken: &Taken) {
    taken.activity().wish(Wish::Close);
    taken.places().has_no_room();
}

/// Bytes of names and values, about.
fn size_of(headers: &HeaderMap) -> usize {
    let sizes = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len());
    sizes.sum()
}
