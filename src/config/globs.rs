//! Globs of names.

use std::sync::OnceLock;

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::reader::Reader;
use crate::folding::case_folded;

/// Patterns of names, of which any may match: `*` any letters, `?` one, `[ab]`, `{a,b}`.
#[derive(Clone, Default, Debug)]
pub struct Globs {
    texts: Vec<String>,
    set: GlobSet,
    /// The patterns for names whose case is folded; made when it is first needed, which most are not.
    folded: OnceLock<GlobSet>,
}

/// A pattern that takes something away, by a name or by another spelling of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taking<'g> {
    /// The glob as it is written.
    pub glob: &'g str,
    /// Whether the glob matches the name as it is, not only with its case folded.
    pub is_exact: bool,
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
        Ok(Self {
            texts,
            set,
            folded: OnceLock::new(),
        })
    }

    /// The first by which a name is taken away: as it is, or as a server may read it that does not tell upper from lower
    /// case. For what denies only: it matches more than [`Self::matches`] does.
    pub fn taking(&self, name: &str) -> Option<Taking<'_>> {
        let exact = self.matching(name).map(|glob| Taking {
            glob,
            is_exact: true,
        });
        exact.or_else(|| {
            let glob = self.folding(name)?;
            let is_exact = false;
            Some(Taking { glob, is_exact })
        })
    }

    /// The first that matches a name when the case of both is folded.
    fn folding(&self, name: &str) -> Option<&str> {
        if self.texts.is_empty() {
            return None;
        }
        let folded = self.folded.get_or_init(|| folded_set(&self.texts));
        let first = folded.matches(case_folded(name)).into_iter().min()?;
        self.texts.get(first).map(String::as_str)
    }

    /// Whether a pattern of the list matches.
    pub fn matches(&self, name: &str) -> bool {
        self.set.is_match(name)
    }

    /// The first that matches.
    pub fn matching(&self, name: &str) -> Option<&str> {
        let first = self.set.matches(name).into_iter().min()?;
        self.texts.get(first).map(String::as_str)
    }

    /// Whether a pattern of the list matches every name.
    pub fn is_everything(&self) -> bool {
        self.texts.iter().any(|text| text == "*")
    }

    /// Whether the list has no pattern.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// The globs as they are written.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }
}

/// The patterns for names whose case is folded, in the order of `texts`.
fn folded_set(texts: &[String]) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for text in texts {
        // What cannot be folded matches as it is written.
        if let Ok(glob) = Glob::new(&folded_pattern(text)).or_else(|_| Glob::new(text)) {
            set.add(glob);
        }
    }
    set.build().unwrap_or_default()
}

/// Letters of a class that are enumerated to be folded; a range with more of them is kept as it is.
const MAX_RANGE: u32 = 1024;

/// A pattern with its case folded: text is replaced, classes (`[A-Z]`) have the folded letters besides.
pub(super) fn folded_pattern(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('[') {
        // The first letter of a class ends none: `[]a]`, `[!]a]`.
        let inside = &rest[at + 1..];
        let begin = usize::from(inside.starts_with(['!', '^']));
        let first = inside[begin..].chars().next().map_or(0, char::len_utf8);
        let Some(end) = inside[begin + first..].find(']') else {
            break;
        };
        let end = begin + first + end;
        folded.push_str(&case_folded(&rest[..at]));
        folded.push('[');
        folded.push_str(&inside[..end]);
        folded.extend(folded_class(&inside[begin..end]));
        folded.push(']');
        rest = &inside[end + 1..];
    }
    folded.push_str(&case_folded(rest));
    folded
}

/// The folded forms of the letters of a class, as far as they are one letter.
fn folded_class(class: &str) -> Vec<char> {
    let letters: Vec<char> = class.chars().collect();
    let mut folded = Vec::new();
    let mut at = 0;
    while let Some(from) = letters.get(at).copied() {
        let (to, next) = match (letters.get(at + 1), letters.get(at + 2)) {
            (Some('-'), Some(to)) => (*to, at + 3),
            _ => (from, at + 1),
        };
        at = next;
        let range = u32::from(from)..=u32::from(to);
        if range.clone().count() > MAX_RANGE as usize {
            continue;
        }
        for letter in range.filter_map(char::from_u32) {
            let one = case_folded(&letter.to_string());
            let mut one = one.chars();
            if let (Some(one), None) = (one.next(), one.next())
                && one.is_alphanumeric()
                && !folded.contains(&one)
            {
                folded.push(one);
            }
        }
    }
    folded
}

