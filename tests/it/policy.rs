//! Who may use which servers and tools, on every way to them, and how that is explained.

use http::StatusCode;
use serde_json::{Value, json};

use super::support::{Client, Stdiopool, demo};

const RULES: &str = r#"
[policy]
default = "deny"
[policy.adders]
tenants = ["acme", "initech"]
servers = ["demo"]
tools = { allow = ["add", "echo"] }
[policy.everything]
tenants = ["globex"]
[policy.no-echo]
tenants = ["acme"]
tools = { deny = ["ec*"] }
"#;

fn serve() -> Stdiopool {
    Stdiopool::serve(&(demo("demo", "") + &demo("other", "") + RULES))
}

async fn tools_of(client: &Client) -> Vec<String> {
    let answer = client.ask("tools/list", json!({})).await;
    let tools = answer.result()["tools"].as_array().cloned();
    let name = |tool: &Value| tool["name"].as_str().expect("a name").to_owned();
    tools.unwrap_or_default().iter().map(name).collect()
}

/// A request of the stateless revision.
async fn ask_stateless(client: &Client, method: &str, mut params: Value) -> (StatusCode, Value) {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let mut request = client
        .request(http::Method::POST)
        .header("content-type", "application/json")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", method);
    if let Some(name) = params["name"].as_str() {
        request = request.header("mcp-name", name);
    }
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let answer = request
        .body(body.to_string())
        .send()
        .await
        .expect("answers");
    (answer.status(), answer.json().await.expect("JSON"))
}

#[tokio::test]
async fn lists_and_calls_have_what_the_rules_grant_in_both_eras() {
    let pool = serve();
    let acme = pool.client_of("acme", "demo").connect().await;
    assert_eq!(tools_of(&acme).await, ["add"]);
    assert_eq!(acme.call("add", json!({"a": 1, "b": 2})).await.text(), "3");
    let denied = acme.call("echo", json!({"message": "x"})).await;
    let never_was = acme.call("nothing", json!({})).await;
    assert_eq!(denied.message(), "unknown tool: echo");
    assert_eq!(never_was.message(), "unknown tool: nothing");
    assert_eq!(denied.response()["error"]["code"], -32602);
    // From the catalog as from a worker.
    assert_eq!(tools_of(&acme).await, ["add"]);
    let initech = pool.client_of("initech", "demo").connect().await;
    let mut tools = tools_of(&initech).await;
    tools.sort();
    assert_eq!(tools, ["add", "echo"]);
    let globex = pool.client_of("globex", "demo").connect().await;
    assert!(tools_of(&globex).await.len() > 2);

    let stateless = pool.client_of("acme", "demo");
    let (_, listed) = ask_stateless(&stateless, "tools/list", json!({})).await;
    assert_eq!(listed["result"]["tools"].as_array().map(Vec::len), Some(1));
    let call = json!({ "name": "echo", "arguments": { "message": "x" } });
    let (_, denied) = ask_stateless(&stateless, "tools/call", call).await;
    assert_eq!(denied["error"]["message"], "unknown tool: echo");
    let call = json!({ "name": "add", "arguments": { "a": 1, "b": 2 } });
    let (_, added) = ask_stateless(&stateless, "tools/call", call).await;
    assert_eq!(added["result"]["content"][0]["text"], "3");
}

