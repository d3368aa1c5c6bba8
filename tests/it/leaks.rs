//! Secrets from every source, looked for in everything that stdiopool says and keeps.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::support::{BINARY, Stdiopool, eventually, faulty};

const OF_ENV: &str = "mark-env-a1f0c3";
const OF_FILE: &str = "mark-file-b2e1d4";
const OF_COMMAND: &str = "mark-command-c3d2e5";
const OF_STORE: &str = "mark-store-d4c3f6";
const OF_HANDLE: &str = "mark-handle-e5b4a7";
/// Each line of a secret is one.
const FIRST_LINE: &str = "mark-first-line-f6a5b8";
const SECOND_LINE: &str = "mark-second-line-07b6c9";
const OF_ADMIN: &str = "mark-admin-18c7da";
const WRONG_TOKEN: &str = "mark-wrong-29d8eb";
const OF_CALLER: &str = "mark-caller-3ae9fc";
const KEY: &str = "4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b";

/// Everything that was said: where, and what.
#[derive(Default)]
struct Said(Vec<(String, Vec<u8>)>);

impl Said {
    fn add(&mut self, place: &str, text: impl Into<Vec<u8>>) {
        self.0.push((place.to_owned(), text.into()));
    }

    fn find(&self, marks: &[&str]) -> Vec<String> {
        let mut found = vec![];
        for (place, text) in &self.0 {
            for mark in marks {
                if let Some(at) = memchr::memmem::find(text, mark.as_bytes()) {
                    let around = &text[at.saturating_sub(80)..(at + 80).min(text.len())];
                    found.push(format!(
                        "{mark} in {place}: …{}…",
                        String::from_utf8_lossy(around)
                    ));
                }
            }
        }
        found
    }
}

/// Servers that get all secrets and print them, at one that starts and at others that do not.
fn servers() -> String {
    let names = ["env", "file", "command", "store", "lines", "handle"];
    let env: Vec<_> = names
        .iter()
        .map(|name| format!("S_{name} = \"${{secret.{name}}}\""))
        .collect();
    let env = env.join(", ");
    let shown = names.map(|name| format!("$S_{name}")).join(" and ");
    let more = "client_secrets = [\"handle\"]\nclient_config = [\"given\"]";
    let schema = |name: &str| {
        format!(
            "[servers.{name}.config]\nproperties.given = {{ type = \"string\", maxLength = 40 }}\n"
        )
    };
    let shell = |name: &str, then: &str, beside: &str| {
        let script = format!("echo \"out: {shown}\"; echo \"{shown}\" >&2; {then}");
        let schema = schema(name);
        format!(
            "[servers.{name}]\ncommand = \"sh\"\nargs = ['-c', '{script}', 'sh', '${{secret.env}}']\nenv = {{ {env} }}\n{more}\n{beside}\n{schema}"
        )
    };
    let exec = format!("exec {BINARY} demo-server");
    let key = "env = { KEY = \"${secret.file}\" }";
    [
        shell("good", &exec, ""),
        shell("bad", "exit 7", ""),
        shell("nowhere", &exec, "cwd = \"/nowhere/${secret.store}\""),
        faulty("refuses", &["--mode", "rejects-initialize"], key),
        faulty("exits", &["--mode", "exit-at-once"], key),
    ]
    .concat()
}

fn config() -> String {
    let failing = format!("echo {OF_COMMAND}; echo {OF_COMMAND} is refused >&2; exit 1");
    format!(
        r#"key = {{ file = "state.key" }}
secrets_refresh = "100ms"
[audit]
file = "audit.jsonl"
arguments = true
{}
[tenants.acme]
secrets.env = {{ env = "LEAK_TEST_ENV" }}
secrets.file = {{ file = "secret.file" }}
secrets.command = {{ command = ["echo", "{OF_COMMAND}"] }}
secrets.lines = {{ file = "lines.file" }}
[tenants.failing]
secrets.file = {{ command = ["sh", "-c", "{failing}"] }}
"#,
        servers()
    )
}

/// Asks the admin API, as whoever has its token.
async fn admin(pool: &Stdiopool, method: Method, path: &str, body: Option<Value>) -> String {
    let request = reqwest::Client::new()
        .request(method, format!("{}/{path}", pool.admin))
        .bearer_auth(OF_ADMIN);
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    let answer = request.send().await.expect("answers");
    answer.text().await.expect("text")
}

/// What a command says, with the admin token in its environment.
fn command(pool: &Stdiopool, args: &[&str]) -> Vec<u8> {
    let mut command = pool.command(args);
    command
        .current_dir(pool.dir.path())
        .env("STDIOPOOL_ADMIN_TOKEN", OF_ADMIN);
    #[allow(clippy::disallowed_methods, reason = "the program under test")]
    let output = command.output().expect("runs");
    [output.stdout, output.stderr].concat()
}

