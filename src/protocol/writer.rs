//! JSON-RPC messages, as they are written (JSON-RPC 2.0, 4 and 5). Ids, parameters, results and errors are raw JSON.

use std::fmt::Display;

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;
use smallvec::SmallVec;

use super::envelope::quoted;

const BEFORE_ID: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":";

/// The request of that method under `id`, with those parameters.
pub fn request(id: impl Display, method: &str, params: impl Display) -> String {
    let method = quoted(method);
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method},"params":{params}}}"#)
}

/// The request of that method under `id`, without parameters.
pub fn bare_request(id: impl Display, method: &str) -> String {
    let method = quoted(method);
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method}}}"#)
}

/// The request of a method whose name is escaped already (what stands between its quotes), with parameters that are
/// written in pieces; without any where there are no pieces.
pub fn request_of_pieces(id: &[u8], method: &[u8], params: &[&[u8]]) -> Vec<u8> {
    let mut parts =
        SmallVec::<[&[u8]; 10]>::from_slice(&[BEFORE_ID, id, b",\"method\":\"", method, b"\""]);
    if !params.is_empty() {
        parts.push(b",\"params\":");
        parts.extend_from_slice(params);
    }
    parts.push(b"}");
    // Of exact size it is shared without another allocation.
    let mut request = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
    parts
        .iter()
        .for_each(|part| request.extend_from_slice(part));
    request
}

/// The response with that result.
pub fn result_response(id: &str, result: &[u8]) -> Bytes {
    response(id, b",\"result\":", result)
}

/// The response with an error that is written already.
pub fn raw_error_response(id: &str, error: &[u8]) -> Bytes {
    response(id, b",\"error\":", error)
}

/// The notification of that method, with those parameters.
pub fn notification(method: &str, params: impl Display) -> String {
    let method = quoted(method);
    format!(r#"{{"jsonrpc":"2.0","method":{method},"params":{params}}}"#)
}

/// The notification of that method, without parameters.
pub fn bare_notification(method: &str) -> String {
    let method = quoted(method);
    format!(r#"{{"jsonrpc":"2.0","method":{method}}}"#)
}

/// The notification of how far a request is, to whoever asked with that token.
pub fn progress_notification(token: &str, progress: f64, message: &str) -> String {
    let message = quoted(message);
    let params =
        format!(r#"{{"progressToken":{token},"progress":{progress},"message":{message}}}"#);
    notification("notifications/progress", params)
}

/// The response with that error; `id` is `null` where it is not known.
pub fn error_response(id: &str, error: &Value) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
}

fn response(id: &str, member: &[u8], body: &[u8]) -> Bytes {
    let len = BEFORE_ID.len() + id.len() + member.len() + body.len() + 1;
    let mut response = BytesMut::with_capacity(len);
    for part in [BEFORE_ID, id.as_bytes(), member, body, b"}"] {
        response.put_slice(part);
    }
    response.freeze()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn requests_and_notifications_are_json_whatever_their_method_is_called() {
        let read = |text: &[u8]| serde_json::from_slice::<Value>(text).expect("JSON");
        let params = json!({ "a": [1] });
        let whole = json!({ "jsonrpc": "2.0", "id": 7, "method": "x \"y\"", "params": params });
        assert_eq!(read(request(7, "x \"y\"", &params).as_bytes()), whole);
        let pieces: [&[u8]; 3] = [b"{\"a\":[", b"1", b"]}"];
        assert_eq!(
            read(&request_of_pieces(b"7", br#"x \"y\""#, &pieces)),
            whole
        );
        assert_eq!(
            request_of_pieces(b"1", b"ping", &[]),
            bare_request(1, "ping").as_bytes()
        );
        assert_eq!(
            bare_request(1, "ping"),
            r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#
        );
        let notified = read(notification("n", &params).as_bytes());
        assert_eq!(
            notified,
            json!({ "jsonrpc": "2.0", "method": "n", "params": params })
        );
        assert_eq!(bare_notification("n"), r#"{"jsonrpc":"2.0","method":"n"}"#);
        let progress = read(progress_notification("\"t\"", 2.0, "at \"x\"").as_bytes());
        let params = json!({ "progressToken": "t", "progress": 2, "message": "at \"x\"" });
        assert_eq!(progress["params"], params);
    }

    #[test]
    fn responses_are_json_with_the_id_as_it_was_sent() {
        let result = result_response(r#""a b""#, br#"{"x":1}"#);
        assert_eq!(
            result,
            &br#"{"jsonrpc":"2.0","id":"a b","result":{"x":1}}"#[..]
        );
        assert_eq!(
            raw_error_response("null", b"{}"),
            &br#"{"jsonrpc":"2.0","id":null,"error":{}}"#[..]
        );
        let error = error_response("7", &json!({ "code": -32600, "message": "no \"x\"" }));
        let read: Value = serde_json::from_str(&error).expect("JSON");
        assert_eq!(read["id"], 7);
        assert_eq!(read["error"]["message"], "no \"x\"");
    }
}
