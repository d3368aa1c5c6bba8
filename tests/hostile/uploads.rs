//! Bodies that are held up by their tenant's pace: nothing is kept for a client that is gone, small calls over the same
//! connection are served beside them, a reload changes their pace, and a shutdown tells them so.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::{Stdiopool, demo, eventually, eventually_within};
use crate::wire::{INITIALIZE, address, exchange, status, tenants};

/// Of each upload, in bytes.
const LEN: usize = 900_000;
/// More than what comes at no pace, and what is behind that has room in a socket.
const SOME: usize = 128 << 10;
const SLOW: &str = "[limits]\nbody_rate = \"4KiB\"\n";

fn serve() -> Stdiopool {
    Stdiopool::serve(&(SLOW.to_owned() + &demo("good", "")))
}

/// A message of that length.
fn message(id: &str) -> Vec<u8> {
    let mut text =
        format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"tools/call","params":{{"x":""#)
            .into_bytes();
    text.resize(LEN - 3, b'x');
    text.extend(b"\"}}");
    text
}

fn head(pool: &Stdiopool) -> String {
    format!(
        "POST /good/mcp HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {LEN}\r\n\r\n",
        address(pool)
    )
}

/// Sends so much of an upload over HTTP/1.1; what comes until the end of the connection.
fn upload(pool: &Stdiopool, id: &str, bytes: usize) -> JoinHandle<String> {
    let (address, head) = (address(pool), head(pool));
    let mut body = message(id);
    body.truncate(bytes);
    tokio::spawn(async move {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        let (mut from, mut to) = stream.split();
        let sending = async {
            to.write_all(head.as_bytes()).await?;
            to.write_all(&body).await
        };
        let mut told = vec![];
        // Cut off where it is refused.
        let (_sent, _read) = tokio::join!(sending, from.read_to_end(&mut told));
        String::from_utf8_lossy(&told).into_owned()
    })
}

type Sender = h2::client::SendRequest<Bytes>;

/// A connection of HTTP/2, and the task that ends with it.
async fn http2(pool: &Stdiopool) -> (Sender, JoinHandle<()>) {
    let stream = TcpStream::connect(address(pool)).await.expect("connected");
    let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let connection = tokio::spawn(async move { drop(connection.await) });
    (sender.ready().await.expect("ready"), connection)
}

fn request(pool: &Stdiopool, len: usize) -> http::Request<()> {
    let request = http::Request::post(format!("http://{}/good/mcp", address(pool)));
    let request = request
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("content-length", len);
    request.body(()).expect("a request")
}

/// A POST that is sent as the windows allow for.
fn post(
    pool: &Stdiopool,
    sender: &mut Sender,
    body: Vec<u8>,
) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
    let (response, mut stream) = sender
        .send_request(request(pool, body.len()), false)
        .expect("begun");
    stream.send_data(body.into(), true).expect("queued");
    (response, stream)
}

async fn answer(response: h2::client::ResponseFuture) -> (StatusCode, Value) {
    let response = response.await.expect("answered");
    let status = response.status();
    let (mut body, mut text) = (response.into_body(), vec![]);
    while let Some(piece) = body.data().await {
        text.extend(piece.expect("whole"));
    }
    (status, serde_json::from_slice(&text).unwrap_or_default())
}

async fn holds(pool: &Stdiopool, bytes: usize) {
    eventually("the bodies are being read", async || {
        held(pool).await >= bytes
    })
    .await;
}

async fn held(pool: &Stdiopool) -> usize {
    let held = pool.metric("stdiopool_held_bytes{kind=\"body\"}").await;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of bytes"
    )]
    {
        held as usize
    }
}

#[tokio::test]
async fn nothing_is_held_for_a_body_whose_client_is_gone() {
    let pool = serve();
    let given_back = async |how: &str| {
        let what = format!("what was held is given back: {how}");
        eventually_within(Duration::from_secs(4), &what, async || {
            held(&pool).await == 0
        })
        .await;
    };
    // Some of it waits here, and nobody reads it; behind it is the end of the connection.
    let uploads = [upload(&pool, "a", SOME), upload(&pool, "b", SOME)];
    holds(&pool, 2 * LEN).await;
    eventually("they are held up", async || {
        pool.metric("stdiopool_body_pace_wait_seconds_total").await > 10.0
    })
    .await;
    for upload in uploads {
        upload.abort();
    }
    given_back("the connections end").await;
    // One that is reset.
    let mut stream = TcpStream::connect(address(&pool)).await.expect("connected");
    stream
        .write_all(head(&pool).as_bytes())
        .await
        .expect("sent");
    stream
        .write_all(&message("c")[..LEN / 4])
        .await
        .expect("sent");
    holds(&pool, LEN).await;
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .expect("set");
    drop(stream);
    given_back("the connection is reset").await;
    let (mut sender, connection) = http2(&pool).await;
    let uploads = [
        post(&pool, &mut sender, message("d")),
        post(&pool, &mut sender, message("e")),
    ];
    holds(&pool, 2 * LEN).await;
    // Dropped, they reset their streams.
    drop(uploads);
    given_back("the streams are reset").await;
    let _uploads = post(&pool, &mut sender, message("f"));
    holds(&pool, LEN).await;
    connection.abort();
    given_back("the connection of HTTP/2 ends").await;
}

