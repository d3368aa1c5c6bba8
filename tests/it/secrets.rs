//! Secrets from files and commands: read again while workers run, and kept to themselves.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::json;

use super::support::stateless::{call, text};
use super::support::{
    Client, Stdiopool, command_line_of, demo, environment_of, eventually, in_tree_of, until,
};

/// Puts another text in place of a file at once, as whoever rotates secrets does.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).expect("written");
    std::fs::rename(new, file).expect("renamed");
}

/// The value of `KEY` with which the only worker that serves this session runs.
async fn key_of(client: &Client, pool: &Stdiopool) -> Option<String> {
    client.call("echo", json!({"message": "x"})).await.text();
    let workers = pool.workers().await;
    let serving = workers
        .iter()
        .filter(|worker| worker["state"] != "draining" && worker["state"] != "stopping");
    let mut keys = serving.flat_map(|worker| {
        let pid = worker["pid"].as_u64().expect("a pid");
        environment_of(u32::try_from(pid).expect("fits"))
    });
    keys.find_map(|entry| entry.strip_prefix("KEY=").map(ToOwned::to_owned))
}

async fn until_key_is(client: &Client, pool: &Stdiopool, value: &str) {
    eventually(&format!("a worker with {value}"), async || {
        key_of(client, pool).await.as_deref() == Some(value)
    })
    .await;
}

fn count(log: &str, part: &str) -> usize {
    log.matches(part).count()
}

/// The demo server with a variable from that file, which is looked at ten times a second.
fn with_key_of(file: &Path) -> Stdiopool {
    Stdiopool::serve(&format!(
        "secrets_refresh = \"100ms\"\n{}[tenants.default]\nsecrets.key = {{ file = \"{}\" }}\n",
        demo("demo", "env = { KEY = \"${secret.key}\" }"),
        file.display()
    ))
}

#[tokio::test]
async fn a_secret_that_changes_in_its_file_leads_to_another_worker_and_the_session_goes_on() {
    let dir = crate::support::open_folder().expect("a folder");
    let file = dir.path().join("key");
    std::fs::write(&file, "first-value").expect("written");
    let pool = with_key_of(&file);
    let client = pool.client("demo").connect().await;
    assert_eq!(key_of(&client, &pool).await.as_deref(), Some("first-value"));
    // What is in flight finishes on the worker that it began on.
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.call("sleep", json!({"seconds": 1.0})).await }
    });
    eventually("the call is under way", async || {
        pool.workers().await[0]["in_flight"] == 1
    })
    .await;
    replace(&file, "second-value");
    until_key_is(&client, &pool, "second-value").await;
    assert_eq!(call.await.expect("no panic").text(), "slept 1 s");
    eventually("the old worker is gone", async || {
        pool.workers().await.len() == 1
    })
    .await;
    let exits = "stdiopool_worker_exits_total{reason=\"config\",server=\"demo\"}";
    eventually("it is counted", async || pool.metric(exits).await > 0.0).await;
    assert_eq!(
        count(&pool.log(), "workers with an old one are replaced"),
        1
    );

    // Not to be read for many rounds: nothing changes, and it is said once.
    std::fs::remove_file(&file).expect("removed");
    until("it is said", || {
        pool.log().contains("cannot be read again").then_some(())
    });
    let worker = pool.workers().await[0]["id"].clone();
    client.call("sleep", json!({"seconds": 0.5})).await.text();
    assert_eq!(pool.workers().await[0]["id"], worker);
    replace(&file, "second-value");
    until("it is said", || {
        pool.log().contains("can be read again").then_some(())
    });
    assert_eq!(pool.workers().await[0]["id"], worker, "it is the same");
    assert_eq!(count(&pool.log(), "cannot be read again"), 1);
    assert_eq!(count(&pool.log(), "can be read again"), 1);

    // While no worker runs, nothing is read; who comes next gets the new one all the same.
    let stop = pool.command(&["stop", worker.as_str().expect("an id")]);
    assert!(run(stop).success());
    eventually("it is gone", async || pool.workers().await.is_empty()).await;
    replace(&file, "third-value");
    until_key_is(&client, &pool, "third-value").await;
    for value in ["first-value", "second-value", "third-value"] {
        assert!(!pool.log().contains(value));
    }
}

#[tokio::test]
async fn callers_without_sessions_get_a_changed_secret_too_and_workers_are_replaced_once() {
    let dir = crate::support::open_folder().expect("a folder");
    let file = dir.path().join("key");
    std::fs::write(&file, "first-value").expect("written");
    let pool = with_key_of(&file);
    let (one, all) = (
        pool.client("demo"),
        Client::new(format!("{}/mcp", pool.url)),
    );
    let key = async |client: &Client, tool: &str| {
        let who = call(client, tool, json!({}), &json!({})).await;
        let who: serde_json::Value = serde_json::from_str(text(&who)).expect("JSON");
        who["environment"]["KEY"].clone()
    };
    assert_eq!(key(&one, "whoami").await, "first-value");
    assert_eq!(key(&all, "demo__whoami").await, "first-value");
    replace(&file, "second-value");
    for (client, tool) in [(&one, "whoami"), (&all, "demo__whoami")] {
        eventually("the new secret", async || {
            key(client, tool).await == "second-value"
        })
        .await;
    }
    // Many rounds later nobody is led to a worker with the old one.
    call(&one, "sleep", json!({"seconds": 0.5}), &json!({})).await;
    assert_eq!(key(&one, "whoami").await, "second-value");
    assert_eq!(
        count(&pool.log(), "workers with an old one are replaced"),
        1
    );
}