fn add_files(said: &mut Said, folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            add_files(said, &path);
        } else {
            said.add(
                &path.display().to_string(),
                std::fs::read(&path).expect("read"),
            );
        }
    }
}

async fn store_config(pool: &Stdiopool, token: &str, body: String) -> (StatusCode, String) {
    let sent = reqwest::Client::new()
        .post(format!("{}/v1/config", pool.url))
        .header("content-type", "application/json")
        .bearer_auth(token)
        .body(body)
        .send();
    let answer = sent.await.expect("answers");
    (answer.status(), answer.text().await.expect("text"))
}

fn serve() -> Stdiopool {
    let dir = crate::support::open_folder().expect("a folder");
    for (file, text) in [
        ("state.key", KEY.to_owned()),
        ("secret.file", OF_FILE.to_owned()),
        ("lines.file", format!("{FIRST_LINE}\n{SECOND_LINE}\n")),
    ] {
        super::support::private_file(&dir.path().join(file), text);
    }
    let head = format!("token = \"{OF_ADMIN}\"\n[auth]\nmode = \"token\"\n");
    Stdiopool::write_config(dir.path(), &head, &config());
    let path = dir.path().join("pool.toml").display().to_string();
    let env = [("STDIOPOOL_LOG", "debug"), ("LEAK_TEST_ENV", OF_ENV)];
    Stdiopool::run(dir, &["--config".to_owned(), path], &env)
}

#[tokio::test]
async fn no_secret_is_in_what_stdiopool_says_and_keeps() {
    let pool = serve();
    let mut said = Said::default();
    let events = reqwest::Client::new()
        .get(format!("{}/api/v1/events", pool.admin))
        .bearer_auth(OF_ADMIN)
        .send();
    let events = events.await.expect("answers").bytes_stream();

    let set = json!({ "value": OF_STORE });
    let path = "api/v1/tenants/acme/secrets/store";
    said.add(
        "secret set",
        admin(&pool, Method::PUT, path, Some(set)).await,
    );
    let mut tokens = vec![];
    for tenant in ["acme", "failing"] {
        let path = format!("api/v1/tenants/{tenant}/tokens");
        let made = admin(&pool, Method::POST, &path, Some(json!({ "name": "ci" }))).await;
        let made: Value = serde_json::from_str(&made).expect("JSON");
        tokens.push(made["token"].as_str().expect("a token").to_owned());
    }
    let token = &tokens[0];
    let mut handles = vec![];
    for server in ["good", "bad", "nowhere"] {
        let body = json!({ "server": server, "config": {}, "secrets": { "handle": OF_HANDLE } });
        let (status, text) = store_config(&pool, token, body.to_string()).await;
        assert_eq!(status, StatusCode::CREATED, "{text}");
        let stored: Value = serde_json::from_str(&text).expect("JSON");
        handles.push(stored["id"].as_str().expect("a handle").to_owned());
        said.add(
            "a stored config",
            text.replace(&handles[handles.len() - 1], "HANDLE"),
        );
    }
    for body in [
        json!({ "server": "good", "config": {}, "secrets": { "nothing": OF_HANDLE } }).to_string(),
        json!({ "server": "good", "config": {}, "secrets": { "handle": [OF_HANDLE] } }).to_string(),
        json!({ "server": "good", "config": {}, "secrets": OF_HANDLE }).to_string(),
        format!("{{\"secrets\": \"{OF_HANDLE}\", }}"),
    ] {
        let (status, text) = store_config(&pool, token, body).await;
        assert!(status.is_client_error(), "{text}");
        said.add("a refusal of /v1/config", text);
    }

    // One that starts, with everything, and says all of it as it does.
    let with = |server: &str, handle: Option<&String>| {
        let mut client = pool.client(server).with_token(token);
        client.config = handle.cloned();
        client
    };
    let client = with("good", Some(&handles[0])).connect().await;
    let session = client.session.clone().expect("a session");
    let arguments =
        json!({ "message": format!("{OF_ENV} {OF_STORE} {FIRST_LINE}\n{SECOND_LINE}") });
    assert!(client.call("echo", arguments).await.text().contains(OF_ENV));
    let workers = admin(&pool, Method::GET, "api/v1/workers", None).await;
    let workers: Value = serde_json::from_str(&workers).expect("JSON");
    let worker = workers[0]["id"].as_str().expect("an id").to_owned();
    let logs = format!("api/v1/workers/{worker}/logs");
    eventually("what it has printed is there", async || {
        let logs = admin(&pool, Method::GET, &logs, None).await;
        logs.matches("[redacted]").count() >= 6
    })
    .await;
    // What a caller sets is not logged either, fitting or not.
    let own = json!({ "given": OF_CALLER });
    let encoded = URL_SAFE_NO_PAD.encode(own.to_string());
    let mut by_url = pool.client("good").with_token(token);
    by_url.url += &format!("?config={encoded}");
    by_url.try_initialize("2025-11-25", json!({})).await;
    let too_long = json!({ "given": OF_CALLER.repeat(9) });
    client
        .ask(
            "tools/call",
            json!({ "name": "echo", "clientConfig": too_long }),
        )
        .await;

    // And those that do not.
    let failing = [
        ("bad", Some(&handles[1]), "config_invalid"),
        ("nowhere", Some(&handles[2]), "start_failed"),
        ("refuses", None, "start_failed"),
        ("exits", None, "start_failed"),
    ];
    for (server, handle, reason) in failing {
        let client = with(server, handle);
        let answer = client.try_initialize("2025-11-25", json!({})).await;
        assert_eq!(answer.reason(), reason, "{server}: {answer:?}");
        // What a process wrote just before its end may come too late to be quoted.
        let is_quoted = answer.message().contains("[redacted]");
        assert!(
            is_quoted || ["bad", "exits"].contains(&server),
            "{answer:?}"
        );
        said.add(&format!("the error of {server}"), answer.message());
    }
    let unavailable = pool.client("exits").with_token(&tokens[1]);
    let unavailable = unavailable.try_initialize("2025-11-25", json!({})).await;
    assert_eq!(unavailable.reason(), "config_invalid", "{unavailable:?}");
    said.add("the error of a secret", unavailable.message());
    let stranger = pool.client("good").with_token(WRONG_TOKEN);
    let refused = stranger.try_initialize("2025-11-25", json!({})).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    said.add("the refusal of a token", refused.message());
    let of_admin = reqwest::Client::new()
        .get(format!("{}/api/v1/status", pool.admin))
        .bearer_auth(WRONG_TOKEN)
        .send();
    said.add(
        "the refusal of the admin API",
        of_admin.await.expect("answers").text().await.expect("text"),
    );

    look_everywhere(&pool, &mut said, &worker).await;
    let mut told = vec![];
    let mut events = Box::pin(events);
    while let Ok(Some(Ok(piece))) =
        tokio::time::timeout(std::time::Duration::from_millis(200), events.next()).await
    {
        told.extend_from_slice(&piece);
    }
    assert!(!told.is_empty(), "starts that failed are told");
    said.add("events", told);

    let marks = [
        OF_ENV,
        OF_FILE,
        OF_COMMAND,
        OF_STORE,
        OF_HANDLE,
        FIRST_LINE,
        SECOND_LINE,
        OF_ADMIN,
        WRONG_TOKEN,
        OF_CALLER,
        KEY,
        &encoded,
        token,
        &tokens[1],
        &session,
        &handles[0],
        &handles[1],
        &handles[2],
    ];
    let mut found = said.find(&marks);
    // A config without secrets is kept with its session, so that this survives a restart.
    found.retain(|found| !(found.starts_with(OF_CALLER) && found.contains("/state/state.db")));
    assert!(found.is_empty(), "{}", found.join("\n"));
    // It would have been found: these are in what was looked at.
    let is_there = |mark: &str| !said.find(&[mark]).is_empty();
    assert!(is_there("[redacted] is refused") && is_there("worker ready") && is_there("acme"));
}

