//! Globs of names.

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::reader::Reader;

/// Patterns of names, of which any may match: `*` any letters, `?` one, `[ab]`, `{a,b}`.
#[derive(Clone, Default, Debug)]
pub struct Globs {
    texts: Vec<String>,
    set: GlobSet,
}

impl Globs {
    /// Patterns from texts.
    ///
    /// # Errors
    /// What is wrong with the first that is none.
    pub fn new(texts: Vec<String>) -> Result<Self, globset::Error> {
        let mut set = GlobSetBuilder::new();
        for text in &texts {
            set.add(Glob::new(text)?);
        }
        let set = set.build()?;
        Ok(Self { texts, set })
    }

    /// Whether one of them matches.
    pub fn matches(&self, name: &str) -> bool {
        self.set.is_match(name)
    }

    /// The first that matches.
    pub fn matching(&self, name: &str) -> Option<&str> {
        let first = self.set.matches(name).into_iter().min()?;
        self.texts.get(first).map(String::as_str)
    }

    /// Whether one of them matches every name.
    pub fn is_everything(&self) -> bool {
        self.texts.iter().any(|text| text == "*")
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// As they are written.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }
}

/// The patterns under a key; those that are none are noted as mistakes.
pub(super) fn read(
    reader: &mut Reader<'_, '_>,
    key: &'static str,
    default: &[&str],
    doc: &'static str,
) -> Globs {
    let texts = reader.texts(key, default, doc);
    Globs::new(texts).unwrap_or_else(|error| {
        let name = reader.name(key);
        reader.wrong(key, format!("`{name}`: {error}"));
        // A set that cannot be built lets nothing through.
        Globs::default()
    })
}
