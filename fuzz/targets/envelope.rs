//! What is read as an envelope is valid JSON-RPC, and a new id can be put in without touching the rest.
use serde_json::Value;
use stdiopool::protocol::{Envelope, one_line, span_of, splice};

pub(super) fn run(message: &[u8]) {
    let Ok(envelope) = Envelope::parse(message) else {
        return;
    };
    let before: Value = match serde_json::from_slice(message) {
        Ok(before) => before,
        // JSON all the same: bodies are forwarded as they are.
        Err(error) if is_forwarded(&error) => return,
        Err(error) => panic!("an envelope is JSON: {error}"),
    };
    assert_eq!(before["method"].as_str(), envelope.method.as_deref());
    let Some(id) = envelope.id else {
        return;
    };
    let spliced = splice(
        &bytes::Bytes::copy_from_slice(message),
        span_of(message, id.get()),
        b"12345",
    );
    let mut line = spliced.to_vec();
    one_line(&mut line);
    assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
    let mut after: Value = serde_json::from_slice(&line).expect("still JSON");
    assert_eq!(after["id"], 12345);
    after["id"] = before["id"].clone();
    assert_eq!(after, before);
}

/// Numbers, halves of characters and depths that some decoders make nothing of.
fn is_forwarded(error: &serde_json::Error) -> bool {
    let error = error.to_string();
    [
        "number out of range",
        "recursion limit",
        "hex escape",
        "surrogate",
    ]
    .iter()
    .any(|it| error.contains(it))
}
