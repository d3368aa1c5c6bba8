//! Floods of HTTP/2 frames and of heads: who sends them has a connection of its own to lose; the calls of
//! others go on, and nothing of the flood is kept.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::beside::Beside;
use crate::support::{Client, Stdiopool, demo, eventually};
use crate::wire::{address, exchange, status};

/// How long each flood goes on.
const FLOOD: Duration = Duration::from_millis(200);
/// Most that all floods together may have added to the supervisor's resident memory, in bytes.
const MAX_GROWTH: u64 = 64 << 20;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const CANCEL: [u8; 4] = 8_u32.to_be_bytes();

/// A frame (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut frame = vec![len[1], len[2], len[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A text as HPACK has it (RFC 7541, 5.2), without Huffman's code.
fn text(text: &str) -> Vec<u8> {
    let mut coded = integer(text.len(), 7);
    coded.extend(text.bytes());
    coded
}

/// A number as HPACK has it (RFC 7541, 5.1).
fn integer(value: usize, prefix: u32) -> Vec<u8> {
    let most = (1 << prefix) - 1;
    let byte = |value: usize| u8::try_from(value).expect("seven bits");
    if value < most {
        return vec![byte(value)];
    }
    let (mut coded, mut rest) = (vec![byte(most)], value - most);
    while rest >= 128 {
        coded.push(0x80 | byte(rest % 128));
        rest /= 128;
    }
    coded.push(byte(rest));
    coded
}

/// A field that is not to be remembered (RFC 7541, 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    [vec![0], text(name), text(value)].concat()
}

/// The head of a POST to a server, as a block of fields.
fn head(pool: &Stdiopool, client: &Client) -> Vec<u8> {
    let (_, path) = client.url.split_at(pool.url.len());
    let session = client.session.as_deref().unwrap_or("none");
    [
        // `:method: POST`, `:scheme: http`; then the names of `:path` and `:authority`.
        vec![0x83, 0x86, 0x04],
        text(path),
        vec![0x01],
        text(&address(pool).to_string()),
        field("content-type", "application/json"),
        field("accept", "application/json, text/event-stream"),
        field("mcp-session-id", session),
    ]
    .concat()
}

/// Sends `frames(n)` for n = 0, 1, … for a while, over connection after connection where they are closed; how
/// many were, and how many frames went out.
async fn flood(pool: &Stdiopool, reads: bool, frames: impl Fn(u32) -> Vec<u8>) -> (u32, u64) {
    let (began, mut closed, mut sent) = (Instant::now(), 0, 0);
    while began.elapsed() < FLOOD {
        let stream = TcpStream::connect(address(pool)).await.expect("connected");
        let (mut from, mut to) = stream.into_split();
        let reading = tokio::spawn(async move {
            let mut piece = vec![0; 64 << 10];
            while reads && from.read(&mut piece).await.is_ok_and(|len| len > 0) {}
            from
        });
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &[]));
        let mut n = 0;
        while began.elapsed() < FLOOD {
            for _ in 0..64 {
                bytes.extend(frames(n));
                n += 1;
            }
            let write = to.write_all(&bytes);
            match tokio::time::timeout(FLOOD, write).await {
                Ok(Ok(())) => sent += 64,
                // Closed, which is as good an answer as taking no more.
                Ok(Err(_)) => {
                    closed += 1;
                    break;
                }
                Err(_nothing_is_taken) => break,
            }
            bytes.clear();
        }
        reading.abort();
    }
    (closed, sent)
}

/// Resident memory of the supervisor, in bytes.
fn resident(pool: &Stdiopool) -> u64 {
    let path = format!("/proc/{}/statm", pool.pid());
    let statm = std::fs::read_to_string(path).expect("it lives");
    let pages = statm.split(' ').nth(1).expect("a number");
    pages.parse::<u64>().expect("a number") * 4096
}

