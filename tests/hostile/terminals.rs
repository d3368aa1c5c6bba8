//! What strangers write is shown in logs and on terminals, and does nothing there.

use serde_json::json;

use crate::support::{Stdiopool, demo, eventually};

/// A server that says hostile things: before its start fails, or in the result of a tool.
fn shell(name: &str, script: &str) -> String {
    format!("[servers.{name}]\ncommand = \"sh\"\nargs = [\"-c\", '{script}']\n")
}

const FORGED: &str = "2026-11-29T00:00:00.000000Z  INFO admin: token accepted";

fn acts(c: char) -> bool {
    c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c)
}

#[tokio::test]
async fn stderr_of_a_worker_begins_no_line_of_the_log() {
    let script = format!(
        r#"printf "first\n{FORGED}\n\033[2J\033]0;title\007 \302\233 \342\200\256txt\n" >&2; exit 7"#
    );
    let pool = Stdiopool::serve(&shell("bad", &script));
    let refused = pool
        .client("bad")
        .try_initialize("2025-11-25", json!({}))
        .await;
    assert_eq!(refused.reason(), "start_failed");
    eventually("it is logged", async || {
        pool.log().contains("could not be started")
    })
    .await;
    let log = pool.log();
    let quoted: Vec<_> = log
        .lines()
        .filter(|line| line.contains("token accepted"))
        .collect();
    assert!(!quoted.is_empty(), "{log}");
    for line in quoted {
        assert!(!line.starts_with(FORGED), "{line}");
        assert!(
            line.contains("server `bad`") || line.contains("stderr:"),
            "{line}"
        );
    }
    assert!(!log.lines().any(|line| line.contains(acts)), "{log:?}");
}

#[tokio::test]
async fn what_a_client_says_of_itself_begins_no_line_either() {
    let pool = Stdiopool::serve(&demo("good", ""));
    let request = pool
        .client("good")
        .request(http::Method::POST)
        .header("user-agent", "x")
        .header("content-type", "application/json")
        .body(
            json!({ "jsonrpc": "2.0", "id": 1, "method": format!("x\n{FORGED}\u{1b}[2J"), "params": {} })
                .to_string(),
        );
    request.send().await.expect("an answer");
    let log = pool.log();
    assert!(
        !log.lines()
            .any(|line| line.starts_with(FORGED) || line.contains(acts)),
        "{log:?}"
    );
}

