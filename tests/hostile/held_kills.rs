//! Many tenants, whose workers are killed at any moment: each call has its own tenant's answer or a reason, and
//! when the kills are over all are served, and nothing is left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::stateless::{call, text};
use crate::support::{
    Client, PATIENCE, Stdiopool, demo, eventually, eventually_within, in_tree_of,
};

/// Why a call may fail while workers are killed.
const REASONS: &[&str] = &[
    "worker_exited",
    "start_failed",
    "circuit_open",
    "starting",
    "busy",
    "pool_exhausted",
    "tenant_limit",
];

/// Between two kills.
const PAUSE: Duration = Duration::from_millis(60);

/// What calls came to.
#[derive(Default, Debug)]
struct Counts {
    answered: AtomicUsize,
    failed: AtomicUsize,
    /// Why, how often.
    reasons: Mutex<BTreeMap<String, usize>>,
    kills: AtomicUsize,
}

fn serve(workers: usize) -> Stdiopool {
    let toml = format!(
        "{}[pool]\nmax_workers = {workers}\nmax_starting = 4\nqueue_timeout = \"20s\"\nidle_timeout = \"1s\"\nhibernate_after = \"never\"\n",
        demo("good", "env = { WHOSE = \"${tenant.id}\" }")
    );
    Stdiopool::serve(&toml)
}

/// Whose process it is that answers, from what it was started with.
fn whose(answer: &str) -> String {
    let shown: Value = serde_json::from_str(answer).expect("JSON");
    let whose = shown["environment"]["WHOSE"].as_str();
    whose.expect("set").to_owned()
}

/// The reason of a failed call, which must be one that kills explain.
fn reason(error: &Value) -> &str {
    let reason = error["data"]["reason"].as_str().unwrap_or("none");
    assert!(REASONS.contains(&reason), "{error}");
    reason
}

/// The text of a tool's result for that tenant, or why there is none.
async fn ask(
    client: &Client,
    is_modern: bool,
    tool: &str,
    arguments: Value,
) -> Result<String, String> {
    if is_modern {
        let told = call(client, tool, arguments, &json!({})).await;
        return match told.get("error") {
            Some(error) => Err(reason(error).to_owned()),
            None => Ok(text(&told).to_owned()),
        };
    }
    let told = client.call(tool, arguments).await;
    match told.response().get("error") {
        Some(error) => Err(reason(error).to_owned()),
        None => Ok(told.text().to_owned()),
    }
}

