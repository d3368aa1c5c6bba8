//! Reads the id off a message that is too long to keep, as its bytes pass by.
//!
//! ```text
//! Start -{-> Key -"-> InKey -"-> Colon -:-> Value -> InString | InScalar | Nested -> After -,-> Key
//!   any byte that cannot stand in a JSON object there -> Dead       After -}-> Done
//! ```
//!
//! A caller whose answer was dropped for its length can then be told so, instead of waiting for
//! its deadline. The scanner holds a few hundred bytes however long the message is. It is not a
//! validator: of broken JSON it reports what it saw.

/// Longest id that is kept, in bytes of raw JSON with its quotes.
pub const MAX_ID_LEN: usize = 128;

/// Longest raw key worth decoding: `"method"` with every letter written as `\u006d` and so on.
const MAX_KEY_LEN: usize = 2 + 6 * 6;

/// What a message said of itself at its top level.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scanned {
    /// Raw JSON of the member `id` if it was a string, number or literal of at most
    /// [`MAX_ID_LEN`] bytes. The last one counts if there are several.
    pub id: Option<String>,
    /// Whether there was a member `method`: then it was a request or notification.
    pub has_method: bool,
}

/// A streaming scanner of one JSON object; see the module's diagram.
#[derive(Debug, Default)]
pub struct IdScanner {
    state: State,
    /// The byte before was an unpaired backslash inside a string.
    escaped: bool,
    /// The value being passed is that of `id`.
    at_id: bool,
    /// Raw text of the key or id being read; `None` once it outgrew its limit.
    kept: Option<Vec<u8>>,
    found: Scanned,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Start,
    Key,
    InKey,
    Colon,
    Value,
    InString,
    InScalar,
    Nested {
        depth: u64,
        in_string: bool,
    },
    After,
    Done,
    Dead,
}

impl IdScanner {
    /// A scanner before the first byte of a message.
    pub fn new() -> Self {
        Self::default()
    }

    /// Passes the next bytes of the message; where it is cut makes no difference.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.state {
                State::Done | State::Dead => return,
                State::InKey | State::InString => bytes = self.string(bytes),
                State::Nested { depth, in_string } => bytes = self.nested(depth, in_string, bytes),
                State::InScalar if !ends_scalar(byte) => {
                    self.keep(&[byte], MAX_ID_LEN);
                    bytes = rest;
                }
                // The byte that ends a scalar belongs to what follows it: not consumed here.
                State::InScalar => self.value_ends(),
                _ => {
                    self.between(byte);
                    bytes = rest;
                }
            }
        }
    }

    /// What was seen so far; the whole truth after the last byte.
    pub fn finish(self) -> Scanned {
        self.found
    }

    /// One byte between the tokens of the top level.
    fn between(&mut self, byte: u8) {
        if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            return;
        }
        self.state = match (self.state, byte) {
            (State::Start, b'{') | (State::After, b',') => State::Key,
            (State::Key, b'"') => {
                self.kept = Some(vec![b'"']);
                State::InKey
            }
            (State::Key | State::After, b'}') => State::Done,
            (State::Colon, b':') => State::Value,
            (State::Value, b'{' | b'[') => {
                if self.at_id {
                    self.found.id = None;
                }
                State::Nested {
                    depth: 1,
                    in_string: false,
                }
            }
            (State::Value, _) if !ends_scalar(byte) => {
                self.kept = self.at_id.then(|| vec![byte]);
                if byte == b'"' {
                    State::InString
                } else {
                    State::InScalar
                }
            }
            _ => State::Dead,
        };
    }

    /// Passes string content up to and including the closing quote; returns what is left.
    fn string<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let (taken, closed) = self.string_end(bytes);
        let (inside, rest) = bytes.split_at(taken);
        let limit = if self.state == State::InKey {
            MAX_KEY_LEN
        } else {
            MAX_ID_LEN
        };
        self.keep(inside, limit);
        if closed && self.state == State::InKey {
            self.key_ends();
        } else if closed {
            self.value_ends();
        }
        rest
    }

    /// Passes bytes inside a nested object or array; returns what is left.
    fn nested<'b>(&mut self, depth: u64, in_string: bool, bytes: &'b [u8]) -> &'b [u8] {
        if in_string {
            let (taken, closed) = self.string_end(bytes);
            if closed {
                self.state = State::Nested {
                    depth,
                    in_string: false,
                };
            }
            return &bytes[taken..];
        }
        let mut depth = depth;
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                b'"' => {
                    self.state = State::Nested {
                        depth,
                        in_string: true,
                    };
                    return &bytes[at + 1..];
                }
                _ => {}
            }
            if depth == 0 {
                self.state = State::After;
                return &bytes[at + 1..];
            }
        }
        self.state = State::Nested {
            depth,
            in_string: false,
        };
        &[]
    }

    /// How many of `bytes` belong to the string they are in, and whether its closing quote is among them.
    fn string_end(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut at = 0;
        loop {
            if std::mem::take(&mut self.escaped) {
                at += 1;
            }
            match memchr::memchr2(b'"', b'\\', &bytes[at..]) {
                None => return (bytes.len(), false),
                Some(offset) if bytes[at + offset] == b'"' => return (at + offset + 1, true),
                Some(offset) => {
                    at += offset + 1;
                    self.escaped = true;
                    if at == bytes.len() {
                        return (at, false);
                    }
                }
            }
        }
    }

    fn keep(&mut self, bytes: &[u8], limit: usize) {
        self.kept = self.kept.take().and_then(|mut kept| {
            (kept.len() + bytes.len() <= limit).then(|| {
                kept.extend_from_slice(bytes);
                kept
            })
        });
    }

    fn key_ends(&mut self) {
        let key: Option<String> = self
            .kept
            .take()
            .and_then(|raw| serde_json::from_slice(&raw).ok());
        self.at_id = key.as_deref() == Some("id");
        self.found.has_method |= key.as_deref() == Some("method");
        self.state = State::Colon;
    }

    fn value_ends(&mut self) {
        if std::mem::take(&mut self.at_id) {
            self.found.id = self
                .kept
                .take()
                .and_then(|raw| String::from_utf8(raw).ok())
                .filter(|raw| serde_json::from_str::<serde::de::IgnoredAny>(raw).is_ok());
        }
        self.kept = None;
        self.state = State::After;
    }
}

