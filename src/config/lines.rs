//! On which lines of a pool.toml its keys stand, for what is found out about it after it was read.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where lines end, in bytes.
pub(super) fn line_ends(text: &str) -> Vec<usize> {
    memchr::memchr_iter(b'\n', text.as_bytes()).collect()
}

/// The line of that place, from 1.
pub(super) fn line_at(line_ends: &[usize], at: usize) -> usize {
    line_ends.partition_point(|end| *end < at) + 1
}

/// Where the value stands to which those keys lead through tables and, by their numbers, lists.
pub(super) fn span_in(table: &DeTable<'_>, path: &[&str]) -> Option<Range<usize>> {
    let (first, rest) = path.split_first()?;
    let mut entries = table.iter();
    let (_, mut value) = entries.find(|(name, _)| name.get_ref() == first)?;
    for key in rest {
        value = match value.get_ref() {
            DeValue::Table(table) => {
                let mut entries = table.iter();
                entries.find(|(name, _)| name.get_ref() == key)?.1
            }
            DeValue::Array(items) => items.get(key.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(value.span())
}

/// The lines of a text.
#[derive(Debug)]
pub struct Lines<'t> {
    tree: Spanned<DeTable<'t>>,
    ends: Vec<usize>,
}

impl<'t> Lines<'t> {
    /// Lines of a pool.toml, as far as it is TOML.
    pub fn of(text: &'t str) -> Self {
        let (tree, _syntax) = DeTable::parse_recoverable(text);
        Self {
            tree,
            ends: line_ends(text),
        }
    }

    /// The line on which the value stands to which those keys lead, from 1: of the last of them that is written, or of
    /// none.
    pub fn line<K: AsRef<str>>(&self, path: &[K]) -> Option<usize> {
        self.span(path, false).map(|(first, _)| first)
    }

    /// The first and the last line of the value to which exactly those keys lead.
    pub(super) fn range<K: AsRef<str>>(&self, path: &[K]) -> Option<(usize, usize)> {
        self.span(path, true)
    }

    fn span<K: AsRef<str>>(&self, path: &[K], is_whole: bool) -> Option<(usize, usize)> {
        let path: Vec<&str> = path.iter().map(AsRef::as_ref).collect();
        let least = if is_whole { path.len() } else { 1 };
        let mut ends = (least..=path.len()).rev();
        let span = ends.find_map(|end| span_in(self.tree.get_ref(), &path[..end]))?;
        let line = |at| line_at(&self.ends, at);
        Some((
            line(span.start),
            line(span.end.saturating_sub(1).max(span.start)),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_through_tables_and_lists() {
        let text = "[http]\n\n[servers.a]\ncommand = \"x\"\nargs = [\n  \"b\",\n  \"c\",\n]\nenv.K = \"v\"\n";
        let lines = Lines::of(text);
        for (path, line) in [
            (&["servers", "a", "command"][..], Some(4)),
            (&["servers", "a", "args", "1"], Some(7)),
            (&["servers", "a", "env", "K"], Some(9)),
            (&["servers", "a", "args", "9"], Some(5)),
            (&["nothing"], None),
        ] {
            assert_eq!(lines.line(path), line, "{path:?}");
        }
        assert_eq!(lines.range(&["servers", "a", "args"]), Some((5, 8)));
        assert_eq!(lines.range(&["servers", "a", "cwd"]), None);
        assert_eq!(Lines::of("[a\nb = ").line(&["x"]), None);
    }
}