/// Takes down all that can be asked for and all that is kept.
async fn look_everywhere(pool: &Stdiopool, said: &mut Said, worker: &str) {
    for path in [
        "metrics",
        "api/v1/status",
        "api/v1/workers",
        "api/v1/sessions",
        "api/v1/servers",
        "api/v1/tenants",
        "api/v1/accounts",
        "api/v1/tokens",
        "api/v1/secrets",
        "api/v1/tenants/acme",
        "api/v1/tenants/acme/tokens",
        "api/v1/tenants/acme/secrets",
    ] {
        let text = admin(pool, Method::GET, path, None).await;
        assert!(
            !text.is_empty() && !text.contains("\"reason\":\"not_found\""),
            "{path}: {text}"
        );
        said.add(path, text);
    }
    for path in [
        format!("api/v1/workers/{worker}"),
        format!("api/v1/workers/{worker}/logs"),
    ] {
        said.add(&path, admin(pool, Method::GET, &path, None).await);
    }
    for args in [
        &["ps"][..],
        &["ps", "--json"],
        &["logs", worker],
        &["secret", "list", "--json"],
        &["token", "list", "--json"],
        &["tenant", "show", "acme"],
        &["audit"],
        &["check"],
        &[
            "explain", "--server", "good", "--tenant", "acme", "--token", "ci",
        ],
        &["reload"],
    ] {
        said.add(&args.join(" "), command(pool, args));
    }
    eventually("the last line of the audit log", async || {
        let text = std::fs::read_to_string(pool.dir.path().join("audit.jsonl")).unwrap_or_default();
        text.contains("\"reload\"")
    })
    .await;
    said.add(
        "audit.jsonl",
        std::fs::read(pool.dir.path().join("audit.jsonl")).expect("read"),
    );
    add_files(said, &pool.dir.path().join("state"));
    said.add("the log", pool.log());
}
