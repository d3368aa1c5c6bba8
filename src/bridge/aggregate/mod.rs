//! Several servers offered as one: what their things are called there, and what becomes of messages
//! that name them.
//!
//! ```text
//!  offered as one                     the server's own
//!  tool, prompt  github__search   ◀─▶ search
//!  resource      stdiopool://github/repo://a/b ◀─▶ repo://a/b
//!  page of a tool      ui://github/view.html   ◀─▶ ui://view.html
//! ```
//!
//! Everything is renamed in the same way whatever the other servers offer, so that a name never
//! depends on who else is there. Messages are spliced, not written anew. Pure: texts in, texts out.
//!
//! Invariants: a name that is given out leads back to its server and no other; what is not renamed stays byte by byte.
//!
//! This module deliberately asks no server: whoever has their lists merges them here.

mod merge;
mod names;
mod renaming;

pub use merge::{Items, Missing, NotAPage, introduction, items, merged};
pub use names::{Alias, Names};
pub use renaming::RenamedRequest;

#[cfg(test)]
mod tests;