#[tokio::test]
async fn small_calls_are_served_beside_uploads_over_one_connection() {
    let pool = serve();
    let (mut sender, _connection) = http2(&pool).await;
    let (status, first) = answer(post(&pool, &mut sender, INITIALIZE.into()).0).await;
    assert_eq!(status, StatusCode::OK, "{first}");
    let uploads: Vec<_> = (0..8)
        .map(|n| post(&pool, &mut sender, message(&n.to_string())))
        .collect();
    holds(&pool, 8 * LEN).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let began = Instant::now();
        let (response, _stream) = post(&pool, &mut sender, INITIALIZE.into());
        let answer = tokio::time::timeout(Duration::from_secs(60), answer(response));
        let (status, told) = answer.await.expect("in time");
        assert_eq!(status, StatusCode::OK, "{told}");
        slowest = slowest.max(began.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(held(&pool).await >= 8 * LEN, "beside them");
    drop(uploads);
    eprintln!("slowest beside eight uploads: {slowest:?}");
    // Behind the uploads it would be half a minute.
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}

#[tokio::test]
async fn a_reload_changes_the_pace_of_bodies_under_way() {
    let pool = serve();
    let uploads: Vec<_> = (0..4).map(|n| upload(&pool, &n.to_string(), LEN)).collect();
    holds(&pool, 4 * LEN).await;
    let file = pool.dir.path().join("pool.toml");
    let text = std::fs::read_to_string(&file).expect("reads");
    std::fs::write(&file, text.replace("4KiB", "64MiB")).expect("writes");
    let mut command = pool.command(&["reload"]);
    let done = tokio::task::spawn_blocking(move || command.status()).await;
    assert!(done.expect("runs").expect("runs").success());
    // At the old one it would take a quarter of an hour.
    eventually_within(Duration::from_secs(10), "they are there", async || {
        held(&pool).await == 0
    })
    .await;
    for upload in uploads {
        upload.abort();
    }
}

#[tokio::test]
async fn an_upload_under_way_is_told_of_a_shutdown() {
    let mut pool = serve();
    // As much as was announced, or a part of it.
    let (whole, part) = (upload(&pool, "a", LEN), upload(&pool, "b", LEN / 2));
    let (mut sender, _connection) = http2(&pool).await;
    let (over_http2, _stream) = post(&pool, &mut sender, message("c"));
    holds(&pool, 3 * LEN).await;
    pool.signal(Signal::SIGTERM);
    let whole = whole.await.expect("no panic");
    assert!(whole.contains("\"draining\""), "{whole}");
    assert!(whole.contains("\"id\":\"a\""), "{whole}");
    let lower = whole.to_ascii_lowercase();
    assert!(lower.contains("\r\nconnection: close\r\n"), "{whole}");
    let part = part.await.expect("no panic");
    assert_eq!(status(&part), Some(503), "{part}");
    assert!(part.contains("\"draining\""), "{part}");
    assert!(
        part.to_ascii_lowercase()
            .contains("\r\nconnection: close\r\n")
    );
    let (_, told) = answer(over_http2).await;
    assert_eq!(told["error"]["data"]["reason"], "draining", "{told}");
    let ended = tokio::task::spawn_blocking(move || pool.wait()).await;
    assert!(ended.expect("waits").success());
}

#[tokio::test]
async fn a_line_feed_alone_within_a_chunked_body_is_refused_at_once_as_what_it_is() {
    let pool = Stdiopool::serve(&demo("good", ""));
    let head = format!(
        "POST /good/mcp HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        address(&pool)
    );
    let (len, message) = (INITIALIZE.len(), INITIALIZE);
    let well = format!("{len:x}\r\n{message}\r\n");
    for body in [
        format!("{len:x}\n{message}\r\n0\r\n\r\n"),
        format!("{len:x};a=b\n{message}\r\n0\r\n\r\n"),
        format!("{well}0\n\r\n"),
        format!("{well}0\r\nx: y\n"),
        format!("{well}0\r\nx: y\n\n"),
        format!("{well}0\r\n\n"),
    ] {
        let at_once = head.clone() + &body;
        let began = Instant::now();
        let told = exchange(&pool, at_once.as_bytes()).await;
        let (took, is_slow) = (began.elapsed(), began.elapsed() > Duration::from_secs(3));
        assert!(!is_slow, "{took:?} {body:?} {told}");
        assert_eq!(status(&told), Some(400), "{body:?} {told}");
        assert!(told.contains("the size of a chunk"), "{body:?} {told}");
        // And where its head has been read before.
        let mut stream = TcpStream::connect(address(&pool)).await.expect("connected");
        let began = Instant::now();
        stream.write_all(head.as_bytes()).await.expect("sent");
        tokio::time::sleep(Duration::from_millis(50)).await;
        for piece in body.as_bytes().chunks(40) {
            // Refused before it is all there.
            let _refused = stream.write_all(piece).await;
            tokio::task::yield_now().await;
        }
        let mut told = vec![];
        let _reset = stream.read_to_end(&mut told).await;
        let told = String::from_utf8_lossy(&told);
        assert_eq!(status(&told), Some(400), "{body:?} {told}");
        assert!(told.contains("the size of a chunk"), "{body:?} {told}");
        assert!(began.elapsed() < Duration::from_secs(3), "{body:?}");
    }
    // What is right is served.
    let right = head + &well + "0\r\nx: y\r\n\r\nGET / HTTP/1.0\r\n\r\n";
    let told = exchange(&pool, right.as_bytes()).await;
    assert_eq!(status(&told), Some(200), "{told}");
}

/// The most memory that the supervisor has had, in bytes.
fn most_memory(pool: &Stdiopool) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pool.pid())).expect("runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("a line");
    let kib: u64 = line
        .trim_end_matches("kB")
        .trim()
        .parse()
        .expect("a number");
    kib << 10
}

