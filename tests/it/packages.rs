//! The package cache: real packages, started directly; and what comes of installs that fail, of new versions, of a shutdown.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::npm_script::{Npm, prefetch, version_of, who};
use super::support::{PATIENCE, Stdiopool, alive, command_line_of, eventually, in_tree_of, until};

/// A folder with that config, its packages installed.
fn installed(toml: &str) -> TempDir {
    let dir = crate::support::open_folder().expect("a folder");
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", toml);
    prefetch(dir.path());
    dir
}

fn serve(dir: TempDir) -> Stdiopool {
    let config = dir.path().join("pool.toml").display().to_string();
    Stdiopool::run(dir, &["--config".to_owned(), config], &[])
}

async fn pid_of(pool: &Stdiopool, server: &str) -> u32 {
    let workers = pool.workers().await;
    let own = workers.iter().find(|worker| worker["server"] == server);
    let pid = own.unwrap_or_else(|| panic!("no worker: {workers:?}"))["pid"].as_u64();
    u32::try_from(pid.expect("it runs")).expect("a pid")
}

#[tokio::test]
async fn real_packages_are_one_process_each_with_the_arguments_they_were_given() {
    let toml = r#"
[pool]
queue_timeout = "120s"
[servers.files]
command = "npx"
args = ["-y", "@modelcontextprotocol/server-filesystem@2026.8.31", "${dir.data}"]
[servers.time]
command = "uvx"
args = ["mcp-server-time@2026.10.19", "--local-timezone", "Europe/Berlin"]
[servers.as_is]
command = "npx"
args = ["-y", "@modelcontextprotocol/server-filesystem@2026.8.31", "${dir.data}"]
env = { npm_config_cache = "USERS/.npm" }
start_timeout = "120s"
launch = "as-is"
sandbox = "none"
"#;
    // Its tenant's own cache is empty at first, and filling it is not what is tested. In that of who runs the tests only
    // they write.
    let toml = toml.replace("USERS", &std::env::var("HOME").expect("a home"));
    let pool = serve(installed(&toml));
    for (server, program, last) in [
        (
            "files",
            "node_modules/.bin/mcp-server-filesystem",
            "state/data/default/files",
        ),
        ("time", "venv/bin/mcp-server-time", "Europe/Berlin"),
    ] {
        let client = pool.client(server).connect().await;
        let tools = client.ask("tools/list", json!({})).await;
        assert!(tools.result()["tools"].is_array(), "{tools:?}");
        let tree = in_tree_of(pid_of(&pool, server).await);
        let line = command_line_of(tree[0]).trim_end().to_owned();
        assert_eq!(tree.len(), 1, "{line}");
        assert!(line.contains(program) && line.ends_with(last), "{line}");
    }
    let files = pool.client("files").connect().await;
    let allowed = files.call("list_allowed_directories", json!({})).await;
    assert!(
        allowed.text().ends_with("data/default/files"),
        "{allowed:?}"
    );
    let _as_is = pool.client("as_is").connect().await;
    let tree = in_tree_of(pid_of(&pool, "as_is").await);
    assert!(tree.len() > 1, "npm stays beside the server");
    assert!(!pool.log().contains("as written"), "{}", pool.log());
}

#[tokio::test]
async fn the_program_has_the_arguments_environment_and_folder_of_the_command() {
    let npm = Npm::new();
    let words = ["-y", "thing@1.0.0", "--loud", "two words", ""];
    let pool = Stdiopool::serve(&format!(
        "{}{}",
        npm.server("direct", &words, ""),
        npm.server("written", &words, "launch = \"as-is\"")
    ));
    let direct = who(&pool.client("direct").connect().await).await;
    let written = who(&pool.client("written").connect().await).await;
    assert_eq!(direct["environment"]["VERSION"], "1.0.0");
    assert_eq!(written["environment"]["VERSION"], "npx");
    assert_eq!(direct["arguments"], json!(["--loud", "two words", ""]));
    let cwd = |who: &Value| who["cwd"].as_str().expect("a folder").to_owned();
    assert!(cwd(&direct).ends_with("data/default/direct"));
    let variables = |who: &Value| {
        let all = who["environment"].as_object().expect("an object").clone();
        let own = [
            "HOME",
            "TMPDIR",
            "PATH",
            "VERSION",
            "NODE_COMPILE_CACHE",
            "npm_config_cache",
            "UV_CACHE_DIR",
            "UV_TOOL_DIR",
            "UV_PYTHON_INSTALL_DIR",
            // Of npm itself, where it runs what is written.
            "npm_config_loglevel",
            "PWD",
            "OLDPWD",
            "_",
        ];
        let rest = all
            .into_iter()
            .filter(|(name, _)| !own.contains(&name.as_str()));
        rest.collect::<Vec<_>>()
    };
    assert_eq!(variables(&direct), variables(&written));
    let path = direct["environment"]["PATH"].as_str().expect("a PATH");
    let written_path = written["environment"]["PATH"].as_str().expect("a PATH");
    assert!(
        path.ends_with(&format!("node_modules/.bin:{written_path}")),
        "{path}"
    );
}

