//! Whose fault a start is that did not succeed: of a server, of what one caller sets, or nobody's.

use std::os::unix::fs::PermissionsExt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::{Client, Stdiopool, demo, eventually, faulty, stateless};

/// The server that ends when it does not like its value, which callers may set; its default is `value`.
fn choosy(name: &str, value: &str) -> String {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/choosy_server.py"
    );
    format!(
        "[servers.{name}]\ncommand = \"python3\"\nargs = [\"{script}\", \"${{config.a}}\"]\nclient_config = [\"a\"]\n\
         [servers.{name}.config]\ntype = \"object\"\nproperties.a = {{ type = \"string\", default = \"{value}\" }}\n"
    )
}

fn setting(mut client: Client, value: &str) -> Client {
    client.config = Some(URL_SAFE_NO_PAD.encode(json!({ "a": value }).to_string()));
    client
}

/// How its first request is refused that needs a worker: one whose config cannot be used has a session, in which it is told
/// what there is to set.
async fn refused(client: &Client) -> (String, String) {
    let mut answer = client.try_initialize("2025-11-25", json!({})).await;
    // One that takes long has a session before it is known what becomes of it.
    let is_refused = answer.response().get("error").is_some();
    if let Some(session) = answer.headers.get("mcp-session-id").filter(|_| !is_refused) {
        let mut client = client.clone();
        client.session = Some(session.to_str().expect("ASCII").to_owned());
        answer = client.ask("tools/list", json!({})).await;
    }
    (answer.reason().to_owned(), answer.message().to_owned())
}

async fn events(pool: &Stdiopool) -> Vec<Value> {
    let events = pool.admin_json("events?follow=false").await;
    events.as_array().cloned().expect("a list")
}

async fn kinds(pool: &Stdiopool, kind: &str) -> Vec<Value> {
    let mut all = events(pool).await;
    all.retain(|event| event["kind"] == kind);
    all
}

#[tokio::test]
async fn what_a_server_ends_with_because_of_a_callers_config_is_the_callers_own_fault() {
    let toml = choosy("choosy", "good") + &choosy("broken", "bad") + "[tenants.acme]\n";
    let pool = Stdiopool::serve(&toml);
    for n in 0..5 {
        let client = setting(pool.client_of("acme", "choosy"), &format!("bad{n}"));
        let (reason, message) = refused(&client).await;
        assert_eq!(reason, "config_invalid", "{message}");
        assert!(
            message.contains("with the config that the caller sets"),
            "{message}"
        );
        assert!(
            message.contains(&format!("`bad{n}` is not valid")),
            "{message}"
        );
    }
    // Neither the tenant's own nor what others set has to suffer for it.
    for client in [
        pool.client_of("acme", "choosy"),
        setting(pool.client_of("acme", "choosy"), "fine"),
        pool.client_of("globex", "choosy"),
    ] {
        let client = client.connect().await;
        let value = client.call("value", json!({})).await;
        assert!(["good", "fine"].contains(&value.text()), "{value:?}");
    }
    let status = pool.admin_json("status").await;
    assert_eq!(status["circuits"], json!([]));
    assert_eq!(kinds(&pool, "circuit_opened").await, Vec::<Value>::new());

    // Where the tenant's own does not start either, the server is told to be at fault; what is set may still do.
    let (reason, _) = refused(&pool.client_of("acme", "broken")).await;
    assert_eq!(reason, "start_failed");
    let bad = setting(pool.client_of("acme", "broken"), "bad too");
    assert_eq!(refused(&bad).await.0, "start_failed");
    // A value that is the tenant's own anyway makes no difference.
    let same = setting(pool.client_of("globex", "broken"), "bad");
    assert_eq!(refused(&same).await.0, "start_failed");
    let fine = setting(pool.client_of("acme", "broken"), "fine")
        .connect()
        .await;
    assert_eq!(fine.call("value", json!({})).await.text(), "fine");
}

