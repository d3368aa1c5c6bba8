//! The messages that the demo server writes, one a line.

use serde::Serialize;
use serde_json::{Value, json};

use super::answer::Refusal;

/// The id of our own request `number`.
pub(super) fn question_id(number: u64) -> String {
    format!("demo-{number}")
}

pub(super) fn write_result(out: &mut Vec<u8>, id: &str, result: &Value) {
    open(out, "id", id);
    member(out, "result", result);
    close(out);
}

pub(super) fn write_error(out: &mut Vec<u8>, id: &str, refusal: &Refusal) {
    let mut error = json!({"code": refusal.code, "message": refusal.message});
    if let Some(data) = &refusal.data {
        error["data"] = data.clone();
    }
    open(out, "id", id);
    member(out, "error", &error);
    close(out);
}

pub(super) fn write_notification(out: &mut Vec<u8>, method: &str, params: &Value) {
    open(out, "method", &format!("\"{method}\""));
    member(out, "params", params);
    close(out);
}

pub(super) fn write_request(out: &mut Vec<u8>, id: &str, method: &str, params: &Value) {
    open(out, "id", &format!("\"{id}\""));
    member(out, "method", &method);
    member(out, "params", params);
    close(out);
}

pub(super) fn write_progress(out: &mut Vec<u8>, token: &str, done: u32, of: u32) {
    // By hand: the token goes back exactly as it was written.
    open(out, "method", "\"notifications/progress\"");
    let params = format!(r#","params":{{"progressToken":{token},"progress":{done},"total":{of}}}"#);
    out.extend_from_slice(params.as_bytes());
    close(out);
}

/// Starts a message with a member whose value is JSON already.
fn open(out: &mut Vec<u8>, name: &str, json: &str) {
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(json.as_bytes());
}

fn member(out: &mut Vec<u8>, name: &str, value: &impl Serialize) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    serde_json::to_writer(&mut *out, value)
        .expect("a JSON value serialises, and a vector takes all that is written");
}

fn close(out: &mut Vec<u8>) {
    out.extend_from_slice(b"}\n");
}
