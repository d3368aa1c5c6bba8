//! What the multiplexer makes of each kind of message.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::*;
use crate::ids::WorkerId;
use crate::protocol::Envelope;

pub(super) const ANNA: SessionNo = SessionNo(1);
pub(super) const BOB: SessionNo = SessionNo(2);

pub(super) fn handshake_with(capabilities: Value) -> Handshake {
    let Value::Object(capabilities) = capabilities else {
        panic!("an object")
    };
    Handshake {
        capabilities,
        client_info: Value::Null,
        roots: vec![],
        era: Era::Legacy,
    }
}

/// A mux whose worker has answered the handshake.
pub(super) fn ready(capabilities: Value) -> Mux {
    let handshake = handshake_with(capabilities);
    let mut mux = Mux::new(WorkerId(9), &handshake);
    let mut out = vec![];
    mux.begin_handshake(&handshake, &mut out);
    let server_info =
        r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{}}}"#;
    mux.worker_line(server_info.into(), &mut out);
    assert!(
        out.iter()
            .any(|a| matches!(a, Action::HandshakeDone(Ok(_))))
    );
    mux
}

/// Sends a request of the session; the call and the line the worker gets.
pub(super) fn send(mux: &mut Mux, session: SessionNo, message: &str) -> (CallId, Value) {
    let mut out = vec![];
    mux.attach(session, None, [], &mut out);
    let envelope = Envelope::parse(message.as_bytes()).expect("valid");
    match mux.request(
        ClientRequest {
            session,
            envelope: &envelope,
        },
        &mut out,
    ) {
        RequestOutcome::Sent(call, line) => (call, serde_json::from_slice(&line).expect("JSON")),
        RequestOutcome::Local(answer) => panic!("answered locally: {answer:?}"),
        RequestOutcome::Refused { why, .. } => panic!("refused: {why}"),
    }
}

/// Hands an answer over where there is room for all that has to wait.
pub(super) fn answered(
    mux: &mut Mux,
    session: SessionNo,
    ask: AskRef,
    envelope: &Envelope<'_>,
    out: &mut Vec<Action>,
) -> bool {
    let keep = |given: &str| Ok::<_, std::convert::Infallible>(given.to_owned().into());
    let Ok(taken) = mux.answer(session, ask, envelope, keep, out);
    taken
}

pub(super) fn from_worker(mux: &mut Mux, message: Value) -> Vec<Action> {
    let mut out = vec![];
    mux.worker_line(message.to_string().into(), &mut out);
    mux.check_invariants();
    out
}

fn parsed(bytes: &Bytes) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

fn to_worker(action: &Action) -> Value {
    match action {
        Action::ToWorker(line) => parsed(line),
        other => panic!("expected a line to the worker, got {other:?}"),
    }
}

