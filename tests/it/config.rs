//! Config that comes with requests: from every place, to processes of its own, and nowhere else.

use std::collections::BTreeSet;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};

use super::support::{Client, Stdiopool};

/// An unmodified server that needs a repository and a token at its start: `github` gets the token
/// from a secret, `plain` from a value that callers set.
pub(super) fn servers(wire: &Path) -> String {
    let binary = env!("CARGO_BIN_EXE_issue-server");
    let wire = wire.display();
    let server = |name: &str, token: &str, more: &str| {
        format!(
            r#"
[servers.{name}]
command = "{binary}"
args = ["--repo", "${{config.repo}}", {{ when = "config.page", args = ["--page", "${{config.page}}"] }}]
env = {{ GITHUB_TOKEN = "${{{token}}}", WIRE_LOG = "{wire}" }}
{more}
[servers.{name}.config]
type = "object"
required = ["repo"]
properties.repo = {{ type = "string", pattern = "^[^/]+/[^/]+$" }}
properties.token = {{ type = "string", writeOnly = true }}
properties.page = {{ type = "integer", minimum = 1, maximum = 100 }}
properties.host = {{ type = "string", default = "github.example" }}
"#
        )
    };
    let open = "client_config = [\"repo\", \"page\"]\nclient_secrets = [\"github_token\"]";
    server("github", "secret.github_token", open)
        + &server(
            "plain",
            "config.token",
            "client_config = [\"repo\", \"token\", \"page\"]",
        )
}

pub(super) fn folder() -> tempfile::TempDir {
    crate::support::open_folder().expect("a folder")
}

pub(super) fn encoded(config: &Value) -> String {
    URL_SAFE_NO_PAD.encode(config.to_string())
}

/// What the process that answered was started with.
async fn whoami(client: &Client, params: Value) -> Value {
    let mut asked = json!({ "name": "whoami", "arguments": {} });
    for (name, value) in params.as_object().expect("an object") {
        asked[name] = value.clone();
    }
    let answer = client.ask("tools/call", asked).await;
    serde_json::from_str(answer.text()).expect("JSON")
}

/// `whoami` of a client of the stateless revision.
async fn whoami_stateless(client: &Client, meta: Value) -> Value {
    let prefix = "io.modelcontextprotocol";
    let mut params = json!({ "name": "whoami", "arguments": {}, "_meta": meta });
    params["_meta"][format!("{prefix}/protocolVersion")] = json!("2026-07-28");
    params["_meta"][format!("{prefix}/clientCapabilities")] = json!({});
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
    let request = client
        .request(http::Method::POST)
        .header("content-type", "application/json")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/call")
        .header("mcp-name", "whoami");
    let answer = request
        .body(body.to_string())
        .send()
        .await
        .expect("answers");
    // One that takes a while comes as a stream.
    let told = answer.text().await.expect("an answer");
    let message = told
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("data: "));
    let answer: Value = serde_json::from_str(message.unwrap_or(&told)).expect("JSON");
    let text = answer["result"]["content"][0]["text"].as_str();
    serde_json::from_str(text.unwrap_or_else(|| panic!("no text: {answer}"))).expect("JSON")
}

pub(super) async fn store(pool: &Stdiopool, body: &Value) -> (StatusCode, Value) {
    let sent = reqwest::Client::new()
        .post(format!("{}/v1/config", pool.url))
        .header("content-type", "application/json")
        .body(body.to_string())
        .send();
    let answer = sent.await.expect("answers");
    let status = answer.status();
    (status, answer.json().await.expect("JSON"))
}

