//! Answers that take long: what the client hears meanwhile, and how it comes back when its connection breaks.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use reqwest::Response;
use serde_json::{Value, json};

use super::support::stateless::{params, send};
use super::support::{Client, Stdiopool, demo, eventually, faulty};

/// By then a client must have heard something: httpx gives up after five seconds.
const SOON: Duration = Duration::from_millis(3500);

fn recording(more: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/recording.py");
    format!(
        "[servers.slow]\ncommand = \"python3\"\nargs = [\"{script}\", \"${{dir.data}}/heard\"]\n{more}\n"
    )
}

fn heard(pool: &Stdiopool) -> String {
    let path = pool.dir.path().join("state/data/default/slow/heard");
    std::fs::read_to_string(path).unwrap_or_default()
}

fn wait(seconds: u32) -> Value {
    json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": "wait", "arguments": { "seconds": seconds } } })
}

/// The first words of a stream, in time.
async fn first_words(began: Instant, response: &mut Response) -> String {
    assert_eq!(response.status(), StatusCode::OK);
    let piece = response.chunk().await.expect("reads").expect("some");
    let took = began.elapsed();
    assert!(took < SOON, "the first words came after {took:?}");
    String::from_utf8_lossy(&piece).into_owned()
}

async fn get(client: &Client, last: Option<&str>) -> Response {
    let mut request = client.request(Method::GET);
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    request.send().await.expect("answers")
}

fn id_of(text: &str) -> String {
    let id = text.lines().find_map(|line| line.strip_prefix("id: "));
    id.unwrap_or_else(|| panic!("no id: {text}")).to_owned()
}

#[tokio::test]
async fn a_quiet_call_is_resumed_from_its_start() {
    let pool = Stdiopool::serve(&recording(""));
    let client = pool.client("slow").connect().await;
    let began = Instant::now();
    let mut broken = client.send_raw(wait(7).to_string()).await;
    let first = first_words(began, &mut broken).await;
    let id = id_of(&first);
    assert!(first.contains("\ndata:\n\n"), "{first}");
    drop(broken);
    let mut again = get(&client, Some(&id)).await;
    let mut told = String::new();
    while let Some(piece) = again.chunk().await.expect("reads") {
        told.push_str(&String::from_utf8_lossy(&piece));
    }
    assert!(told.contains("waited"), "{told}");
    assert!(!heard(&pool).contains("cancelled"), "{}", heard(&pool));
    // All of it was told: clients that ask again are told that it is over.
    let over = get(
        &client,
        Some(&id_of(
            told.rsplit("id: ")
                .next()
                .map(|id| format!("id: {id}"))
                .as_deref()
                .expect("one"),
        )),
    )
    .await;
    assert_eq!(over.status(), StatusCode::NO_CONTENT);
}

/// Before its client has heard anything, and where it has no way to come back.
#[tokio::test]
async fn a_broken_connection_cancels_nothing() {
    let pool = Stdiopool::serve(&recording(""));
    for (version, cut) in [("2025-06-18", 3000), ("2025-11-25", 500)] {
        let client = pool.client("slow").connect_as(version, json!({})).await;
        let sent = client.send_raw(wait(5).to_string());
        let cut = Duration::from_millis(cut);
        let began = Instant::now();
        match tokio::time::timeout(cut, sent).await {
            Ok(mut stream) => {
                let first = first_words(began, &mut stream).await;
                assert!(
                    !first.contains("id:"),
                    "clients of {version} read it as a message: {first}"
                );
            }
            Err(_elapsed) => {}
        }
    }
    let answered = async || heard(&pool).matches("answered").count() == 2;
    eventually("both calls are answered", answered).await;
    assert!(!heard(&pool).contains("cancelled"), "{}", heard(&pool));
}

#[tokio::test]
async fn whoever_waits_for_a_start_hears_of_it_soon() {
    let slow = ["--mode", "slow-start", "--delay-ms", "6000"];
    let pool = Stdiopool::serve(&faulty("slow", &slow, ""));
    let client = pool.client("slow");
    let began = Instant::now();
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}});
    let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
    let mut opened = client.send_raw(initialize.to_string()).await;
    let session = opened.headers()["mcp-session-id"]
        .to_str()
        .expect("text")
        .to_owned();
    first_words(began, &mut opened).await;
    let rest = opened.text().await.expect("whole");
    assert!(
        rest.contains("\"protocolVersion\":\"2025-11-25\""),
        "{rest}"
    );
    let mut client = client;
    client.session = Some(session);
    let listed = client.ask("tools/list", json!({})).await;
    assert!(listed.result()["tools"].is_array());
}

