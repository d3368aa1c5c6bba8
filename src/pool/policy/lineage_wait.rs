//! How long a ticket waits for workers of its own lineage before it takes the capacity of one of them.

/// How long a ticket has waited for its lineage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LineageWait {
    /// The ticket has just come: workers of other keys serve those who came before it.
    Begun,
    /// For [`PoolLimits::yield_after`](super::PoolLimits::yield_after) or longer.
    Over,
}
