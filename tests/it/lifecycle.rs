//! Shutdown, sudden death, and what becomes of real process trees.

use http::StatusCode;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::support::{
    Client, Process, Stdiopool, alive, command_line_of, demo, eventually, faulty, group_of,
    in_tree_of, until, until_gone,
};

/// The reference server of the MCP project as people start it: npm, sh and node.
const EVERYTHING: &str = "command = \"npx\"\nargs = [\"-y\", \"@modelcontextprotocol/server-everything@2026.8.31\"]\nstart_timeout = \"120s\"\nlaunch = \"as-is\"\n";
/// A PyPI server as people start it.
const TIME: &str = "command = \"uvx\"\nargs = [\"mcp-server-time@2026.10.19\"]\nstart_timeout = \"120s\"\nlaunch = \"as-is\"\n";
/// The npm server of `EVERYTHING` under `npx`, with two more processes: one in a process group of its own,
/// one in a session of its own that ignores what it can.
const EVERYTHING_AND_STRAYS: &str = r#"command = "npx"
args = [
    "-y", "-p", "@modelcontextprotocol/server-everything@2026.8.31", "-c",
    "perl -e 'setpgrp(0, 0); exec qw(sleep 3001)' & setsid sh -c \"trap '' TERM HUP INT; sleep 3002\" & mcp-server-everything",
]
start_timeout = "120s"
"#;

/// A server of that definition, with the caches of who runs the tests: each tenant's own are empty at first, and
/// filling them is not what is tested. A tenant's user could not write to them.
fn server(name: &str, definition: &str) -> String {
    let home = std::env::var("HOME").expect("a home");
    let caches = format!(
        "sandbox = \"none\"\nenv = {{ npm_config_cache = \"{home}/.npm\", UV_CACHE_DIR = \"{home}/.cache/uv\" }}"
    );
    format!("[servers.{name}]\n{definition}\n{caches}\n")
}

/// The reference server, under the name `everything`.
pub(crate) fn everything() -> String {
    server("everything", EVERYTHING)
}

/// The server of PyPI, under the name `time`.
pub(crate) fn time() -> String {
    server("time", TIME)
}

/// The processes of the only worker, the first one first.
async fn worker_tree(pool: &Stdiopool) -> Vec<Process> {
    let workers = pool.workers().await;
    assert_eq!(workers.len(), 1, "{workers:?}");
    let pid = workers[0]["pid"].as_u64().expect("a pid");
    in_tree_of(u32::try_from(pid).expect("fits"))
}

async fn served(pool: &Stdiopool, name: &str) -> Client {
    let client = pool.client(name).connect().await;
    let tools = client.ask("tools/list", json!({})).await;
    assert!(
        !tools.result()["tools"]
            .as_array()
            .expect("a list")
            .is_empty()
    );
    client
}

fn stop(pool: &Stdiopool, worker: &str) {
    let stopped = pool.command(&["stop", worker]).output().expect("runs");
    assert!(stopped.status.success(), "{stopped:?}");
}

/// The tree of a worker that runs with strays, once all of it is there.
async fn tree_with_strays(pool: &Stdiopool) -> Vec<Process> {
    let _client = served(pool, "strays").await;
    let leader = worker_tree(pool).await[0];
    let tree = until("the strays run", || {
        // One of them is an orphan: it hangs off the guardian, not off the leader.
        let tree = in_tree_of(pool.pid());
        let has = |part: &str| {
            tree.iter()
                .any(|process| command_line_of(*process).contains(part))
        };
        (has("sleep 3001") && has("sleep 3002") && has("mcp-server-everything")).then_some(tree)
    });
    let groups: std::collections::BTreeSet<_> = tree
        .iter()
        .filter(|process| command_line_of(**process).starts_with("sleep 300"))
        .filter_map(|process| group_of(*process))
        .collect();
    assert_eq!(groups.len(), 2, "two groups");
    assert!(!groups.contains(&leader.pid), "neither is the leader's");
    tree.into_iter()
        .filter(|process| {
            let line = command_line_of(*process);
            !line.contains("stdiopool") && !line.contains("sp-guardian")
        })
        .collect()
}

#[tokio::test]
async fn sigterm_lets_what_is_in_flight_finish() {
    let mut pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client("demo").connect().await;
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.call("sleep", json!({"seconds": 1.5})).await }
    });
    while pool.workers().await[0]["in_flight"] != 1 {
        tokio::task::yield_now().await;
    }
    let tree = in_tree_of(pool.pid());
    pool.signal(Signal::SIGTERM);
    while !pool.log().contains("draining") {
        tokio::task::yield_now().await;
    }
    let refused = client.call("echo", json!({"message": "late"})).await;
    assert_eq!(
        (refused.status, refused.reason()),
        (StatusCode::OK, "draining")
    );
    assert_eq!(call.await.expect("no panic").text(), "slept 1.5 s");
    assert!(pool.wait().success());
    until_gone(&tree);
    assert!(pool.log().contains("stopped"));
}

