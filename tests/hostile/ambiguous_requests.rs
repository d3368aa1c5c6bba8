//! Requests that can be read in two ways, and the guard that all versions of HTTP pass.

use http::StatusCode;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::raw_connections::{
    asked, connect, http2, initialize, serve, serve_as, until_closed, until_told,
};

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