#[tokio::test]
async fn a_folder_that_a_callers_config_names_is_the_callers_own_fault() {
    let more = "cwd = \"FOLDER/${config.x}\"\nclient_config = [\"x\"]\n[servers.good.config]\ntype = \"object\"\nproperties.x = { type = \"string\", default = \"there\" }\n";
    let folder = crate::support::open_folder().expect("a folder");
    std::fs::create_dir(folder.path().join("there")).expect("made");
    std::fs::write(folder.path().join("file"), "").expect("written");
    let more = more.replace("FOLDER", &folder.path().display().to_string());
    let fixed = demo("fixed", "cwd = \"/no/such\"");
    let pool = Stdiopool::serve(&format!("{}{fixed}", demo("good", &more)));
    for (value, why) in [
        ("no/such", "does not exist"),
        ("file", "is no folder"),
        (&"x".repeat(5000), "does not exist"),
    ] {
        let mut client = pool.client_of("acme", "good");
        client.config = Some(URL_SAFE_NO_PAD.encode(json!({ "x": value }).to_string()));
        let (reason, message) = refused(&client).await;
        assert_eq!(reason, "config_invalid", "{message}");
        assert!(message.contains(why), "{message}");
    }
    // Where tenants' servers run as users of their own, there are folders that those do not come to.
    if nix::unistd::geteuid().is_root() {
        let closed = folder.path().join("closed");
        std::fs::create_dir(&closed).expect("made");
        let mode = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&closed, mode).expect("closed");
        let mut client = pool.client_of("acme", "good");
        client.config = Some(URL_SAFE_NO_PAD.encode(json!({ "x": "closed" }).to_string()));
        let (reason, message) = refused(&client).await;
        assert_eq!(reason, "config_invalid", "{message}");
        assert!(message.contains("cannot be entered"), "{message}");
    }
    pool.client_of("acme", "good").connect().await;
    // One of pool.toml is not.
    let (reason, message) = refused(&pool.client_of("acme", "fixed")).await;
    assert_eq!(reason, "start_failed", "{message}");
}

