//! What is known at one tick, before anything is left out.

use super::rows::{
    Binding, CircuitInWords, Evictions, GrantInDanger, InstallRow, Lately, MemoryUse, Mix, Rates,
    Rejection, ServerUse, TenantUse, WorkerUse,
};
use crate::admin::model::{Event, Status};

/// The pool at one tick: one for all who look.
#[derive(Clone, Debug)]
pub struct Frame {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Milliseconds from one tick to the next.
    pub every_ms: u64,
    /// The whole at a glance, without circuits.
    pub status: Status,
    /// What workers hold.
    pub memory: MemoryUse,
    /// The limit that binds.
    pub binding: Option<Binding>,
    /// What all use.
    pub rates: Rates,
    /// Every tenant that is configured or uses something.
    pub tenants: Vec<TenantUse>,
    /// Every configured server.
    pub servers: Vec<ServerUse>,
    /// Every live worker.
    pub workers: Vec<WorkerUse>,
    /// How requests came to workers since the start.
    pub mix: Mix,
    /// How requests of late came to workers.
    pub mix_lately: Lately<Mix>,
    /// Reasons for which requests were refused, those without any left out.
    pub rejections: Vec<Rejection>,
    /// In how many seconds `lately` of these was counted.
    pub rejections_over_seconds: f64,
    /// Evictions since the start.
    pub evictions: Evictions,
    /// Evictions of late, by any limit.
    pub evictions_lately: u64,
    /// Circuits that are open; as many as are shown at the most, and a few more where a query is for some.
    pub circuits: Vec<CircuitInWords>,
    /// Installs under way, the first that was begun at the front.
    pub installs: Vec<InstallRow>,
    /// Authorisations that end soon or fail.
    pub grants: Vec<GrantInDanger>,
    /// What happened last, the newest first, without sessions.
    pub events: Vec<Event>,
}

#[cfg(test)]
impl Frame {
    /// A pool in which there is nothing but that.
    pub(in crate::admin) fn default_of(status: Status) -> Self {
        Self {
            at_ms: 1_772_373_750_000,
            every_ms: 2_000,
            status,
            memory: MemoryUse::default(),
            binding: None,
            rates: Rates::default(),
            tenants: vec![],
            servers: vec![],
            workers: vec![],
            mix: Mix::default(),
            mix_lately: Lately::default(),
            rejections: vec![],
            rejections_over_seconds: 300.0,
            evictions: Evictions::default(),
            evictions_lately: 0,
            circuits: vec![],
            installs: vec![],
            grants: vec![],
            events: vec![],
        }
    }
}
