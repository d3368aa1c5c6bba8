//! Servers that misbehave: a clear error to the right caller, nobody else affected, nothing left.

use http::StatusCode;
use serde_json::json;

use super::support::{Client, Stdiopool, demo, faulty, in_tree_of, until, until_gone};

/// stdiopool with that faulty server, called `bad`, and a good one.
fn serve(args: &[&str], more: &str) -> Stdiopool {
    Stdiopool::serve(&(faulty("bad", args, more) + &demo("good", "")))
}

/// The good server serves another tenant as if nothing were the matter.
async fn good_is_unharmed(pool: &Stdiopool) {
    let client = pool.client_of("bystander", "good").connect().await;
    assert_eq!(
        client.call("echo", json!({"message": "fine"})).await.text(),
        "fine"
    );
}

async fn echoes(client: &Client) {
    assert_eq!(
        client
            .call("echo", json!({"message": "still there"}))
            .await
            .text(),
        "still there"
    );
}

#[tokio::test]
async fn a_command_that_is_not_there() {
    let toml =
        "[servers.bad]\ncommand = \"no-such-command-anywhere\"\n".to_owned() + &demo("good", "");
    let pool = Stdiopool::serve(&toml);
    let refused = pool
        .client("bad")
        .try_initialize("2025-11-25", json!({}))
        .await;
    assert_eq!(
        (refused.status, refused.reason()),
        (StatusCode::OK, "start_failed")
    );
    assert!(
        refused.message().contains("no-such-command-anywhere"),
        "{}",
        refused.message()
    );
    good_is_unharmed(&pool).await;
}

#[tokio::test]
async fn a_server_that_exits_at_once_is_quoted_backed_off_and_refused() {
    let pool = serve(
        &["--mode", "exit-at-once", "--status", "7"],
        "env = { KEY = \"s3cr3t-value\" }",
    );
    let refused = pool
        .client("bad")
        .try_initialize("2025-11-25", json!({}))
        .await;
    assert_eq!(
        (refused.status, refused.reason()),
        (StatusCode::OK, "start_failed")
    );
    assert!(
        refused.message().contains("status 7"),
        "{}",
        refused.message()
    );
    assert!(
        refused.message().contains("stderr"),
        "{}",
        refused.message()
    );
    good_is_unharmed(&pool).await;
    let failed = pool
        .metric("stdiopool_worker_starts_total{outcome=\"exited\",server=\"bad\"}")
        .await;
    assert!(failed >= 1.0);
    until_gone(
        &in_tree_of(pool.pid())
            .into_iter()
            .filter(|p| {
                std::fs::read(format!("/proc/{}/cmdline", p.pid))
                    .is_ok_and(|c| c.starts_with(b"faulty"))
            })
            .collect::<Vec<_>>(),
    );
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_on() {
    let pool = serve(&["--mode", "never-answers"], "start_timeout = \"300ms\"");
    let refused = pool
        .client("bad")
        .try_initialize("2025-11-25", json!({}))
        .await;
    assert_eq!(
        (refused.status, refused.reason()),
        (StatusCode::OK, "start_failed")
    );
    assert!(
        refused.message().contains("start_timeout"),
        "{}",
        refused.message()
    );
    good_is_unharmed(&pool).await;
    until("its process is gone", || {
        let tree = in_tree_of(pool.pid());
        let is_bad = |pid: u32| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|c| c.windows(13).any(|w| w == b"never-answers"))
        };
        (!tree.iter().any(|process| is_bad(process.pid))).then_some(())
    });
}

#[tokio::test]
async fn a_server_that_refuses_to_initialize_is_quoted() {
    let pool = serve(&["--mode", "rejects-initialize"], "");
    let refused = pool
        .client("bad")
        .try_initialize("2025-11-25", json!({}))
        .await;
    assert_eq!(
        (refused.status, refused.reason()),
        (StatusCode::OK, "start_failed")
    );
    assert!(
        refused.message().contains("initialize"),
        "{}",
        refused.message()
    );
}

#[tokio::test]
async fn garbage_and_banners_on_stdout_are_skipped_and_counted() {
    for mode in ["garbage", "banner"] {
        let pool = serve(&["--mode", mode], "");
        let client = pool.client("bad").connect().await;
        echoes(&client).await;
        echoes(&client).await;
        let counted = pool
            .metric("stdiopool_worker_garbage_lines_total{server=\"bad\"}")
            .await;
        assert!(counted >= 1.0, "{mode}: {counted}");
    }
}

