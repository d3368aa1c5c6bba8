//! Places of connections, and what is held for them: of one address, of strangers, of the admin listener.

use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::raw_connections::{
    asked, beside, connect, http2, initialize, known, serve, until_closed, until_told,
};
use crate::support::{PATIENCE, Stdiopool};

/// Bytes that are held for connections.
const HELD: &str = "stdiopool_held_bytes{kind=\"connection\"}";

async fn connections_hold(pool: &Stdiopool, is_meant: impl Fn(f64) -> bool) {
    let looks = async {
        loop {
            let held = pool.metric(HELD).await;
            if is_meant(held) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let seen = tokio::time::timeout(PATIENCE, looks).await;
    assert!(seen.is_ok(), "{} are held", pool.metric(HELD).await);
}

/// Strangers have 8 MiB of 64, one address 2 MiB of those.
#[tokio::test]
async fn what_strangers_connections_hold_has_a_bound() {
    const OF_ADDRESS: f64 = 2.0 * 1024.0 * 1024.0;
    let pool = serve("memory = \"64MiB\"", "");
    let neighbour = beside(&pool).await;
    let line = format!("X-Long: {}\r\n", "a".repeat(6_000));
    // Heads that do not end.
    let head = format!(
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n{}",
        line.repeat(16)
    );
    let mut strangers = vec![];
    for _ in 0..40 {
        let mut stream = connect(&pool, 2).await;
        // One that is refused may be gone by then.
        let _sent = stream.write_all(head.as_bytes()).await;
        strangers.push(stream);
    }
    let least = OF_ADDRESS * 0.5;
    connections_hold(&pool, |held| held > least && held <= OF_ADDRESS).await;
    // The first ones went, and one more is read while others hold what there is.
    for ended in &mut strangers[..10] {
        assert_eq!(until_closed(ended).await, "");
    }
    let mut last = connect(&pool, 2).await;
    for part in [&*head, "\r\n"] {
        last.write_all(part.as_bytes()).await.expect("sent");
    }
    until_told(&mut last, "200 OK").await;
    // Who shows credentials is served whatever strangers hold, of their address too.
    let mut other = connect(&pool, 3).await;
    let mut own = connect(&pool, 2).await;
    for valid in [&mut other, &mut own] {
        for more in ["", line.as_str()] {
            let asked = initialize("acme", &more.repeat(10));
            valid.write_all(asked.as_bytes()).await.expect("sent");
            until_told(valid, "\"result\"").await;
        }
    }
    drop((strangers, last, other, own));
    connections_hold(&pool, |held| held == 0.0).await;

    // Requests whose answers nobody takes: 4 KiB each from the ninth of a connection on.
    let mut connections = vec![];
    for _ in 0..10 {
        let (mut sender, connection) = http2(&pool, 2, 0).await;
        let mut bodies = vec![];
        for _ in 0..100 {
            let Ok(ready) = sender.clone().ready().await else {
                break;
            };
            sender = ready;
            let Ok((response, _)) = sender.send_request(asked(&pool, "/healthz", None), true)
            else {
                break;
            };
            bodies.push(response);
        }
        connections.push((sender, connection, bodies));
    }
    let ended = async {
        while !connections
            .iter()
            .any(|(_, connection, _)| connection.is_finished())
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended)
        .await
        .expect("what is too much is closed");
    connections_hold(&pool, |held| held <= OF_ADDRESS).await;
    neighbour.goes_on(3).await;
    drop(connections);
    connections_hold(&pool, |held| held == 0.0).await;
}

#[tokio::test]
async fn an_address_may_have_so_many_connections() {
    let pool = serve("connections_per_peer = 4", "");
    let neighbour = beside(&pool).await;
    let mut busy = vec![];
    for _ in 0..4 {
        let session = known(&pool, "acme").await.session.expect("a session");
        let listen = format!(
            "GET /good/mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer acme\r\nAccept: text/event-stream\r\nMcp-Session-Id: {session}\r\nMCP-Protocol-Version: 2025-11-25\r\n\r\n"
        );
        let mut stream = connect(&pool, 2).await;
        stream.write_all(listen.as_bytes()).await.expect("sent");
        until_told(&mut stream, "200 OK").await;
        busy.push(stream);
    }
    // Each is at work for a known caller: none makes room.
    let told = until_closed(&mut connect(&pool, 2).await).await;
    assert!(told.starts_with("HTTP/1.1 503 "), "{told}");
    assert!(told.contains("`http.connections_per_peer`"), "{told}");
    neighbour.goes_on(3).await;
    // Another address has its own.
    let mut other = connect(&pool, 3).await;
    other
        .write_all(initialize("acme", "").as_bytes())
        .await
        .expect("sent");
    until_told(&mut other, "200 OK").await;

    // Strangers make room for the next of their address, so that it is never shut out.
    let mut strangers = vec![];
    for _ in 0..12 {
        strangers.push(connect(&pool, 4).await);
    }
    let mut late = connect(&pool, 4).await;
    late.write_all(initialize("acme", "").as_bytes())
        .await
        .expect("sent");
    until_told(&mut late, "200 OK").await;
}

#[tokio::test]
async fn strangers_are_the_first_to_make_room() {
    let pool = serve("connections = 16", "");
    let neighbour = beside(&pool).await;
    let mut mine = connect(&pool, 1).await;
    mine.write_all(initialize("acme", "").as_bytes())
        .await
        .expect("sent");
    until_told(&mut mine, "200 OK").await;
    let mut strangers = vec![];
    for round in 0..5 {
        for from in 2..22 {
            let mut stranger = connect(&pool, from).await;
            if from % 2 == 0 {
                let half = b"POST /good/mcp HTTP/1.1\r\nHost: localhost\r\n";
                let _gone = stranger.write_all(half).await;
            }
            strangers.push(stranger);
        }
        neighbour.goes_on(2).await;
        // A client that comes anew is served too.
        let fresh = known(&pool, "acme").await;
        fresh
            .call("echo", json!({ "message": round.to_string() }))
            .await
            .text();
    }
    // The connection that showed credentials is still there, though it was idle all the time.
    mine.write_all(initialize("acme", "").as_bytes())
        .await
        .expect("sent");
    until_told(&mut mine, "200 OK").await;
    assert!(
        pool.metric("stdiopool_connections_closed_total{reason=\"evicted\"}")
            .await
            > 0.0
    );
    assert!(pool.metric("stdiopool_connections").await <= 16.0);
}

#[tokio::test]
async fn event_streams_of_the_admin_api_do_not_keep_the_operator_out() {
    let pool = serve("", "");
    let admin: SocketAddr = pool
        .admin
        .strip_prefix("http://")
        .expect("plain")
        .parse()
        .expect("an address");
    let ask = "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut hogs = vec![];
    for _ in 0..70 {
        let mut hog = TcpStream::connect(admin).await.expect("connected");
        hog.write_all(ask.as_bytes()).await.expect("sent");
        until_told(&mut hog, "200 OK").await;
        hogs.push(hog);
    }
    // The oldest are over, in good order.
    let told = until_told(&mut hogs[0], "0\r\n\r\n").await;
    assert!(told.ends_with("0\r\n\r\n"), "{told}");
    // Silent connections do not keep anyone out either.
    let mut silent = vec![];
    for _ in 0..300 {
        silent.push(TcpStream::connect(admin).await.expect("connected"));
    }
    let mut operator = TcpStream::connect(admin).await.expect("connected");
    operator.write_all(ask.as_bytes()).await.expect("sent");
    until_told(&mut operator, "200 OK").await;
    let status = pool.admin_json("status").await;
    assert!(status.is_object(), "{status}");
}

/// While a table of descriptors grows, nobody is served.
#[tokio::test]
async fn there_is_room_for_all_descriptors_before_clients_come() {
    let pool = serve("connections = 3000", "");
    let status = std::fs::read_to_string(format!("/proc/{}/status", pool.pid())).expect("it runs");
    let size = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
    let size: u64 = size
        .and_then(|size| size.trim().parse().ok())
        .expect("a size");
    assert!(size >= 3000, "{size}");
}

#[tokio::test]
async fn event_streams_count_in_the_limits() {
    let pool = serve("", "[limits.tenant]\nconcurrent = 1\n");
    let (first, second) = (known(&pool, "acme").await, known(&pool, "acme").await);
    let events = first.listen().await;
    first.call("echo", json!({ "message": "a" })).await.text();
    let refused = second
        .request(http::Method::GET)
        .send()
        .await
        .expect("answers");
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    beside(&pool).await.goes_on(1).await;
    drop(events);
    crate::support::eventually("the place is free", async || {
        let asked = second
            .request(http::Method::GET)
            .send()
            .await
            .expect("answers");
        asked.status() == StatusCode::OK
    })
    .await;
}
