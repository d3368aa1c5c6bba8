//! The dashboard: its page, and what it looks at.

use std::time::Duration;

use http::StatusCode;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ORIGIN};
use reqwest::Response;
use serde_json::{Value, json};
use stdiopool::worker::memory::can_hibernate;

use super::support::{PATIENCE, Stdiopool, demo, eventually, faulty};

async fn get(pool: &Stdiopool, path: &str, accept: &str) -> Response {
    let request = reqwest::Client::new().get(format!("{}{path}", pool.admin));
    request
        .header(ACCEPT, accept)
        .send()
        .await
        .expect("answers")
}

async fn post(pool: &Stdiopool, path: &str) -> (StatusCode, Value) {
    let request = reqwest::Client::new().post(format!("{}/api/v1/{path}", pool.admin));
    // As the page's own script asks.
    let response = request.header(ORIGIN, &pool.admin).send().await;
    let response = response.expect("answers");
    (response.status(), response.json().await.expect("JSON"))
}

/// The next overview of a stream.
async fn next(response: &mut Response, text: &mut String) -> Value {
    loop {
        if let Some((event, rest)) = text.split_once("\n\n") {
            let data = event.lines().find_map(|line| line.strip_prefix("data: "));
            let told = data.map(|data| serde_json::from_str(data).expect("JSON"));
            *text = rest.to_owned();
            if let Some(told) = told {
                return told;
            }
            continue;
        }
        let piece = tokio::time::timeout(PATIENCE, response.chunk()).await;
        let piece = piece.expect("in time").expect("no error").expect("goes on");
        text.push_str(std::str::from_utf8(&piece).expect("text"));
    }
}

#[tokio::test]
async fn the_page_is_in_the_program_and_asks_nobody_else() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let page = get(&pool, "/", "text/html").await;
    assert_eq!(page.status(), StatusCode::OK);
    let headers = page.headers().clone();
    assert_eq!(headers[CONTENT_TYPE], "text/html; charset=utf-8");
    let policy = headers["content-security-policy"].to_str().expect("text");
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'"),
        "{policy}"
    );
    assert_eq!(headers["x-content-type-options"], "nosniff");
    let html = page.text().await.expect("text");
    let named = html.split('"').map(|named| named.trim_start_matches('.'));
    for named in named.filter(|named| named.starts_with("/assets/")) {
        let file = get(&pool, named, "*/*").await;
        assert_eq!(file.status(), StatusCode::OK, "{named}");
        let caching = file.headers()["cache-control"].to_str().expect("text");
        assert!(caching.contains("immutable"), "{caching}");
    }
    let list = get(&pool, "/", "*/*").await.text().await.expect("text");
    assert!(list.contains("GET  /api/v1/overview"), "{list}");
}

