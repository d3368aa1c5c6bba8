//! What is well formed and refused all the same is told in the answer to its request: the session goes on, on every way.

use http::StatusCode;
use serde_json::{Value, json};

use super::support::{Client, Stdiopool};

fn serve() -> Stdiopool {
    let binary = env!("CARGO_BIN_EXE_issue-server");
    Stdiopool::serve(&format!(
        r#"
[servers.issues]
command = "{binary}"
args = ["--repo", "${{config.repo}}"]
env = {{ GITHUB_TOKEN = "t" }}
client_config = ["repo"]
tools = {{ deny = ["create_*"] }}
[servers.issues.config]
properties.repo = {{ type = "string", pattern = "^[a-z/]+$", default = "a/b" }}
[policy.quiet]
tools = {{ deny = ["delete_*"] }}
"#
    ))
}

fn error(response: &Value) -> (i64, String) {
    let error = &response["error"];
    let reason = error["data"]["reason"]
        .as_str()
        .unwrap_or("none")
        .to_owned();
    (error["code"].as_i64().unwrap_or_default(), reason)
}

/// What of a well-formed request is refused in a session, and with which reason.
fn refused() -> Vec<(Value, &'static str)> {
    let with = |config: Value| json!({ "name": "whoami", "clientConfig": config });
    vec![
        (json!({ "name": "create_issue" }), "none"),
        (json!({ "name": "delete_repo" }), "none"),
        (with(json!({ "repo": "UP" })), "config_invalid"),
        (with(json!({ "other": "x" })), "config_invalid"),
        (
            with(json!("cfg_00000000000000000000000000000000")),
            "config_invalid",
        ),
    ]
}

#[tokio::test]
async fn a_session_goes_on_after_whatever_is_refused_in_it() {
    let pool = serve();
    let client = pool.client("issues").connect().await;
    let old = pool
        .client("issues")
        .connect_as("2025-03-26", json!({}))
        .await;
    for (params, reason) in refused() {
        let answer = client.ask("tools/call", params.clone()).await;
        assert_eq!(answer.status, StatusCode::OK, "{params}: {answer:?}");
        assert_eq!(
            error(answer.response()),
            (-32602, reason.to_owned()),
            "{params}"
        );
        // In a batch, each for itself.
        let call = |id, params: &Value| json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params });
        let batch = json!([call(1, &params), call(2, &json!({ "name": "whoami" }))]);
        let answer = old.post(&batch).await;
        assert_eq!(answer.status, StatusCode::OK, "{params}: {answer:?}");
        let answers = answer.response().as_array().cloned().unwrap_or_default();
        let of = |id| answers.iter().find(|answer| answer["id"] == id);
        assert_eq!(error(of(1).expect("answered")), (-32602, reason.to_owned()));
        assert!(
            of(2).is_some_and(|answer| answer["result"].is_object()),
            "{answers:?}"
        );
    }
    for client in [&client, &old] {
        client.call("whoami", json!({})).await.result();
    }
}

#[tokio::test]
async fn a_config_of_the_headers_that_does_not_fit_any_more_ends_no_session() {
    let pool = serve();
    let mut client = pool.client("issues").connect().await;
    // As a handle that has been deleted.
    client.config = Some("cfg_00000000000000000000000000000000".to_owned());
    let answer = client.call("whoami", json!({})).await;
    assert_eq!(
        (answer.status, answer.reason()),
        (StatusCode::OK, "config_invalid")
    );
    assert!(answer.response()["id"].is_number(), "{answer:?}");
    let told = client.tell("notifications/initialized", json!({})).await;
    assert_eq!(told, StatusCode::ACCEPTED);
    let listens = client
        .request(http::Method::GET)
        .send()
        .await
        .expect("answers");
    assert_eq!(listens.status(), StatusCode::OK);
    client.config = None;
    client.call("whoami", json!({})).await.result();
}

#[tokio::test]
async fn over_http_and_sse_it_is_told_on_the_stream() {
    let pool = serve();
    let mut client = pool.client("issues");
    client.url = format!("{}/issues/sse", pool.url);
    let mut response = client
        .request(http::Method::GET)
        .send()
        .await
        .expect("answers");
    let mut first = String::new();
    while !first.contains("\n\n") {
        let chunk = response.chunk().await.expect("open").expect("more");
        first.push_str(&String::from_utf8_lossy(&chunk));
    }
    let address = first.lines().find_map(|line| line.strip_prefix("data: "));
    let mut messages = Client::new(format!("{}{}", pool.url, address.expect("an address")));
    let mut events = client.stream_of(response);
    let about = json!({ "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
    let mut asked = vec![("initialize", about, None)];
    asked.extend(
        refused()
            .into_iter()
            .map(|(params, reason)| ("tools/call", params, Some(reason))),
    );
    asked.push(("tools/call", json!({ "name": "whoami" }), None));
    for (id, (method, params, reason)) in asked.into_iter().enumerate() {
        let asked = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let answer = messages.send_raw(asked.to_string()).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED, "{params}");
        let told = events.next().await.expect("an answer");
        assert_eq!(told["id"], id, "{told}");
        match reason {
            Some(reason) => assert_eq!(error(&told), (-32602, reason.to_owned()), "{told}"),
            None => assert!(told["result"].is_object(), "{told}"),
        }
    }
    messages.config = Some("hunter22!".to_owned());
    let asked = json!({ "jsonrpc": "2.0", "id": 99, "method": "tools/call", "params": { "name": "whoami" } });
    let answer = messages.send_raw(asked.to_string()).await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let told = events.next().await.expect("an answer");
    assert_eq!(
        (told["id"].as_i64(), error(&told).1),
        (Some(99), "config_invalid".to_owned())
    );
}

#[tokio::test]
async fn a_request_without_an_id_is_done_by_nobody() {
    let pool = Stdiopool::serve(
        "[servers.demo]\ncommand = \"stdiopool\"\nargs = [\"demo-server\"]\ntools = { deny = [\"echo\"] }\n",
    );
    let client = pool.client("demo").connect().await;
    let count = async || client.call("counter", json!({})).await.text().to_owned();
    assert_eq!(count().await, "1");
    for (method, tool) in [
        ("tools/call", "counter"),
        ("tools/call", "echo"),
        ("exit", ""),
    ] {
        let message = json!({ "jsonrpc": "2.0", "method": method, "params": { "name": tool, "arguments": {} } });
        let answer = client.post(&message).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
        assert!(answer.message().contains("no `id`"), "{answer:?}");
    }
    let old = pool
        .client("demo")
        .connect_as("2025-03-26", json!({}))
        .await;
    let batch = json!([
        { "jsonrpc": "2.0", "method": "tools/call", "params": { "name": "counter", "arguments": {} } },
        { "jsonrpc": "2.0", "id": 1, "method": "ping" },
    ]);
    old.post(&batch).await;
    assert_eq!(count().await, "2");
}
