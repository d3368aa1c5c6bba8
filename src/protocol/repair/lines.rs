//! Messages that a worker writes over several lines, as for people, put together again.
//!
//! ```text
//! Apart ── a line that opens more than it closes, and cannot be whole ──▶ Joining
//! Joining ── all is closed ──▶ Apart: the whole is one line
//!         ── a message on a line of its own, too long, nothing for a while ──▶ Apart: what is there is judged as it is, or
//!            line by line where it names no request and a line of it says more
//! ```
//!
//! Whatever came before, a line that is a message by itself is taken.
//!
//! Pure: it knows no clock. Whoever reads the lines says when nothing has come for a while ([`MessageLines::give_up`]).
//! It holds at most [`MAX_JOINED`] bytes.

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use super::{Broken, Flaw, Line, Says};

/// Most bytes of a message over several lines; what is longer is judged as far as it goes.
pub const MAX_JOINED: usize = 256 << 10;

/// A line to be judged, or what was put together of several.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Joined {
    /// Its text, without the line break at its end.
    pub text: Bytes,
    /// How many lines of the worker it was.
    pub lines: u64,
}

impl Joined {
    fn one(text: Bytes) -> Self {
        Self { text, lines: 1 }
    }
}

/// Puts lines together that are one message.
#[derive(Debug, Default)]
pub struct MessageLines {
    text: Vec<u8>,
    lines: u64,
    /// Brackets that are open.
    depth: usize,
    /// Lines of messages over several lines, of all there were.
    heard: u64,
}

impl MessageLines {
    /// Whether a message has begun that has not ended.
    pub fn is_joining(&self) -> bool {
        self.lines > 0
    }

    /// Lines that were kept for a while, of all messages so far: where they do not grow, nothing came.
    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// The next line; what is to be judged now, in order. Nothing while a message goes on.
    pub fn line(&mut self, line: Bytes) -> SmallVec<[Joined; 2]> {
        let mut told = SmallVec::new();
        if !self.is_joining() {
            if !may_go_on(&line) {
                told.push(Joined::one(line));
                return told;
            }
        } else if is_message(&line) || self.text.len() + line.len() >= MAX_JOINED {
            told.extend(self.give_up());
            told.push(Joined::one(line));
            return told;
        }
        self.depth = depth_after(self.depth, &line);
        if self.lines > 0 {
            self.text.push(b'\n');
        }
        self.text.extend_from_slice(&line);
        self.lines += 1;
        self.heard += 1;
        if self.depth == 0 {
            told.extend(self.taken());
        }
        told
    }

    /// What is there of a message that does not go on.
    pub fn give_up(&mut self) -> SmallVec<[Joined; 2]> {
        let Some(whole) = self.taken() else {
            return SmallVec::new();
        };
        let line_of = |line: &[u8]| Joined::one(whole.text.slice_ref(line));
        let lines = || whole.text.split(|byte| *byte == b'\n');
        let says_more = |line: &[u8]| !matches!(Line::of(line), Line::Log);
        match whole.lines > 1 && names_nobody(&whole.text) && lines().any(says_more) {
            true => lines().map(line_of).collect(),
            false => smallvec![whole],
        }
    }

    fn taken(&mut self) -> Option<Joined> {
        self.depth = 0;
        let text = std::mem::take(&mut self.text).into();
        let lines = std::mem::take(&mut self.lines);
        (lines > 0).then_some(Joined { text, lines })
    }
}

/// Whether a line is the first of several: it begins with a bracket, ends where nothing whole does, and is not closed.
fn may_go_on(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    // One that ends so is whole, or broken: most are looked at no further.
    let ends_open = matches!(line, [b'{' | b'[', .., b'{' | b'[' | b','] | [b'{' | b'[']);
    ends_open && line.len() < MAX_JOINED && depth_after(0, line) > 0
}

/// A message of its own, which is no part of another: nothing else is on its line.
fn is_message(line: &[u8]) -> bool {
    let text = line.trim_ascii_start();
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    matches!(text, [b'{' | b'[', ..])
        && memchr::memmem::find(line, b"jsonrpc").is_some()
        && match Line::of(line) {
            Line::Message(_) => true,
            Line::Mended(mended) => !mended.flaws.contains(&Flaw::Surrounded),
            Line::Broken(_) | Line::Log => false,
        }
}

