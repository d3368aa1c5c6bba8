use proptest::prelude::*;

use super::*;

#[track_caller]
fn taken(line: &[u8], flaws: &[Flaw], messages: &[&str]) {
    let shown = String::from_utf8_lossy(line);
    let mended = mended(line).unwrap_or_else(|why| panic!("{shown}: {why:?}"));
    assert_eq!(mended.flaws, flaws, "{shown}");
    assert_eq!(mended.messages, messages, "{shown}");
    assert_eq!(mended.broken, [], "{shown}");
    for message in &mended.messages {
        let envelope = Envelope::parse(message).expect(&shown);
        assert!(envelope.is_exact, "{shown}");
    }
}

/// The verdict on a line of which nothing can be made.
#[track_caller]
fn broken(line: &str) -> Option<Broken> {
    match mended(line.as_bytes()) {
        Ok(mended) => panic!("{line}: {mended:?}"),
        Err(broken) => broken,
    }
}

const ANSWER: &str = r#"{"jsonrpc":"2.0","id":7,"result":{"a":1}}"#;

#[test]
fn what_is_unambiguous_is_taken() {
    use Flaw::*;
    let cases: &[(&[u8], &[Flaw])] = &[
        (ANSWER.as_bytes(), &[]),
        (
            br#" {"id":7,"jsonrpc":"2.0","result":{"a":1},"x":{"id":8}} "#,
            &[],
        ),
        (
            br#"{"jsonrpc":"2.0","id":7,"result":{"a":1},"error":null}"#,
            &[NullMember],
        ),
        (
            br#"{"jsonrpc":"2.0","id":7,"method":null,"result":{"a":1}}"#,
            &[NullMember],
        ),
        (br#"{"id":7,"result":{"a":1}}"#, &[Version]),
        (br#"{"jsonrpc":2.0,"id":7,"result":{"a":1}}"#, &[Version]),
        (
            br#"{"jsonrpc":"1.0","id":7,"result":{"a":1},"more":1}"#,
            &[Version],
        ),
        (
            b"\xef\xbb\xbf{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"a\":1}}",
            &[ByteOrderMark],
        ),
        (
            br#"> {"jsonrpc":"2.0","id":7,"result":{"a":1}}"#,
            &[Surrounded],
        ),
        (
            br#"sending: {"jsonrpc":"2.0","id":7,"result":{"a":1}}"#,
            &[Surrounded],
        ),
        (
            br#"(node:7) Warning: { x } {"jsonrpc":"2.0","id":7,"result":{"a":1}} done"#,
            &[Surrounded],
        ),
        (
            br#"{"jsonrpc":"2.0","id":7,"result":{"a":1},"id":7}"#,
            &[DuplicateMember],
        ),
        (br#"[{"jsonrpc":"2.0","id":7,"result":{"a":1}}]"#, &[Batch]),
        (br#"{"jsonrpc":"2.0","\u0069d":7,"result":{"a":1}}"#, &[]),
    ];
    for (line, flaws) in cases {
        taken(line, flaws, &[ANSWER]);
    }
    let result = |text: &str| format!(r#"{{"jsonrpc":"2.0","id":7,"result":{text}}}"#);
    taken(result("null").as_bytes(), &[Result], &[&result("{}")]);
    let numbers = result(r#"{"x":[NaN,-Infinity,"NaN"],"y":-1}"#);
    let plain = result(r#"{"x":[null,null,"NaN"],"y":-1}"#);
    taken(numbers.as_bytes(), &[NotANumber], &[&plain]);
    let raw = result("{\"x\":\"a\tb\u{1}\"}");
    taken(
        raw.as_bytes(),
        &[ControlCharacter],
        &[&result(r#"{"x":"a\u0009b\u0001"}"#)],
    );
    let mut broken = result(r#"{"x":"?"}"#).into_bytes();
    let at = memchr::memchr(b'?', &broken).expect("there");
    broken[at] = 0xff;
    taken(&broken, &[Encoding], &[&result("{\"x\":\"\u{fffd}\"}")]);
    taken(
        result(r#"{"x":"\ud800"}"#).as_bytes(),
        &[],
        &[&result(r#"{"x":"\ufffd"}"#)],
    );
}

#[test]
fn errors_requests_and_notifications_are_taken_too() {
    use Flaw::*;
    let error = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-1,"message":"m"}}"#;
    let with = |more: &str| error.replace("\"id\":7", &format!("\"id\":7{more}"));
    taken(
        with(r#","result":null"#).as_bytes(),
        &[NullMember],
        &[error],
    );
    let text = br#"{"jsonrpc":"2.0","id":7,"error":"boom"}"#;
    let told = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32603,"message":"boom"}}"#;
    taken(text, &[Error], &[told]);
    let text = br#"{"jsonrpc":"2.0","id":7,"error":{"code":4.0,"data":[1]}}"#;
    let told =
        r#"{"jsonrpc":"2.0","id":7,"error":{"code":4,"data":[1],"message":"unknown error"}}"#;
    taken(text, &[Error], &[told]);
    let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":7,"progress":1}}"#;
    let null = progress.replace(r#""method""#, r#""id":null,"method""#);
    taken(null.as_bytes(), &[NullMember], &[progress]);
    let prompted = format!(">>> {progress}");
    taken(prompted.as_bytes(), &[Surrounded], &[progress]);
    let two = format!("{progress}{ANSWER}");
    taken(two.as_bytes(), &[Surrounded], &[progress, ANSWER]);
    let batch = format!("[{progress}, {ANSWER}]");
    taken(batch.as_bytes(), &[Batch], &[progress, ANSWER]);
    let ping = br#"{"jsonrpc":"2.0","id":"a","method":"ping","params":null,"x":1}"#;
    taken(
        ping,
        &[],
        &[r#"{"jsonrpc":"2.0","id":"a","method":"ping"}"#],
    );
}

#[test]
fn what_is_ambiguous_is_not_and_its_id_is_found() {
    let fault = |line: &str| broken(line).expect(line);
    let cases = [
        (
            r#"{"jsonrpc":"2.0","id":7,"result":{},"error":{"code":1,"message":""}}"#,
            Flaw::ResultAndError,
        ),
        (r#"{"jsonrpc":"2.0","id":7,"result":[1]}"#, Flaw::Result),
        (r#"{"jsonrpc":"2.0","id":7,"result":"ok"}"#, Flaw::Result),
        (
            r#"{"jsonrpc":"2.0","id":7,"result":{},"result":{"a":1}}"#,
            Flaw::DuplicateMember,
        ),
        (
            r#"{"jsonrpc":"2.0","id":6,"id":7,"result":{}}"#,
            Flaw::DuplicateMember,
        ),
        (r#"{"jsonrpc":"2.0","id":7}"#, Flaw::Shape),
        (
            r#"{"jsonrpc":"2.0","id":7,"result":{"cut":"of"#,
            Flaw::Syntax,
        ),
        (
            r#"> {"jsonrpc":"2.0","id":7,"result":{'a':1}}"#,
            Flaw::Syntax,
        ),
    ];
    for (line, flaw) in cases {
        let fault = fault(line);
        assert_eq!(
            (fault.flaw, fault.ids.last().map(String::as_str)),
            (flaw, Some("7")),
            "{line}"
        );
        assert_eq!(fault.says, Says::Answers, "{line}");
    }
    let nobodys = fault(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"m"}}"#);
    assert_eq!((nobodys.flaw, &nobodys.ids[..]), (Flaw::Id, &[][..]));
    assert_eq!(
        nobodys.error.as_deref(),
        Some(r#"{"code":-32700,"message":"m"}"#)
    );
    assert_eq!(nobodys.says, Says::AnswersOneOf);
    let asks = fault(r#"{"jsonrpc":"2.0","id":null,"method":"sampling/createMessage"}"#);
    assert_eq!(asks.says, Says::Asks);
}

#[test]
fn noise_is_noise_and_quotes_are_no_messages() {
    for line in [
        "Listening on stdio",
        "{ }",
        r#"{"level":"info","id":7,"msg":"x"}"#,
        // A log may name what a message has.
        r#"{"level":"error","id":7,"error":"x"}"#,
        r#"{"id":7,"method":"GET","path":"/"}"#,
        "[INFO] ready",
        "[1,2]",
        "{'id':7}",
    ] {
        assert_eq!(broken(line), None, "{line}");
    }
    // A message that the server quotes from what it was sent is no request of its own.
    let quoted = r#"received {"jsonrpc":"2.0","id":7,"method":"tools/call","params":{}}"#;
    assert_eq!(broken(quoted), None);
    // Of what is broken, words before it say that it may be a quote.
    let quoted = r#"log {"jsonrpc":"2.0","id":7,"result":{'a':1}}"#;
    assert_eq!(broken(quoted), None);
}

#[test]
fn each_id_that_a_message_may_be_about_is_found() {
    let fault = |line: &str| broken(line).expect(line);
    for (line, ids) in [
        (
            r#"{"jsonrpc":"2.0","id":6,"id":7,"result":{}}"#,
            &["6", "7"][..],
        ),
        (
            r#"{"jsonrpc":"2.0","id":7,"id":"a","result":{}}"#,
            &["7", "\"a\""],
        ),
        (r#"{"jsonrpc":"2.0","id":7,"id":null,"result":{}}"#, &["7"]),
        (r#"{"jsonrpc":"2.0","ID":7,"result":{}}"#, &["7"]),
        (r#"{"jsonrpc":"2.0","ID":8,"id":7,"result":[]}"#, &["7"]),
        // A message within it is a part of it.
        (
            r#"{"jsonrpc":"2.0","id":7,"result":{"id":8},"id":9}"#,
            &["7", "9"],
        ),
        (r#"{"jsonrpc":"2.0","result":{"id":8},"id":7,}"#, &["7"]),
        (
            r#"{"jsonrpc":"2.0","id":7,"result":{"x":{"jsonrpc":"2.0","id":8,"result":{}}},}"#,
            &["7"],
        ),
        (
            r#"{"jsonrpc":"2.0","result":{"x":{"jsonrpc":"2.0","id":8,"result":{}}},}"#,
            &[],
        ),
        // A quote too many.
        (
            r#"{"jsonrpc":"2.0","result":{"text":"5" tall"},"id":7}"#,
            &["7"],
        ),
        (r#"{"jsonrpc":"2.0","result":{"text":"{\"id\":8}"#, &[]),
        (r#"{"jsonrpc":"2.0","result":tru e,"id":7}"#, &["7"]),
    ] {
        let fault = fault(line);
        assert_eq!(fault.ids, ids, "{line}");
        let names_nobody = fault.ids.is_empty();
        let says = [Says::Answers, Says::AnswersOneOf][usize::from(names_nobody)];
        assert_eq!(fault.says, says, "{line}");
    }
    let both = fault(r#"{"jsonrpc":"2.0","id":7,"method":"ping","result":{}}"#);
    assert_eq!(both.says, Says::AsksAndAnswers, "{both:?}");
}

#[test]
fn what_is_lost_on_a_line_takes_nothing_with_it() {
    let bad = r#"{"jsonrpc":"2.0","id":8,"result":"text"}"#;
    for line in [
        format!("[{ANSWER},{bad}]"),
        format!("[{bad},{ANSWER}]"),
        format!("{ANSWER}{bad}"),
        format!("{ANSWER} {}", &bad[..bad.len() - 4]),
    ] {
        let mended = mended(line.as_bytes()).expect(&line);
        assert_eq!(mended.messages, [ANSWER], "{line}");
        let [lost] = &mended.broken[..] else {
            panic!("{line}: {mended:?}")
        };
        assert_eq!(lost.ids, ["8"], "{line}");
    }
    let only = broken(&format!("[{bad}]")).expect("it is lost");
    assert_eq!(only.ids, ["8"]);
    let both = mended(format!("[{bad},{bad}]").as_bytes()).expect("two");
    assert_eq!((both.messages.len(), both.broken.len()), (0, 2));
}

#[test]
fn the_verdict_on_a_log_is_that_it_is_one() {
    for line in [
        "Listening on stdio",
        r#"{"level":"info","id":7,"msg":"x"}"#,
        r#"{"level":"error","id":7,"error":"x"}"#,
        r#"{"id":7,"method":"GET","path":"/"}"#,
        "[1,2]",
        "",
    ] {
        assert!(matches!(Line::of(line.as_bytes()), Line::Log), "{line}");
    }
    for line in [
        ANSWER,
        r#"{"id":7,"result":{}}"#,
        r#"{"id":7,"\u0072esult":{}}"#,
        r#"{"\u006asonrpc":"2.0","id":7}"#,
        r#"{"method":"notifications/message"}"#,
        r#": {"jsonrpc":"2.0""#,
    ] {
        assert!(!matches!(Line::of(line.as_bytes()), Line::Log), "{line}");
    }
    assert!(matches!(Line::of(ANSWER.as_bytes()), Line::Message(_)));
    // The name is there, and is quoted.
    let quoted = Line::of(br#"quoted: {"jsonrpc":"2.0""#);
    assert!(matches!(quoted, Line::Log), "{quoted:?}");
}

proptest! {
    /// Text that is taken for noise is noise to a reader too.
    #[test]
    fn noise_is_noise_to_who_reads_it(
        line in "(\\{|\\}|\\[|\\]|,|:|\"id\"|\"result\"|\"error\"|\"method\"|\"\\\\u006aso|\"\\\\u0072esult\"|nrpc\"|\"json|7|\\{\\}|\"a\"| ){0,16}",
    ) {
        check(line.as_bytes());
    }

    #[test]
    fn any_line_is_survived_and_what_is_taken_is_exact(line: Vec<u8>) {
        check(&line);
    }

    #[test]
    fn what_was_a_message_is_still_safe(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        inserts in prop::collection::vec((any::<prop::sample::Index>(), "[{}\\[\\]\",: \\\\NaInull0-9]{0,5}"), 0..3),
    ) {
        let mut line = br#"{"jsonrpc":"2.0","id":7,"result":{"a":[1,-2.5e3,"x\u00e4\\\"y"],"b":null},"error":null}"#.to_vec();
        for (at, byte) in edits {
            let at = at.index(line.len());
            line[at] = byte;
        }
        for (at, text) in inserts {
            let at = at.index(line.len());
            line.splice(at..at, text.bytes());
        }
        check(&line);
    }
}

fn check(line: &[u8]) {
    let verdict = Line::of(line);
    verdict.check_invariants(line);
    assert!(!Line::is_plain_log(line) || matches!(verdict, Line::Log));
    let mut long = LongLine::default();
    long.feed(line);
    if let Some(broken) = long.finish() {
        broken.check_invariants();
    }
}

#[test]
fn an_error_to_nobody_says_what_it_is_about() {
    for (code, message, says) in [
        ("-32700", "m", Says::AnswersOneOf),
        ("-32700", "cannot read notifications/x", Says::AnswersOneOf),
        ("-32601", "m", Says::AnswersUnknownMethod),
        (
            "-32602",
            "Unknown method: notifications/initialized",
            Says::AnswersNotification,
        ),
        (
            "0.5",
            r"no handler for notifications\/cancelled",
            Says::AnswersNotification,
        ),
        ("-32600", "Invalid Request", Says::AnswersOnly),
    ] {
        for id in [r#""id":null,"#, ""] {
            let line = format!(
                r#"{{"jsonrpc":"2.0",{id}"error":{{"code":{code},"message":"{message}"}}}}"#
            );
            assert_eq!(broken(&line).map(|it| it.says), Some(says), "{line}");
        }
    }
}

#[test]
fn what_stands_before_an_answer_does_not_hide_it_however_much_it_is() {
    for before in [
        "{\"a\":1}",
        "{\"k\":{}} ",
        "{}",
        "{",
        "{ ",
        "{a:1} ",
        "[",
        "{\"a\":1},",
        "\"",
    ] {
        for times in [1, 15, 16, 17, 20, 100, 20_000] {
            let line = format!("{}{ANSWER}", before.repeat(times));
            let start = std::time::Instant::now();
            let verdict = Line::of(line.as_bytes());
            let is_taken = matches!(&verdict, Line::Mended(mended) if mended.messages == [ANSWER]);
            let is_told =
                matches!(&verdict, Line::Broken(broken) if broken.says == Says::AnswersOneOf);
            // Text that is no JSON is looked at a bounded number of times.
            let may_be_told =
                times == 20_000 && before.starts_with(['"', '[']) || before == "{a:1} ";
            assert!(
                is_taken || may_be_told && is_told,
                "{before} {times}: {verdict:?}"
            );
            assert!(is_taken || times > 100, "{before} {times}: {verdict:?}");
            assert!(
                start.elapsed() < std::time::Duration::from_secs(5),
                "{before} {times}"
            );
        }
    }
    let opened = "cfg={a:{b:1 ".repeat(20);
    taken(
        format!("{opened}{ANSWER}").as_bytes(),
        &[Flaw::Surrounded],
        &[ANSWER],
    );
    let quoted = format!(
        "{}{{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\"}}",
        "{\"a\":1}".repeat(30)
    );
    assert_eq!(broken(&quoted), None, "what it was sent");
}

proptest! {
    #[test]
    fn an_answer_is_found_behind_any_objects(
        before in prop::collection::vec(prop::sample::select(&["{}", "{\"a\":{\"id\":1}}", "{ x }", "{", "{{", "[1]", ">"][..]), 0..40),
    ) {
        let line = format!("{} {ANSWER}", before.join(" "));
        let verdict = Line::of(line.as_bytes());
        verdict.check_invariants(line.as_bytes());
        let is_taken = matches!(&verdict, Line::Message(_)) || matches!(&verdict, Line::Mended(mended) if mended.messages == [ANSWER]);
        prop_assert!(is_taken, "{line}: {verdict:?}");
    }
}
