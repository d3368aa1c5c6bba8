//! Memory: what a worker may hold, what all may, and what becomes of the idle.

use http::StatusCode;
use serde_json::{Value, json};
use stdiopool::worker::memory::can_hibernate;

use super::support::{Client, PATIENCE, Stdiopool, demo, faulty};

/// Waits until the worker of that server is in that state, and returns it.
async fn until_state(pool: &Stdiopool, server: &str, state: &str) -> Value {
    until(pool, state, |it| {
        it["server"] == server && it["state"] == state
    })
    .await
}

/// Waits until a worker is as meant, and returns it.
async fn until(pool: &Stdiopool, what: &str, is_meant: impl Fn(&Value) -> bool) -> Value {
    let poll = async {
        loop {
            let workers = pool.workers().await;
            if let Some(worker) = workers.iter().find(|worker| is_meant(worker)) {
                return worker.clone();
            }
            // There is no event for the end of a page-out, or for a measurement.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, poll).await;
    found.unwrap_or_else(|_| panic!("never {what}: {}", pool.log()))
}

async fn echoes(client: &Client) {
    let answer = client.call("echo", json!({"message": "here"})).await;
    assert_eq!(answer.text(), "here");
}

#[tokio::test]
async fn a_worker_that_holds_more_than_it_may_is_killed_and_its_caller_told() {
    let toml = faulty("bad", &[], "limits = { memory = \"64MiB\" }") + &demo("good", "");
    let pool = Stdiopool::serve(&toml);
    let (bad, good) = (
        pool.client("bad").connect().await,
        pool.client("good").connect().await,
    );
    let within = bad.call("hoard", json!({"mebibytes": 20, "answers": true}));
    assert_eq!(within.await.text(), "hoarded");
    let killed = bad.call("hoard", json!({"mebibytes": 120})).await;
    assert_eq!(
        (killed.status, killed.reason()),
        (StatusCode::OK, "worker_exited")
    );
    // Found by a look, or by the kernel before one.
    for said in ["than the 64 MiB it may", "servers.bad.limits.memory"] {
        assert!(killed.message().contains(said), "{}", killed.message());
    }
    echoes(&bad).await;
    echoes(&good).await;
    let exits = "stdiopool_worker_exits_total{reason=\"memory\",server=\"bad\"}";
    let counted = pool.metric(exits).await;
    assert!((counted - 1.0).abs() < 0.1, "{counted}");
}

#[tokio::test]
async fn a_start_that_has_no_room_makes_idle_workers_go() {
    let bound = "[pool]\nmax_memory = \"40MiB\"\nhibernate_after = \"never\"\n";
    let pool = Stdiopool::serve(&(bound.to_owned() + &demo("demo", "")));
    // Each is smaller than that, but nobody knows before one was measured.
    for tenant in ["anna", "bob", "carl"] {
        echoes(&pool.client_of(tenant, "demo").connect().await).await;
    }
    let evicted = pool.metric("stdiopool_evictions_total{reason=\"max_memory\"}");
    assert!(evicted.await >= 1.0);
    let limits = pool.admin_json("status").await["limits"].clone();
    assert_eq!(limits["max_memory_bytes"], 40 << 20);
    // Once it is measured, it is charged with what it holds.
    let measured = async {
        while pool.admin_json("status").await["memory_bytes"].as_u64() > Some(40 << 20) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let measured = tokio::time::timeout(PATIENCE, measured).await;
    measured.expect("measured");
}

#[tokio::test]
async fn an_idle_worker_hibernates_and_the_next_request_wakes_it() {
    let toml = "[pool]\nhibernate_after = \"500ms\"\n".to_owned() + &faulty("big", &[], "");
    let pool = Stdiopool::serve(&toml);
    let client = pool.client("big").connect().await;
    let hoard = client.call("hoard", json!({"mebibytes": 100, "answers": true}));
    assert_eq!(hoard.await.text(), "hoarded");
    if let Err(why) = can_hibernate() {
        assert!(pool.log().contains(&why.to_string()), "{}", pool.log());
        assert_eq!(until_state(&pool, "big", "idle").await["server"], "big");
        return;
    }
    // It may fall asleep before it was ever measured, or be measured last while it was awake.
    let asleep = until(&pool, "hibernated, and measured as such", |it| {
        it["state"] == "hibernated"
            && it["memory_bytes"]
                .as_u64()
                .is_some_and(|held| held < 50 << 20)
    })
    .await;
    echoes(&client).await;
    assert!(until_state(&pool, "big", "hibernated").await["pid"] == asleep["pid"]);
    let woke = pool.metric("stdiopool_wake_seconds_count{server=\"big\"}");
    assert!(woke.await >= 1.0);
    assert!(pool.metric("stdiopool_hibernated_bytes").await > 0.0);
}

/// With `hibernate_stop`, nothing in a sleeping worker runs; it wakes, and ends, all the same.
#[tokio::test]
async fn what_hibernates_can_be_stopped_too() {
    if can_hibernate().is_err() {
        return;
    }
    let toml = "[pool]\nhibernate_after = \"200ms\"\nhibernate_stop = true\n".to_owned()
        + &demo("demo", "");
    let mut pool = Stdiopool::serve(&toml);
    let client = pool.client("demo").connect().await;
    let state_of = |pid: &Value| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("alive");
        let state = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next());
        state.expect("a state")
    };
    for _ in 0..2 {
        let asleep = until_state(&pool, "demo", "hibernated").await;
        // A signal takes effect when its process next leaves the kernel.
        crate::support::eventually("it is stopped", async || state_of(&asleep["pid"]) == 'T').await;
        echoes(&client).await;
    }
    until_state(&pool, "demo", "hibernated").await;
    let begun = std::time::Instant::now();
    assert!(pool.terminate().success());
    // It heard the end of its input; nobody had to kill it.
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
}
