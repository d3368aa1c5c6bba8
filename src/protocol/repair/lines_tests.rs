//! What lines of a worker are put together to.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Most bytes of a message that are kept.
const MAX: usize = 1 << 20;

fn feed(lines: &mut MessageLines, text: &str) -> Vec<(String, u64)> {
    let told = text
        .lines()
        .flat_map(|line| lines.line(line.to_owned().into()));
    shown(told)
}

fn shown(told: impl IntoIterator<Item = Joined>) -> Vec<(String, u64)> {
    let text = |it: Joined| match it {
        Joined::Text { text, lines } => (String::from_utf8(text.to_vec()).expect("UTF-8"), lines),
        Joined::TooLong {
            len,
            lines,
            message,
        } => {
            let ids = message.map(|it| it.ids.join(" "));
            (format!("too long: {len} bytes, {ids:?}"), lines)
        }
    };
    told.into_iter().map(text).collect()
}

/// Ways to write the answer to 7 on a line of its own.
const ANSWERS: [&str; 7] = [
    r#"{"jsonrpc":"2.0","id":7,"result":{}}"#,
    r#"  { "id": 7, "result": {"x": {"y": [1]}}, "jsonrpc": "2.0" }"#,
    r#"{"jsonrpc":"2.0","id":7,"result":{},"error":null}"#,
    r#"{"jsonrpc":"1.0","id":7.0,"result":{"x":NaN}}"#,
    "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{}}",
    r#"[{"jsonrpc":"2.0","id":7,"result":{}}]"#,
    r#"> {"jsonrpc":"2.0","id":7,"result":{}}"#,
];

