//! Requests, results, errors and questions of the stateless revision: what is taken in leaves as one
//! valid message without anything that the other era does not know.
#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use stdiopool::bridge::stateless::{
    Dress, Filter, Question, StatelessRequest, check_param_headers, is_stateless, pages_required,
};
use stdiopool::protocol::Envelope;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    message: &'a str,
    version: Option<&'a str>,
    headers: Vec<(&'a str, &'a str)>,
    agrees: bool,
}

fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text).expect("JSON")
}

fuzz_target!(|input: Input<'_>| {
    let message = input.message;
    let _either = is_stateless(input.version, message.as_bytes());
    let dress = Dress {
        id: "1",
        method: "tools/list",
        uri: None,
        server_info: Some(message),
        lists_last: Duration::ZERO,
    };
    assert_eq!(json(&dress.result(message))["id"], 1);
    assert_eq!(json(&dress.error(message).1)["id"], 1);
    let _none = pages_required("1", message, &Map::new());
    if let Some(filter) = Filter::asked(Some(message)) {
        json(&filter.clone().agreed(message).acknowledgement("1"));
        let _told = filter
            .passes(message.as_bytes(), "1")
            .map(|told| json(&told));
    }
    let Ok(envelope) = Envelope::parse(message.as_bytes()) else {
        return;
    };
    if let Some(question) = Question::read(&envelope, "key".to_owned()) {
        assert_eq!(
            question.request()["method"].as_str(),
            envelope.method.as_deref()
        );
        json(question.refusal().as_bytes());
        json(question.answer(&Value::Null).as_bytes());
    }
    let method = envelope.method.clone().unwrap_or_default().into_owned();
    let name = |wanted: &str| {
        let params: Value = serde_json::from_str(envelope.params?.get()).ok()?;
        Some(params[wanted].as_str()?.to_owned())
    };
    let named = name("name").or_else(|| name("uri"));
    let agreeing = [
        ("mcp-protocol-version", "2026-07-28".to_owned()),
        ("mcp-method", method),
        ("mcp-name", named.unwrap_or_default()),
    ];
    let own: Vec<(String, String)> = if input.agrees {
        agreeing
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    } else {
        let pairs = input.headers.iter();
        pairs
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect()
    };
    let header = |name: &str| {
        let found = own.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    };
    let schema: Value = serde_json::from_str(message).unwrap_or(Value::Null);
    let _agree = check_param_headers(&schema, Some(message), &header);
    match StatelessRequest::read(&envelope, header) {
        Ok(request) => {
            let line = request.for_worker();
            let line = json(line.as_bytes());
            assert_eq!(line["method"].as_str(), envelope.method.as_deref());
            let meta = line["params"]["_meta"]
                .as_object()
                .cloned()
                .unwrap_or_default();
            assert!(
                meta.keys()
                    .all(|key| !key.starts_with("io.modelcontextprotocol/"))
            );
            assert!(line["params"].get("requestState").is_none());
        }
        Err(fault) => {
            assert!(json(fault.to_response("1").as_bytes())["error"]["code"].is_i64());
        }
    }
});
