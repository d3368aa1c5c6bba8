//! The package cache: real packages, started directly; and, with an npm that is a script, what no
//! registry can be told to do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::stateless::{ask, params, send};
use super::support::{
    BINARY, Client, Events, PATIENCE, Stdiopool, alive, command_line_of, eventually, in_tree_of,
    until,
};

/// Installs before anyone waits.
fn prefetch(dir: &Path) -> String {
    let mut command = assert_cmd::Command::new(BINARY);
    command
        .arg("prefetch")
        .arg("--config")
        .arg(dir.join("pool.toml"));
    let done = command.assert().success();
    String::from_utf8_lossy(&done.get_output().stdout).into_owned()
}

/// A folder with that config, its packages installed.
fn installed(toml: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
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
"#;
    // Its tenant's own cache is empty at first, and filling it is not what is tested.
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

/// An npm that installs the demo server, in the version that the file `version` holds, and notes what
/// it is asked in `asked`. With a file `hold` it waits until that is gone; with a file `broken` it
/// fails.
struct Npm(TempDir);

impl Npm {
    fn new() -> Self {
        let npm = Self(tempfile::tempdir().expect("a folder"));
        let here = npm.0.path().display();
        let scripts = [
            (
                "npm",
                format!(
                    r#"#!/bin/sh
echo "$1" >> {here}/asked
if [ "$1" = root ]; then echo {here}/none; exit; fi
while [ -e {here}/hold ]; do sleep 0.02; done
if [ -e {here}/broken ]; then echo "no such package" >&2; exit 1; fi
version=$(cat {here}/version)
case $1 in
install)
    echo '{{"packages":{{"":{{"dependencies":{{"thing":"'$version'"}}}},"node_modules/thing":{{"version":"'$version'"}}}}}}' > package-lock.json ;;
ci)
    mkdir -p node_modules/.bin node_modules/thing
    echo '{{"bin":{{"thing":"x"}}}}' > node_modules/thing/package.json
    printf '#!/bin/sh\nVERSION=%s exec {BINARY} demo-server "$@"\n' $version > node_modules/.bin/thing
    chmod +x node_modules/.bin/thing ;;
esac
"#
                ),
            ),
            (
                "npx",
                format!("#!/bin/sh\nVERSION=npx exec {BINARY} demo-server\n"),
            ),
        ];
        for (name, text) in scripts {
            let path = npm.0.path().join(name);
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
        }
        npm.put("version", "1.0.0");
        npm
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).expect("written");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.0.path().join(name)).expect("it was there");
    }

    /// How often it was asked for that.
    fn asked(&self, what: &str) -> usize {
        let asked = fs::read_to_string(self.0.path().join("asked")).unwrap_or_default();
        asked.lines().filter(|line| *line == what).count()
    }

    /// A server that runs `npx WORDS` with it; `more` is added.
    fn server(&self, name: &str, words: &[&str], more: &str) -> String {
        let path = std::env::var("PATH").expect("a PATH");
        let path = format!("{}:{path}", self.0.path().display());
        format!(
            "[servers.{name}]\ncommand = \"npx\"\nargs = {words:?}\nenv = {{ PATH = {path:?} }}\n{more}\n"
        )
    }
}

/// What the worker was started as, by its own account.
async fn who(client: &Client) -> Value {
    let said = client.call("whoami", json!({})).await;
    serde_json::from_str(said.text()).expect("JSON")
}

