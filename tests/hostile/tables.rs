//! What is remembered for one tenant takes nothing from another.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde_json::{Value, json};

use crate::beside::Beside;
use crate::support::stateless::{call, params, send, text};
use crate::support::{Stdiopool, demo};

/// A server whose callers set `a`, which goes into its arguments three times.
fn configurable(name: &str, more: &str) -> String {
    let tables = format!(
        "client_config = [\"a\"]\n{more}\n[servers.{name}.config]\ntype = \"object\"\nadditionalProperties = false\nproperties.a = {{ type = \"string\", default = \"-\" }}\n"
    );
    let demo = demo(name, &tables);
    demo.replace(
        "args = [\"demo-server\"]",
        "args = [\"demo-server\", \"${config.a}${config.a}${config.a}\"]",
    )
}

fn encoded(config: &Value) -> String {
    URL_SAFE_NO_PAD.encode(config.to_string())
}

async fn refusal(response: reqwest::Response) -> (StatusCode, String, String) {
    let status = response.status();
    let body: Value = response.json().await.expect("JSON");
    let error = &body["error"];
    let reason = error["data"]["reason"].as_str().unwrap_or("none");
    let message = error["message"].as_str().unwrap_or("none");
    (status, reason.to_owned(), message.to_owned())
}

/// Each of these requests would have been another caller; none of them may be remembered, and the call
/// of another tenant, under way through all of them, must be answered.
#[tokio::test]
async fn requests_that_are_refused_are_not_remembered_and_end_no_call() {
    let toml = demo("good", "") + &configurable("picky", "");
    let pool = Stdiopool::serve(&toml);
    let bystander = pool.client_of("bystander", "good");
    let slow = tokio::spawn(async move {
        call(&bystander, "sleep", json!({ "seconds": 4.0 }), &json!({})).await
    });
    let modern = "stdiopool_sessions{era=\"modern\",server=\"picky\"}";
    for n in 0..300 {
        let mut client = pool.client_of("hostile", "picky");
        client.config = Some(encoded(&json!({ "b": n })));
        let asked = params(json!({}), &json!({}));
        let (status, reason, _) = refusal(send(&client, "tools/list", asked).await).await;
        assert_eq!((status, &*reason), (StatusCode::OK, "config_invalid"));
    }
    assert_eq!(pool.metric(modern).await, 0.0);
    let answer = slow.await.expect("answered");
    assert!(answer["result"]["content"].is_array(), "{answer}");
    let mut client = pool.client_of("hostile", "picky");
    client.config = Some(encoded(&json!({ "a": "x" })));
    let listed = send(&client, "tools/list", params(json!({}), &json!({}))).await;
    assert_eq!(listed.status(), StatusCode::OK);
    assert_eq!(pool.metric(modern).await, 1.0);
}

/// What is kept of callers goes for newer ones of their tenant when it holds as much as it may.
#[tokio::test]
async fn callers_with_large_configs_take_their_tenants_own_memory() {
    let plain = demo(
        "plain",
        "max_message = \"128KiB\"\nclient_config = [\"a\"]\n[servers.plain.config]\ntype = \"object\"\nproperties.a = { type = \"string\" }\n",
    );
    let limits = "[limits]\nmemory_held = \"3MiB\"\n";
    let pool =
        Stdiopool::serve(&(limits.to_owned() + &demo("good", "max_message = \"128KiB\"") + &plain));
    let beside = Beside::open(&pool, "bystander", "good").await;
    for n in 0..90 {
        let mut client = pool.client_of("hostile", "plain");
        client.config = Some(encoded(
            &json!({ "a": format!("{n}{}", "x".repeat(40 << 10)) }),
        ));
        let echoed = call(&client, "echo", json!({ "message": "m" }), &json!({})).await;
        assert_eq!(text(&echoed), "m", "the oldest makes room");
    }
    let held: f64 = {
        let kinds =
            ["caller", "route"].map(|kind| format!("stdiopool_held_bytes{{kind=\"{kind}\"}}"));
        pool.metric(&kinds[0]).await + pool.metric(&kinds[1]).await
    };
    assert!(held > 1e6 && held < 3.2e6, "{held}");
    beside.goes_on(3).await;
}

