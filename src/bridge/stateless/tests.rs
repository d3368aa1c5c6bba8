use std::time::Duration;

use serde_json::{Value, json};

use super::request::decoded;
use super::*;
use crate::protocol::Envelope;

const META: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}"#;

fn headers<'h>(pairs: &'h [(&'h str, &'h str)]) -> impl Fn(&str) -> Option<&'h str> {
    move |name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
}

const CALL: [(&str, &str); 3] = [
    ("mcp-protocol-version", "2026-07-28"),
    ("mcp-method", "tools/call"),
    ("mcp-name", "echo"),
];

fn call(meta: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{{"name":"echo","arguments":{{"x":1e2}},"inputResponses":{{}},"_meta":{{{meta}}}}}}}"#
    )
}

fn fault(text: &str, pairs: &[(&str, &str)]) -> (u16, i32) {
    let envelope = Envelope::parse(text.as_bytes()).expect("a message");
    let pairs: Vec<(&str, &str)> = pairs.to_vec();
    let fault = StatelessRequest::read(&envelope, |name| {
        let found = pairs.iter().find(|(n, _)| *n == name);
        // The views live as long as the text.
        found.map(|(_, value)| &*Box::leak((*value).to_owned().into_boxed_str()))
    })
    .expect_err("a fault");
    assert!(!fault.message.is_empty());
    (fault.status, fault.code)
}

#[test]
fn a_request_becomes_one_of_the_older_era() {
    let text = call(&format!(
        r#"{META},"progressToken":7,"traceparent":"00-ab","io.modelcontextprotocol/logLevel":"warning""#
    ));
    let envelope = Envelope::parse(text.as_bytes()).expect("a message");
    let request = StatelessRequest::read(&envelope, headers(&CALL)).expect("in order");
    assert_eq!(request.level, crate::bridge::Level::parse("warning"));
    assert_eq!(request.token, Some("7"));
    assert_eq!(
        request.for_worker(),
        r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"arguments":{"x":1e2},"name":"echo","_meta":{"progressToken":7,"traceparent":"00-ab"}}}"#
    );
    let again = call(META)
        .replace(r#""id":"a""#, r#""id":"b""#)
        .replace("inputResponses\":{}", "requestState\":\"s\"");
    let envelope = Envelope::parse(again.as_bytes()).expect("a message");
    let second = StatelessRequest::read(&envelope, headers(&CALL)).expect("in order");
    assert_eq!(second.substance(), request.substance());
}

