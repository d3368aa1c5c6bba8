//! The front door: status codes, headers, JSON or event stream, batches, negotiation.

use http::header::{ACCEPT, CONTENT_TYPE, HOST, ORIGIN};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::support::{Stdiopool, demo, eventually};

#[tokio::test]
async fn a_session_goes_from_initialize_to_delete() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client("demo").connect().await;
    let session = client.session.clone().expect("a session");
    assert!(session.len() >= 32 && session.bytes().all(|b| b.is_ascii_hexdigit()));
    let tools = client.ask("tools/list", json!({})).await;
    assert!(!tools.is_stream, "a result that comes first is plain JSON");
    let names: Vec<_> = tools.result()["tools"]
        .as_array()
        .expect("tools")
        .iter()
        .map(|t| &t["name"])
        .collect();
    assert!(names.contains(&&json!("echo")), "{names:?}");
    assert_eq!(
        client.call("echo", json!({"message": "hi"})).await.text(),
        "hi"
    );
    assert_eq!(client.ask("ping", json!({})).await.result(), &json!({}));
    let unknown = client.ask("no/such/method", json!({})).await;
    assert_eq!(
        (unknown.status, unknown.response()["error"]["code"].as_i64()),
        (StatusCode::OK, Some(-32601))
    );
    assert_eq!(client.delete().await, StatusCode::NO_CONTENT);
    let gone = client.ask("tools/list", json!({})).await;
    assert_eq!(
        (gone.status, gone.reason()),
        (StatusCode::NOT_FOUND, "not_found")
    );
}

#[tokio::test]
async fn every_revision_is_agreed_as_asked_and_unknown_ones_as_the_latest() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let asked_and_answered = [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
    ];
    for (asked, answered) in asked_and_answered {
        let client = pool.client("demo").connect_as(asked, json!({})).await;
        assert_eq!(client.version.as_deref(), Some(answered));
        assert_eq!(
            client.call("echo", json!({"message": "x"})).await.text(),
            "x"
        );
    }
}

#[tokio::test]
async fn a_worker_that_speaks_an_older_revision_decides() {
    let args = ["--mode", "old-version", "--version", "2025-03-26"];
    let pool = Stdiopool::serve(&super::support::faulty("old", &args, ""));
    let client = pool.client("old").connect().await;
    assert_eq!(client.version.as_deref(), Some("2025-03-26"));
    let args = ["--mode", "old-version", "--version", "1999-01-01"];
    let pool = Stdiopool::serve(&super::support::faulty("old", &args, ""));
    let refused = pool
        .client("old")
        .try_initialize("2025-11-25", json!({}))
        .await;
    assert_eq!(
        (refused.status, refused.reason()),
        (StatusCode::OK, "start_failed")
    );
    assert!(
        refused.message().contains("1999-01-01"),
        "{}",
        refused.message()
    );
}

#[tokio::test]
async fn faults_of_a_request_are_told_apart() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client("demo").connect().await;
    for (body, status, code) in [
        ("{", 400, -32700),
        ("hello", 400, -32700),
        ("{}", 400, -32600),
        (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, 400, -32600),
        (
            r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
            400,
            -32600,
        ),
        (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, 400, -32600),
        ("\u{feff}{}", 400, -32700),
        ("", 400, -32700),
    ] {
        let response = client.send_raw(body).await;
        assert_eq!(response.status().as_u16(), status, "{body}");
        let error: Value = response.json().await.expect("JSON");
        assert_eq!(error["error"]["code"], code, "{body}");
        let id = if body.contains("\"id\":1") {
            json!(1)
        } else {
            Value::Null
        };
        assert_eq!(error["id"], id, "{body}");
    }
    let large = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":"{}"}}"#,
        "x".repeat(2 << 20)
    );
    let response = client.send_raw(large.clone()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let error: Value = response.json().await.expect("JSON");
    assert_eq!(error["error"]["data"]["reason"], "message_too_large");
    assert_eq!(error["id"], 1);
    // Nobody waits for an answer to it.
    let response = client.send_raw(large.replace("\"id\":1,", "")).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);

    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string();
    let post = || {
        client
            .request(Method::POST)
            .header(CONTENT_TYPE, "application/json")
            .body(ping.clone())
    };
    let status = |request: reqwest::RequestBuilder| async {
        request.send().await.expect("answers").status().as_u16()
    };
    assert_eq!(status(post()).await, 200);
    assert_eq!(
        status(
            client
                .request(Method::POST)
                .header(CONTENT_TYPE, "text/plain")
                .body(ping.clone())
        )
        .await,
        415
    );
    assert_eq!(status(client.request(Method::PUT)).await, 405);
    assert_eq!(
        status(post().header("MCP-Protocol-Version", "1999-01-01")).await,
        400
    );
    let plain = reqwest::Client::new();
    let bare = |accept: &str| {
        plain
            .post(&client.url)
            .header(ACCEPT, accept)
            .header(CONTENT_TYPE, "application/json")
            .body(ping.clone())
    };
    assert_eq!(status(bare("text/html")).await, 406);
    assert_eq!(status(bare("application/json")).await, 406);
    assert_eq!(status(bare("*/*")).await, 400, "no session id");
    assert_eq!(
        status(bare("*/*").header("Mcp-Session-Id", "00000000000000000000000000000000")).await,
        404
    );
    assert_eq!(
        status(bare("*/*").header(ORIGIN, "http://evil.example")).await,
        403
    );
    assert_eq!(status(bare("*/*").header(HOST, "evil.example")).await, 403);
    assert_eq!(
        status(plain.get(&client.url).header(ACCEPT, "application/json")).await,
        406
    );
    assert_eq!(
        status(plain.get(format!("{}/nowhere/mcp", pool.url))).await,
        404
    );
    assert_eq!(
        status(plain.get(format!("{}/healthz", pool.url))).await,
        200
    );
    assert_eq!(status(plain.get(format!("{}/readyz", pool.url))).await, 200);
}

