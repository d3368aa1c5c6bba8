//! What is told of circuits: for whom one opens or closes, and why.

use std::time::Duration;

use super::start_failure::StartFailure;
use crate::ids::{ServerName, TenantId};

/// For whom a circuit of a server opens or closes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum CircuitOf {
    /// Everyone.
    Everyone,
    /// A tenant, whatever its server is started with.
    Tenant(TenantId),
    /// One configuration of a tenant: one key, that is.
    Configuration(TenantId),
}

/// A circuit opens, closes or is forgotten.
#[derive(Clone, PartialEq, Debug)]
pub enum CircuitTransition {
    /// Starts have failed: so many configurations of a tenant, tenants of a server, or starts in a row of one
    /// configuration.
    Opens {
        /// Number of these configurations, tenants or starts.
        failing: usize,
        /// Until the next start is tried.
        retry_in: Duration,
        /// The last failure.
        last: StartFailure,
    },
    /// A worker became ready.
    Closes,
    /// Nobody has asked for so long that it is tried like any other.
    Forgotten,
}

/// A circuit opens or closes.
#[derive(Clone, PartialEq, Debug)]
pub struct CircuitChange {
    /// The server whose circuit changes.
    pub server: ServerName,
    /// For whom the circuit changes.
    pub of: CircuitOf,
    /// What became of the circuit.
    pub transition: CircuitTransition,
}
