//! Where a request comes from.

use std::net::IpAddr;
use std::sync::Arc;

use super::charges::RequestCharge;
use super::connection_slots::ConnectionSlot;
use crate::held::Ledger;
use crate::ids::TenantId;
use crate::protocol::Failure;

/// Where a request comes from, as an extension of it.
#[derive(Clone, Debug)]
pub(in crate::front) struct Peer {
    pub(in crate::front) ip: IpAddr,
    /// The slot of its connection.
    pub(in crate::front) slot: Arc<ConnectionSlot>,
    /// What is held for the request, if it is more than each may have.
    pub(in crate::front) held: Option<RequestCharge>,
}

impl Peer {
    /// A caller of that tenant uses the connection.
    ///
    /// # Errors
    /// [`Reason::TenantLimit`](crate::protocol::Reason::TenantLimit) when the tenant has too many connections, or no room
    /// for what the request holds.
    pub(in crate::front) fn is_used_by(
        &self,
        tenant: &TenantId,
        ledger: &Ledger,
    ) -> Result<(), Failure> {
        self.slot.activity().works_for(tenant, ledger);
        if let Some(held) = &self.held {
            held.lock().moves_to(&ledger.account(tenant))?;
        }
        // Nearly always one of those before.
        match self.slot.activity().is_known() {
            true => Ok(()),
            false => self.slot.is_known_to(tenant),
        }
    }
}
