use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::protocol::Envelope;

/// Whether the names in the text of parameters are usual.
fn are_usual(params: &str) -> bool {
    let message = format!(r#"{{"jsonrpc":"2.0","method":"m","params":{params}}}"#);
    let envelope = Envelope::parse(message.as_bytes()).expect("a message");
    envelope.listed.as_ref().is_some_and(super::are_usual)
}

fn checked(kind: CheckedObject, object: &str) -> Result<(), BadName> {
    WrittenMembers::read(object).expect(object).check(kind)
}

#[test]
fn folding_takes_for_the_same_what_some_decoder_does() {
    for (one, other) in [
        ("name", "NAME"),
        ("arguments", "argument\u{17f}"),
        ("progressToken", "progre\u{17f}sTo\u{212a}en"),
        ("clientConfig", "client_config"),
        ("clientConfig", "CLIENT-CON\u{fb01}G"),
        ("uri", "UR\u{130}"),
        ("uri", "ur\u{131}"),
        ("straße", "STRASSE"),
        ("σας", "ΣΑΣ"),
        ("_meta", "meta"),
        ("name", "name\0"),
        ("name", "name\0s"),
        ("progressToken", "PROGRESSTOKEN\0x"),
    ] {
        assert_eq!(folded(one), folded(other), "{one} {other}");
    }
    for (one, other) in [("name", "names"), ("uri", "url"), ("_meta", "metä")] {
        assert_ne!(folded(one), folded(other), "{one} {other}");
    }
}

#[test]
fn each_name_is_there_once_and_plain() {
    for params in [
        r#"{"name":"a","NAME":"b"}"#,
        r#"{"Name":"b"}"#,
        r#"{"name":"a","name":"a"}"#,
        r#"{"n\u0061me":"a"}"#,
        r#"{"argument\u017f":{}}"#,
        "{\"argument\u{17f}\":{}}",
        r#"{"URI":"file:///etc/passwd"}"#,
        r#"{"meta":{}}"#,
        r#"{"request_id":1}"#,
    ] {
        assert!(checked(CheckedObject::Params, params).is_err(), "{params}");
        assert!(!are_usual(params), "{params}");
    }
    for meta in [
        r#"{"progresstoken":1}"#,
        r#"{"progressToken":1,"progressToken":1}"#,
        r#"{"progress\u0054oken":1}"#,
        r#"{"dev.stdiopool/Identity":1}"#,
        r#"{"DEV.STDIOPOOL/other":1}"#,
        r#"{"io.modelcontextprotocol/ClientInfo":{},"io.modelcontextprotocol/clientInfo":{}}"#,
        r#"{"io.ModelContextProtocol/clientInfo":{}}"#,
        "{\"io.modelconte\u{1e8b}tprotocol/x\":1,\"\u{130}o.modelcontextprotocol/clientInfo\":{}}",
    ] {
        assert!(checked(CheckedObject::Meta, meta).is_err(), "{meta}");
        assert!(!are_usual(&format!("{{\"_meta\":{meta}}}")), "{meta}");
    }
    assert!(
        checked(
            CheckedObject::Reference,
            r#"{"type":"ref/prompt","name":"a","NAME":"b"}"#
        )
        .is_err()
    );
    assert!(!are_usual(r#"{"ref":{"name":"a","Name":"b"}}"#));
}

#[test]
fn what_is_the_servers_own_passes() {
    for params in [
        "{}",
        r#"{"name":"a","arguments":{"NAME":1,"name":2,"name":3,"_meta":4},"x":1,"x":2}"#,
        r#"{"_meta":{"traceparent":"00","x/y":{"progresstoken":1},"progressToken":"p"}}"#,
        r#"{"ref":{"type":"ref/resource","uri":"a:b"},"argument":{"name":"a","value":""}}"#,
        r#"{"ref":5}"#,
        r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"x","io.modelcontextprotocol/clientInfo":{}}}"#,
    ] {
        assert_eq!(checked(CheckedObject::Params, params), Ok(()), "{params}");
        assert!(are_usual(params), "{params}");
    }
    // Looked at closely, and accepted.
    for params in [
        r#"{"größe":1}"#,
        r#"{"_meta":{"io.modelcontextprotocol\/protocolVersion":"x"}}"#,
        r#"{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"1"}}}"#,
    ] {
        assert_eq!(checked(CheckedObject::Params, params), Ok(()), "{params}");
        assert!(!are_usual(params), "{params}");
    }
}

/// A name that is, or is nearly, one on which stdiopool decides, in one of the ways in which JSON can spell it.
fn name() -> impl Strategy<Value = String> {
    let known: Vec<&str> = [
        CheckedObject::Params,
        CheckedObject::Meta,
        CheckedObject::Reference,
    ]
    .iter()
    .flat_map(|kind| kind.names().iter().copied())
    .chain(meta::NAMES)
    .chain(["x", "other", "größe", "argument"])
    .collect();
    let ways = prop::collection::vec(prop_oneof![12 => Just(0_u8), 1 => 1..6_u8], 48);
    (prop::sample::select(known), ways).prop_map(|(name, ways)| {
        let letters = name.chars().zip(ways);
        letters
            .map(|(letter, way)| match (letter, way) {
                (_, 1) => format!("\\u{:04x}", u32::from(letter)),
                ('/', 2) => "\\/".to_owned(),
                (_, 2) => letter.to_uppercase().to_string(),
                ('s', 3) => "\u{17f}".to_owned(),
                ('k', 3) => "\u{212a}".to_owned(),
                ('i', 3) => "\u{130}".to_owned(),
                (_, 4) => format!("{letter}_"),
                ('s', 5) => "\\u017F".to_owned(),
                _ => letter.to_string(),
            })
            .collect()
    })
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("1".to_owned()),
        Just("\"t\"".to_owned()),
        Just("null".to_owned()),
        Just("{}".to_owned()),
        Just("[\"name\"]".to_owned()),
    ]
}