#[tokio::test]
async fn an_overview_tells_what_is_used_and_goes_on_telling() {
    let toml = demo("demo", "") + &faulty("broken", &["--mode", "exit-at-once"], "");
    let pool = Stdiopool::serve(&toml);
    let client = pool.client_of("acme", "demo").connect().await;
    // From the first look on it is counted who uses what.
    let mut followed = get(&pool, "/api/v1/overview?follow=true&tenant=acme", "*/*").await;
    assert_eq!(followed.headers()[CONTENT_TYPE], "text/event-stream");
    let mut text = String::new();
    let first = next(&mut followed, &mut text).await;
    assert_eq!(first["tenants"]["rows"][0]["name"], "acme");
    for _ in 0..5 {
        client.call("echo", json!({"message": "x"})).await.text();
    }
    client.call("nothing", json!({})).await;
    let begun = tokio::time::Instant::now();
    let told = loop {
        let told = next(&mut followed, &mut text).await;
        let calls = told["tenants"]["rows"][0]["calls_per_minute"].as_f64();
        if calls.is_some_and(|calls| calls > 0.0) {
            break told;
        }
        assert!(begun.elapsed() < PATIENCE, "{told:#}");
    };
    assert!(told["at_ms"].as_u64() > first["at_ms"].as_u64());
    let row = &told["tenants"]["rows"][0];
    assert_eq!((&row["workers"], &row["in_flight"]), (&json!(1), &json!(0)));
    assert!(row["errors_per_minute"].as_f64() > Some(0.0), "{row}");
    assert_eq!(told["servers"]["total"], 1, "those that the tenant uses");
    assert_eq!(told["workers"]["rows"][0]["server"], "demo");
    assert_eq!(told["starts"]["since_start"]["cold"], 1);
    assert!(
        told["starts"]["since_start"]["warm"].as_u64() >= Some(5),
        "{told:#}"
    );

    // What goes wrong is there, with the worker whose stderr says why.
    pool.client("broken")
        .try_initialize("2025-11-25", json!({}))
        .await;
    eventually("the error is told", async || {
        let told = pool.admin_json("overview?server=broken").await;
        let error = &told["servers"]["rows"][0]["last_error"];
        let events = told["events"]["rows"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let is_told = |event: &Value| {
            event["kind"] == "worker_start_failed" && event["worker"] == error["worker"]
        };
        error["worker"].is_string() && events.iter().any(is_told)
    })
    .await;
    let told = pool.admin_json("overview").await;
    let reasons = told["rejections"]["rows"].as_array().cloned();
    let failed = reasons.unwrap_or_default().into_iter();
    let failed = failed.filter(|row| row["reason"] == "start_failed").count();
    assert_eq!(failed, 1, "{told:#}");
    let long = told.to_string().len();
    assert!(long < 64 << 10, "{long}");
}

#[tokio::test]
async fn the_day_begins_with_the_start() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let day = async || pool.admin_json("history?points=1440").await;
    eventually("a first point", async || day().await["len"] == 1).await;
    let day = day().await;
    assert_eq!(day["step_seconds"], 60);
    for column in [
        &day["workers"]["busy"],
        &day["counts"]["calls"],
        &day["queue_depth"],
    ] {
        assert_eq!(column.as_array().map(Vec::len), Some(1), "{day:#}");
    }
    let refused = get(&pool, "/api/v1/history?points=0", "*/*").await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_workers_life_is_told_and_an_idle_one_hibernates_when_it_is_told_to() {
    let pool = Stdiopool::serve(
        &("[pool]\nhibernate_after = \"never\"\n".to_owned() + &faulty("slow", &[], "")),
    );
    let client = pool.client("slow").connect().await;
    client.call("echo", json!({"message": "x"})).await.text();
    let states = async || {
        let row = pool.admin_json("workers/w1").await;
        let rows = row["timeline"].as_array().cloned().unwrap_or_default();
        let states = rows
            .iter()
            .map(|row| row["state"].as_str().unwrap_or("").to_owned());
        states.collect::<Vec<_>>()
    };
    assert_eq!(states().await, ["starting", "ready", "first_request"]);
    assert_eq!(
        post(&pool, "workers/w9/hibernate").await.0,
        StatusCode::NOT_FOUND
    );

    let waits = client.call("slow", json!({"seconds": 3}));
    let refused = async {
        eventually("it works", async || {
            pool.workers().await[0]["state"] == "busy"
        })
        .await;
        post(&pool, "workers/w1/hibernate").await
    };
    let (_, (status, said)) = tokio::join!(waits, refused);
    assert_eq!(
        (status, &said["reason"]),
        (StatusCode::CONFLICT, &json!("unavailable"))
    );

    if let Err(why) = can_hibernate() {
        eprintln!("not tried: {why}");
        return;
    }
    eventually("it is idle, and hibernates", async || {
        let (status, said) = post(&pool, "workers/w1/hibernate").await;
        let message = said["message"].as_str().unwrap_or_default();
        status == StatusCode::ACCEPTED && message.contains("hibernating w1")
    })
    .await;
    eventually("its memory is paged out", async || {
        states()
            .await
            .last()
            .is_some_and(|state| state == "hibernated")
    })
    .await;
    let (status, said) = post(&pool, "workers/w1/hibernate").await;
    assert_eq!(status, StatusCode::CONFLICT, "{said}");
    client.call("echo", json!({"message": "x"})).await.text();
    assert_eq!(states().await.last().map(String::as_str), Some("woken"));
    let told = pool.admin_json("overview").await;
    assert_eq!(told["starts"]["since_start"]["woken"], 1, "{told:#}");

    let (status, _) = post(&pool, "workers/w1/stop").await;
    assert_eq!(status, StatusCode::ACCEPTED);
    eventually("it is over", async || {
        let ended = pool.admin_json("ended?worker=w1").await;
        let rows = ended[0]["timeline"].as_array().cloned().unwrap_or_default();
        rows.last().is_some_and(|row| row["state"] == "ended")
    })
    .await;
}

#[tokio::test]
async fn with_a_token_the_page_comes_and_shows_nothing_without_it() {
    let token = "token = \"let-me-in-please\"\n[auth]\nmode = \"none\"\n";
    let pool = Stdiopool::serve_with(token, &demo("demo", ""));
    assert_eq!(get(&pool, "/", "text/html").await.status(), StatusCode::OK);
    for path in ["/", "/api/v1/overview", "/api/v1/history", "/metrics"] {
        let refused = get(&pool, path, "application/json").await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    let request = reqwest::Client::new().get(format!("{}/api/v1/overview", pool.admin));
    let request = request.header(AUTHORIZATION, "Bearer let-me-in-please");
    let told = request.timeout(Duration::from_secs(30)).send().await;
    assert_eq!(told.expect("answers").status(), StatusCode::OK);
}
