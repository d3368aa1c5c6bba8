//! Every method that there is, from a client of either era to a server of either era: what the server
//! is sent, and what the client is told. Made from the one table of methods.

use std::time::Duration;

use serde_json::{Value, json};

use super::stateless::{ResponseAdapter, StatelessRequest};
use super::tests::from_worker;
use super::*;
use crate::ids::WorkerId;
use crate::protocol::{Envelope, Method, Since};

const META: &str = "io.modelcontextprotocol/";
const CLIENT: SessionNo = SessionNo(1);

/// Parameters that such a request has, with what both sides add to them.
fn params(method: &Method) -> Value {
    let mut params = match method.name {
        "logging/setLevel" => json!({"level": "info"}),
        "completion/complete" => {
            json!({"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "a", "value": "v"}})
        }
        _ => {
            json!({"name": "thing", "uri": "u:1", "arguments": {"deep": [1.0, {"é": null}]}, "unknown": {"x": 1}})
        }
    };
    params["_meta"] =
        json!({"progressToken": "mine", "traceparent": "00-1", "vendor.example/x": 7});
    params
}

fn modern(mut params: Value) -> Value {
    params["_meta"][format!("{META}protocolVersion")] = json!("2026-07-28");
    params["_meta"][format!("{META}clientCapabilities")] = json!({"elicitation": {}});
    params["_meta"][format!("{META}clientInfo")] = json!({"name": "c", "version": "1"});
    params
}

fn message(method: &Method, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": "client's", "method": method.name, "params": params}).to_string()
}

/// A worker that has introduced itself, with the client attached.
fn mux(worker: Era, client: Era) -> Mux {
    let handshake = match worker {
        Era::Legacy => super::tests::handshake_with(json!({})),
        Era::Modern => Handshake::stateless(),
    };
    let mut mux = Mux::new(WorkerId(1), &handshake);
    mux.begin_handshake(&handshake, &mut vec![]);
    let capabilities = json!({"resources": {"subscribe": true}, "logging": {}});
    let server_info = match worker {
        Era::Legacy => json!({"protocolVersion": "2025-11-25", "capabilities": capabilities}),
        Era::Modern => {
            json!({"supportedVersions": ["2026-07-28"], "capabilities": capabilities})
        }
    };
    from_worker(
        &mut mux,
        json!({"jsonrpc": "2.0", "id": 0, "result": server_info}),
    );
    mux.attach(CLIENT, None, [], &mut vec![]);
    if client == Era::Legacy {
        let capabilities = json!({"elicitation": {}});
        mux.introduce(
            CLIENT,
            &ClientInfo {
                protocol_version: "2025-11-25".to_owned(),
                capabilities: capabilities.as_object().cloned().expect("an object"),
                client_info: json!({"name": "c", "version": "1"}),
            },
        );
    }
    mux
}

/// What becomes of a client's message at that worker.
enum Became {
    Sent(CallId, Value),
    Answered(Value),
}

fn send(mux: &mut Mux, text: &str) -> Became {
    let envelope = Envelope::parse(text.as_bytes()).expect("valid");
    let request = ClientRequest {
        session: CLIENT,
        envelope: &envelope,
    };
    match mux.request(request, &mut vec![]) {
        RequestOutcome::Sent(call, line) => {
            Became::Sent(call, serde_json::from_slice(&line).expect("JSON"))
        }
        RequestOutcome::Local(answer) => {
            Became::Answered(serde_json::from_slice(&answer).expect("JSON"))
        }
        RequestOutcome::Refused { code, why } => {
            let id: Value = serde_json::from_str(envelope.id.expect("an id").get()).expect("JSON");
            let error = json!({"code": code, "message": why});
            Became::Answered(json!({"jsonrpc": "2.0", "id": id, "error": error}))
        }
    }
}

/// The worker's answer as it leaves the mux.
fn answered(mux: &mut Mux, id: &Value, result: &Value) -> Value {
    let out = from_worker(mux, json!({"jsonrpc": "2.0", "id": id, "result": result}));
    let answer = out.iter().find_map(|action| match action {
        Action::Answer { message, .. } => Some(serde_json::from_slice(message).expect("JSON")),
        _ => None,
    });
    answer.unwrap_or_else(|| panic!("no answer: {out:?}"))
}

fn sent(became: Became, method: &Method) -> (CallId, Value) {
    match became {
        Became::Sent(call, line) => (call, line),
        Became::Answered(answer) => panic!("{}: answered: {answer}", method.name),
    }
}

/// The worker's copy differs from the client's in id and token alone, but for members of `_meta`.
fn is_as_it_was(method: &Method, line: &Value, call: CallId, added: &[&str]) {
    let mut expected: Value =
        serde_json::from_str(&message(method, &params(method))).expect("JSON");
    expected["id"] = json!(call.0);
    expected["params"]["_meta"]["progressToken"] = json!(call.0);
    let mut line = line.clone();
    let meta = line["params"]["_meta"].as_object_mut().expect("there");
    for name in added {
        assert!(
            meta.remove(&format!("{META}{name}")).is_some(),
            "{}: {name}",
            method.name
        );
    }
    assert_eq!(line, expected, "{}", method.name);
}

const RESULT: &str =
    r#"{"tools":[{"name":"t"}],"content":[],"extra":{"a":[1.50]},"_meta":{"vendor.example/y":1}}"#;

fn result() -> Value {
    serde_json::from_str(RESULT).expect("JSON")
}

fn modern_result() -> Value {
    let mut result = result();
    result["resultType"] = json!("complete");
    result["ttlMs"] = json!(1000);
    result["cacheScope"] = json!("private");
    result["_meta"][format!("{META}serverInfo")] = json!({"name": "s", "version": "1"});
    result
}

fn of_both_eras(method: &&Method) -> bool {
    method.since == Since::Always
}

/// What stdiopool asks a worker, and answers a client, itself.
fn is_stdiopools_own(method: &Method) -> bool {
    ["initialize", "server/discover", "subscriptions/listen"].contains(&method.name)
}

#[test]
fn initialize_to_initialize() {
    let of_this_era =
        |method: &&Method| method.since != Since::Stateless && !is_stdiopools_own(method);
    for method in Method::ALL.iter().filter(of_this_era) {
        let mut mux = mux(Era::Legacy, Era::Legacy);
        let (call, line) = sent(send(&mut mux, &message(method, &params(method))), method);
        // A level is told to the worker for all its sessions.
        if method.name != "logging/setLevel" {
            is_as_it_was(method, &line, call, &[]);
        }
        let answer = answered(&mut mux, &line["id"], &result());
        assert_eq!(
            answer,
            json!({"jsonrpc": "2.0", "id": "client's", "result": result()})
        );
    }
}

#[test]
fn stateless_to_stateless() {
    let of_this_era =
        |method: &&Method| method.since != Since::UntilStateless && !is_stdiopools_own(method);
    for method in Method::ALL.iter().filter(of_this_era) {
        let mut mux = mux(Era::Modern, Era::Modern);
        let text = message(method, &modern(params(method)));
        let (call, line) = sent(send(&mut mux, &text), method);
        is_as_it_was(
            method,
            &line,
            call,
            &["protocolVersion", "clientCapabilities", "clientInfo"],
        );
        let answer = answered(&mut mux, &line["id"], &modern_result());
        assert_eq!(answer["result"], modern_result(), "{}", method.name);
    }
}

#[test]
fn initialize_to_stateless() {
    for method in Method::ALL.iter().filter(of_both_eras) {
        let mut mux = mux(Era::Modern, Era::Legacy);
        let (call, line) = sent(send(&mut mux, &message(method, &params(method))), method);
        is_as_it_was(
            method,
            &line,
            call,
            &["protocolVersion", "clientCapabilities", "clientInfo"],
        );
        let answer = answered(&mut mux, &line["id"], &modern_result());
        assert_eq!(
            answer,
            json!({"jsonrpc": "2.0", "id": "client's", "result": result()})
        );
    }
    // Methods that the modern era has no longer are answered for the session.
    let gone = |method: &&Method| {
        method.since == Since::UntilStateless
            && method.name != "roots/list"
            && !is_stdiopools_own(method)
    };
    for method in Method::ALL.iter().filter(gone) {
        let mut mux = mux(Era::Modern, Era::Legacy);
        let Became::Answered(answer) = send(&mut mux, &message(method, &params(method))) else {
            panic!("{} has no counterpart", method.name)
        };
        assert_eq!(
            answer,
            json!({"jsonrpc": "2.0", "id": "client's", "result": {}})
        );
    }
}

#[test]
fn stateless_to_initialize() {
    for method in Method::ALL {
        let text = message(method, &modern(params(method)));
        let envelope = Envelope::parse(text.as_bytes()).expect("valid");
        let named = method
            .named_by
            .map(|name| params(method)[name].as_str().expect("a text").to_owned());
        let header = |name: &str| match name {
            "mcp-protocol-version" => Some("2026-07-28"),
            "mcp-method" => Some(method.name),
            "mcp-name" => named
                .as_deref()
                .map(|named| if named == "thing" { "thing" } else { "u:1" }),
            _ => None,
        };
        let read = StatelessRequest::read(&envelope, header);
        if method.since == Since::UntilStateless {
            let fault = read.expect_err("this revision does not have it");
            assert_eq!((fault.status, fault.code), (404, -32601), "{}", method.name);
            continue;
        }
        let request = read.unwrap_or_else(|fault| panic!("{}: {fault:?}", method.name));
        if is_stdiopools_own(method) {
            continue;
        }
        let mut mux = mux(Era::Legacy, Era::Modern);
        let (call, line) = sent(send(&mut mux, &request.for_worker()), method);
        is_as_it_was(method, &line, call, &[]);
        let answer = answered(&mut mux, &line["id"], &result());
        let adapter = ResponseAdapter {
            id: request.id,
            method: &request.method,
            uri: None,
            server_info: Some(r#"{"name":"s","version":"1"}"#),
            lists_last: Duration::from_secs(1),
        };
        let told = adapter.result(&answer["result"].to_string());
        let told: Value = serde_json::from_slice(&told).expect("JSON");
        let mut expected = modern_result();
        let expected_members = expected.as_object_mut().expect("an object");
        match (method.is_cacheable, method.name) {
            // The contents of a resource may change with every read.
            (true, "resources/read") => expected["ttlMs"] = json!(0),
            (true, _) => {}
            (false, _) => {
                expected_members.remove("ttlMs");
                expected_members.remove("cacheScope");
            }
        }
        assert_eq!(
            told,
            json!({"jsonrpc": "2.0", "id": "client's", "result": expected}),
            "{}",
            method.name
        );
    }
}
