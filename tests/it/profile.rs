//! `stdiopool profile`, and `sandbox = "observe"`: what a server needs is found out, and suffices.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::{Command, Output};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::{BINARY, Stdiopool, eventually, open_folder, private_file, until};

/// A user that nobody is here.
const USER: u32 = 2_100_900_001;
/// Python lists the folder of a script.
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
const NONE: &str = "[auth]\nmode = \"none\"\n";
const CALLS: [&str; 6] = ["read", "write", "connect", "run", "threads", "mount"];

/// What a server reaches: a file, a folder and a port of this host, none of them its own.
struct Outside {
    dir: TempDir,
    port: u16,
}

impl Outside {
    fn new() -> Self {
        let dir = open_folder().expect("a folder");
        std::fs::create_dir(dir.path().join("in")).expect("made");
        std::fs::write(dir.path().join("in/read.txt"), "what is read").expect("written");
        let out = dir.path().join("out");
        std::fs::create_dir(&out).expect("made");
        super::support::open_to_servers(&out);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                // The client may be gone.
                let _gone = client.and_then(|mut client| client.write_all(b"hello"));
            }
        });
        Self { dir, port }
    }

    fn at(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// A server that reaches it, with more keys.
    fn server(&self, more: &str) -> String {
        let fixture = format!("{FIXTURES}/reaching.py");
        let (read, write, port) = (self.at("in/read.txt"), self.at("out"), self.port);
        format!(
            "[servers.reach]\ncommand = \"python3\"\nargs = [\"{fixture}\"]\nenv = {{ READ = {read:?}, WRITE = {write:?}, HOST = \"localhost\", PORT = \"{port}\" }}\n{more}\n"
        )
    }

    /// What it reads of files that are not its own.
    fn readable(&self) -> Vec<String> {
        let mut readable = vec![self.at("in/read.txt"), FIXTURES.to_owned()];
        readable.sort_unstable();
        readable
    }

    /// A script of all its tools.
    fn script(&self) -> String {
        let calls = CALLS.map(|tool| json!({ "tool": tool }).to_string());
        let path = self.at("calls.jsonl");
        std::fs::write(&path, calls.join("\n")).expect("written");
        path
    }
}

fn profile(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(["profile", "reach"]).args(args);
    command.current_dir(dir).env("NO_COLOR", "1");
    command
}

fn sorted(texts: &Value) -> Vec<String> {
    let texts = texts.as_array().expect("a list").iter();
    let mut texts: Vec<_> = texts.filter_map(Value::as_str).map(str::to_owned).collect();
    texts.sort_unstable();
    texts
}