/// Ways to write the answer to 7 over several lines.
const PRINTED: [&str; 7] = [
    "{\n  \"jsonrpc\": \"2.0\",\n  \"id\": 7,\n  \"result\": {\n    \"content\": [\n      {}\n    ]\n  }\n}",
    "{\n\"result\":\n{\n\"content\":\n[\n{\n}\n]\n}\n,\"jsonrpc\":\"2.0\",\n\"id\":7}",
    "{\"jsonrpc\":\"2.0\"\n,\"id\":7\n,\"result\":{\"content\":[]}}",
    "{ \"jsonrpc\": \"2.0\"\n, \"id\": 7\n, \"result\":\n  { \"content\": []\n  }\n}",
    "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":\n{\"content\":[]}}",
    "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"content\":[]}\n}",
    "> {\n\"jsonrpc\": \"2.0\",\n\"id\": 7,\n\"result\": {}\n}",
];

/// What stands before a message and never closes.
const BROKEN: [&str; 6] = [
    "{\"a\": 1,",
    "{",
    "{\"a\": {\n\"b\": 2,",
    "{\"a\": [",
    "[\n1,",
    "{\"jsonrpc\":\"2.0\",\"id\":9,\"result\":{\"x\": [",
];

fn is_answer(text: &str) -> bool {
    match Line::of(text.as_bytes()) {
        Line::Message(_) => true,
        Line::Mended(mended) => mended.messages.len() == 1,
        Line::Broken(_) | Line::Log => false,
    }
}

#[test]
fn what_is_printed_in_any_style_is_one() {
    for printed in PRINTED {
        let mut lines = MessageLines::new(MAX);
        let count = printed.lines().count() as u64;
        assert_eq!(feed(&mut lines, printed), [(printed.to_owned(), count)]);
        assert!(is_answer(printed) && !lines.is_joining(), "{printed}");
    }
}

#[test]
fn a_printed_message_behind_what_never_closes_is_taken() {
    for before in BROKEN {
        for printed in [PRINTED[0], PRINTED[1]] {
            let mut lines = MessageLines::new(MAX);
            let mut told = feed(&mut lines, &format!("{before}\n{printed}"));
            told.extend(shown(lines.give_up()));
            let (last, _) = told.last().expect("it is told");
            assert_eq!(last, printed, "{before}");
        }
    }
    // Nor does the next one have to wait for it.
    let mut lines = MessageLines::new(MAX);
    let two = format!("{}\n{}\n{}", BROKEN[5], PRINTED[0], PRINTED[0]);
    let told = feed(&mut lines, &two);
    assert!(told.iter().any(|(text, _)| text == PRINTED[0]), "{told:?}");
    assert_eq!(feed(&mut lines, "ready").len(), 1);
    // An item of an answer's result is none by itself.
    let nested = "{\n\"jsonrpc\": \"2.0\",\n\"id\": 9,\n\"result\": {\n\"items\": [\n{\n\"jsonrpc\": \"2.0\",\n\"id\": 7,\n\"result\": {}\n}\n]\n}\n}";
    let told = feed(&mut MessageLines::new(MAX), nested);
    assert_eq!(told, [(nested.to_owned(), nested.lines().count() as u64)]);
}

#[test]
fn what_may_be_cut_off_is_joined_with_what_goes_on_alone() {
    let begun = "{\"jsonrpc\":\"2.0\",\"id\":7";
    let mut lines = MessageLines::new(MAX);
    assert_eq!(feed(&mut lines, begun), []);
    assert!(lines.is_doubtful());
    assert_eq!(
        feed(&mut lines, "ready"),
        [(begun.to_owned(), 1), ("ready".to_owned(), 1)]
    );
    assert_eq!(feed(&mut lines, &format!("{begun}\n,\"result\":{{")), []);
    assert!(lines.is_joining() && !lines.is_doubtful());
    // A record of a log between the lines is no beginning.
    let mut lines = MessageLines::new(MAX);
    let split = "{\n\"jsonrpc\": \"2.0\",\n{\"level\":\"info\"}\n\"id\": 7,\n\"result\": {}\n}";
    assert_eq!(feed(&mut lines, split).len(), 1);
}

#[test]
fn a_message_is_taken_whatever_was_begun_before_it() {
    for answer in ANSWERS {
        for before in [
            r#"{"a": {"#,
            "[1,",
            "{",
            r#"{"jsonrpc":"2.0","id":9,"result":{"#,
        ] {
            let mut lines = MessageLines::new(MAX);
            let told = feed(&mut lines, &format!("{before}\n\"b\": [\n{answer}"));
            assert_eq!(told.last(), Some(&(answer.to_owned(), 1)), "{before}");
            assert!(!lines.is_joining());
        }
    }
}

#[test]
fn a_broken_message_behind_what_never_closes_is_judged_by_itself() {
    let cut = r#"{"jsonrpc":"2.0","id":7,"result":{"cut"#;
    let mut lines = MessageLines::new(MAX);
    assert_eq!(feed(&mut lines, &format!("{{\"a\": {{\n{cut}")), []);
    let told = shown(lines.give_up());
    assert_eq!(told, [("{\"a\": {".to_owned(), 1), (cut.to_owned(), 1)]);
    // With something around it, or behind another, it does not wait.
    for line in [
        r#"mcp> {"jsonrpc":"2.0","id":7,"result":{}}"#,
        r#"INFO {"result":{},"jsonrpc":"2.0","id":7}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/x"}{"jsonrpc":"2.0","id":7,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{}} done"#,
    ] {
        let told = feed(&mut lines, &format!("{{\"a\": {{\n{line}"));
        assert_eq!(told, [("{\"a\": {".to_owned(), 1), (line.to_owned(), 1)]);
        assert!(!lines.is_joining(), "{line}");
    }
    // A record over several lines that quotes an answer is one.
    let record = "{\n\"sent\": {\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{}}\n}";
    assert_eq!(feed(&mut lines, record), [(record.to_owned(), 3)]);
    // What says who is meant is one.
    let mut lines = MessageLines::new(MAX);
    let text = "{\n\"jsonrpc\": \"2.0\",\n\"id\": 7,\n\"result\": {";
    assert_eq!(feed(&mut lines, text), []);
    assert_eq!(shown(lines.give_up()), [(text.to_owned(), 4)]);
}

#[test]
fn a_message_over_several_lines_is_one() {
    let value = json!({"jsonrpc": "2.0", "id": 7, "result": {"a": ["}", "it's", "\"["], "b": {}}});
    let pretty = serde_json::to_string_pretty(&value).expect("serialises");
    let mut lines = MessageLines::new(MAX);
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
    let mut lines = MessageLines::new(MAX);
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
    // A line that is cut off or whole is judged at once.
    for line in [
        answer,
        "[INFO] ready,",
        "{ x }",
        r#"{"jsonrpc":"2.0","id":7,"result":{"a":"b"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{"a":"b}"#,
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
    assert!(held <= MAX_UNNAMED + 2 * part.len(), "{held}");
}

/// An answer to 7 of more than that many bytes, its id behind its result.
fn long(bytes: usize) -> String {
    let item = "      {\"type\": \"text\"},\n";
    format!(
        "{{\n  \"jsonrpc\": \"2.0\",\n  \"result\": {{\n    \"content\": [\n{}      {{}}\n    ]\n  }},\n  \"id\": 7\n}}",
        item.repeat(bytes / item.len() + 1)
    )
}

#[test]
fn a_long_message_is_kept_up_to_its_limit_and_judged_as_it_passes_beyond() {
    let mut lines = MessageLines::new(MAX);
    let kept = long(MAX_UNNAMED);
    let count = kept.lines().count() as u64;
    assert_eq!(feed(&mut lines, &kept), [(kept, count)]);
    let passed = long(MAX);
    let len = passed.len();
    let count = passed.lines().count() as u64;
    let verdict = format!("too long: {len} bytes, Some(\"7\")");
    assert_eq!(feed(&mut lines, &passed), [(verdict, count)]);
    assert!(!lines.is_joining());
    // A message that is whole by itself does not wait for it, nor is it waited for without end.
    let begun = passed
        .strip_suffix("\n  },\n  \"id\": 7\n}")
        .expect("its end");
    for end in [None, Some(ANSWERS[0])] {
        assert_eq!(feed(&mut lines, begun), []);
        assert!(lines.kept() == 0 && lines.is_joining());
        let told = match end {
            None => shown(lines.give_up()),
            Some(answer) => feed(&mut lines, answer),
        };
        assert!(told[0].0.starts_with("too long"), "{told:?}");
        let rest: Vec<_> = told[1..].iter().map(|(text, _)| &**text).collect();
        assert_eq!(rest, Vec::from_iter(end));
    }
}

#[test]
fn a_line_that_is_too_long_is_a_part_of_what_is_open() {
    let mut lines = MessageLines::new(MAX);
    assert!(!lines.too_long(5), "nothing is open");
    assert_eq!(
        feed(
            &mut lines,
            "{\n\"jsonrpc\": \"2.0\",\n\"result\": {\n\"x\":"
        ),
        []
    );
    assert!(lines.too_long(2 << 20));
    let told = feed(&mut lines, "},\n\"id\": 7\n}");
    let [(verdict, 8)] = &told[..] else {
        panic!("{told:?}")
    };
    assert!(verdict.ends_with("Some(\"7\")"), "{verdict}");
}

#[test]
fn words_before_a_bracket_begin_what_goes_on_as_a_message_alone() {
    let printed = PRINTED[0];
    for words in ["mcp> ", "[INFO] it's sent: ", "a {} b: "] {
        let text = format!("{words}{printed}");
        let mut lines = MessageLines::new(MAX);
        let count = text.lines().count() as u64;
        assert_eq!(feed(&mut lines, &text), [(text.clone(), count)]);
        assert!(is_answer(&text), "{text}");
    }
    let mut lines = MessageLines::new(MAX);
    for first in ["function() {", "\"result\": {", ", \"a\": {", "a { b }"] {
        let told = feed(&mut lines, &format!("{first}\nready"));
        assert_eq!(told, [(first.to_owned(), 1), ("ready".to_owned(), 1)]);
    }
}

#[test]
fn what_needs_no_line_end_is_told_from_what_does() {
    for printed in PRINTED.into_iter().chain(ANSWERS) {
        let mut lines = MessageLines::new(MAX);
        let (begun, last) = printed.rsplit_once('\n').unwrap_or(("", printed));
        assert_eq!(feed(&mut lines, begun), []);
        assert!(lines.ends_with(last.as_bytes()), "{printed}");
        for len in 1..last.trim_end_matches([']', '}']).len() {
            let piece = last.get(..len).unwrap_or_default();
            assert!(!lines.ends_with(piece.as_bytes()), "{piece}");
        }
    }
    let lines = MessageLines::new(MAX);
    assert!(!lines.ends_with(b"ready {}"), "a log");
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
        let mut lines = MessageLines::new(MAX);
        let text = format!("{}\n{answer}", before.join("\n"));
        let told = feed(&mut lines, &text);
        prop_assert_eq!(told.last(), Some(&(answer.to_owned(), 1)));
    }

    /// A broken line does not take a message that is printed after it with it.
    #[test]
    fn no_open_brace_takes_a_printed_message_with_it(
        before in prop::collection::vec(prop::sample::select(&BROKEN[..]), 1..4),
        printed in prop::sample::select(&PRINTED[..2]),
    ) {
        let mut lines = MessageLines::new(MAX);
        let text = format!("{}\n{printed}", before.join("\n"));
        let told = feed(&mut lines, &text);
        let left = shown(lines.give_up());
        let taken = |(text, _): &(String, u64)| text == printed && is_answer(text);
        prop_assert!(told.iter().chain(&left).any(taken), "{told:?} {left:?}");
    }

    /// A line that is a message as it stands need not be given to [`MessageLines`] where no other has begun.
    #[test]
    fn a_message_as_it_stands_is_whole(
        words in prop::collection::vec("[a-z\"'`\\\\\\{\\}\\[\\],:( ]{0,40}", 0..6),
        space in "[ \t]{0,2}",
        is_last in any::<bool>(),
    ) {
        let result = json!({"words": words, "n": {"x": [words.len()]}});
        let (before, behind) = match is_last {
            true => (String::new(), format!(",{space}\"id\":\"{}\"", words.len())),
            false => (format!("\"id\":7,{space}"), String::new()),
        };
        let line = format!("{space}{{{space}\"jsonrpc\":\"2.0\",{before}\"result\":{result}{behind}{space}}}{space}");
        prop_assert!(Line::message(line.as_bytes()).is_some(), "{line}");
        let mut lines = MessageLines::new(MAX);
        prop_assert_eq!(feed(&mut lines, &line), vec![(line, 1)]);
    }

    /// Each line comes out once, in order, whatever comes between.
    #[test]
    fn nothing_is_lost(text in "((\\{|\\}|\\[|\\]|\"|'|,|:|a|\\\\)|\n){0,60}") {
        let mut lines = MessageLines::new(MAX);
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
        let mut lines = MessageLines::new(MAX);
        let told = feed(&mut lines, &pretty);
        prop_assert_eq!(told, vec![(pretty.clone(), pretty.lines().count() as u64)]);
    }
}