/// A stream of that number, as clients count them.
fn of_client(n: u32) -> u32 {
    2 * n + 1
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_frames_leave_others_their_calls_and_the_supervisor_its_memory() {
    let pool = Stdiopool::serve(&demo("good", ""));
    let beside = Beside::open(&pool, "bystander", "good").await;
    beside.goes_on(5).await;
    let stranger = pool.client_of("hostile", "good");
    let head = head(&pool, &stranger);
    let before = resident(&pool);
    let setting = [0, 4, 0, 0, 0xff, 0xff];
    // A long value that is remembered, then said again and again (RFC 7541, 6.2.1 and 6.1).
    let bomb = [
        head.clone(),
        vec![0x40],
        text("a"),
        text(&"b".repeat(4000)),
        vec![0xbe; 12_000],
    ]
    .concat();
    let many = [head.clone(), field("a", "b").repeat(2500)].concat();
    let long = [head.clone(), field("a", &"b".repeat(16_000))].concat();
    let all = END_STREAM | END_HEADERS;
    type Frames<'a> = Box<dyn Fn(u32) -> Vec<u8> + 'a>;
    let floods: [(&str, Frames<'_>); 14] = [
        ("settings", Box::new(|_| frame(SETTINGS, 0, 0, &setting))),
        ("pings", Box::new(|_| frame(PING, 0, 0, &[7; 8]))),
        (
            "answers to no ping",
            Box::new(|_| frame(PING, 1, 0, &[7; 8])),
        ),
        (
            "priorities",
            Box::new(|n| frame(PRIORITY, 0, of_client(n % 1000), &[0, 0, 0, 0, 7])),
        ),
        (
            "windows",
            Box::new(|_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ),
        (
            "windows over all bounds",
            Box::new(|_| frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
        ),
        (
            "frames of no kind",
            Box::new(|_| frame(0x77, 0, 0, &[7; 100])),
        ),
        (
            "resets of nothing",
            Box::new(|n| frame(RST_STREAM, 0, of_client(n), &CANCEL)),
        ),
        (
            "a head that does not end",
            Box::new(|n| match n {
                0 => frame(HEADERS, END_STREAM, 1, &head),
                _ => frame(CONTINUATION, 0, 1, &field("a", "b")),
            }),
        ),
        (
            "a head of nothing that does not end",
            Box::new(|n| match n {
                0 => frame(HEADERS, END_STREAM, 1, &head),
                _ => frame(CONTINUATION, 0, 1, &[]),
            }),
        ),
        (
            "a head that grows where it is read",
            Box::new(|n| frame(HEADERS, all, of_client(n), &bomb)),
        ),
        (
            "heads of many fields",
            Box::new(|n| frame(HEADERS, all, of_client(n), &many)),
        ),
        (
            "heads that are long",
            Box::new(|n| frame(HEADERS, all, of_client(n), &long)),
        ),
        (
            "streams that do not end",
            Box::new(|n| frame(HEADERS, END_HEADERS, of_client(n), &head)),
        ),
    ];
    for (what, frames) in &floods {
        for reads in [true, false] {
            let calls = async {
                let began = Instant::now();
                beside.goes_on(10).await;
                began.elapsed()
            };
            let ((closed, sent), took) = tokio::join!(flood(&pool, reads, frames), calls);
            println!(
                "{what}, answers read: {reads}: {sent} frames, {closed} closed; ten calls in {took:?}"
            );
            assert!(sent + u64::from(closed) > 0, "{what}");
        }
    }
    let growth = resident(&pool).saturating_sub(before);
    assert!(growth < MAX_GROWTH, "{growth} bytes more than before");
    beside.goes_on(5).await;
    // Nor may they fill the log, where the operator's lines would be lost among them.
    let lines = pool.log().lines().count();
    assert!(lines < 100, "{lines} lines of log: {}", pool.log());
    let body = "stdiopool_held_bytes{kind=\"body\"}";
    eventually("no body is held", async || pool.metric(body).await == 0.0).await;
}

/// Calls that are begun and reset at once, as fast as they can be written: each is cancelled, and none keeps its
/// place (CVE-2023-44487).
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_reset_at_once_keep_no_place() {
    let pool = Stdiopool::serve(&demo("good", ""));
    let beside = Beside::open(&pool, "bystander", "good").await;
    let hostile = pool.client_of("hostile", "good").connect().await;
    hostile.call("echo", json!({ "message": "m" })).await;
    let head = head(&pool, &hostile);
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "sleep", "arguments": { "seconds": 60 } } });
    let call = call.to_string();
    let before = resident(&pool);
    let frames = |n| {
        let stream = of_client(n);
        [
            frame(HEADERS, END_HEADERS, stream, &head),
            frame(DATA, END_STREAM, stream, call.as_bytes()),
            frame(RST_STREAM, 0, stream, &CANCEL),
        ]
        .concat()
    };
    for reads in [true, false] {
        let ((closed, sent), ()) = tokio::join!(flood(&pool, reads, frames), beside.goes_on(20));
        println!("{sent} calls, {closed} connections closed");
        assert!(sent > 0);
    }
    eventually("no call is under way", async || {
        let workers = pool.workers().await;
        workers.iter().all(|worker| worker["in_flight"] == 0)
    })
    .await;
    let growth = resident(&pool).saturating_sub(before);
    assert!(growth < MAX_GROWTH, "{growth} bytes more than before");
    // Its own tenant has all its places again.
    let echoed = hostile.call("echo", json!({ "message": "after" })).await;
    assert_eq!(echoed.text(), "after");
    beside.goes_on(5).await;
}

#[tokio::test]
async fn heads_and_chunks_of_http_1_have_bounds() {
    let pool = Stdiopool::serve(&demo("good", ""));
    let beside = Beside::open(&pool, "bystander", "good").await;
    let before = resident(&pool);
    let start = "POST /t/hostile/good/mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n";
    let chunked =
        format!("{start}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (what, request) in [
        (
            "many fields",
            format!("{start}{}\r\n", "a: b\r\n".repeat(5_000)),
        ),
        (
            "a long field",
            format!("{start}a: {}\r\n\r\n", "b".repeat(2 << 20)),
        ),
        (
            "a long name",
            format!("{start}{}: b\r\n\r\n", "a".repeat(2 << 20)),
        ),
        (
            "a head that does not end",
            format!("{start}{}", "a: b\r\n".repeat(200_000)),
        ),
        ("a line that does not end", "x".repeat(4 << 20)),
        ("empty lines", "\r\n".repeat(500_000)),
        (
            "words after chunks",
            format!(
                "{chunked}{}0\r\n\r\n",
                format!("1;{}\r\n \r\n", "x".repeat(2000)).repeat(500)
            ),
        ),
        (
            "fields after the body",
            format!("{chunked}0\r\n{}\r\n", "a: b\r\n".repeat(50_000)),
        ),
        (
            "a chunk longer than numbers",
            format!("{chunked}{}\r\n", "f".repeat(1000)),
        ),
        ("no number", format!("{chunked}-1\r\n\r\n")),
    ] {
        let (answer, ()) = tokio::join!(exchange(&pool, request.as_bytes()), beside.goes_on(3));
        // Refused, or closed without a word where there is no telling what comes next.
        let refused = status(&answer).is_none_or(|status| (400..500).contains(&status));
        assert!(refused, "{what}: {answer}");
        println!("{what}: {}", answer.lines().next().unwrap_or("closed"));
    }
    let growth = resident(&pool).saturating_sub(before);
    assert!(growth < MAX_GROWTH, "{growth} bytes more than before");
    beside.goes_on(3).await;
}
