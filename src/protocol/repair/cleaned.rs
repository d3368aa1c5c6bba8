//! What JSON does not allow and every reader understands, written as JSON does.

use std::borrow::Cow;

use super::Flaw;

/// The first value of a text, with what JSON does not allow in it written as it does.
pub(super) struct Cleaned<'a> {
    pub(super) text: Cow<'a, str>,
    /// How much of the text it was.
    pub(super) len: usize,
    has_controls: bool,
    has_no_numbers: bool,
}

impl Cleaned<'_> {
    pub(super) fn flaws(&self) -> impl Iterator<Item = Flaw> + use<> {
        let controls = self.has_controls.then_some(Flaw::ControlCharacter);
        let numbers = self.has_no_numbers.then_some(Flaw::NotANumber);
        controls.into_iter().chain(numbers)
    }
}

pub(super) fn cleaned(text: &str) -> Cleaned<'_> {
    let bytes = text.as_bytes();
    let (mut out, mut copied, mut at) = (String::new(), 0, 0);
    let (mut depth, mut in_string) = (0_usize, false);
    let (mut has_controls, mut has_no_numbers) = (false, false);
    while let Some(&byte) = bytes.get(at) {
        match (in_string, byte) {
            (true, b'\\') => at += 1,
            (true, b'"') => in_string = false,
            (true, 0..0x20) => {
                has_controls = true;
                out.push_str(&text[copied..at]);
                out.push_str(&format!("\\u{byte:04x}"));
                copied = at + 1;
            }
            (true, _) => {}
            (false, b'"') => in_string = true,
            (false, b'{' | b'[') => depth += 1,
            (false, b'}' | b']') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    at += 1;
                    break;
                }
            }
            (false, b'N' | b'I' | b'-') => {
                let words = ["NaN", "Infinity", "-Infinity", "-NaN"];
                let word = words
                    .into_iter()
                    .find(|word| bytes[at..].starts_with(word.as_bytes()));
                if let Some(word) = word {
                    has_no_numbers = true;
                    out.push_str(&text[copied..at]);
                    out.push_str("null");
                    at += word.len();
                    copied = at;
                    continue;
                }
            }
            (false, _) => {}
        }
        at += 1;
    }
    let len = at.min(text.len());
    let text = match copied {
        0 => Cow::Borrowed(&text[..len]),
        _ => {
            out.push_str(&text[copied..len]);
            Cow::Owned(out)
        }
    };
    Cleaned {
        text,
        len,
        has_controls,
        has_no_numbers,
    }
}