#[tokio::test]
async fn batches_belong_to_the_one_revision_that_has_them() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let echo = |id: u32, text: &str| {
        let params = json!({"name": "echo", "arguments": {"message": text}});
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
    };
    let batch = json!([echo(1, "a"), {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}, echo(2, "b"), {"jsonrpc": "2.0", "id": 3, "method": "ping"}]);
    let old = pool
        .client("demo")
        .connect_as("2025-03-26", json!({}))
        .await;
    let answer = old.post(&batch).await;
    assert_eq!(answer.status, StatusCode::OK);
    let mut answers = answer.response().as_array().expect("an array").clone();
    answers.sort_by_key(|answer| answer["id"].as_u64());
    assert_eq!(answers.len(), 3);
    assert_eq!(answers[0]["result"]["content"][0]["text"], "a");
    assert_eq!(answers[1]["result"]["content"][0]["text"], "b");
    let only_told = json!([{"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}]);
    assert_eq!(old.post(&only_told).await.status, StatusCode::ACCEPTED);
    assert_eq!(old.post(&json!([])).await.status, StatusCode::BAD_REQUEST);
    let hello = json!([{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}]);
    assert_eq!(old.post(&hello).await.status, StatusCode::BAD_REQUEST);
    let new = pool.client("demo").connect().await;
    let refused = new.post(&batch).await;
    assert_eq!(
        (refused.status, refused.reason()),
        (StatusCode::BAD_REQUEST, "invalid_request")
    );
}

#[tokio::test]
async fn a_call_that_reports_progress_becomes_a_stream() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client("demo").connect().await;
    let params = json!({"name": "sleep", "arguments": {"seconds": 0.05, "steps": 3}, "_meta": {"progressToken": "mine"}});
    let answer = client.ask("tools/call", params).await;
    assert!(answer.is_stream);
    let (response, progress) = answer.messages.split_last().expect("not empty");
    assert!(response["result"].is_object(), "the response comes last");
    assert!(!progress.is_empty());
    for notification in progress {
        assert_eq!(notification["method"], "notifications/progress");
        assert_eq!(notification["params"]["progressToken"], "mine");
    }
}

#[tokio::test]
async fn pretty_printed_requests_and_unusual_ids_pass() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client("demo").connect().await;
    let body = "{\n  \"method\": \"tools/call\",\r\n  \"params\": {\n    \"name\": \"echo\",\n \"arguments\": {\"message\": \"li\\nne\"}\n  },\n  \"id\": \"\\u00e9 1\",\n  \"jsonrpc\": \"2.0\"\n}\n";
    let response = client.send_raw(body).await;
    let answer: Value = response.json().await.expect("JSON");
    assert_eq!(answer["id"], "é 1");
    assert_eq!(answer["result"]["content"][0]["text"], "li\nne");
    for id in [
        json!(0),
        json!(-1),
        json!(9_007_199_254_740_991_u64),
        json!(""),
    ] {
        let answer = client
            .post(&json!({"jsonrpc": "2.0", "id": id, "method": "tools/list"}))
            .await;
        assert_eq!(answer.response()["id"], id);
    }
}

