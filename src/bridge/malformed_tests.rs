use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::tests::{ready, send};
use super::super::{Action, Malformed, MalformedOutcome, Mux, SessionNo};
use crate::protocol::{Flaw, LongLine};

pub(super) const ANNA: SessionNo = SessionNo(1);
pub(super) const BOB: SessionNo = SessionNo(2);

pub(super) fn says(mux: &mut Mux, line: &str) -> Vec<Action> {
    let mut out = vec![];
    mux.worker_line(line.to_owned().into(), &mut out);
    mux.check_invariants();
    out
}

pub(super) fn call(mux: &mut Mux, session: SessionNo, id: &str) -> u64 {
    let message =
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "x"}});
    send(mux, session, &message.to_string()).0.0
}

fn answer_in(actions: &[Action]) -> Value {
    let mut answers = actions.iter().filter_map(|action| match action {
        Action::Answer { message, .. } => Some(serde_json::from_slice(message).expect("JSON")),
        _ => None,
    });
    let answer = answers
        .next()
        .unwrap_or_else(|| panic!("no answer in {actions:?}"));
    assert!(answers.next().is_none(), "two answers in {actions:?}");
    answer
}

pub(super) fn outcome_in(actions: &[Action]) -> (Flaw, MalformedOutcome) {
    let mut malformed = actions.iter().filter_map(|action| match action {
        Action::Malformed(Malformed { flaw, outcome, .. }) => Some((*flaw, *outcome)),
        _ => None,
    });
    malformed
        .next()
        .unwrap_or_else(|| panic!("nothing of it in {actions:?}"))
}

pub(super) fn suspected_in(actions: &[Action]) -> u64 {
    match outcome_in(actions).1 {
        MalformedOutcome::Suspected(number) => number,
        other => panic!("{other:?}"),
    }
}

pub(super) fn over(mux: &mut Mux, suspicion: u64) -> Vec<MalformedOutcome> {
    let mut out = vec![];
    let outcomes = mux.suspicion_over(suspicion, &mut out);
    mux.check_invariants();
    assert_eq!(
        out.len(),
        outcomes.len(),
        "the worker hears of each: {out:?}"
    );
    outcomes.to_vec()
}

