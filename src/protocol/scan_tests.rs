use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;
use crate::protocol::{Envelope, RawJson};

/// What the scan accepts must be read alike by `serde_json`; returns whether it accepts.
fn agrees(text: &str) -> bool {
    let Some(found) = members(text) else {
        return false;
    };
    let read = Envelope::read(text.as_bytes()).expect(text);
    let raw = |value: Option<RawJson<'_>>| value.map(|value| value.get().to_owned());
    assert_eq!(found.jsonrpc, read.jsonrpc.as_deref(), "{text}");
    assert_eq!(found.method, read.method.as_deref(), "{text}");
    for (found, read) in [
        (found.id, read.id),
        (found.params, read.params),
        (found.result, read.result),
        (found.error, read.error),
    ] {
        assert_eq!(found.map(ToOwned::to_owned), raw(read), "{text}");
    }
    listed_as_read(&found);
    true
}

/// The members listed of `params` are those that `serde_json` reads there.
fn listed_as_read(found: &EnvelopeMembers<'_>) {
    let is_object = found.params.is_some_and(|params| params.starts_with('{'));
    assert!(is_object || found.listed.is_none());
    let (Some(params), Some(listed)) = (found.params, &found.listed) else {
        return;
    };
    let own = |named: Vec<Named<'_>>| -> Vec<(String, String)> {
        let named = named.into_iter();
        named
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    };
    let members = |text: &str| -> Vec<(String, String)> {
        let mut members = vec![];
        each_member(text, |name, value| {
            members.push((name.to_owned(), value.to_owned()));
            Some(())
        });
        members
    };
    assert_eq!(own(listed.params().collect()), members(params), "{params}");
    let meta = members(params)
        .into_iter()
        .find(|(name, _)| name == "_meta")
        .filter(|(_, value)| value.starts_with('{'));
    assert_eq!(
        own(listed.meta().collect()),
        meta.map_or(vec![], |(_, meta)| members(&meta)),
        "{params}"
    );
    // Half a surrogate pair is no text, and such a number no double.
    let Ok(object) = serde_json::from_str::<Map<String, Value>>(params) else {
        return;
    };
    for (name, value) in &object {
        let spelt = Value::from(name.as_str()).to_string();
        let values: Vec<_> = listed.params().collect();
        let mut values = values.iter().rev();
        if let Some((_, found)) = values.find(|(found, _)| format!("\"{found}\"") == spelt) {
            let found: Value = serde_json::from_str(found).expect("JSON");
            // Numbers that are no double are compared by others.
            assert_eq!(found.to_string(), value.to_string(), "{params}");
        }
    }
}

