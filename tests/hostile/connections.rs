//! Connections that hold places: idle, half sent, never read; requests that can be read in two ways.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::beside::Beside;
use crate::support::{Client, PATIENCE, Stdiopool, demo};

/// Serves demo servers to `acme` and `bystander`, each with a token of its name, with those keys of `[http]`.
fn serve(http: &str, more: &str) -> Stdiopool {
    let mut tenants = String::new();
    for name in ["acme", "bystander"] {
        let hash = sha256(name);
        writeln!(tenants, "[tenants.{name}]\ntokens = [\"sha256:{hash}\"]").expect("in memory");
    }
    serve_as("mode = \"token\"", http, &format!("{tenants}{more}"))
}

fn serve_as(auth: &str, http: &str, more: &str) -> Stdiopool {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let servers = demo("good", "");
    let text = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n{http}\n[admin]\nlisten = \"127.0.0.1:0\"\n[auth]\n{auth}\n[state]\ndir = \"state\"\n{servers}\n{more}"
    );
    let path = dir.path().join("pool.toml");
    std::fs::write(&path, text).expect("pool.toml is written");
    let args = ["--config".to_owned(), path.display().to_string()];
    Stdiopool::run(dir, &args, &[])
}

fn sha256(text: &str) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(text);
    digest.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("in memory");
        hex
    })
}

fn address(pool: &Stdiopool) -> SocketAddr {
    let url = pool.url.strip_prefix("http://").expect("plain");
    url.parse().expect("an address")
}

/// A connection from 127.0.0.`from`; `None` if it is refused at once.
async fn connect(pool: &Stdiopool, from: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    let own = SocketAddr::from(([127, 0, 0, from], 0));
    socket.bind(own).expect("an address of loopback");
    socket.connect(address(pool)).await.expect("connected")
}

/// What comes until the connection is closed, by a reset too.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut told = vec![];
    let read = stream.read_to_end(&mut told);
    let _reset = tokio::time::timeout(PATIENCE, read).await.expect("closed");
    String::from_utf8_lossy(&told).into_owned()
}

/// What comes up to the end of that text.
async fn until_told(stream: &mut TcpStream, text: &str) -> String {
    let read = async {
        let mut told = Vec::new();
        let mut piece = [0; 4096];
        while !String::from_utf8_lossy(&told).contains(text) {
            let len = stream.read(&mut piece).await.expect("readable");
            assert!(len > 0, "closed after {}", String::from_utf8_lossy(&told));
            told.extend_from_slice(&piece[..len]);
        }
        String::from_utf8_lossy(&told).into_owned()
    };
    tokio::time::timeout(PATIENCE, read).await.expect("told")
}

fn initialize(token: &str, more: &str) -> String {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let body = body.to_string();
    format!(
        "POST /good/mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n{more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn known(pool: &Stdiopool, token: &str) -> Client {
    pool.client("good").with_token(token).connect().await
}

async fn beside(pool: &Stdiopool) -> Beside {
    Beside::of(known(pool, "bystander").await)
}

type Sender = h2::client::SendRequest<bytes::Bytes>;

/// A connection of HTTP/2, and a task that ends with it.
async fn http2(
    pool: &Stdiopool,
    from: u8,
    window: u32,
) -> (Sender, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    let stream = connect(pool, from).await;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window);
    let (sender, connection) = builder.handshake(stream).await.expect("HTTP/2");
    (sender, tokio::spawn(connection))
}