#[tokio::test]
async fn one_command_is_hosted_without_a_file() {
    let dir = crate::support::open_folder().expect("a folder");
    let command = [
        env!("CARGO_BIN_EXE_stdiopool"),
        "demo-server",
        "--flag",
        "value",
    ];
    let mut args = vec![
        "--http".to_owned(),
        "127.0.0.1:0".into(),
        "--admin".into(),
        "127.0.0.1:0".into(),
        "--".into(),
    ];
    args.extend(command.map(str::to_owned));
    let pool = Stdiopool::run(dir, &args, &[]);
    let client = super::support::Client::new(format!("{}/mcp", pool.url))
        .connect()
        .await;
    let me: Value =
        serde_json::from_str(client.call("whoami", json!({})).await.text()).expect("JSON");
    assert_eq!(me["arguments"], json!(["--flag", "value"]));
    let workers = pool.workers().await;
    assert_eq!(workers[0]["tenant"], "default");
}

/// The stream of the transport of 2024-11-05 is one tenant's alone, and takes messages only of its own.
#[tokio::test]
async fn the_old_transport_answers_on_its_stream_and_to_nobody_else() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let http = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");
    let mut stream = http
        .get(format!("{}/t/acme/demo/sse", pool.url))
        .send()
        .await
        .expect("answers");
    let mut told = String::new();
    let mut read_until = async |what: &str| {
        while !told.contains(what) {
            let chunk = stream.chunk().await.expect("reads").expect("more");
            told.push_str(&String::from_utf8_lossy(&chunk));
        }
        told.clone()
    };
    let endpoint = read_until("\n\n").await;
    let path = endpoint
        .lines()
        .find_map(|line| line.strip_prefix("data: "));
    let path = path.expect("where to POST").to_owned();
    assert!(
        path.starts_with("/t/acme/demo/messages?session_id="),
        "{path}"
    );
    let post = async |path: &str, body: Value| {
        let request = http.post(format!("{}{path}", pool.url));
        let request = request.header("content-type", "application/json");
        let sent = request.body(body.to_string()).send().await;
        sent.expect("answers").status()
    };
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let other = path.replace("acme", "globex");
    assert_eq!(post(&other, list.clone()).await, StatusCode::NOT_FOUND);
    assert_eq!(post(&path, list.clone()).await, StatusCode::ACCEPTED);
    assert!(read_until("\"id\":1").await.contains("session_required"));
    let params = json!({"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "old", "version": "1"}});
    let initialize = json!({"jsonrpc": "2.0", "id": 2, "method": "initialize", "params": params});
    assert_eq!(post(&path, initialize).await, StatusCode::ACCEPTED);
    assert!(
        read_until("\"id\":2")
            .await
            .contains("\"protocolVersion\":\"2024-11-05\"")
    );
    let call = json!({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "echo", "arguments": {"message": "old but gold"}}});
    assert_eq!(post(&path, call).await, StatusCode::ACCEPTED);
    assert!(read_until("\"id\":3").await.contains("old but gold"));
    // What is too large is told where its answer would be; what names no request, by the status.
    let long = "x".repeat(9 << 20);
    let call = json!({"jsonrpc": "2.0", "id": 4, "method": "tools/call", "params": {"name": "echo", "arguments": {"message": long}}});
    assert_eq!(post(&path, call.clone()).await, StatusCode::ACCEPTED);
    let told = read_until("\"id\":4").await;
    let told = told.split("\"id\":4").last().expect("an answer");
    assert!(
        told.contains("message_too_large") && told.contains("`http.max_body`"),
        "{told}"
    );
    let notice = json!({"jsonrpc": "2.0", "method": "notifications/x", "params": {"x": long}});
    assert_eq!(post(&path, notice).await, StatusCode::PAYLOAD_TOO_LARGE);
    let nobodys = format!("{path}0");
    assert_eq!(post(&nobodys, call).await, StatusCode::PAYLOAD_TOO_LARGE);
    let call = json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "echo", "arguments": {"message": "still here"}}});
    assert_eq!(post(&path, call).await, StatusCode::ACCEPTED);
    assert!(read_until("\"id\":5").await.contains("still here"));
    drop(stream);
    let none_left = async || pool.admin_json("sessions").await == json!([]);
    eventually("no session is left", none_left).await;
    assert_eq!(post(&path, list).await, StatusCode::NOT_FOUND);
}
