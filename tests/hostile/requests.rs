//! A table of requests as they stand on the wire, and the status of each: who could take one for something else than
//! stdiopool does is refused, and nothing that follows on its connection is served.

use std::fmt::Write as _;

use crate::support::{Stdiopool, demo};
use crate::wire::{INITIALIZE, exchange, exchange_with, status, tenants};

/// A request that would be served if what comes before it were taken for the end of a body.
const SMUGGLED: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
const HOST: &str = "Host: localhost\r\n";

fn serve() -> Stdiopool {
    let dir = crate::support::open_folder().expect("a temporary folder");
    let text = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\nallowed_origins = [\"https://app.example.com\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n[auth]\nmode = \"token\"\n[state]\ndir = \"state\"\n{}\n{}",
        demo("good", ""),
        tenants(&["acme"]),
    );
    let path = dir.path().join("pool.toml");
    std::fs::write(&path, text).expect("pool.toml is written");
    let args = ["--config".to_owned(), path.display().to_string()];
    Stdiopool::run(dir, &args, &[])
}

/// An `initialize` with that line, those headers and that body.
fn post(line: &str, headers: &str, body: &str) -> String {
    format!(
        "{line}\r\nAuthorization: Bearer acme\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n{headers}\r\n{body}"
    )
}

fn chunked(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

/// What each request is answered with, whatever it asks for otherwise.
async fn assert_answered(pool: &Stdiopool, table: &[(u16, &str, String)]) {
    let mut wrong = String::new();
    for (expected, what, request) in table {
        // Those that are refused end their connection by themselves.
        let served = (*expected == 200).then_some("\r\nConnection: close");
        let end_of_line = request.find("\r\n").expect("a line");
        let (line, rest) = request.split_at(end_of_line);
        let request = format!("{line}{}{rest}", served.unwrap_or_default());
        let answer = exchange(pool, request.as_bytes()).await;
        let normal = answer.replacen("HTTP/1.0 ", "HTTP/1.1 ", 1);
        let is_one = answer.matches("HTTP/1.").count() == 1;
        if status(&normal) != Some(*expected) || !is_one {
            writeln!(wrong, "{what}: not {expected} alone: {answer:?}").expect("in memory");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[tokio::test]
async fn the_length_of_a_body_is_said_once() {
    let pool = serve();
    let len = INITIALIZE.len();
    let coded = |status, coding: &'static str| {
        let lines: String = coding
            .split('|')
            .map(|value| format!("Transfer-Encoding:{value}\r\n"))
            .collect();
        let body = chunked(INITIALIZE) + if status == 200 { "" } else { SMUGGLED };
        let headers = format!("{HOST}{lines}");
        (
            status,
            coding,
            post("POST /good/mcp HTTP/1.1", &headers, &body),
        )
    };
    let long = |status, length: String| {
        let body = INITIALIZE.to_owned() + if status == 200 { "" } else { SMUGGLED };
        let headers = format!("{HOST}{length}");
        (
            status,
            "a length",
            post("POST /good/mcp HTTP/1.1", &headers, &body),
        )
    };
    let blanks = " ".repeat(200);
    let mut table = vec![
        coded(200, " chunked"),
        coded(200, "\tChunked "),
        coded(400, " chunked| chunked"),
        coded(400, " chunked, chunked"),
        coded(400, " , chunked"),
        coded(400, "| chunked"),
        coded(400, " chunked,"),
        coded(501, " gzip, chunked"),
        coded(501, " gzip| chunked"),
        coded(501, " identity, chunked"),
        coded(501, " x-custom, chunked"),
        // Chunks are not the last: no length can be told.
        coded(400, " chunked, gzip"),
        coded(400, " gzip"),
        coded(400, " identity"),
        coded(400, " xchunked"),
        coded(400, " \"chunked\""),
        coded(400, " chunked;q=1"),
        coded(400, ""),
        coded(400, "\r\n chunked"),
        long(200, format!("Content-Length: {len}\r\n")),
        long(200, format!("Content-Length: 000{len}\r\n")),
        long(
            400,
            format!("Content-Length: {len}\r\nContent-Length: {len}\r\n"),
        ),
        long(
            400,
            format!("Content-Length: {len}\r\nTransfer-Encoding: chunked\r\n"),
        ),
        long(
            400,
            format!("Content-Length: {len}\r\nTransfer-Encoding: \r\n"),
        ),
        long(400, format!("Content-Length:{blanks}{len}\r\n")),
        long(400, format!("Content-Length: {len}, {len}\r\n")),
        long(400, format!("Content-Length: {len},\r\n")),
        long(400, format!("Content-Length: +{len}\r\n")),
        long(400, format!("Content-Length: -{len}\r\n")),
        long(400, format!("Content-Length: 0x{len:x}\r\n")),
        long(400, format!("Content-Length: {len}a\r\n")),
        long(400, "Content-Length: \r\n".to_owned()),
        long(
            400,
            "Content-Length: 99999999999999999999999999\r\n".to_owned(),
        ),
        long(400, format!("Content-Length : {len}\r\n")),
        long(
            400,
            format!("X-Folded: a\r\n b\r\nContent-Length: {len}\r\n"),
        ),
        long(400, format!("X-Bare: a\nContent-Length: {len}\r\n")),
        long(400, format!("Content-Length: {len}\n")),
        long(
            415,
            format!("Connection: close\r\nContent-Encoding: gzip\r\nContent-Length: {len}\r\n"),
        ),
        long(
            200,
            format!("Content-Encoding: Identity\r\nContent-Length: {len}\r\n"),
        ),
        (
            400,
            "chunks of HTTP/1.0",
            post(
                "POST /good/mcp HTTP/1.0",
                &format!("{HOST}Transfer-Encoding: chunked\r\n"),
                &chunked(INITIALIZE),
            ),
        ),
    ];
    // Neither is a question of a browser answered that can be read in two ways.
    let asked = "Origin: https://app.example.com\r\nAccess-Control-Request-Method: POST\r\n";
    table.push((
        400,
        "preflight",
        format!("OPTIONS /good/mcp HTTP/1.1\r\n{HOST}{asked}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"),
    ));
    assert_answered(&pool, &table).await;
}

#[tokio::test]
async fn the_host_is_said_once_and_is_one() {
    let pool = serve();
    let length = format!("Content-Length: {}\r\n", INITIALIZE.len());
    let hosts = |status, headers: &'static str| {
        let headers_and_length = format!("{headers}{length}");
        (
            status,
            headers,
            post("POST /good/mcp HTTP/1.1", &headers_and_length, INITIALIZE),
        )
    };
    let targeted = |status, line: &'static str, host: &str| {
        (
            status,
            line,
            post(line, &format!("{host}{length}"), INITIALIZE),
        )
    };
    // Whom a page could reach by a name of its own is told so, and may ask for something else: these stay open.
    let foreign = "Connection: close\r\nHost: evil.example\r\n";
    assert_answered(
        &pool,
        &[
            hosts(200, "Host: localhost\r\n"),
            hosts(200, "Host: LOCALHOST:\r\n"),
            hosts(200, "Host: [::1]:80\r\n"),
            hosts(400, ""),
            hosts(400, "Host: \r\n"),
            hosts(400, "Host: :80\r\n"),
            hosts(400, "Host: localhost\r\nHost: localhost\r\n"),
            hosts(400, "Host: localhost, evil.example\r\n"),
            hosts(400, "Host: user@localhost\r\n"),
            hosts(400, "Host: localhost:80@evil.example\r\n"),
            hosts(400, "Host: localhost:99999\r\n"),
            hosts(400, "Host: localhost/path\r\n"),
            hosts(400, "Host: [[127.0.0.1]]\r\n"),
            hosts(400, "Host : localhost\r\n"),
            hosts(403, foreign),
            hosts(403, "Connection: close\r\nHost: localhost.\r\n"),
            targeted(200, "POST http://localhost/good/mcp HTTP/1.1", HOST),
            targeted(400, "POST http://evil.example/good/mcp HTTP/1.1", HOST),
            targeted(400, "POST http://user@localhost/good/mcp HTTP/1.1", HOST),
            targeted(
                400,
                "POST http://user@localhost/good/mcp HTTP/1.1",
                "Host: user@localhost\r\n",
            ),
            targeted(
                403,
                "POST http://evil.example/good/mcp HTTP/1.1",
                "Connection: close\r\nHost: evil.example\r\n",
            ),
            // The guard against pages that reach for the listener by a name of theirs holds without a name too.
            targeted(403, "POST /good/mcp HTTP/1.0", ""),
            targeted(403, "POST /good/mcp HTTP/1.0", foreign),
            targeted(403, "POST http://evil.example/good/mcp HTTP/1.0", ""),
            targeted(200, "POST /good/mcp HTTP/1.0", HOST),
            targeted(200, "POST http://localhost/good/mcp HTTP/1.0", ""),
            // As balancers ask, who get nothing but whether it is there.
            (200, "health", "GET /healthz HTTP/1.0\r\n\r\n".to_owned()),
        ],
    )
    .await;
    // The admin listener has the same rules.
    let admin = pool.admin.strip_prefix("http://").expect("plain");
    let admin = admin.parse().expect("an address");
    for (expected, request) in [
        (200, "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n"),
        (403, "GET /metrics HTTP/1.0\r\n\r\n"),
        (
            400,
            "GET /metrics HTTP/1.1\r\nHost: localhost:80@evil.example\r\n\r\n",
        ),
        (
            501,
            "POST /metrics HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        ),
    ] {
        let answer = exchange_with(admin, request.as_bytes()).await;
        let answer = answer.replacen("HTTP/1.0 ", "HTTP/1.1 ", 1);
        assert_eq!(status(&answer), Some(expected), "{request}: {answer}");
    }
}

#[tokio::test]
async fn what_is_not_understood_is_not_passed_over() {
    let pool = serve();
    let length = format!("{HOST}Content-Length: {}\r\n", INITIALIZE.len());
    let with = |status, headers: &'static str| {
        let headers_and_length = format!("{length}{headers}");
        (
            status,
            headers,
            post("POST /good/mcp HTTP/1.1", &headers_and_length, INITIALIZE),
        )
    };
    assert_answered(
        &pool,
        &[
            with(417, "Expect: 200-ok\r\n"),
            with(417, "Expect: 100-continue\r\nExpect: other\r\n"),
            with(400, "no colon\r\n"),
            with(400, ": no name\r\n"),
            with(400, "X-Return: a\rb\r\n"),
            with(400, "X-Nothing: a\0b\r\n"),
            with(200, "Content_Length: 3\r\nX-Transfer-Encoding: gzip\r\n"),
            (
                400,
                "another version",
                post("POST /good/mcp HTTP/1.2", &length, INITIALIZE),
            ),
            (
                400,
                "two blanks",
                post("POST  /good/mcp HTTP/1.1", &length, INITIALIZE),
            ),
            (
                400,
                "a tunnel",
                format!("CONNECT localhost:80 HTTP/1.1\r\n{HOST}\r\n{SMUGGLED}"),
            ),
        ],
    )
    .await;
    // What is understood is done: the client may wait until it is told to go on.
    let request = post(
        "POST /good/mcp HTTP/1.1",
        &format!("{length}Expect: 100-continue\r\nConnection: close\r\n"),
        INITIALIZE,
    );
    let answer = exchange(&pool, request.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"),
        "{answer}"
    );
}
