//! What could be made of a line.

use bytes::Bytes;

use super::broken::Broken;
use super::flaw::Flaw;

/// The messages that could be made of a line.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Mended {
    /// The messages, each readable by [`Envelope::parse`](crate::protocol::Envelope::parse) and exact.
    pub messages: Vec<Bytes>,
    /// How the line was off; empty if only members were left out that no message has.
    pub flaws: Vec<Flaw>,
    /// Messages on the line, beside those, of which nothing can be made.
    pub broken: Vec<Broken>,
}

impl Mended {
    pub(super) fn note(&mut self, flaw: Flaw) {
        if !self.flaws.contains(&flaw) {
            self.flaws.push(flaw);
        }
    }
}
