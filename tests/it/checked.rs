//! What `check` refuses, and how it says so; the examples of `--help`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::ended::ran;
use super::support::{BINARY, Stdiopool, demo, eventually};

/// What `check` says of a file, and whether it takes it.
fn check(dir: &Path, toml: &str, flags: &[&str]) -> (bool, String) {
    std::fs::write(dir.join("pool.toml"), toml).expect("written");
    let output = Command::new(BINARY)
        .arg("check")
        .args(flags)
        .current_dir(dir)
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), said)
}

#[test]
fn mistakes_are_told_with_what_was_meant() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = |more: &str| format!("[servers.x]\n{more}\n");
    for (toml, told) in [
        (
            server("command = \"npx\"\nargs = [\"-y @x/y\"]"),
            "`args[0]` holds a space; did you mean [\"-y\", \"@x/y\"]?",
        ),
        (
            server("command = \"npx -y x\""),
            "`command` is one program; put `-y x` into `args`",
        ),
        (
            server("command = \"/usr/bin/npx -y x\""),
            "`command` is one program; put `-y x` into `args`",
        ),
        (
            format!(
                "[http]\nlisten = \"127.0.0.1:7070\"\n[admin]\nlisten = \"127.0.0.1:7070\"\n{}",
                server("command = \"sh\"")
            ),
            "`http.listen` and `admin.listen` are the same",
        ),
        (
            format!(
                "[admin]\nlisten = \"0.0.0.0:8080\"\ntoken = \"let-me-in\"\n{}",
                server("command = \"sh\"")
            ),
            "have the same port",
        ),
        (
            server("command = \"sh\"\n[servers.x.config.properties.repo]\ntype = \"str\""),
            "`type` must be string, number, integer, boolean, array, object or null, not \"str\"",
        ),
        (
            server("command = \"no-such-program\""),
            "command `no-such-program` not found in",
        ),
        (
            server("command = \"sh\"\ncwd = \"nowhere\""),
            "`servers.x.cwd`: there is no folder",
        ),
        (
            server("command = \"cat\"\nargs = [\"~/notes\"]"),
            "`servers.x.args[0]` begins with `~/`",
        ),
        (
            server("command = \"cat\"\nargs = [\"sk-proj-0123456789abcdefghij\"]"),
            "`servers.x.args[0]` holds what looks like a credential (\"sk-…\")",
        ),
        (
            format!(
                "{}[policy.p]\nservers = [\"y\"]\n",
                server("command = \"sh\"")
            ),
            "`policy.p.servers` has \"y\", which matches no server",
        ),
        (
            format!(
                "[state]\nkey = {{ file = \"gone.key\" }}\n{}",
                server("command = \"sh\"")
            ),
            "gone.key: No such file",
        ),
        (
            format!(
                "[tenants.a]\nsecrets.k = {{ file = \"gone\" }}\n{}",
                server("command = \"sh\"\nenv = { K = \"${secret.k}\" }")
            ),
            "`tenants.a.secrets.k`: ",
        ),
    ] {
        let (ok, said) = check(dir.path(), &toml, &[]);
        assert!(!ok && said.contains(told), "{toml}\n{said}");
        assert!(said.contains("pool.toml: 1 mistake\n"), "{toml}\n{said}");
        assert!(!said.contains("0123456789"), "{said}");
    }
}

#[test]
fn a_key_that_others_can_read_is_refused_and_a_program_with_a_space_is_none() {
    let dir = tempfile::tempdir().expect("a folder");
    let key = dir.path().join("state.key");
    std::fs::write(&key, "0".repeat(64)).expect("written");
    let mode = |mode| {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).expect("changed");
    };
    let program = dir.path().join("my server");
    std::fs::write(&program, "#!/bin/sh\n").expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("changed");
    let toml = "[state]\nkey = { file = \"state.key\" }\n[servers.x]\ncommand = \"./my server\"\nargs = [\"a b\", \"-x y\"]\n";
    mode(0o644);
    let (ok, said) = check(dir.path(), toml, &[]);
    assert!(
        !ok && said.contains("can be read by others (mode 0644)"),
        "{said}"
    );
    mode(0o600);
    let (ok, said) = check(dir.path(), toml, &[]);
    assert!(ok, "{said}");
    // Elsewhere than on the host where it is served, only the file can be checked.
    let elsewhere = "[servers.x]\ncommand = \"no-such-program\"\n";
    let (ok, said) = check(dir.path(), elsewhere, &["--file-only"]);
    assert!(ok, "{said}");
}