#[test]
fn equal_ids_and_tokens_of_two_sessions_are_told_apart() {
    let mut mux = ready(json!({}));
    let message = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"progressToken":"t"},"x":1}}"#;
    let (of_anna, line) = send(&mut mux, ANNA, message);
    let (of_bob, _) = send(&mut mux, BOB, message);
    assert_eq!(line["id"], of_anna.0);
    assert_eq!(
        line["params"],
        json!({"_meta": {"progressToken": of_anna.0}, "x": 1})
    );
    assert_ne!(of_anna, of_bob);

    let progress = json!({"progressToken": of_bob.0, "progress": 1});
    let notification =
        json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": progress});
    let out = from_worker(&mut mux, notification);
    match &out[..] {
        [Action::ToCall(call, message)] => {
            assert_eq!(*call, of_bob);
            assert_eq!(parsed(message)["params"]["progressToken"], "t");
        }
        other => panic!("{other:?}"),
    }
    let out = from_worker(
        &mut mux,
        json!({"jsonrpc": "2.0", "result": {"y": [1, 2]}, "id": of_anna.0}),
    );
    match &out[..] {
        [
            Action::Answer {
                call,
                message,
                is_error: false,
            },
        ] => {
            assert_eq!(*call, of_anna);
            assert_eq!(
                parsed(message),
                json!({"jsonrpc": "2.0", "result": {"y": [1, 2]}, "id": 1})
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_with_line_breaks_reaches_the_worker_on_one_line() {
    let mut mux = ready(json!({}));
    let message = "{\n \"jsonrpc\": \"2.0\",\r\n \"id\": \"a\",\n \"method\": \"m\"\n}";
    let mut out = vec![];
    mux.attach(ANNA, None, [], &mut out);
    let envelope = Envelope::parse(message.as_bytes()).expect("valid");
    let request = ClientRequest {
        session: ANNA,
        envelope: &envelope,
    };
    let RequestOutcome::Sent(_, line) = mux.request(request, &mut out) else {
        panic!("sent")
    };
    assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
    assert_eq!(parsed(&line)["method"], "m");
}

#[test]
fn a_second_answer_and_one_to_nothing_are_counted_and_reach_no_one() {
    let mut mux = ready(json!({}));
    let (call, _) = send(&mut mux, ANNA, r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#);
    let answer = json!({"jsonrpc": "2.0", "id": call.0, "result": {}});
    assert!(matches!(
        from_worker(&mut mux, answer.clone())[..],
        [Action::Answer { .. }]
    ));
    let again = from_worker(&mut mux, answer);
    assert!(matches!(
        again[..],
        [Action::Anomaly(Anomaly::DuplicateAnswer)]
    ));
    let never_asked = from_worker(
        &mut mux,
        json!({"jsonrpc": "2.0", "id": 4711, "result": {}}),
    );
    assert!(matches!(
        never_asked[..],
        [Action::Anomaly(Anomaly::UnknownId)]
    ));
    let mut out = vec![];
    mux.worker_line("Server listening on stdio".into(), &mut out);
    assert!(matches!(out[..], [Action::Anomaly(Anomaly::Garbage)]));
}

#[test]
fn a_cancelled_call_keeps_its_slot_until_the_worker_answers() {
    let mut mux = ready(json!({}));
    let (call, _) = send(&mut mux, ANNA, r#"{"jsonrpc":"2.0","id":"q","method":"m"}"#);
    let cancel = |mux: &mut Mux, session, id: &str| {
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
        );
        let envelope = Envelope::parse(text.as_bytes()).expect("valid");
        let mut out = vec![];
        let cancelled = mux.notification(session, &envelope, &mut out);
        (cancelled, out)
    };
    let (none, out) = cancel(&mut mux, BOB, "\"q\"");
    assert!(
        none.is_none() && out.is_empty(),
        "Bob cannot cancel Anna's call"
    );
    let (cancelled, out) = cancel(&mut mux, ANNA, "\"q\"");
    assert_eq!(cancelled, Some(call));
    assert_eq!(to_worker(&out[0])["params"]["requestId"], call.0);
    assert_eq!(mux.in_flight(), 1);
    let out = from_worker(
        &mut mux,
        json!({"jsonrpc": "2.0", "id": call.0, "result": {}}),
    );
    assert!(matches!(out[..], [Action::Released(id)] if id == call));
    assert_eq!(mux.in_flight(), 0);
}

#[test]
fn the_worker_is_told_the_most_verbose_level_and_each_session_sees_its_own() {
    let mut mux = ready(json!({}));
    let set = |level| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{{"level":"{level}"}}}}"#
        )
    };
    for (session, level, told) in [(ANNA, "debug", "debug"), (BOB, "error", "debug")] {
        let (call, line) = send(&mut mux, session, &set(level));
        assert_eq!(line["params"]["level"], told);
        let out = from_worker(
            &mut mux,
            json!({"jsonrpc": "2.0", "id": call.0, "result": {}}),
        );
        assert!(matches!(out[..], [Action::LevelSet(s, _), Action::Answer { .. }] if s == session));
    }
    let log = |level| json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": level, "data": 1}});
    let debug = from_worker(&mut mux, log("debug"));
    assert!(matches!(debug[..], [Action::ToSession(ANNA, _)]));
    let error = from_worker(&mut mux, log("error"));
    assert!(matches!(
        error[..],
        [Action::ToSession(ANNA, _), Action::ToSession(BOB, _)]
    ));
    // With one session at work, what the worker logs is that session's.
    let (call, _) = send(&mut mux, BOB, r#"{"jsonrpc":"2.0","id":2,"method":"m"}"#);
    let error = from_worker(&mut mux, log("error"));
    assert!(matches!(error[..], [Action::ToCall(id, _)] if id == call));
    assert!(
        from_worker(&mut mux, log("info")).is_empty(),
        "Bob asked for errors only"
    );
}

/// Servers of Python's SDK declare no levels, refuse to be told one, and log at all of them.
#[test]
fn who_wants_less_of_a_server_without_levels_is_told_less() {
    let mut mux = ready(json!({}));
    let set = r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"error"}}"#;
    let (call, _) = send(&mut mux, BOB, set);
    let refusal =
        json!({"jsonrpc": "2.0", "id": call.0, "error": {"code": -32601, "message": "no"}});
    let out = from_worker(&mut mux, refusal);
    assert!(matches!(
        out[..],
        [
            Action::LevelSet(BOB, Level::Error),
            Action::Answer { is_error: true, .. }
        ]
    ));
    let (call, _) = send(&mut mux, BOB, r#"{"jsonrpc":"2.0","id":2,"method":"m"}"#);
    let log = |level| json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": level, "data": 1}});
    assert!(from_worker(&mut mux, log("info")).is_empty());
    let error = from_worker(&mut mux, log("error"));
    assert!(matches!(error[..], [Action::ToCall(id, _)] if id == call));
}

