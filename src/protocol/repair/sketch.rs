//! What a text says of itself, and how one that is no JSON is read for that, as people would: Python's or JavaScript's way to
//! print an object, other separators, quotes too many or too few.
//!
//! ```text
//! {'jsonrpc': '2.0', 'id': 7, 'result': {…}}      {jsonrpc:"2.0",id:7,result:{}}      {"jsonrpc"="2.0";"id"=7;…
//! ```
//!
//! One pass, however broken the text is: names are words that a separator follows, what is nested is told by braces alone,
//! and a quote ends a string where something follows that may follow a string. A sketch is no parsed message: it finds out which request a
//! text may be about, so that a wrong guess is possible, and what is made of it says so.

/// Depths of which notes are kept: beside all braces, and within one.
const DEPTHS: usize = 2;

/// Most ids that are kept of a text: the last ones.
const MAX_IDS: usize = 8;

/// Most digits of an id.
const MAX_DIGITS: usize = 20;

/// Most characters around a number that are taken for its wrapping.
const MAX_WRAPPING: usize = 8;

/// What a text says of itself at one depth, however it was read: the rules go by nothing else
/// ([`Broken::of`](super::broken::Broken::of)).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Sketch {
    /// Numbers under the name `id`, each once, the last one last.
    pub(super) ids: Vec<String>,
    /// Numbers under another spelling of that name, which says less.
    pub(super) near_ids: Vec<String>,
    /// The text has an id that is no number.
    pub(super) has_other_id: bool,
    /// The text says that it is JSON-RPC 2.
    pub(super) has_version: bool,
    /// The text has a `method`.
    pub(super) has_method: bool,
    /// The text has a `result` or an `error`.
    pub(super) has_answer: bool,
    /// The text has names that no message has.
    pub(super) has_others: bool,
}

impl Sketch {
    /// Whether the text is what becomes of a message, and not a log's own record: that may have an `id` and an `error` too.
    pub(super) fn is_of_message(&self) -> bool {
        self.has_version || self.has_answer && self.has_id() && !self.has_others
    }

    /// Whether the text has an id at all, though it may be none that anybody gave.
    pub(super) fn has_id(&self) -> bool {
        !self.ids.is_empty() || self.has_other_id
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Name {
    Version,
    Id,
    /// A name that some take for `id`.
    NearId,
    Method,
    Params,
    Answer,
    Other,
}

impl Name {
    fn of(word: &str) -> Self {
        match word {
            "jsonrpc" => Self::Version,
            "id" => Self::Id,
            "Id" | "ID" => Self::NearId,
            "method" => Self::Method,
            "params" => Self::Params,
            "result" | "error" => Self::Answer,
            _ => Self::Other,
        }
    }
}

/// What a text says at that depth: within one brace (1), or beside all (0).
pub(super) fn sketch(text: &str, depth: usize) -> Sketch {
    let mut walk = Walk {
        text,
        at: 0,
        depth: 0,
        before: Before::Separator,
        unclosed: [[false; 2]; 3],
        is_closed: false,
        is_over: false,
        levels: Default::default(),
    };
    while walk.at < text.len() && !(walk.is_over && depth > 0) {
        walk.step();
    }
    let [beside, within] = walk.levels;
    match depth {
        0 => beside,
        _ => within,
    }
}

/// The number that a raw value is, without quotes, brackets, a sign or zeros around it.
pub fn wrapped_number(raw: &str) -> Option<String> {
    let (number, end) = number_at(raw)?;
    let is_wrapping = |c: char| matches!(c, ']' | ')' | '}' | '"' | '\'' | '`' | ' ');
    raw[end..].chars().all(is_wrapping).then_some(number)
}

/// The number with which a text begins, in any wrapping, and where it ends.
fn number_at(text: &str) -> Option<(String, usize)> {
    let bytes = text.as_bytes();
    let is_wrapping = |byte: &u8| {
        matches!(
            byte,
            b'[' | b'(' | b'"' | b'\'' | b'`' | b'+' | b'-' | b'#' | b' ' | b'\t' | b'\n'
        )
    };
    let start = bytes
        .iter()
        .take(MAX_WRAPPING + 1)
        .position(|byte| !is_wrapping(byte))?;
    let len = bytes[start..]
        .iter()
        .take(MAX_DIGITS + 1)
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or_else(|| bytes.len().min(start + MAX_DIGITS + 1) - start);
    let digits = &text[start..start + len];
    let number: u64 = digits.parse().ok()?;
    let mut end = start + len;
    // Of a double, and of JavaScript's long integers.
    if bytes.get(end) == Some(&b'.') {
        let zeros = bytes[end + 1..].iter().take(MAX_DIGITS);
        end += 1 + zeros.take_while(|byte| **byte == b'0').count();
    } else if bytes.get(end) == Some(&b'n') {
        end += 1;
    }
    let goes_on = |byte: &u8| is_of_word(*byte) || matches!(byte, b'.' | b'-' | b'+');
    let is_whole = !bytes.get(end).is_some_and(goes_on);
    is_whole.then(|| (number.to_string(), end))
}

/// Whether a value begins as what stands for none.
fn is_nothing(value: &str) -> bool {
    let nothing = ["null", "None", "undefined", "nil"];
    nothing.into_iter().any(|it| value.starts_with(it))
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

/// What stands before the place at which a text is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Before {
    /// What begins a member or an item.
    Separator,
    /// What a value follows.
    Colon,
    /// A name or a value.
    Token,
}

struct Walk<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    before: Before,
    /// Quotes, by kind and by whether a value stands in them, that nothing closes from here on.
    unclosed: [[bool; 2]; 3],
    /// The first brace has been closed, though the text goes on as if it had not.
    is_closed: bool,
    /// What follows is something else.
    is_over: bool,
    /// What is said at each depth.
    levels: [Sketch; DEPTHS],
}

impl Walk<'_> {
    fn rest(&self) -> &[u8] {
        &self.text.as_bytes()[self.at..]
    }

