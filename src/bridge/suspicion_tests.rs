//! Lines of a worker that may be the answer to any of several calls, and those that are no answer.

use serde_json::json;

use super::super::tests::{ready, send};
use super::super::{Action, MalformedOutcome};
use super::tests::{ANNA, BOB, call, outcome_in, over, says, suspected_in};

#[test]
fn what_may_answer_any_of_several_ends_those_that_show_no_life() {
    let cut = r#"{"jsonrpc":"2.0","result":{"cut"#;
    let token = |id: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":"{id}","method":"m","params":{{"_meta":{{"progressToken":1}}}}}}"#
        )
    };
    let mut mux = ready(json!({}));
    let (answered, silent) = (call(&mut mux, ANNA, "a"), call(&mut mux, BOB, "b"));
    let busy = send(&mut mux, BOB, &token("c")).0.0;
    let first = suspected_in(&says(&mut mux, cut));
    // A later one is not meant by it, and those that are keep their time.
    let later = call(&mut mux, ANNA, "d");
    let second = suspected_in(&says(&mut mux, cut));
    assert_eq!(
        outcome_in(&says(&mut mux, cut)).1,
        MalformedOutcome::Dropped
    );
    says(
        &mut mux,
        &format!(r#"{{"jsonrpc":"2.0","id":{answered},"result":{{}}}}"#),
    );
    let progress = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{busy},"progress":1}}}}"#
    );
    says(&mut mux, &progress);
    let failed = |id| MalformedOutcome::Failed(crate::bridge::CallId(id));
    assert_eq!(over(&mut mux, first), [failed(silent)]);
    assert_eq!(over(&mut mux, first), []);
    assert_eq!(over(&mut mux, second), [failed(later)]);
    assert_eq!(mux.in_flight(), 1, "the one that is busy");
    let quoted = |id| format!("DEBUG sending {{'jsonrpc': '2.0', 'id': {id}, 'result': {{}}}}");
    let asked = "INFO received {'jsonrpc': '2.0', 'id': 1, 'method': 'x', 'params': {'t': '{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}'}}";
    for line in [asked, &quoted(busy)] {
        let actions = says(&mut mux, line);
        assert!(
            matches!(actions[..], [Action::Anomaly(_)]),
            "{line}: {actions:?}"
        );
    }
}

/// What servers print beside their messages: bodies of others' answers, other conversations, what they were sent.
#[test]
fn what_is_logged_is_nobodys_answer() {
    let of_any = [
        r#"{"error":"upstream 503, retrying"}"#,
        r#"{"error":{"message":"x"}}"#,
        r#"{"result":{"rows":[]}}"#,
        r#"{"result":{},"error":null}"#,
        "{'error': 'timeout', 'result': None}",
        r#"{ error: "x" }"#,
        r#"{"jsonrpc":"2.0","id":424242,"result":"0x1"}"#,
        r#"{"jsonrpc":"2.0","id":"5b0e","result":{}}"#,
        "{'jsonrpc': '2.0', 'id': 'u-1', 'result': {}}",
        r#"  "jsonrpc": "2.0","#,
        "  jsonrpc: '2.0',",
        "jsonrpc: 2.0",
        r#"{"jsonrpc":"2.0","error":{"code":-32601,"message":"m"}}"#,
        r#"{"jsonrpc":"2.0","error":{"code":-32602,"message":"no notifications/x"}}"#,
        r#"<<< {"jsonrpc":"2.0","id":ID,"method":"tools/call","params":{}}"#,
        "{'jsonrpc': '2.0', 'id': ID, 'method': 'tools/call', 'params': {}}",
        "<<< {'jsonrpc': '2.0', 'id': ID, 'method': 'tools/call', 'params': {}}",
    ];
    let of_several = [
        r#"{"jsonrpc":"2.0","id":null,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"m"}}"#,
        r#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"m"}}"#,
    ];
    let cases = of_any.map(|line| (line, 1)).into_iter();
    let cases = cases.chain(of_any.iter().chain(&of_several).map(|line| (*line, 2)));
    for (line, calls) in cases {
        let mut mux = ready(json!({}));
        let mut id = 0;
        for n in 0..calls {
            id = call(&mut mux, ANNA, &format!("a{n}"));
        }
        let actions = says(&mut mux, &line.replace("ID", &id.to_string()));
        let is_harmless = |action: &Action| match action {
            Action::Anomaly(_) => true,
            Action::Malformed(malformed) => malformed.outcome == MalformedOutcome::Dropped,
            _ => false,
        };
        assert!(actions.iter().all(is_harmless), "{line}: {actions:?}");
        assert_eq!(mux.in_flight(), calls);
    }
}

#[test]
fn suspicions_are_bounded() {
    let mut mux = ready(json!({}));
    let mut suspected = 0;
    for n in 0..40 {
        if n == 0 {
            call(&mut mux, BOB, "b");
        }
        call(&mut mux, ANNA, &format!("a{n}"));
        let line = r#"{"jsonrpc":"2.0","result":{"cut"#;
        let (_, outcome) = outcome_in(&says(&mut mux, line));
        suspected += usize::from(matches!(outcome, MalformedOutcome::Suspected(_)));
    }
    assert_eq!(suspected, 16);
}
