//! What tenants, users and servers have used: it agrees with the metrics, survives a kill, and has an end where there is a quota.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::support::{Client, Stdiopool, demo, eventually, stateless};

fn run(pool: &Stdiopool, args: &[&str]) -> String {
    #[allow(clippy::disallowed_methods, reason = "the program under test")]
    let output = pool.command(args).output().expect("runs");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {err}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The rows of what was used, as the API tells them.
async fn rows(pool: &Stdiopool, query: &str) -> Vec<Value> {
    let told = pool.admin_json(&format!("usage?{query}")).await;
    assert_eq!(told["is_whole"], true, "{told}");
    told["rows"].as_array().expect("rows").clone()
}

fn sum(rows: &[Value], of: &str) -> f64 {
    let numbers = rows.iter().map(|row| row[of].as_f64().expect("a number"));
    numbers.sum()
}

/// Waits until all that was used until now survives a kill.
async fn saved(pool: &Stdiopool) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("after 1970").as_millis();
    eventually("what was used is written down", async || {
        let told = pool.admin_json("usage").await;
        told["saved_at_ms"]
            .as_u64()
            .is_some_and(|at| u128::from(at) > now)
    })
    .await;
}

/// The sum of the series of a counter with these labels.
fn counted(metrics: &str, name: &str, labels: &[&str]) -> f64 {
    let series = metrics.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| {
            rest.starts_with(['{', ' ']) && labels.iter().all(|it| rest.contains(it))
        })
    });
    let values = series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

fn token(subject: &str) -> String {
    use sha2::{Digest, Sha256};
    let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(format!("token-of-{subject}")));
    format!("{{ hash = \"sha256:{hash}\", subject = \"{subject}\" }}")
}

/// A pool with two tenants, one of which has two users.
fn pool_of_users() -> Stdiopool {
    let tenants = format!(
        "[tenants.acme]\ntokens = [{}, {}]\n[tenants.globex]\ntokens = [{}]\n",
        token("ada"),
        token("bob"),
        token("cy"),
    );
    let toml = demo("demo", "") + &demo("other", "") + &tenants;
    Stdiopool::serve_with("[auth]\nmode = \"token\"\n", &toml)
}

async fn client(pool: &Stdiopool, user: &str, server: &str) -> Client {
    let client = pool.client(server).with_token(&format!("token-of-{user}"));
    client.connect().await
}

async fn echo(client: &Client, times: usize) {
    for _ in 0..times {
        let answer = client.call("echo", json!({"message": "hello"})).await;
        assert_eq!(answer.text(), "hello");
    }
}