/// Why a text is no name, nor a pattern of names; `None` if it may be one.
pub(super) fn unlike_a_name(text: &str) -> Option<&'static str> {
    if text.trim().is_empty() {
        return Some("is empty: it names nothing");
    }
    if text.trim() != text {
        return Some("begins or ends with a blank: no name does");
    }
    let has_control = text.chars().any(char::is_control);
    has_control.then_some("has a control character in it: no name has")
}

/// The patterns under a key; those that are none are noted as mistakes.
pub(super) fn read(
    reader: &mut Reader<'_, '_>,
    key: &'static str,
    default: &[&str],
    doc: &'static str,
) -> Globs {
    let texts = reader.texts(key, default, doc);
    if let Some((text, why)) = texts
        .iter()
        .find_map(|text| Some((text, unlike_a_name(text)?)))
    {
        let name = reader.name(key);
        reader.wrong(key, format!("`{name}` has {text:?}, which {why}"));
        return Globs::default();
    }
    Globs::new(texts).unwrap_or_else(|error| {
        let name = reader.name(key);
        reader.wrong(key, format!("`{name}`: {error}"));
        // A set that cannot be built lets nothing through.
        Globs::default()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn globs(texts: &[&str]) -> Globs {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        Globs::new(texts).expect("globs")
    }

    #[test]
    fn what_takes_away_matches_whatever_the_case() {
        let globs = globs(&["delete_*", "Drop[A-C]", "kill", "x[!]a]", "{Rm,rmDir}"]);
        for (name, by) in [
            ("delete_all", Some(("delete_*", true))),
            ("DELETE_ALL", Some(("delete_*", false))),
            ("Delete_\u{17f}", Some(("delete_*", false))),
            ("DropB", Some(("Drop[A-C]", true))),
            ("dropb", Some(("Drop[A-C]", false))),
            ("dropd", None),
            ("\u{212a}ILL", Some(("kill", false))),
            ("rmdir", Some(("{Rm,rmDir}", false))),
            ("Xb", Some(("x[!]a]", false))),
            ("x]", None),
            ("other", None),
        ] {
            let found = globs.taking(name).map(|by| (by.glob, by.is_exact));
            assert_eq!(found, by, "{name}");
        }
        assert_eq!(folded_pattern("A[B-D!]é[!x"), "a[B-D!bcd]é[!x");
    }

    fn patterns() -> impl Strategy<Value = Vec<String>> {
        let piece = prop_oneof![
            "[a-cA-C_ſKßİ]{1,3}",
            Just("*".to_owned()),
            Just("?".to_owned()),
            Just("[A-C]".to_owned()),
            Just("[!a]".to_owned()),
            Just("{aB,C}".to_owned()),
        ];
        let pattern = prop::collection::vec(piece, 1..4).prop_map(|pieces| pieces.concat());
        prop::collection::vec(pattern, 0..4)
    }

    proptest! {
        #[test]
        fn folding_only_widens_what_is_taken_away(texts in patterns(), name in "[a-cA-C_sSkKſKßİ]{0,5}") {
            let globs = Globs::new(texts).expect("globs");
            if globs.matches(&name) {
                let taking = globs.taking(&name);
                prop_assert!(taking.is_some_and(|it| it.is_exact));
            }
        }

        #[test]
        fn any_spelling_of_a_name_that_is_written_out_is_taken_away(name in "[a-cA-C_sSkKſKßİ]{1,5}", raise: bool) {
            let globs = Globs::new(vec![name.clone()]).expect("a glob");
            let other = if raise { name.to_uppercase() } else { name.to_lowercase() };
            prop_assert!(globs.taking(&other).is_some(), "{name} {other}");
        }
    }
}