#[test]
fn faults_have_their_own_codes_and_their_order() {
    let whole = call(META);
    let no_meta = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}"#;
    assert_eq!(fault(no_meta, &CALL), (400, -32602));
    let no_capabilities = call(r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#);
    assert_eq!(fault(&no_capabilities, &CALL), (400, -32602));
    assert_eq!(fault(&whole, &[]), (400, -32020));
    let other = [("mcp-protocol-version", "2025-11-25")];
    assert_eq!(fault(&whole, &other), (400, -32020));
    let future = whole.replace("2026-07-28", "2099-01-01");
    assert_eq!(
        fault(&future, &[("mcp-protocol-version", "2099-01-01")]),
        (400, -32022)
    );
    assert_eq!(fault(&whole, &CALL[..1]), (400, -32020));
    assert_eq!(fault(&whole, &CALL[..2]), (400, -32020));
    let ping =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"_meta":{{{META}}}}}}}"#);
    assert_eq!(
        fault(&ping, &[CALL[0], ("mcp-method", "ping")]),
        (404, -32601)
    );
    let level = call(&format!(
        r#"{META},"io.modelcontextprotocol/logLevel":"loud""#
    ));
    assert_eq!(fault(&level, &CALL), (400, -32602));
    // What the client brings back is read or refused, never passed over: the call would be made anew.
    for (brought, is_refused) in [
        (r#""requestState":17"#, true),
        (r#""requestState":["s"]"#, true),
        (r#""inputResponses":"s""#, true),
        (r#""inputResponses":[]"#, true),
        (r#""requestState":null,"inputResponses":null"#, false),
    ] {
        let brings = whole.replace(r#""inputResponses":{}"#, brought);
        let envelope = Envelope::parse(brings.as_bytes()).expect("a message");
        let read = StatelessRequest::read(&envelope, headers(&CALL));
        assert_eq!(read.is_err(), is_refused, "{brought}");
        if let Err(fault) = read {
            assert_eq!((fault.status, fault.code), (400, -32602), "{brought}");
        }
    }
}

#[test]
fn the_era_is_told_by_metadata_or_header_and_not_by_the_method() {
    let initialize = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2026-07-28"}}"#;
    let is_stateless = |version: Option<&str>, text: &[u8]| {
        super::is_stateless(version, &Envelope::parse(text).expect("a message"))
    };
    assert!(!is_stateless(None, initialize.as_bytes()));
    assert!(!is_stateless(Some("2025-11-25"), initialize.as_bytes()));
    assert!(is_stateless(Some("2026-07-28"), initialize.as_bytes()));
    assert!(is_stateless(None, call(META).as_bytes()));
    // Arguments of a tool are no metadata.
    let quoted = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{"_meta":{"io.modelcontextprotocol/protocolVersion":"x"}}}}"#;
    assert!(!is_stateless(None, quoted.as_bytes()));
    let escaped = call(META).replace("io.modelcontextprotocol/", "io.modelcontextprotocol\\/");
    assert!(is_stateless(None, escaped.as_bytes()));
}

#[test]
fn header_values_are_decoded_strictly() {
    assert_eq!(decoded("us-west1").as_deref(), Some("us-west1"));
    assert_eq!(
        decoded("=?base64?SGVsbG8sIOS4lueVjA==?=").as_deref(),
        Some("Hello, 世界")
    );
    assert_eq!(decoded("=?base64?%%%?="), None);
    let schema = json!({"properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "deep": {"properties": {"n": {"type": "integer", "x-mcp-header": "N"}}},
    }});
    let check = |arguments: &str, pairs: &[(&str, &str)]| {
        let pairs: Vec<(String, String)> = pairs
            .iter()
            .map(|(a, b)| ((*a).into(), (*b).into()))
            .collect();
        let header = |name: &str| {
            pairs
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, v)| v.as_str())
        };
        check_param_headers(&schema, Some(arguments), &header).is_ok()
    };
    assert!(check(
        r#"{"region":"eu","deep":{"n":42}}"#,
        &[("mcp-param-region", "eu"), ("mcp-param-n", "42.0")]
    ));
    assert!(check("{}", &[]));
    assert!(!check(r#"{"region":"eu"}"#, &[]));
    assert!(!check("{}", &[("mcp-param-region", "eu")]));
    assert!(!check(r#"{"region":"eu"}"#, &[("mcp-param-region", "EU")]));
}

fn adapter(method: &str) -> ResponseAdapter<'_> {
    ResponseAdapter {
        id: "1",
        method,
        uri: Some("file:///x"),
        server_info: Some(r#"{"name":"s"}"#),
        lists_last: Duration::from_secs(1),
    }
}

#[test]
fn results_say_their_type_who_gave_them_and_how_long_they_last() {
    let parse = |bytes: bytes::Bytes| {
        serde_json::from_slice::<Value>(&bytes).expect("JSON")["result"].clone()
    };
    let list = parse(adapter("tools/list").result(
        r#"{"tools":[{"name":"a","execution":{"taskSupport":"optional"}}],"_meta":{"v":1}}"#,
    ));
    assert_eq!(
        list,
        json!({"resultType": "complete", "ttlMs": 1000, "cacheScope": "private", "tools": [{"name": "a"}],
            "_meta": {"v": 1, "io.modelcontextprotocol/serverInfo": {"name": "s"}}})
    );
    let call = parse(adapter("tools/call").result(r#"{"content":[],"isError":true}"#));
    assert_eq!(call["resultType"], "complete");
    assert!(call.get("ttlMs").is_none());
}

#[test]
fn errors_of_the_older_era_are_translated() {
    let error = |text: &str| {
        let (status, bytes) = adapter("resources/read").error(text);
        let error: Value = serde_json::from_slice(&bytes).expect("JSON");
        (status, error["error"].clone())
    };
    let (status, missing) = error(r#"{"code":-32002,"message":"gone"}"#);
    assert_eq!((status, &missing["code"]), (200, &json!(-32602)));
    assert_eq!(missing["data"]["uri"], "file:///x");
    assert_eq!(error(r#"{"code":-32601,"message":"no"}"#).0, 404);
    assert_eq!(
        error(r#"{"code":-32050,"message":"own"}"#).1["code"],
        -32603
    );
    assert_eq!(error("8").1["data"], 8, "what is no error object");
    assert_eq!(error(r#"{"code":7,"message":"own"}"#).1["code"], 7);
}

#[test]
fn questions_are_asked_only_of_those_who_declared_that_they_can_be() {
    let read = |text: &str| {
        let envelope = Envelope::parse(text.as_bytes()).expect("a message");
        Question::read(&envelope, "k".into())
    };
    let caps = |value: Value| value.as_object().expect("an object").clone();
    let form = read(r#"{"jsonrpc":"2.0","id":"w1-1","method":"elicitation/create","params":{"message":"?","task":{},"requestedSchema":{}}}"#).expect("known");
    assert!(form.is_declared(&caps(json!({"elicitation": {}}))));
    assert!(!form.is_declared(&caps(json!({"elicitation": {"url": {}}}))));
    assert!(form.request()["params"].get("task").is_none());
    assert!(form.is_answered_by(&json!({"action": "accept", "content": {}})));
    assert!(!form.is_answered_by(&json!({"wrong": 1})));
    let url = read(r#"{"jsonrpc":"2.0","id":"w1-1","method":"elicitation/create","params":{"mode":"url","url":"https://x"}}"#).expect("known");
    assert!(!url.is_declared(&caps(json!({"elicitation": {}}))));
    assert!(read(r#"{"jsonrpc":"2.0","id":"w1-1","method":"tasks/get"}"#).is_none());
    let pages = r#"{"code":-32042,"message":"m","data":{"elicitations":[{"mode":"url","url":"https://x","elicitationId":"1","message":"m"}]}}"#;
    assert!(matches!(
        pages_required("1", pages, &caps(json!({}))),
        Some(Err(_))
    ));
    let asked = pages_required("1", pages, &caps(json!({"elicitation": {"url": {}}})));
    let asked = asked.expect("pages").expect("declared");
    assert!(!String::from_utf8_lossy(&asked).contains("elicitationId"));
}

#[test]
fn listeners_hear_what_they_asked_for_under_their_own_id() {
    let filter = Filter::asked(Some(
        r#"{"toolsListChanged":true,"promptsListChanged":true,"resourceSubscriptions":["a:b"]}"#,
    ))
    .expect("readable");
    let server_info = r#"{"capabilities":{"tools":{"listChanged":true},"resources":{}}}"#;
    let agreed = filter.agreed(server_info);
    assert_eq!(json!(agreed), json!({"toolsListChanged": true}));
    let ack: Value = serde_json::from_slice(&agreed.acknowledgement("\"l\"")).expect("JSON");
    assert_eq!(
        ack["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"],
        "l"
    );
    let changed = br#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    let told: Value =
        serde_json::from_slice(&agreed.passes(changed, "5").expect("wanted")).expect("JSON");
    assert_eq!(
        told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"],
        5
    );
    let odd = br#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":[1]}"#;
    assert!(agreed.passes(odd, "5").is_none());
    let other = br#"{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}"#;
    assert!(agreed.passes(other, "5").is_none());
}

#[test]
fn what_a_server_asks_for_is_passed_on_as_it_was_written() {
    let asked = |params: &str| {
        let result = format!(
            r#"{{"resultType":"input_required","inputRequests":{{"k":{{"method":"elicitation/create"{params}}}}},"requestState":"s"}}"#
        );
        let Outcome::InputRequired { requests, .. } = Outcome::of(&result) else {
            panic!("{result} asks");
        };
        let message = requests[0].message(r#""w1-1""#);
        String::from_utf8(message.to_vec()).expect("UTF-8")
    };
    let with = |params: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":"w1-1","method":"elicitation/create","params":{params}}}"#
        )
    };
    let form = r#"{"message":"?","requestedSchema":{ "properties": {"n": {"maximum": 1e400}} }}"#;
    assert_eq!(asked(&format!(r#","params":{form}"#)), with(form));
    for nothing in ["", r#","params":null"#, r#","params":[1]"#] {
        assert_eq!(asked(nothing), with("{}"), "{nothing}");
    }
    // Clients of the older era require it.
    let page = r#"{"mode":"\u0075rl","url":"https://x"}"#;
    assert_eq!(
        asked(&format!(r#","params":{page}"#)),
        with(r#"{"elicitationId":"w1-1","mode":"\u0075rl","url":"https://x"}"#)
    );
    let named = r#"{"mode":"url","elicitationId":"e"}"#;
    assert_eq!(asked(&format!(r#","params":{named}"#)), with(named));
}
