//! Connections that take nothing, read slowly or say nothing: which end, which stay.

use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::raw_connections::{address, asked, beside, connect, http2, known, serve, until_closed};
use crate::support::{PATIENCE, Stdiopool};

#[tokio::test]
async fn idle_connections_end_in_both_versions_and_clients_are_told_before() {
    let pool = serve("idle_timeout = \"2s\"", "");
    let neighbour = beside(&pool).await;
    let mut idle = connect(&pool, 2).await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .expect("sent");
    let began = Instant::now();
    let mut silent = connect(&pool, 2).await;
    let mut half = connect(&pool, 2).await;
    half.write_all(b"GET /healthz HTT").await.expect("sent");
    let (mut sender, over_http2) = http2(&pool, 2, 65_535).await;
    sender = sender.ready().await.expect("ready");
    let (response, _) = sender
        .send_request(asked(&pool, "/healthz", None), true)
        .expect("sent");
    assert_eq!(response.await.expect("answered").status(), StatusCode::OK);
    let (_unused, never_asked) = http2(&pool, 2, 65_535).await;
    neighbour.goes_on(3).await;

    let told = until_closed(&mut idle).await.to_ascii_lowercase();
    assert!(told.contains("\r\nkeep-alive: timeout=1\r\n"), "{told}");
    assert!(
        began.elapsed() >= Duration::from_millis(1900),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(until_closed(&mut silent).await, "");
    assert_eq!(until_closed(&mut half).await, "");
    let ended = tokio::time::timeout(PATIENCE, over_http2)
        .await
        .expect("it ends");
    // With GOAWAY and no error, as the protocol has it.
    assert!(ended.expect("no panic").is_ok());
    let _ended = tokio::time::timeout(PATIENCE, never_asked)
        .await
        .expect("it ends");
    assert!(
        pool.metric("stdiopool_connections_closed_total{reason=\"timed_out\"}")
            .await
            >= 5.0
    );
    neighbour.goes_on(3).await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_loses_its_stream_or_its_connection() {
    let pool = serve("idle_timeout = \"2s\"\nwrite_timeout = \"1s\"", "");
    let neighbour = beside(&pool).await;
    // No window at all: the head of the answer comes, and nothing of its body may.
    let (mut sender, over_http2) = http2(&pool, 2, 0).await;
    sender = sender.ready().await.expect("ready");
    let mut bodies = vec![];
    for _ in 0..20 {
        sender = sender.ready().await.expect("ready");
        let (response, _) = sender
            .send_request(asked(&pool, "/healthz", None), true)
            .expect("sent");
        let response = response.await.expect("a head");
        assert_eq!(response.status(), StatusCode::OK);
        bodies.push(response.into_body());
    }
    for body in &mut bodies {
        let next = tokio::time::timeout(PATIENCE, body.data()).await;
        let error = next
            .expect("in time")
            .expect("an end")
            .expect_err("a reset");
        assert_eq!(error.reason(), Some(h2::Reason::CANCEL), "{error}");
    }
    drop((sender, bodies));
    let _ended = tokio::time::timeout(PATIENCE, over_http2)
        .await
        .expect("it ends");

    // Asks and never reads: what is written fills its socket.
    let mut deaf = connect(&pool, 2).await;
    let ask = "GET /no/such/path HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
    let flood = async {
        loop {
            if deaf.write_all(ask.as_bytes()).await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, flood)
        .await
        .expect("it is cut off");
    neighbour.goes_on(3).await;
}

/// A call of a new session whose answer has so many bytes.
async fn long_call(pool: &Stdiopool, bytes: usize) -> String {
    let session = known(pool, "acme").await.session.expect("a session");
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "big", "arguments": { "bytes": bytes } } })
        .to_string();
    format!(
        "POST /good/mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer acme\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nMcp-Session-Id: {session}\r\nMCP-Protocol-Version: 2025-11-25\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// With little room for what comes, a peer takes a little at a time: the kernel holds that for none at all.
#[tokio::test]
async fn a_client_with_little_room_that_reads_slowly_is_not_cut_off() {
    // A peer says that there is room when half of it is free: of 64 KiB at this pace each 1.6 s.
    let pool = serve("write_timeout = \"4s\"", "");
    let reads = [(4096, 512), (65_536, 4000), (1, 1000)].map(async |(room, piece)| {
        let post = long_call(&pool, 4 << 20).await;
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(room).expect("set");
        let mut slow = socket.connect(address(&pool)).await.expect("connected");
        slow.write_all(post.as_bytes()).await.expect("sent");
        let mut buffer = vec![0; piece];
        let mut pace = tokio::time::interval(Duration::from_millis(100));
        let began = Instant::now();
        let mut taken = 0;
        while began.elapsed() < Duration::from_secs(11) {
            pace.tick().await;
            let read = slow.read(&mut buffer).await;
            let read = read.unwrap_or_else(|error| panic!("{room}: {error} after {taken} bytes"));
            assert!(read > 0, "{room}: it ended after {taken} bytes");
            taken += read;
        }
        slow
    });
    let slow = futures_util::future::join_all(reads).await;
    // Who stops is seen to: what the socket holds is all that comes then.
    for mut stopped in slow {
        let closed = async {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let error = stopped.take_error().expect("known");
                if error.is_some() || stopped.write_all(b"x").await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, closed)
            .await
            .expect("cut off");
    }
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_all_of_a_long_answer() {
    const BYTES: usize = 8 << 20;
    // A peer that is full says that there is room again when a sixteenth of what it may hold is free. That is less than
    // this answer, so at this pace it says so within 1.6 s: a busy host may read late, and is not cut off.
    let pool = serve("write_timeout = \"4s\"", "");
    let post = long_call(&pool, BYTES).await;
    let mut slow = connect(&pool, 2).await;
    slow.write_all(post.as_bytes()).await.expect("sent");
    let mut taken = 0;
    let mut buffer = vec![0; 64 << 10];
    let mut pace = tokio::time::interval(Duration::from_millis(200));
    for _ in 0..50 {
        pace.tick().await;
        let read = slow.read(&mut buffer).await.expect("it is not cut off");
        assert!(read > 0, "it ended after {taken} bytes");
        taken += read;
    }
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).await.expect("the rest");
    assert!(taken + rest.len() > BYTES, "{taken} and {}", rest.len());
}

#[tokio::test]
async fn an_event_stream_that_is_read_stays_however_quiet_it_is() {
    let pool = serve("idle_timeout = \"1s\"\nwrite_timeout = \"1s\"", "");
    let client = known(&pool, "acme").await;
    let mut events = client.listen().await;
    assert!(
        tokio::time::timeout(Duration::from_secs(4), events.chunk())
            .await
            .is_err(),
        "it is open, and quiet"
    );
    client.call("echo", json!({ "message": "hi" })).await.text();
}