/// One of fifty callers: by which way its config comes, and what answered it.
async fn caller(pool: &Stdiopool, n: usize) -> Value {
    let config =
        json!({ "repo": format!("owner-{n}/repo-{n}"), "token": format!("token-{n}-of-caller") });
    match n % 10 {
        // Stored, with the token as a secret.
        0 => {
            let body = json!({
                "server": "github", "config": { "repo": config["repo"] },
                "secrets": { "github_token": config["token"] }, "ttl": "10m",
            });
            let (status, stored) = store(pool, &body).await;
            assert_eq!(status, StatusCode::CREATED, "{stored}");
            let mut client = pool.client("github");
            match n / 10 {
                0 => client.url += &format!("?config={}", stored["id"].as_str().expect("an id")),
                1 => {
                    let client = client.connect().await;
                    return whoami(&client, json!({ "clientConfig": stored["id"] })).await;
                }
                2 => {
                    let meta = json!({ "dev.stdiopool/config": stored["id"] });
                    return whoami_stateless(&client, meta).await;
                }
                _ => client.config = Some(stored["id"].as_str().expect("an id").to_owned()),
            }
            whoami(&client.connect().await, json!({})).await
        }
        // A tenant's own.
        1 => {
            let client = pool
                .client_of(&format!("tenant-{n}"), "github")
                .connect()
                .await;
            whoami(&client, json!({})).await
        }
        2 | 3 => {
            let mut client = pool.client("plain");
            client.url += &format!("?config={}", encoded(&config));
            whoami(&client.connect().await, json!({})).await
        }
        4 | 5 => {
            let mut client = pool.client("plain");
            client.config = Some(encoded(&config));
            whoami(&client.connect().await, json!({})).await
        }
        // With each request, after an `initialize` without.
        6 => {
            let client = pool.client("plain").connect().await;
            whoami(&client, json!({ "clientConfig": config })).await
        }
        7 => {
            let client = pool.client("plain").connect().await;
            let meta = json!({ "dev.stdiopool/config": config, "progressToken": n });
            whoami(&client, json!({ "_meta": meta })).await
        }
        8 => {
            whoami_stateless(
                &pool.client("plain"),
                json!({ "dev.stdiopool/config": config }),
            )
            .await
        }
        _ => {
            let mut client = pool.client("plain");
            client.config = Some(encoded(&config));
            whoami_stateless(&client, json!({ "x": 1 })).await
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_callers_with_fifty_configs_get_processes_of_their_own() {
    let wire = folder();
    let mut toml = servers(wire.path());
    for n in (1..50).step_by(10) {
        std::fs::write(
            wire.path().join(format!("{n}.token")),
            format!("token-{n}-of-caller"),
        )
        .expect("written");
        let token = wire.path().join(format!("{n}.token"));
        toml += &format!(
            "[tenants.tenant-{n}]\nconfig.github = {{ repo = \"owner-{n}/repo-{n}\" }}\nsecrets.github_token = {{ file = \"{}\" }}\n",
            token.display()
        );
    }
    // Far fewer places than configs: those that are idle make room.
    toml += "[pool]\nmax_workers = 8\nmax_starting = 4\nqueue_timeout = \"60s\"\n";
    let pool = Stdiopool::serve(&toml);
    let answers = join_all((0..50).map(|n| caller(&pool, n))).await;
    let mut pids = BTreeSet::new();
    for (n, told) in answers.iter().enumerate() {
        assert_eq!(told["repo"], format!("owner-{n}/repo-{n}"));
        assert_eq!(told["token"], format!("token-{n}-of-caller"));
        pids.insert(told["pid"].as_u64().expect("a pid"));
    }
    assert_eq!(pids.len(), 50, "a process for each config");
    assert!(pool.workers().await.len() <= 8);

    let mut lines = 0;
    for entry in std::fs::read_dir(wire.path()).expect("there") {
        let path = entry.expect("an entry").path();
        if path
            .extension()
            .is_none_or(|extension| extension != "jsonl")
        {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("read");
        lines += text.lines().count();
        for trace in [
            "clientConfig",
            "dev.stdiopool",
            "cfg_",
            "owner-",
            "of-caller",
            "config",
        ] {
            assert!(!text.contains(trace), "{trace} reached a worker: {text}");
        }
    }
    assert!(lines >= 100, "an initialize and a call each, not {lines}");
    let mut kept = pool.log().into_bytes();
    for file in ["state.db", "state.db-wal"] {
        kept.extend(std::fs::read(pool.dir.path().join("state").join(file)).unwrap_or_default());
    }
    let kept = String::from_utf8_lossy(&kept);
    for secret in ["of-caller", "cfg_"] {
        assert!(!kept.contains(secret), "{secret} was logged or kept");
    }
}

#[tokio::test]
async fn what_callers_may_set_is_advertised_in_both_eras() {
    let wire = folder();
    let tenant = "[tenants.acme]\nconfig.github = { repo = \"a/b\" }\n";
    let pool = Stdiopool::serve(&(servers(wire.path()) + tenant));
    let advert =
        |result: &Value| result["capabilities"]["experimental"]["dev.stdiopool/config"].clone();
    let answer = pool
        .client("github")
        .try_initialize("2025-11-25", json!({}))
        .await;
    let expected = json!({
        "type": "object",
        "required": ["repo"],
        "additionalProperties": false,
        "properties": {
            "repo": { "type": "string", "pattern": "^[^/]+/[^/]+$" },
            "page": { "type": "integer", "minimum": 1, "maximum": 100 },
        },
        "x-secrets": ["github_token"],
    });
    assert_eq!(advert(answer.result()), expected);
    // What the tenant has set, its callers need not.
    let answer = pool
        .client_of("acme", "plain")
        .try_initialize("2025-11-25", json!({}))
        .await;
    assert_eq!(advert(answer.result())["required"], json!(["repo"]));
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let request = pool
        .client("github")
        .request(http::Method::POST)
        .header("content-type", "application/json")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "server/discover");
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": { "_meta": meta } });
    let found: Value = request
        .body(body.to_string())
        .send()
        .await
        .expect("answers")
        .json()
        .await
        .expect("JSON");
    assert_eq!(advert(&found["result"]), expected);
    assert!(
        pool.workers().await.is_empty(),
        "nothing was started for it"
    );
}

#[tokio::test]
async fn a_config_that_does_not_fit_is_told_without_its_values() {
    let wire = folder();
    let pool = Stdiopool::serve(&servers(wire.path()));
    let client = pool.client("plain").connect().await;
    for (config, pointer) in [
        (json!({ "repo": "hunter22", "token": "t" }), "/repo"),
        (
            json!({ "repo": "a/b", "token": "t", "page": 1000 }),
            "/page",
        ),
        (
            json!({ "repo": "a/b", "token": "t", "host": "hunter22" }),
            "/host",
        ),
        (
            json!({ "repo": "a/b", "token": "t", "new": "hunter22" }),
            "/new",
        ),
        (json!({ "token": "t" }), "/repo"),
    ] {
        let params = json!({ "name": "whoami", "clientConfig": config });
        let refused = client.ask("tools/call", params).await;
        assert_eq!(refused.status, StatusCode::OK, "{refused:?}");
        assert_eq!(refused.reason(), "config_invalid");
        let error = &refused.response()["error"];
        assert_eq!(error["data"]["errors"][0]["pointer"], pointer, "{error}");
        assert!(!error.to_string().contains("hunter22"), "{error}");
    }
    for junk in [
        json!("text"),
        json!([1]),
        json!("cfg_00000000000000000000000000000000"),
    ] {
        let refused = client
            .ask(
                "tools/call",
                json!({ "name": "whoami", "clientConfig": junk }),
            )
            .await;
        assert_eq!(
            (refused.status, refused.reason()),
            (StatusCode::OK, "config_invalid")
        );
    }
    let mut header = pool.client("plain");
    header.config = Some("hunter22!".to_owned());
    let refused = header.try_initialize("2025-11-25", json!({})).await;
    assert_eq!(
        (refused.status, refused.reason()),
        (StatusCode::OK, "config_invalid")
    );
    // Callers who set nothing are told what is missing, and by which schema.
    let refused = client.call("whoami", json!({})).await;
    assert_eq!(refused.reason(), "config_invalid");
    let schema = &refused.response()["error"]["data"]["schema"];
    assert_eq!(schema["required"], json!(["repo"]));
    assert!(pool.workers().await.is_empty());
    assert!(!pool.log().contains("hunter22"), "{}", pool.log());
}

#[tokio::test]
async fn later_places_win_and_a_session_goes_on_beside_its_requests() {
    let wire = folder();
    let tenant =
        "[tenants.acme]\nconfig.plain = { repo = \"of/tenant\", token = \"t\", page = 1 }\n";
    let pool = Stdiopool::serve(&(servers(wire.path()) + tenant));
    let mut client = pool.client_of("acme", "plain");
    client.url += &format!(
        "?config={}",
        encoded(&json!({ "repo": "of/query", "page": 2 }))
    );
    client.config = Some(encoded(&json!({ "repo": "of/header" })));
    let init = json!({
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": { "name": "c", "version": "1" },
        "_meta": { "dev.stdiopool/config": { "repo": "of/session" } },
    });
    let opened = client.ask("initialize", init).await;
    let session = opened.headers["mcp-session-id"].to_str().expect("ASCII");
    client.session = Some(session.to_owned());
    // From here on neither query nor header: what held for `initialize` holds for the session.
    client.url = client.url.split('?').next().expect("a URL").to_owned();
    client.config = None;
    let shown = |told: &Value| {
        (
            told["repo"].as_str().expect("a repo").to_owned(),
            told["page"].as_u64(),
        )
    };
    let base = whoami(&client, json!({})).await;
    assert_eq!(shown(&base), ("of/session".to_owned(), Some(2)));
    let both = json!({
        "clientConfig": { "repo": "of/params", "page": 3 },
        "_meta": { "dev.stdiopool/config": { "page": 4 } },
    });
    let other = whoami(&client, both.clone()).await;
    assert_eq!(shown(&other), ("of/params".to_owned(), Some(4)));
    assert_eq!(
        whoami(&client, json!({})).await["pid"],
        base["pid"],
        "its own process is there"
    );
    assert_eq!(
        whoami(&client, both).await["pid"],
        other["pid"],
        "and so is the other"
    );
    assert_eq!(pool.workers().await.len(), 2);
}

#[tokio::test]
async fn a_handle_is_told_of_deleted_and_unknown_to_others() {
    let wire = folder();
    let pool = Stdiopool::serve(&servers(wire.path()));
    let body = json!({ "server": "github", "config": { "repo": "a/b" }, "secrets": { "github_token": "hunter22" } });
    let (status, stored) = store(&pool, &body).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(
        (&stored["keys"], &stored["secrets"]),
        (&json!(["repo"]), &json!(["github_token"]))
    );
    assert!(!stored.to_string().contains("hunter22"));
    let id = stored["id"].as_str().expect("an id");
    let http = reqwest::Client::new();
    let (own, others) = (
        format!("{}/v1/config/{id}", pool.url),
        format!("{}/t/acme/v1/config/{id}", pool.url),
    );
    let told: Value = http
        .get(&own)
        .send()
        .await
        .expect("answers")
        .json()
        .await
        .expect("JSON");
    assert_eq!(told, stored);
    assert_eq!(
        http.get(&others).send().await.expect("answers").status(),
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        http.delete(&others).send().await.expect("answers").status(),
        StatusCode::NOT_FOUND
    );
    let mut thief = pool.client_of("acme", "github");
    thief.config = Some(id.to_owned());
    assert_eq!(
        thief.try_initialize("2025-11-25", json!({})).await.reason(),
        "config_invalid"
    );
    let mut client = pool.client("github");
    client.config = Some(id.to_owned());
    let client = client.connect().await;
    assert_eq!(whoami(&client, json!({})).await["token"], "hunter22");
    assert_eq!(
        http.delete(&own).send().await.expect("answers").status(),
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        http.get(&own).send().await.expect("answers").status(),
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        client.call("whoami", json!({})).await.reason(),
        "config_invalid"
    );
    for (body, reason) in [
        (
            json!({ "server": "nothing", "config": { "repo": "a/b" } }),
            "not_found",
        ),
        (
            json!({ "server": "github", "config": { "repo": "hunter22" } }),
            "config_invalid",
        ),
        (
            json!({ "server": "github", "config": { "host": "hunter22" } }),
            "config_invalid",
        ),
        (
            json!({ "server": "plain", "secrets": { "github_token": "hunter22" } }),
            "config_invalid",
        ),
        (
            json!({ "server": "github", "config": { "repo": "a/b" }, "ttl": "99d" }),
            "config_invalid",
        ),
        (
            json!({ "server": "github", "secret": { "github_token": "hunter22" } }),
            "invalid_request",
        ),
        (json!({ "server": "github" }), "config_invalid"),
    ] {
        let (_, refused) = store(&pool, &body).await;
        assert_eq!(
            refused["error"]["data"]["reason"], reason,
            "{body}: {refused}"
        );
        assert!(!refused.to_string().contains("hunter22"), "{refused}");
    }
}

#[tokio::test]
async fn sessions_and_handles_with_a_config_survive_a_restart() {
    let wire = folder();
    let tenant = "[tenants.default]\nsecrets.github_token = { command = [\"echo\", \"kept\"] }\n";
    let pool = Stdiopool::serve(&(servers(wire.path()) + tenant));
    let (_, stored) = store(
        &pool,
        &json!({ "server": "github", "config": { "repo": "of/handle" } }),
    )
    .await;
    assert_eq!(stored["survivesRestart"], true);
    let mut client = pool.client("github");
    client.config = Some(encoded(&json!({ "repo": "of/session" })));
    let mut client = client.connect().await;
    client.config = None;
    let pool = pool.restarted_after(nix::sys::signal::Signal::SIGKILL);
    client.url = pool.client("github").url;
    assert_eq!(whoami(&client, json!({})).await["repo"], "of/session");
    let of_handle = whoami(&client, json!({ "clientConfig": stored["id"] })).await;
    assert_eq!(of_handle["repo"], "of/handle");
}

#[tokio::test]
async fn each_message_of_a_batch_has_its_own_config() {
    let wire = folder();
    let pool = Stdiopool::serve(&servers(wire.path()));
    let client = pool
        .client("plain")
        .connect_as("2025-03-26", json!({}))
        .await;
    let call = |n: u32| {
        let config = json!({ "repo": format!("of/{n}"), "token": "t" });
        json!({ "jsonrpc": "2.0", "id": n, "method": "tools/call", "params": { "name": "whoami", "clientConfig": config } })
    };
    let answer = client
        .post(&json!([call(1), call(2), { "jsonrpc": "2.0", "method": "notifications/x", "params": { "clientConfig": {} } }]))
        .await;
    let answers = match answer.messages.first() {
        Some(Value::Array(all)) => all.clone(),
        _ => answer.messages.clone(),
    };
    assert_eq!(answers.len(), 2, "{answers:?}");
    for answer in &answers {
        let text = answer["result"]["content"][0]["text"].as_str();
        let told: Value = serde_json::from_str(text.expect("a text")).expect("JSON");
        assert_eq!(told["repo"], format!("of/{}", answer["id"]));
    }
}

#[tokio::test]
async fn the_old_transport_takes_a_config_from_its_url() {
    let wire = folder();
    let pool = Stdiopool::serve(&servers(wire.path()));
    let http = reqwest::Client::new();
    let config = encoded(&json!({ "repo": "of/url", "token": "t" }));
    let url = format!("{}/plain/sse?config={config}", pool.url);
    let mut stream = http.get(url).send().await.expect("answers");
    let mut told = String::new();
    let mut read_until = async |what: &str| {
        while !told.contains(what) {
            let chunk = stream.chunk().await.expect("reads").expect("more");
            told.push_str(&String::from_utf8_lossy(&chunk));
        }
        told.clone()
    };
    let endpoint = read_until("\n\n").await;
    let data = |line: &str| line.strip_prefix("data: ").map(str::to_owned);
    let path = endpoint.lines().find_map(data).expect("where to POST");
    assert!(!path.contains("config="), "{path}");
    let info = json!({ "name": "old", "version": "1" });
    let hello = json!({ "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": info });
    let own = json!({ "name": "whoami", "clientConfig": { "repo": "of/request" } });
    for (id, method, params, expected) in [
        (1, "initialize", hello, "issue-server"),
        (2, "tools/call", json!({ "name": "whoami" }), "of/url"),
        (3, "tools/call", own, "of/request"),
    ] {
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let request = http.post(format!("{}{path}", pool.url));
        let request = request.header("content-type", "application/json");
        let sent = request
            .body(body.to_string())
            .send()
            .await
            .expect("answers");
        assert_eq!(sent.status(), StatusCode::ACCEPTED);
        read_until(expected).await;
    }
}
