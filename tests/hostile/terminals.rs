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
