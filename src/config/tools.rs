//! The tools of a server that are on offer.

use super::globs::{self, Globs};
use super::reader::Reader;

/// Globs of tool names: on offer is what one of `allow` matches and none of `deny`.
#[derive(Clone, Debug)]
pub struct Tools {
    /// What is offered.
    pub allow: Globs,
    /// Tools of those that are not offered, whatever the case of their names.
    pub deny: Globs,
    /// The line of pool.toml that says so.
    pub line: usize,
}

impl Tools {
    /// Whether a tool of that name is on offer.
    pub fn offers(&self, name: &str) -> bool {
        self.offers_everything() || self.allow.matches(name) && self.deny.taking(name).is_none()
    }

    /// Whether nothing is kept back.
    pub fn offers_everything(&self) -> bool {
        self.allow.is_everything() && self.deny.is_empty()
    }
}

pub(super) fn read(reader: &mut Reader<'_, '_>) -> Tools {
    Tools {
        line: reader.line(),
        allow: globs::read(
            reader,
            "allow",
            &["*"],
            "Globs of the tools that are offered.",
        ),
        deny: globs::read(
            reader,
            "deny",
            &[],
            "Globs of tools that are not offered all the same: they are not listed, and cannot be called. They match whatever the case of a tool's name, as some servers do not tell upper from lower case.",
        ),
    }
}
