//! Whatever keeps bytes is filled by one tenant, while another's calls go on: the memory of stdiopool stays within
//! what the tenant may hold, and the tenant is told whose limit it has reached.

use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::beside::Beside;
use crate::support::{Client, Stdiopool, demo};

/// What each tenant may hold here, in bytes.
const HELD: u64 = 24 << 20;
/// What a debug build takes beside what is counted, in bytes: pages that the allocator keeps, the program itself.
const SLACK: u64 = 48 << 20;

/// The demo server as `good`, and one whose resources change as it is told as `noisy`.
fn serve(more: &str) -> Stdiopool {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/notifying.py");
    let noisy = format!(
        "[servers.noisy]\ncommand = \"python3\"\nargs = [\"{script}\"]\nmax_message = \"6MiB\"\n"
    );
    let good = demo("good", "max_message = \"6MiB\"");
    Stdiopool::serve(&format!(
        "[limits]\nmemory_held = \"{HELD}\"\n{good}{noisy}{more}"
    ))
}

/// Resident memory of the supervisor, in bytes.
fn resident(pool: &Stdiopool) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pool.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.expect("a size")
        .trim()
        .parse::<u64>()
        .expect("a number")
        << 10
}

async fn held(pool: &Stdiopool, kind: &str) -> f64 {
    let series = format!("stdiopool_held_bytes{{kind=\"{kind}\"}}");
    pool.metric(&series).await
}

/// Panics unless the answer is a refusal that names the limit of one tenant's memory.
fn assert_full(status: StatusCode, message: &str) {
    // By what came of it: a body that was not read has no answer that could say so.
    let is_told = [StatusCode::OK, StatusCode::TOO_MANY_REQUESTS].contains(&status);
    assert!(is_told, "{status}: {message}");
    assert!(message.contains("`limits.memory_held`"), "{message}");
}

/// The supervisor has grown by no more than what one tenant may hold.
fn assert_bounded(pool: &Stdiopool, before: u64) {
    let grown = resident(pool).saturating_sub(before);
    assert!(grown < HELD + SLACK, "grown by {} MiB", grown >> 20);
}

#[tokio::test]
async fn what_clients_say_of_themselves_is_bounded_for_each_and_for_all() {
    let pool = serve("");
    let beside = Beside::open(&pool, "bystander", "good").await;
    let hostile = pool.client_of("hostile", "good");
    let introduce = async |len: usize| {
        let info = json!({ "name": "x".repeat(len), "version": "1" });
        let params =
            json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info });
        hostile.ask("initialize", params).await
    };
    let long = introduce(900 << 10).await;
    assert_eq!(long.status, StatusCode::OK);
    assert!(long.message().contains("clientInfo"), "{}", long.message());
    let before = resident(&pool);
    let mut opened = 0;
    let refused = loop {
        let answer = introduce(60 << 10).await;
        if answer.response().get("error").is_some() {
            break answer;
        }
        opened += 1;
        assert!(opened < 1000, "never refused");
    };
    assert_full(refused.status, refused.message());
    assert!(opened > 100, "{opened} sessions of 60 KiB");
    assert_bounded(&pool, before);
    beside.goes_on(5).await;
}

#[tokio::test]
async fn subscriptions_are_bounded_in_length_in_number_and_for_all() {
    let pool = serve("");
    let beside = Beside::open(&pool, "bystander", "good").await;
    let before = resident(&pool);
    let client = pool.client_of("hostile", "noisy").connect().await;
    let uri = |n: usize, len: usize| format!("x://{n}/{:x>len$}", "");
    let subscribe = async |client: &Client, uri: String| {
        client
            .ask("resources/subscribe", json!({ "uri": uri }))
            .await
    };
    let long = subscribe(&client, uri(0, 8 << 10)).await;
    assert_eq!(long.response()["error"]["code"], -32602, "{long:?}");
    let began = Instant::now();
    let mut taken = 0;
    for n in 0..200 {
        let answer = subscribe(&client, uri(n, 8000)).await;
        taken += usize::from(answer.response()["result"].is_object());
    }
    assert_eq!(taken, 32, "256 KiB of one session");
    // Of each session as many, until the tenant has no room.
    let refused = loop {
        let another = pool.client_of("hostile", "noisy");
        let opened = another.try_initialize("2025-11-25", json!({})).await;
        if opened.response().get("error").is_some() {
            break opened;
        }
        let mut another = another;
        let session = opened.headers.get("mcp-session-id").expect("a session id");
        another.session = Some(session.to_str().expect("ASCII").to_owned());
        let mut last = None;
        for n in 0..31 {
            let answer = subscribe(&another, uri(n, 8000)).await;
            if !answer.response()["result"].is_object() {
                last = Some(answer);
                break;
            }
        }
        if let Some(answer) = last {
            break answer;
        }
        assert!(began.elapsed() < Duration::from_secs(50), "never refused");
    };
    assert_full(refused.status, refused.message());
    assert_bounded(&pool, before);
    beside.goes_on(5).await;
    assert!(held(&pool, "subscription").await > 15e6);
}

