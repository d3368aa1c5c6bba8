//! The verdict on a line that is too long to keep, as its bytes pass by.

use super::broken::{Broken, has_words};
use super::flaw::Flaw;
use super::unreadable::with_scanned;
use crate::protocol::id_scanner::IdScanner;

/// How much of a long line's beginning is kept, in bytes.
const HEAD: usize = 4 << 10;

/// A line that is too long to keep: its beginning, and what its top level says of it.
#[derive(Debug, Default)]
pub struct LongLine {
    head: Vec<u8>,
    scanner: IdScanner,
    /// Whether the first brace has come.
    has_begun: bool,
}

impl LongLine {
    /// Passes the next bytes of the line; where it is cut makes no difference.
    pub fn feed(&mut self, bytes: &[u8]) {
        let room = HEAD.saturating_sub(self.head.len());
        let head = &bytes[..room.min(bytes.len())];
        self.head.extend_from_slice(head);
        let start = match self.has_begun {
            true => Some(0),
            // What begins later has more before it than a prompt.
            false => memchr::memchr(b'{', head),
        };
        if let Some(start) = start {
            self.has_begun = true;
            self.scanner.feed(&bytes[start..]);
        }
    }

    /// The message that it was; `None` for a log's line.
    pub fn finish(self) -> Option<Broken> {
        let text = String::from_utf8_lossy(&self.head);
        let (before, _) = text.split_once('{')?;
        let rest = &text[before.len()..];
        let found = with_scanned(rest, self.scanner.finish());
        Broken::of(found, Flaw::TooLong, None).filter(|_| !has_words(before))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Says;
    use super::*;

    fn read(text: &[u8], chunk: usize) -> Option<Broken> {
        let mut line = LongLine::default();
        text.chunks(chunk).for_each(|chunk| line.feed(chunk));
        line.finish()
    }

    #[test]
    fn what_is_too_long_is_judged_as_what_is_short_and_broken() {
        let long = "x".repeat(10_000);
        for (line, says, ids) in [
            (
                r#"{"jsonrpc":"2.0","id":7,"result":{"x":"LONG"}}"#,
                Says::Answers,
                &["7"][..],
            ),
            (
                r#"> {"jsonrpc":"2.0","result":{"x":"LONG"},"id":7}"#,
                Says::Answers,
                &["7"],
            ),
            (
                "\u{feff}{\"result\":{\"x\":\"LONG\"},\"jsonrpc\":\"2.0\",\"id\":\"a\"}",
                Says::Answers,
                &["\"a\""],
            ),
            (
                "{'jsonrpc': '2.0', 'id': 7, 'result': {'x': 'LONG'}}",
                Says::Answers,
                &["7"],
            ),
            (
                r#"{"jsonrpc":"2.0","id":7,"method":"ping","params":{"x":"LONG"}}"#,
                Says::Asks,
                &["7"],
            ),
            (
                r#"{"jsonrpc":"2.0","id":null,"result":{"x":"LONG"}}"#,
                Says::AnswersOneOf,
                &[],
            ),
            (
                r#"{"jsonrpc":"2.0","result":{"x":"LONG"#,
                Says::AnswersOneOf,
                &[],
            ),
            (
                r#"{"jsonrpc":"2.0","result":{"x":"LONG"},"id":"LONG"}"#,
                Says::AnswersOneOf,
                &[],
            ),
        ] {
            let line = line.replace("LONG", &long);
            let broken = read(line.as_bytes(), 77).unwrap_or_else(|| panic!("{}", &line[..60]));
            assert_eq!(
                (broken.says, &broken.ids[..]),
                (
                    says,
                    &ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>()[..]
                ),
                "{}",
                &line[..60]
            );
            assert_eq!(broken.flaw, Flaw::TooLong);
        }
        for line in [
            "LONG",
            r#"{"level":"info","id":7,"error":"LONG"}"#,
            r#"DEBUG sent {"jsonrpc":"2.0","id":7,"result":{"x":"LONG"}}"#,
            r#"{"data":"LONG"}"#,
            r#"LONG{"jsonrpc":"2.0","id":7,"result":{}}"#,
        ] {
            assert_eq!(
                read(line.replace("LONG", &long).as_bytes(), 77),
                None,
                "{line}"
            );
        }
    }

    proptest! {
        #[test]
        fn cuts_make_no_difference(
            text in "([>{}\\[\\]\",:a ]|\"id\":|\"jsonrpc\":\"2.0\"|\"result\":|7){0,60}",
            cut in 1..9usize,
        ) {
            prop_assert_eq!(read(text.as_bytes(), cut), read(text.as_bytes(), text.len().max(1)));
        }
    }
}