#[test]
fn what_is_clear_is_the_answer() {
    for (line, result) in [
        (
            r#"{"jsonrpc":"2.0","id":ID,"result":{"a":1},"error":null}"#,
            json!({"a": 1}),
        ),
        (
            r#"> {"jsonrpc":"2.0","id":ID,"result":{"a":1}}"#,
            json!({"a": 1}),
        ),
        (
            r#"{"jsonrpc":"2.0","id":ID.0,"result":{"a":1}}"#,
            json!({"a": 1}),
        ),
        (
            r#"{"jsonrpc":"2.0","id":"ID","result":{"a":1}}"#,
            json!({"a": 1}),
        ),
        (r#"{"id":ID,"result":{"a":NaN}}"#, json!({"a": null})),
        (
            r#"[{"jsonrpc":"2.0","id":ID,"result":{"a":1}}]"#,
            json!({"a": 1}),
        ),
    ] {
        let mut mux = ready(json!({}));
        let id = call(&mut mux, ANNA, "a");
        let answer = answer_in(&says(&mut mux, &line.replace("ID", &id.to_string())));
        assert_eq!(
            (&answer["id"], &answer["result"]),
            (&json!("a"), &result),
            "{line}"
        );
    }
}

#[test]
fn nothing_of_a_workers_envelope_goes_on_but_its_members() {
    let mut mux = ready(json!({}));
    let id = call(&mut mux, ANNA, "a");
    let line = format!(
        r#" {{"ID":"b","jsonrpc":"2.0","id":{id},"Result":{{}},"result":{{"a":1}},"method":null,"x":1}} "#
    );
    let actions = says(&mut mux, &line);
    let Some(Action::Answer { message, .. }) = actions.last() else {
        panic!("{actions:?}")
    };
    assert_eq!(message, r#"{"jsonrpc":"2.0","id":"a","result":{"a":1}}"#);
    let changed =
        r#"{"jsonrpc":"2.0","x":1,"method":"notifications/tools/list_changed","params":null}"#;
    let actions = says(&mut mux, changed);
    let Some(Action::Broadcast(message)) = actions.last() else {
        panic!("{actions:?}")
    };
    assert_eq!(
        message,
        r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#
    );
}

#[test]
fn what_is_not_clear_fails_the_call_that_it_names() {
    for (line, flaw) in [
        (
            r#"{"jsonrpc":"2.0","id":ID,"result":{"cut":"of"#,
            Flaw::Syntax,
        ),
        (
            r#"{"jsonrpc":"2.0","id":ID,"result":{},"error":{"code":1,"message":"m"}}"#,
            Flaw::ResultAndError,
        ),
        (r#"{"jsonrpc":"2.0","id":ID,"result":"text"}"#, Flaw::Result),
        (
            r#"{"jsonrpc":"2.0","id":ID,"result":{},"result":{"x":1}}"#,
            Flaw::DuplicateMember,
        ),
        (r#"{"jsonrpc":"2.0","id":ID}"#, Flaw::Shape),
    ] {
        let mut mux = ready(json!({}));
        let (id, other) = (call(&mut mux, ANNA, "a"), call(&mut mux, BOB, "b"));
        let actions = says(&mut mux, &line.replace("ID", &id.to_string()));
        assert_eq!(
            outcome_in(&actions),
            (flaw, MalformedOutcome::Failed(crate::bridge::CallId(id))),
            "{line}"
        );
        // The other's is still to come, and the one that failed is over.
        let late = says(
            &mut mux,
            &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#),
        );
        assert!(matches!(late[..], [Action::Anomaly(_)]), "{late:?}");
        let answer = says(
            &mut mux,
            &format!(r#"{{"jsonrpc":"2.0","id":{other},"result":{{}}}}"#),
        );
        assert_eq!(answer_in(&answer)["id"], "b");
    }
}

fn failed_in(actions: &[Action]) -> Vec<u64> {
    let failed = actions.iter().filter_map(|action| match action {
        Action::Malformed(Malformed {
            outcome: MalformedOutcome::Failed(call),
            ..
        }) => Some(call.0),
        _ => None,
    });
    failed.collect()
}

#[test]
fn each_call_that_a_message_may_answer_fails() {
    for line in [
        r#"{"jsonrpc":"2.0","id":ID,"id":99,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":99,"id":ID,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":ID,"id":"x","error":{"code":1,"message":"m"}}"#,
        r#"{"jsonrpc":"2.0","id":ID,"method":"ping","result":{}}"#,
        r#"{"jsonrpc":"2.0","Id":ID,"result":{}}"#,
        r#"{"jsonrpc":"2.0","result":tru e,"id":ID}"#,
        r#"[{"jsonrpc":"2.0","method":"notifications/x"},{"jsonrpc":"2.0","id":ID,"result":1}]"#,
    ] {
        let mut mux = ready(json!({}));
        let (id, other) = (call(&mut mux, ANNA, "a"), call(&mut mux, BOB, "b"));
        let actions = says(&mut mux, &line.replace("ID", &id.to_string()));
        assert_eq!(failed_in(&actions), [id], "{line}: {actions:?}");
        assert_eq!(mux.in_flight(), 1, "{line}");
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{other},"result":{{}}}}"#);
        assert_eq!(answer_in(&says(&mut mux, &answer))["id"], "b");
    }
    // A line with two ids may be the answer of either.
    let mut mux = ready(json!({}));
    let (one, other) = (call(&mut mux, ANNA, "a"), call(&mut mux, BOB, "b"));
    let line = format!(r#"{{"jsonrpc":"2.0","id":{one},"id":{other},"result":{{}}}}"#);
    assert_eq!(failed_in(&says(&mut mux, &line)), [one, other]);
    assert_eq!(mux.in_flight(), 0);
    // The worker asks: its ids are its own.
    let mut mux = ready(json!({"sampling": {}}));
    let id = call(&mut mux, ANNA, "a");
    for line in [
        r#"{"jsonrpc":"2.0","id":ID,"id":99,"method":"sampling/createMessage"}"#,
        r#"{"jsonrpc":"2.0","id":ID,"method":"sampling/createMessage","params":{"cut"#,
        r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"id":ID},}"#,
        r#"{"level":"error","id":ID,"error":"a log"}"#,
    ] {
        let actions = says(&mut mux, &line.replace("ID", &id.to_string()));
        assert!(failed_in(&actions).is_empty(), "{line}: {actions:?}");
        assert_eq!(mux.in_flight(), 1, "{line}");
    }
}

#[test]
fn one_message_of_a_line_takes_no_other_with_it() {
    let mut mux = ready(json!({}));
    let (id, other) = (call(&mut mux, ANNA, "a"), call(&mut mux, BOB, "b"));
    let line = format!(
        r#"[{{"jsonrpc":"2.0","id":{id},"result":7}},{{"jsonrpc":"2.0","id":{other},"result":{{}}}}]"#
    );
    let actions = says(&mut mux, &line);
    assert_eq!(failed_in(&actions), [id]);
    assert_eq!(answer_in(&actions)["id"], "b");
}

proptest! {
    /// Whatever is wrong with an answer, its call is answered or fails, and no other does.
    #[test]
    fn an_answer_that_is_off_reaches_its_call(
        before in prop::collection::vec(off(), 0..3),
        after in prop::collection::vec(off(), 0..3),
        wrap in 0_u8..5,
        id_first: bool,
    ) {
        let mut mux = ready(json!({}));
        let (id, other) = (call(&mut mux, ANNA, "a"), call(&mut mux, BOB, "b"));
        let mut members = vec![r#""jsonrpc":"2.0""#.to_owned()];
        members.extend(before);
        members.push(format!("\"id\":{id}"));
        members.extend(after);
        if id_first {
            let at = members.iter().position(|member| member.starts_with("\"id\":")).expect("there");
            members.swap(1, at);
        }
        // What names the other is within the result, or its own id.
        let object = format!("{{{}}}", members.join(",")).replace("OTHER", &other.to_string());
        let line = match wrap {
            0 => format!("> {object}"),
            1 => format!("[{object}]"),
            2 => format!(r#"[{object},{{"jsonrpc":"2.0","method":"notifications/x"}}]"#),
            3 => format!(r#"{{"jsonrpc":"2.0","method":"notifications/x"}}{object}"#),
            _ => object,
        };
        // An array that is no JSON is none: what is in it is found one by one, or not at all.
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&line).is_ok();
        if matches!(wrap, 1 | 2) && !is_json {
            return Ok(());
        }
        let actions = says(&mut mux, &line);
        prop_assert!(mux.caller(crate::bridge::CallId(id)).is_none(), "{line}: {actions:?}");
        prop_assert!(mux.caller(crate::bridge::CallId(other)).is_some(), "{line}: {actions:?}");
    }
}

/// Something of an answer, as it should be or not.
fn off() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        r#""result":{"a":1}"#,
        r#""result":{"a":{"id":OTHER}}"#,
        r#""result":{"a":{"jsonrpc":"2.0","id":OTHER,"result":{}}}"#,
        r#""result":"text""#,
        r#""result":tru e"#,
        r#""result":null"#,
        r#""error":null"#,
        r#""error":"boom""#,
        r#""error":{"code":"x","message":7}"#,
        r#""id":"x""#,
        r#""id":null"#,
        r#""ID":OTHER"#,
        r#""method":null"#,
        r#""x":NaN"#,
        r#""x":he said "hi""#,
        r#""x" 7"#,
        "",
    ])
    .prop_map(ToOwned::to_owned)
}

#[test]
fn an_answer_to_nobody_is_the_only_calls() {
    let parse_error = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"m"}}"#;
    let mut mux = ready(json!({}));
    call(&mut mux, ANNA, "a");
    let answer = answer_in(&says(&mut mux, parse_error));
    assert_eq!(
        (&answer["id"], &answer["error"]["code"]),
        (&json!("a"), &json!(-32700))
    );

    call(&mut mux, ANNA, "a");
    let result = r#"{"jsonrpc":"2.0","result":{"a":1}}"#;
    let (flaw, outcome) = outcome_in(&says(&mut mux, result));
    assert_eq!(flaw, Flaw::Id);
    assert!(matches!(outcome, MalformedOutcome::Failed(_)));

    for line in [
        r#"{"jsonrpc":"2.0","result":{"cut"#,
        r#"{"jsonrpc":"2.0","result":{"id":99},}"#,
        "{'jsonrpc': '2.0', 'result': {}}",
    ] {
        let only = call(&mut mux, ANNA, "a");
        assert_eq!(failed_in(&says(&mut mux, line)), [only], "{line}");
    }
    // What answers nothing may be no answer.
    let other = call(&mut mux, ANNA, "a");
    let (_, outcome) = outcome_in(&says(&mut mux, r#"{"jsonrpc":"2.0"}"#));
    assert_eq!(outcome, MalformedOutcome::Dropped);
    answer_in(&says(
        &mut mux,
        &format!(r#"{{"jsonrpc":"2.0","id":{other},"result":{{}}}}"#),
    ));
    // One that names a notification is about it, whatever its code.
    let only = call(&mut mux, ANNA, "a");
    let unknown = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32602,"message":"no method notifications/x"}}"#;
    let (_, outcome) = outcome_in(&says(&mut mux, unknown));
    assert_eq!(outcome, MalformedOutcome::Dropped);
    answer_in(&says(
        &mut mux,
        &format!(r#"{{"jsonrpc":"2.0","id":{only},"result":{{}}}}"#),
    ));
    // Of several, what names nobody may be anyone's.
    call(&mut mux, ANNA, "a");
    call(&mut mux, BOB, "b");
    suspected_in(&says(&mut mux, parse_error));
    assert_eq!(mux.in_flight(), 2);
}

/// An error may have no id (schema of MCP 2025-11-25), which says as much as `null` does.
#[test]
fn an_error_to_nobody_is_the_only_calls_with_a_null_id_and_without_one() {
    for code in [-32700, -32600, -32602, -32603] {
        for id in [r#""id":null,"#, ""] {
            let error =
                format!(r#"{{"jsonrpc":"2.0",{id}"error":{{"code":{code},"message":"words"}}}}"#);
            let mut mux = ready(json!({}));
            call(&mut mux, ANNA, "a");
            let actions = says(&mut mux, &error);
            let (flaw, outcome) = outcome_in(&actions);
            assert_eq!(
                (flaw, outcome),
                (Flaw::Id, MalformedOutcome::Taken),
                "{error}"
            );
            let answer = answer_in(&actions);
            assert_eq!(
                (&answer["id"], &answer["error"]),
                (&json!("a"), &json!({"code": code, "message": "words"})),
                "{error}"
            );
            assert_eq!(mux.in_flight(), 0, "{error}");
        }
    }
}

/// A server that has read a method has read an id, if there was one: such an error is about a notification where one may be
/// unanswered, and else about the only request.
#[test]
fn an_unknown_method_without_an_id_is_a_notifications_while_one_is_open() {
    for id in [r#""id":null,"#, ""] {
        let unknown = format!(r#"{{"jsonrpc":"2.0",{id}"error":{{"code":-32601,"message":"m"}}}}"#);
        let mut mux = ready(json!({}));
        let first = call(&mut mux, ANNA, "a");
        let (_, outcome) = outcome_in(&says(&mut mux, &unknown));
        assert_eq!(outcome, MalformedOutcome::Dropped, "of `initialized`");
        let done = format!(r#"{{"jsonrpc":"2.0","id":{first},"result":{{}}}}"#);
        answer_in(&says(&mut mux, &done));
        call(&mut mux, ANNA, "b");
        let answer = answer_in(&says(&mut mux, &unknown));
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&json!("b"), &json!(-32601))
        );

        let mut mux = ready(json!({}));
        call(&mut mux, ANNA, "a");
        says(&mut mux, &unknown);
        let answer = answer_in(&says(&mut mux, &unknown));
        assert_eq!(answer["id"], "a", "`initialized` is answered once");

        // A server that answers a request has done with what it was sent before.
        let mut mux = ready(json!({}));
        let first = call(&mut mux, ANNA, "a");
        let done = format!(r#"{{"jsonrpc":"2.0","id":{first},"result":{{}}}}"#);
        answer_in(&says(&mut mux, &done));
        let cancelled = call(&mut mux, ANNA, "b");
        let mut out = vec![];
        let cancel =
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"b"}}"#;
        let cancel = crate::protocol::Envelope::parse(cancel.as_bytes()).expect("valid");
        assert!(mux.notification(ANNA, &cancel, &mut out).is_some());
        let outcome = outcome_in(&says(&mut mux, &unknown)).1;
        assert_eq!(
            outcome,
            MalformedOutcome::Dropped,
            "of `cancelled` {cancelled}"
        );
    }
}

/// What becomes of a line that is too long to be kept.
fn says_too_long(mux: &mut Mux, line: &str) -> Vec<Action> {
    let mut long = LongLine::default();
    long.feed(line.as_bytes());
    let mut out = vec![];
    if let Some(broken) = long.finish() {
        mux.broken(&Bytes::new(), &broken, &mut out);
    }
    mux.check_invariants();
    out
}

#[test]
fn what_is_too_long_is_whose_it_would_be_if_it_were_short_and_broken() {
    let text = "x".repeat(10_000);
    let nobodys = format!(r#"{{"jsonrpc":"2.0","result":{{"x":"{text}"}}}}"#);
    let mut mux = ready(json!({}));
    let only = call(&mut mux, ANNA, "a");
    assert_eq!(failed_in(&says_too_long(&mut mux, &nobodys)), [only]);
    let (named, other) = (call(&mut mux, ANNA, "a"), call(&mut mux, BOB, "b"));
    let answer = format!(r#"{{"jsonrpc":"2.0","result":{{"x":"{text}"}},"id":{named}}}"#);
    assert_eq!(failed_in(&says_too_long(&mut mux, &answer)), [named]);
    // A log of any length is nobody's answer.
    for log in [
        text.clone(),
        format!(r#"{{"level":"info","id":{other},"error":"{text}"}}"#),
        format!(r#"sent {{"jsonrpc":"2.0","id":{other},"result":{{"x":"{text}"}}}}"#),
    ] {
        let actions = says_too_long(&mut mux, &log);
        assert!(actions.is_empty(), "{actions:?}");
    }
    // Of several, those that show no life are told soon.
    let silent = call(&mut mux, ANNA, "c");
    let suspicion = suspected_in(&says_too_long(&mut mux, &nobodys));
    says(
        &mut mux,
        &format!(r#"{{"jsonrpc":"2.0","id":{other},"result":{{}}}}"#),
    );
    let failed = MalformedOutcome::Failed(crate::bridge::CallId(silent));
    assert_eq!(over(&mut mux, suspicion), [failed]);
    // A request is refused, so that the worker does not wait for good.
    let asked = format!(
        r#"{{"jsonrpc":"2.0","id":9,"method":"sampling/createMessage","params":{{"x":"{text}"}}}}"#
    );
    let actions = says_too_long(&mut mux, &asked);
    let [Action::ToWorker(refused), Action::Malformed(_)] = &actions[..] else {
        panic!("{actions:?}")
    };
    let refused: Value = serde_json::from_slice(refused).expect("JSON");
    assert_eq!(refused["id"], 9);
    assert!(
        refused["error"]["message"]
            .as_str()
            .is_some_and(|it| it.contains("max_message"))
    );
}

#[test]
fn an_id_in_another_form_is_whose_it_was() {
    for id in ["-ID", "\"-ID\"", "[ID]", "\"[ID]\"", "{\"id\":ID}"] {
        let mut mux = ready(json!({}));
        let (id_of, other) = (call(&mut mux, ANNA, "a"), call(&mut mux, BOB, "b"));
        let id = id.replace("ID", &id_of.to_string());
        let line = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
        let actions = says(&mut mux, &line);
        if id.starts_with('{') {
            assert!(failed_in(&actions).is_empty(), "{line}: {actions:?}");
            continue;
        }
        assert_eq!(failed_in(&actions), [id_of], "{line}: {actions:?}");
        assert!(mux.caller(crate::bridge::CallId(other)).is_some());
    }
}

#[test]
fn progress_with_an_id_of_null_arrives() {
    let mut mux = ready(json!({}));
    let message =
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"progressToken":"p"}}}"#;
    let (call, line) = send(&mut mux, ANNA, message);
    assert_eq!(line["params"]["_meta"]["progressToken"], call.0);
    let progress = format!(
        r#"{{"jsonrpc":"2.0","id":null,"method":"notifications/progress","params":{{"progressToken":{}.0,"progress":1}}}}"#,
        call.0
    );
    let actions = says(&mut mux, &progress);
    let Some(Action::ToCall(_, told)) = actions.last() else {
        panic!("{actions:?}")
    };
    let told: Value = serde_json::from_slice(told).expect("JSON");
    assert!(told.get("id").is_none());
    assert_eq!(told["params"]["progressToken"], "p");
}

#[test]
fn a_question_that_cannot_be_read_is_refused() {
    let mut mux = ready(json!({"sampling": {}}));
    call(&mut mux, ANNA, "a");
    let asked = r#"{"jsonrpc":"2.0","id":9,"method":"sampling/createMessage","params":[1]}"#;
    let actions = says(&mut mux, asked);
    let [Action::ToWorker(refused)] = &actions[..] else {
        panic!("{actions:?}")
    };
    let refused: Value = serde_json::from_slice(refused).expect("JSON");
    assert_eq!(
        (&refused["id"], &refused["error"]["code"]),
        (&json!(9), &json!(-32602))
    );
}