#[test]
fn what_is_in_params_is_listed() {
    let text = r#"{"method":"m","params":{"name":"a","_meta" : { "x":1, "y\u0061":[2] } ,"_meta":{"z":3}}}"#;
    let found = members(text).expect("usual");
    let listed = found.listed.expect("an object");
    let (one, two) = (r#"{ "x":1, "y\u0061":[2] }"#, r#"{"z":3}"#);
    assert_eq!(
        listed.params().collect::<Vec<_>>(),
        [("name", "\"a\""), ("_meta", one), ("_meta", two)]
    );
    assert_eq!(
        listed.meta().collect::<Vec<_>>(),
        [("x", "1"), ("y\\u0061", "[2]")]
    );
    assert!(agrees(text));
    assert!(agrees(r#"{"params":{}}"#) && agrees(r#"{"params":{"_meta":{}},"id":1}"#));
    assert!(agrees(r#"{"params":[{"_meta":{}}]}"#));
    let many = (0..9)
        .map(|n| format!("\"m{n}\":{n}"))
        .collect::<Vec<_>>()
        .join(",");
    let text = format!("{{\"params\":{{{many}}}}}");
    assert_eq!(members(&text).expect("usual").listed, None);
}

#[test]
fn messages_are_scanned() {
    for text in [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{}}}"#,
        " {\n\t\"id\" : \"x\" ,\r\n \"result\" : [ ] } ",
        r#"{"params":[0,-0,-1.5e+10,1E-2,12.0,true,false,null,"a\"\\\/\b\f\n\r\tA",{"":[[],{}]}]}"#,
        r#"{"error":{"code":-1,"message":"größer ☃ than eight bytes \u00e4"},"id":null}"#,
        r#"{"other":1,"other":2}"#,
        "{}",
    ] {
        assert!(agrees(text), "{text}");
    }
}

#[test]
fn what_is_wrong_is_left_to_others() {
    for text in [
        "",
        "{",
        "[]",
        "1",
        "{}x",
        "{,}",
        r#"{"id":1,}"#,
        r#"{"id":1 "method":"a"}"#,
        r#"{"id"1}"#,
        r#"{"id":01}"#,
        r#"{"id":1.}"#,
        r#"{"id":.5}"#,
        r#"{"id":+1}"#,
        r#"{"id":-}"#,
        r#"{"id":1e}"#,
        r#"{"id":1e+}"#,
        r#"{"id":tru}"#,
        r#"{"id":nul"#,
        r#"{"id":"a}"#,
        r#"{"id":"\x"}"#,
        r#"{"id":"\u12g4"}"#,
        r#"{"id":"\u12"#,
        "{\"id\":\"\u{1}\"}",
        "{\"id\":\"eight by\ttes\"}",
        r#"{"params":[1,]}"#,
        r#"{"params":[1}}"#,
        r#"{"params":{"a":1]}"#,
        r#"{"params":{1:2}}"#,
        r#"{"params":{"a"}}"#,
        r#"{'id':1}"#,
    ] {
        assert_eq!(members(text), None, "{text}");
        assert!(Envelope::parse(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn what_is_unusual_is_left_to_others() {
    for text in [
        r#"{"id":1,"id":2,"method":"a"}"#.to_owned(),
        r#"{"\u0069d":1,"method":"a"}"#.to_owned(),
        r#"{"id":1,"method":"\u0061"}"#.to_owned(),
        r#"{"id":1,"method":null,"result":{}}"#.to_owned(),
        format!(
            r#"{{"id":1,"result":{}{}}}"#,
            "[".repeat(66),
            "]".repeat(66)
        ),
    ] {
        assert_eq!(members(&text), None, "{text}");
    }
    let deep = format!(
        r#"{{"id":1,"result":{}{}}}"#,
        "[".repeat(65),
        "]".repeat(65)
    );
    assert!(agrees(&deep));
}

/// Any JSON.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~\\n\"\\\\ä☃]{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z\"\\\\ä]{0,9}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A message of some of the members there are, and others.
fn message() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        "(id|params|result|error)",
        // `jsonrpc` and `method` are strings below.
        "[a-z]{1,4}",
    ];
    let members = prop::collection::btree_map(name, json(), 0..5);
    (members, "[ \\n\\t]{0,2}", any::<bool>()).prop_map(|(members, blank, is_pretty)| {
        let mut whole: Map<String, Value> = members.into_iter().collect();
        whole.insert("jsonrpc".to_owned(), "2.0".into());
        whole.insert("method".to_owned(), "a/b".into());
        let text = match is_pretty {
            true => serde_json::to_string_pretty(&whole),
            false => serde_json::to_string(&whole),
        };
        format!("{blank}{}{blank}", text.expect("JSON"))
    })
}

proptest! {
    #[test]
    fn every_usual_message_is_scanned(text in message()) {
        prop_assert!(agrees(&text), "{}", text);
    }

    #[test]
    fn what_is_broken_is_never_taken_for_json(
        text in message(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), "[\\[\\]{}:,\"\\\\0-9eE.+\\-tfnu \\x01ä]?"), 1..4),
    ) {
        let mut text: Vec<char> = text.chars().collect();
        for (at, with) in edits {
            let at = at.index(text.len());
            text.splice(at..=at, with.chars());
            if text.is_empty() {
                break;
            }
        }
        agrees(&text.into_iter().collect::<String>());
    }

    #[test]
    fn any_text_is_safe(text in "\\PC{0,40}") {
        agrees(&text);
    }
}
