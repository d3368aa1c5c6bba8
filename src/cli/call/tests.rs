//! `call` against a made-up front door on loopback: one behaviour per server name.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use clap::Parser;
use futures_util::stream;
use miette::Diagnostic;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::protocol::{Failure, Reason, sse};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    call: CallArgs,
}

/// What reached the front door, one line each.
type Seen = Arc<Mutex<Vec<String>>>;

fn json_body(status: u16, body: String) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    (status, [("content-type", "application/json")], body).into_response()
}

fn refused(failure: &Failure, id: &Value) -> Response {
    let body = failure.to_response(Some(&id.to_string()));
    let mut response = json_body(failure.reason.http_status(), body);
    if let Some(seconds) = failure.retry_after_seconds() {
        response.headers_mut().insert("retry-after", seconds.into());
    }
    response
}

fn event_stream(events: Vec<Vec<u8>>) -> Response {
    let pieces = events.into_iter().map(Ok::<_, std::io::Error>);
    let body = Body::from_stream(stream::iter(pieces));
    ([("content-type", "text/event-stream")], body).into_response()
}

fn event(message: &Value) -> Vec<u8> {
    sse::encode_event(message.to_string().as_bytes(), Some("1"), None).to_vec()
}

fn result_of(params: &Value) -> Value {
    let arguments = &params["arguments"];
    match params["name"].as_str() {
        Some("echo") => json!({ "content": [{ "type": "text", "text": arguments["text"] }] }),
        Some("mixed") => json!({ "content": [
            { "type": "text", "text": "first\n" }, { "type": "image", "data": "AA==", "mimeType": "image/png" },
        ] }),
        Some("structured") => json!({ "content": [], "structuredContent": { "sum": 3 } }),
        _ => json!({ "content": [{ "type": "text", "text": "no such file" }], "isError": true }),
    }
}

fn tools(params: &Value) -> Value {
    match params["cursor"].as_str() {
        None => json!({ "tools": [
            { "name": "echo", "description": "\nSays it again.\nAt length." }, { "name": "add" },
        ], "nextCursor": "2" }),
        Some(_) => json!({ "tools": [{ "name": "sum_of_many", "description": "Adds." }] }),
    }
}

/// Answers `tools/…` of the server `server`.
fn behave(server: &str, id: &Value, method: &str, params: &Value) -> Response {
    let result = if method == "tools/list" {
        tools(params)
    } else {
        result_of(params)
    };
    let answer = json!({ "jsonrpc": "2.0", "id": id, "result": result });
    match server {
        "json" => json_body(200, answer.to_string()),
        "sse" => event_stream(vec![
            b"id: 0\r\ndata:\r\n\r\n: hello\n\n".to_vec(),
            event(&json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": {} })),
            event(&json!({ "jsonrpc": "2.0", "id": "p", "method": "ping" })),
            event(&json!({ "jsonrpc": "2.0", "id": 1, "method": "roots/list" })),
            event(&json!({ "jsonrpc": "2.0", "id": 77, "result": "someone else's" })),
            event(&answer),
        ]),
        "cut" => event_stream(vec![b": hello\n\n".to_vec()]),
        "rpc" => {
            let error = json!({ "code": -32602, "message": "Unknown tool: x" });
            json_body(
                200,
                json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string(),
            )
        }
        "full" => {
            let failure = Failure::new(Reason::PoolExhausted, "queue full (64 waiting)");
            refused(&failure.retry_after(Duration::from_millis(1500)), id)
        }
        "wrong" => json_body(
            200,
            json!({ "jsonrpc": "2.0", "id": 99, "result": {} }).to_string(),
        ),
        "hangs" => {
            let silence = stream::pending::<Result<Vec<u8>, std::io::Error>>();
            let body = Body::from_stream(silence);
            ([("content-type", "text/event-stream")], body).into_response()
        }
        other => panic!("no behaviour for {other}"),
    }
}

async fn front(
    State(seen): State<Seen>,
    path: Path<String>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let header = |name: &str| headers.get(name).map_or("-", |v| v.to_str().expect("text"));
    let message: Value = serde_json::from_str(&body).unwrap_or_default();
    let (id, method) = (&message["id"], message["method"].as_str().unwrap_or("-"));
    let (session, revision) = (header("mcp-session-id"), header("mcp-protocol-version"));
    let answered = match &message["error"]["code"] {
        Value::Null => String::new(),
        code => format!(" {code}"),
    };
    seen.lock()
        .push(format!("{} {method}{answered} {session} {revision}", *path));
    let server = path
        .trim_end_matches("/mcp")
        .rsplit('/')
        .next()
        .unwrap_or_default();
    match (server, method) {
        ("secret", _) if header("authorization") != "Bearer t0ken" => {
            refused(&Failure::new(Reason::Unauthorized, "who are you?"), id)
        }
        ("gone", _) => refused(&Failure::new(Reason::NotFound, "no server `gone`"), id),
        ("stranger", _) => (StatusCode::NOT_FOUND, "<html>404</html>").into_response(),
        (_, "initialize") => {
            let result =
                json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {} });
            let answer = json!({ "jsonrpc": "2.0", "id": id, "result": result });
            let mut response = json_body(200, answer.to_string());
            response
                .headers_mut()
                .insert("mcp-session-id", "s-1".parse().expect("a value"));
            response
        }
        (_, "-" | "notifications/initialized") => StatusCode::ACCEPTED.into_response(),
        ("secret", _) => behave("json", id, method, &message["params"]),
        (server, _) => behave(server, id, method, &message["params"]),
    }
}

