//! What of the worker's stdout is no whole message yet.

use crate::held::{Charge, Full};
use crate::protocol::MessageLines;

/// A message that is not whole yet: what is charged for a long one, and whether there was room for it.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    pub(super) charge: Option<Charge>,
    pub(super) refused: Option<Full>,
    /// The last one that was dropped.
    pub(super) too_long: Option<TooLong>,
    /// A message that goes over several lines.
    pub(super) lines: MessageLines,
    /// Somebody looks after a message over several lines that does not go on.
    pub(super) is_watched: bool,
}

/// A message that was too long to be kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooLong {
    /// Its length in bytes.
    pub(super) len: u64,
    /// There was no room for it, though it was not longer than a message may be.
    pub(super) refused: Option<Full>,
}
