//! Requests, results, errors and questions of the stateless revision: what is taken in leaves as one
//! valid message without anything that the other era does not know.
use std::time::Duration;

use serde_json::{Map, Value};
use stdiopool::bridge::stateless::{
    Filter, Question, ResponseAdapter, StatelessRequest, check_param_headers, is_stateless,
    pages_required,
};
use stdiopool::protocol::{Envelope, portable};

use super::input::first_line;

fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text).expect("JSON")
}

pub(super) fn run(input: &[u8]) {
    // The first line holds headers, `name: value` with `|` between; none stand for those that agree with the message.
    let (headers, message) = first_line(input);
    let (Ok(headers), Ok(message)) = (std::str::from_utf8(headers), std::str::from_utf8(message))
    else {
        return;
    };
    // What a worker or a client said is made portable before it comes here.
    let Ok(message) = &portable(message) else {
        return;
    };
    let adapter = ResponseAdapter {
        id: "1",
        method: "tools/list",
        uri: None,
        server_info: Some(message),
        lists_last: Duration::ZERO,
    };
    assert_eq!(json(&adapter.result(message))["id"], 1);
    assert_eq!(json(&adapter.error(message).1)["id"], 1);
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
    let version = headers.split_once("version:").map(|(_, it)| it.trim());
    if is_stateless(version, &envelope) {
        assert!(
            version.is_some()
                || message.contains("io.modelcontextprotocol")
                || message.contains('\\')
        );
    }
    if let Some(question) = Question::read(&envelope, "key".to_owned()) {
        assert_eq!(
            question.request()["method"].as_str(),
            envelope.method.as_deref()
        );
        json(question.refusal().as_bytes());
        json(&question.answer(&Value::Null));
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
    let own: Vec<(String, String)> = if headers.is_empty() {
        agreeing
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    } else {
        let pairs = headers.split('|').filter_map(|pair| pair.split_once(':'));
        pairs
            .map(|(n, v)| (n.trim().to_owned(), v.trim().to_owned()))
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
}