#[tokio::test]
async fn what_is_used_agrees_with_the_metrics_and_survives_a_kill() {
    let pool = pool_of_users();
    let (ada, bob) = (
        client(&pool, "ada", "demo").await,
        client(&pool, "bob", "demo").await,
    );
    let cy = client(&pool, "cy", "other").await;
    echo(&ada, 5).await;
    echo(&bob, 2).await;
    echo(&cy, 1).await;
    // An error of the server, and what tells only what there is.
    let wrong = ada.call("no such tool", json!({})).await;
    assert!(wrong.response().get("error").is_some(), "{wrong:?}");
    bob.ask("tools/list", json!({})).await.result();
    bob.ask("ping", json!({})).await.result();

    let metrics = pool.metrics().await;
    let used = rows(&pool, "per=all").await;
    for server in ["demo", "other"] {
        let own: Vec<_> = used
            .iter()
            .filter(|row| row["server"] == server)
            .cloned()
            .collect();
        let label = format!("server=\"{server}\"");
        let requests = counted(&metrics, "stdiopool_requests_total", &[&label]);
        assert!(requests > 0.0);
        assert_eq!(sum(&own, "requests"), requests, "{own:?}");
        let starts = [label.as_str(), "outcome=\"ok\""];
        let starts = counted(&metrics, "stdiopool_worker_starts_total", &starts);
        assert_eq!(sum(&own, "starts"), starts, "{own:?}");
    }
    let failed = counted(&metrics, "stdiopool_requests_total", &["outcome=\"error\""])
        + counted(
            &metrics,
            "stdiopool_requests_total",
            &["outcome=\"failed\""],
        );
    assert_eq!(sum(&used, "errors"), failed);
    let waited = counted(&metrics, "stdiopool_queue_wait_seconds_sum", &[]);
    assert!(waited > 0.0, "a start is waited for");
    let difference = (sum(&used, "queue_seconds") - waited).abs();
    assert!(
        difference < waited / 100.0 + 0.001,
        "{difference} of {waited}"
    );
    let of_user = |rows: &[Value], user: &str| {
        let row = rows.iter().find(|row| row["user"] == user);
        row.unwrap_or_else(|| panic!("a row of {user}: {rows:?}"))
            .clone()
    };
    let of_ada = of_user(&used, "ada");
    let (calls, errors) = (of_ada["calls"].as_u64(), of_ada["errors"].as_u64());
    assert_eq!((calls, errors), (Some(6), Some(1)), "{of_ada}");
    assert!(of_ada["bytes_in"].as_u64() > Some(300), "{of_ada}");
    assert!(of_ada["bytes_out"].as_u64() > Some(300), "{of_ada}");
    let of_bob = of_user(&used, "bob");
    assert_eq!(of_bob["calls"], 2, "{of_bob}");
    assert!(of_bob["requests"].as_u64() >= Some(5), "{of_bob}");

    // Memory is counted second by second, awake.
    eventually("memory is counted", async || {
        let used = rows(&pool, "per=all&tenant=globex").await;
        sum(&used, "awake_mib_hours") > 0.0 && used.iter().all(|row| row["tenant"] == "globex")
    })
    .await;

    saved(&pool).await;
    let before = rows(&pool, "per=all").await;
    let pool = pool.restarted_after(Signal::SIGKILL);
    let after = rows(&pool, "per=all").await;
    for of in [
        "requests",
        "calls",
        "errors",
        "bytes_in",
        "bytes_out",
        "starts",
    ] {
        assert_eq!(sum(&after, of), sum(&before, of), "{of}");
    }
    let waited = |rows: &[Value]| (sum(rows, "queue_seconds") * 1e6).round();
    assert_eq!(waited(&after), waited(&before));
    assert!(sum(&after, "awake_mib_hours") > 0.0);
    assert_eq!(of_user(&after, "ada")["calls"], 6);

    // It goes on in the same rows, also after one that ends well at once.
    let ada = client(&pool, "ada", "demo").await;
    echo(&ada, 1).await;
    let pool = pool.restarted_after(Signal::SIGTERM);
    let later = rows(&pool, "per=all&user=ada").await;
    assert_eq!((later.len(), &later[0]["calls"]), (1, &json!(7)));

    // In the terminal, as a table and for programs.
    let table = run(&pool, &["usage", "--tenant", "acme"]);
    let header = table.lines().next().expect("a header");
    assert!(
        header.starts_with("FROM") && header.contains("ASLEEP-MIBH"),
        "{table}"
    );
    assert!(
        table.contains("ada") && table.contains("bob") && !table.contains("globex"),
        "{table}"
    );
    let csv = run(&pool, &["usage", "--per", "hour", "--csv"]);
    let users: Vec<_> = csv
        .lines()
        .filter(|line| line.contains(",acme,ada,demo,"))
        .collect();
    assert!(!users.is_empty(), "{csv}");
    assert!(!csv.contains('\\'), "characters of control: {csv}");
    let told: Value = serde_json::from_str(&run(
        &pool,
        &["usage", "--json", "--since", "1h", "--user", "ada"],
    ))
    .expect("JSON");
    assert_eq!(told[0]["calls"], 7);
    let none = run(&pool, &["usage", "--since", "2999-01-01T00:00:00Z"]);
    assert_eq!(none, "");
}