/// Runs a command of the binary on a terminal of its own; returns what that shows.
fn on_terminal(pool: &Stdiopool, args: &[&str]) -> String {
    let quote = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let mut line = vec![quote(crate::support::BINARY)];
    line.extend(args.iter().map(|arg| quote(arg)));
    let output = std::process::Command::new("script")
        .args(["-qec", &line.join(" "), "/dev/null"])
        .env("STDIOPOOL_URL", &pool.url)
        .env("STDIOPOOL_ADMIN", &pool.admin)
        .env("NO_COLOR", "1")
        .stdin(std::process::Stdio::null())
        .output()
        .expect("script(1) of util-linux runs");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[tokio::test]
async fn a_result_drives_no_terminal_and_is_json_in_a_pipe() {
    let pool = Stdiopool::serve(&demo("good", ""));
    let hostile = "a\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}z";
    let arguments = json!({ "message": hostile }).to_string();
    let shown = on_terminal(&pool, &["call", "good", "echo", &arguments]);
    let acting = |c: char| acts(c) && !matches!(c, '\n' | '\r');
    assert!(
        shown.contains(r"a\x1b[2J") && !shown.contains(acting),
        "{shown:?}"
    );
    let shown = on_terminal(&pool, &["call", "good", "echo", &arguments, "--json"]);
    assert!(!shown.contains(acting), "{shown:?}");
    let said = |json: &str| {
        let value: serde_json::Value = serde_json::from_str(json).expect("JSON");
        value["content"][0]["text"].as_str().map(ToOwned::to_owned)
    };
    assert_eq!(said(&shown).as_deref(), Some(hostile));
    let mut piped = pool.command(&["call", "good", "echo", &arguments, "--json"]);
    let piped = piped
        .env("STDIOPOOL_URL", &pool.url)
        .output()
        .expect("it runs");
    let piped = String::from_utf8(piped.stdout).expect("UTF-8");
    assert_eq!(said(&piped).as_deref(), Some(hostile));
}

/// A server whose every word is hostile: its tool, what that says, its stderr.
fn hostile_server() -> String {
    let script = r#"
import json, sys
BAD = "a\x1b[2J\x1b]0;owned\x07\x9b31m\u202ez"
print(BAD, file=sys.stderr, flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked: continue
    method = asked["method"]
    if method == "initialize":
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": BAD, "version": "1"}}
    elif method == "tools/list":
        result = {"tools": [{"name": "bad", "description": BAD, "inputSchema": {"type": "object"}}]}
    else:
        failed = asked["params"].get("arguments", {}).get("fail", False)
        result = {"content": [{"type": "text", "text": BAD + "\nend"}], "isError": failed}
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"#;
    format!(
        "[servers.bad]\ncommand = \"python3\"\nargs = [\"-c\", {}]\n",
        json!(script)
    )
}

/// Every command that prints what strangers wrote, into a pipe.
#[tokio::test]
async fn no_command_passes_on_into_a_pipe_what_drives_a_terminal() {
    let dying = shell(
        "dies",
        r#"printf "\033[2J\302\233 last words\n" >&2; exit 7"#,
    );
    let pool = Stdiopool::serve(
        &(hostile_server() + &dying + "[tenants.default]\n[policy.p]\ntools.deny = [\"none\"]\n"),
    );
    let file = pool.dir.path().join("pool.toml").display().to_string();
    let run = |args: &[&str]| {
        let mut command = pool.command(args);
        let output = command
            .env("STDIOPOOL_URL", &pool.url)
            .output()
            .expect("it runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (text(output.stdout), text(output.stderr))
    };
    // Events and workers that have ended, with what they said.
    let _refused = pool
        .client("dies")
        .try_initialize("2025-11-25", json!({}))
        .await;
    eventually("it has ended", async || {
        !pool
            .admin_json("ended")
            .await
            .as_array()
            .is_none_or(Vec::is_empty)
    })
    .await;
    let hostile = "e\u{1b}[2J\u{202e}";
    let config = ["--config", file.as_str()];
    let commands: [(&[&str], &str); 15] = [
        (&["call", "bad"], r"a\x1b[2J"),
        (&["call", "bad", "--json"], r"a\u001b[2J"),
        (
            &["call", "bad", "bad"],
            r"a\x1b[2J\x1b]0;owned\x07\x9b31m\u{202e}z",
        ),
        (&["call", "bad", "bad", "--json"], r"\u202ez"),
        (&["call", "bad", "bad", "{\"fail\": true}"], r"a\x1b[2J"),
        (&["logs", "--server", "bad"], "owned"),
        (&["logs", "--server", "dies", "--previous"], "last words"),
        (&["ps", "--all"], "last words"),
        (&["ps", "--all", "--json"], r"last words"),
        (&["events"], "last words"),
        (&["events", "--json"], "last words"),
        (
            &[
                "explain", "--server", "bad", "--tool", hostile, "--tenant", "default", "--config",
                config[1],
            ],
            r"e\x1b[2J\u{202e}",
        ),
        (
            &[
                "explain", "--server", "bad", "--tool", hostile, "--tenant", "default", "--json",
                "--config", config[1],
            ],
            r"e\u001b[2J\u202e",
        ),
        (&["tenant", "list", "--config", config[1]], "default"),
        (
            &["tenant", "list", "--json", "--config", config[1]],
            "default",
        ),
    ];
    for (args, told) in commands {
        let (stdout, stderr) = run(args);
        let all = format!("{stdout}{stderr}");
        assert!(all.contains(told), "{args:?}: {told}: {all:?}");
        let acting = |c: char| acts(c) && !matches!(c, '\n' | '\t');
        assert!(!all.contains(acting), "{args:?}: {all:?}");
        if args.contains(&"--json") {
            for value in
                serde_json::Deserializer::from_str(&stdout).into_iter::<serde_json::Value>()
            {
                value.unwrap_or_else(|error| panic!("{args:?}: {error}: {stdout}"));
            }
        }
    }
    // Whoever wants the bytes says so.
    let bytes = "a\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}z\n";
    assert_eq!(
        run(&["call", "bad", "bad", "--raw"]).0,
        format!("{bytes}end\n")
    );
}

#[tokio::test]
async fn the_audit_log_has_no_character_that_acts() {
    let more = "[audit]\nfile = \"audit.jsonl\"\narguments = true\n";
    let pool = Stdiopool::serve(&format!("{}{more}", demo("good", "")));
    let client = pool.client("good").connect().await;
    let hostile = "a\u{9b}31m\u{85}b\u{202e}c\u{2028}d\u{2029}e";
    client.call(hostile, json!({ "message": hostile })).await;
    let uri = format!("file:///{hostile}");
    client.ask("resources/read", json!({ "uri": uri })).await;
    let path = pool.dir.path().join("audit.jsonl");
    let lines = crate::support::until("both are written", || {
        let text = std::fs::read_to_string(&path).ok()?;
        (text.matches("31m").count() >= 2 && text.ends_with('\n')).then_some(text)
    });
    let acts = |c: char| acts(c) || ('\u{2028}'..='\u{2029}').contains(&c);
    for line in lines.lines() {
        assert!(!line.contains(acts), "{line:?}");
    }
    // It says what was said.
    let said: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert!(said.iter().any(|line| line["object"] == hostile));
}