async fn version_of(client: &Client) -> String {
    let who = who(client).await;
    who["environment"]["VERSION"]
        .as_str()
        .expect("set by the script")
        .to_owned()
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

/// Two steps of the install of `thing`, told under the token `t`.
async fn hears_of_the_install(events: &mut Events) {
    let mut last = 0;
    for _ in 0..2 {
        let progress = events.next().await.expect("progress");
        assert_eq!(progress["method"], "notifications/progress", "{progress}");
        assert_eq!(progress["params"]["progressToken"], "t", "{progress}");
        let message = progress["params"]["message"].as_str().expect("words");
        assert!(message.contains("thing@1.0.0"), "{message}");
        let step = progress["params"]["progress"].as_u64().expect("a number");
        assert!(step > last, "{progress}");
        last = step;
    }
}

/// The response to the request of that id.
async fn answer_of(events: &mut Events, id: Value) -> Value {
    loop {
        let message = events.next().await.expect("an answer");
        if message["id"] == id {
            return message;
        }
    }
}

#[tokio::test]
async fn who_waits_for_an_install_is_told_how_far_it_is_or_to_come_again() {
    let npm = Npm::new();
    npm.put("hold", "");
    let server = npm.server("thing", &["-y", "thing@1.0.0"], "start_timeout = \"20s\"");
    let pool = Stdiopool::serve(&format!("[pool]\nqueue_timeout = \"500ms\"\n{server}"));
    let refused = pool
        .client("thing")
        .try_initialize("2025-11-25", json!({}))
        .await;
    assert_eq!(refused.status, StatusCode::OK, "{refused:?}");
    assert_eq!(refused.reason(), "installing");
    assert!(refused.message().contains("thing@1.0.0"), "{refused:?}");
    assert!(refused.headers.contains_key("retry-after"));
    npm.remove("hold");
    let client = pool.client("thing");
    eventually("it is installed", async || {
        let opened = client.try_initialize("2025-11-25", json!({})).await;
        opened.response().get("result").is_some()
    })
    .await;
    let client = client.connect().await;
    // As at the first start after a restart: a session, and no package.
    let cache = pool.dir.path().join("state/packages");
    fs::remove_dir_all(cache.join("refs")).expect("removed");
    fs::create_dir(cache.join("refs")).expect("made");
    npm.put("hold", "");
    npm.put("version", "1.0.1");
    let pool = pool.restarted_after(nix::sys::signal::Signal::SIGTERM);
    let mut client = client;
    client.url = format!("{}/thing/mcp", pool.url);
    let call = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {
        "name": "whoami", "arguments": {}, "_meta": {"progressToken": "t"},
    }});
    let mut events = client.stream(&call).await;
    hears_of_the_install(&mut events).await;
    npm.remove("hold");
    let answer = answer_of(&mut events, json!(7)).await;
    let text = answer["result"]["content"][0]["text"].as_str();
    assert!(text.unwrap_or_default().contains("1.0.1"), "{answer}");
}

#[tokio::test]
async fn slow_installs_of_one_tenant_keep_no_other_waiting() {
    let (slow, quick) = (Npm::new(), Npm::new());
    slow.put("hold", "");
    let names = ["a", "b", "c"];
    let held: String = names
        .iter()
        .map(|name| slow.server(name, &["-y", &format!("thing@1.0.0-{name}")], ""))
        .collect();
    let other = quick.server("other", &["-y", "thing@1.0.0"], "");
    let pool = Stdiopool::serve(&format!("{held}{other}"));
    let waiting: Vec<_> = names
        .map(|name| tokio::spawn(pool.client_of("anna", name).connect()))
        .into();
    eventually(
        "hers are under way, as many as there are places",
        async || slow.asked("install") == 2,
    )
    .await;
    let bob = pool.client_of("bob", "other").connect().await;
    assert_eq!(version_of(&bob).await, "1.0.0");
    assert_eq!(slow.asked("install"), 2, "her third waits");
    slow.remove("hold");
    for client in waiting {
        assert_eq!(version_of(&client.await.expect("connects")).await, "1.0.0");
    }
}

#[tokio::test]
async fn at_the_address_of_all_servers_an_install_is_told_of_too() {
    let npm = Npm::new();
    npm.put("hold", "");
    let server = npm.server("thing", &["-y", "thing@1.0.0"], "start_timeout = \"20s\"");
    let pool = Stdiopool::serve(&server);
    let mut client = pool.client("thing");
    client.url = format!("{}/mcp", pool.url);
    let client = client.connect().await;
    let call = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {
        "name": "thing__whoami", "arguments": {}, "_meta": {"progressToken": "t"},
    }});
    let mut events = client.stream(&call).await;
    let progress = events.next().await.expect("progress");
    assert_eq!(progress["params"]["progressToken"], "t", "{progress}");
    let message = progress["params"]["message"].as_str().expect("words");
    assert!(message.contains("thing@1.0.0"), "{message}");
    npm.remove("hold");
    let answer = answer_of(&mut events, json!(7)).await;
    assert!(answer["result"]["content"].is_array(), "{answer}");
}

