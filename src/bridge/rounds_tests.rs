//! Sessions of the legacy era at a worker of the stateless revision: what it is told, and what comes
//! back.

use serde_json::{Value, json};

use super::tests::{ANNA, BOB, answered, from_worker};
use super::*;
use crate::ids::WorkerId;
use crate::protocol::Envelope;

const META: &str = "io.modelcontextprotocol/";

/// A mux whose worker has told what it is, with the session at it.
pub(super) fn ready(sessions: &[SessionNo]) -> (Mux, Vec<Action>) {
    let handshake = Handshake::stateless();
    let mut mux = Mux::new(WorkerId(9), &handshake);
    let mut out = vec![];
    mux.begin_handshake(&handshake, &mut out);
    let capabilities = json!({"tools": {"listChanged": true}, "resources": {"subscribe": true}});
    let discovered = json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": capabilities});
    let mut said = from_worker(
        &mut mux,
        json!({"jsonrpc": "2.0", "id": 0, "result": discovered}),
    );
    assert!(
        said.iter()
            .any(|a| matches!(a, Action::HandshakeDone(Ok(_))))
    );
    for session in sessions {
        mux.attach(*session, None, [], &mut said);
        let client = ClientInfo {
            protocol_version: "2025-11-25".to_owned(),
            capabilities: json!({"elicitation": {}})
                .as_object()
                .cloned()
                .expect("an object"),
            client_info: json!({"name": session.0.to_string(), "version": "1"}),
        };
        mux.introduce(*session, &client);
    }
    (mux, said)
}

fn request(
    mux: &mut Mux,
    session: SessionNo,
    message: &Value,
    out: &mut Vec<Action>,
) -> RequestOutcome {
    let text = message.to_string();
    let envelope = Envelope::parse(text.as_bytes()).expect("valid");
    let request = ClientRequest {
        session,
        envelope: &envelope,
    };
    mux.request(request, out)
}

pub(super) fn sent(mux: &mut Mux, session: SessionNo, message: &Value) -> (CallId, Value) {
    match request(mux, session, message, &mut vec![]) {
        RequestOutcome::Sent(call, line) => (call, serde_json::from_slice(&line).expect("JSON")),
        RequestOutcome::Local(answer) => panic!("answered locally: {answer:?}"),
        RequestOutcome::Refused { why, .. } => panic!("refused: {why}"),
    }
}

fn local(mux: &mut Mux, session: SessionNo, message: &Value) -> (Value, Vec<Action>) {
    let mut out = vec![];
    match request(mux, session, message, &mut out) {
        RequestOutcome::Local(answer) => (serde_json::from_slice(&answer).expect("JSON"), out),
        RequestOutcome::Refused { code, why } => {
            let error = json!({"code": code, "message": why});
            let answer = json!({"jsonrpc": "2.0", "id": message["id"], "error": error});
            (answer, out)
        }
        RequestOutcome::Sent(_, line) => panic!("sent: {line:?}"),
    }
}

fn call(id: u64) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "x"}})
}

/// The lines for the worker among the actions.
fn lines(out: &[Action]) -> Vec<Value> {
    let lines = out.iter().filter_map(|action| match action {
        Action::ToWorker(line) => Some(serde_json::from_slice(line).expect("JSON")),
        _ => None,
    });
    lines.collect()
}

pub(super) fn input_required(id: &Value, keys: &[&str], state: &str) -> Value {
    let ask =
        json!({"method": "elicitation/create", "params": {"message": "?", "requestedSchema": {}}});
    let requests: serde_json::Map<_, _> = keys
        .iter()
        .map(|key| ((*key).to_owned(), ask.clone()))
        .collect();
    json!({"jsonrpc": "2.0", "id": id, "result": {"resultType": "input_required", "inputRequests": requests, "requestState": state}})
}

pub(super) fn reply(
    mux: &mut Mux,
    session: SessionNo,
    ask: AskRef,
    body: &Value,
) -> (bool, Vec<Action>) {
    let mut text = json!({"jsonrpc": "2.0", "id": 0});
    for (name, value) in body.as_object().expect("an object") {
        text[name] = value.clone();
    }
    let text = text
        .to_string()
        .replacen("\"id\":0", &format!("\"id\":{ask}"), 1);
    let envelope = Envelope::parse(text.as_bytes()).expect("valid");
    let mut out = vec![];
    let taken = answered(mux, session, ask, &envelope, &mut out);
    mux.check_invariants();
    (taken, out)
}

fn asks(out: &[Action]) -> Vec<AskRef> {
    let asks = out.iter().filter_map(|action| match action {
        Action::Ask { ask, .. } => Some(*ask),
        _ => None,
    });
    asks.collect()
}