/// What windows of HTTP/2 let in before anybody reads it is bounded: of strangers, because it is not kept; of a tenant,
/// because it is counted.
#[tokio::test]
async fn what_comes_over_http2_before_it_is_read_is_bounded() {
    const CONNECTIONS: usize = 6;
    const STREAMS: usize = 200;
    const ROOM: u64 = 64 << 20;
    // Held up for some seconds: what is refused passes by at that pace too.
    let pace = "[limits]\nbody_rate = \"16MiB\"\n".to_owned();
    let toml = pace + &demo("good", "") + &tenants(&["acme"]);
    let pool = Stdiopool::serve_with("[auth]\nmode = \"token\"\n", &toml);
    // Several times that much comes.
    let flood = async |token: Option<&str>, most: u64| {
        let before = most_memory(&pool);
        let mut open = vec![];
        for _ in 0..CONNECTIONS {
            let (mut sender, connection) = http2(&pool).await;
            for _ in 0..STREAMS {
                let mut request = request(&pool, 0);
                request.headers_mut().remove("content-length");
                if let Some(token) = token {
                    let value = format!("Bearer {token}").parse().expect("a value");
                    request.headers_mut().insert("authorization", value);
                }
                sender = sender.ready().await.expect("ready");
                let (response, mut stream) = sender.send_request(request, false).expect("begun");
                stream
                    .send_data(vec![b'x'; 128 << 10].into(), false)
                    .expect("queued");
                open.push((response, stream));
            }
            tokio::spawn(async move {
                let _kept = sender;
                drop(connection.await);
            });
        }
        let mut refused = 0;
        let expected = match token {
            None => CONNECTIONS * STREAMS,
            // What has no room beside the others.
            Some(_) => CONNECTIONS * STREAMS - usize::try_from(ROOM / (64 << 10)).expect("fits"),
        };
        let mut answers: futures_util::stream::FuturesUnordered<_> = open
            .into_iter()
            .map(|(response, stream)| async move {
                let answered = response.await;
                drop(stream);
                answered.map(|answer| answer.status())
            })
            .collect();
        while refused < expected {
            let next = futures_util::StreamExt::next(&mut answers);
            let answered = tokio::time::timeout(Duration::from_secs(60), next).await;
            let status = answered.expect("in time").expect("more").expect("answered");
            let is_refused = [StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS];
            refused += usize::from(is_refused.contains(&status));
        }
        let held = held(&pool).await;
        let grown = most_memory(&pool) - before;
        eprintln!("{token:?}: {held} held, {grown} more at the most");
        assert!(held as u64 <= ROOM, "{held}");
        assert!(grown < most, "{grown}");
    };
    flood(None, 64 << 20).await;
    flood(Some("acme"), ROOM + (128 << 20)).await;
}
