use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn message(params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#)
}

fn looked_at(message: &str) -> Result<Option<Addressed>, NotAccepted> {
    addressed(&Envelope::parse(message.as_bytes()).expect(message))
}

fn taken(params: &str) -> Option<(String, Option<String>, Option<String>)> {
    let addressed = looked_at(&message(params)).expect(params)?;
    let message = String::from_utf8(addressed.message.to_vec()).expect("UTF-8");
    Some((message, addressed.client_config, addressed.meta_config))
}

#[test]
fn nothing_of_it_is_left_for_the_worker() {
    let rest = message(r#"{"name":"a","arguments":{"x": [1]}}"#);
    for params in [
        r#"{"name":"a","clientConfig":{"k":1},"arguments":{"x": [1]}}"#,
        r#"{"name":"a","arguments":{"x": [1]},"_meta":{"dev.stdiopool/config":{"k":1}}}"#,
        r#"{"name":"a","_meta" : {"dev.stdiopool/identity":{"sub":"root"}},"arguments":{"x": [1]}}"#,
        // As PHP writes a slash.
        r#"{"name":"a","_meta":{"dev.stdiopool\/config":1},"arguments":{"x": [1]}}"#,
        // What means nothing, and what some servers drop a message for.
        r#"{"name":"a","_meta":null,"arguments":{"x": [1]}}"#,
        r#"{"name":"a","_meta":{"progressToken":null},"arguments":{"x": [1]}}"#,
    ] {
        assert_eq!(taken(params).expect(params).0, rest, "{params}");
    }
    let params = r#"{"name":"a","clientConfig":{"k":1},"_meta":{"progressToken": 5,"dev.stdiopool/config":"cfg_1"}}"#;
    let (rest, client, meta) = taken(params).expect("something");
    assert_eq!(rest, message(r#"{"name":"a","_meta":{"progressToken":5}}"#));
    assert_eq!(client.as_deref(), Some(r#"{"k":1}"#));
    assert_eq!(meta.as_deref(), Some(r#""cfg_1""#));
    let half = taken(r#"{"name":"a","arguments":{"x":"\ud800"}}"#).expect("changed");
    assert_eq!(
        half.0,
        message(r#"{"name":"a","arguments":{"x":"\ufffd"}}"#)
    );
}

#[test]
fn what_only_looks_like_it_is_the_workers() {
    for params in [
        "{}",
        r#"{"arguments":{"clientConfig":{},"_meta":{"dev.stdiopool/config":1}}}"#,
        r#"{"name":"clientConfig","_meta":{"x":"dev.stdiopool/config"}}"#,
        r#"{"name":"\u001b"}"#,
        r#"{"name":"a","arguments":{"x":"\ud83d\ude00"}}"#,
    ] {
        assert_eq!(taken(params), None, "{params}");
    }
    assert_eq!(
        looked_at(r#"{"jsonrpc":"2.0","method":"clientConfig"}"#),
        Ok(None)
    );
}

#[test]
fn what_a_worker_might_drop_or_read_otherwise_is_refused() {
    let type_of = |name| NotAccepted::Type(name, "a string or a number of at most 1024 bytes");
    for (params, why) in [
        ("[]", NotAccepted::NoObject),
        ("5", NotAccepted::NoObject),
        ("\"x\"", NotAccepted::NoObject),
        ("true", NotAccepted::NoObject),
        (r#"{"_meta":5}"#, NotAccepted::Type("_meta", "an object")),
        (r#"{"_meta":[]}"#, NotAccepted::Type("_meta", "an object")),
        (
            r#"{"_meta":{"progressToken":{}}}"#,
            type_of("_meta.progressToken"),
        ),
        (
            r#"{"_meta":{"progressToken":true}}"#,
            type_of("_meta.progressToken"),
        ),
        (r#"{"\ud800":1,"clientConfig":{}}"#, Unreadable.into()),
        (
            r#"{"_meta":{"\ud800":1,"dev.stdiopool/identity":{}}}"#,
            Unreadable.into(),
        ),
        (
            r#"{"name":"a","arguments":{"x":1e999}}"#,
            NotPortable::Number.into(),
        ),
        (
            r#"{"name":"delete_all\u0000"}"#,
            NotAccepted::Nul("params.name"),
        ),
        (r#"{"uri":"a:\u0000b"}"#, NotAccepted::Nul("params.uri")),
        (
            r#"{"ref":{"type":"ref/prompt","name":"a\u0000"}}"#,
            NotAccepted::Nul("params.ref.name"),
        ),
        (
            r#"{"ref":{"type":"ref/resource","uri":"a:\u0000"}}"#,
            NotAccepted::Nul("params.ref.uri"),
        ),
    ] {
        assert_eq!(looked_at(&message(params)), Err(why), "{params}");
    }
    let deep = format!(r#"{{"arguments":{}{}}}"#, "[".repeat(500), "]".repeat(500));
    assert_eq!(looked_at(&message(&deep)), Err(NotPortable::Depth.into()));
    let task = r#"{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":5}}}"#;
    assert!(matches!(
        looked_at(&message(task)),
        Err(NotAccepted::Type(..))
    ));
    for params in [
        r#"{"name":"a","cli\u0065ntConfig":{"k":1}}"#,
        r#"{"name":"a","clientConfig":{},"clientConfig":{}}"#,
        r#"{"name":"a","NAME":"b"}"#,
        r#"{"ref":{"name":"a","Name":"b"}}"#,
        r#"{"name":"a","name\u0000":"b"}"#,
        r#"{"_meta":{"progressToken\u0000":1}}"#,
        r#"{"_meta":{"dev.stdiopool/\u0000":1}}"#,
        r#"{"_meta":{"dev.stdiopool/config":1},"_meta":{"dev.stdiopool/config":2}}"#,
    ] {
        let refused = looked_at(&message(params)).expect_err(params);
        assert!(
            matches!(refused, NotAccepted::Name(_)),
            "{params}: {refused}"
        );
        assert_eq!(Failure::from(refused).reason.rpc_code(), -32602);
    }
}

#[test]
fn what_only_looks_like_u_0000_passes() {
    for params in [
        r#"{"name":"a\\u0000"}"#,
        r#"{"name":"a","arguments":{"x":"\u0000","\u0000":1}}"#,
        r#"{"name":"a","own\u0000":1}"#,
    ] {
        assert_eq!(looked_at(&message(params)), Ok(None), "{params}");
    }
}

#[test]
fn ids_and_tokens_are_taken_up_to_their_end() {
    for (len, is_taken) in [(MAX_KEPT_ID, true), (MAX_KEPT_ID + 1, false)] {
        let raw = format!("\"{}\"", "x".repeat(len - 2));
        let id = format!(r#"{{"jsonrpc":"2.0","id":{raw},"method":"tools/list"}}"#);
        assert_eq!(looked_at(&id).is_ok(), is_taken, "{len}");
        let token = message(&format!(r#"{{"_meta":{{"progressToken":{raw}}}}}"#));
        assert_eq!(looked_at(&token).is_ok(), is_taken, "{len}");
    }
    let id = "1".repeat(MAX_KEPT_ID + 1);
    let long = format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"tools/list"}}"#);
    let refused = looked_at(&long).expect_err("long");
    assert_eq!(Failure::from(refused).reason.rpc_code(), -32600);
}

#[test]
fn methods_are_spelled_exactly() {
    for method in [
        "Tools/Call",
        "tools/cal\\u006c ",
        "notifications/Cancelled",
        "TOOLS-/call",
        "tools/call\\u0000",
        "tools/call\\u0000x",
    ] {
        let message = format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#);
        let refused = looked_at(&message).expect_err(method);
        assert!(matches!(refused, NotAccepted::Method { .. }), "{method}");
    }
    for method in [
        "tools/cal\\u006c",
        "x/y",
        "notifications/roots/list_changed",
        "tasks/get",
    ] {
        let message = format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#);
        assert_eq!(looked_at(&message), Ok(None), "{method}");
    }
}

#[test]
fn a_result_gets_the_schema_beside_what_it_has() {
    let told = |result: &str| {
        let told = advertised(result.as_bytes(), r#"{"type":"object"}"#).expect("a result");
        String::from_utf8(told.to_vec()).expect("UTF-8")
    };
    assert_eq!(
        told(r#"{"capabilities":{"tools":{ },"experimental":{"x":1}},"serverInfo":{}}"#),
        r#"{"capabilities":{"tools":{ },"experimental":{"x":1,"dev.stdiopool/config":{"type":"object"}}},"serverInfo":{}}"#
    );
    assert_eq!(
        told("{}"),
        r#"{"capabilities":{"experimental":{"dev.stdiopool/config":{"type":"object"}}}}"#
    );
    assert_eq!(advertised(b"[]", "{}"), None);
}

/// A name as JSON can spell it.
fn spelt(name: &'static str) -> impl Strategy<Value = String> {
    let way = prop_oneof![30 => Just(0_u8), 1 => 1..4_u8];
    proptest::collection::vec(way, name.len()).prop_map(move |ways| {
        let letters = name.chars().zip(ways);
        letters
            .map(|(letter, way)| match (letter, way) {
                (_, 1) => format!("\\u{:04x}", u32::from(letter)),
                ('/', 2) => "\\/".to_owned(),
                (_, 3) => letter.to_uppercase().to_string(),
                _ => letter.to_string(),
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn no_spelling_gets_past_it(
        config in spelt(CONFIG), identity in spelt(IDENTITY), client in spelt(CLIENT_CONFIG),
        meta in spelt("_meta"),
    ) {
        let params = format!(
            r#"{{"name":"a","{client}":{{"k":1}},"{meta}":{{"{config}":{{"k":2}},"{identity}":3,"kept":4}}}}"#
        );
        // Refused, or nothing is left of it.
        if let Ok(found) = looked_at(&message(&params)) {
            let found = found.expect("there is something");
            let rest: Value = serde_json::from_slice(&found.message).expect("JSON");
            prop_assert_eq!(&rest["params"], &json!({ "name": "a", "_meta": { "kept": 4 } }));
            prop_assert_eq!(found.client_config.as_deref(), Some(r#"{"k":1}"#));
            prop_assert_eq!(found.meta_config.as_deref(), Some(r#"{"k":2}"#));
        }
    }

    /// The fast look and the close one decide alike, and what the fast one lets pass is not changed by the other.
    #[test]
    fn the_fast_look_decides_as_the_close_one(
        names in proptest::collection::vec(
            prop_oneof![spelt("name"), spelt("arguments"), spelt("_meta"), spelt("ref"), Just("x".to_owned())], 0..4),
        inner in proptest::collection::vec(
            prop_oneof![spelt("progressToken"), spelt("name"), spelt(IDENTITY), Just("y".to_owned())], 0..3),
        value in prop_oneof![Just("null"), Just("5"), Just("\"\\ud83d\\ude00\""), Just("\"\\ud800\""), Just("[]")],
    ) {
        let inner: Vec<_> = inner.iter().map(|name| format!("\"{name}\":{value}")).collect();
        let inner = format!("{{{}}}", inner.join(","));
        let members: Vec<_> = names.iter().map(|name| format!("\"{name}\":{inner}")).collect();
        let message = message(&format!("{{{}}}", members.join(",")));
        let envelope = Envelope::parse(message.as_bytes()).expect("JSON");
        prop_assert_eq!(addressed(&envelope), closely(&envelope));
    }
}
