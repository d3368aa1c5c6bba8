//! Python workers that are forked from a template: as they would be if each had been started, and what comes of templates that fail.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::support::registry::Registry;
use super::support::{BINARY, Client, Stdiopool, eventually, in_tree_of};

/// Primed starts in a row.
pub(super) const ROUNDS: usize = 200;

/// Servers of the registry's package: `aaaa` is started ordinarily, `bbbb` is primed. Their names are as long as each other.
fn servers(registry: &Registry, more: &str) -> String {
    let server = |name: &str, keys: &str| {
        format!(
            r#"
[servers.{name}]
command = "uvx"
args = ["primed-py@1.0.0", "--of", "two words", ""]
share = "session"
start_timeout = "120s"
limits = {{ open_files = 777, cpu_seconds = 500 }}
{keys}
[servers.{name}.env]
UV_DEFAULT_INDEX = "{url}/simple"
PRIMED_VALUE = "of a launch"
{more}
"#,
            url = registry.url
        )
    };
    format!(
        "[pool]\nqueue_timeout = \"120s\"\ncatalog_age = \"never\"\n{}{}",
        server("aaaa", "prime = \"off\""),
        server("bbbb", "prime = \"auto\"")
    )
}

/// Whether workers can be primed here, for root alone, as the program itself says.
pub(super) fn can_be_primed() -> bool {
    if !nix::unistd::geteuid().is_root() {
        return false;
    }
    let said = Command::new(BINARY).arg("doctor").output();
    let said = said.expect("it runs");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let line = said.lines().find(|line| line.contains("primed starts"));
    line.expect("it is asked").starts_with("ok")
}

pub(super) async fn templates(pool: &Stdiopool) -> Value {
    pool.admin_json("templates").await
}

/// Starts a first worker of that server, and waits until its template is ready; the template's pid.
pub(super) async fn primed(pool: &Stdiopool, server: &str) -> u32 {
    let client = pool.client(server).connect().await;
    client.delete().await;
    eventually("a template is ready", async || {
        templates(pool).await["templates"][0]["state"] == "ready"
    })
    .await;
    let pid = templates(pool).await["templates"][0]["pid"].as_u64();
    u32::try_from(pid.expect("it runs")).expect("a pid")
}

pub(super) async fn told(client: &Client, tool: &str) -> Value {
    let answer = client.call(tool, json!({})).await;
    serde_json::from_str(answer.text()).expect("JSON")
}

/// How many descriptors a process has open.
pub(super) fn descriptors_of(pid: u32) -> usize {
    let listed = fs::read_dir(format!("/proc/{pid}/fd"));
    listed.expect("it runs").count()
}

/// The pids of a server's workers.
pub(super) async fn pids_of(pool: &Stdiopool, server: &str) -> Vec<u32> {
    let workers = pool.workers().await;
    let own = workers.iter().filter(|worker| worker["server"] == server);
    own.filter_map(|worker| u32::try_from(worker["pid"].as_u64()?).ok())
        .collect()
}

/// What differs of two values, by path.
pub(super) fn differences(
    at: &str,
    one: &Value,
    other: &Value,
    found: &mut BTreeMap<String, String>,
) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            for name in one.keys().chain(other.keys()) {
                let (one, other) = (&one.get(name), &other.get(name));
                let null = &Value::Null;
                differences(
                    &format!("{at}/{name}"),
                    one.unwrap_or(null),
                    other.unwrap_or(null),
                    found,
                );
            }
        }
        _ if one != other => drop(found.insert(at.to_owned(), format!("{one} / {other}"))),
        _ => {}
    }
}

#[tokio::test]
async fn a_worker_of_a_template_is_as_one_that_was_started() {
    if !can_be_primed() {
        return;
    }
    let registry = Registry::start();
    let pool = Stdiopool::serve(&servers(&registry, ""));
    primed(&pool, "bbbb").await;
    let (started, forked) = (
        pool.client("aaaa").connect().await,
        pool.client("bbbb").connect().await,
    );
    assert_eq!(told(&started, "is_primed").await, false);
    assert_eq!(told(&forked, "is_primed").await, true);
    for tool in ["about", "child"] {
        let as_one = |value: Value| {
            let text = value.to_string().replace("bbbb", "aaaa");
            serde_json::from_str::<Value>(&text).expect("JSON")
        };
        let one = as_one(told(&started, tool).await);
        let other = as_one(told(&forked, tool).await);
        let mut found = BTreeMap::new();
        differences(tool, &one, &other, &mut found);
        assert!(found.is_empty(), "{found:#?}");
    }
    let list = started.ask("tools/list", json!({})).await;
    let other = forked.ask("tools/list", json!({})).await;
    assert_eq!(list.result(), other.result());
    // Each has numbers of its own, also two of one template.
    let second = pool.client("bbbb").connect().await;
    assert_ne!(told(&forked, "random").await, told(&second, "random").await);
    let metric = "stdiopool_worker_primed_starts_total{outcome=\"ok\",server=\"bbbb\"}";
    eventually("primed starts are counted", async || {
        pool.metric(metric).await >= 2.0
    })
    .await;
}