#[test]
fn updates_reach_subscribers_and_the_worker_is_told_when_the_last_one_leaves() {
    let mut mux = ready(json!({}));
    let subscribe =
        r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"demo://a"}}"#;
    for session in [ANNA, BOB] {
        let (call, _) = send(&mut mux, session, subscribe);
        from_worker(
            &mut mux,
            json!({"jsonrpc": "2.0", "id": call.0, "result": {}}),
        );
    }
    let updated = |uri: &str| json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}});
    for uri in ["demo://a", "demo://a/part"] {
        let out = from_worker(&mut mux, updated(uri));
        assert!(matches!(&out[..], [Action::ToSubscribers { .. }]));
        assert_eq!(mux.subscribers_of(uri), [ANNA, BOB]);
    }
    assert!(from_worker(&mut mux, updated("demo://ab")).is_empty());

    let unsubscribe = subscribe.replace("subscribe", "unsubscribe");
    let envelope = Envelope::parse(unsubscribe.as_bytes()).expect("valid");
    let mut out = vec![];
    let request = ClientRequest {
        session: ANNA,
        envelope: &envelope,
    };
    let opened = mux.request(request, &mut out);
    assert!(
        matches!(opened, RequestOutcome::Local(_)),
        "Bob still subscribes: the worker is not told"
    );
    let out = from_worker(&mut mux, updated("demo://a"));
    assert!(matches!(&out[..], [Action::ToSubscribers { .. }]));
    assert_eq!(mux.subscribers_of("demo://a"), [BOB]);
    let mut out = vec![];
    mux.detach(BOB, &mut out);
    assert_eq!(to_worker(&out[0])["method"], "resources/unsubscribe");
    assert!(from_worker(&mut mux, updated("demo://a")).is_empty());
}

#[test]
fn a_new_worker_is_brought_to_the_point_its_session_had_reached() {
    let mut mux = ready(json!({}));
    let mut out = vec![];
    mux.attach(ANNA, Some(Level::Warning), ["demo://a"], &mut out);
    let sent: Vec<_> = out.iter().map(to_worker).collect();
    assert_eq!(sent[0]["method"], "resources/subscribe");
    assert_eq!(sent[0]["params"]["uri"], "demo://a");
    assert_eq!(sent[1]["params"]["level"], "warning");
    let answers = sent
        .iter()
        .map(|line| json!({"jsonrpc": "2.0", "id": line["id"], "result": {}}));
    for answer in answers.collect::<Vec<_>>() {
        assert!(
            from_worker(&mut mux, answer).is_empty(),
            "nobody asked for these"
        );
    }
    let updated = json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "demo://a"}});
    assert!(matches!(
        &from_worker(&mut mux, updated)[..],
        [Action::ToSubscribers { .. }]
    ));
    assert_eq!(mux.subscribers_of("demo://a"), [ANNA]);
}

