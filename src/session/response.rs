//! Responses that sessions write themselves. Errors among them answer a request which asks for what is not there, or not for
//! its caller: they are no failures of the pool or of a worker, and say what a server would say.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Value, json};

use crate::protocol::code;
use crate::telemetry::{RequestSpan, request_failed};

/// A response under a raw JSON id.
pub(super) fn response(id: &str, member: &str, body: &[u8]) -> Bytes {
    let mut answer = BytesMut::with_capacity(body.len() + id.len() + 40);
    answer.put_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    answer.put_slice(id.as_bytes());
    answer.put_slice(b",\"");
    answer.put_slice(member.as_bytes());
    answer.put_slice(b"\":");
    answer.put_slice(body);
    answer.put_u8(b'}');
    answer.freeze()
}

/// The error response to the current request, which the log has then. `id` is that of the message, as raw JSON.
pub(super) fn error_response(id: &str, code: i32, why: &str) -> Bytes {
    request_failed(name_of(code), why);
    let mut error = json!({ "code": code, "message": why });
    if let Some(request) = RequestSpan::current_id() {
        error["data"] = json!({ "requestId": Value::from(request.to_string()) });
    }
    response(id, "error", error.to_string().as_bytes())
}

/// What a code is called in the log.
fn name_of(code: i32) -> &'static str {
    match code {
        code::INVALID_PARAMS => "invalid_params",
        code::METHOD_NOT_FOUND => "method_not_found",
        code::RESOURCE_NOT_FOUND => "resource_not_found",
        _ => "error",
    }
}