/// Runs `call` with `args` and gives the outcome, and what the front door saw.
async fn call(args: &[&str]) -> (Result<Answer, CliError>, Vec<String>) {
    let seen = Seen::default();
    let app = Router::new()
        .route("/{*path}", post(front).delete(front))
        .with_state(Arc::clone(&seen));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let args = [&["call", "--url", &url], args].concat();
    let outcome = Cli::try_parse_from(args)
        .expect("valid usage")
        .call
        .answer()
        .await;
    server.abort();
    let seen = seen.lock().clone();
    (outcome, seen)
}

/// Only the outcome, with an error as the user reads it.
async fn outcome(args: &[&str]) -> Result<String, String> {
    match call(args).await.0 {
        Ok(answer) => Ok(answer.text),
        Err(error) => {
            let help = error.help().map(|help| format!(" ({help})"));
            Err(format!("{error}{}", help.unwrap_or_default()))
        }
    }
}

#[tokio::test]
async fn a_call_is_a_whole_session() {
    let (answer, seen) = call(&["json", "echo", r#"{"text":"hi"}"#, "--tenant", "acme"]).await;
    let answer = answer.expect("succeeds");
    assert_eq!((answer.text.as_str(), answer.failed), ("hi\n", false));
    assert_eq!(
        seen,
        [
            "t/acme/json/mcp initialize - -",
            "t/acme/json/mcp notifications/initialized s-1 2025-06-18",
            "t/acme/json/mcp tools/call s-1 2025-06-18",
            "t/acme/json/mcp - s-1 2025-06-18",
        ]
    );
}

#[tokio::test]
async fn an_answer_may_come_late_in_a_stream() {
    let (answer, seen) = call(&["sse", "echo", r#"{"text":"hi"}"#]).await;
    assert_eq!(answer.expect("succeeds").text, "hi\n");
    // The ping was answered, the request that was not offered refused, and the session ended.
    assert_eq!(
        seen[3..],
        [
            "sse/mcp - s-1 2025-06-18",
            "sse/mcp - -32601 s-1 2025-06-18",
            "sse/mcp - s-1 2025-06-18"
        ]
    );
}

#[tokio::test]
async fn results_are_shown_as_what_they_are() {
    let mixed = outcome(&["json", "mixed"]).await;
    let image =
        "{\n  \"data\": \"AA==\",\n  \"mimeType\": \"image/png\",\n  \"type\": \"image\"\n}\n";
    assert_eq!(mixed, Ok(format!("first\n{image}")));
    assert_eq!(
        outcome(&["json", "structured"]).await.as_deref(),
        Ok("{\n  \"sum\": 3\n}\n")
    );
    let raw = outcome(&["json", "structured", "--json"]).await;
    assert_eq!(
        raw.as_deref(),
        Ok("{\"content\":[],\"structuredContent\":{\"sum\":3}}\n")
    );
    let (failed, _) = call(&["json", "read"]).await;
    let failed = failed.expect("an answer");
    assert_eq!(
        (failed.text.as_str(), failed.failed),
        ("no such file\n", true)
    );
}

#[tokio::test]
async fn without_a_tool_all_pages_are_listed() {
    let list = outcome(&["sse"]).await.expect("succeeds");
    assert_eq!(
        list,
        "TOOL         DESCRIPTION\necho         Says it again.\nadd\nsum_of_many  Adds.\n"
    );
    let rows = outcome(&["json", "--json"]).await.expect("succeeds");
    let rows: Value = serde_json::from_str(&rows).expect("JSON");
    assert_eq!(rows[2]["name"], "sum_of_many");
}

#[tokio::test]
async fn a_failure_says_why_and_what_to_do() {
    for (args, expected) in [
        (
            &["full", "x"][..],
            "pool_exhausted: queue full (64 waiting) (it may work in 1s 500ms)",
        ),
        (&["rpc", "x"], "JSON-RPC -32602: Unknown tool: x"),
        (&["gone", "x"], "not_found: no server `gone`"),
        (
            &["cut", "x"],
            "the answer breaks the protocol: the stream ended without the answer",
        ),
        (
            &["wrong", "x"],
            "the answer breaks the protocol: `tools/call` was answered with something else than its answer",
        ),
        (
            &["hangs", "x", "--timeout", "50ms"],
            "no answer within 50ms (wait longer: --timeout 5m; what the workers do: stdiopool ps)",
        ),
    ] {
        assert_eq!(outcome(args).await, Err(expected.to_owned()), "{args:?}");
    }
    let stranger = outcome(&["stranger", "x"]).await.expect_err("no MCP");
    assert!(
        stranger.contains("is not an MCP endpoint (HTTP 404)"),
        "{stranger}"
    );
    let missing = outcome(&["secret", "x"]).await.expect_err("no token");
    assert!(missing.ends_with("does not accept requests without a token (give the token with --token or in STDIOPOOL_TOKEN)"), "{missing}");
    let wrong = outcome(&["secret", "x", "--token", "guess"])
        .await
        .expect_err("wrong token");
    assert!(wrong.contains("does not accept this token"), "{wrong}");
    let echo = ["secret", "echo", r#"{"text":"in"}"#, "--token", "t0ken"];
    assert_eq!(outcome(&echo).await.as_deref(), Ok("in\n"));
}

#[tokio::test]
async fn a_session_that_timed_out_is_ended_all_the_same() {
    let (_, seen) = call(&["hangs", "x", "--timeout", "1s"]).await;
    assert_eq!(
        seen.last().map(String::as_str),
        Some("hangs/mcp - s-1 2025-06-18")
    );
}

#[tokio::test]
async fn nobody_there_is_said_with_the_address() {
    // A port that was just ours and is closed again.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let args = Cli::try_parse_from(["call", "time", "--url", &url]).expect("valid usage");
    let error = args.call.answer().await.expect_err("refused");
    assert!(
        error.to_string().starts_with(&format!(
            "no stdiopool answers at {url}/time/mcp (Connection refused"
        )),
        "{error}"
    );
    let help = error.help().expect("has help").to_string();
    assert_eq!(
        help,
        "is `stdiopool serve` running? other address: --url URL"
    );
}

#[tokio::test]
async fn usage_is_checked_before_anything_is_sent() {
    for args in [
        &["call"][..],
        &["call", "a/b"],
        &["call", "a", "tool", "[]"],
        &["call", "a", "tool", "{"],
        &["call", "a", "--tenant", ".."],
        &["call", "a", "--url", "https://x"],
        &["call", "a", "--timeout", "5"],
    ] {
        let error = Cli::try_parse_from(args).err().expect("wrong usage");
        assert_eq!(error.exit_code(), 2, "{args:?}");
    }
    let only = Cli::try_parse_from(["call", "-", "--url", "127.0.0.1:1"]).expect("valid usage");
    let url = only.call.endpoint().await.expect("joins");
    assert_eq!(url.as_str(), "http://127.0.0.1:1/mcp");
}
