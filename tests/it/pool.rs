//! The pool's limits, seen from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};

use super::support::{Stdiopool, demo, in_tree_of, until};

/// Demo servers among the descendants of stdiopool, by what they run as.
fn demo_servers(root: u32) -> usize {
    in_tree_of(root)
        .iter()
        .filter(|process| {
            let cmdline =
                std::fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
            cmdline.split(|b| *b == 0).any(|arg| arg == b"demo-server")
        })
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_tenants_are_served_by_four_processes() {
    let toml = "[pool]\nmax_workers = 4\n".to_owned() + &demo("demo", "");
    let pool = Stdiopool::serve(&toml);
    let root = pool.pid();
    let (done, most) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let watcher = std::thread::spawn({
        let (done, most) = (Arc::clone(&done), Arc::clone(&most));
        move || {
            let mut looks = 0_u64;
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(demo_servers(root), Ordering::Relaxed);
                looks += 1;
            }
            looks
        }
    });
    let tenants = (0..20).map(|n| {
        let pool = &pool;
        async move {
            let client = pool
                .client_of(&format!("tenant{n}"), "demo")
                .connect()
                .await;
            for round in 0..5 {
                let message = format!("{n}/{round}");
                assert_eq!(
                    client
                        .call("echo", json!({"message": message}))
                        .await
                        .text(),
                    message
                );
            }
        }
    });
    join_all(tenants).await;
    done.store(true, Ordering::Relaxed);
    assert!(
        watcher.join().expect("no panic") > 10,
        "it looked often enough"
    );
    let most = most.load(Ordering::Relaxed);
    assert!((1..=4).contains(&most), "{most} processes at one time");
    assert!(pool.workers().await.len() <= 4);
    assert!(
        pool.metric("stdiopool_evictions_total{reason=\"max_workers\"}")
            .await
            >= 16.0
    );
}

#[tokio::test]
async fn an_idle_worker_is_stopped_and_the_next_call_starts_another() {
    let pool =
        Stdiopool::serve(&("[pool]\nidle_timeout = \"200ms\"\n".to_owned() + &demo("demo", "")));
    let client = pool.client("demo").connect().await;
    until("the idle worker is gone", || {
        (demo_servers(pool.pid()) == 0).then_some(())
    });
    assert_eq!(
        client
            .call("echo", json!({"message": "again"}))
            .await
            .text(),
        "again"
    );
    assert!(
        pool.metric("stdiopool_worker_exits_total{reason=\"idle\",server=\"demo\"}")
            .await
            >= 1.0
    );
}

#[tokio::test]
async fn a_worker_is_recycled_after_its_requests() {
    let pool = Stdiopool::serve(&demo("demo", "max_requests = 3"));
    let client = pool.client("demo").connect().await;
    let mut counters = vec![];
    for _ in 0..6 {
        let text = client.call("counter", json!({})).await.text().to_owned();
        counters.push(
            text.chars()
                .filter(char::is_ascii_digit)
                .collect::<String>(),
        );
    }
    assert_eq!(
        counters,
        ["1", "2", "1", "2", "3", "1"],
        "the first of the first three was `initialize`"
    );
}

#[tokio::test]
async fn a_full_queue_and_a_missed_deadline_are_told() {
    let toml = "[pool]\nmax_workers = 1\nqueue_limit = 1\nqueue_timeout = \"300ms\"\n".to_owned()
        + &demo("demo", "max_in_flight = 1");
    let pool = Stdiopool::serve(&toml);
    let client = pool.client("demo").connect().await;
    let busy = client.clone();
    let call = tokio::spawn(async move { busy.call("sleep", json!({"seconds": 30})).await });
    while pool
        .workers()
        .await
        .first()
        .is_none_or(|worker| worker["in_flight"] != 1)
    {
        tokio::task::yield_now().await;
    }
    let answers = join_all((0..3).map(|_| client.call("echo", json!({"message": ""})))).await;
    for answer in &answers {
        let reason = match answer.message().contains("queue full") {
            true => "pool_exhausted",
            false => "busy",
        };
        assert_eq!((answer.status, answer.reason()), (StatusCode::OK, reason));
        assert!(answer.headers.contains_key("retry-after"));
        assert!(answer.response()["error"]["data"]["retryAfterMs"].is_u64());
    }
    let of_kind = |text: &str| {
        answers
            .iter()
            .filter(|a| a.message().contains(text))
            .count()
    };
    assert_eq!(
        (of_kind("queue full"), of_kind("was busy for")),
        (2, 1),
        "{answers:?}"
    );
    call.abort();
}

