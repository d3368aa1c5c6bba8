//! Answers: what this revision wants beside what a worker of the legacy era says.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::{STATELESS, meta};
use crate::protocol::{Method, code, raw_error_response, result_response};

/// Turns the answer of a worker into one of this revision.
#[derive(Clone, Copy, Debug)]
pub struct ResponseAdapter<'a> {
    /// The request's id, as raw JSON.
    pub id: &'a str,
    /// The question's method.
    pub method: &'a str,
    /// The resource it read, if it did.
    pub uri: Option<&'a str>,
    /// `serverInfo` of the worker, as raw JSON.
    pub server_info: Option<&'a str>,
    /// How long lists may be kept.
    pub lists_last: Duration,
}

impl ResponseAdapter<'_> {
    /// The response with a worker's result. A result that is no object becomes an error.
    pub fn result(&self, result: &str) -> Bytes {
        let members: Result<BTreeMap<Cow<'_, str>, &RawValue>, _> = serde_json::from_str(result);
        let Ok(members) = members else {
            let why = "the server's result is no object";
            let error = json!({ "code": code::INTERNAL_ERROR, "message": why });
            return raw_error_response(self.id, error.to_string().as_bytes());
        };
        let mut body = String::with_capacity(result.len() + 256);
        body.push_str("{\"resultType\":\"complete\"");
        if Method::of(self.method).is_some_and(|method| method.is_cacheable) {
            let lasts = if self.method == "resources/read" {
                Duration::ZERO
            } else {
                self.lists_last
            };
            let millis = lasts.as_millis();
            // Whether a result depends on the tenant, a bridge cannot know.
            body.push_str(&format!(",\"ttlMs\":{millis},\"cacheScope\":\"private\""));
        }
        let meta = members.get("_meta").map(|meta| meta.get());
        if let Some(meta) = self.meta(meta) {
            body.push_str(",\"_meta\":");
            body.push_str(&meta);
        }
        for (name, value) in &members {
            if ["_meta", "resultType", "ttlMs", "cacheScope"].contains(&&**name) {
                continue;
            }
            body.push(',');
            body.push_str(&Value::from(&**name).to_string());
            body.push(':');
            match (self.method, &**name) {
                ("tools/list", "tools") => body.push_str(&without_execution(value.get())),
                _ => body.push_str(value.get()),
            }
        }
        body.push('}');
        result_response(self.id, body.as_bytes())
    }

    /// `_meta` of a result: the worker's own, and who it is.
    fn meta(&self, own: Option<&str>) -> Option<String> {
        let mut meta: Map<String, Value> = own
            .and_then(|own| serde_json::from_str(own).ok())
            .unwrap_or_default();
        if let Some(info) = self.server_info
            && let Ok(info) = serde_json::from_str(info)
        {
            meta.insert(meta::SERVER_INFO.to_owned(), info);
        }
        (own.is_some() || !meta.is_empty()).then(|| Value::Object(meta).to_string())
    }

    /// The HTTP status and the response with a worker's error: codes that this revision gives
    /// another meaning, or reserves, are translated (basic, "Error Codes").
    pub fn error(&self, error: &str) -> (u16, Bytes) {
        let mut error: Value = serde_json::from_str(error).unwrap_or(Value::Null);
        if !error.is_object() {
            error = json!({ "message": "the server's error is no object", "data": error });
        }
        let found = error["code"]
            .as_i64()
            .unwrap_or(i64::from(code::INTERNAL_ERROR));
        let (status, code) = match i32::try_from(found).unwrap_or(code::INTERNAL_ERROR) {
            code::METHOD_NOT_FOUND => (404, code::METHOD_NOT_FOUND),
            code::RESOURCE_NOT_FOUND => {
                if let Some(uri) = self.uri
                    && error["data"].get("uri").is_none()
                {
                    if !error["data"].is_object() {
                        error["data"] = json!({});
                    }
                    error["data"]["uri"] = json!(uri);
                }
                (200, code::INVALID_PARAMS)
            }
            reserved if (-32099..=-32020).contains(&reserved) => (200, code::INTERNAL_ERROR),
            other => (200, other),
        };
        error["code"] = json!(code);
        (
            status,
            raw_error_response(self.id, error.to_string().as_bytes()),
        )
    }
}

/// Tools as they were listed, without what belonged to the legacy era's tasks.
fn without_execution(tools: &str) -> Cow<'_, str> {
    if memchr::memmem::find(tools.as_bytes(), b"\"execution\"").is_none() {
        return Cow::Borrowed(tools);
    }
    let Ok(mut tools) = serde_json::from_str::<Value>(tools) else {
        return Cow::Borrowed(tools);
    };
    for tool in tools.as_array_mut().into_iter().flatten() {
        if let Some(tool) = tool.as_object_mut() {
            tool.remove("execution");
        }
    }
    Cow::Owned(tools.to_string())
}

/// The response to `server/discover`, from what a worker answered to `initialize`.
pub fn discovered(id: &str, initialize_result: &str, lasts: Duration) -> Bytes {
    let server_info: Value = serde_json::from_str(initialize_result).unwrap_or(Value::Null);
    let mut capabilities = server_info["capabilities"].clone();
    if let Some(capabilities) = capabilities.as_object_mut() {
        capabilities.remove("tasks");
    } else {
        capabilities = json!({});
    }
    let mut result = json!({
        "resultType": "complete",
        "supportedVersions": [STATELESS],
        "capabilities": capabilities,
        "ttlMs": u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX),
        "cacheScope": "private",
    });
    if let Some(instructions) = server_info.get("instructions") {
        result["instructions"] = instructions.clone();
    }
    if let Some(info) = server_info.get("serverInfo") {
        result["_meta"] = json!({ meta::SERVER_INFO: info });
    }
    result_response(id, result.to_string().as_bytes())
}

/// The response to `server/discover`, from what a worker of this revision answered to it: its own,
/// but for revisions that are not served here.
pub fn rediscovered(id: &str, discovery: &str) -> Bytes {
    let mut result: Value = serde_json::from_str(discovery).unwrap_or(Value::Null);
    result["supportedVersions"] = json!([STATELESS]);
    result_response(id, result.to_string().as_bytes())
}

/// The HTTP status for an error of a worker of this revision
/// (basic/transports/streamable-http, "Sending Messages to the Server").
pub fn status_of(error: &str) -> u16 {
    let error: Value = serde_json::from_str(error).unwrap_or(Value::Null);
    match error["code"]
        .as_i64()
        .and_then(|code| i32::try_from(code).ok())
    {
        Some(code::METHOD_NOT_FOUND) => 404,
        Some(code::HEADER_MISMATCH | code::MISSING_CAPABILITY | code::UNSUPPORTED_VERSION) => 400,
        _ => 200,
    }
}