#[tokio::test]
async fn a_name_that_is_hidden_from_the_rules_is_not_passed_on() {
    let pool = serve();
    let acme = pool.client_of("acme", "demo").connect().await;
    for params in [
        r#"{"name":"add","name":"echo","arguments":{"message":"x"}}"#,
        r#"{"name":"ech\u006f","arguments":{"message":"x"}}"#,
        r#"{"n\u0061me":"echo","arguments":{"message":"x"}}"#,
        r#"{"name":["echo"],"arguments":{"message":"x"}}"#,
    ] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
        let answer: Value = acme.send_raw(body).await.json().await.expect("JSON");
        assert_eq!(answer["error"]["code"], -32602, "{params}: {answer}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_granted_is_not_there() {
    let pool = serve();
    let mut told = Vec::new();
    for (tenant, server) in [
        ("acme", "other"),
        ("stranger", "other"),
        ("globex", "missing"),
    ] {
        let client = pool.client_of(tenant, server);
        let refused = client.try_initialize("2025-11-25", json!({})).await;
        assert_eq!(
            (refused.status, refused.reason()),
            (StatusCode::NOT_FOUND, "not_found")
        );
        let (status, _) = ask_stateless(&client, "server/discover", json!({})).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        told.push(refused.message().replace(server, "SERVER"));
    }
    assert!(told.iter().all(|message| *message == told[0]), "{told:?}");
    assert!(pool.workers().await.is_empty());
}

#[tokio::test]
async fn a_session_that_is_there_obeys_rules_that_are_new() {
    let pool = serve();
    let globex = pool.client_of("globex", "demo").connect().await;
    globex.call("echo", json!({"message": "x"})).await.result();
    let path = pool.dir.path().join("pool.toml");
    let text = std::fs::read_to_string(&path).expect("there");
    std::fs::write(&path, text.replace("tenants = [\"acme\"]", "")).expect("written");
    let reloaded = pool.command(&["reload"]).output().expect("runs");
    assert!(reloaded.status.success(), "{reloaded:?}");
    let denied = globex.call("echo", json!({"message": "x"})).await;
    assert_eq!(denied.message(), "unknown tool: echo");
    assert!(!tools_of(&globex).await.contains(&"echo".to_owned()));
}

#[test]
fn decisions_are_explained_with_their_line() {
    let dir = crate::support::open_folder().expect("a folder");
    let toml = "[servers.demo]\ncommand = \"stdiopool\"\nargs = [\"demo-server\"]\n\
                tools = { deny = [\"sleep\"] }\n"
        .to_owned()
        + RULES;
    std::fs::write(dir.path().join("pool.toml"), toml).expect("written");
    let explain = |args: &[&str]| {
        let mut command = std::process::Command::new(super::support::BINARY);
        command.arg("explain").args(args).current_dir(dir.path());
        let output = command.output().expect("runs");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        (output.status.code(), text)
    };
    let (code, text) = explain(&["--tenant", "acme", "--server", "demo", "--tool", "echo"]);
    assert_eq!(code, Some(1));
    insta::assert_snapshot!(text, @r#"
    denied: tool `echo` of server `demo` for tenant `acme`
      pool.toml:4: `servers.demo.tools.allow` has "*"
      pool.toml:14: `policy.no-echo.tools.deny` has "ec*", which takes it away
    "#);
    let user = ["--user", "anna", "--scope", "x", "--scope", "y"];
    let (code, text) = explain(&[&["--tenant", "globex", "--server", "demo"], &user[..]].concat());
    assert_eq!(code, Some(0));
    insta::assert_snapshot!(text, @r"
    allowed: server `demo` for user `anna` of tenant `globex` with `x`, `y`
      pool.toml:12: `policy.everything` grants it
    ");
    let (code, text) = explain(&[
        "--tenant", "globex", "--server", "demo", "--tool", "sleep", "--json",
    ]);
    assert_eq!(code, Some(1));
    let told: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(told["allowed"], false);
    assert_eq!(told["steps"][0]["line"], 4);
    let (code, text) = explain(&["--tenant", "nobody", "--server", "demo"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("pool.toml:7: no rule grants"), "{text}");
    assert_eq!(explain(&["--server", "missing"]).0, Some(1));
    assert_eq!(explain(&[]).0, Some(2));
}

#[tokio::test]
async fn all_servers_as_one_are_those_that_are_granted() {
    let pool = serve();
    let client = Client::new(format!("{}/t/acme/mcp", pool.url))
        .connect()
        .await;
    let tools = tools_of(&client).await;
    assert_eq!(tools.len(), 1, "{tools:?}");
    let add = &tools[0];
    assert_eq!(client.call(add, json!({"a": 1, "b": 2})).await.text(), "3");
    for hidden in [add.replace("add", "echo"), add.replace("demo", "other")] {
        let denied = client.call(&hidden, json!({"message": "x"})).await;
        assert_eq!(denied.response()["error"]["code"], -32602, "{denied:?}");
    }
    let stateless = Client::new(format!("{}/t/acme/mcp", pool.url));
    let (_, listed) = ask_stateless(&stateless, "tools/list", json!({})).await;
    assert_eq!(listed["result"]["tools"].as_array().map(Vec::len), Some(1));
    let call = json!({ "name": add.replace("add", "echo"), "arguments": { "message": "x" } });
    let (_, denied) = ask_stateless(&stateless, "tools/call", call).await;
    assert_eq!(denied["error"]["code"], -32602, "{denied}");
}
