//! Reads the ids off a message that is too long to keep, or that is no JSON, as its bytes pass by.
//!
//! ```text
//! Start -{-> Key -"-> InKey -"-> Colon -:-> Value -> InString | InScalar | Nested -> After -,-> Key
//!   before the first brace, any other byte -> Dead       After -}-> Done
//!   from then on, a byte that cannot stand there -> Lost, which goes on with the next comma or string
//! ```
//!
//! A caller whose answer was dropped can then be told so, instead of waiting for its deadline. The scanner holds a few
//! hundred bytes however long the message is. The scanner is no validator: of broken JSON it reports what it saw at the top
//! level, as far as braces and quotes tell what that is.

/// Longest id that is kept, in bytes of raw JSON with its quotes.
pub const MAX_ID_LEN: usize = 128;

/// Longest raw key worth decoding: `"method"` with every letter written as `\u006d` and so on.
const MAX_KEY_LEN: usize = 2 + 6 * 6;

/// Most ids of one message that are kept.
const MAX_IDS: usize = 8;

/// The members that a message had at its top level.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scanned {
    /// Raw JSON of each member `id` that was a string, number or literal of at most [`MAX_ID_LEN`] bytes, the last one
    /// last; each once, and at most 8.
    pub ids: Vec<String>,
    /// Whether there was a member `method` that was not `null`: then it was a request or notification.
    pub has_method: bool,
    /// Whether there was a member `result` or `error`: then it was an answer.
    pub has_answer: bool,
    /// Whether the text ended within a string: a quote too many or too few.
    pub ends_in_string: bool,
}

impl Scanned {
    /// The id, if there was one and no other.
    pub fn only_id(&self) -> Option<&str> {
        match &*self.ids {
            [only] => Some(only),
            _ => None,
        }
    }

    /// The id of a request, if it was one, and its id is one that a request may have: a string or a number.
    pub fn request_id(&self) -> Option<&str> {
        let id = self
            .only_id()
            .filter(|_| self.has_method && !self.has_answer)?;
        matches!(id.as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9')).then_some(id)
    }
}

/// A streaming scanner of one JSON object; see the module's diagram.
#[derive(Debug, Default)]
pub struct IdScanner {
    state: State,
    /// The byte before was an unpaired backslash inside a string.
    escaped: bool,
    /// The value that comes next, or is being passed, is that of `id`.
    at_id: bool,
    /// The value that comes next is that of `method`.
    at_method: bool,
    /// Raw text of the key or id being read; `None` once it outgrew its limit.
    kept: Option<Vec<u8>>,
    /// Something stood where it cannot: a brace may close nothing.
    is_broken: bool,
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
    /// After something that cannot stand there.
    Lost,
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

    /// The members seen so far; all of them after the last byte.
    pub fn finish(mut self) -> Scanned {
        self.found.ends_in_string = match self.state {
            State::InKey | State::InString => true,
            State::Nested { in_string, .. } => in_string,
            _ => false,
        };
        self.found
    }

    /// One byte between the tokens of the top level.
    fn between(&mut self, byte: u8) {
        if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            return;
        }
        if self.state == State::Value {
            self.found.has_method |= std::mem::take(&mut self.at_method) && byte != b'n';
        }
        self.state = match (self.state, byte) {
            (State::Start, b'{') | (State::After | State::Lost, b',') => State::Key,
            (State::Start, _) => State::Dead,
            // A string after a value: a comma is missing, or it was no value.
            (State::Key | State::After | State::Lost | State::Colon, b'"') => {
                self.is_broken |= self.state != State::Key;
                self.kept = Some(vec![b'"']);
                State::InKey
            }
            (State::Key | State::After, b'}') if !self.is_broken => State::Done,
            (State::Colon, b':') => State::Value,
            (State::Value | State::Lost | State::Colon, b'{' | b'[') => State::Nested {
                depth: 1,
                in_string: false,
            },
            (State::Value, _) if !ends_scalar(byte) => {
                self.kept = self.at_id.then(|| vec![byte]);
                if byte == b'"' {
                    State::InString
                } else {
                    State::InScalar
                }
            }
            _ => {
                self.is_broken = true;
                if byte == b',' {
                    State::Key
                } else {
                    State::Lost
                }
            }
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
                self.at_id = false;
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
        let key = key.as_deref();
        self.at_id = key == Some("id");
        self.at_method = key == Some("method");
        self.found.has_answer |= matches!(key, Some("result" | "error"));
        self.state = State::Colon;
    }

    fn value_ends(&mut self) {
        let kept = self.kept.take();
        if std::mem::take(&mut self.at_id) {
            let text = kept.and_then(|raw| String::from_utf8(raw).ok());
            let is_json = |raw: &String| serde_json::from_str::<serde::de::IgnoredAny>(raw).is_ok();
            if let Some(id) = text.filter(is_json) {
                let ids = &mut self.found.ids;
                ids.retain(|known| *known != id);
                ids.truncate(MAX_IDS - 1);
                ids.push(id);
            }
        }
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
    fn check_all(text: &str, ids: &[&str], has_method: bool) {
        let found = scan([text.as_bytes()]);
        assert_eq!(
            (&found.ids[..], found.has_method),
            (
                &ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>()[..],
                has_method
            ),
            "whole: {text}"
        );
        assert_eq!(scan(text.as_bytes().chunks(1)), found, "by bytes: {text}");
    }

    #[track_caller]
    fn check(text: &str, id: Option<&str>, has_method: bool) {
        check_all(text, id.as_slice(), has_method);
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
        check(r#"{"id":1,"method":null,"result":{}}"#, Some("1"), false);
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
        for text in ["", "}", "{]", r#"{"id""#, "\u{0}", "{\"id\":\"\\"] {
            check(text, None, false);
        }
    }

    #[test]
    fn each_id_is_reported() {
        check_all(r#"{"id":1,"result":{},"id":"a"}"#, &["1", "\"a\""], false);
        check_all(r#"{"id":1,"id":2,"id":1}"#, &["2", "1"], false);
        let many: Vec<String> = (0..20).map(|n| format!("\"id\":{n}")).collect();
        let found = scan([format!("{{{}}}", many.join(",")).as_bytes()]);
        assert_eq!((found.ids.len(), found.only_id()), (MAX_IDS, None));
        assert_eq!(found.ids.last().map(String::as_str), Some("19"));
    }

    #[test]
    fn what_is_broken_does_not_hide_the_id() {
        for text in [
            r#"{"jsonrpc":"2.0","result":tru e,"id":7}"#,
            r#"{"jsonrpc":"2.0" "id":7,"result":{}}"#,
            r#"{"jsonrpc":"2.0",,"id":7,"result":{}}"#,
            r#"{"jsonrpc":"2.0","result":he said "hi" {"id":8},"id":7}"#,
            r#"{"jsonrpc":"2.0","result":"say "hi} now" x","id":7}"#,
            r#"{jsonrpc:"2.0","id":7}"#,
            r#"{"result":,"id":7}"#,
        ] {
            check(text, Some("7"), false);
        }
        // Bytes behind a whole object are not part of it.
        check(r#"{"jsonrpc":"2.0","result":{}},"id":7}"#, None, false);
        let found = scan([&br#"{"result":{"text":"5" tall"},"id":7}"#[..]]);
        assert!(found.has_answer && found.ends_in_string, "{found:?}");
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
            let has = |name| value.is_object() && value.get(name).is_some();
            let want = Scanned {
                ids: id.map(Value::to_string).into_iter().collect(),
                has_method: has("method") && !value["method"].is_null(),
                has_answer: has("result") || has("error"),
                ends_in_string: false,
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