#[tokio::test]
async fn a_config_that_is_too_long_is_refused_wherever_it_stands() {
    let pool = Stdiopool::serve(&configurable("picky", ""));
    let long = json!({ "a": "x".repeat(65 << 10) });
    let half = json!({ "a": "x".repeat(33 << 10) });
    let is_too_long = async |response| {
        let (status, reason, message) = refusal(response).await;
        assert_eq!(
            (status, &*reason),
            (StatusCode::OK, "message_too_large"),
            "{message}"
        );
        assert!(message.contains("65536"), "{message}");
    };
    let client = pool.client_of("hostile", "picky");
    let mut in_meta = params(json!({}), &json!({}));
    in_meta["_meta"]["dev.stdiopool/config"] = long.clone();
    is_too_long(send(&client, "tools/list", in_meta).await).await;
    let in_params = params(json!({ "clientConfig": long }), &json!({}));
    is_too_long(send(&client, "tools/list", in_params).await).await;
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" },
        "clientConfig": long,
    } });
    is_too_long(client.send_raw(hello.to_string()).await).await;
    // What goes over it counts too, as it stands.
    let two = params(json!({ "clientConfig": half }), &json!({}));
    let mut client = pool.client_of("hostile", "picky");
    client.url.push_str("?config=");
    client.url.push_str(&encoded(&json!({ "a": "x" })));
    let (_, reason, _) = refusal(send(&client, "tools/list", two).await).await;
    assert_ne!(
        reason, "message_too_large",
        "the later one goes over the first"
    );
}

/// Its arguments are more than execve(2) takes: that is the caller's config, and nobody else's fault.
#[tokio::test]
async fn arguments_that_are_too_long_for_the_system_are_the_callers_own_fault() {
    let pool = Stdiopool::serve(&configurable("picky", ""));
    for n in 0..5 {
        let mut client = pool.client_of("hostile", "picky");
        client.config = Some(encoded(
            &json!({ "a": format!("{n}{}", "x".repeat(50 << 10)) }),
        ));
        let echo = json!({ "name": "echo", "arguments": { "message": "m" } });
        let response = send(&client, "tools/call", params(echo, &json!({}))).await;
        let (status, reason, message) = refusal(response).await;
        assert_eq!(
            (status, &*reason),
            (StatusCode::OK, "config_invalid"),
            "{message}"
        );
        assert!(
            message.contains("longer than the system takes"),
            "{message}"
        );
    }
    Beside::open(&pool, "bystander", "picky")
        .await
        .goes_on(1)
        .await;
    let status = pool.admin_json("status").await;
    assert_eq!(status["circuits"], json!([]));
    let own = pool.client_of("hostile", "picky");
    let echoed = call(&own, "echo", json!({ "message": "still" }), &json!({})).await;
    assert_eq!(text(&echoed), "still");
}

/// A pattern that backtracks on the caller's values costs a refusal, not the threads that serve.
#[tokio::test]
async fn checks_of_configs_that_take_long_keep_nobody_waiting() {
    let picky = demo(
        "picky",
        "client_config = [\"a\"]\n[servers.picky.config]\ntype = \"object\"\nproperties.a = { type = \"array\", items = { pattern = \"^(?=(a+)+$)b\" } }\n",
    );
    let pool = Stdiopool::serve(&(demo("good", "") + &picky));
    let beside = Beside::open(&pool, "bystander", "good").await;
    let evil: Vec<String> = (0..600)
        .map(|n| format!("{}{n}!", "a".repeat(80)))
        .collect();
    let evil = encoded(&json!({ "a": evil }));
    let hostile: Vec<_> = (0..8)
        .map(|_| {
            let mut client = pool.client_of("hostile", "picky");
            client.config = Some(evil.clone());
            tokio::spawn(async move {
                let asked = params(json!({}), &json!({}));
                refusal(send(&client, "tools/list", asked).await).await
            })
        })
        .collect();
    beside.goes_on(50).await;
    for refused in hostile {
        let refused = tokio::time::timeout(Duration::from_secs(60), refused).await;
        let (status, reason, message) = refused.expect("in time").expect("ran");
        assert!(
            ["config_invalid", "tenant_limit"].contains(&&*reason) && status == StatusCode::OK,
            "{status} {reason} {message}"
        );
    }
    beside.goes_on(5).await;
}