#[tokio::test]
async fn a_drain_has_its_deadline() {
    let toml = "[pool]\ndrain_timeout = \"300ms\"\n".to_owned() + &demo("demo", "");
    let mut pool = Stdiopool::serve(&toml);
    let client = pool.client("demo").connect().await;
    let call = tokio::spawn(async move { client.call("sleep", json!({"seconds": 600})).await });
    while pool.workers().await[0]["in_flight"] != 1 {
        tokio::task::yield_now().await;
    }
    assert!(pool.terminate().success());
    let answer = call.await.expect("no panic");
    assert_eq!(answer.reason(), "worker_exited", "{answer:?}");
}

#[tokio::test]
async fn an_npx_tree_dies_whole_when_it_is_stopped() {
    let pool = Stdiopool::serve(&everything());
    let _client = served(&pool, "everything").await;
    let tree = worker_tree(&pool).await;
    assert!(tree.len() >= 3, "npm exec, sh and node: {tree:?}");
    stop(&pool, "w1");
    until_gone(&tree);
}

#[tokio::test]
async fn an_npx_tree_dies_whole_with_its_parent() {
    let pool = Stdiopool::serve(&everything());
    let client = served(&pool, "everything").await;
    let tree = worker_tree(&pool).await;
    assert!(tree.len() >= 3, "npm exec, sh and node: {tree:?}");
    let npm = Pid::from_raw(i32::try_from(tree[0].pid).expect("fits"));
    kill(npm, Signal::SIGKILL).expect("it lives");
    until_gone(&tree);
    // A call that is sent before stdiopool has heard of it fails with `worker_exited`, rightly.
    eventually("its end is known", async || {
        let workers = pool.workers().await;
        workers.iter().all(|worker| worker["id"] != "w1")
    })
    .await;
    // And the session goes on with another one.
    let echoed = client.call("echo", json!({"message": "again"})).await;
    assert!(echoed.text().contains("again"));
}

#[tokio::test]
async fn an_npx_tree_that_has_spread_over_groups_dies_whole_when_it_is_stopped() {
    let pool = Stdiopool::serve(&server("strays", EVERYTHING_AND_STRAYS));
    let tree = tree_with_strays(&pool).await;
    stop(&pool, "w1");
    until_gone(&tree);
}

#[tokio::test]
async fn an_npx_tree_that_has_spread_over_groups_dies_whole_with_stdiopool() {
    let mut pool = Stdiopool::serve(&server("strays", EVERYTHING_AND_STRAYS));
    let tree = tree_with_strays(&pool).await;
    let all = in_tree_of(pool.pid());
    pool.signal(Signal::SIGKILL);
    pool.wait();
    until_gone(&tree);
    until_gone(&all);
}

#[tokio::test]
async fn a_uvx_tree_dies_whole_whichever_way_it_ends() {
    let mut pool = Stdiopool::serve(&time());
    let client = served(&pool, "time").await;
    let tree = worker_tree(&pool).await;
    assert!(tree.len() >= 2, "uv and python: {tree:?}");
    stop(&pool, "w1");
    until_gone(&tree);

    let now = json!({"timezone": "Europe/Berlin"});
    client.call("get_current_time", now.clone()).await.result();
    let tree = worker_tree(&pool).await;
    let uv = Pid::from_raw(i32::try_from(tree[0].pid).expect("fits"));
    kill(uv, Signal::SIGKILL).expect("it lives");
    until_gone(&tree);

    client.call("get_current_time", now).await.result();
    let tree = in_tree_of(pool.pid());
    assert!(
        tree.len() >= 4,
        "stdiopool, guardian, uv and python: {tree:?}"
    );
    pool.signal(Signal::SIGKILL);
    pool.wait();
    until_gone(&tree);
}

#[tokio::test]
async fn who_ignores_everything_dies_with_stdiopool_all_the_same() {
    for mode in ["spawns-children", "ignores-eof-and-term"] {
        let mut pool = Stdiopool::serve(&faulty("bad", &["--mode", mode], ""));
        let _client = served(&pool, "bad").await;
        let tree = in_tree_of(pool.pid());
        assert!(tree.iter().all(|process| alive(*process)));
        pool.signal(Signal::SIGKILL);
        pool.wait();
        until_gone(&tree);
    }
}

#[tokio::test]
async fn who_ignores_everything_is_stopped_in_the_end() {
    let pool = Stdiopool::serve(&faulty("bad", &["--mode", "ignores-eof-and-term"], ""));
    let _client = served(&pool, "bad").await;
    let tree = worker_tree(&pool).await;
    stop(&pool, "w1");
    until_gone(&tree);
    until("it is said", || {
        let log = pool.log();
        log.contains("ended neither with its input nor on SIGTERM")
            .then_some(())
    });
}

#[tokio::test]
async fn a_second_stdiopool_does_not_touch_the_state_of_the_first() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let second = pool
        .command(&["serve", "--config"])
        .arg(pool.dir.path().join("pool.toml"))
        .output()
        .expect("runs");
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    // However it is wrapped.
    let said = said.replace(['\n', '│'], " ");
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains(&format!("pid {}", pool.pid())), "{said}");
    assert!(said.contains("state.dir"), "{said}");
    served(&pool, "demo").await;
}
