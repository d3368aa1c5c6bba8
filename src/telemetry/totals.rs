//! What was counted of all servers together, for who shows the whole: a few numbers, without the text of an exposition.

use super::labels::EvictionReason;
use crate::protocol::Reason;

/// Counters since the start, over all servers that are configured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Totals {
    /// Requests for tools, prompts, resources and completions that have their outcome.
    pub calls: u64,
    /// Requests of any method that were answered with an error, the server's or stdiopool's.
    pub errors: u64,
    /// Starts that led to a ready worker, primed ones and those of spares among them.
    pub started: u64,
    /// Starts of those that were forked from a template, or of a process that had waited.
    pub primed: u64,
    /// Spares that became a tenant's worker.
    pub adopted: u64,
    /// Starts that failed.
    pub failed: u64,
    /// Requests that were answered with a failure of stdiopool's own, in the order of [`Reason::ALL`].
    pub rejections: [u64; Reason::ALL.len()],
    /// Idle workers that were stopped to make room, in the order of [`EvictionReason::ALL`].
    pub evictions: [u64; EvictionReason::ALL.len()],
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            calls: 0,
            errors: 0,
            started: 0,
            primed: 0,
            adopted: 0,
            failed: 0,
            rejections: [0; Reason::ALL.len()],
            evictions: [0; EvictionReason::ALL.len()],
        }
    }
}