#[tokio::test]
async fn a_line_of_fifty_megabytes_fails_its_call_only() {
    for last in [None, Some("--id-last")] {
        let mut args = vec!["--mode", "huge-line"];
        args.extend(last);
        let pool = serve(&args, "");
        let client = pool.client("bad").connect().await;
        let before = peak_kib(pool.pid());
        let (huge, ()) = tokio::join!(
            client.call("huge", json!({"bytes": 50_000_000})),
            good_is_unharmed(&pool)
        );
        assert_eq!(
            (huge.status, huge.reason()),
            (StatusCode::OK, "answer_too_large")
        );
        assert!(huge.message().contains("max_message"), "{}", huge.message());
        echoes(&client).await;
        // A buffer of up to `max_message`, 32 MiB, and the half of it that it grew from; the line
        // itself, kept while it passes, would be another 50 MB and its own growth.
        let grown = peak_kib(pool.pid()) - before;
        assert!(grown < 80 << 10, "held {grown} KiB more at the peak");
    }
}

#[tokio::test]
async fn a_large_answer_within_the_bound_passes() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client("demo").connect().await;
    assert_eq!(
        client
            .call("big", json!({"bytes": 10_000_000}))
            .await
            .text()
            .len(),
        10_000_000
    );
}

#[tokio::test]
async fn a_server_that_dies_in_a_call_is_quoted_to_its_callers_and_started_anew() {
    let pool = serve(&["--mode", "die-mid-call"], "");
    let client = pool.client("bad").connect().await;
    let bystander = client.clone();
    let slow = tokio::spawn(async move { bystander.call("slow", json!({"seconds": 60})).await });
    while pool
        .workers()
        .await
        .first()
        .is_none_or(|worker| worker["in_flight"] != 1)
    {
        tokio::task::yield_now().await;
    }
    let died = client.call("die", json!({})).await;
    let slow = slow.await.expect("no panic");
    for answer in [&died, &slow] {
        assert_eq!(
            (answer.status, answer.reason()),
            (StatusCode::OK, "worker_exited")
        );
        assert!(
            answer.message().contains("status 3"),
            "{}",
            answer.message()
        );
    }
    echoes(&client).await;
    good_is_unharmed(&pool).await;
    assert!(
        pool.metric("stdiopool_worker_exits_total{reason=\"crashed\",server=\"bad\"}")
            .await
            >= 1.0
    );
}

#[tokio::test]
async fn a_list_whose_worker_dies_is_asked_for_once_more_and_not_twice() {
    let pool = serve(&["--mode", "dies-in-list"], "");
    let client = pool.client("bad").connect().await;
    let tools = client.ask("tools/list", json!({})).await;
    assert!(tools.result()["tools"].as_array().is_some(), "{tools:?}");
    let crashes = "stdiopool_worker_exits_total{reason=\"crashed\",server=\"bad\"}";
    assert!((pool.metric(crashes).await - 1.0).abs() < 0.1);

    let pool = serve(&["--mode", "dies-in-list", "--lives", "2"], "");
    let client = pool.client("bad").connect().await;
    let failed = client.ask("tools/list", json!({})).await;
    assert_eq!(
        (failed.status, failed.reason()),
        (StatusCode::OK, "worker_exited")
    );
}

#[tokio::test]
async fn a_read_only_tool_whose_worker_dies_is_called_once_more_and_others_are_not() {
    let pool = serve(&[], "");
    let client = pool.client("bad").connect().await;
    client.ask("tools/list", json!({})).await;
    assert_eq!(client.call("read", json!({})).await.text(), "done");
    let crashes = "stdiopool_worker_exits_total{reason=\"crashed\",server=\"bad\"}";
    assert!((pool.metric(crashes).await - 1.0).abs() < 0.1);

    let pool = serve(&[], "");
    let client = pool.client("bad").connect().await;
    client.ask("tools/list", json!({})).await;
    let failed = client.call("write", json!({})).await;
    assert_eq!(
        (failed.status, failed.reason()),
        (StatusCode::OK, "worker_exited")
    );
    assert_eq!(client.call("write", json!({})).await.text(), "done");
}

#[tokio::test]
async fn floods_hurt_only_their_own_server() {
    for mode in ["stderr-flood", "stdout-flood"] {
        let pool = serve(&["--mode", mode], "");
        let client = pool.client("bad").connect().await;
        echoes(&client).await;
        good_is_unharmed(&pool).await;
    }
}

