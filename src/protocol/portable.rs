//! JSON that every decoder reads, and alike.
//!
//! RFC 8259 leaves to decoders how deep they go, how large numbers may be and what becomes of half a
//! surrogate pair. Some SDKs drop a message over any of these and answer nothing, so that its
//! sender waits in vain (seen: pydantic's reader of the Python SDK for depth from 200 and integers of more than 4,300
//! digits, and for lone surrogates; serde_json for depth from 128).

use std::borrow::Cow;

/// Deepest nesting that goes on, in levels, of one member of a message.
const MAX_DEPTH: usize = 120;

/// Longest number that goes on, in bytes.
const MAX_NUMBER: usize = 1000;

/// The replacement for `\u` and four digits that are half a pair of surrogates.
const REPLACEMENT: &str = "\\ufffd";

/// Why a JSON text cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotPortable {
    /// Some decoders go less deep.
    #[error("it is nested more than {MAX_DEPTH} levels deep")]
    Depth,
    /// Some decoders make nothing of such a number.
    #[error(
        "it has a number that is longer than {MAX_NUMBER} characters, or larger than any double"
    )]
    Number,
}

/// The text as every decoder reads it; `json` is JSON. Half a pair of surrogates, which is no
/// character, becomes U+FFFD, as in a browser's `toWellFormed`.
///
/// # Errors
/// [`NotPortable`] for what nothing can be put in place of.
pub fn portable(json: &str) -> Result<Cow<'_, str>, NotPortable> {
    let bytes = json.as_bytes();
    let mut out = String::new();
    let (mut at, mut copied, mut depth) = (0, 0, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = string(json, at + 1, &mut out, &mut copied);
                continue;
            }
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(NotPortable::Depth);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'-' | b'0'..=b'9' => {
                let len = bytes[at..].iter().take_while(|byte| {
                    matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')
                });
                let len = len.count();
                let value: Option<f64> = json[at..at + len].parse().ok();
                if len > MAX_NUMBER || !value.is_some_and(f64::is_finite) {
                    return Err(NotPortable::Number);
                }
                at += len;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    if copied == 0 {
        return Ok(Cow::Borrowed(json));
    }
    out.push_str(&json[copied..]);
    Ok(Cow::Owned(out))
}

/// Passes a string from after its first quote, and says where what follows it stands. Parts that must be replaced
/// are, in `out`, together with all of `json` from `copied` on to there.
fn string(json: &str, mut at: usize, out: &mut String, copied: &mut usize) -> usize {
    let bytes = json.as_bytes();
    loop {
        let Some(found) = memchr::memchr2(b'"', b'\\', &bytes[at..]) else {
            return bytes.len();
        };
        at += found;
        if bytes[at] == b'"' {
            return at + 1;
        }
        let Some(first) = unit(bytes, at) else {
            at += 2;
            continue;
        };
        let is_high = (0xd800..0xdc00).contains(&first);
        let is_low = (0xdc00..0xe000).contains(&first);
        let follows = || unit(bytes, at + 6).is_some_and(|next| (0xdc00..0xe000).contains(&next));
        if is_high && follows() {
            at += 12;
            continue;
        }
        if is_high || is_low {
            out.push_str(&json[*copied..at]);
            out.push_str(REPLACEMENT);
            *copied = at + 6;
        }
        at += 6;
    }
}

/// The UTF-16 unit that the escape at `at` stands for, if it is one of that kind.
fn unit(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn half_a_pair_is_replaced_and_nothing_else() {
        for (given, gives) in [
            (r#"{"a":"\ud83d\ude00 ok"}"#, None),
            (
                r#"{"a":"\\ud83d \\\ud83d","b":1}"#,
                Some(r#"{"a":"\\ud83d \\\ufffd","b":1}"#),
            ),
            (
                r#"["\uD800\ud801\udc00"]"#,
                Some(r#"["\ufffd\ud801\udc00"]"#),
            ),
            (r#"["\udc00\ud800"]"#, Some(r#"["\ufffd\ufffd"]"#)),
            (
                r#"["\ud800",{"\udfff":2}]"#,
                Some(r#"["\ufffd",{"\ufffd":2}]"#),
            ),
        ] {
            let portable = portable(given).expect(given);
            assert_eq!(portable, gives.unwrap_or(given));
            serde_json::from_str::<Value>(&portable).expect("any decoder");
        }
    }

    #[test]
    fn what_is_too_deep_or_too_large_is_refused() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(portable(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(portable(&nested(MAX_DEPTH + 1)), Err(NotPortable::Depth));
        // Brackets in a text are text, and what has ended is not around what follows.
        assert!(portable(&format!("[\"{}\"]", "[".repeat(500))).is_ok());
        assert!(portable(&format!("[{}0]", "[],".repeat(500))).is_ok());
        assert_eq!(portable("[1e999]"), Err(NotPortable::Number));
        assert_eq!(portable(r#"{"a":-1E+400}"#), Err(NotPortable::Number));
        assert_eq!(portable(&"9".repeat(1001)), Err(NotPortable::Number));
        assert!(portable(&"9".repeat(300)).is_ok());
        assert!(portable(r#"["1e999",1e-999,0.1,-0]"#).is_ok());
    }

    proptest! {
        #[test]
        fn what_comes_out_is_what_serde_reads(text in "[\\[\\]{}:,\"\\\\0-9eE.dDuF8c ]{0,24}") {
            let json = format!("[\"{}\"]", text.replace('"', ""));
            if serde_json::from_str::<&serde_json::value::RawValue>(&json).is_ok() {
                let out = portable(&json).expect("nothing but a text");
                let read: Result<Value, _> = serde_json::from_str(&out);
                prop_assert!(read.is_ok(), "{out}");
                // And is as it was, if it could be read before.
                if let Ok(before) = serde_json::from_str::<Value>(&json) {
                    prop_assert_eq!(read.expect("read"), before);
                }
            }
        }
    }
}