#[tokio::test]
async fn processor_time_is_counted_to_the_end_of_a_worker() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/burning.py");
    let server = |name: &str, more: &str| {
        format!("[servers.{name}]\ncommand = \"python3\"\nargs = [\"{script}\"]\n{more}\n")
    };
    // One process for all, and one for each request, which is gone before anybody looks at it twice.
    let toml = server("shared", "") + &server("single", "share = \"request\"");
    let pool = Stdiopool::serve(&toml);
    let cpu = async |query: &str| sum(&rows(&pool, query).await, "cpu_seconds");
    let shared = pool.client_of("acme", "shared").connect().await;
    for child in [false, true] {
        let burn = json!({"milliseconds": 600, "child": child});
        assert_eq!(shared.call("burn", burn).await.text(), "done");
    }
    eventually(
        "the processor time of a worker that lives is counted",
        async || cpu("per=all&tenant=acme").await >= 1.1,
    )
    .await;
    let single = pool.client_of("globex", "single").connect().await;
    let burn = json!({"milliseconds": 700});
    assert_eq!(single.call("burn", burn).await.text(), "done");
    eventually(
        "the processor time of a worker that is gone is counted",
        async || cpu("per=all&tenant=globex").await >= 0.65,
    )
    .await;
    // Once, and not by each who looks.
    let (acme, globex) = (
        cpu("per=all&tenant=acme").await,
        cpu("per=all&tenant=globex").await,
    );
    assert!(acme < 2.5 && globex < 2.5, "{acme} and {globex}");
}

/// A pool.toml whose tenants have these quotas.
fn with_quotas(quotas: &str) -> String {
    format!(
        "{}[limits]\ntenant = {{ monthly_calls = 1000 }}\n[tenants.acme.limits]\n{quotas}\n[tenants.other]\n",
        demo("demo", "")
    )
}

/// Seconds until the month of UTC is over, by the calendar of the refusal.
fn until_anew(refused: &Value) -> u64 {
    let anew = refused["error"]["data"]["beginsAnew"]
        .as_str()
        .expect("a time");
    assert!(anew.ends_with("-01T00:00:00Z"), "{anew}");
    let anew = humantime::parse_rfc3339(anew).expect("a time");
    let wait = anew.duration_since(SystemTime::now());
    wait.expect("it is yet to come").as_secs()
}

#[tokio::test]
async fn a_quota_refuses_says_when_it_begins_anew_and_is_raised_by_a_reload() {
    let pool = Stdiopool::serve(&with_quotas("monthly_calls = 3"));
    let acme = pool.client_of("acme", "demo").connect().await;
    echo(&acme, 3).await;
    let refused = acme.call("echo", json!({"message": "x"})).await;
    assert_eq!(
        (refused.status, refused.reason()),
        (StatusCode::OK, "quota_exhausted")
    );
    assert!(
        refused.message().contains("3 calls") && refused.message().contains("`monthly_calls`"),
        "{refused:?}"
    );
    assert_eq!(
        refused.response()["error"]["data"]["limit"],
        "monthly_calls"
    );
    let (anew, told) = (
        until_anew(refused.response()),
        &refused.headers["retry-after"],
    );
    let told: u64 = told.to_str().expect("text").parse().expect("seconds");
    assert!(told.abs_diff(anew) <= 5, "{told} and {anew}");
    assert!(Duration::from_secs(told) <= Duration::from_secs(31 * 86_400));
    // Whatever it asks for; what needs no answer, and other tenants, go on.
    assert_eq!(
        acme.ask("tools/list", json!({})).await.reason(),
        "quota_exhausted"
    );
    assert_eq!(
        acme.tell("notifications/initialized", json!({})).await,
        StatusCode::ACCEPTED
    );
    let other = pool.client_of("other", "demo").connect().await;
    echo(&other, 4).await;
    assert!(
        pool.metric("stdiopool_rejections_total{reason=\"quota_exhausted\"}")
            .await
            >= 2.0
    );
    let of_acme = rows(&pool, "per=month&tenant=acme").await;
    assert_eq!(
        sum(&of_acme, "calls"),
        3.0,
        "what was refused is not counted"
    );

    // A kill gives nothing back.
    saved(&pool).await;
    let pool = pool.restarted_after(Signal::SIGKILL);
    let mut again = pool.client_of("acme", "demo");
    let refused = again.try_initialize("2025-11-25", json!({})).await;
    assert_eq!(refused.reason(), "quota_exhausted", "{refused:?}");

    let auth = "[auth]\nmode = \"none\"\n";
    Stdiopool::write_config(pool.dir.path(), auth, &with_quotas("monthly_calls = 5"));
    run(&pool, &["reload"]);
    again = again.connect().await;
    echo(&again, 2).await;
    let refused = again.call("echo", json!({"message": "x"})).await;
    assert_eq!(refused.reason(), "quota_exhausted");

    // Memory is judged in the same way; this one's worker is there already.
    let quotas = with_quotas("memory_hours = \"1KiB\"");
    Stdiopool::write_config(pool.dir.path(), auth, &quotas);
    run(&pool, &["reload"]);
    eventually("the memory is used up", async || {
        let answer = again.call("echo", json!({"message": "x"})).await;
        answer.response().get("error").is_some()
    })
    .await;
    let refused = again.call("echo", json!({"message": "x"})).await;
    assert_eq!(refused.reason(), "quota_exhausted");
    assert_eq!(refused.response()["error"]["data"]["limit"], "memory_hours");
}