    /// Reads the next token.
    fn step(&mut self) {
        let byte = self.rest()[0];
        self.before = match byte {
            b' ' | b'\t' | b'\r' | b'\n' => self.before,
            b'{' => {
                self.depth += 1;
                Before::Separator
            }
            b'}' => {
                self.close();
                Before::Token
            }
            b'[' | b'(' | b',' | b';' => Before::Separator,
            b':' | b'=' => Before::Colon,
            // Of an arrow.
            b'>' if self.before == Before::Colon => Before::Colon,
            b'"' | b'\'' | b'`' if self.before != Before::Token => return self.quote(byte),
            b'\\' => {
                self.at += usize::from(self.rest().get(1).is_some_and(u8::is_ascii));
                Before::Token
            }
            byte if is_of_word(byte) => return self.word(),
            _ => self.before_quote(byte),
        };
        self.at += 1;
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        if self.depth == 0 {
            let goes_on = self.text[self.at + 1..]
                .trim_ascii_start()
                .starts_with([',', ';']);
            self.is_closed |= goes_on;
            self.is_over |= !goes_on;
        }
    }

    /// A quote that begins nothing may still end the string before it.
    fn before_quote(&self, byte: u8) -> Before {
        match byte {
            b'"' | b'\'' | b'`' => self.before,
            _ => Before::Token,
        }
    }

    /// A word: the name of a member if a separator follows.
    fn word(&mut self) {
        let len = self.rest().iter().position(|byte| !is_of_word(*byte));
        let end = len.map_or(self.text.len(), |len| self.at + len);
        let word = &self.text[self.at..end];
        self.at = end;
        let after = self.text[end..].trim_start_matches(['"', '\'', '`']);
        let separators = after.trim_ascii_start();
        let is_quoted = after.len() < self.text.len() - end;
        let name = Name::of(word);
        // A name within a string that nothing closes has escaped quotes, and no separator after it.
        let is_name = separators.starts_with([':', '='])
            || is_quoted && name != Name::Other && is_odd_separator(separators);
        if !is_name || self.before == Before::Colon {
            self.before = Before::Token;
            return;
        }
        self.at = self.text.len() - separators.len();
        self.before = Before::Colon;
        let value = separators.trim_start_matches([':', '=', '>', ';', ',']);
        self.member(name, value);
    }