#[test]
fn each_request_says_who_sends_it() {
    let (mut mux, _) = ready(&[ANNA, BOB]);
    let message = json!({"jsonrpc": "2.0", "id": "a", "method": "tools/call", "params":
        {"name": "x", "_meta": {"progressToken": "t", "traceparent": "00-1", "io.modelcontextprotocol/protocolVersion": "1"}}});
    let (of_bob, line) = sent(&mut mux, BOB, &message);
    let meta = &line["params"]["_meta"];
    assert_eq!(meta[format!("{META}protocolVersion")], "2026-07-28");
    assert_eq!(meta[format!("{META}clientInfo")]["name"], BOB.0.to_string());
    assert_eq!(
        meta[format!("{META}clientCapabilities")],
        json!({"elicitation": {}})
    );
    assert_eq!(meta["traceparent"], "00-1");
    assert_eq!(meta["progressToken"], of_bob.0);
    assert!(meta.get(format!("{META}logLevel")).is_none());
    let result = json!({"resultType": "complete", "content": [], "ttlMs": 1, "cacheScope": "private", "_meta": {"io.modelcontextprotocol/serverInfo": {}, "own": 1}});
    let out = from_worker(
        &mut mux,
        json!({"jsonrpc": "2.0", "id": of_bob.0, "result": result}),
    );
    let [Action::Answer { message, .. }] = &out[..] else {
        panic!("{out:?}")
    };
    let told: Value = serde_json::from_slice(message).expect("JSON");
    assert_eq!(
        told,
        json!({"jsonrpc": "2.0", "id": "a", "result": {"content": [], "_meta": {"own": 1}}})
    );
}

#[test]
fn what_is_kept_for_a_session_needs_no_worker() {
    let (mut mux, _) = ready(&[ANNA]);
    let of = |method: &str, params: Value| json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let (pong, _) = local(&mut mux, ANNA, &of("ping", json!({})));
    assert_eq!(pong["result"], json!({}));
    let (_, out) = local(
        &mut mux,
        ANNA,
        &of("logging/setLevel", json!({"level": "warning"})),
    );
    assert!(
        matches!(out[..], [Action::LevelSet(ANNA, Level::Warning)]),
        "{out:?}"
    );
    let (_, line) = sent(&mut mux, ANNA, &call(2));
    assert_eq!(
        line["params"]["_meta"][format!("{META}logLevel")],
        "warning"
    );
    let (_, out) = local(
        &mut mux,
        ANNA,
        &of("resources/subscribe", json!({"uri": "u:1"})),
    );
    let opened = lines(&out).pop().expect("another subscription");
    assert_eq!(opened["method"], "subscriptions/listen");
    assert_eq!(
        opened["params"]["notifications"],
        json!({"toolsListChanged": true, "resourceSubscriptions": ["u:1"]})
    );
    let (refused, _) = local(
        &mut mux,
        ANNA,
        &of("logging/setLevel", json!({"level": "loud"})),
    );
    assert_eq!(refused["error"]["code"], -32602);
}

#[test]
fn changes_come_from_one_subscription_that_is_replaced_without_a_gap() {
    let (mut mux, said) = ready(&[ANNA, BOB]);
    let first = lines(&said).pop().expect("it listens from the start");
    let acknowledged = |id: &Value| json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {"notifications": {}, "_meta": {"io.modelcontextprotocol/subscriptionId": id}}});
    from_worker(&mut mux, acknowledged(&first["id"]));
    let subscribe = json!({"jsonrpc": "2.0", "id": 1, "method": "resources/subscribe", "params": {"uri": "u:1"}});
    let (_, out) = local(&mut mux, BOB, &subscribe);
    let second = lines(&out).pop().expect("another");
    let updated = |id: &Value| json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "u:1", "_meta": {"io.modelcontextprotocol/subscriptionId": id}}});
    assert!(
        from_worker(&mut mux, updated(&second["id"])).is_empty(),
        "not before it is acknowledged"
    );
    let out = from_worker(&mut mux, acknowledged(&second["id"]));
    let stopped = &lines(&out)[0];
    assert_eq!(
        (&stopped["method"], &stopped["params"]["requestId"]),
        (&json!("notifications/cancelled"), &first["id"])
    );
    let out = from_worker(&mut mux, updated(&second["id"]));
    let [Action::ToSubscribers { message, .. }] = &out[..] else {
        panic!("{out:?}")
    };
    assert_eq!(mux.subscribers_of("u:1"), [BOB]);
    let told: Value = serde_json::from_slice(message).expect("JSON");
    assert_eq!(
        told["params"],
        json!({"uri": "u:1"}),
        "the subscription is stdiopool's own matter"
    );
    let list = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {"_meta": {"io.modelcontextprotocol/subscriptionId": second["id"]}}});
    assert!(matches!(
        from_worker(&mut mux, list)[..],
        [Action::Broadcast(_)]
    ));
}

#[test]
fn log_lines_go_to_whoever_asked_for_them_and_to_no_one_when_it_may_be_either() {
    let (mut mux, _) = ready(&[ANNA, BOB]);
    let level = json!({"jsonrpc": "2.0", "id": 1, "method": "logging/setLevel", "params": {"level": "info"}});
    let line = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "error", "data": 1}});
    local(&mut mux, BOB, &level);
    sent(&mut mux, ANNA, &call(1));
    assert!(matches!(
        from_worker(&mut mux, line.clone())[..],
        [Action::Anomaly(Anomaly::Unattributable)]
    ));
    let (of_bob, _) = sent(&mut mux, BOB, &call(2));
    assert!(
        matches!(from_worker(&mut mux, line.clone())[..], [Action::ToCall(id, _)] if id == of_bob)
    );
    sent(&mut mux, BOB, &call(3));
    assert!(matches!(
        from_worker(&mut mux, line.clone())[..],
        [Action::ToSession(BOB, _)]
    ));
    local(&mut mux, ANNA, &level);
    sent(&mut mux, ANNA, &call(4));
    assert!(matches!(
        from_worker(&mut mux, line)[..],
        [Action::Anomaly(Anomaly::Unattributable)]
    ));
}