/// A connection that sends a request and reads nothing.
async fn deaf(pool: &Stdiopool, client: &Client, body: &Value) -> TcpStream {
    let address = pool.url.trim_start_matches("http://");
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("set");
    let mut stream = socket
        .connect(address.parse().expect("an address"))
        .await
        .expect("connected");
    let path = client.url.strip_prefix(&pool.url).expect("its own");
    let session = client.session.as_deref().expect("a session");
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nMcp-Session-Id: {session}\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream
}

#[tokio::test]
async fn answers_that_nobody_reads_are_refused_at_the_limit() {
    let pool = serve("");
    let beside = Beside::open(&pool, "bystander", "good").await;
    let client = pool.client_of("hostile", "noisy").connect().await;
    let before = resident(&pool);
    let huge = |id: usize| json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": "huge", "arguments": { "bytes": 5 << 20 } } });
    let mut connections = Vec::new();
    for id in 0..30 {
        connections.push(deaf(&pool, &client, &huge(id)).await);
    }
    crate::support::eventually("one has no room", async || {
        pool.metric("stdiopool_held_refusals_total{of=\"tenant\"}")
            .await
            > 0.0
    })
    .await;
    let refused = client.post(&huge(99)).await;
    assert_full(StatusCode::TOO_MANY_REQUESTS, refused.message());
    assert_eq!(refused.reason(), "tenant_limit");
    assert_bounded(&pool, before);
    beside.goes_on(5).await;
    // Who goes gives back what it held; what is short is answered all the while.
    let said = client.call("echo", json!({ "message": "short" })).await;
    assert_eq!(said.text(), "short");
    connections.clear();
    crate::support::eventually("there is room again", async || {
        client.post(&huge(100)).await.response()["result"].is_object()
    })
    .await;
    crate::support::eventually("nothing is held any more", async || {
        held(&pool, "answer").await == 0.0
    })
    .await;
}

/// Sends a request over a connection of its own and goes when that much has come. What has come.
async fn and_goes(pool: &Stdiopool, client: &Client, body: &Value, until: &str) -> String {
    let mut stream = deaf(pool, client, body).await;
    let mut told = Vec::new();
    let read = async {
        let is_enough = |told: &[u8]| String::from_utf8_lossy(told).contains(until);
        while !is_enough(&told) {
            let len = stream.read_buf(&mut told).await.expect("readable");
            assert!(len > 0, "closed after {}", String::from_utf8_lossy(&told));
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, read)
        .await
        .expect("it comes");
    String::from_utf8_lossy(&told).into_owned()
}

/// The event id in what was told.
fn last_event(told: &str) -> String {
    let id = told
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("id: "));
    id.expect("an id").to_owned()
}

/// Asks for what came after that event.
async fn resume(client: &Client, last: &str) -> reqwest::Response {
    let request = client
        .request(http::Method::GET)
        .header("accept", "text/event-stream")
        .header("last-event-id", last);
    request.send().await.expect("answered")
}