fn succeeded(output: &Output) -> String {
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{why}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Calls every tool but one; the last, which a strict server may not do, is told so.
async fn assert_reaches(pool: &Stdiopool) {
    let client = pool.client("reach").connect().await;
    for (tool, text) in [
        ("read", "what is read"),
        ("write", "made"),
        ("connect", "hello"),
        ("run", "from a child"),
        ("threads", "joined"),
        ("mount", "Operation not permitted"),
    ] {
        let answer = client.call(tool, json!({})).await;
        assert_eq!(answer.text(), text, "{tool}");
    }
}

#[tokio::test]
async fn the_keys_that_are_proposed_suffice_for_a_strict_server() {
    let outside = Outside::new();
    let dir = open_folder().expect("a folder");
    // What keeps it from things now is not looked at.
    let keys = "sandbox = \"strict\"\nnetwork = \"off\"\nlimits = { pids = 20 }";
    Stdiopool::write_config(dir.path(), NONE, &outside.server(keys));
    let script = outside.script();
    let output = profile(dir.path(), &["--calls", &script])
        .output()
        .expect("runs");
    let text = succeeded(&output);
    let keys: toml::Table = text.parse().expect("TOML");
    let keys = &keys["servers"]["reach"];
    assert_eq!(keys["sandbox"].as_str(), Some("strict"));
    let paths = |key: &str| -> Vec<&str> {
        let paths = keys[key].as_array().expect("a list").iter();
        paths.filter_map(toml::Value::as_str).collect()
    };
    let mut readable = paths("readable");
    readable.sort_unstable();
    assert_eq!(readable, outside.readable());
    assert_eq!(paths("writable"), [outside.at("out")]);
    let hosts = keys["network"]["allow"].as_array().expect("a list");
    assert_eq!(hosts.len(), 1);
    assert_eq!(
        hosts[0].as_str(),
        Some(format!("localhost:{}", outside.port).as_str())
    );
    assert!(keys["limits"]["pids"].as_integer() > Some(40), "{text}");
    assert!(
        keys["limits"]["open_files"].as_integer() > Some(100),
        "{text}"
    );
    for part in ["mount (1x)", "/sh"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!dir.path().join("state/profile/0").exists());
    // The user of the profile has made it, and is another than the tenant's.
    std::fs::remove_file(outside.at("out/made.txt")).expect("it was made");
    let (_, keys) = text.split_once("[servers.reach]\n").expect("its table");
    let pool = Stdiopool::serve(&outside.server(keys));
    assert_reaches(&pool).await;
}

#[tokio::test]
async fn a_profile_has_a_user_that_no_tenant_has_and_leaves_nothing() {
    let outside = Outside::new();
    let made = outside.dir.path().join("out/made.txt");
    let owner_then_removed = || {
        let owner = made.metadata().expect("it is there").uid();
        std::fs::remove_file(&made).expect("removed");
        owner
    };
    let pool = Stdiopool::serve(&outside.server(""));
    let client = pool.client("reach").connect().await;
    client.call("write", json!({})).await;
    let tenant = owner_then_removed();
    // Beside the stdiopool that runs, by the same file.
    let script = outside.script();
    let output = profile(pool.dir.path(), &["--calls", &script, "--json"]).output();
    let said: Value = serde_json::from_str(&succeeded(&output.expect("runs"))).expect("JSON");
    assert_eq!(said["keys"]["writable"], json!([outside.at("out")]));
    assert_eq!(said["answered"], json!(CALLS));
    let profiled = owner_then_removed();
    if nix::unistd::geteuid().is_root() {
        assert_ne!(tenant, profiled);
        let left = std::fs::read_dir(pool.dir.path().join("state/profile")).expect("there");
        let left: Vec<_> = left.map(|it| it.expect("an entry").file_name()).collect();
        assert_eq!(left, ["0.lock"]);
    }
    let answer = client.call("read", json!({})).await;
    assert_eq!(answer.text(), "what is read");
}

#[test]
fn another_user_than_root_profiles_too() {
    let outside = Outside::new();
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    use std::os::unix::process::CommandExt;
    let dir = tempfile::tempdir().expect("a folder");
    Stdiopool::write_config(dir.path(), NONE, &outside.server(""));
    for path in [dir.path().to_owned(), dir.path().join("pool.toml")] {
        chown(path, Some(USER), Some(USER)).expect("given");
    }
    let script = outside.script();
    let mut command = profile(dir.path(), &["--calls", &script, "--json"]);
    command.uid(USER).gid(USER).env("HOME", dir.path());
    let said: Value =
        serde_json::from_str(&succeeded(&command.output().expect("runs"))).expect("JSON");
    // What its Python has beside, the host decides.
    let readable = sorted(&said["keys"]["readable"]);
    assert!(
        outside.readable().iter().all(|it| readable.contains(it)),
        "{readable:?}"
    );
    assert_eq!(said["keys"]["writable"], json!([outside.at("out")]));
    let host = format!("localhost:{}", outside.port);
    assert_eq!(said["keys"]["network"], json!({ "allow": [host] }));
}

#[tokio::test]
async fn a_live_session_is_recorded_until_it_is_interrupted() {
    let outside = Outside::new();
    let dir = open_folder().expect("a folder");
    Stdiopool::write_config(dir.path(), NONE, &outside.server(""));
    let told = dir.path().join("told");
    let mut command = profile(dir.path(), &["--live", "--json"]);
    command.stderr(std::fs::File::create(&told).expect("made"));
    command.stdout(std::process::Stdio::piped());
    #[allow(clippy::disallowed_methods, reason = "the program under test")]
    let child = command.spawn().expect("runs");
    let url = until("it says where", || {
        let told = std::fs::read_to_string(&told).ok()?;
        let (_, rest) = told.split_once("MCP at ")?;
        rest.split_once('\n').map(|(url, _)| url.to_owned())
    });
    let client = super::support::Client::new(url).connect().await;
    assert_eq!(client.call("read", json!({})).await.text(), "what is read");
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, Signal::SIGINT).expect("it runs");
    let said = succeeded(&child.wait_with_output().expect("ends"));
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(sorted(&said["keys"]["readable"]), outside.readable());
    assert_eq!(said["keys"]["network"], "off");
}

/// What is recorded goes slower, and whoever profiles says how long to wait.
#[test]
fn a_server_is_waited_for_longer_than_in_service() {
    let outside = Outside::new();
    let dir = open_folder().expect("a folder");
    let late = format!(
        "import runpy, time\ntime.sleep(3)\nrunpy.run_path('{FIXTURES}/reaching.py', run_name='__main__')"
    );
    let server = outside.server("start_timeout = \"1s\"");
    let args = format!("args = [\"{FIXTURES}/reaching.py\"]");
    let server = server.replace(&args, &format!("args = [\"-c\", {late:?}]"));
    Stdiopool::write_config(
        dir.path(),
        &format!("{NONE}[pool]\nqueue_timeout = \"1s\"\n"),
        &server,
    );
    let output = profile(dir.path(), &["--json"]).output().expect("runs");
    let said: Value = serde_json::from_str(&succeeded(&output)).expect("JSON");
    assert_eq!(said["answered"], json!(["tools/list"]));
}

