//! Foreign text made harmless: what a client, a worker or a registry wrote, before it is put into a log
//! or on a terminal.
//!
//! Three things make text act on its reader: control characters (C0, DEL, C1) move the cursor, begin
//! escape sequences or end a line; bidirectional controls show text in another order than it has
//! (<https://trojansource.codes>); separators and tags of Unicode end lines, or are not shown at all. Each of
//! them is written out in place of being passed on, so that nothing is lost and nothing is obeyed.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Whether a character does something else than being shown.
pub fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Bidirectional marks, embeddings, overrides and isolates.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Line and paragraph separators.
            | '\u{2028}' | '\u{2029}'
            // Deprecated format characters, annotations, the byte order mark.
            | '\u{206a}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}' | '\u{feff}'
            // Tags, which are never shown.
            | '\u{e0000}'..='\u{e007f}')
}

/// `text` on one line: every character that [`acts`] is written out, line ends and tabs too.
pub fn for_log(text: &str) -> Cow<'_, str> {
    escaped(text, acts)
}

/// `text` for a terminal: as [`for_log`], but with its line ends and tabs.
pub fn for_terminal(text: &str) -> Cow<'_, str> {
    escaped(text, |c| acts(c) && !matches!(c, '\n' | '\t'))
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_escaped(c) {
            write_out(&mut out, c).expect("a String takes every write");
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Writes a character out: `\n`, `\x1b`, `\u{202e}`.
fn write_out(to: &mut dyn Write, c: char) -> fmt::Result {
    match (c, u32::from(c)) {
        ('\n', _) => to.write_str("\\n"),
        ('\r', _) => to.write_str("\\r"),
        ('\t', _) => to.write_str("\\t"),
        (_, code @ 0..=0xff) => write!(to, "\\x{code:02x}"),
        (_, code) => write!(to, "\\u{{{code:x}}}"),
    }
}

/// JSON text whose strings are harmless too: serialisers escape what is below U+0020 only. A parser
/// reads the text as before: what is written out stands in strings, where `\u202e` is U+202E.
/// Line ends and tabs between its parts are kept.
pub fn in_json(json: &str) -> Cow<'_, str> {
    let is_escaped = |c: char| acts(c) && !matches!(c, '\n' | '\t' | '\r');
    if !json.contains(is_escaped) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_escaped(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}").expect("a String takes every write");
            }
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Passes on what is written to it, as [`for_log`] has it.
#[derive(Debug)]
pub struct LogEscape<W>(pub W);

impl<W: Write> Write for LogEscape<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(acts) {
            self.0.write_str(&rest[..at])?;
            let mut chars = rest[at..].chars();
            if let Some(c) = chars.next() {
                write_out(&mut self.0, c)?;
            }
            rest = chars.as_str();
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_strangers_text_cannot_drive_a_terminal_or_begin_a_line_of_a_log() {
        assert_eq!(for_terminal("plain\n\tätext"), "plain\n\tätext");
        assert_eq!(
            for_terminal("\x1b]0;owned\x07 \r\u{9b}2J"),
            r"\x1b]0;owned\x07 \r\x9b2J"
        );
        assert_eq!(for_log("a\r\nb\tc"), r"a\r\nb\tc");
        assert_eq!(for_log("txt\u{202e}gpj.exe"), r"txt\u{202e}gpj.exe");
        assert_eq!(
            for_log("naïve 日本 👩‍👩‍👧"),
            "naïve 日本 👩‍👩‍👧",
            "all that is shown stays"
        );
    }

    /// Any text, with what acts in it more often than chance would put it there.
    fn hostile() -> impl Strategy<Value = String> {
        let acting = prop::sample::select(vec![
            '\n',
            '\r',
            '\t',
            '\x1b',
            '\x07',
            '\x7f',
            '\u{9b}',
            '\u{85}',
            '\u{202e}',
            '\u{2066}',
            '\u{2028}',
            '\u{feff}',
            '\u{e0041}',
        ]);
        let piece = prop_oneof![acting.prop_map(String::from), ".{0,8}"];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn nothing_that_acts_is_left(text in hostile()) {
            prop_assert!(!for_log(&text).contains(acts));
            prop_assert!(!for_terminal(&text).contains(|c| acts(c) && c != '\n' && c != '\t'));
            let mut written = String::new();
            write!(LogEscape(&mut written), "{text}").expect("in memory");
            prop_assert_eq!(written, for_log(&text).into_owned());
        }

        #[test]
        fn json_says_the_same_and_nothing_in_it_acts(text in hostile()) {
            let json = serde_json::json!({ "text": text }).to_string();
            let harmless = in_json(&json);
            prop_assert!(!harmless.contains(acts));
            let read: serde_json::Value = serde_json::from_str(&harmless).expect("still JSON");
            prop_assert_eq!(read["text"].as_str(), Some(text.as_str()));
        }
    }
}