#[tokio::test]
async fn what_reads_prints_or_starts_while_it_is_imported_is_left_to_each_worker() {
    if !can_be_primed() {
        return;
    }
    let registry = Registry::start();
    let pool = Stdiopool::serve(&servers(&registry, ""));
    let ordinary = pool.client("aaaa").connect().await;
    ordinary.delete().await;
    primed(&pool, "bbbb").await;
    let all = templates(&pool).await;
    let template = &all["templates"][0];
    let ahead = template["modules"].as_array().expect("a list");
    assert!(ahead.contains(&"primed_deps.quiet".into()), "{template}");
    let left_out = |name: &str| template["left_out"][name].as_str().unwrap_or("nothing");
    for (name, why) in [
        ("primed_deps.reads", "read PRIMED_VALUE"),
        ("primed_deps.needs", "needs primed_deps.reads"),
        ("primed_deps.prints", "printed"),
        ("primed_deps.children", "started a process"),
        ("primed_deps.threads", "started a thread"),
        ("primed_py", "is the worker's own copy"),
    ] {
        assert_eq!(left_out(name), why, "{name}");
    }
    assert_eq!(all["unprimed"], json!({"aaaa": "`prime = \"off\"`"}));
    // A template knows nothing of a tenant.
    let environ =
        fs::read_to_string(format!("/proc/{}/environ", template["pid"])).expect("it runs");
    assert!(!environ.contains("PRIMED_VALUE"), "{environ}");
    let shown = pool.command(&["prime", "bbbb"]).output().expect("it runs");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("primed_deps.prints: printed"), "{shown}");
}

#[tokio::test]
async fn a_primed_worker_ends_as_any_other() {
    if !can_be_primed() {
        return;
    }
    let registry = Registry::start();
    let pool = Stdiopool::serve(&servers(&registry, ""));
    primed(&pool, "bbbb").await;
    for (tool, arguments) in [("leave", json!({"status": 7})), ("end", json!({}))] {
        let mut ends = vec![];
        for server in ["aaaa", "bbbb"] {
            let client = pool.client(server).connect().await;
            let answer = client.call(tool, arguments.clone()).await;
            ends.push(answer.message().replace(server, "SERVER"));
        }
        assert_eq!(ends[0], ends[1]);
    }
    // What it has started ends with it, wherever that has moved to.
    let client = pool.client("bbbb").connect().await;
    let orphan: u32 = told(&client, "orphan")
        .await
        .as_str()
        .expect("a pid")
        .parse()
        .expect("a pid");
    let pids = pids_of(&pool, "bbbb").await;
    assert_eq!(pids.len(), 1);
    client.delete().await;
    eventually("nothing of it is left", async || {
        !fs::exists(format!("/proc/{orphan}")).unwrap_or(true)
            && !fs::exists(format!("/proc/{}", pids[0])).unwrap_or(true)
    })
    .await;
}

#[tokio::test]
async fn a_template_that_is_killed_takes_no_worker_and_another_comes() {
    if !can_be_primed() {
        return;
    }
    let registry = Registry::start();
    let pool = Stdiopool::serve(&servers(&registry, ""));
    let template = primed(&pool, "bbbb").await;
    let client = pool.client("bbbb").connect().await;
    assert_eq!(told(&client, "is_primed").await, true);
    kill(Pid::from_raw(template.cast_signed()), Signal::SIGKILL).expect("it is there");
    eventually("the template is gone", async || {
        templates(&pool).await["templates"] == json!([])
    })
    .await;
    assert_eq!(told(&client, "is_primed").await, true, "it lives on");
    let next = pool.client("bbbb").connect().await;
    assert_eq!(told(&next, "is_primed").await, false);
    eventually("another template is ready", async || {
        templates(&pool).await["templates"][0]["state"] == "ready"
    })
    .await;
    let next = pool.client("bbbb").connect().await;
    assert_eq!(told(&next, "is_primed").await, true);
}

#[tokio::test]
async fn a_template_that_is_stopped_is_let_go_on() {
    if !can_be_primed() {
        return;
    }
    let registry = Registry::start();
    let pool = Stdiopool::serve(&servers(&registry, ""));
    let template = primed(&pool, "bbbb").await;
    kill(Pid::from_raw(template.cast_signed()), Signal::SIGSTOP).expect("it is there");
    let client = pool.client("bbbb").connect().await;
    assert_eq!(told(&client, "is_primed").await, true);
    assert_eq!(templates(&pool).await["barred"], json!([]));
}

#[tokio::test]
async fn a_program_that_does_not_bear_it_is_started_ordinarily_from_then_on() {
    if !can_be_primed() {
        return;
    }
    let registry = Registry::start();
    let pool = Stdiopool::serve(&servers(&registry, "FAIL_WHEN_PRIMED = \"1\"\n"));
    primed(&pool, "bbbb").await;
    for _ in 0..2 {
        let client = pool.client("bbbb").connect().await;
        assert_eq!(told(&client, "is_primed").await, false);
    }
    let all = templates(&pool).await;
    let why = all["barred"][0]["why"].as_str().expect("it is barred");
    assert!(why.contains("it does not like to be forked"), "{why}");
}