#[tokio::test]
async fn a_tenants_own_limit_is_its_own_problem() {
    let toml = "[pool]\nmax_workers_per_tenant = 1\nqueue_timeout = \"300ms\"\n".to_owned()
        + &demo("one", "")
        + &demo("two", "");
    let pool = Stdiopool::serve(&toml);
    let (anna, elsewhere) = (
        pool.client_of("anna", "one").connect().await,
        pool.client_of("bob", "two"),
    );
    let busy = anna.clone();
    let call = tokio::spawn(async move { busy.call("sleep", json!({"seconds": 30})).await });
    while pool
        .workers()
        .await
        .first()
        .is_none_or(|worker| worker["in_flight"] != 1)
    {
        tokio::task::yield_now().await;
    }
    let refused = pool
        .client_of("anna", "two")
        .try_initialize("2025-11-25", json!({}))
        .await;
    assert_eq!(
        (refused.status, refused.reason()),
        (StatusCode::OK, "tenant_limit")
    );
    assert!(
        refused.message().contains("max_workers_per_tenant"),
        "{}",
        refused.message()
    );
    elsewhere.connect().await;
    call.abort();
}

#[tokio::test]
async fn reload_puts_a_new_config_in_force() {
    let toml = |greeting: &str| {
        demo("demo", "").replace(
            "[\"demo-server\"]",
            &format!("[\"demo-server\", \"{greeting}\"]"),
        )
    };
    let pool = Stdiopool::serve(&toml("before"));
    let client = pool.client("demo").connect().await;
    let arguments = async || -> Value {
        let me: Value =
            serde_json::from_str(client.call("whoami", json!({})).await.text()).expect("JSON");
        me["arguments"].clone()
    };
    assert_eq!(arguments().await, json!(["before"]));
    // A file with mistakes changes nothing.
    let auth = "[auth]\nmode = \"none\"\n";
    Stdiopool::write_config(
        pool.dir.path(),
        auth,
        &toml("broken").replace("command", "comand"),
    );
    let failed = pool.command(&["reload"]).output().expect("runs");
    assert!(!failed.status.success());
    assert!(
        String::from_utf8_lossy(&failed.stderr).contains("comand"),
        "{failed:?}"
    );
    assert_eq!(arguments().await, json!(["before"]));
    Stdiopool::write_config(pool.dir.path(), auth, &(toml("after") + &demo("more", "")));
    pool.signal(nix::sys::signal::Signal::SIGHUP);
    until("it says so", || {
        pool.log().contains("reloaded:").then_some(())
    });
    assert_eq!(
        arguments().await,
        json!(["after"]),
        "the same session, another worker"
    );
    pool.client("more").connect().await;
    // A server that is gone takes its sessions with it.
    Stdiopool::write_config(pool.dir.path(), auth, &demo("more", ""));
    assert!(pool.command(&["reload"]).status().expect("runs").success());
    assert_eq!(
        client.ask("tools/list", json!({})).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn one_tenants_sessions_do_not_take_the_others_places() {
    let toml = "[pool]\nmax_sessions_per_tenant = 2\n".to_owned() + &demo("demo", "");
    let pool = Stdiopool::serve(&toml);
    let first = pool.client_of("anna", "demo").connect().await;
    let _second = pool.client_of("anna", "demo").connect().await;
    let refused = pool
        .client_of("anna", "demo")
        .try_initialize("2025-11-25", json!({}))
        .await;
    assert_eq!(
        (refused.status, refused.reason()),
        (StatusCode::OK, "tenant_limit")
    );
    let _other = pool.client_of("bob", "demo").connect().await;
    assert_eq!(first.delete().await, StatusCode::NO_CONTENT);
    let _third = pool.client_of("anna", "demo").connect().await;

    // Those that a restart left behind count as well.
    let pool = pool.restarted_after(nix::sys::signal::Signal::SIGKILL);
    let refused = pool
        .client_of("anna", "demo")
        .try_initialize("2025-11-25", json!({}))
        .await;
    assert_eq!(refused.reason(), "tenant_limit");
}