fn object(members: Vec<(String, String)>) -> String {
    let members: Vec<_> = members
        .iter()
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

fn params() -> impl Strategy<Value = String> {
    let inner = prop::collection::vec((name(), value()), 0..4).prop_map(object);
    let value = prop_oneof![3 => value(), 2 => inner];
    prop::collection::vec((name(), value), 0..5).prop_map(object)
}

/// How a decoder that ignores case, in one of several ways, and takes the first or the last, reads an object.
fn read_by(object: &Value, members: &[(String, Value)], name: &str) -> Vec<Value> {
    let plain = |a: &str, b: &str| a.to_lowercase() == b.to_lowercase();
    let upper = |a: &str, b: &str| a.to_uppercase() == b.to_uppercase();
    let loose = |a: &str, b: &str| {
        let strip = |text: &str| text.replace(['-', '_'], "").to_lowercase();
        strip(a) == strip(b)
    };
    type IsSame<'a> = &'a dyn Fn(&str, &str) -> bool;
    let same: [IsSame<'_>; 4] = [&|a, b| a == b, &plain, &upper, &loose];
    let mut read = vec![object.get(name).cloned().unwrap_or_default()];
    for same in same {
        let mut found = members.iter().filter(|(found, _)| same(found, name));
        let first = found.next().map(|(_, value)| value.clone());
        let last = found.next_back().map(|(_, value)| value.clone());
        read.push(last.or_else(|| first.clone()).unwrap_or_default());
        read.push(first.unwrap_or_default());
    }
    read
}

proptest! {
    /// What the fast look lets pass, the reference lets pass, and has nothing to take out of it.
    #[test]
    fn the_fast_look_is_never_more_lenient_than_the_reference(params in params()) {
        if are_usual(&params) {
            let members = WrittenMembers::read(&params).expect("an object");
            prop_assert_eq!(members.check(CheckedObject::Params), Ok(()));
            for member in &members.0 {
                prop_assert_ne!(&*member.name, CLIENT_CONFIG);
                if member.name == "_meta" {
                    let is_object = member.value.starts_with('{');
                    prop_assert!(is_object);
                    let meta = WrittenMembers::read(member.value).expect("an object");
                    prop_assert_eq!(meta.check(CheckedObject::Meta), Ok(()));
                    prop_assert!(meta.0.iter().all(|it| !it.name.starts_with(OWN)));
                    let mut tokens = meta.0.iter().filter(|it| it.name == "progressToken");
                    prop_assert!(tokens.all(|token| is_token(token.value)));
                }
            }
        }
    }

    /// What the reference lets pass reads alike for every decoder.
    #[test]
    fn every_decoder_reads_the_same_in_what_is_accepted(params in params()) {
        let members = WrittenMembers::read(&params).expect("an object");
        if members.check(CheckedObject::Params).is_err() {
            return Ok(());
        }
        let object: Value = serde_json::from_str(&params).expect("JSON");
        let listed: Vec<(String, Value)> = members
            .0
            .iter()
            .map(|it| (it.name.to_string(), serde_json::from_str(it.value).expect("JSON")))
            .collect();
        for name in CheckedObject::Params.names() {
            let read = read_by(&object, &listed, name);
            prop_assert!(read.iter().all(|value| *value == read[0]), "{}: {:?}", name, read);
        }
    }
}
