//! What could be made of a line, or be found out about one of which nothing can be made.

use bytes::Bytes;

use super::flaw::Flaw;

/// What could be made of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mended {
    /// The messages, each readable by [`Envelope::parse`](crate::protocol::Envelope::parse) and exact.
    pub messages: Vec<Bytes>,
    /// How the line was off; empty if only members were left out that no message has.
    pub flaws: Vec<Flaw>,
    /// Messages on the line, beside those, of which nothing can be made.
    pub lost: Vec<Unmendable>,
}

/// What is known of a line of which nothing can be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unmendable {
    /// What is wrong with it.
    pub flaw: Flaw,
    /// Whether it is a message at all: other lines are noise.
    pub is_message: bool,
    /// Ids that it may be about, as raw JSON, each once, the one that it would have by itself last.
    pub ids: Vec<String>,
    /// Whether it says that it is JSON-RPC.
    pub has_version: bool,
    /// Whether it has an id at all, though it may be none that anybody gave.
    pub has_id: bool,
    /// Whether it is a request or notification.
    pub has_method: bool,
    /// Whether it has a result or an error, and may be an answer though it is a request or notification too.
    pub has_answer: bool,
    /// Whether words stand before it, so that a log may quote it: it need not be what it says.
    pub is_quoted: bool,
    /// The error that it tells without saying of which request, as raw JSON.
    pub error: Option<String>,
}

impl Unmendable {
    pub(super) const fn noise(flaw: Flaw) -> Self {
        Self {
            flaw,
            is_message: false,
            ids: Vec::new(),
            has_version: false,
            has_id: false,
            has_method: false,
            has_answer: false,
            is_quoted: false,
            error: None,
        }
    }

    /// Told of what stands behind words: a log quotes requests too, and what is cut off.
    pub(super) fn behind_words(mut self, has_words: bool) -> Self {
        self.is_quoted = has_words;
        self.is_message &= !has_words || self.has_answer && !self.has_method;
        self
    }

    /// Whether it says more of what is wrong than another does.
    pub(super) fn tells_more_than(&self, other: &Self) -> bool {
        (self.is_message, !self.ids.is_empty()) > (other.is_message, !other.ids.is_empty())
    }
}

impl Mended {
    pub(super) fn note(&mut self, flaw: Flaw) {
        if !self.flaws.contains(&flaw) {
            self.flaws.push(flaw);
        }
    }
}

/// Whether there is more than a prompt.
pub(super) fn has_words(before: &str) -> bool {
    before.contains(char::is_alphanumeric)
}
