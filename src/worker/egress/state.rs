//! What the tasks share that serve one worker's network.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;

use super::slots::EgressSlots;
use super::target::{Lookup, SystemLookup};
use crate::egress::{AllowList, NameTable, Synthetic};
use crate::fair::Flow;
use crate::worker::egress_attempt::EgressAttempt;
use crate::worker::inbox::Inbox;

/// The egress of one worker.
pub(in crate::worker) struct Egress {
    pub(super) list: Arc<AllowList>,
    pub(super) names: Mutex<NameTable>,
    /// Where stdiopool itself listens.
    pub(super) closed: Arc<[SocketAddr]>,
    pub(super) slots: EgressSlots,
    pub(super) lookup: Arc<dyn Lookup>,
    told: Arc<dyn Inbox>,
    /// The work that the worker makes.
    pub(super) flow: Flow,
}

impl std::fmt::Debug for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Egress")
            .field("list", &self.list)
            .finish_non_exhaustive()
    }
}

impl Egress {
    /// What a worker with that list may reach, but for what this process listens on. `told` hears of each attempt. Bytes are
    /// passed on in the turns of `flow`.
    pub(in crate::worker) fn new(
        list: Arc<AllowList>,
        closed: Arc<[SocketAddr]>,
        told: Arc<dyn Inbox>,
        flow: Flow,
    ) -> Self {
        Self {
            list,
            names: Mutex::default(),
            closed,
            slots: EgressSlots::default(),
            lookup: Arc::new(SystemLookup),
            told,
            flow,
        }
    }

    /// What an address is called, and whether it stands for a listed host.
    pub(super) fn host(&self, address: IpAddr) -> (String, bool) {
        let name = Synthetic::of(address).and_then(|it| self.names.lock().name(it).cloned());
        match name {
            Some(name) => (name.to_string(), true),
            None => {
                let is_listed = |port: u16| self.list.lists_address(address, port);
                (
                    address.to_string(),
                    self.list.ports().into_iter().any(is_listed),
                )
            }
        }
    }

    /// Tells what became of an attempt.
    pub(super) fn tell(&self, reached: &EgressAttempt) {
        self.told.reached(reached);
    }
}
