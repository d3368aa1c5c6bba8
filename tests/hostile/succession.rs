//! The next worker of a key starts when nothing is left of the last one, whatever it is started with: a server may
//! hold what only one process can have.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::stateless::{self, call, elicitation};
use crate::support::{Client, Stdiopool, eventually};

/// The server with a lock, which takes 1.5 s to end; `more` is added to its table.
fn locking(name: &str, era: &str, more: &str) -> String {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/locking_server.py"
    );
    format!(
        "[servers.{name}]\ncommand = \"python3\"\nargs = [\"{script}\", \"${{dir.data}}/lock\", \"1.5\"{era}]\n{more}\n"
    )
}

fn serve(more: &str, pool: &str) -> Stdiopool {
    Stdiopool::serve(&(locking("lock", "", more) + pool))
}

/// What the worker says of itself: its process, and what it was started with.
async fn said(client: &Client) -> (u32, String) {
    let answer = client.call("pid", json!({})).await;
    let text = answer.text().to_owned();
    let (pid, greeting) = text.split_once(' ').expect("two words");
    (pid.parse().expect("a pid"), greeting.to_owned())
}

/// Puts another text into pool.toml and has it read.
async fn reload(pool: &Stdiopool, old: &str, new: &str) {
    let file = pool.dir.path().join("pool.toml");
    let text = std::fs::read_to_string(&file).expect("reads");
    assert!(text.contains(old), "{text}");
    std::fs::write(&file, text.replace(old, new)).expect("writes");
    let mut command = pool.command(&["reload"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.expect("runs").expect("runs");
    assert!(output.status.success(), "{output:?}");
}

async fn no_start_failed(pool: &Stdiopool) {
    let events = pool
        .command(&["events", "--since", "10m", "--json"])
        .output();
    let text = String::from_utf8(events.expect("runs").stdout).expect("text");
    assert!(!text.contains("worker_start_failed"), "{text}");
    assert!(text.contains("worker_ready"), "{text}");
}

#[tokio::test]
async fn after_its_requests_and_its_idle_time_the_next_waits_for_the_end_of_the_last() {
    let pool = serve("max_requests = 3\nidle_timeout = \"1s\"", "");
    let client = pool.client("lock").connect().await;
    let first = said(&client).await.0;
    assert_eq!(said(&client).await.0, first);
    // It served as many as it may, and is on its way out.
    let began = Instant::now();
    let second = said(&client).await.0;
    assert_ne!(second, first);
    assert!(
        began.elapsed() > Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    // It is stopped for being idle, and asked for while it ends.
    eventually("it is being stopped", async || {
        let workers = pool.workers().await;
        workers.iter().any(|worker| worker["state"] == "stopping")
    })
    .await;
    assert_ne!(said(&client).await.0, second);
    no_start_failed(&pool).await;
}

#[tokio::test]
async fn after_a_reload_the_next_waits_for_the_end_of_the_last_also_while_that_is_busy() {
    let env = "env = { GREETING = \"one\" }\nmax_in_flight = 2";
    let pool = serve(env, "[pool]\ndrain_timeout = \"20s\"\n");
    let client = pool.client("lock").connect().await;
    let (first, greeting) = said(&client).await;
    assert_eq!(greeting, "one");
    // Idle.
    reload(&pool, "\"one\"", "\"two\"").await;
    let (second, greeting) = said(&client).await;
    assert_eq!(greeting, "two");
    assert_ne!(first, second);
    // Busy: what it has in flight ends well.
    let waiting = client.clone();
    let long = tokio::spawn(async move { waiting.call("wait", json!({"seconds": 3})).await });
    eventually("it is busy", async || {
        pool.workers()
            .await
            .iter()
            .any(|worker| worker["in_flight"] == 1)
    })
    .await;
    reload(&pool, "\"two\"", "\"three\"").await;
    let (third, greeting) = said(&client).await;
    assert_eq!(greeting, "three");
    assert_ne!(third, second);
    let long = long.await.expect("no panic");
    assert_eq!(long.text(), format!("{second} two"));
    no_start_failed(&pool).await;
}

#[tokio::test]
async fn a_call_that_takes_long_holds_up_the_next_worker_for_drain_timeout_and_is_told_why_it_ended()
 {
    let pool = serve(
        "env = { GREETING = \"one\" }",
        "[pool]\ndrain_timeout = \"3s\"\nqueue_timeout = \"1s\"\n",
    );
    let client = pool.client("lock").connect().await;
    let first = said(&client).await.0;
    let waiting = client.clone();
    let long = tokio::spawn(async move { waiting.call("wait", json!({"seconds": 600})).await });
    eventually("it is busy", async || {
        pool.workers()
            .await
            .iter()
            .any(|worker| worker["in_flight"] == 1)
    })
    .await;
    reload(&pool, "\"one\"", "\"two\"").await;
    let refused = client.call("pid", json!({})).await;
    assert_eq!(refused.reason(), "busy", "{refused:?}");
    for part in [
        "still works on 1 request",
        "`pool.drain_timeout`",
        "max_workers_per_key",
    ] {
        assert!(refused.message().contains(part), "{refused:?}");
    }
    eventually("the next one serves", async || {
        let answer = client.call("pid", json!({})).await;
        answer.response().get("result").is_some()
    })
    .await;
    let (next, greeting) = said(&client).await;
    assert_eq!(greeting, "two");
    assert_ne!(next, first);
    let long = long.await.expect("no panic");
    assert_eq!(long.reason(), "worker_exited", "{long:?}");
    assert!(long.message().contains("`pool.drain_timeout`"), "{long:?}");
    no_start_failed(&pool).await;
}

#[tokio::test]
async fn a_process_that_is_to_speak_the_other_era_waits_for_the_one_that_refused() {
    let toml = locking("lock", ", \"stateless\"", "");
    let pool = Stdiopool::serve(&toml);
    let client = pool.client("lock").connect().await;
    said(&client).await;
    no_start_failed(&pool).await;
}

/// Clients of every kind, one after the other: those of 2026-07-28 that can be asked nothing or something, and one with
/// a session.
async fn all_kinds_are_served(pool: &Stdiopool) {
    let plain = pool.client("lock");
    let session = pool.client("lock").connect().await;
    for capabilities in [
        json!({}),
        json!({}),
        elicitation(),
        json!({}),
        elicitation(),
    ] {
        let answer = call(&plain, "pid", json!({}), &capabilities).await;
        assert_ne!(stateless::text(&answer), "none", "{answer}");
    }
    said(&session).await;
    let answer = call(&plain, "pid", json!({}), &json!({})).await;
    assert_ne!(stateless::text(&answer), "none", "{answer}");
    no_start_failed(pool).await;
}

#[tokio::test]
async fn clients_that_declare_other_things_have_one_process_after_the_other_where_one_is_written() {
    let pool = serve("max_workers_per_key = 1", "");
    all_kinds_are_served(&pool).await;
    let text = pool.log();
    assert!(!text.contains("declined"), "{text}");
}

#[tokio::test]
async fn a_server_that_does_not_start_beside_itself_is_found_out_and_nobody_hears_of_it() {
    let pool = serve("", "");
    all_kinds_are_served(&pool).await;
}

#[tokio::test]
async fn one_client_keeps_its_process_where_one_is_written() {
    let pool = serve("max_workers_per_key = 1", "");
    let client = pool.client("lock");
    let mut processes = std::collections::BTreeSet::new();
    for tool in ["pid", "wait", "pid", "wait"] {
        let answer = call(&client, tool, json!({"seconds": 0}), &json!({})).await;
        processes.insert(stateless::text(&answer).to_owned());
    }
    assert_eq!(processes.len(), 1, "{processes:?}");
}

#[tokio::test]
async fn a_client_that_declares_something_else_waits_for_what_is_under_way() {
    let pool = serve("max_workers_per_key = 1\nmax_in_flight = 2", "");
    let session = pool.client("lock").connect().await;
    let first = said(&session).await.0;
    let waiting = session.clone();
    let long = tokio::spawn(async move { waiting.call("wait", json!({"seconds": 3})).await });
    eventually("it is busy", async || {
        let workers = pool.workers().await;
        workers.iter().any(|worker| worker["in_flight"] == 1)
    })
    .await;
    // Both at once, so that each has to let the other by.
    let client = pool.client("lock");
    let (asked, plain) = (elicitation(), json!({}));
    let (asked, plain) = tokio::join!(
        call(&client, "pid", json!({}), &asked),
        call(&client, "pid", json!({}), &plain)
    );
    for answer in [asked, plain] {
        assert_ne!(stateless::text(&answer), "none", "{answer}");
        assert_ne!(stateless::text(&answer), format!("{first} "), "{answer}");
    }
    let long = long.await.expect("no panic");
    assert_eq!(long.text(), format!("{first} "));
    no_start_failed(&pool).await;
}
