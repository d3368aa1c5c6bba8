//! Responses that sessions write themselves. Errors among them answer a request which asks for what is not there, or not for
//! its caller: they are no failures of the pool or of a worker, and say what a server would say.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::protocol::{self, code};
use crate::telemetry::{RequestSpan, request_failed};

/// The error response to the current request, which the log has then. `id` is that of the message, as raw JSON.
pub(crate) fn error_response(id: &str, code: i32, why: &str) -> Bytes {
    request_failed(name_of(code), why);
    let mut error = json!({ "code": code, "message": why });
    if let Some(request) = RequestSpan::current_id() {
        error["data"] = json!({ "requestId": Value::from(request.to_string()) });
    }
    protocol::error_response(id, &error).into()
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