/// Whether `byte` cannot be part of a number or literal.
fn ends_scalar(byte: u8) -> bool {
    matches!(
        byte,
        b',' | b'}' | b']' | b':' | b' ' | b'\t' | b'\r' | b'\n'
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn scan<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Scanned {
        let mut scanner = IdScanner::new();
        chunks.into_iter().for_each(|chunk| scanner.feed(chunk));
        scanner.finish()
    }

    #[track_caller]
    fn check(text: &str, id: Option<&str>, has_method: bool) {
        let want = Scanned {
            id: id.map(str::to_owned),
            has_method,
        };
        assert_eq!(scan([text.as_bytes()]), want, "whole: {text}");
        assert_eq!(scan(text.as_bytes().chunks(1)), want, "by bytes: {text}");
    }

    #[test]
    fn only_the_top_level_counts() {
        check(
            r#"{"result":{"id":1,"method":"x"},"id":2}"#,
            Some("2"),
            false,
        );
        check(r#"{"params":[{"id":"]}"}],"method":"x"}"#, None, true);
        check(r#"[{"id":1,"method":"x"}]"#, None, false);
    }

    #[test]
    fn escapes_hide_neither_keys_nor_quotes() {
        check(r#"{"a\"":"\\","id":"q\"\\"}"#, Some(r#""q\"\\""#), false);
        check(
            r#"{"\u0069\u0064":7,"\u006d\u0065\u0074\u0068\u006f\u0064":""}"#,
            Some("7"),
            true,
        );
    }

    #[test]
    fn an_id_that_is_too_long_or_no_scalar_is_not_reported() {
        let just = format!("\"{}\"", "x".repeat(MAX_ID_LEN - 2));
        check(&format!("{{\"id\":{just}}}"), Some(&just), false);
        let over = format!("\"{}\"", "x".repeat(MAX_ID_LEN - 1));
        check(&format!("{{\"id\":{over}}}"), None, false);
        check(r#"{"id":{"a":1}}"#, None, false);
        check(r#"{"id":1x}"#, None, false);
    }

    #[test]
    fn broken_text_is_survived() {
        for text in [
            "",
            "}",
            "{]",
            r#"{"id""#,
            "\u{0}",
            r#"{"id":,"method":1}"#,
            "{\"id\":\"\\",
        ] {
            check(text, None, false);
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z\"\\\\\n{}\\[\\],:é]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let key = prop_oneof![Just("id".to_owned()), Just("method".to_owned()), ".{0,4}"];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key, inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_a_parser(value in json(), pretty: bool, cut in 1..9usize) {
            let text = if pretty {
                serde_json::to_string_pretty(&value).expect("serialises")
            } else {
                value.to_string()
            };
            let id = value.get("id").filter(|id| !id.is_object() && !id.is_array());
            let want = Scanned {
                id: id.map(Value::to_string),
                has_method: value.is_object() && value.get("method").is_some(),
            };
            prop_assert_eq!(scan([text.as_bytes()]), want.clone());
            prop_assert_eq!(scan(text.as_bytes().chunks(cut)), want);
        }

        #[test]
        fn any_bytes_at_any_cut_give_the_same(bytes: Vec<u8>, cut in 1..9usize) {
            let mut text = b"{\"id\":".to_vec();
            text.extend(bytes);
            prop_assert_eq!(scan([&text[..]]), scan(text.chunks(cut)));
        }
    }
}
