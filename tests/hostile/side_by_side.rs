//! Bounds hold for requests that come side by side: whoever takes a place takes it before it is decided on the next one.

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::json;

use crate::support::{Stdiopool, demo, eventually, stateless};

/// The demo server as `good`, and one that takes its time to answer each request as `noisy`.
fn serve(more: &str) -> Stdiopool {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/notifying.py");
    let noisy = format!("[servers.noisy]\ncommand = \"python3\"\nargs = [\"{script}\"]\n");
    Stdiopool::serve(&format!("{more}\n{}{noisy}", demo("good", "")))
}

#[tokio::test]
async fn subscriptions_of_a_session() {
    let pool = serve("");
    for _ in 0..3 {
        let client = pool.client_of("hostile", "noisy").connect().await;
        // 32 of them are as long as they may be together.
        let asked = (0..60).map(async |n| {
            let uri = format!("x://{n}/{:x>8000}", "");
            let answer = client
                .ask("resources/subscribe", json!({ "uri": uri }))
                .await;
            answer.response()["result"].is_object()
        });
        let taken = join_all(asked).await.into_iter().filter(|taken| *taken);
        assert_eq!(taken.count(), 32, "256 KiB of one session");
        // What is given back is there again.
        let uri = json!({ "uri": "x://short" });
        let answer = client.ask("resources/subscribe", uri.clone()).await;
        assert!(answer.response()["result"].is_object(), "{answer:?}");
        let long = format!("x://late/{:x>8000}", "");
        let refused = client
            .ask("resources/subscribe", json!({ "uri": long }))
            .await;
        assert!(refused.message().contains("subscriptions"), "{refused:?}");
        for n in 0..60 {
            let uri = format!("x://{n}/{:x>8000}", "");
            client
                .ask("resources/unsubscribe", json!({ "uri": uri }))
                .await;
        }
        let answer = client
            .ask("resources/subscribe", json!({ "uri": long }))
            .await;
        assert!(answer.response()["result"].is_object(), "{answer:?}");
        client.delete().await;
    }
}

#[tokio::test]
async fn sessions_of_a_tenant() {
    let pool = serve("[pool]\nmax_sessions_per_tenant = 10");
    let client = pool.client_of("hostile", "good");
    let opened = (0..40).map(async |_| {
        let answer = client.try_initialize("2025-11-25", json!({})).await;
        answer.response()["result"].is_object()
    });
    let opened = join_all(opened).await.into_iter().filter(|opened| *opened);
    assert_eq!(opened.count(), 10);
    // Another tenant has its own.
    pool.client_of("bystander", "good").connect().await;
}

#[tokio::test]
async fn event_streams_of_a_tenant() {
    let pool = serve("[limits.tenant]\nstreams = 5");
    let opening = (0..20).map(async |_| pool.client_of("hostile", "good").connect().await);
    let clients = join_all(opening).await;
    let asked = clients.iter().map(async |client| {
        let response = client.request(http::Method::GET).send().await;
        response.expect("answers")
    });
    let streams = join_all(asked).await;
    let open = streams.iter().filter(|it| it.status() == StatusCode::OK);
    assert_eq!(open.count(), 5);
}

#[tokio::test]
async fn listens_without_a_session_of_a_tenant() {
    let pool = serve("[limits.tenant]\nstreams = 5\nconcurrent = 3");
    let client = pool.client_of("hostile", "good");
    let mut open = vec![];
    for n in 0..8 {
        let wanted = json!({ "notifications": { "toolsListChanged": true } });
        let params = stateless::params(wanted, &json!({}));
        let response = stateless::send(&client, "subscriptions/listen", params).await;
        let kind = response.headers()["content-type"].to_str().expect("ASCII");
        if kind == "text/event-stream" {
            open.push(response);
        } else {
            assert_eq!(open.len(), 5, "{n}");
            let told = response.text().await.expect("whole");
            assert!(told.contains("5 event streams are open"), "{told}");
        }
    }
    assert_eq!(open.len(), 5);
    // None of them is a request under way.
    let session = pool.client_of("hostile", "good").connect().await;
    // They share the bound with the streams of sessions.
    let refused = session.request(http::Method::GET).send().await;
    assert_eq!(refused.expect("answers").status(), 429);
    drop(open);
    eventually("one is let in again", async || {
        let response = session.request(http::Method::GET).send().await;
        response.expect("answers").status() == StatusCode::OK
    })
    .await;
}
