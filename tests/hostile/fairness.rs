//! What is shared is shared fairly: start permits, circuits, the slots of a worker.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::beside::Beside;
use crate::support::{PATIENCE, Stdiopool, demo, eventually, faulty};

/// `initialize` of that tenant and server, whose answer nobody waits for.
fn connect_in_vain(pool: &Stdiopool, tenant: &str, server: &str) -> tokio::task::JoinHandle<()> {
    let client = pool.client_of(tenant, server);
    tokio::spawn(async move {
        let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" },
        } });
        let _refused = client.send_raw(hello.to_string()).await;
    })
}

#[tokio::test]
async fn servers_of_one_tenant_that_never_answer_keep_no_other_from_starting() {
    let hangs: String = (0..4)
        .map(|n| faulty(&format!("hangs{n}"), &["--mode", "never-answers"], ""))
        .collect();
    let pool = Stdiopool::serve(&(demo("good", "") + &hangs));
    let waiting: Vec<_> = (0..4)
        .map(|n| connect_in_vain(&pool, "hostile", &format!("hangs{n}")))
        .collect();
    eventually("both start permits are taken", async || {
        pool.workers().await.len() >= 2
    })
    .await;
    let began = Instant::now();
    Beside::open(&pool, "bystander", "good")
        .await
        .goes_on(1)
        .await;
    // Without a place of its own it would have waited until the starts do not count any more, for 10 s.
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn failures_of_one_tenant_close_a_server_to_nobody_else() {
    let picky = faulty(
        "picky",
        &["--mode", "${config.mode}"],
        "share = \"session\"\n[servers.picky.config]\ntype = \"object\"\nproperties.mode = { type = \"string\", default = \"none\" }\n[tenants.hostile]\nconfig.picky = { mode = \"exit-at-once\" }\n",
    );
    let pool = Stdiopool::serve(&picky);
    let start = async || {
        let client = pool.client_of("hostile", "picky");
        client.try_initialize("2025-11-25", json!({})).await
    };
    for _ in 0..3 {
        let answer = start().await;
        assert_eq!(answer.reason(), "start_failed", "{answer:?}");
    }
    let own = start().await;
    assert_eq!(own.reason(), "circuit_open", "{own:?}");
    Beside::open(&pool, "bystander", "picky")
        .await
        .goes_on(2)
        .await;
    // Its server works: that is news to everyone.
    let again = start().await;
    assert_eq!(again.reason(), "start_failed", "{again:?}");
}

#[tokio::test]
async fn a_session_that_hangs_all_it_may_leaves_the_others_of_its_worker_their_slots() {
    let pool = Stdiopool::serve(&faulty(
        "shared",
        &[],
        "max_in_flight = 4\nrequest_timeout = \"60s\"",
    ));
    let hostile = pool.client_of("one", "shared").connect().await;
    let hung: Vec<_> = (0..8)
        .map(|_| {
            let client = hostile.clone();
            tokio::spawn(async move {
                let _never = client.call("slow", json!({ "seconds": 50.0 })).await;
            })
        })
        .collect();
    eventually("it has its share", async || {
        let workers = pool.workers().await;
        workers.iter().any(|worker| worker["in_flight"] == 3)
            && pool.metric("stdiopool_queue_depth").await >= 5.0
    })
    .await;
    Beside::open(&pool, "one", "shared").await.goes_on(20).await;
    hung.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn who_is_kept_waiting_is_told_what_for() {
    let slow = faulty("slow", &["--delay-ms", "20000", "--mode", "slow-start"], "");
    let busy = faulty("busy", &[], "max_in_flight = 1");
    let toml = format!("[pool]\nqueue_timeout = \"2s\"\n{slow}{busy}");
    let pool = Stdiopool::serve(&toml);
    let starting = pool
        .client_of("one", "slow")
        .try_initialize("2025-11-25", json!({}))
        .await;
    assert_eq!(starting.reason(), "starting", "{starting:?}");
    assert_eq!(starting.status, http::StatusCode::OK);
    assert!(starting.message().contains("stderr"), "{starting:?}");
    let first = pool.client_of("one", "busy").connect().await;
    let second = pool.client_of("one", "busy").connect().await;
    let hung = tokio::spawn(async move {
        let _never = first.call("slow", json!({ "seconds": 50.0 })).await;
    });
    eventually("it is busy", async || {
        let workers = pool.workers().await;
        workers.iter().any(|worker| worker["in_flight"] == 1)
    })
    .await;
    let refused = tokio::time::timeout(PATIENCE, second.call("echo", json!({ "message": "m" })));
    let refused = refused.await.expect("in time");
    assert_eq!(refused.reason(), "busy", "{refused:?}");
    for reason in ["starting", "busy"] {
        let series = format!("stdiopool_rejections_total{{reason=\"{reason}\"}}");
        assert!(pool.metric(&series).await >= 1.0, "{reason}");
    }
    hung.abort();
}