#[tokio::test]
async fn whoever_asks_first_a_package_is_installed_once() {
    let npm = Npm::new();
    npm.put("hold", "");
    let words = ["-y", "thing@1.0.0"];
    let servers: String = ["a", "b"].map(|name| npm.server(name, &words, "")).concat();
    let pool = Stdiopool::serve(&servers);
    let clients = ["anna", "bob", "cleo", "dan"]
        .into_iter()
        .flat_map(|tenant| ["a", "b"].map(|server| pool.client_of(tenant, server)));
    let connecting: Vec<_> = clients
        .map(|client| tokio::spawn(client.connect()))
        .collect();
    // Another process wants it too.
    let dir = pool.dir.path().to_owned();
    let other = std::thread::spawn(move || prefetch(&dir));
    eventually("npm is asked", async || npm.asked("install") > 0).await;
    npm.remove("hold");
    for client in connecting {
        assert_eq!(version_of(&client.await.expect("connects")).await, "1.0.0");
    }
    let said = other.join().expect("ends well");
    assert!(said.contains("a: thing@1.0.0"), "{said}");
    assert_eq!((npm.asked("install"), npm.asked("ci")), (1, 1));
    let events =
        pool.metric("stdiopool_package_installs_total{outcome=\"installed\",server=\"a\"}");
    let of_b = pool.metric("stdiopool_package_installs_total{outcome=\"installed\",server=\"b\"}");
    assert!(events.await + of_b.await <= 1.0);
}

#[tokio::test]
async fn what_cannot_be_installed_is_run_as_written_and_it_is_said_why() {
    let npm = Npm::new();
    npm.put("broken", "");
    let pool = Stdiopool::serve(&format!(
        "{}{}",
        npm.server("thing", &["-y", "thing@1.0.0"], ""),
        npm.server("git", &["-y", "github:a/b"], "")
    ));
    for server in ["thing", "git"] {
        let client = pool.client(server).connect().await;
        assert_eq!(version_of(&client).await, "npx");
    }
    let log = pool.log();
    assert!(
        log.contains("package thing@1.0.0 cannot be installed"),
        "{log}"
    );
    assert!(log.contains("no such package"), "{log}");
    assert!(
        log.contains("`github:a/b` is not the name of a package"),
        "{log}"
    );
    let warned = warnings_of(&log, "thing");
    assert!(
        warned.len() == 1 && warned[0].contains("no such package"),
        "{log}"
    );
    // Of `git` it is known before it is started, too.
    assert_eq!(log.matches("is run as written").count(), 3, "{log}");
    let failed = "stdiopool_package_installs_total{outcome=\"install_failed\",server=\"thing\"}";
    assert_eq!(pool.metric(failed).await, 1.0);
    let left = fs::read_dir(pool.dir.path().join("state/packages/entries")).expect("there");
    assert_eq!(left.count(), 0, "nothing half made is left");
}

/// The warnings of a server in that log.
fn warnings_of<'l>(log: &'l str, server: &str) -> Vec<&'l str> {
    let server = format!("server={server}");
    let warnings = log.lines().filter(|line| line.contains(" WARN "));
    warnings.filter(|line| line.contains(&server)).collect()
}

