//! How long whoever waits lets others go first.

/// How long a ticket has waited for its lineage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Patience {
    /// It has just come: workers of other keys serve those who came before it.
    AtFirst,
    /// For [`Limits::yield_after`](super::Limits::yield_after) or longer.
    Over,
}