/// Calls as one tenant until the end; each answer is checked for being its own.
async fn tenant(pool: Arc<Stdiopool>, n: usize, counts: Arc<Counts>, end: Arc<AtomicBool>) {
    let name = format!("tenant-{n}");
    let is_modern = n % 2 == 1;
    let mut client = pool.client_of(&name, "good");
    let mut count = 0;
    while !end.load(Ordering::Relaxed) {
        if !is_modern && client.session.is_none() {
            let begun = client.try_initialize("2025-11-25", json!({})).await;
            if begun.status != StatusCode::OK || begun.response().get("error").is_some() {
                reason(&begun.response()["error"]);
                counts.failed.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            let session = begun.headers["mcp-session-id"].to_str().expect("ASCII");
            client.session = Some(session.to_owned());
            client.version = Some("2025-11-25".to_owned());
        }
        count += 1;
        let said = format!("{name} says {count}");
        let outcome = if count % 2 == 0 {
            let told = ask(&client, is_modern, "whoami", json!({})).await;
            told.map(|told| assert_eq!(whose(&told), name))
        } else {
            let told = ask(&client, is_modern, "echo", json!({ "message": said })).await;
            told.map(|told| assert_eq!(told, said))
        };
        match outcome {
            Ok(()) => counts.answered.fetch_add(1, Ordering::Relaxed),
            Err(reason) => {
                *counts.reasons.lock().entry(reason).or_default() += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
                counts.failed.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

/// Kills one worker after the other, whichever comes by, until the end.
async fn killer(pool: Arc<Stdiopool>, counts: Arc<Counts>, end: Arc<AtomicBool>) {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    while !end.load(Ordering::Relaxed) {
        // Not those that start: a server that fails to start for tenant after tenant is closed for a while.
        let mut workers = pool.workers().await;
        workers.retain(|worker| worker["state"] != "starting");
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let at = usize::try_from(random >> 33).expect("few") % workers.len().max(1);
        let pid = workers.get(at).and_then(|worker| worker["pid"].as_i64());
        if let Some(pid) = pid {
            let pid = Pid::from_raw(i32::try_from(pid).expect("a pid"));
            // One that has ended by itself meanwhile was not killed.
            if kill(pid, Signal::SIGKILL).is_ok() {
                counts.kills.fetch_add(1, Ordering::Relaxed);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn descriptors(pool: &Stdiopool) -> usize {
    let folder = format!("/proc/{}/fd", pool.pid());
    std::fs::read_dir(folder).expect("it lives").count()
}

/// Goes on until there were two answers for each tenant, and a worker killed for every second one.
async fn are_served_under_kills(tenants: usize, workers: usize) {
    let pool = Arc::new(serve(workers));
    let first = pool.client_of("first", "good").connect().await;
    first.call("counter", json!({})).await.text();
    drop(first);
    let no_worker = async || pool.workers().await.is_empty();
    eventually("the first worker has gone", no_worker).await;
    let before = (in_tree_of(pool.pid()).len(), descriptors(&pool));
    let (counts, end) = (Arc::<Counts>::default(), Arc::<AtomicBool>::default());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..tenants {
        tasks.spawn(tenant(
            Arc::clone(&pool),
            n,
            Arc::clone(&counts),
            Arc::clone(&end),
        ));
    }
    let (counted, over) = (Arc::clone(&counts), Arc::clone(&end));
    tasks.spawn(killer(Arc::clone(&pool), counted, over));
    let is_enough = async || {
        let answered = counts.answered.load(Ordering::Relaxed);
        let kills = counts.kills.load(Ordering::Relaxed);
        answered >= 2 * tenants && kills >= tenants / 2
    };
    let began = Instant::now();
    // Of a debug build beside other work, a second for each.
    let patience = PATIENCE.max(Duration::from_secs(tenants as u64));
    eventually_within(patience, "there were answers and kills enough", is_enough).await;
    end.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("every answer was its own tenant's");
    }
    eprintln!("{counts:?} in {:?}", began.elapsed());
    // Everyone is served again, and by its own.
    let began = Instant::now();
    let again = (0..tenants).map(async |n| {
        let name = format!("tenant-{n}");
        let client = pool.client_of(&name, "good");
        let is_served = async || {
            let told = ask(&client, true, "whoami", json!({})).await;
            told.is_ok_and(|told| {
                assert_eq!(whose(&told), name);
                true
            })
        };
        eventually_within(patience, "it is served", is_served).await;
    });
    futures_util::future::join_all(again).await;
    eprintln!("all {tenants} served again in {:?}", began.elapsed());
    eventually("no worker is left", no_worker).await;
    eventually("no process and no descriptor is left", async || {
        let now = (in_tree_of(pool.pid()).len(), descriptors(&pool));
        now.0 <= before.0 && now.1 <= before.1 + 8
    })
    .await;
    for kind in ["body", "message", "answer", "stdin"] {
        let series = format!("stdiopool_held_bytes{{kind=\"{kind}\"}}");
        eventually("nothing is held of what is over", async || {
            pool.metric(&series).await == 0.0
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_tenants_have_their_own_answers_while_workers_are_killed() {
    are_served_under_kills(50, 12).await;
}

/// As many as one host serves; takes minutes.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; run it with `cargo test --release --test hostile -- --ignored five_hundred`"]
async fn five_hundred_tenants_have_their_own_answers_while_workers_are_killed() {
    are_served_under_kills(500, 60).await;
}
