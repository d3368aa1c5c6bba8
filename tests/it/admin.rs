//! The admin listener and the commands that use it.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use http::StatusCode;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use serde_json::{Value, json};

use super::support::{Stdiopool, demo, eventually, faulty};

fn ran(pool: &Stdiopool, args: &[&str]) -> (bool, String, String) {
    let output = pool.command(args).output().expect("runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.success(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[tokio::test]
async fn metrics_come_in_both_formats_and_count_what_happened() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client("demo").connect().await;
    for _ in 0..3 {
        client.call("echo", json!({"message": "x"})).await.text();
    }
    client.call("nothing", json!({})).await;
    let fetch = |accept: &'static str| {
        let request = reqwest::Client::new().get(format!("{}/metrics", pool.admin));
        async move {
            let response = request
                .header(ACCEPT, accept)
                .send()
                .await
                .expect("answers");
            let media = response.headers()[CONTENT_TYPE]
                .to_str()
                .expect("ASCII")
                .to_owned();
            (media, response.text().await.expect("text"))
        }
    };
    let (media, text) = fetch("text/plain").await;
    assert!(media.starts_with("text/plain; version=0.0.4"), "{media}");
    assert!(!text.contains("# EOF"));
    let (media, text) = fetch("application/openmetrics-text; version=1.0.0").await;
    assert!(media.starts_with("application/openmetrics-text"), "{media}");
    assert!(text.ends_with("# EOF\n"));
    for (series, at_least) in [
        (
            "stdiopool_requests_total{method=\"tools/call\",outcome=\"ok\",server=\"demo\"}",
            3.0,
        ),
        (
            "stdiopool_requests_total{method=\"tools/call\",outcome=\"error\",server=\"demo\"}",
            1.0,
        ),
        (
            "stdiopool_worker_starts_total{outcome=\"ok\",server=\"demo\"}",
            1.0,
        ),
        ("stdiopool_sessions{era=\"legacy\",server=\"demo\"}", 1.0),
        ("stdiopool_workers{server=\"demo\",state=\"idle\"}", 1.0),
        ("stdiopool_worker_memory_bytes{server=\"demo\"}", 100_000.0),
        ("stdiopool_overhead_seconds_count", 4.0),
        // The one for which the worker was started.
        ("stdiopool_queue_wait_seconds_count", 1.0),
        (
            "stdiopool_request_seconds_count{method=\"tools/call\",server=\"demo\"}",
            4.0,
        ),
        ("process_resident_memory_bytes", 1_000_000.0),
    ] {
        // Memory is told once it is measured.
        eventually(series, async || pool.metric(series).await >= at_least).await;
    }
    let refused = pool.client("nowhere").call("echo", json!({})).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    assert!(
        pool.metric("stdiopool_rejections_total{reason=\"not_found\"}")
            .await
            >= 1.0
    );
}

#[tokio::test]
async fn the_api_shows_what_runs() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client_of("acme", "demo").connect().await;
    client.call("echo", json!({"message": "x"})).await.text();
    let status = pool.admin_json("status").await;
    assert_eq!(status["state"], "ready");
    assert_eq!(status["pid"], pool.pid());
    assert_eq!(
        (&status["workers"]["idle"], &status["sessions"]),
        (&json!(1), &json!(1))
    );
    let workers = pool.workers().await;
    assert_eq!(workers[0]["server"], "demo");
    assert_eq!(workers[0]["tenant"], "acme");
    // Nothing is shown before it was measured.
    eventually("its memory was measured", async || {
        let workers = pool.workers().await;
        workers[0]["memory_bytes"]
            .as_u64()
            .is_some_and(|bytes| bytes > 100_000)
    })
    .await;
    let sessions = pool.admin_json("sessions").await;
    assert_eq!(sessions[0]["worker"], workers[0]["id"]);
    let shown = sessions.to_string();
    let id = client.session.as_deref().expect("a session");
    assert!(
        !shown.contains(id),
        "the session id is a credential: {shown}"
    );
    assert_eq!(pool.admin_json("servers").await[0]["starts"]["ok"], 1);
    assert_eq!(pool.admin_json("tenants").await[0]["name"], "acme");
}

#[tokio::test]
async fn ps_logs_and_stop() {
    let toml = faulty("loud", &["--mode", "die-mid-call"], "") + &demo("demo", "");
    let pool = Stdiopool::serve(&toml);
    let (ok, table, said) = ran(&pool, &["ps"]);
    assert!(
        ok && table.is_empty() && said.contains("no workers"),
        "{table}{said}"
    );
    let client = pool.client("demo").connect().await;
    let (_, rows, _) = ran(&pool, &["ps", "--json"]);
    let rows: Value = serde_json::from_str(&rows).expect("JSON");
    assert_eq!(rows[0]["id"], "w1");
    assert_eq!(rows[0]["state"], "idle");
    let (ok, table, _) = ran(&pool, &["ps"]);
    assert!(
        ok && table.contains("w1") && table.contains("demo"),
        "{table}"
    );

    let (ok, _, why) = ran(&pool, &["logs", "w99"]);
    assert!(!ok && why.contains("w99"), "{why}");
    let (ok, _, why) = ran(&pool, &["stop", "w99"]);
    assert!(!ok && why.contains("w99"), "{why}");
    let (ok, _, _) = ran(&pool, &["stop", "w1"]);
    assert!(ok);
    assert_eq!(
        client.call("echo", json!({"message": "x"})).await.text(),
        "x"
    );
}

