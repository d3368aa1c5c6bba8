//! The brackets that are open behind lines that may be no JSON, and what stands last.

use memchr::memchr2;

/// Depths of which it is kept which bracket is open.
const KEPT: u32 = u128::BITS;

/// The first bytes of a string, which are looked at one by one: names of members are short, and end before a search had begun.
const NEAR: usize = 16;

/// The brackets that are open behind some lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Nesting {
    depth: usize,
    /// Of the innermost [`KEPT`] brackets, the innermost first: whether it is that of an array. A bracket of unknown kind is taken for
    /// one.
    arrays: u128,
    /// The last byte that is no white space.
    last: u8,
    /// The last line ended within a string, which ends with it at the latest.
    ends_in_string: bool,
}

impl Nesting {
    /// How many are open.
    pub(super) fn depth(self) -> usize {
        self.depth
    }

    /// Whether the last line ended within a string.
    pub(super) fn ends_in_string(self) -> bool {
        self.ends_in_string
    }

    /// Whether a value may begin here. Where a name must come or a comma, none is a part of what is open.
    pub(super) fn takes_value(self) -> bool {
        let is_array = self.arrays & 1 == 1;
        self.depth == 0
            || match self.last {
                b'[' | b':' | b'=' | b'>' | b'(' => true,
                b',' => is_array,
                _ => false,
            }
    }

    /// The brackets that are open after one more line.
    pub(super) fn after(mut self, line: &[u8]) -> Self {
        let mut at = 0;
        self.ends_in_string = false;
        while let Some(&byte) = line.get(at) {
            at += 1;
            match byte {
                b'"' | b'\'' | b'`' if opens_string(line, at - 1) => {
                    match behind_string(line, at) {
                        Some(behind) => at = behind,
                        None => {
                            self.ends_in_string = true;
                            break;
                        }
                    }
                }
                b'{' | b'[' => self.open(byte == b'['),
                b'}' | b']' => self.close(),
                _ => {}
            }
        }
        self.last = last_of(line).unwrap_or(self.last);
        self
    }

    fn open(&mut self, is_array: bool) {
        self.depth += 1;
        self.arrays = self.arrays << 1 | u128::from(is_array);
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.arrays = self.arrays >> 1 | 1 << (KEPT - 1);
    }
}

/// Whether the quote at that place begins a string. An apostrophe is no quote.
fn opens_string(line: &[u8], at: usize) -> bool {
    line[at] == b'"'
        || matches!(
            last_of(&line[..at]),
            None | Some(b'{' | b'[' | b'(' | b',' | b':')
        )
}

/// The place behind a string whose quote stands before `at`; `None` if it does not end in the line.
fn behind_string(line: &[u8], at: usize) -> Option<usize> {
    let quote = line[at - 1];
    let mut from = at;
    loop {
        let rest = line.get(from..)?;
        let (near, far) = rest.split_at(rest.len().min(NEAR));
        let is_end_or_escape = |&byte: &u8| byte == quote || byte == b'\\';
        let found = match near.iter().position(is_end_or_escape) {
            Some(found) => from + found,
            None => from + near.len() + memchr2(quote, b'\\', far)?,
        };
        if line[found] == quote {
            return Some(found + 1);
        }
        from = found + 2;
    }
}

/// The last byte that is no white space.
fn last_of(text: &[u8]) -> Option<u8> {
    text.trim_ascii_end().last().copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As [`Nesting::after`], byte by byte.
    fn byte_by_byte(mut it: Nesting, line: &[u8]) -> Nesting {
        let (mut quote, mut is_escaped, mut before) = (None, false, b',');
        for &byte in line {
            match (quote, byte) {
                _ if std::mem::take(&mut is_escaped) => {}
                (Some(_), b'\\') => is_escaped = true,
                (Some(open), _) if byte == open => quote = None,
                (Some(_), _) => {}
                (None, b'"') => quote = Some(byte),
                (None, b'\'' | b'`') if matches!(before, b'{' | b'[' | b'(' | b',' | b':') => {
                    quote = Some(byte);
                }
                (None, b'{' | b'[') => it.open(byte == b'['),
                (None, b'}' | b']') => it.close(),
                (None, _) => {}
            }
            if !byte.is_ascii_whitespace() {
                before = byte;
                it.last = byte;
            }
        }
        it.ends_in_string = quote.is_some();
        it
    }

    proptest! {
        #[test]
        fn what_is_skipped_changes_nothing(lines in prop::collection::vec("([{}\\[\\]\"'`(,: \ta\\\\]|aaaaaaaa){0,40}", 1..4)) {
            let (mut fast, mut slow) = (Nesting::default(), Nesting::default());
            for line in &lines {
                (fast, slow) = (fast.after(line.as_bytes()), byte_by_byte(slow, line.as_bytes()));
                prop_assert_eq!(fast, slow, "{:?}", lines);
            }
        }
    }

    fn after(lines: &[&str]) -> Nesting {
        let start = Nesting::default();
        lines
            .iter()
            .fold(start, |it, line| it.after(line.as_bytes()))
    }

    #[test]
    fn strings_hide_brackets_and_end_with_their_line() {
        assert_eq!(
            after(&[r#"{"a": ["}", "\"]", 'it}', b"#, "it's {"]).depth(),
            3
        );
        assert!(after(&["{\"a\": \"b"]).ends_in_string());
        assert!(!after(&["{\"a\": \"b", "c"]).ends_in_string());
        assert_eq!(after(&["}}}", "{"]).depth(), 1);
    }

    #[test]
    fn an_object_begins_where_a_value_may_stand() {
        for lines in [
            &["{"][..],
            &["{\"a\": 1,"],
            &["{\"a\": [1],"],
            &["{\"a\": {", "\"b\": 2,"],
        ] {
            assert!(!after(lines).takes_value(), "{lines:?}");
        }
        for lines in [&["[1"][..], &["{\"a\": [", "{}"], &["{\"a\": 1"]] {
            assert!(!after(lines).takes_value(), "a comma is missing: {lines:?}");
        }
        for lines in [
            &[""][..],
            &["["],
            &["[1,"],
            &["{\"a\":"],
            &["{\"a\": [{},"],
            &["{}"],
        ] {
            assert!(after(lines).takes_value(), "{lines:?}");
        }
        // What is too deep to be known is no reason to take a message apart.
        let (open, close) = ("{".repeat(300), "}".repeat(200));
        assert!(after(&[&open, &close, ","]).takes_value());
    }
}