#[test]
fn what_cannot_be_profiled_is_said() {
    let dir = open_folder().expect("a folder");
    let server = "[servers.reach]\ncommand = \"there-is-no-such-program\"\n";
    Stdiopool::write_config(dir.path(), NONE, server);
    let failed = |args: &[&str]| {
        let output = profile(dir.path(), args).output().expect("runs");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let why = failed(&[]);
    assert!(why.contains("there-is-no-such-program"), "{why}");
    std::fs::write(dir.path().join("calls"), "{}").expect("written");
    let why = failed(&["--calls", "calls"]);
    assert!(why.contains("calls: line 1"), "{why}");
    std::fs::write(
        dir.path().join("pool.toml"),
        "[servers.other]\ncommand = \"true\"\n",
    )
    .expect("written");
    let why = failed(&[]);
    assert!(why.contains("no server `reach`; it has other"), "{why}");
}

#[tokio::test]
async fn an_observed_server_is_refused_nothing_and_what_strict_would_refuse_is_told() {
    let outside = Outside::new();
    let writable = format!("writable = [{:?}]", outside.at("out"));
    let keys = format!("sandbox = \"observe\"\n{writable}");
    let pool = Stdiopool::serve(&outside.server(&keys));
    let client = pool.client("reach").connect().await;
    for tool in ["read", "read", "write", "run", "mount"] {
        client.call(tool, json!({})).await;
    }
    let of = |kind: &str| format!("stdiopool_observed_total{{kind=\"{kind}\",server=\"reach\"}}");
    eventually("both are counted", async || {
        let metrics = pool.metrics().await;
        metrics.contains(&of("read")) && metrics.contains(&of("call"))
    })
    .await;
    // Once, however often; and not what it may.
    assert_eq!(pool.metric(&of("call")).await, 1.0);
    assert!(!pool.metrics().await.contains(&of("write")));
    let log = pool.log();
    for part in [
        &outside.at("in/read.txt"),
        "`servers.reach.readable`",
        "mount",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert_eq!(log.matches(&outside.at("in/read.txt")).count(), 1, "{log}");
    // And whoever looks at its workers sees that it is observed, and the keys that are missing.
    let said = |args: &[&str]| {
        let output = pool.command(args).output().expect("runs");
        succeeded(&output);
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let ps = said(&["ps"]);
    for part in [
        "`reach` is observed",
        "for its `readable`",
        "what no key gives",
        "stdiopool logs --server reach",
    ] {
        assert!(ps.contains(part), "{part}: {ps}");
    }
    let logs = said(&["logs", "--server", "reach"]);
    for part in [
        format!("add to `readable`: {}", outside.at("in/read.txt")),
        "mount (1x)".to_owned(),
    ] {
        assert!(logs.contains(&part), "{part}: {logs}");
    }
    assert!(!logs.contains("add to `writable`"), "{logs}");
    let servers = pool.admin_json("servers").await;
    let readable = &servers[0]["observed"]["readable"];
    assert!(
        sorted(readable).contains(&outside.at("in/read.txt")),
        "{servers}"
    );
}

#[tokio::test]
async fn a_tenant_of_the_store_is_profiled_with_its_settings_and_secrets() {
    let outside = Outside::new();
    let dir = open_folder().expect("a folder");
    private_file(&dir.path().join("state.key"), "01".repeat(32));
    let (write, port) = (outside.at("out"), outside.port);
    let server = format!(
        "key = {{ file = \"state.key\" }}\n[servers.reach]\ncommand = \"python3\"\nargs = [\"{FIXTURES}/reaching.py\"]\nenv = {{ READ = \"${{config.read}}\", WRITE = {write:?}, HOST = \"${{secret.host}}\", PORT = \"{port}\" }}\n"
    );
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"token\"\n", &server);
    let config = dir.path().join("pool.toml").display().to_string();
    let pool = Stdiopool::run(dir, &["--config".to_owned(), config], &[]);
    let settings = format!("reach={}", json!({ "read": outside.at("in/read.txt") }));
    let host = pool.dir.path().join("host");
    std::fs::write(&host, "localhost").expect("written");
    let host = host.display().to_string();
    for args in [
        ["tenant", "add", "acme", "--set", &settings].as_slice(),
        &["secret", "set", "acme", "host", "--from", &host],
    ] {
        succeeded(&pool.command(args).output().expect("runs"));
    }
    let script = outside.script();
    let profiled = |tenant: &str| {
        let args = ["--tenant", tenant, "--calls", &script, "--json"];
        profile(pool.dir.path(), &args).output().expect("runs")
    };
    // Beside the stdiopool that has the store.
    let said: Value = serde_json::from_str(&succeeded(&profiled("acme"))).expect("JSON");
    assert_eq!(sorted(&said["keys"]["readable"]), outside.readable());
    let host = format!("localhost:{}", outside.port);
    assert_eq!(said["keys"]["network"], json!({ "allow": [host] }));
    let none = profiled("nobody");
    assert_eq!(none.status.code(), Some(1));
    let why = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(
        why.contains("no tenant `nobody`") && why.contains("state store"),
        "{why}"
    );
}