#[test]
fn a_server_that_never_has_enough_is_given_up_on() {
    let (mut mux, _) = ready(&[ANNA]);
    let (_, mut line) = sent(&mut mux, ANNA, &call(1));
    for round in 1.. {
        let out = from_worker(&mut mux, input_required(&line["id"], &[], "s"));
        match &out[..] {
            [Action::Kept(_), Action::ToWorker(again)] => {
                let again: Value = serde_json::from_slice(again).expect("JSON");
                assert_ne!(again["id"], line["id"], "a request of its own");
                assert_eq!(again["params"]["requestState"], "s");
                assert!(round < 20, "it goes on for ever");
                line = again;
            }
            [Action::Kept(_), Action::Answer { is_error: true, .. }] => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(mux.in_flight(), 0);
}

#[test]
fn an_error_of_the_client_ends_the_call_and_its_other_questions() {
    let (mut mux, _) = ready(&[ANNA]);
    let (_, line) = sent(&mut mux, ANNA, &call(1));
    let asked = asks(&from_worker(
        &mut mux,
        input_required(&line["id"], &["a", "b"], "s"),
    ));
    let (taken, out) = reply(
        &mut mux,
        ANNA,
        asked[0],
        &json!({"error": {"code": -1, "message": "no"}}),
    );
    assert!(taken);
    let [
        Action::Answer {
            message,
            is_error: true,
            ..
        },
    ] = &out[..]
    else {
        panic!("{out:?}")
    };
    let told: Value = serde_json::from_slice(message).expect("JSON");
    assert_eq!(
        (&told["id"], &told["error"]["message"]),
        (&json!(1), &json!("no"))
    );
    let (taken, _) = reply(
        &mut mux,
        ANNA,
        asked[1],
        &json!({"result": {"action": "accept"}}),
    );
    assert!(!taken, "it concerns no one any more");
}

#[test]
fn an_answer_without_room_leaves_its_question_open_and_one_with_room_is_kept_as_it_was_written() {
    let (mut mux, _) = ready(&[ANNA]);
    let (id, line) = sent(&mut mux, ANNA, &call(1));
    let before = mux.kept(id);
    let state = "s".repeat(5000);
    let out = from_worker(&mut mux, input_required(&line["id"], &["a", "b"], &state));
    assert!(
        matches!(out[0], Action::Kept(kept) if kept == id),
        "{out:?}"
    );
    // The state with its quotes, and the names of two questions.
    assert_eq!(mux.kept(id), before + 5002 + 2);
    let [first, second] = asks(&out)[..] else {
        panic!("{out:?}")
    };
    let given = |ask: AskRef, raw: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":{ask},"result":{raw}}}"#).into_bytes()
    };
    let text = given(first, r#"{"action":"accept","content":{"n":1.50}}"#);
    let envelope = Envelope::parse(&text).expect("valid");
    let mut out = vec![];
    let refused = mux.answer(ANNA, first, &envelope, |_| Err("full"), &mut out);
    assert_eq!((refused, out.len()), (Err("full"), 0));
    assert!(answered(&mut mux, ANNA, first, &envelope, &mut out));
    assert!(
        !answered(&mut mux, ANNA, first, &envelope, &mut out),
        "once"
    );
    assert!(out.is_empty(), "the other is missing: {out:?}");
    let text = given(second, r#"{"action":"decline"}"#);
    let envelope = Envelope::parse(&text).expect("valid");
    assert!(answered(&mut mux, ANNA, second, &envelope, &mut out));
    let [Action::ToWorker(line)] = &out[..] else {
        panic!("{out:?}")
    };
    let line = std::str::from_utf8(line).expect("text");
    let responses = r#""inputResponses":{"a":{"action":"accept","content":{"n":1.50}},"b":{"action":"decline"}}"#;
    assert!(line.contains(responses), "{line}");
    mux.check_invariants();
}

#[test]
fn a_call_whose_round_has_no_room_ends_with_its_questions() {
    let (mut mux, _) = ready(&[ANNA]);
    let (id, line) = sent(&mut mux, ANNA, &call(1));
    let out = from_worker(&mut mux, input_required(&line["id"], &["a"], "s"));
    let [ask] = asks(&out)[..] else {
        panic!("{out:?}")
    };
    let mut out = vec![];
    assert_eq!(mux.fail(id, &mut out).as_deref(), Some("1"));
    mux.check_invariants();
    assert_eq!((mux.kept(id), mux.in_flight()), (0, 0));
    let (taken, _) = reply(&mut mux, ANNA, ask, &json!({"result": {}}));
    assert!(!taken);
}