#[tokio::test]
async fn answers_of_clients_that_are_gone_are_the_first_to_go() {
    let pool = serve("");
    let beside = Beside::open(&pool, "bystander", "good").await;
    let huge = |id: usize, after: f64| json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": "huge", "arguments": { "bytes": 5 << 20, "after": after } } });
    let kept = async |answers: u32| {
        let least = f64::from(answers * (5 << 20));
        crate::support::eventually("the answers are kept", async || {
            held(&pool, "answer").await >= least
        })
        .await;
    };
    // Nobody needs the room: who comes back in time gets its answer.
    let in_time = pool.client_of("hostile", "noisy").connect().await;
    let told = and_goes(&pool, &in_time, &huge(1, 2.5), "\ndata:").await;
    kept(1).await;
    let again = resume(&in_time, &last_event(&told)).await;
    let mut again = in_time.stream_of(again);
    let answer = again.next().await.expect("an event");
    let text = answer["result"]["content"][0]["text"].as_str();
    assert_eq!(
        (answer["id"].as_u64(), text.map(str::len)),
        (Some(1), Some(5 << 20))
    );
    drop(again);
    in_time.delete().await;
    crate::support::eventually("of a session that has ended nothing is kept", async || {
        held(&pool, "answer").await == 0.0
    })
    .await;

    let gone = pool.client_of("hostile", "noisy").connect().await;
    let told = and_goes(&pool, &gone, &huge(2, 2.5), "\ndata:").await;
    kept(1).await;
    // They go when their streams have begun: who goes before may have asked nothing.
    let bodies = [3, 4, 5].map(|id| huge(id, 2.5));
    let others = bodies.iter();
    let others = others.map(|body| and_goes(&pool, &gone, body, "\ndata:"));
    futures_util::future::join_all(others).await;
    kept(4).await;
    // Another client of the tenant needs more than is left. It is not refused, and neither is the next.
    let here = pool.client_of("hostile", "noisy").connect().await;
    for id in 6..9 {
        let answer = here.post(&huge(id, 0.0)).await;
        let text = answer.response()["result"]["content"][0]["text"]
            .as_str()
            .map(str::len);
        assert_eq!(text, Some(5 << 20), "{}", answer.message());
    }
    let pad = "x".repeat(900 << 10);
    let said = here
        .call("echo", json!({ "message": "short", "pad": pad }))
        .await;
    assert_eq!(said.text(), "short");
    let reclaimed = pool.metric("stdiopool_held_reclaimed_total").await;
    assert!((1.0..=4.0).contains(&reclaimed), "{reclaimed}");
    assert_eq!(
        pool.metric("stdiopool_held_refusals_total{of=\"tenant\"}")
            .await,
        0.0
    );
    // The one that has waited longest has gone, and its client is told so once.
    let late = resume(&gone, &last_event(&told)).await;
    assert_eq!(late.status(), StatusCode::NO_CONTENT);
    beside.goes_on(5).await;
}