fn run(mut command: std::process::Command) -> std::process::ExitStatus {
    #[allow(clippy::disallowed_methods, reason = "the program under test")]
    let output = command.output().expect("runs");
    output.status
}

#[tokio::test]
async fn a_command_is_run_once_a_round_for_all_tenants_and_what_it_prints_is_noticed() {
    let dir = crate::support::open_folder().expect("a folder");
    let (key, runs) = (dir.path().join("key"), dir.path().join("runs"));
    std::fs::write(&key, "first-value").expect("written");
    let script = format!("echo run >> {}; cat {}", runs.display(), key.display());
    let source = format!("secrets.key = {{ command = [\"sh\", \"-c\", \"{script}\"] }}\n");
    let config = |refresh: &str| {
        format!(
            "secrets_refresh = \"{refresh}\"\n{}[tenants.acme]\n{source}[tenants.globex]\n{source}",
            demo("demo", "env = { KEY = \"${secret.key}\" }"),
        )
    };
    let pool = Stdiopool::serve(&config("never"));
    let acme = pool.client_of("acme", "demo").connect().await;
    let globex = pool.client_of("globex", "demo").connect().await;
    for client in [&acme, &globex] {
        client.call("echo", json!({"message": "x"})).await.text();
    }
    let count_runs = || count(&std::fs::read_to_string(&runs).expect("ran"), "run");
    assert_eq!(count_runs(), 2, "once for each tenant");
    // "never" is so until a reload says something else, which is in force at once.
    let auth = "[auth]\nmode = \"none\"\n";
    Stdiopool::write_config(pool.dir.path(), auth, &config("1h"));
    assert!(run(pool.command(&["reload"])).success());
    let after_reload = count_runs();
    replace(&key, "second-value");
    Stdiopool::write_config(pool.dir.path(), auth, &config("200ms"));
    assert!(run(pool.command(&["reload"])).success());
    let before = count_runs();
    assert!(before >= after_reload);
    for client in [&acme, &globex] {
        eventually("the new one", async || {
            client.call("echo", json!({"message": "x"})).await.text();
            let workers = pool.workers().await;
            workers.iter().all(|worker| {
                let pid = worker["pid"]
                    .as_u64()
                    .and_then(|pid| u32::try_from(pid).ok());
                let env = pid.map(environment_of).unwrap_or_default();
                env.contains(&"KEY=second-value".to_owned())
            })
        })
        .await;
    }
    replace(&key, "third-value");
    let rounds = count_runs();
    for client in [&acme, &globex] {
        eventually("the newest", async || {
            client.call("echo", json!({"message": "x"})).await.text();
            let workers = pool.workers().await;
            let mut of_tenant = workers.iter().filter(|worker| {
                client
                    .url
                    .contains(worker["tenant"].as_str().unwrap_or("-"))
                    && worker["state"] != "draining"
                    && worker["state"] != "stopping"
            });
            of_tenant.any(|worker| {
                let pid = worker["pid"]
                    .as_u64()
                    .and_then(|pid| u32::try_from(pid).ok());
                let env = pid.map(environment_of).unwrap_or_default();
                env.contains(&"KEY=third-value".to_owned())
            })
        })
        .await;
    }
    assert!(count_runs() > rounds, "it was run again without a reload");
    let log = pool.log();
    assert!(
        log.contains("secrets have changed in their files or commands"),
        "{log}"
    );
}

/// The soft limit on core files of a process, as proc(5) shows it.
fn core_limit(pid: u32) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("it lives");
    let line = text
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let line = line.expect("every process has one");
    line["Max core file size".len()..]
        .split_whitespace()
        .next()
        .expect("a limit")
        .to_owned()
}

#[tokio::test]
async fn neither_stdiopool_nor_what_it_starts_leaves_a_core_dump() {
    let dir = crate::support::open_folder().expect("a folder");
    let auth = "[auth]\nmode = \"none\"\n";
    Stdiopool::write_config(dir.path(), auth, &demo("demo", ""));
    let args = [
        "--config".to_owned(),
        dir.path().join("pool.toml").display().to_string(),
    ];
    // To root everything belongs: what is looked for below shows in another user's process.
    let me = nix::unistd::geteuid();
    let user = if me.is_root() { 65534 } else { me.as_raw() };
    let pool = if me.is_root() {
        std::os::unix::fs::chown(dir.path(), Some(user), Some(user)).expect("root may");
        Stdiopool::run_as(user, dir, &args)
    } else {
        Stdiopool::run(dir, &args, &[])
    };
    let client = pool.client("demo").connect().await;
    client.call("echo", json!({"message": "x"})).await.text();
    let tree = in_tree_of(pool.pid());
    assert!(tree.len() >= 3, "stdiopool, the guardian and a worker");
    for process in &tree {
        let limit = core_limit(process.pid);
        let is_too_low = limit == "1" || limit == "0";
        assert!(is_too_low, "{limit}: {}", command_line_of(*process));
    }
    // The kernel gives the files in /proc of a process that it must not dump to root (proc(5)), and
    // those of others to their user.
    let owner = |pid: u32| {
        let environ = std::fs::metadata(format!("/proc/{pid}/environ"));
        environ.expect("it lives").uid()
    };
    assert_eq!(owner(pool.pid()), 0);
    let worker = pool.workers().await[0]["pid"].as_u64().expect("a pid");
    assert_eq!(owner(u32::try_from(worker).expect("fits")), user);
}
