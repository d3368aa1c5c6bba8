//! The audit log: every call, refusal and act, and nothing that is secret.

use http::StatusCode;
use serde_json::{Value, json};

use super::support::{Stdiopool, demo, until};

const AUTH: &str = "[auth]\nmode = \"token\"\n";

fn toml(audit: &str) -> String {
    let demo = demo("demo", "env = { KEY = \"${secret.key:-none}\" }");
    let config = "client_config = [\"name\"]\n[servers.open.config]\nproperties.name = { type = \"string\" }";
    let open = super::support::demo("open", config);
    format!(
        "key = {{ file = \"state.key\" }}\n[audit]\nfile = \"audit.jsonl\"\n{audit}\n{demo}\n{open}\n[tenants.acme]\nsecrets.key = {{ file = \"acme.key\" }}\n[tenants.globex]\n"
    )
}

fn serve(audit: &str) -> Stdiopool {
    let dir = crate::support::open_folder().expect("a folder");
    super::support::private_file(&dir.path().join("state.key"), "07".repeat(32));
    std::fs::write(dir.path().join("acme.key"), "hunter22").expect("written");
    Stdiopool::write_config(dir.path(), AUTH, &toml(audit));
    let config = dir.path().join("pool.toml").display().to_string();
    Stdiopool::run(dir, &["--config".to_owned(), config], &[])
}