#[tokio::test]
async fn a_call_that_waits_for_a_worker_can_be_resumed() {
    let slow = ["--mode", "slow-start", "--delay-ms", "6000"];
    let toml = format!(
        "[pool]\nidle_timeout = \"1s\"\n{}",
        faulty("slow", &slow, "")
    );
    let pool = Stdiopool::serve(&toml);
    let client = pool.client("slow").connect().await;
    let none_left = async || pool.workers().await.is_empty();
    eventually("the worker stops", none_left).await;
    let call = json!({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "echo", "arguments": {"message": "x"}}});
    let began = Instant::now();
    let mut broken = client.send_raw(call.to_string()).await;
    let id = id_of(&first_words(began, &mut broken).await);
    drop(broken);
    let rest = get(&client, Some(&id)).await.text().await.expect("whole");
    assert!(
        rest.contains("\"id\":3") && rest.contains("result"),
        "{rest}"
    );
}

#[tokio::test]
async fn stateless_callers_hear_soon_as_well() {
    let slow = ["--mode", "slow-start", "--delay-ms", "6000"];
    let pool = Stdiopool::serve(&faulty("slow", &slow, ""));
    let client = pool.client("slow");
    let began = Instant::now();
    let asked = params(json!({}), &json!({}));
    let mut discovered = send(&client, "server/discover", asked).await;
    first_words(began, &mut discovered).await;
    let rest = discovered.text().await.expect("whole");
    assert!(rest.contains("\"result\""), "{rest}");
}

#[tokio::test]
async fn the_stream_of_a_call_that_is_over_is_over() {
    let pool = Stdiopool::serve(&recording(""));
    let client = pool.client("slow").connect().await;
    // One that was cancelled.
    let mut stream = client.send_raw(wait(60).to_string()).await;
    let id = id_of(&first_words(Instant::now(), &mut stream).await);
    let cancelled = client
        .tell("notifications/cancelled", json!({"requestId": 7}))
        .await;
    assert_eq!(cancelled, StatusCode::ACCEPTED);
    while stream.chunk().await.expect("reads").is_some() {}
    assert_eq!(
        get(&client, Some(&id)).await.status(),
        StatusCode::NO_CONTENT
    );
    // One that was an error behind progress.
    let call = json!({"jsonrpc": "2.0", "id": 8, "method": "tools/call", "params": {"name": "fail", "_meta": {"progressToken": "p"}}});
    let told = client
        .send_raw(call.to_string())
        .await
        .text()
        .await
        .expect("whole");
    let last = id_of(&format!("id: {}", told.rsplit("id: ").next().expect("one")));
    assert!(told.contains("it has failed"), "{told}");
    assert_eq!(
        get(&client, Some(&last)).await.status(),
        StatusCode::NO_CONTENT
    );
    // One that never was, or was that of an earlier run.
    assert_eq!(
        get(&client, Some("3-1")).await.status(),
        StatusCode::NO_CONTENT
    );
}

#[tokio::test]
async fn streams_of_a_session_are_open_side_by_side() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client("demo").connect().await;
    let mut first = client.listen().await;
    let mut second = client.listen().await;
    client.call("notify", json!({"kind": "tools"})).await;
    assert!(second.next().await.is_some());
    drop(second);
    let one_left = async || pool.admin_json("sessions").await[0]["streams"] == 1;
    eventually("the second stream is gone", one_left).await;
    client.call("notify", json!({"kind": "prompts"})).await;
    let told = first.next().await.expect("the first goes on");
    assert_eq!(
        told["method"], "notifications/prompts/list_changed",
        "told once only: {told}"
    );
}

/// Nobody can hear of the first call any more, and the only place is wanted.
#[tokio::test]
async fn calls_that_nobody_can_hear_of_make_room() {
    let pool = Stdiopool::serve(&recording("max_in_flight = 1"));
    let client = pool.client("slow").connect().await;
    let sent = client.send_raw(wait(100).to_string());
    let cut = tokio::time::timeout(Duration::from_millis(500), sent).await;
    assert!(cut.is_err(), "nothing was heard of it");
    let next = client.call("wait", json!({"seconds": 0})).await;
    assert_eq!(next.text(), "waited");
    assert!(heard(&pool).contains("notifications/cancelled"));
}
