//! Which tools of a server are on offer.

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::reader::Reader;

/// Globs of tool names: on offer is what one of `allow` matches and none of `deny`.
#[derive(Clone, Debug)]
pub struct Tools {
    allow: GlobSet,
    deny: GlobSet,
    is_everything: bool,
}

impl Tools {
    /// Whether a tool of that name is on offer.
    pub fn offers(&self, name: &str) -> bool {
        self.is_everything || self.allow.is_match(name) && !self.deny.is_match(name)
    }

    /// Whether nothing is kept back.
    pub fn offers_everything(&self) -> bool {
        self.is_everything
    }
}

pub(super) fn read(reader: &mut Reader<'_, '_>) -> Tools {
    let allow = reader.texts("allow", &["*"], "Globs of the tools that are offered.");
    let deny = reader.texts(
        "deny",
        &[],
        "Globs of tools that are not offered all the same: they are not listed, and cannot be called.",
    );
    Tools {
        is_everything: allow.iter().any(|glob| glob == "*") && deny.is_empty(),
        allow: globs(reader, "allow", &allow),
        deny: globs(reader, "deny", &deny),
    }
}

fn globs(reader: &mut Reader<'_, '_>, key: &'static str, texts: &[String]) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for text in texts {
        match Glob::new(text) {
            Ok(glob) => drop(set.add(glob)),
            Err(error) => {
                let name = reader.name(key);
                reader.wrong(key, format!("`{name}`: {error}"));
            }
        }
    }
    // Only a set that is far too large cannot be built, and then nothing is let through.
    set.build().unwrap_or_default()
}
