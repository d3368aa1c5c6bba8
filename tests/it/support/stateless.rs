//! Requests of the stateless revision, 2026-07-28.

use http::StatusCode;
use serde_json::{Value, json};

use super::Client;

pub(crate) const PREFIX: &str = "io.modelcontextprotocol";

pub(crate) fn params(mut params: Value, capabilities: &Value) -> Value {
    params["_meta"][format!("{PREFIX}/protocolVersion")] = json!("2026-07-28");
    params["_meta"][format!("{PREFIX}/clientCapabilities")] = capabilities.clone();
    params
}

/// A request as such a client makes it.
pub(crate) async fn send(client: &Client, method: &str, params: Value) -> reqwest::Response {
    let mut request = client
        .request(http::Method::POST)
        .header("content-type", "application/json")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", method);
    for name in ["name", "uri"] {
        if let Some(value) = params[name].as_str() {
            request = request.header("mcp-name", value);
        }
    }
    let body = json!({"jsonrpc": "2.0", "id": "r1", "method": method, "params": params});
    request
        .body(body.to_string())
        .send()
        .await
        .expect("answers")
}

/// Status, the notifications before the response, and the response.
pub(crate) async fn ask(
    client: &Client,
    method: &str,
    params: Value,
) -> (StatusCode, Vec<Value>, Value) {
    let response = send(client, method, params).await;
    let status = response.status();
    let is_stream = response.headers()["content-type"] == "text/event-stream";
    let text = response.text().await.expect("whole");
    let mut messages: Vec<Value> = if is_stream {
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|data| serde_json::from_str(data).expect("JSON"))
            .collect()
    } else {
        vec![serde_json::from_str(&text).expect("JSON")]
    };
    let last = messages.pop().expect("a response");
    assert_eq!(last["id"], "r1", "{last}");
    (status, messages, last)
}

pub(crate) async fn call(
    client: &Client,
    tool: &str,
    arguments: Value,
    capabilities: &Value,
) -> Value {
    let asked = params(json!({"name": tool, "arguments": arguments}), capabilities);
    ask(client, "tools/call", asked).await.2
}

pub(crate) fn text(response: &Value) -> &str {
    response["result"]["content"][0]["text"]
        .as_str()
        .unwrap_or("none")
}

pub(crate) fn elicitation() -> Value {
    json!({"elicitation": {}})
}