#[tokio::test]
async fn a_server_that_stops_reading_fails_its_own_calls() {
    let pool = serve(&["--mode", "deaf"], "request_timeout = \"1s\"");
    let client = pool.client("bad").connect().await;
    let timed_out = client
        .call("echo", json!({"message": "x".repeat(500_000)}))
        .await;
    assert_eq!(
        (timed_out.status, timed_out.reason()),
        (StatusCode::OK, "request_timeout")
    );
    let answers = futures_util::future::join_all(
        (0..24).map(|_| client.call("echo", json!({"message": "x".repeat(900_000)}))),
    );
    for answer in answers.await {
        assert!(
            ["request_timeout", "busy"].contains(&answer.reason()),
            "{}",
            answer.message()
        );
    }
    good_is_unharmed(&pool).await;
}

#[tokio::test]
async fn answers_to_nothing_and_second_answers_reach_no_one() {
    for (mode, kind) in [("unknown-id", "unknown_id"), ("twice", "duplicate_answer")] {
        let pool = serve(&["--mode", mode], "");
        let client = pool.client("bad").connect().await;
        echoes(&client).await;
        echoes(&client).await;
        let series = format!("stdiopool_worker_anomalies_total{{kind=\"{kind}\",server=\"bad\"}}");
        assert!(pool.metric(&series).await >= 1.0, "{series}");
    }
}

#[tokio::test]
async fn a_server_that_ignores_cancellation_gives_its_slot_back() {
    let pool = serve(
        &["--mode", "ignores-cancel"],
        "max_in_flight = 1\nrequest_timeout = \"300ms\"",
    );
    let client = pool.client("bad").connect().await;
    let timed_out = client.call("slow", json!({"seconds": 100})).await;
    assert_eq!(
        (timed_out.status, timed_out.reason()),
        (StatusCode::OK, "request_timeout")
    );
    good_is_unharmed(&pool).await;
    until("the slot is free", || {
        pool.command(&["ps", "--json"])
            .output()
            .ok()
            .and_then(|out| {
                let rows: serde_json::Value = serde_json::from_slice(&out.stdout).ok()?;
                let bad = rows.as_array()?.iter().find(|row| row["server"] == "bad")?;
                (bad["in_flight"] == 0).then_some(())
            })
    });
}

#[tokio::test]
async fn a_server_that_crashes_after_every_start_is_not_started_in_a_loop() {
    let pool = serve(&["--mode", "crash-loop"], "");
    let client = pool.client("bad");
    let mut reasons = vec![];
    for _ in 0..4 {
        let answer = client.try_initialize("2025-11-25", json!({})).await;
        reasons.push(answer.reason().to_owned());
    }
    let started: f64 = pool
        .metric("stdiopool_worker_starts_total{outcome=\"ok\",server=\"bad\"}")
        .await
        + pool
            .metric("stdiopool_worker_starts_total{outcome=\"exited\",server=\"bad\"}")
            .await;
    assert!(
        started <= 8.0,
        "{started} starts for four requests: {reasons:?}"
    );
    good_is_unharmed(&pool).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_no_one() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let slow = pool.client("demo").connect().await;
    let other = pool.client("demo").connect().await;
    // Streams that are opened and then not read: the session's own, and that of a call.
    let _deaf = slow.request(http::Method::GET).send().await.expect("opens");
    let call = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": "sleep", "arguments": { "seconds": 1, "steps": 2000 }, "_meta": { "progressToken": "x".repeat(1000) } },
    });
    let _deaf_call = slow.send_raw(call.to_string()).await;
    for _ in 0..2_000 {
        // Each goes to both sessions.
        other.call("notify", json!({"kind": "tools"})).await.text();
    }
    assert_eq!(
        other.call("echo", json!({"message": "fine"})).await.text(),
        "fine"
    );
    // A list that has changed is told once while it waits; what a full queue drops is tested beside the bounds.
    let held = pool.metric("stdiopool_held_bytes{kind=\"message\"}").await;
    assert!(held < f64::from(2 << 20), "one of a kind waits: {held}");
    let kib = peak_kib(pool.pid());
    assert!(kib < 120_000, "and not kept: {kib} KiB");
}

/// The most that was ever resident: `VmHWM` of proc(5).
fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("alive");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("a peak");
    peak.trim()
        .trim_end_matches("kB")
        .trim()
        .parse()
        .expect("a number")
}