fn asked(pool: &Stdiopool, path: &str, authority: Option<&str>) -> http::Request<()> {
    let own = address(pool).to_string();
    let authority = authority.unwrap_or(&own);
    let request = http::Request::get(format!("http://{authority}{path}"));
    request.body(()).expect("a request")
}

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
async fn requests_that_can_be_read_in_two_ways_are_refused() {
    let pool = serve("", "");
    let host = "Host: localhost\r\n";
    let post =
        |headers: &str, body: &str| format!("POST /good/mcp HTTP/1.1\r\n{headers}\r\n{body}");
    let smuggled = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let long = |n: usize| format!("Content-Length: {n}\r\n");
    for (what, request) in [
        (
            "length and chunks",
            post(
                &format!("{host}{}{chunked}", long(5)),
                &format!("0\r\n\r\n{smuggled}"),
            ),
        ),
        (
            "chunks and length",
            post(
                &format!("{host}{chunked}{}", long(5)),
                &format!("0\r\n\r\n{smuggled}"),
            ),
        ),
        (
            "a length twice",
            post(&format!("{host}{}{}", long(2), long(2)), "{}"),
        ),
        (
            "two lengths",
            post(&format!("{host}{}{}", long(2), long(3)), "{}"),
        ),
        (
            "chunks of HTTP/1.0",
            format!("POST /good/mcp HTTP/1.0\r\n{host}{chunked}\r\n0\r\n\r\n"),
        ),
        ("no host", post(&long(2), "{}")),
        ("two hosts", post(&format!("{host}{host}{}", long(2)), "{}")),
        (
            "another host in the target",
            format!("GET http://127.0.0.1/healthz HTTP/1.1\r\n{host}\r\n"),
        ),
        (
            "two tokens",
            post(
                &format!(
                    "{host}Authorization: Bearer a\r\nAuthorization: Bearer b\r\n{}",
                    long(2)
                ),
                "{}",
            ),
        ),
        (
            "two origins",
            post(
                &format!(
                    "{host}Origin: http://localhost\r\nOrigin: http://evil.example\r\n{}",
                    long(2)
                ),
                "{}",
            ),
        ),
        (
            "two sessions",
            post(
                &format!(
                    "{host}Mcp-Session-Id: a\r\nMcp-Session-Id: b\r\n{}",
                    long(2)
                ),
                "{}",
            ),
        ),
        (
            "two versions",
            post(
                &format!(
                    "{host}MCP-Protocol-Version: 2025-11-25\r\nMCP-Protocol-Version: 2025-06-18\r\n{}",
                    long(2)
                ),
                "{}",
            ),
        ),
        (
            "two types",
            post(
                &format!(
                    "{host}Content-Type: application/json\r\nContent-Type: text/plain\r\n{}",
                    long(2)
                ),
                "{}",
            ),
        ),
    ] {
        let mut stream = connect(&pool, 1).await;
        stream.write_all(request.as_bytes()).await.expect("sent");
        let told = until_closed(&mut stream).await;
        assert!(
            told.starts_with("HTTP/1.1 400 ") || told.starts_with("HTTP/1.0 400 "),
            "{what}: {told}"
        );
        assert_eq!(
            told.matches("HTTP/1.").count(),
            1,
            "nothing smuggled is answered: {what}: {told}"
        );
    }
    // What only looks like it is served.
    let body = "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
    let plain = post(
        &format!(
            "{host}Authorization: Bearer acme\r\nContent-Type: application/json\r\n{}",
            long(body.len())
        ),
        body,
    );
    let mut stream = connect(&pool, 1).await;
    stream.write_all(plain.as_bytes()).await.expect("sent");
    assert!(
        until_told(&mut stream, "parse_error")
            .await
            .starts_with("HTTP/1.1 400 ")
    );
    stream
        .write_all(initialize("acme", "").as_bytes())
        .await
        .expect("it is open");
    until_told(&mut stream, "200 OK").await;
}

#[tokio::test]
async fn http_2_passes_the_same_guard_and_finds_the_metadata() {
    let auth = "mode = \"jwt\"\nissuer = \"https://id.example.com\"\naudience = [\"a\"]\njwks_file = \"keys.json\"";
    let pool = serve_as(auth, "", "[tenants.acme]\n");
    let (sender, _connection) = http2(&pool, 1, 65_535).await;
    let ask = async |path: &str, authority: Option<&str>, host: Option<&str>| {
        let mut sender = sender.clone().ready().await.expect("ready");
        let mut request = asked(&pool, path, authority);
        if let Some(host) = host {
            let value = host.parse().expect("a value");
            request.headers_mut().insert("host", value);
        }
        let (response, _) = sender.send_request(request, true).expect("sent");
        let response = response.await.expect("answered");
        let status = response.status();
        let headers = response.headers().clone();
        let mut body = response.into_body();
        let mut text = vec![];
        while let Some(piece) = body.data().await {
            text.extend_from_slice(&piece.expect("a piece"));
        }
        (status, headers, String::from_utf8(text).expect("text"))
    };
    let (status, ..) = ask("/good/mcp", Some("evil.example"), None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, ..) = ask("/good/mcp", None, Some("evil.example")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, headers, _) = ask("/good/mcp", None, None).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let challenge = headers["www-authenticate"].to_str().expect("text");
    let own = format!(
        "resource_metadata=\"{}/.well-known/oauth-protected-resource/good/mcp\"",
        pool.url
    );
    assert!(challenge.contains(&own), "{challenge}");
    let (status, _, text) = ask("/.well-known/oauth-protected-resource/good/mcp", None, None).await;
    assert_eq!(status, StatusCode::OK);
    let document: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(document["resource"], format!("{}/good/mcp", pool.url));
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