/// One fault, one warning: what npm said, and what came of running it as written.
#[tokio::test]
async fn a_package_that_there_is_none_of_is_warned_of_once_for_each_start() {
    let npm = Npm::new();
    npm.put("broken", "");
    npm.put("npx", "#!/bin/sh\necho gone >&2; exit 3\n");
    let pool = Stdiopool::serve(&npm.server("thing", &["-y", "thing@1.0.0"], ""));
    let refused = pool
        .client("thing")
        .try_initialize("2025-11-25", json!({}))
        .await;
    assert_eq!(refused.reason(), "start_failed", "{refused:?}");
    let log = pool.log();
    let warned = warnings_of(&log, "thing");
    let [warned] = warned[..] else {
        panic!("{log}");
    };
    for part in [
        "no such package",
        "run as written instead",
        "exited with status 3",
        "gone",
    ] {
        assert!(warned.contains(part), "{part}: {warned}");
    }
}

#[tokio::test]
async fn another_version_serves_new_work_and_the_old_one_finishes_its_own() {
    let npm = Npm::new();
    let pool = Stdiopool::serve(&format!(
        "[launch]\nrefresh = \"1s\"\n{}{}{}",
        // With one worker at most, the new version would wait for the old one's end.
        npm.server("moves", &["-y", "thing"], "max_workers_per_key = 2"),
        npm.server("stays", &["-y", "thing@1.0.0"], ""),
        npm.server("pinned", &["-y", "thing"], "pin = true"),
    ));
    let client = pool.client("moves").connect().await;
    let [stays, pinned] = ["stays", "pinned"].map(|server| pool.client(server).connect());
    let (stays, pinned) = (stays.await, pinned.await);
    assert_eq!(version_of(&client).await, "1.0.0");
    let old = in_tree_of(pid_of(&pool, "moves").await)[0];
    let slow = json!({"name": "sleep", "arguments": {"seconds": 5, "steps": 50}, "_meta": {"progressToken": "t"}});
    let slow = json!({"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": slow});
    let mut under_way = client.stream(&slow).await;
    npm.put("version", "2.0.0");
    eventually("new work goes to the new version", async || {
        version_of(&client).await == "2.0.0"
    })
    .await;
    assert!(alive(old), "the old one has work in flight");
    let answer = tokio::time::timeout(PATIENCE, async {
        loop {
            let message = under_way.next().await.expect("an answer");
            if message["id"] == 9 {
                break message;
            }
        }
    });
    let answer = answer.await.expect("in time");
    assert!(answer["result"].is_object(), "{answer}");
    until("the old one has gone", || (!alive(old)).then_some(()));
    for client in [&stays, &pinned] {
        assert_eq!(version_of(client).await, "1.0.0");
    }
    // Another host, with the same lock file, installs the same.
    let lock = fs::read_to_string(pool.dir.path().join("pool.lock")).expect("written");
    assert!(
        lock.contains("version = \"1.0.0\"") && !lock.contains("2.0.0"),
        "{lock}"
    );
    let toml = npm.server("pinned", &["-y", "thing"], "pin = true");
    let dir = crate::support::open_folder().expect("a folder");
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", &toml);
    fs::write(dir.path().join("pool.lock"), lock).expect("written");
    let said = prefetch(dir.path());
    // `ci` of the script takes the file's version; what counts is that none was asked for.
    assert!(said.contains("fetched, version 1.0.0"), "{said}");
}

#[tokio::test]
async fn an_install_under_way_does_not_hold_up_a_shutdown() {
    let npm = Npm::new();
    npm.put("hold", "");
    let mut pool = Stdiopool::serve(&npm.server("thing", &["-y", "thing@1.0.0"], ""));
    let client = pool.client("thing");
    let waiting = tokio::spawn(async move { client.try_initialize("2025-11-25", json!({})).await });
    eventually("npm is asked", async || npm.asked("install") > 0).await;
    let begun = std::time::Instant::now();
    assert!(pool.terminate().success());
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(waiting.await.expect("answered").reason(), "draining");
    let is_npm = |line: &str| line.contains(&npm.folder().display().to_string());
    let left = in_tree_of(std::process::id());
    assert!(
        !left
            .iter()
            .any(|process| is_npm(&command_line_of(*process)))
    );
}