#[tokio::test]
async fn at_the_address_of_all_servers_who_connects_during_an_install_hears_of_it_at_once() {
    let npm = Npm::new();
    npm.put("hold", "");
    let server = npm.server("thing", &["-y", "thing@1.0.0"], "start_timeout = \"20s\"");
    // Shorter than the install: whoever asks for the server itself has long been told to come again.
    let pool =
        format!("[pool]\nqueue_timeout = \"500ms\"\n[aggregate]\nlist_timeout = \"60s\"\n{server}");
    let pool = Stdiopool::serve(&pool);
    let mut client = pool.client("thing");
    client.url = format!("{}/mcp", pool.url);
    let client = client.connect().await;
    let mut events = client.listen().await;
    let listed = client.ask("tools/list", json!({})).await;
    let missing = &listed.result()["_meta"]["dev.stdiopool/missing"][0];
    assert_eq!(missing["server"], "thing", "{listed:?}");
    let why = missing["why"].as_str().unwrap_or_default();
    assert!(why.contains("`thing@1.0.0` is being installed"), "{why}");
    // A minute is not waited for, nor is the half second that a request has.
    let again = std::time::Instant::now();
    client.ask("tools/list", json!({})).await.result();
    assert!(again.elapsed() < std::time::Duration::from_secs(10));
    npm.remove("hold");
    let told = events.next().await.expect("a message");
    assert_eq!(told["method"], "notifications/tools/list_changed");
    let listed = client.ask("tools/list", json!({})).await;
    assert!(
        listed.result().to_string().contains("thing__whoami"),
        "{listed:?}"
    );
}

#[tokio::test]
async fn clients_without_sessions_are_told_of_an_install_too() {
    for (path, tool) in [("thing/mcp", "whoami"), ("mcp", "thing__whoami")] {
        let npm = Npm::new();
        npm.put("hold", "");
        let server = npm.server("thing", &["-y", "thing@1.0.0"], "start_timeout = \"20s\"");
        let pool = Stdiopool::serve(&format!("[pool]\nqueue_timeout = \"500ms\"\n{server}"));
        let mut client = pool.client("thing");
        client.url = format!("{}/{path}", pool.url);
        let mut call = params(json!({"name": tool, "arguments": {}}), &json!({}));
        let (status, _, refused) = ask(&client, "tools/call", call.clone()).await;
        assert_eq!(status, StatusCode::OK, "{refused}");

        call["_meta"]["progressToken"] = json!("t");
        let mut events = client.stream_of(send(&client, "tools/call", call).await);
        hears_of_the_install(&mut events).await;
        npm.remove("hold");
        let answer = answer_of(&mut events, json!("r1")).await;
        assert!(answer["result"]["content"].is_array(), "{answer}");
        for (outcome, count) in [("ok", 1.0), ("failed", 1.0)] {
            let labels = format!("method=\"tools/call\",outcome=\"{outcome}\",server=\"thing\"");
            let counter = format!("stdiopool_requests_total{{{labels}}}");
            assert_eq!(pool.metric(&counter).await, count, "{outcome}");
        }
    }
}

#[tokio::test]
async fn a_start_that_fails_after_an_install_is_told_in_the_same_stream() {
    let npm = Npm::new();
    npm.put("hold", "");
    npm.put("broken", "");
    npm.put("npx", "#!/bin/sh\nexit 3\n");
    let pool = Stdiopool::serve(&npm.server("thing", &["-y", "thing@1.0.0"], ""));
    let client = pool.client("thing");
    let mut call = params(json!({"name": "whoami", "arguments": {}}), &json!({}));
    call["_meta"]["progressToken"] = json!("t");
    let mut events = client.stream_of(send(&client, "tools/call", call).await);
    events.next().await.expect("progress");
    npm.remove("hold");
    let last = answer_of(&mut events, json!("r1")).await;
    assert_eq!(last["error"]["data"]["reason"], "start_failed", "{last}");
    assert!(events.next().await.is_none(), "nothing follows");
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
    // Of `git` it is known before it is started, too.
    assert_eq!(log.matches("is run as written").count(), 3, "{log}");
    let failed = "stdiopool_package_installs_total{outcome=\"install_failed\",server=\"thing\"}";
    assert_eq!(pool.metric(failed).await, 1.0);
    let left = fs::read_dir(pool.dir.path().join("state/packages/entries")).expect("there");
    assert_eq!(left.count(), 0, "nothing half made is left");
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
    let dir = tempfile::tempdir().expect("a folder");
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
    let is_npm = |line: &str| line.contains(&npm.0.path().display().to_string());
    let left = in_tree_of(std::process::id());
    assert!(
        !left
            .iter()
            .any(|process| is_npm(&command_line_of(*process)))
    );
}
