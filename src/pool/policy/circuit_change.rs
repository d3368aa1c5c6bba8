//! What is told of circuits: for whom one opens or closes, and why.

use std::fmt;
use std::time::Duration;

use crate::counted::counted;
use crate::ids::{ServerName, TenantId};
use crate::protocol::Failure;

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

/// What a circuit is from now on.
#[derive(Clone, PartialEq, Debug)]
pub enum CircuitTurn {
    /// Starts have failed: so many configurations of a tenant, tenants of a server, or starts in a row of one
    /// configuration.
    Opens {
        /// How many.
        failing: usize,
        /// Until the next start is tried.
        retry_in: Duration,
        /// The last failure.
        last: Failure,
    },
    /// A worker became ready.
    Closes,
    /// Nobody has asked for so long that it is tried like any other.
    Forgotten,
}

/// A circuit opens or closes.
#[derive(Clone, PartialEq, Debug)]
pub struct CircuitChange {
    /// Of which server.
    pub server: ServerName,
    /// For whom.
    pub of: CircuitOf,
    /// What it is from now on.
    pub turn: CircuitTurn,
}

/// As a sentence: "circuit of server `x` is open for tenant `t`: …".
impl fmt::Display for CircuitChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = &self.server;
        let state = match self.turn {
            CircuitTurn::Opens { .. } => "open",
            CircuitTurn::Closes | CircuitTurn::Forgotten => "closed",
        };
        write!(f, "circuit of server `{server}` is {state} for ")?;
        match &self.of {
            CircuitOf::Everyone => f.write_str("everyone")?,
            CircuitOf::Tenant(tenant) => write!(f, "tenant `{tenant}`")?,
            CircuitOf::Configuration(tenant) => {
                write!(f, "one configuration of tenant `{tenant}`")?;
            }
        }
        match &self.turn {
            CircuitTurn::Opens {
                failing,
                retry_in,
                last,
            } => {
                let what = match self.of {
                    CircuitOf::Everyone => counted(*failing, "tenant") + " cannot have it started",
                    CircuitOf::Tenant(_) => {
                        counted(*failing, "configuration") + " cannot be started"
                    }
                    CircuitOf::Configuration(_) => counted(*failing, "start") + " in a row failed",
                };
                let secs = retry_in.as_secs_f64().ceil();
                write!(
                    f,
                    ": {what}; the next start is tried in {secs}s; last: {last}"
                )
            }
            CircuitTurn::Closes => f.write_str(": a start has succeeded"),
            CircuitTurn::Forgotten => f.write_str(": nobody has asked for it for long"),
        }
    }
}
