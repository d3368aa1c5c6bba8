//! The way of single requests: one that failed is found by the id in its error, one that hangs while it does. And what
//! is logged, which changes while stdiopool runs.

use std::sync::Arc;

use serde_json::{Value, json};

use super::support::{Stdiopool, demo, eventually};

/// What `stdiopool trace` prints, and whether it went well.
fn trace(pool: &Stdiopool, args: &[&str]) -> Result<String, String> {
    run(pool, &[&["trace"], args].concat())
}

fn run(pool: &Stdiopool, args: &[&str]) -> Result<String, String> {
    #[allow(clippy::disallowed_methods, reason = "the program under test")]
    let output = pool.command(args).output().expect("runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr)),
    }
}

fn rows(pool: &Stdiopool, args: &[&str]) -> Vec<Value> {
    let told = trace(pool, &[args, &["--json"]].concat()).expect("told");
    serde_json::from_str(&told).expect("rows")
}

#[tokio::test]
async fn a_request_that_failed_is_found_by_its_id_with_where_its_time_went() {
    let pool = Stdiopool::serve(&demo("demo", "request_timeout = \"1s\"\n"));
    let client = pool.client_of("acme", "demo").connect().await;
    client.call("echo", json!({"message": "hello"})).await;
    let late = client.call("sleep", json!({"seconds": 30})).await;
    assert_eq!(late.reason(), "request_timeout");
    let id = late.response()["error"]["data"]["requestId"]
        .as_str()
        .expect("an id")
        .to_owned();

    let row = trace(&pool, &[&id, "--json"]).expect("it is known");
    let row: Value = serde_json::from_str(&row).expect("a row");
    assert_eq!(
        (&row["tenant"], &row["server"], &row["method"]),
        (&json!("acme"), &json!("demo"), &json!("tools/call"))
    );
    assert_eq!(
        (&row["outcome"], &row["reason"]),
        (&json!("failed"), &json!("request_timeout"))
    );
    let ms = |of: &str| row[of].as_f64().expect("a time");
    assert!(
        ms("total_ms") >= 1_000.0 && ms("before_ms") < ms("total_ms"),
        "{row}"
    );
    assert_eq!(row["worker_ms"], Value::Null, "nothing came: {row}");
    let shown = trace(&pool, &[&id]).expect("it is known");
    assert!(
        shown.contains("outcome  failed: request_timeout"),
        "{shown}"
    );

    // The first call waited for its worker's start.
    let all = rows(&pool, &["--tenant", "acme", "--server", "demo"]);
    let call = all.iter().rfind(|row| row["method"] == "tools/call");
    let call = call.expect("the call of echo");
    assert_eq!(call["outcome"], "ok", "{call}");
    assert_eq!(call["worker"], row["worker"]);
    let phases = ["before_ms", "waited_ms", "worker_ms", "after_ms"];
    let sum: f64 = phases
        .iter()
        .map(|of| call[of].as_f64().expect("a time"))
        .sum();
    let total = call["total_ms"].as_f64().expect("a time");
    assert!((sum - total).abs() < 0.1, "{call}");
    let failed = rows(&pool, &["--state", "failed"]);
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(rows(&pool, &["--tenant", "globex"]).is_empty());
}

#[tokio::test]
async fn a_request_that_hangs_is_shown_with_its_worker() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client_of("acme", "demo").connect().await;
    let client = Arc::new(client);
    let asking = Arc::clone(&client);
    let hangs = tokio::spawn(async move {
        asking.call("sleep", json!({"seconds": 600})).await;
    });
    eventually("the call is at its worker", async || {
        let open = rows(&pool, &["--state", "open"]);
        open.iter().any(|row| {
            (&row["method"], &row["outcome"]) == (&json!("tools/call"), &json!("open"))
                && row["worker"].is_string()
        })
    })
    .await;
    client.delete().await;
    eventually("its session has ended, and the call with it", async || {
        rows(&pool, &["--state", "open"]).is_empty()
    })
    .await;
    hangs.abort();
    let failed = rows(&pool, &["--state", "failed"]);
    assert_eq!(failed[0]["method"], "tools/call", "{failed:?}");
}

#[tokio::test]
async fn who_is_turned_away_is_found_too_and_what_is_no_id_is_said() {
    let pool = Stdiopool::serve_with("[auth]\nmode = \"token\"\n", &demo("demo", ""));
    let refused = pool.client("demo").ask("tools/list", json!({})).await;
    let id = refused.response()["error"]["data"]["requestId"]
        .as_str()
        .expect("an id")
        .to_owned();
    let shown = trace(&pool, &[&id]).expect("it is known");
    assert!(shown.contains("outcome  failed: unauthorized"), "{shown}");
    let said = trace(&pool, &["lost"]).expect_err("no id");
    assert!(said.contains("is not the id of a request"), "{said}");
    let other = format!(
        "{}-1",
        if id.starts_with("00000000") {
            "00000001"
        } else {
            "00000000"
        }
    );
    let said = trace(&pool, &[&other]).expect_err("another run");
    assert!(said.contains("another run of stdiopool"), "{said}");
    let said = trace(&pool, &[&format!("{id}ffffff")]).expect_err("none yet");
    assert!(said.contains("nothing is known any more"), "{said}");
}

#[tokio::test]
async fn more_is_logged_for_a_while_and_then_what_it_began_with() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let set = |args: &[&str]| run(&pool, &[&["log-level"], args].concat());
    assert_eq!(set(&[]).expect("told"), "info\n");
    let said = set(&["info,stdiopool=loud"]).expect_err("no such level");
    assert!(said.contains("is not a log filter"), "{said}");
    assert_eq!(
        set(&[]).expect("told"),
        "info\n",
        "a mistake changes nothing"
    );

    // Of more failures than are logged in a minute, those that follow are there with `debug` only.
    let client = pool.client_of("acme", "nothing");
    for _ in 0..40 {
        client.ask("ping", json!({})).await;
    }
    assert!(!pool.log().contains("DEBUG"), "{}", pool.log());
    let shown = set(&["debug", "--for", "1h"]).expect("set");
    assert!(
        shown.starts_with("debug until 2") && shown.ends_with(", then info again\n"),
        "{shown}"
    );
    client.ask("ping", json!({})).await;
    eventually("it is logged", async || pool.log().contains("DEBUG")).await;
    assert_eq!(set(&["--reset"]).expect("set"), "info\n");

    set(&["debug", "--for", "1s"]).expect("set");
    eventually("it is what it was", async || {
        set(&[]).expect("told") == "info\n"
    })
    .await;
}