#[test]
fn a_quota_that_is_none_is_a_mistake_with_its_place() {
    let dir = super::support::open_folder().expect("a folder");
    for (quotas, said) in [
        ("monthly_calls = -1", "`tenants.acme.limits.monthly_calls`"),
        (
            "memory_hours = \"lots\"",
            "`tenants.acme.limits.memory_hours`",
        ),
        ("monthly_call = 5", "monthly_calls"),
    ] {
        Stdiopool::write_config(
            dir.path(),
            "[auth]\nmode = \"none\"\n",
            &with_quotas(quotas),
        );
        let mut check = assert_cmd::Command::new(super::support::BINARY);
        let run = check
            .arg("check")
            .current_dir(dir.path())
            .assert()
            .failure();
        let output = run.get_output();
        let told = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(told.contains(said), "{told}");
    }
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_told_to_every_client() {
    let pool = Stdiopool::serve(&with_quotas("monthly_calls = 2"));
    let acme = pool.client_of("acme", "demo");
    let old = acme.clone().connect_as("2025-03-26", json!({})).await;
    let call = |id: u32| {
        let params = json!({"name": "echo", "arguments": {"message": "x"}});
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
    };
    // A batch is judged when it comes, and counts as what is in it.
    let answers = old.post(&json!([call(1), call(2), call(3)])).await;
    assert_eq!(answers.status, StatusCode::OK, "{answers:?}");
    assert_eq!(sum(&rows(&pool, "per=all&tenant=acme").await, "calls"), 3.0);
    let refused = old.send_raw(json!([call(4)]).to_string()).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers().contains_key("retry-after"));
    let body = refused.text().await.expect("text");
    assert!(body.contains("quota_exhausted"), "{body}");
    // Without a session.
    let answer = stateless::call(&acme, "echo", json!({"message": "x"}), &json!({})).await;
    assert_eq!(
        answer["error"]["data"]["reason"], "quota_exhausted",
        "{answer}"
    );
    // What counts is the work: looking around uses nothing up.
    let other = pool.client_of("other", "demo").connect().await;
    for _ in 0..3 {
        other.ask("tools/list", json!({})).await.result();
    }
    let of_other = rows(&pool, "per=all&tenant=other").await;
    assert_eq!(sum(&of_other, "calls"), 0.0);
    assert!(sum(&of_other, "requests") >= 4.0);
}
