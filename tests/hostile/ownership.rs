//! Who owns a process: not what its environment, its session or its parent say.

use serde_json::{Value, json};

use super::beside::Beside;
use super::support::{Client, Process, Stdiopool, alive, demo, eventually, in_tree_of, until_gone};

/// The server that hides what it starts. It runs as stdiopool does, so that it can do what a user of its own could not.
fn daemons(more: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/daemons.py");
    format!(
        "[servers.bad]\ncommand = \"python3\"\nargs = [{script:?}]\nsandbox = \"none\"\n{more}\n"
    )
}

async fn worker_of(pool: &Stdiopool, tenant: &str, server: &str) -> Option<Value> {
    let workers = pool.workers().await;
    let is_meant = |it: &&Value| it["server"] == server && it["tenant"] == tenant;
    workers.iter().find(is_meant).cloned()
}

async fn pid_of(pool: &Stdiopool, tenant: &str, server: &str) -> u64 {
    let worker = worker_of(pool, tenant, server).await.expect("it runs");
    worker["pid"].as_u64().expect("a pid")
}

/// Lets the worker of `client` start a daemon in whose environment stands what stands in that of `of`: its pid.
async fn pid_of_daemon(client: &Client, mebibytes: u64, of: Option<u64>) -> u32 {
    let arguments = json!({ "mebibytes": mebibytes, "of": of });
    let answer = client.call("daemonise", arguments).await;
    answer.text().parse().expect("a pid")
}

/// [`pid_of_daemon`], of a daemon that lives on.
async fn daemonise(client: &Client, mebibytes: u64, of: Option<u64>) -> Process {
    let daemon = in_tree_of(pid_of_daemon(client, mebibytes, of).await)[0];
    assert!(alive(daemon));
    daemon
}

#[tokio::test]
async fn a_daemon_with_the_environment_of_another_worker_counts_for_its_own() {
    let toml = daemons("limits = { memory = \"96MiB\" }") + &demo("good", "");
    let pool = Stdiopool::serve(&toml);
    let beside = Beside::open(&pool, "bob", "good").await;
    let (anna, bob) = (
        pool.client_of("anna", "bad").connect().await,
        pool.client_of("bob", "bad").connect().await,
    );
    anna.call("pid", json!({})).await.result();
    bob.call("pid", json!({})).await.result();
    let of_bob = pid_of(&pool, "bob", "bad").await;
    let of_anna = pid_of(&pool, "anna", "bad").await;

    let daemon = pid_of_daemon(&anna, 160, Some(of_bob)).await;
    // The daemon holds more than a worker may: its worker goes with it, whether a look or the kernel found that.
    eventually(
        "the worker that started it is ended for memory",
        async || {
            worker_of(&pool, "anna", "bad")
                .await
                .is_none_or(|it| it["pid"] != of_anna)
        },
    )
    .await;
    let of_daemon = std::path::Path::new("/proc").join(daemon.to_string());
    eventually("the daemon is gone", async || !of_daemon.exists()).await;
    let exits = "stdiopool_worker_exits_total{reason=\"memory\",server=\"bad\"}";
    assert!((pool.metric(exits).await - 1.0).abs() < 0.1);
    assert_eq!(
        pid_of(&pool, "bob", "bad").await,
        of_bob,
        "not the one it named"
    );
    bob.call("pid", json!({})).await.result();
    beside.goes_on(3).await;
}

#[tokio::test]
async fn a_daemon_without_anything_is_measured_and_dies_with_its_worker() {
    let pool = Stdiopool::serve(&daemons(""));
    let (anna, bob) = (
        pool.client_of("anna", "bad").connect().await,
        pool.client_of("bob", "bad").connect().await,
    );
    let (of_anna, of_bob) = (
        daemonise(&anna, 100, None).await,
        daemonise(&bob, 1, None).await,
    );
    eventually("it is measured", async || {
        let worker = worker_of(&pool, "anna", "bad").await.expect("it runs");
        worker["memory_bytes"].as_u64().unwrap_or_default() > 100 << 20
    })
    .await;
    let worker = worker_of(&pool, "anna", "bad").await.expect("it runs");
    let id = worker["id"].as_str().expect("an id").to_owned();
    let stopped = pool.command(&["stop", &id]).output().expect("runs");
    assert!(stopped.status.success(), "{stopped:?}");
    until_gone(&[of_anna]);
    assert!(alive(of_bob), "another worker's daemon was not meant");
}

#[tokio::test]
async fn a_worker_that_kills_what_watches_over_it_ends_with_all_it_started() {
    let pool = Stdiopool::serve(&(daemons("") + &demo("good", "")));
    let beside = Beside::open(&pool, "bob", "good").await;
    let (anna, bob) = (
        pool.client_of("anna", "bad").connect().await,
        pool.client_of("bob", "bad").connect().await,
    );
    let of_bob = daemonise(&bob, 1, None).await;
    let daemon = daemonise(&anna, 1, None).await;
    let old = pid_of(&pool, "anna", "bad").await;
    // It may still answer.
    let _either = anna.call("signal_parent", json!({ "signal": 9 })).await;
    until_gone(&[daemon]);
    assert!(alive(of_bob));
    let until_it_is_gone = async || {
        let worker = worker_of(&pool, "anna", "bad").await;
        worker.is_none_or(|it| it["pid"] != old)
    };
    eventually("its end is noticed", until_it_is_gone).await;
    // A new worker serves the same session.
    anna.call("pid", json!({})).await.result();
    assert_ne!(pid_of(&pool, "anna", "bad").await, old);
    beside.goes_on(2).await;
}

#[tokio::test]
async fn a_worker_that_stops_what_watches_over_it_is_found_out_when_it_ends() {
    let pool = Stdiopool::serve(&daemons(""));
    let anna = pool.client_of("anna", "bad").connect().await;
    let daemon = daemonise(&anna, 1, None).await;
    let sent = anna.call("signal_parent", json!({ "signal": 19 })).await;
    assert_eq!(sent.text(), "sent");
    let answer = anna.call("end", json!({})).await;
    assert_eq!(answer.reason(), "worker_exited");
    assert!(
        answer.message().contains("status 3"),
        "{}",
        answer.message()
    );
    until_gone(&[daemon]);
}