#[tokio::test]
async fn logs_are_followed_with_secrets_masked() {
    let script = "echo one hunter22 >&2; while read line; do echo got it >&2; echo \"$line\" | sed -n 's/.*\"id\":\\([0-9]*\\).*initialize.*/{\"jsonrpc\":\"2.0\",\"id\":\\1,\"result\":{\"protocolVersion\":\"2025-06-18\",\"capabilities\":{},\"serverInfo\":{\"name\":\"s\",\"version\":\"1\"}}}/p'; done";
    let toml = format!(
        "[servers.sh]\ncommand = \"sh\"\nargs = [\"-c\", {script:?}]\nenv = {{ KEY = \"${{secret.key}}\" }}\n[tenants.default]\nsecrets.key = {{ command = [\"echo\", \"hunter22\"] }}\n"
    );
    let pool = Stdiopool::serve(&toml);
    let client = pool.client("sh").connect().await;
    #[allow(clippy::disallowed_methods, reason = "the command under test")]
    let mut follower = pool
        .command(&["logs", "w1", "-f"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut lines = BufReader::new(follower.stdout.take().expect("piped")).lines();
    let mut next = || lines.next().expect("a line").expect("UTF-8");
    assert!(next().ends_with("one [redacted]"));
    // The handshake was two lines.
    assert!(next().ends_with("got it"));
    assert!(next().ends_with("got it"));
    client
        .tell("notifications/cancelled", json!({"requestId": 99}))
        .await;
    client
        .tell("notifications/roots/list_changed", json!({}))
        .await;
    follower.kill().expect("it runs");
    follower.wait().expect("ends");
}

#[tokio::test]
async fn call_lists_and_calls_through_the_front_door() {
    let hash = "sha256:0bb061feb53c484d7d6fd5ca6e26dbff4ee5dbcfb1ba3f6cfa1a3b0a3ba6c0d5";
    let tenants = format!("[tenants.acme]\ntokens = [\"{hash}\"]\n");
    let pool = Stdiopool::serve(&(demo("demo", "") + &tenants));
    let call = |args: &[&str]| {
        let mut all = vec!["call", "--url", &pool.url];
        all.extend(args);
        ran(&pool, &all)
    };
    let (ok, list, why) = call(&["demo"]);
    assert!(ok && list.contains("whoami"), "{list}{why}");
    let (ok, sum, _) = call(&["demo", "add", "{\"a\":1,\"b\":2}"]);
    assert!(ok && sum.trim() == "3", "{sum}");
    let (ok, _, why) = call(&["demo", "add", "{\"a\":"]);
    assert!(!ok && !why.is_empty());
    let (ok, _, why) = call(&["nowhere", "add"]);
    assert!(!ok && why.contains("nowhere"), "{why}");
}

#[tokio::test]
async fn an_admin_token_is_asked_for() {
    let dir = crate::support::open_folder().expect("a folder");
    let toml = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"let-me-in-please\"\n{}",
        demo("demo", "")
    );
    std::fs::write(dir.path().join("pool.toml"), toml).expect("written");
    let pool = Stdiopool::run(dir, &[], &[]);
    let http = reqwest::Client::new();
    for path in ["metrics", "api/v1/status", "api/v1/workers"] {
        let url = format!("{}/{path}", pool.admin);
        let bare = http.get(&url).send().await.expect("answers");
        assert_eq!(bare.status(), StatusCode::UNAUTHORIZED, "{path}");
        let wrong = http
            .get(&url)
            .header(AUTHORIZATION, "Bearer let-me-in")
            .send()
            .await;
        assert_eq!(
            wrong.expect("answers").status(),
            StatusCode::UNAUTHORIZED,
            "{path}"
        );
        let right = http
            .get(&url)
            .header(AUTHORIZATION, "Bearer let-me-in-please")
            .send()
            .await;
        assert_eq!(right.expect("answers").status(), StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn drain_and_reload_are_commands_too() {
    let mut pool = Stdiopool::serve(&demo("demo", ""));
    let (ok, said, _) = ran(&pool, &["reload"]);
    assert!(
        ok && said.contains("1 server (0 new, 0 removed), 0 tenants"),
        "{said}"
    );
    std::fs::write(
        pool.dir.path().join("pool.toml"),
        "[pool]\nmax_workers = 0\n",
    )
    .expect("written");
    let (ok, _, why) = ran(&pool, &["reload"]);
    assert!(!ok && why.contains("max_workers"), "{why}");
    pool.client("demo").connect().await;
    let (ok, _, why) = ran(&pool, &["drain"]);
    assert!(ok, "{why}");
    assert!(pool.wait().success());
}

#[test]
fn check_and_schema() {
    let dir = crate::support::open_folder().expect("a folder");
    let run = |args: &[&str]| {
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_stdiopool"));
        command.args(args).current_dir(dir.path()).assert()
    };
    let file = dir.path().join("pool.toml");
    let missing = run(&["check"]).code(1);
    assert!(String::from_utf8_lossy(&missing.get_output().stderr).contains("pool.toml"));
    std::fs::write(&file, "[pool]\nmax_workers = \"many\"\nx = 1\n").expect("written");
    let wrong = run(&["check"]).code(1);
    let said = String::from_utf8_lossy(&wrong.get_output().stderr).into_owned();
    for part in [
        "pool.toml:2:15:",
        "pool.toml:3:1:",
        "\"many\"",
        "3 mistakes",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    std::fs::write(
        &file,
        "[servers.a]\ncommand = \"sh\"\nargs = [\"${secret.k}\"]\n",
    )
    .expect("written");
    let right = run(&["check"]).code(0);
    assert!(String::from_utf8_lossy(&right.get_output().stderr).contains("secret.k"));
    let schema = run(&["schema"]).code(0);
    let schema: Value = serde_json::from_slice(&schema.get_output().stdout).expect("JSON");
    assert_eq!(schema["type"], "object");
    run(&["check", "--colour"]).code(2);
    run(&["serve", "--config", "nowhere.toml"]).code(1);
}