#[tokio::test]
async fn a_primed_worker_ends_with_the_supervisor_that_is_killed() {
    if !can_be_primed() {
        return;
    }
    let registry = Registry::start();
    let mut pool = Stdiopool::serve(&servers(&registry, ""));
    let template = primed(&pool, "bbbb").await;
    let client = pool.client("bbbb").connect().await;
    let orphan = told(&client, "orphan")
        .await
        .as_str()
        .expect("a pid")
        .to_owned();
    let mut pids = pids_of(&pool, "bbbb").await;
    pids.extend([template, orphan.parse().expect("a pid")]);
    pool.signal(Signal::SIGKILL);
    pool.wait();
    eventually("nothing is left", async || {
        pids.iter()
            .all(|pid| !fs::exists(format!("/proc/{pid}")).unwrap_or(true))
    })
    .await;
}

#[tokio::test]
async fn many_primed_starts_leave_nothing_behind() {
    if !can_be_primed() {
        return;
    }
    let registry = Registry::start();
    let pool = Stdiopool::serve(&servers(&registry, ""));
    let template = primed(&pool, "bbbb").await;
    let client = pool.client("bbbb").connect().await;
    client.delete().await;
    let guardian = fs::read_to_string(format!("/proc/{template}/stat")).expect("it runs");
    let guardian: u32 = guardian
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split(' ').nth(2)?.parse().ok())
        .expect("its parent");
    let count = || in_tree_of(guardian).len();
    eventually("the first ones are gone", async || count() == 2).await;
    let descriptors = || [template, guardian].map(descriptors_of);
    let before = descriptors();
    for _ in 0..ROUNDS {
        let client = pool.client("bbbb").connect().await;
        client.delete().await;
    }
    eventually("all are gone, zombies too", async || count() == 2).await;
    // The guardian closes what it had of a process after that has gone.
    eventually("no descriptor is left", async || {
        descriptors()
            .iter()
            .zip(before)
            .all(|(now, before)| *now <= before)
    })
    .await;
    let forked = templates(&pool).await["templates"][0]["forked"].as_u64();
    assert!(
        forked.is_some_and(|forked| forked > ROUNDS as u64),
        "{forked:?}"
    );
}

#[tokio::test]
async fn a_template_that_is_being_made_holds_up_no_shutdown() {
    if !can_be_primed() {
        return;
    }
    let registry = Registry::start();
    ends_while_it_primes(&servers(&registry, "")).await;
}

/// Serves that config, and has it end as soon as something is made ready for the next start of server `bbbb`.
pub(super) async fn ends_while_it_primes(config: &str) {
    let pool = Stdiopool::serve(config);
    let client = pool.client("bbbb").connect().await;
    client.delete().await;
    eventually("a template is made", async || {
        !templates(&pool).await["templates"]
            .as_array()
            .is_some_and(Vec::is_empty)
    })
    .await;
    // Waits for the end.
    drop(pool.restarted_after(Signal::SIGTERM));
}

#[tokio::test]
async fn real_servers_answer_the_same_whether_they_are_primed() {
    if !can_be_primed() {
        return;
    }
    let packages = [
        (
            "mcp-server-time@2026.10.19",
            "get_current_time",
            json!({"timezone": "Europe/Berlin"}),
        ),
        (
            "mcp-server-git@2026.10.19",
            "git_status",
            json!({"repo_path": "/nowhere"}),
        ),
        (
            "mcp-server-fetch@2026.10.24",
            "fetch",
            json!({"url": "http://127.0.0.1:9/"}),
        ),
    ];
    for (package, tool, arguments) in packages {
        let server = |name: &str, prime: &str| {
            format!(
                "[servers.{name}]\ncommand = \"uvx\"\nargs = [\"{package}\"]\nshare = \"session\"\nstart_timeout = \"120s\"\nprime = \"{prime}\"\n"
            )
        };
        let pool = Stdiopool::serve(&format!(
            "[pool]\nqueue_timeout = \"120s\"\ncatalog_age = \"never\"\n{}{}",
            server("aaaa", "off"),
            server("bbbb", "auto")
        ));
        primed(&pool, "bbbb").await;
        let mut answers = vec![];
        for name in ["aaaa", "bbbb"] {
            let client = pool.client(name);
            let began = client.try_initialize("2025-06-18", json!({})).await;
            let client = pool.client(name).connect().await;
            let list = client.ask("tools/list", json!({})).await;
            let call = client.call(tool, arguments.clone()).await;
            let call = call.text().to_owned();
            // The time of day is in it.
            let call = call.split("datetime").next().unwrap_or_default().to_owned();
            answers.push([
                began.result().to_string(),
                list.result().to_string(),
                call.replace(name, "SERVER"),
            ]);
        }
        assert_eq!(answers[0], answers[1], "{package}");
        let forked = templates(&pool).await["templates"][0]["forked"].as_u64();
        assert!(forked.is_some_and(|forked| forked > 0), "{package}");
    }
}