#[tokio::test]
async fn a_rule_that_matches_no_tool_is_told_and_the_tool_that_was_meant_is_not_called() {
    let toml = demo(
        "demo",
        "bind.ehco = { message = \"bound\" }\ntools.deny = [\"delete_*\"]",
    );
    let pool = Stdiopool::serve(&toml);
    let (ok, said, why) = ran(&pool, &live(&pool));
    assert!(
        ok && why.contains("nobody has listed the tools of server `demo` yet"),
        "{said}{why}"
    );
    let client = pool.client("demo").connect().await;
    client.ask("tools/list", json!({})).await.result();
    let refused = client.call("echo", json!({"message": "mine"})).await;
    assert_eq!(refused.reason(), "config_invalid", "{refused:?}");
    assert!(
        refused.message().contains("`servers.demo.bind.ehco`"),
        "{}",
        refused.message()
    );
    // Others go on.
    assert_eq!(
        client.call("add", json!({"a": 1, "b": 2})).await.text(),
        "3"
    );
    let told = [
        "`servers.demo.bind.ehco` matches no tool of the server; did you mean `echo`?",
        "`servers.demo.tools.deny` has \"delete_*\", which matches no tool",
    ];
    let (ok, said, why) = ran(&pool, &live(&pool));
    assert!(!ok, "{said}{why}");
    let (_, events, _) = ran(&pool, &["events", "--server", "demo"]);
    for told in told {
        let log = pool.log();
        let warned = log
            .lines()
            .any(|line| line.contains("WARN") && line.contains(told));
        assert!(warned, "{told}: {log}");
        assert!(why.contains(told), "{told}: {why}");
        let event = events.lines().find(|line| line.contains(told));
        assert!(
            event.is_some_and(|line| line.contains("rule_unmatched")),
            "{events}"
        );
    }
    // Mended, it is called, and bound.
    let file = pool.dir.path().join("pool.toml");
    let text = std::fs::read_to_string(&file).expect("there");
    let text = text
        .replace("bind.ehco", "bind.\"ech*\"")
        .replace("delete_*", "slee*");
    std::fs::write(&file, text).expect("written");
    let (ok, _, why) = ran(&pool, &["reload"]);
    assert!(ok, "{why}");
    assert_eq!(client.call("echo", json!({})).await.text(), "bound");
    let (ok, said, why) = ran(&pool, &live(&pool));
    assert!(ok && said.contains("live: 0 rules"), "{said}{why}");
}

fn live(pool: &Stdiopool) -> Vec<&str> {
    let file = pool.dir.path().join("pool.toml");
    // Lives as long as the test.
    let file: &'static str = Box::leak(file.display().to_string().into_boxed_str());
    vec!["check", "--live", "--config", file]
}

#[tokio::test]
async fn the_examples_of_call_and_demo_server_work() {
    let help = |command: &str| {
        let output = Command::new(BINARY).args([command, "--help"]).output();
        String::from_utf8(output.expect("runs").stdout).expect("text")
    };
    let folder = Path::new(BINARY).parent().expect("a folder");
    let path = format!(
        "{}:{}",
        folder.display(),
        std::env::var("PATH").expect("set")
    );
    let run = |script: &str, url: &str| {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", script])
            .env("PATH", &path)
            .env("STDIOPOOL_URL", url);
        let output = shell.output().expect("runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{script}: {text}{why}");
        text
    };
    let example = |help: &str| {
        let (_, example) = help.split_once("Example").expect("has one");
        example
            .split_once('\n')
            .expect("on the next line")
            .1
            .to_owned()
    };
    // Neither help nor errors are wrapped, into files and pipes above all.
    let wrong = Command::new(BINARY)
        .args([
            "call",
            "x",
            "y",
            "not JSON at all, which is told on one line however long it is",
        ])
        .output();
    let wrong = String::from_utf8_lossy(&wrong.expect("runs").stderr).into_owned();
    assert!(
        wrong
            .lines()
            .next()
            .is_some_and(|line| line.contains("not a JSON object")),
        "{wrong}"
    );
    let said = run(&example(&help("demo-server")), "");
    assert!(said.contains("\"text\":\"3\""), "{said}");
    let pool = Stdiopool::serve(&demo("demo", ""));
    let examples = example(&help("call"));
    let (only, of_file): (Vec<_>, Vec<_>) =
        examples.lines().partition(|line| line.contains("call -"));
    assert!(of_file.len() >= 2, "{examples}");
    for line in of_file.iter().filter(|line| !line.trim().is_empty()) {
        run(line, &pool.url);
    }
    let dir = tempfile::tempdir().expect("a folder");
    let args = [
        "--http",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--",
        BINARY,
        "demo-server",
    ];
    let alone = Stdiopool::run(dir, &args.map(ToOwned::to_owned), &[]);
    assert!(run(only[0], &alone.url).contains("hi"));
}

#[tokio::test]
async fn a_start_that_is_waited_for_says_what_the_server_said_so_far() {
    let toml = "[pool]\nqueue_timeout = \"2s\"\n[servers.slow]\ncommand = \"sh\"\nargs = [\"-c\", \"echo warming up >&2; sleep 60\"]\n";
    let pool = Stdiopool::serve(toml);
    let client = pool.client("slow");
    let refused = client.try_initialize("2025-11-25", json!({})).await;
    let message = refused.message();
    assert!(
        message.contains("has not answered `initialize` for 2s; stderr so far:\nwarming up"),
        "{message}"
    );
    let (ok, ..) = ran(&pool, &["stop", "w1"]);
    assert!(ok);
    eventually("it is gone", async || pool.workers().await.is_empty()).await;
}
