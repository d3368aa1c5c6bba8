//! The beginning of a message that is off, for people.

use crate::escape;
use crate::launch::Redactor;

/// How much of a message is quoted, in characters.
const QUOTED: usize = 200;
/// Bytes of a message that are read for an excerpt, so that secrets are masked before it is cut.
const READ: usize = 64 << 10;
/// How much of what was read is not quoted where more follows: a secret may go on there.
const MARGIN: usize = 8 << 10;

/// The beginning of a message for people: escapes read, secrets masked, on one line.
pub(super) fn excerpt(line: &[u8], redactor: &Redactor) -> String {
    let read = &line[..line.len().min(READ)];
    let plain = unescaped(&String::from_utf8_lossy(read));
    let mut masked = redactor.redact(&plain);
    let mut is_cut = read.len() < line.len();
    if is_cut {
        let most = masked.len().saturating_sub(MARGIN);
        let end = (0..=most).rev().find(|end| masked.is_char_boundary(*end));
        masked.truncate(end.unwrap_or_default());
    }
    if let Some((end, _)) = masked.char_indices().nth(QUOTED) {
        masked.truncate(end);
        is_cut = true;
    }
    let mut shown = escape::for_log(&masked).into_owned();
    if is_cut {
        shown.push('…');
    }
    shown
}

/// A text with the escapes of JSON read, as far as there are any, so that no spelling hides a secret.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        // The longest escape is of two halves of a pair.
        let lens = [12, 6, 2].into_iter();
        let read = lens
            .filter_map(|len| Some((len, rest.get(at..at + len)?)))
            .find_map(|(len, escape)| {
                let text: String = serde_json::from_str(&format!("\"{escape}\"")).ok()?;
                (text.chars().count() == 1).then_some((len, text))
            });
        let (len, text) = read.unwrap_or((1, "\\".to_owned()));
        plain.push_str(&text);
        rest = &rest[at + len..];
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_short_masked_and_on_one_line() {
        let redactor = Redactor::new(["hunter/22\"".into()]);
        let line = br#"{"a":"hunter/22\"","b":"h\u0075nter\/22\"","c":"x\ny\u001b[1m","d":"\ud83d\ude00 \q"}"#;
        let quoted = excerpt(line, &redactor);
        assert_eq!(
            quoted,
            r#"{"a":"[redacted]","b":"[redacted]","c":"x\ny\x1b[1m","d":"😀 \q"}"#
        );
        let long = format!("{}é", "x".repeat(QUOTED - 1)).repeat(2);
        let quoted = excerpt(long.as_bytes(), &redactor);
        assert_eq!(quoted.chars().count(), QUOTED + 1);
        // A secret that begins in what is read and ends after it.
        let mut long = "y".repeat(READ - 4);
        long.push_str("hunter/22\"");
        let quoted = excerpt(long.as_bytes(), &redactor);
        assert!(!quoted.contains("hunt"), "{quoted}");
    }
}
