//! What of the worker's stdout is no whole message yet.

use tokio::time::Instant;

use crate::held::{Account, Charge, Full, Kind};
use crate::protocol::MessageLines;

/// From how many bytes on a message over several lines is charged; a line that is not whole is from as many.
const LONG: usize = 1 << 20;

/// A message that is not whole yet: what is charged for a long one, and whether there was room for it.
#[derive(Debug)]
pub(super) struct Assembly {
    pub(super) charge: Option<Charge>,
    pub(super) refused: Option<Full>,
    /// The last one that was dropped.
    pub(super) too_long: Option<TooLong>,
    /// A message that goes over several lines.
    pub(super) lines: MessageLines,
    /// What is charged for a long one of those.
    pub(super) lines_charge: Option<Charge>,
    /// There was no room for the one that passes.
    pub(super) lines_refused: Option<Full>,
    /// When the first line of it came.
    pub(super) began: Option<Instant>,
    /// When the last line of it came. `None`: nobody looks after a message over several lines that does not go on.
    pub(super) watched_since: Option<Instant>,
}

impl Assembly {
    /// Nothing yet, of messages of which at most `max` bytes are kept.
    pub(super) fn new(max: usize) -> Self {
        Self {
            charge: None,
            refused: None,
            too_long: None,
            lines: MessageLines::new(max),
            lines_charge: None,
            lines_refused: None,
            began: None,
            watched_since: None,
        }
    }

    /// Charges what is kept of a message over several lines; what there is no room for is kept no longer.
    pub(super) fn charge_lines(&mut self, account: &Account) {
        let kept = self.lines.kept();
        if kept < LONG {
            self.lines_charge = None;
            return;
        }
        let charge = self
            .lines_charge
            .get_or_insert_with(|| account.nothing(Kind::Answer));
        if let Err(full) = charge.resize(kept)
            && self.lines.let_pass()
        {
            self.lines_charge = None;
            self.lines_refused = Some(full);
        }
    }
}

/// A message that was too long to be kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooLong {
    /// The message's length in bytes.
    pub(super) len: u64,
    /// There was no room for it, though it was not longer than a message may be.
    pub(super) refused: Option<Full>,
}