    /// Notes a member, and passes its id.
    fn member(&mut self, name: Name, value: &str) {
        let id = matches!(name, Name::Id | Name::NearId)
            .then(|| number_at(value))
            .flatten();
        if let Some((_, end)) = &id {
            let after = value[*end..].trim_start_matches([']', ')', '"', '\'', '`']);
            self.at = self.text.len() - after.len();
            self.before = Before::Token;
        }
        // Behind what is closed too early.
        let depth = self.depth.max(usize::from(self.is_closed));
        let Some(level) = self.levels.get_mut(depth) else {
            return;
        };
        match name {
            Name::Version => {
                let value = value.trim_start_matches([' ', '\t', '"', '\'', '`']);
                level.has_version |= value.starts_with('2');
            }
            Name::Method => {
                level.has_method |= !is_nothing(value.trim_ascii_start());
            }
            Name::Answer => level.has_answer = true,
            Name::Params => {}
            Name::Other => level.has_others = true,
            Name::Id => {
                let value = value.trim_ascii_start();
                level.has_other_id |= id.is_none() && !value.is_empty() && !is_nothing(value);
                note(&mut level.ids, id);
            }
            Name::NearId => note(&mut level.near_ids, id),
        }
    }

    /// A string, or a quote that is none's beginning.
    fn quote(&mut self, quote: u8) {
        let is_value = self.before == Before::Colon;
        let start = self.at + 1;
        let bytes = &self.text.as_bytes()[start..];
        let len = bytes.iter().take_while(|byte| is_of_word(**byte)).count();
        let is_name = len > 0 && bytes.get(len) == Some(&quote);
        if is_name && !is_value {
            // A word: what follows its quote tells whether it is a name.
            self.at = start;
            return;
        }
        let Some(end) = self.string_end(start, quote, is_value) else {
            // The text is read on as if the quote were not there.
            self.at = start;
            return;
        };
        let content = &self.text[start..end];
        // A name may have lost its own quote: `"id: 7, "result": {}`.
        let is_name = |name: &str| {
            let after = content.strip_prefix(name);
            after.is_some_and(|after| after.trim_ascii_start().starts_with([':', '=']))
        };
        let names = ["id", "jsonrpc", "result", "error"];
        if !is_value && names.into_iter().any(is_name) {
            self.at = start;
            return;
        }
        self.at = end + 1;
        self.before = Before::Token;
    }

    /// Where a string ends that begins at `start`: at a quote behind which something stands that may follow a string.
    fn string_end(&mut self, start: usize, quote: u8, is_value: bool) -> Option<usize> {
        let kind = match quote {
            b'"' => 0,
            b'\'' => 1,
            _ => 2,
        };
        let unclosed = &mut self.unclosed[kind][usize::from(is_value)];
        if *unclosed {
            return None;
        }
        let bytes = self.text.as_bytes();
        let mut at = start;
        while let Some(offset) = memchr::memchr2(quote, b'\\', &bytes[at..]) {
            at += offset;
            if bytes[at] == b'\\' {
                at += 2;
            } else {
                let next = bytes[at + 1..].iter().find(|it| !it.is_ascii_whitespace());
                let ends = match next {
                    None | Some(b',' | b';' | b'}' | b']' | b')') => true,
                    Some(b':' | b'=') => !is_value,
                    Some(_) => false,
                };
                if ends {
                    return Some(at);
                }
                at += 1;
            }
            if at >= bytes.len() {
                break;
            }
        }
        *unclosed = true;
        None
    }
}

fn note(ids: &mut Vec<String>, id: Option<(String, usize)>) {
    if let Some((id, _)) = id {
        ids.retain(|known| *known != id);
        ids.truncate(MAX_IDS - 1);
        ids.push(id);
    }
}

