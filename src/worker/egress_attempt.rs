//! What becomes of a worker's attempts to reach hosts.

use std::time::Duration;

use crate::telemetry::labels::EgressOutcome;

/// An attempt of a worker to reach a host, and what became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EgressAttempt {
    /// The host: a name, or an address where it was one.
    pub host: String,
    /// The port; 0 where a name was looked up alone.
    pub port: u16,
    /// The outcome of the attempt.
    pub outcome: EgressOutcome,
    /// Bytes from the worker.
    pub sent: u64,
    /// Bytes to it.
    pub received: u64,
    /// How long the connection took, until both ends were closed.
    pub took: Duration,
    /// The attempt is one of so many that it is only counted.
    pub is_one_of_many: bool,
}

impl EgressAttempt {
    /// An attempt that was refused at once.
    pub(super) fn refused(host: String, port: u16, outcome: EgressOutcome) -> Self {
        Self {
            host,
            port,
            outcome,
            sent: 0,
            received: 0,
            took: Duration::ZERO,
            is_one_of_many: false,
        }
    }
}