fn run(pool: &Stdiopool, args: &[&str]) -> String {
    #[allow(clippy::disallowed_methods, reason = "the program under test")]
    let output = pool
        .command(args)
        .current_dir(pool.dir.path())
        .output()
        .expect("runs");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {err}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn lines(pool: &Stdiopool, args: &[&str]) -> Vec<Value> {
    let all = [&["audit", "--json"], args].concat();
    let read = run(pool, &all);
    let lines = read.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// The lines that are wanted, as soon as there are as many.
fn lines_when(pool: &Stdiopool, count: usize, args: &[&str]) -> Vec<Value> {
    until(&format!("{count} lines of {args:?}"), || {
        Some(lines(pool, args)).filter(|lines| lines.len() >= count)
    })
}

#[tokio::test]
async fn who_called_what_who_was_turned_away_and_what_the_operator_did() {
    let pool = serve("");
    let make = ["token", "create", "acme", "ci", "--subject", "anna"];
    let token = run(&pool, &make).trim().to_owned();
    let other = run(&pool, &["token", "create", "globex", "ci"]);
    let client = pool.client("demo").with_token(&token).connect().await;
    let globex = pool.client("demo").with_token(other.trim()).connect().await;
    for client in [&client, &client, &globex] {
        client
            .call("echo", json!({"message": "pssst"}))
            .await
            .text();
    }
    client.call("add", json!({"a": 1})).await;
    let stranger = pool.client("demo").with_token("wrong");
    let refused = stranger.try_initialize("2025-11-25", json!({})).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    run(&pool, &["reload"]);

    let echoes = lines_when(&pool, 3, &["--tool", "echo"]);
    assert_eq!(echoes.len(), 3);
    let (first, again, of_other) = (&echoes[0], &echoes[1], &echoes[2]);
    assert_eq!(
        [
            &first["tenant"],
            &first["subject"],
            &first["token"],
            &first["server"],
            &first["method"],
            &first["outcome"],
            &first["kind"]
        ],
        ["acme", "anna", "ci", "demo", "tools/call", "ok", "call"]
    );
    assert!(
        first["worker"]
            .as_str()
            .is_some_and(|worker| worker.starts_with('w')),
        "{first}"
    );
    assert!(first["duration_ms"].is_u64() && first["request_bytes"].is_u64());
    assert!(first["response_bytes"].as_u64() > Some(20), "{first}");
    // Equal arguments are told by their digest, within a tenant.
    assert_eq!(first["arguments_digest"], again["arguments_digest"]);
    assert_ne!(first["arguments_digest"], of_other["arguments_digest"]);
    assert!(first.get("arguments").is_none());

    let refusals = lines_when(&pool, 1, &["--outcome", "unauthorized"]);
    assert_eq!(
        [
            &refusals[0]["kind"],
            &refusals[0]["path"],
            &refusals[0]["peer"]
        ],
        ["refusal", "/demo/mcp", "127.0.0.1"]
    );
    let acts = lines_when(&pool, 1, &["--tool", "ci", "--tenant", "acme"]);
    assert_eq!(
        [&acts[0]["kind"], &acts[0]["method"], &acts[0]["outcome"]],
        ["act", "token create", "ok"]
    );
    let all = lines(&pool, &["--since", "1h"]);
    assert!(all.iter().any(|line| line["method"] == "reload"), "{all:?}");
    assert!(lines(&pool, &["--since", "2100-01-01T00:00:00Z"]).is_empty());
    let shown = run(&pool, &["audit", "--tool", "echo", "--subject", "anna"]);
    assert!(
        shown.contains(" ok tools/call echo server=demo tenant=acme"),
        "{shown}"
    );
    let text = std::fs::read_to_string(pool.dir.path().join("audit.jsonl")).expect("read");
    for secret in ["pssst", "hunter22", token.as_str(), "wrong"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}

#[tokio::test]
async fn acts_on_the_folder_as_a_whole_are_written_down() {
    let mut pool = serve("");
    run(
        &pool,
        &["secret", "set", "globex", "key", "--from", "acme.key"],
    );
    // While it runs: both write to the log.
    run(&pool, &["backup", "saved.db"]);
    run(&pool, &["reload"]);
    assert!(pool.terminate().success());
    let dir = pool.dir.path().to_owned();
    super::support::private_file(&dir.join("new.key"), "08".repeat(32));
    let offline = |args: &[&str]| {
        let mut command = pool.command(args);
        command.current_dir(&dir).env_remove("STDIOPOOL_ADMIN");
        #[allow(clippy::disallowed_methods, reason = "the program under test")]
        let output = command.output().expect("runs");
        output.status.success()
    };
    assert!(!offline(&["backup", "saved.db"]), "it is there already");
    assert!(offline(&["restore", "saved.db"]));
    assert!(!offline(&["restore", "acme.key"]), "it is no backup");
    assert!(!offline(&["secret", "rekey", "--new-key", "acme.key"]));
    assert!(offline(&["secret", "rekey", "--new-key", "new.key"]));
    let acts: Vec<_> = lines(&pool, &[])
        .iter()
        .map(|line| {
            let text = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
            assert_eq!(text("kind"), "act");
            [text("method"), text("object"), text("outcome")].join(" ")
        })
        .collect();
    assert_eq!(
        acts,
        [
            "secret set key ok",
            "backup saved.db ok",
            "reload - ok",
            "backup saved.db failed",
            "restore saved.db ok",
            "restore acme.key failed",
            "secret rekey - failed",
            "secret rekey - ok",
        ]
    );
}

#[tokio::test]
async fn arguments_are_written_if_asked_for_with_secrets_masked_and_files_are_bounded() {
    let pool = serve("arguments = true\nmax_size = \"2KiB\"\nkeep = 2");
    let token = run(&pool, &["token", "create", "acme", "ci"]);
    let client = pool.client("demo").with_token(token.trim()).connect().await;
    for n in 0..30 {
        let message = format!("my password is hunter22 and this is call {n}");
        client
            .call("echo", json!({"message": message}))
            .await
            .text();
    }
    let last = until("the last call is written", || {
        let all = lines(&pool, &["--tool", "echo"]);
        all.into_iter().find(|line| {
            line["arguments"]
                .as_str()
                .is_some_and(|text| text.contains("call 29"))
        })
    });
    assert_eq!(
        last["arguments"],
        "{\"message\":\"my password is [redacted] and this is call 29\"}"
    );
    for n in ["", ".1", ".2"] {
        let file = pool.dir.path().join(format!("audit.jsonl{n}"));
        let text = std::fs::read_to_string(file).expect("there");
        assert!(text.len() <= 2048 && !text.contains("hunter22"), "{text}");
    }
    assert!(!pool.dir.path().join("audit.jsonl.3").exists());
    assert!(
        pool.metrics()
            .await
            .contains("stdiopool_audit_lines_lost_total 0")
    );
}

#[tokio::test]
async fn stored_configs_are_acts_of_their_callers_and_name_no_handle() {
    let pool = serve("");
    let make = ["token", "create", "acme", "ci", "--subject", "anna"];
    let token = run(&pool, &make).trim().to_owned();
    let http = reqwest::Client::new();
    let url = format!("{}/v1/config", pool.url);
    let create = async |body: Value| {
        let request = http.post(&url).bearer_auth(&token).json(&body);
        let answer = request.send().await.expect("answers");
        answer.json::<Value>().await.expect("JSON")
    };
    let config = json!({ "server": "open", "config": { "name": "hunter22" } });
    let stored = create(config).await;
    let id = stored["id"].as_str().expect("an id").to_owned();
    let wrong = json!({ "server": "open", "config": { "other": "hunter22" } });
    assert_eq!(
        create(wrong).await["error"]["data"]["reason"],
        "config_invalid"
    );
    let one = format!("{url}/{id}");
    for status in [StatusCode::NO_CONTENT, StatusCode::NOT_FOUND] {
        let deleted = http.delete(&one).bearer_auth(&token).send().await;
        assert_eq!(deleted.expect("answers").status(), status);
    }
    let stranger = http.get(&one).bearer_auth("wrong").send().await;
    assert_eq!(
        stranger.expect("answers").status(),
        StatusCode::UNAUTHORIZED
    );

    let lines = lines_when(&pool, 6, &[]);
    let found = |method: &str, outcome: &str| {
        let is_it = |line: &&Value| line["method"] == method && line["outcome"] == outcome;
        let line = lines
            .iter()
            .find(is_it)
            .unwrap_or_else(|| panic!("{method}: {lines:?}"));
        assert_eq!(
            [&line["tenant"], &line["subject"]],
            ["acme", "anna"],
            "{line}"
        );
        line.clone()
    };
    let created = found("config create", "ok");
    assert_eq!(created["server"], "open");
    let name = created["object"].as_str().expect("a fingerprint");
    assert_eq!(name.len(), 12, "{created}");
    assert_eq!(found("config delete", "ok")["object"], name);
    assert_eq!(found("config create", "failed")["reason"], "config_invalid");
    assert_eq!(found("config delete", "failed")["reason"], "not_found");
    let refusals = lines.iter().filter(|line| line["kind"] == "refusal");
    let paths: Vec<_> = refusals.map(|line| line["path"].clone()).collect();
    assert_eq!(paths, ["/v1/config"]);
    let log = std::fs::read_to_string(pool.dir.path().join("audit.jsonl")).expect("there");
    for never in [&id, "hunter22", &token] {
        assert!(!log.contains(never), "{never} in {log}");
    }
}

#[tokio::test]
async fn a_refusal_names_the_caller_as_soon_as_it_is_known() {
    let pool = serve("[limits]\nuser = { requests_per_minute = 1 }");
    let make = ["token", "create", "acme", "ci", "--subject", "anna"];
    let token = run(&pool, &make).trim().to_owned();
    let ask = async |path: &str| {
        let request = reqwest::Client::new()
            .post(format!("{}{path}", pool.url))
            .bearer_auth(&token)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body("{}");
        request.send().await.expect("answers").status()
    };
    assert_eq!(ask("/demo/mcp").await, StatusCode::BAD_REQUEST);
    for path in ["/demo/mcp", "/v1/config"] {
        assert_eq!(ask(path).await, StatusCode::TOO_MANY_REQUESTS, "{path}");
    }
    assert_eq!(ask("/nowhere/mcp").await, StatusCode::NOT_FOUND);
    for (reason, count) in [("tenant_limit", 2), ("not_found", 1)] {
        for line in lines_when(&pool, count, &["--outcome", reason]) {
            let who = [&line["tenant"], &line["subject"], &line["token"]];
            assert_eq!(who, ["acme", "anna", "ci"], "{line}");
            assert_eq!(line["kind"], "refusal");
            assert!(line["path"].is_string(), "{line}");
        }
    }
}
