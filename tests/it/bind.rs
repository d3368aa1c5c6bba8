//! Arguments that the operator sets, and what a server is told of who calls.

use http::StatusCode;
use serde_json::{Value, json};

use super::support::{Client, Stdiopool};

fn serve() -> Stdiopool {
    let binary = env!("CARGO_BIN_EXE_issue-server");
    Stdiopool::serve(&format!(
        r#"
[servers.issues]
command = "{binary}"
args = ["--repo", "a/b"]
env = {{ GITHUB_TOKEN = "t" }}
identity = ["tenant", "sub"]
client_config = ["labels"]
[servers.issues.bind.create_issue]
account_id = "account-of-${{tenant.id}}"
labels = "${{config.labels}}"
[servers.issues.config]
properties.labels = {{ type = "array", items = {{ type = "string" }}, default = ["new"] }}
[servers.issues.tools]
deny = ["delete_*"]
[servers.quiet]
command = "{binary}"
args = ["--repo", "c/d"]
env = {{ GITHUB_TOKEN = "t" }}
"#
    ))
}

fn told(answer: &Value) -> Value {
    let text = answer["result"]["content"][0]["text"].as_str();
    serde_json::from_str(text.unwrap_or_else(|| panic!("no text: {answer}"))).expect("JSON")
}

/// A request of either era.
async fn ask(client: &Client, stateless: bool, method: &str, mut params: Value) -> Value {
    let mut request = client
        .request(http::Method::POST)
        .header("content-type", "application/json");
    if stateless {
        params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
        params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
        request = request
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", method);
        if let Some(name) = params["name"].as_str() {
            request = request.header("mcp-name", name);
        }
    }
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let answer = request
        .body(body.to_string())
        .send()
        .await
        .expect("answers");
    answer.json().await.expect("JSON")
}

fn tool<'a>(listed: &'a Value, name: &str) -> &'a Value {
    let tools = listed["result"]["tools"].as_array();
    let tools = tools.unwrap_or_else(|| panic!("no tools: {listed}"));
    let found = tools
        .iter()
        .find(|tool| tool["name"].as_str().is_some_and(|own| own.ends_with(name)));
    found.unwrap_or_else(|| panic!("no {name}: {listed}"))
}

#[tokio::test]
async fn bound_arguments_are_hidden_set_and_not_to_be_given_on_every_way() {
    let pool = serve();
    let plain = pool.client_of("acme", "issues");
    let session = plain.clone().connect().await;
    let all = Client::new(format!("{}/t/acme/mcp", pool.url));
    let session_of_all = all.clone().connect().await;
    for (client, stateless) in [
        (&session, false),
        (&plain, true),
        (&session_of_all, false),
        (&all, true),
    ] {
        // The second list is from the catalog.
        for _ in 0..2 {
            let listed = ask(client, stateless, "tools/list", json!({})).await;
            let create = tool(&listed, "create_issue");
            let schema = json!({
                "type": "object", "properties": { "title": { "type": "string" } }, "required": ["title"],
            });
            assert_eq!(create["inputSchema"], schema);
            assert_eq!(create["description"], "Opens an issue");
            assert_eq!(
                tool(&listed, "whoami")["inputSchema"],
                json!({ "type": "object" })
            );
        }
        let listed = ask(client, stateless, "tools/list", json!({})).await;
        let name = &tool(&listed, "create_issue")["name"];
        let call = json!({ "name": name, "arguments": { "title": "x" } });
        let done = told(&ask(client, stateless, "tools/call", call).await);
        let expected = json!({ "title": "x", "account_id": "account-of-acme", "labels": ["new"] });
        assert_eq!(done["arguments"], expected);
        for argument in ["account_id", "labels"] {
            let call = json!({ "name": name, "arguments": { "title": "x", argument: "mine" } });
            let refused = ask(client, stateless, "tools/call", call).await;
            assert_eq!(refused["error"]["code"], -32602, "{refused}");
            let message = refused["error"]["message"].as_str().unwrap_or_default();
            assert!(
                message.contains(argument) && !message.contains("mine"),
                "{refused}"
            );
        }
    }
}

#[tokio::test]
async fn arguments_follow_the_config_of_the_request() {
    let pool = serve();
    let client = pool.client("issues").connect().await;
    let call = json!({ "name": "create_issue", "arguments": { "title": "x" }, "clientConfig": { "labels": ["bug", "p1"] } });
    let done = client.ask("tools/call", call).await;
    assert_eq!(
        told(done.response())["arguments"]["labels"],
        json!(["bug", "p1"])
    );
    let call = json!({ "name": "create_issue", "arguments": { "title": "x" }, "clientConfig": { "labels": "bug" } });
    let refused = client.ask("tools/call", call).await;
    assert_eq!(
        (refused.status, refused.reason()),
        (StatusCode::OK, "config_invalid")
    );
}

#[tokio::test]
async fn a_server_is_told_who_calls_by_stdiopool_alone() {
    let pool = serve();
    let claim = json!({ "dev.stdiopool/identity": { "tenant": "root" }, "x": 1 });
    for stateless in [false, true] {
        let mut client = pool.client_of("acme", "issues");
        let mut quiet = pool.client_of("acme", "quiet");
        if !stateless {
            (client, quiet) = (client.connect().await, quiet.connect().await);
        }
        let call = json!({ "name": "whoami", "arguments": {}, "_meta": claim });
        let seen = told(&ask(&client, stateless, "tools/call", call.clone()).await);
        assert_eq!(
            seen["meta"]["dev.stdiopool/identity"],
            json!({ "tenant": "acme" })
        );
        assert_eq!(seen["meta"]["x"], 1);
        let seen = told(&ask(&quiet, stateless, "tools/call", call).await);
        assert_eq!(seen["meta"].get("dev.stdiopool/identity"), None, "{seen}");
        assert_eq!(seen["meta"]["x"], 1);
    }
}
