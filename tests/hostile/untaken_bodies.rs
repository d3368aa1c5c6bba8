//! Bodies that no endpoint takes: whoever sends one gets to its end, and has the answer.

use std::time::Duration;

use http::StatusCode;
use tokio::net::TcpStream;

use crate::raw_connections::{asked, http2, send_all, serve};
use crate::support::PATIENCE;

/// However much it is that nobody reads: who sends it gets to the end, and has its answer.
#[tokio::test]
async fn what_no_endpoint_takes_is_taken_in_however_long_it_is() {
    let pool = serve("", "");
    let (mut sender, _connection) = http2(&pool, 2, 65_535).await;
    for (path, status) in [
        ("/no/such/path", StatusCode::NOT_FOUND),
        ("/healthz", StatusCode::METHOD_NOT_ALLOWED),
        ("/good/mcp", StatusCode::UNAUTHORIZED),
    ] {
        sender = sender.ready().await.expect("ready");
        let mut request = asked(&pool, path, None);
        *request.method_mut() = http::Method::POST;
        let (response, mut body) = sender.send_request(request, false).expect("sent");
        let sent = tokio::time::timeout(PATIENCE, send_all(&mut body, 5 << 20)).await;
        sent.expect("in time").expect("no reset");
        let told = tokio::time::timeout(PATIENCE, response).await;
        let told = told.expect("in time").expect("an answer");
        assert_eq!(told.status(), status, "{path}");
    }
}

/// An answer that overtakes the body resets its stream, and some clients lose it.
#[tokio::test]
async fn what_no_endpoint_takes_is_answered_before_its_stream_is_reset() {
    let pool = serve("", "");
    let (mut sender, _connection) = http2(&pool, 2, 65_535).await;
    for (path, status) in [
        ("/no/such/path", StatusCode::NOT_FOUND),
        ("/v1/nothing", StatusCode::NOT_FOUND),
        ("/healthz", StatusCode::METHOD_NOT_ALLOWED),
        ("/readyz", StatusCode::METHOD_NOT_ALLOWED),
    ] {
        sender = sender.ready().await.expect("ready");
        let mut request = asked(&pool, path, None);
        *request.method_mut() = http::Method::POST;
        let (response, mut body) = sender.send_request(request, false).expect("sent");
        let mut response = std::pin::pin!(response);
        // It is not answered while its body is on its way.
        let early = tokio::time::timeout(Duration::from_millis(100), &mut response).await;
        assert!(early.is_err(), "{path}: {early:?}");
        body.send_data(vec![b'x'; 20].into(), true).expect("taken");
        let told = tokio::time::timeout(PATIENCE, response).await;
        let told = told.expect("in time").expect("an answer");
        assert_eq!(told.status(), status, "{path}");
        assert_eq!(
            told.headers().contains_key("allow"),
            status == StatusCode::METHOD_NOT_ALLOWED,
            "{path}"
        );
    }
}

/// The admin listener has the same way.
#[tokio::test]
async fn what_no_endpoint_of_the_admin_api_takes_is_taken_in_before_the_answer() {
    let pool = serve("", "");
    let admin = pool.admin.strip_prefix("http://").expect("a URL");
    let stream = TcpStream::connect(admin).await.expect("connected");
    let handshake = h2::client::handshake(stream).await;
    let (mut sender, connection) = handshake.expect("HTTP/2");
    let _connection = tokio::spawn(connection);
    for (path, authority, status) in [
        ("/v1/config", admin, StatusCode::NOT_FOUND),
        ("/api/v1/status", admin, StatusCode::METHOD_NOT_ALLOWED),
        ("/api/v1/status", "elsewhere.example", StatusCode::FORBIDDEN),
        ("/api/v1/workers/w1/stop", admin, StatusCode::NOT_FOUND),
    ] {
        sender = sender.ready().await.expect("ready");
        let request = http::Request::post(format!("http://{authority}{path}"));
        let request = request.body(()).expect("a request");
        let (response, mut body) = sender.send_request(request, false).expect("sent");
        let mut response = std::pin::pin!(response);
        let early = tokio::time::timeout(Duration::from_millis(100), &mut response).await;
        assert!(early.is_err(), "{path}: {early:?}");
        let sent = tokio::time::timeout(PATIENCE, send_all(&mut body, 1 << 20)).await;
        sent.expect("in time").expect("no reset");
        let told = tokio::time::timeout(PATIENCE, response).await;
        let told = told.expect("in time").expect("an answer");
        assert_eq!(told.status(), status, "{path}");
    }
}