#[tokio::test]
async fn a_callers_config_that_makes_a_server_hang_at_its_start_hurts_nobody_else() {
    let toml = choosy("choosy", "good").replacen(
        "client_config",
        "start_timeout = \"3s\"\nclient_config",
        1,
    );
    let pool = Stdiopool::serve(&format!(
        "{toml}[tenants.acme]\n[tenants.globex]\n[tenants.third]\n"
    ));
    let hangs = |tenant: &str, n: u8| {
        let client = pool.client_of(tenant, "choosy");
        setting(client, &format!("slow /nonexistent/{n}"))
    };
    // Enough of them to open a circuit, of one tenant and of several.
    let callers = [
        ("acme", 0),
        ("acme", 1),
        ("acme", 2),
        ("globex", 0),
        ("third", 0),
    ];
    let refusals = callers.map(|(tenant, n)| {
        let client = hangs(tenant, n);
        tokio::spawn(async move { refused(&client).await })
    });
    for refusal in refusals {
        let (reason, message) = refusal.await.expect("it ends");
        assert_eq!(reason, "start_failed", "{message}");
        for part in [
            "with the config that the caller sets",
            "did not answer `initialize` within 3s",
            "it waits for its file",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
    for client in [
        pool.client_of("acme", "choosy"),
        setting(pool.client_of("acme", "choosy"), "fine"),
        setting(pool.client_of("globex", "choosy"), "fine"),
        pool.client_of("fourth", "choosy"),
    ] {
        let client = client.connect().await;
        let value = client.call("value", json!({})).await;
        assert!(["good", "fine"].contains(&value.text()), "{value:?}");
    }
    let status = pool.admin_json("status").await;
    assert_eq!(status["circuits"], json!([]));
    assert_eq!(kinds(&pool, "circuit_opened").await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_process_that_does_not_know_its_clients_era_is_no_failure() {
    let pool = Stdiopool::serve(&choosy("choosy", "good"));
    let bare = pool.client("choosy");
    let params = stateless::params(json!({ "name": "value", "arguments": {} }), &json!({}));
    let (_, _, response) = stateless::ask(&bare, "tools/call", params).await;
    assert_eq!(
        response["result"]["content"][0]["text"], "good",
        "{response}"
    );
    eventually("the one that was asked first is gone", async || {
        pool.admin_json("ended")
            .await
            .as_array()
            .is_some_and(|rows| !rows.is_empty())
    })
    .await;
    let ended = pool.admin_json("ended").await;
    assert_eq!(ended[0]["reason"], "declined", "{ended}");
    let server = &pool.admin_json("servers").await[0];
    assert_eq!(
        server["starts"],
        json!({ "ok": 1, "failed": 0 }),
        "{server}"
    );
    assert_eq!(server["last_error"], Value::Null);
    let starts = |outcome: &str| {
        format!("stdiopool_worker_starts_total{{outcome=\"{outcome}\",server=\"choosy\"}}")
    };
    assert!((pool.metric(&starts("declined")).await - 1.0).abs() < 0.1);
    for failure in ["exited", "refused", "timeout"] {
        assert!(pool.metric(&starts(failure)).await < 0.1, "{failure}");
    }
    let exits = "stdiopool_worker_exits_total{reason=\"declined\",server=\"choosy\"}";
    assert!((pool.metric(exits).await - 1.0).abs() < 0.1);
    assert_eq!(
        kinds(&pool, "worker_start_failed").await,
        Vec::<Value>::new()
    );
    assert_eq!(kinds(&pool, "worker_exited").await[0]["reason"], "declined");
    let output = pool.command(&["ps"]).output().expect("runs");
    let table = String::from_utf8(output.stdout).expect("text");
    assert!(!table.contains("ENDED"), "{table}");
}

/// What a process says that died of a signal is nothing: its client is served, and the next is asked again.
#[tokio::test]
async fn a_process_that_dies_before_it_answers_says_nothing_of_its_era() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/listing.py");
    let folder = crate::support::open_folder().expect("a folder");
    let record = |signal: &str| folder.path().join(signal);
    let server = |signal: &str| {
        let record = record(signal);
        let record = record.display();
        format!(
            "[servers.{signal}]\ncommand = \"python3\"\nargs = [\"{script}\", \"{record}\", \"--era\", \"both\", \"--dies\", \"{signal}\"]\n"
        )
    };
    let signals = ["KILL", "TERM", "SEGV"];
    let mut pool = Stdiopool::serve(&signals.map(server).concat());
    let asked = async |pool: &Stdiopool, signal: &str| {
        let params = stateless::params(json!({ "name": "version", "arguments": {} }), &json!({}));
        let (_, _, response) = stateless::ask(&pool.client(signal), "tools/call", params).await;
        let text = response["result"]["content"][0]["text"].as_str();
        assert!(text.is_some_and(|it| it.contains("version")), "{response}");
    };
    for signal in signals {
        asked(&pool, signal).await;
    }
    pool = pool.restarted_after(nix::sys::signal::Signal::SIGTERM);
    for signal in signals {
        asked(&pool, signal).await;
        let heard = std::fs::read_to_string(record(signal)).expect("it was started");
        let heard = heard.lines().map(|line| {
            let message: Value = serde_json::from_str(line).expect("JSON");
            message["method"].as_str().unwrap_or_default().to_owned()
        });
        let first = ["initialize", "server/discover"];
        let heard: Vec<_> = heard.filter(|it| first.contains(&it.as_str())).collect();
        assert_eq!(
            heard,
            ["server/discover", "server/discover", "server/discover"],
            "{signal}"
        );
    }
}

#[tokio::test]
async fn a_worker_that_is_stopped_while_it_starts_is_no_failure() {
    let pool = Stdiopool::serve(&faulty("slow", &["--delay-ms", "60000"], ""));
    let client = pool.client("slow");
    let waiting = tokio::spawn(async move { client.try_initialize("2025-11-25", json!({})).await });
    eventually("it starts", async || {
        let workers = pool.workers().await;
        workers.iter().any(|worker| worker["pid"].is_u64())
    })
    .await;
    let workers = pool.workers().await;
    let id = workers[0]["id"].as_str().expect("an id").to_owned();
    waiting.abort();
    let stopped = pool.command(&["stop", &id]).output().expect("runs");
    assert!(stopped.status.success(), "{stopped:?}");
    eventually("it is gone", async || {
        kinds(&pool, "worker_exited")
            .await
            .iter()
            .any(|it| it["worker"] == id.as_str())
    })
    .await;
    assert_eq!(
        kinds(&pool, "worker_start_failed").await,
        Vec::<Value>::new()
    );
    let server = &pool.admin_json("servers").await[0];
    assert_eq!(server["starts"]["failed"], 0, "{server}");
    assert_eq!(server["last_error"], Value::Null);
}

#[tokio::test]
async fn a_circuit_that_opens_and_closes_is_told_in_the_log_in_events_and_in_metrics() {
    let tenants: String = ["a", "b", "c"]
        .iter()
        .map(|name| format!("[tenants.{name}]\nconfig.choosy = {{ a = \"bad {name}\" }}\n"))
        .collect();
    let folder = crate::support::open_folder().expect("a folder");
    let go = folder.path().join("go");
    let slow = format!(
        "[tenants.d]\nconfig.choosy = {{ a = \"slow {}\" }}\n",
        go.display()
    );
    let pool = Stdiopool::serve(&(choosy("choosy", "good") + &tenants + &slow));
    // One that begins to start before the circuit opens.
    let last = pool.client_of("d", "choosy");
    let last = tokio::spawn(async move { last.connect().await });
    eventually("it starts", async || !pool.workers().await.is_empty()).await;
    for tenant in ["a", "b", "c"] {
        let (reason, _) = refused(&pool.client_of(tenant, "choosy")).await;
        assert_eq!(reason, "start_failed");
    }
    let (reason, message) = refused(&pool.client_of("e", "choosy")).await;
    assert_eq!(reason, "circuit_open", "{message}");
    assert!(
        !message.contains("not valid"),
        "another tenant's: {message}"
    );
    let opened = kinds(&pool, "circuit_opened").await;
    assert_eq!(opened.len(), 1, "{opened:?}");
    let told = opened[0]["message"].as_str().expect("text");
    for part in [
        "circuit of server `choosy` is open for everyone: 3 tenants cannot have it started",
        "the next start is tried in ",
        "`bad c` is not valid",
    ] {
        assert!(told.contains(part), "{part}: {told}");
        assert!(pool.log().contains(part), "{part}: {}", pool.log());
    }
    std::fs::write(&go, "").expect("written");
    last.await.expect("it is ready");
    eventually("it is closed", async || {
        !kinds(&pool, "circuit_closed").await.is_empty()
    })
    .await;
    assert!(
        pool.log()
            .contains("is closed for everyone: a start has succeeded")
    );
    let changes = |state: &str| {
        format!("stdiopool_circuit_changes_total{{server=\"choosy\",state=\"{state}\"}}")
    };
    assert!((pool.metric(&changes("open")).await - 1.0).abs() < 0.1);
    assert!((pool.metric(&changes("closed")).await - 1.0).abs() < 0.1);
    pool.client_of("e", "choosy").connect().await;
}

/// `ps` shows a few of those that failed lately, and says that there are more.
#[tokio::test]
async fn ps_says_how_many_more_failed_and_where_they_are_seen() {
    let toml = choosy("choosy", "good");
    let pool = Stdiopool::serve(&toml);
    for n in 0..8 {
        refused(&setting(pool.client("choosy"), &format!("bad{n}"))).await;
    }
    eventually("all have ended", async || {
        pool.admin_json("ended")
            .await
            .as_array()
            .is_some_and(|rows| rows.len() == 8)
    })
    .await;
    let output = pool.command(&["ps"]).output().expect("runs");
    let table = String::from_utf8(output.stdout).expect("text");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(table.matches("start_failed").count(), 5, "{table}");
    assert!(
        said.contains("3 more workers failed") && said.contains("`stdiopool ps --all`"),
        "{said}"
    );
    let output = pool.command(&["ps", "--all"]).output().expect("runs");
    let table = String::from_utf8(output.stdout).expect("text");
    assert_eq!(table.matches("start_failed").count(), 8, "{table}");
}