/// Whether a quoted name is told from its value by something else than what should: `"id";7`, `"id",7` or `"id" 7`.
fn is_odd_separator(after: &str) -> bool {
    after.starts_with(|c: char| matches!(c, ';' | ',') || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_are_found_however_they_are_written() {
        for line in [
            "{'jsonrpc': '2.0', 'id': 7, 'result': {'content': [{'type': 'text', 'text': 'it\\'s {\"id\": 8}'}]}}",
            "{jsonrpc:\"2.0\",id:7,result:{}}",
            "{ jsonrpc: '2.0', id: 7n, result: { id: 8 } }",
            r#"{"jsonrpc"="2.0","id"=7,"result"={}}"#,
            r#"{"jsonrpc":"2.0";"id":7;"result":{}}"#,
            r#"{"jsonrpc";"2.0","id";7,"result";{}}"#,
            r#"{"jsonrpc"=>"2.0","id"=>7,"result"=>{}}"#,
            r#"{"jsonrpc":"2.0","id":"7,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":7","result":{}}"#,
            r#"{"jsonrpc":"2.0","id: 7,"result":{}}"#,
            r#"{"jsonrpc":"2.0",id":7,"result":{}}"#,
            r#"{"jsonrpc":"2.0,"id":7,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":7"#,
            r#"{"jsonrpc":"2.0","id":[7],,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":-7,,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":+7,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":07,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":7.0,,"result":{}}"#,
            r#"{"jsonrpc":"2.0" "id" 7 "result":{}}"#,
            r#"{"jsonrpc":"2.0","x" 7,"id":7,"ID":8}"#,
            r#"{"jsonrpc":"2.0","result":"don't "say" that","id":7,}"#,
            r#""jsonrpc":"2.0","id":7,"result":{}}"#,
            "JSONRPCResponse(jsonrpc='2.0', id=7, result={'content': [{'id': 8}]})",
        ] {
            let found = sketch(line, usize::from(line.starts_with('{')));
            assert_eq!(found.ids, ["7"], "{line}: {found:?}");
            assert!(
                found.has_version && found.is_of_message(),
                "{line}: {found:?}"
            );
            assert!(!found.has_method, "{line}: {found:?}");
        }
    }

    #[test]
    fn a_logs_own_record_is_no_message() {
        for line in [
            "{level: 'error', id: 7, error: 'boom'}",
            "{ x }",
            "jsonrpc server 2.0 is listening",
            "using jsonrpc: yes",
            "[INFO] request id=7 is done",
            "{'id': 7, 'name': 'x'}",
            "{level: 'info', sent: {jsonrpc: '2.0', id: 7, result: {}}}",
            "",
        ] {
            for depth in [0, 1] {
                let found = sketch(line, depth);
                assert!(!found.is_of_message(), "{line}: {found:?}");
            }
        }
        let asked = sketch("{'jsonrpc': '2.0', 'id': 7, 'method': 'ping'}", 1);
        assert!(asked.has_method && !asked.has_answer, "{asked:?}");
        let told = sketch("{'id': 7, 'error': {'code': 1, 'level': 2}}", 1);
        assert!(told.is_of_message() && told.ids == ["7"], "{told:?}");
    }

    #[test]
    fn numbers_are_found_in_their_wrapping() {
        for raw in [
            "7", "[7]", "-7", "\"07\"", "[\"7\"]", "+7", "7.0", "7n", "[ 7 ]",
        ] {
            assert_eq!(wrapped_number(raw).as_deref(), Some("7"), "{raw}");
        }
        for raw in [
            "",
            "x7",
            "7x",
            "7-8",
            "[7,8]",
            "{\"a\":7}",
            "null",
            "7.5",
            "1e3",
            "99999999999999999999999",
        ] {
            assert_eq!(wrapped_number(raw), None, "{raw}");
        }
    }

    #[test]
    fn quotes_that_nothing_closes_cost_no_more_than_a_look() {
        let text = "{\"a\":\"b ".repeat(200_000);
        let start = std::time::Instant::now();
        let _any = sketch(&text, 1);
        let text = "\"x' `".repeat(200_000);
        let _any = sketch(&text, 1);
        assert!(start.elapsed() < std::time::Duration::from_secs(20));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(\\{|\\}|\\[|'|\"|`|\\\\|:|=|,|;|id|jsonrpc|result|2.0|7|é| ){0,24}") {
            let found = sketch(&text, 1);
            for id in found.ids {
                prop_assert!(id.parse::<u64>().is_ok());
            }
        }
    }
}