#[tokio::test]
async fn one_large_update_for_many_sessions_is_held_once() {
    let pool = serve("");
    let beside = Beside::open(&pool, "bystander", "good").await;
    let mut sessions = Vec::new();
    for _ in 0..50 {
        let client = Client::new(format!("{}/t/hostile/mcp", pool.url));
        let client = client.connect().await;
        let uri = json!({ "uri": "stdiopool://noisy/x://a" });
        let subscribed = client.ask("resources/subscribe", uri).await;
        assert!(
            subscribed.response()["result"].is_object(),
            "{subscribed:?}"
        );
        sessions.push(client);
    }
    let before = resident(&pool);
    let update = json!({ "uri": "x://a/b", "bytes": 5 << 20, "count": 3 });
    sessions[0].call("noisy__update", update).await;
    let messages = held(&pool, "message").await;
    let one = f64::from(5 << 20);
    assert!((one..2.0 * one).contains(&messages), "{messages}");
    assert_bounded(&pool, before);
    beside.goes_on(5).await;
    // It comes, once, though it was told three times.
    let mut events = sessions[1].listen().await;
    let told = events.next().await.expect("an event");
    assert_eq!(told["params"]["uri"], "stdiopool://noisy/x://a/b");
    for client in &sessions {
        client.delete().await;
    }
    crate::support::eventually("nothing is held any more", async || {
        held(&pool, "message").await == 0.0
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_changes_to_many_sessions_leaves_others_their_turn() {
    let pool = serve("");
    let beside = Beside::open(&pool, "bystander", "good").await;
    let client = pool.client_of("hostile", "noisy").connect().await;
    let opened = (0..400).map(async |_| pool.client_of("hostile", "noisy").connect().await);
    let sessions: Vec<_> = futures_util::future::join_all(opened).await;
    let mut events = sessions[7].listen().await;
    let quiet = Instant::now();
    beside.goes_on(20).await;
    let quiet = quiet.elapsed();
    let flood = client.call("flood", json!({ "count": 100_000 }));
    let calls = async {
        let began = Instant::now();
        beside.goes_on(20).await;
        began.elapsed()
    };
    let (answer, loud) = tokio::join!(flood, calls);
    assert_eq!(answer.text(), "done");
    println!("20 calls beside: {quiet:?} before, {loud:?} during the flood");
    let changed = events.next().await.expect("an event");
    assert_eq!(changed["method"], "notifications/tools/list_changed");
    // Of each session at most one waits.
    let messages = held(&pool, "message").await;
    assert!(messages < 401.0 * 1024.0, "{messages}");
}

#[tokio::test]
async fn messages_that_never_end_count_too() {
    let pool = serve("");
    let beside = Beside::open(&pool, "bystander", "good").await;
    let client = pool.client_of("hostile", "noisy").connect().await;
    let partial = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "partial", "arguments": { "bytes": 4 << 20 } } });
    let call = tokio::spawn(async move { client.post(&partial).await });
    crate::support::eventually("the beginning is counted", async || {
        held(&pool, "answer").await > f64::from(3 << 20)
    })
    .await;
    beside.goes_on(3).await;
    call.abort();
}

#[tokio::test]
async fn a_stream_that_nobody_reads_loses_its_oldest() {
    let pool = serve("");
    let beside = Beside::open(&pool, "bystander", "good").await;
    let client = pool.client_of("hostile", "noisy").connect().await;
    client
        .ask("resources/subscribe", json!({ "uri": "x://" }))
        .await;
    let before = resident(&pool);
    for n in 0..400 {
        let update = json!({ "uri": format!("x:///{n}"), "bytes": 100 << 10 });
        client.call("update", update).await;
    }
    let held = held(&pool, "message").await;
    assert!(held <= f64::from(1 << 20) * 1.2, "{held}");
    let dropped = pool.metric("stdiopool_notifications_dropped_total{reason=\"queue_full\"}");
    assert!(dropped.await > 300.0);
    assert_bounded(&pool, before);
    let mut events = client.listen().await;
    let mut uris = Vec::new();
    while uris.last() != Some(&"x:///399".to_owned()) {
        let told = events.next().await.expect("an event");
        uris.push(told["params"]["uri"].as_str().expect("a URI").to_owned());
    }
    assert!(uris.len() < 20, "the latest: {uris:?}");
    beside.goes_on(3).await;
}

#[tokio::test]
async fn stored_configs_count_as_what_their_tenant_holds() {
    let own = demo("own", "client_config = [\"a\"]\nmax_message = \"6MiB\"")
        .replace("demo-server\"]", "demo-server\", \"${config.a:-}\"]");
    let schema = "[servers.own.config]\ntype = \"object\"\nproperties.a = { type = \"string\" }\n";
    let pool = serve(&(own + schema));
    let beside = Beside::open(&pool, "bystander", "good").await;
    let before = resident(&pool);
    let http = reqwest::Client::new();
    let store = async |n: usize| {
        let long = format!("{n}{}", "x".repeat(60 << 10));
        let body = json!({ "server": "own", "config": { "a": long } });
        let sent = http.post(format!("{}/t/hostile/v1/config", pool.url));
        sent.json(&body).send().await.expect("answers")
    };
    let mut stored = 0;
    let refused = loop {
        let response = store(stored).await;
        if !response.status().is_success() {
            break response;
        }
        stored += 1;
        assert!(stored < 1000, "never refused");
    };
    let status = refused.status();
    assert_full(status, &refused.text().await.expect("text"));
    assert!(stored > 200, "{stored} configs of 60 KiB");
    assert!(held(&pool, "stored_config").await > 15e6);
    assert_bounded(&pool, before);
    beside.goes_on(5).await;
}