/// Whether nobody is told of a text that is judged as it is.
fn names_nobody(text: &[u8]) -> bool {
    match Line::of(text) {
        Line::Log => true,
        Line::Broken(Broken { says, ids, .. }) => says == Says::Answers && ids.is_empty(),
        Line::Message(_) | Line::Mended(_) => false,
    }
}

/// How many brackets are open after a line. A string ends with its line at the latest.
fn depth_after(mut depth: usize, line: &[u8]) -> usize {
    let (mut quote, mut is_escaped, mut before) = (None, false, b',');
    for &byte in line {
        match (quote, byte) {
            _ if std::mem::take(&mut is_escaped) => {}
            (Some(_), b'\\') => is_escaped = true,
            (Some(open), _) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, b'"') => quote = Some(byte),
            // An apostrophe is no quote.
            (None, b'\'' | b'`') if matches!(before, b'{' | b'[' | b'(' | b',' | b':') => {
                quote = Some(byte);
            }
            (None, b'{' | b'[') => depth += 1,
            (None, b'}' | b']') => depth = depth.saturating_sub(1),
            (None, _) => {}
        }
        if !byte.is_ascii_whitespace() {
            before = byte;
        }
    }
    depth
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn feed(lines: &mut MessageLines, text: &str) -> Vec<(String, u64)> {
        let told = text
            .lines()
            .flat_map(|line| lines.line(line.to_owned().into()));
        shown(told)
    }

    fn shown(told: impl IntoIterator<Item = Joined>) -> Vec<(String, u64)> {
        let text = |it: &Joined| String::from_utf8(it.text.to_vec()).expect("UTF-8");
        told.into_iter().map(|it| (text(&it), it.lines)).collect()
    }

    /// Ways to write the answer to 7 on a line of its own.
    const ANSWERS: [&str; 6] = [
        r#"{"jsonrpc":"2.0","id":7,"result":{}}"#,
        r#"  { "id": 7, "result": {"x": {"y": [1]}}, "jsonrpc": "2.0" }"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{},"error":null}"#,
        r#"{"jsonrpc":"1.0","id":7.0,"result":{"x":NaN}}"#,
        "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{}}",
        r#"[{"jsonrpc":"2.0","id":7,"result":{}}]"#,
    ];

    #[test]
    fn a_message_is_taken_whatever_was_begun_before_it() {
        for answer in ANSWERS {
            for before in [
                r#"{"a": {"#,
                "[1,",
                "{",
                r#"{"jsonrpc":"2.0","id":9,"result":{"#,
            ] {
                let mut lines = MessageLines::default();
                let told = feed(&mut lines, &format!("{before}\n\"b\": [\n{answer}"));
                assert_eq!(told.last(), Some(&(answer.to_owned(), 1)), "{before}");
                assert!(!lines.is_joining());
            }
        }
    }

    #[test]
    fn a_broken_message_behind_what_never_closes_is_judged_by_itself() {
        let cut = r#"{"jsonrpc":"2.0","id":7,"result":{"cut"#;
        let prompt = r#"> {"jsonrpc":"2.0","id":7,"result":{}}"#;
        for line in [cut, prompt] {
            let mut lines = MessageLines::default();
            assert_eq!(feed(&mut lines, &format!("{{\"a\": {{\n{line}")), []);
            let told = shown(lines.give_up());
            assert_eq!(told, [("{\"a\": {".to_owned(), 1), (line.to_owned(), 1)]);
        }
        // What says who is meant is one.
        let mut lines = MessageLines::default();
        let text = "{\n\"jsonrpc\": \"2.0\",\n\"id\": 7,\n\"result\": {";
        assert_eq!(feed(&mut lines, text), []);
        assert_eq!(shown(lines.give_up()), [(text.to_owned(), 4)]);
    }

    #[test]
    fn a_message_over_several_lines_is_one() {
        let value =
            json!({"jsonrpc": "2.0", "id": 7, "result": {"a": ["}", "it's", "\"["], "b": {}}});
        let pretty = serde_json::to_string_pretty(&value).expect("serialises");
        let mut lines = MessageLines::default();
        let told = feed(&mut lines, &format!("ready\n{pretty}\nbye"));
        let [(ready, 1), (whole, count), (bye, 1)] = &told[..] else {
            panic!("{told:?}")
        };
        assert_eq!((&**ready, whole, &**bye), ("ready", &pretty, "bye"));
        assert_eq!(*count, pretty.lines().count() as u64);
        let python =
            "{'jsonrpc': '2.0',\n 'id': 7,\n 'result': {'text': 'it\\'s {',\n            'x': []}}";
        let told = feed(&mut lines, python);
        assert_eq!(told, [(python.to_owned(), 4)]);
        assert!(!lines.is_joining());
    }

    #[test]
    fn what_does_not_go_on_takes_nothing_with_it() {
        let answer = r#"{"jsonrpc":"2.0","id":7,"result":{}}"#;
        let mut lines = MessageLines::default();
        let told = feed(
            &mut lines,
            &format!("{{\n  \"jsonrpc\": \"2.0\",\n{answer}\n{answer}"),
        );
        assert_eq!(
            told,
            [
                ("{\n  \"jsonrpc\": \"2.0\",".to_owned(), 2),
                (answer.to_owned(), 1),
                (answer.to_owned(), 1)
            ]
        );
        // What is cut off or whole is judged at once.
        for line in [
            answer,
            "[INFO] ready,",
            "{ x }",
            r#"{"jsonrpc":"2.0","id":7"#,
            "function() {",
        ] {
            let told = feed(&mut lines, line);
            assert_eq!(told, [(line.to_owned(), 1)]);
        }
        assert!(feed(&mut lines, "{\n").is_empty() && lines.is_joining());
        let part = "x".repeat(1000);
        let mut held = 0;
        while lines.is_joining() {
            feed(&mut lines, &part);
            held += part.len();
        }
        assert!(held <= MAX_JOINED + 2 * part.len(), "{held}");
    }

    proptest! {
        /// Any lines before a message do not take it with them.
        #[test]
        fn no_garbage_takes_a_message_with_it(
            before in prop::collection::vec(prop_oneof![
                "(\\{|\\}|\\[|\\]|\"|'|,|:|a|\\\\|\"jsonrpc\"|\"id\":7|\"result\":| ){0,12}",
                "[^\\n\\r]{0,20}",
            ], 0..5),
            answer in prop::sample::select(&ANSWERS[..]),
        ) {
            let mut lines = MessageLines::default();
            let text = format!("{}\n{answer}", before.join("\n"));
            let told = feed(&mut lines, &text);
            prop_assert_eq!(told.last(), Some(&(answer.to_owned(), 1)));
        }

        /// Each line comes out once, in order, whatever comes between.
        #[test]
        fn nothing_is_lost(text in "((\\{|\\}|\\[|\\]|\"|'|,|:|a|\\\\)|\n){0,60}") {
            let mut lines = MessageLines::default();
            let mut told: Vec<_> = feed(&mut lines, &text);
            told.extend(shown(lines.give_up()));
            let given: Vec<&str> = text.lines().collect();
            let counted: u64 = told.iter().map(|(_, lines)| lines).sum();
            prop_assert_eq!(counted, given.len() as u64);
            let all: Vec<_> = told.into_iter().map(|(text, _)| text).collect();
            prop_assert_eq!(all.join("\n"), given.join("\n"));
        }

        #[test]
        fn what_is_printed_for_people_is_put_together(words in prop::collection::vec("[a-z\"'\\\\\\{\\}\\[\\],: ]{0,8}", 0..6)) {
            let value = json!({"jsonrpc": "2.0", "id": 7, "result": {"words": words, "n": {"x": words.len()}}});
            let pretty = serde_json::to_string_pretty(&value).expect("serialises");
            let mut lines = MessageLines::default();
            let told = feed(&mut lines, &pretty);
            prop_assert_eq!(told, vec![(pretty.clone(), pretty.lines().count() as u64)]);
        }
    }
}
