//! Progress keeps a request alive, but not for ever: `max_request_time`.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::beside::Beside;
use crate::support::{PATIENCE, Stdiopool, demo, stateless};

/// A call that reports progress ten times a second, and would go on for a minute.
fn endless() -> Value {
    json!({"name": "sleep", "arguments": {"seconds": 60, "steps": 600}, "_meta": {"progressToken": "p"}})
}

fn is_over(response: &Value, began: Instant) {
    let error = &response["error"];
    assert_eq!(error["data"]["reason"], "request_timeout", "{response}");
    let message = error["message"].as_str().expect("text");
    assert!(message.contains("`max_request_time`"), "{message}");
    assert!(
        began.elapsed() >= Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn no_progress_prolongs_a_request_over_its_whole_time() {
    let limits = "max_request_time = \"2s\"\nrequest_timeout = \"1s\"\n";
    let pool = Stdiopool::serve(&(demo("slow", limits) + &demo("good", "")));
    let neighbour = Beside::open(&pool, "bystander", "good").await;
    let client = pool.client_of("acme", "slow").connect().await;

    let began = Instant::now();
    let answer = client.ask("tools/call", endless()).await;
    assert!(answer.messages.len() > 5, "it reported progress");
    is_over(answer.response(), began);

    // Of 2026-07-28.
    let began = Instant::now();
    let bare = pool.client_of("acme", "slow");
    let params = stateless::params(endless(), &json!({}));
    let (_, told, response) = stateless::ask(&bare, "tools/call", params).await;
    assert!(told.len() > 5, "it reported progress");
    is_over(&response, began);

    // Of 2024-11-05.
    let stream = reqwest::get(format!("{}/t/acme/slow/sse", pool.url)).await;
    let mut stream = stream.expect("answers").bytes_stream();
    let mut text = String::new();
    let mut until = async |what: &str| {
        while !text.contains(what) {
            let piece = tokio::time::timeout(PATIENCE, stream.next()).await;
            let piece = piece.expect("in time").expect("more").expect("readable");
            text.push_str(std::str::from_utf8(&piece).expect("text"));
        }
        text.clone()
    };
    let first = until("session_id=").await;
    let endpoint = first
        .split("data: ")
        .nth(1)
        .and_then(|rest| rest.lines().next());
    let endpoint = format!("{}{}", pool.url, endpoint.expect("an endpoint"));
    let post = async |message: Value| {
        let http = reqwest::Client::new();
        let sent = http.post(&endpoint).json(&message).send().await;
        assert!(sent.expect("answers").status().is_success());
    };
    post(json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}}))
    .await;
    until("\"id\":1,").await;
    let began = Instant::now();
    post(json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": endless()})).await;
    let text = until("\"id\":7,").await;
    let mut last = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let last = last.rfind(|data| data.contains("\"id\":7,"));
    is_over(
        &serde_json::from_str(last.expect("a response")).expect("JSON"),
        began,
    );
    neighbour.goes_on(3).await;
}