#[test]
fn a_question_goes_to_its_cause_and_only_that_session_may_answer() {
    let mut mux = ready(json!({"sampling": {}}));
    let (call, _) = send(&mut mux, ANNA, r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#);
    let mut out = vec![];
    mux.attach(BOB, None, [], &mut out);
    let question =
        json!({"jsonrpc": "2.0", "id": 1, "method": "sampling/createMessage", "params": {"a": 1}});
    let out = from_worker(&mut mux, question);
    let [
        Action::Ask {
            session: ANNA,
            call: Some(stream),
            ask,
            message,
        },
    ] = &out[..]
    else {
        panic!("{out:?}")
    };
    assert_eq!(*stream, call);
    let message = parsed(message);
    assert_eq!(message["id"], "w9-0");
    assert_eq!(message["params"], json!({"a": 1}));
    assert_eq!(AskRef::parse("\"w9-0\""), Some(*ask));

    let answer = r#"{"jsonrpc":"2.0","id":"w9-0","result":{"b":2}}"#;
    let envelope = Envelope::parse(answer.as_bytes()).expect("valid");
    let mut out = vec![];
    assert!(!answered(&mut mux, BOB, *ask, &envelope, &mut out));
    assert!(out.is_empty());
    assert!(answered(&mut mux, ANNA, *ask, &envelope, &mut out));
    assert_eq!(
        to_worker(&out[0]),
        json!({"jsonrpc": "2.0", "id": 1, "result": {"b": 2}})
    );
    assert!(
        !answered(&mut mux, ANNA, *ask, &envelope, &mut out),
        "only once"
    );
}

#[test]
fn a_question_that_two_sessions_may_have_caused_is_refused() {
    let mut mux = ready(json!({"elicitation": {}}));
    send(&mut mux, ANNA, r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#);
    send(&mut mux, BOB, r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#);
    let question =
        json!({"jsonrpc": "2.0", "id": "x", "method": "elicitation/create", "params": {}});
    let out = from_worker(&mut mux, question.clone());
    assert!(matches!(out[0], Action::Anomaly(Anomaly::Unattributable)));
    assert_eq!(to_worker(&out[1])["error"]["code"], -32603);
    // Anna leaves while her call goes on in the worker: what it asks may still be her call's.
    let mut out = vec![];
    mux.detach(ANNA, &mut out);
    let out = from_worker(&mut mux, question);
    assert!(matches!(out[0], Action::Anomaly(Anomaly::Unattributable)));
}

#[test]
fn what_an_idle_worker_asks_is_put_to_nobody_but_the_only_session_there_ever_was() {
    let mut mux = ready(json!({"roots": {}, "elicitation": {}}));
    let mut out = vec![];
    mux.attach(ANNA, None, [], &mut out);
    let elicit = json!({"jsonrpc": "2.0", "id": 1, "method": "elicitation/create", "params": {}});
    let out = from_worker(&mut mux, elicit.clone());
    assert!(matches!(out[0], Action::Ask { session: ANNA, .. }));

    // Anna may have started what the worker still does; Bob has not.
    mux.detach(ANNA, &mut vec![]);
    mux.attach(BOB, None, [], &mut vec![]);
    let out = from_worker(&mut mux, elicit);
    assert!(matches!(out[0], Action::Anomaly(Anomaly::Unattributable)));
    assert_eq!(to_worker(&out[1])["error"]["code"], -32603);
    let (call, _) = send(&mut mux, BOB, r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#);
    let answer = json!({"jsonrpc": "2.0", "id": call.0, "result": {}});
    from_worker(&mut mux, answer);
    let roots = json!({"jsonrpc": "2.0", "id": 2, "method": "roots/list"});
    let out = from_worker(&mut mux, roots);
    assert_eq!(to_worker(&out[2])["result"], json!({"roots": []}));
}

#[test]
fn what_clients_do_not_support_is_refused_and_pings_are_answered() {
    let mut mux = ready(json!({}));
    send(&mut mux, ANNA, r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#);
    for method in ["roots/list", "sampling/createMessage", "elicitation/create"] {
        let out = from_worker(
            &mut mux,
            json!({"jsonrpc": "2.0", "id": 5, "method": method}),
        );
        assert_eq!(to_worker(&out[0])["error"]["code"], -32601, "{method}");
    }
    let out = from_worker(
        &mut mux,
        json!({"jsonrpc": "2.0", "id": "p", "method": "ping"}),
    );
    assert_eq!(
        to_worker(&out[0]),
        json!({"jsonrpc": "2.0", "id": "p", "result": {}})
    );
    let mut mux = ready(json!({"roots": {}}));
    let out = from_worker(
        &mut mux,
        json!({"jsonrpc": "2.0", "id": 1, "method": "roots/list"}),
    );
    assert!(
        matches!(out[..], [Action::RootsWanted]),
        "it waits for whoever comes"
    );
    let roots = |uri: &str| {
        let result = format!(r#"{{"roots":[{{"uri":"{uri}"}}]}}"#);
        ClientRoots::read(&result).expect("roots")
    };
    let mut out = vec![];
    assert!(mux.tell_roots(&roots("file:///a"), &mut out));
    let told = json!({"roots": [{"uri": "file:///a"}]});
    assert_eq!(to_worker(&out[0])["result"], told);
    assert!(!mux.tell_roots(&roots("file:///a"), &mut out), "known");
    out.clear();
    assert!(mux.tell_roots(&roots("file:///b"), &mut out));
    assert_eq!(
        to_worker(&out[0])["method"],
        "notifications/roots/list_changed"
    );
    let again = json!({"jsonrpc": "2.0", "id": 2, "method": "roots/list"});
    let out = from_worker(&mut mux, again);
    let told = json!({"roots": [{"uri": "file:///b"}]});
    assert_eq!(to_worker(&out[1])["result"], told);
}

#[test]
fn a_question_for_roots_that_nobody_can_answer_is_answered_with_none_when_a_call_comes() {
    let mut mux = ready(json!({"roots": {}}));
    let question = json!({"jsonrpc": "2.0", "id": 1, "method": "roots/list"});
    from_worker(&mut mux, question);
    let withdrawn =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}});
    assert!(from_worker(&mut mux, withdrawn).is_empty());
    let question = json!({"jsonrpc": "2.0", "id": 2, "method": "roots/list"});
    from_worker(&mut mux, question);
    mux.attach(SessionNo(1), None, [], &mut vec![]);
    let message = br#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let envelope = Envelope::parse(message).expect("JSON-RPC");
    let mut out = vec![];
    let request = ClientRequest {
        session: SessionNo(1),
        envelope: &envelope,
    };
    assert!(matches!(
        mux.request(request, &mut out),
        RequestOutcome::Sent(..)
    ));
    let answers: Vec<_> = out.iter().map(to_worker).collect();
    assert_eq!(
        answers,
        [json!({"jsonrpc": "2.0", "id": 2, "result": {"roots": []}})]
    );
}

#[test]
fn roots_that_the_operator_set_are_told_without_asking_anyone() {
    let handshake = handshake_with(json!({})).with_roots(&["file:///srv".to_owned()]);
    assert!(handshake.capabilities.contains_key("roots") && !handshake.is_interactive());
    let mut mux = Mux::new(WorkerId(9), &handshake);
    let question = json!({"jsonrpc": "2.0", "id": "r", "method": "roots/list"});
    let out = from_worker(&mut mux, question);
    assert_eq!(
        to_worker(&out[0]),
        json!({"jsonrpc": "2.0", "id": "r", "result": {"roots": [{"uri": "file:///srv"}]}})
    );
    let sampling = json!({"jsonrpc": "2.0", "id": 1, "method": "sampling/createMessage"});
    let out = from_worker(&mut mux, sampling);
    assert_eq!(to_worker(&out[0])["error"]["code"], -32601);
}

#[test]
fn list_changes_concern_everyone() {
    let mut mux = ready(json!({}));
    let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
    assert!(matches!(
        from_worker(&mut mux, changed)[..],
        [Action::Broadcast(_)]
    ));
}

#[test]
fn a_handshake_that_fails_says_why() {
    let handshake = Handshake {
        capabilities: Map::new(),
        client_info: Value::Null,
        roots: vec![],
        era: Era::Legacy,
    };
    for (answer, why) in [
        (
            json!({"jsonrpc": "2.0", "id": 0, "error": {"code": 1, "message": "no key"}}),
            "no key",
        ),
        (
            json!({"jsonrpc": "2.0", "id": 0, "result": {"protocolVersion": "1999-01-01"}}),
            "1999-01-01",
        ),
    ] {
        let mut mux = Mux::new(WorkerId(1), &handshake);
        mux.begin_handshake(&handshake, &mut vec![]);
        let out = from_worker(&mut mux, answer);
        let [Action::HandshakeDone(Err(message))] = &out[..] else {
            panic!("{out:?}")
        };
        assert!(message.why.contains(why), "{message:?}");
        assert!(mux.server_info().is_none());
    }
}
