//! Bodies that are begun and never ended take a bounded part of the memory, and of one tenant's only.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::beside::Beside;
use crate::support::{Stdiopool, demo};

/// Most that one tenant's bodies may take here: four of the largest.
const CONFIG: &str = "[limits]\nmemory_held = \"128MiB\"\n";

/// Begins a POST that announces `announced` bytes and sends one.
fn begin(pool: &Stdiopool, tenant: &str, announced: usize) -> TcpStream {
    let address = pool.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).expect("connected");
    write!(
        stream,
        "POST /t/{tenant}/good/mcp HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {announced}\r\n\r\n{{"
    )
    .expect("sent");
    stream
}

#[tokio::test]
async fn bodies_that_do_not_end_are_refused_at_the_limit_of_their_tenant() {
    let pool = Stdiopool::serve(&(CONFIG.to_owned() + &demo("good", "")));
    let beside = Beside::open(&pool, "bystander", "good").await;
    let announced = 1 << 20;
    let mut open: Vec<_> = (0..128)
        .map(|_| begin(&pool, "hostile", announced))
        .collect();
    crate::support::eventually("all of them are read", async || {
        let text = reqwest::get(format!("{}/metrics", pool.admin))
            .await
            .expect("answers")
            .text()
            .await
            .expect("text");
        let line = "stdiopool_held_bytes{kind=\"body\"}";
        let held = text.lines().find_map(|at| at.strip_prefix(line));
        held.is_some_and(|held| held.trim().parse::<f64>() == Ok(f64::from(128 << 20)))
    })
    .await;
    let mut refused = begin(&pool, "hostile", announced);
    let mut answer = [0; 1024];
    let read = refused.read(&mut answer).expect("an answer");
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    beside.goes_on(5).await;
    // Who is gone gives back what it held.
    open.clear();
    let client = pool.client_of("hostile", "good");
    crate::support::eventually("the tenant is served again", async || {
        let answer = client
            .try_initialize("2025-11-25", serde_json::json!({}))
            .await;
        answer.response().get("result").is_some()
    })
    .await;
}
