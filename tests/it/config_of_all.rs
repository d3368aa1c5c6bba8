//! Config from callers at `/mcp`, where all servers are one: by server, from every place, to the
//! processes of each and nowhere else.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::config::{encoded, folder, servers, store};
use super::support::stateless::{ask, params, send, text};
use super::support::{Client, Stdiopool, demo};

fn whole(pool: &Stdiopool) -> Client {
    Client::new(format!("{}/mcp", pool.url))
}

/// What the process of that server that answered was started with.
async fn whoami(client: &Client, server: &str, mut params: Value) -> Value {
    params["name"] = json!(format!("{server}__whoami"));
    let answer = client.ask("tools/call", params).await;
    serde_json::from_str(answer.text()).expect("JSON")
}

async fn whoami_stateless(client: &Client, server: &str, meta: Value) -> Value {
    let own = json!({ "name": format!("{server}__whoami"), "arguments": {}, "_meta": meta });
    let answer = ask(client, "tools/call", params(own, &json!({}))).await.2;
    serde_json::from_str(text(&answer)).unwrap_or_else(|_| panic!("no JSON: {answer}"))
}

/// A handle with the token as a secret, for `github` alone or beside `plain`.
async fn handle(pool: &Stdiopool, n: usize, of_several: bool) -> String {
    let (repo, token) = (repo(n), token(n));
    let github = json!({ "config": { "repo": repo }, "secrets": { "github_token": token } });
    let body = if of_several {
        let plain = json!({ "config": { "repo": repo, "token": token } });
        json!({ "servers": { "github": github, "plain": plain }, "ttl": "10m" })
    } else {
        let mut body = github;
        body["server"] = json!("github");
        body
    };
    let (status, stored) = store(pool, &body).await;
    assert_eq!(status, StatusCode::CREATED, "{stored}");
    assert!(!stored.to_string().contains("of-caller"), "{stored}");
    if of_several {
        let named = &stored["servers"];
        assert_eq!(
            named["github"],
            json!({ "keys": ["repo"], "secrets": ["github_token"] })
        );
        assert_eq!(
            named["plain"],
            json!({ "keys": ["repo", "token"], "secrets": [] })
        );
    }
    stored["id"].as_str().expect("an id").to_owned()
}

fn repo(n: usize) -> String {
    format!("owner-{n}/repo-{n}")
}

fn token(n: usize) -> String {
    format!("token-{n}-of-caller")
}

/// One of fifty callers, each with a config of its own for each of two servers.
async fn caller(pool: &Stdiopool, n: usize) -> [Value; 2] {
    let both = json!({
        "github": handle(pool, n, false).await,
        "plain": { "repo": repo(n), "token": token(n) },
    });
    let in_session = async |client: Client| {
        let client = client.connect().await;
        [
            whoami(&client, "github", json!({})).await,
            whoami(&client, "plain", json!({})).await,
        ]
    };
    match n % 10 {
        0 => {
            let mut client = whole(pool);
            client.url += &format!("?config={}", encoded(&both));
            in_session(client).await
        }
        1 => {
            let mut client = whole(pool);
            client.config = Some(encoded(&both));
            in_session(client).await
        }
        // Of several, as it is.
        2 => {
            let mut client = whole(pool);
            client.config = Some(handle(pool, n, true).await);
            in_session(client).await
        }
        // With each request, after an `initialize` without.
        3 => {
            let client = whole(pool).connect().await;
            let own = json!({ "clientConfig": both });
            [
                whoami(&client, "github", own.clone()).await,
                whoami(&client, "plain", own).await,
            ]
        }
        4 => {
            let client = whole(pool).connect().await;
            let meta = json!({ "dev.stdiopool/config": both, "progressToken": n });
            let own = json!({ "_meta": meta });
            [
                whoami(&client, "github", own.clone()).await,
                whoami(&client, "plain", own).await,
            ]
        }
        // A part in each of two places.
        5 => {
            let mut client = whole(pool);
            client.config = Some(handle(pool, n, false).await);
            client.url += &format!("?config={}", encoded(&json!({ "plain": both["plain"] })));
            in_session(client).await
        }
        6 => {
            let mut client = whole(pool);
            let init = json!({
                "protocolVersion": "2025-11-25", "capabilities": {},
                "clientInfo": { "name": "c", "version": "1" },
                "_meta": { "dev.stdiopool/config": both },
            });
            let opened = client.ask("initialize", init).await;
            let session = opened.headers["mcp-session-id"].to_str().expect("ASCII");
            client.session = Some(session.to_owned());
            [
                whoami(&client, "github", json!({})).await,
                whoami(&client, "plain", json!({})).await,
            ]
        }
        7 => {
            let meta = json!({ "dev.stdiopool/config": both });
            let client = whole(pool);
            [
                whoami_stateless(&client, "github", meta.clone()).await,
                whoami_stateless(&client, "plain", meta).await,
            ]
        }
        8 => {
            let mut client = whole(pool);
            client.config = Some(handle(pool, n, true).await);
            [
                whoami_stateless(&client, "github", json!({ "x": 1 })).await,
                whoami_stateless(&client, "plain", json!({ "x": 1 })).await,
            ]
        }
        // A handle of several is good for each of them alone, too.
        _ => {
            let id = handle(pool, n, true).await;
            let alone = async |server: &str| {
                let mut client = pool.client(server);
                client.config = Some(id.clone());
                let client = client.connect().await;
                let answer = client.call("whoami", json!({})).await;
                serde_json::from_str(answer.text()).expect("JSON")
            };
            [alone("github").await, alone("plain").await]
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_callers_of_all_servers_get_processes_of_their_own_at_each() {
    let wire = folder();
    // Far fewer places than configs: those that are idle make room.
    let limits = "[pool]\nmax_workers = 8\nmax_starting = 4\nqueue_timeout = \"60s\"\n";
    let pool = Stdiopool::serve(&(servers(wire.path()) + limits));
    let answers = join_all((0..50).map(|n| caller(&pool, n))).await;
    let mut pids = BTreeSet::new();
    for (n, both) in answers.iter().enumerate() {
        for told in both {
            assert_eq!(told["repo"], repo(n));
            assert_eq!(told["token"], token(n));
            pids.insert(told["pid"].as_u64().expect("a pid"));
        }
    }
    assert_eq!(pids.len(), 100, "a process for each config of each server");
    let mut lines = 0;
    for entry in std::fs::read_dir(wire.path()).expect("there") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("read");
        lines += text.lines().count();
        for trace in [
            "clientConfig",
            "dev.stdiopool",
            "cfg_",
            "owner-",
            "of-caller",
        ] {
            assert!(!text.contains(trace), "{trace} reached a worker: {text}");
        }
    }
    assert!(lines >= 200, "an initialize and a call each, not {lines}");
    let log = pool.log();
    assert!(!log.contains("of-caller") && !log.contains("cfg_"), "{log}");
}

#[tokio::test]
async fn what_may_be_set_is_advertised_by_server_and_lists_are_asked_with_it() {
    let wire = folder();
    let own = demo("own", "");
    let hidden = demo(
        "hidden",
        "aggregate = false\nclient_config = [\"x\"]\n[servers.hidden.config]\nproperties.x = { type = \"string\" }",
    );
    let pool = Stdiopool::serve(&format!("{}{own}{hidden}", servers(wire.path())));
    let advert =
        |result: &Value| result["capabilities"]["experimental"]["dev.stdiopool/config"].clone();
    let answer = whole(&pool).try_initialize("2025-11-25", json!({})).await;
    let told = advert(answer.result());
    assert_eq!(told["type"], "object");
    assert_eq!(told["additionalProperties"], false);
    let of_each = told["properties"].as_object().expect("by server");
    assert_eq!(of_each.keys().collect::<Vec<_>>(), ["github", "plain"]);
    assert_eq!(of_each["github"]["required"], json!(["repo"]));
    assert_eq!(of_each["github"]["x-secrets"], json!(["github_token"]));
    let asked = params(json!({}), &json!({}));
    let found = ask(&whole(&pool), "server/discover", asked).await.2;
    assert_eq!(advert(&found["result"]), told);
    assert!(
        pool.workers().await.is_empty(),
        "nothing was started for it"
    );

    // A server without what it needs is missing in a list; with it, it is there.
    let named = |result: &Value| -> Vec<String> {
        let tools = result["tools"].as_array().expect("a list").iter();
        tools
            .map(|tool| tool["name"].as_str().expect("a name").to_owned())
            .collect()
    };
    let plain = json!({ "plain": { "repo": "a/b", "token": "t" } });
    let client = whole(&pool).connect().await;
    let without = client.ask("tools/list", json!({})).await;
    assert!(!named(without.result()).contains(&"plain__whoami".to_owned()));
    let with = client
        .ask("tools/list", json!({ "clientConfig": plain }))
        .await;
    assert!(named(with.result()).contains(&"plain__whoami".to_owned()));
    assert!(named(with.result()).contains(&"own__echo".to_owned()));
    let meta = json!({ "_meta": { "dev.stdiopool/config": plain } });
    let listed = ask(&whole(&pool), "tools/list", params(meta, &json!({})))
        .await
        .2;
    assert!(
        named(&listed["result"]).contains(&"plain__whoami".to_owned()),
        "{listed}"
    );
    let mut of_session = whole(&pool);
    of_session.config = Some(encoded(&plain));
    let of_session = of_session.connect().await;
    let listed = of_session.ask("tools/list", json!({})).await;
    assert!(named(listed.result()).contains(&"plain__whoami".to_owned()));
}

#[tokio::test]
async fn what_does_not_fit_is_told_by_server_without_values() {
    let wire = folder();
    let own = demo("own", "");
    let policy = "[policy]\ndefault = \"deny\"\n[policy.acme]\ntenants = [\"acme\"]\nservers = [\"github\", \"own\"]\n[policy.all]\ntenants = [\"default\"]\n";
    let pool = Stdiopool::serve(&format!("{}{own}{policy}", servers(wire.path())));
    let client = whole(&pool).connect().await;
    let good = json!({ "repo": "a/b", "token": "t" });
    for (config, pointer) in [
        (
            json!({ "plain": { "repo": "hunter22", "token": "t" } }),
            "/plain/repo",
        ),
        (
            json!({ "plain": { "repo": "a/b", "host": "hunter22" } }),
            "/plain/host",
        ),
        (
            json!({ "plain": { "repo": "a/b", "new": "hunter22" } }),
            "/plain/new",
        ),
        (json!({ "plain": { "token": "hunter22" } }), "/plain/repo"),
        (json!({ "plain": "hunter22" }), "/plain"),
        (
            json!({ "plain": "cfg_00000000000000000000000000000000" }),
            "/plain",
        ),
        (json!({ "repo": "hunter22" }), "/repo"),
        (json!({ "own": { "x": "hunter22" } }), "/own/x"),
        // Checked, though the call is for another.
        (
            json!({ "plain": good, "github": { "page": "hunter22" } }),
            "/github/page",
        ),
    ] {
        let asked = json!({ "name": "plain__whoami", "clientConfig": config });
        let refused = client.ask("tools/call", asked.clone()).await;
        assert_eq!(refused.status, StatusCode::OK, "{config}: {refused:?}");
        let mut errors = vec![refused.response()["error"].clone()];
        let (status, _, answer) = ask(&whole(&pool), "tools/call", params(asked, &json!({}))).await;
        assert_eq!(status, StatusCode::OK, "{config}: {answer}");
        errors.push(answer["error"].clone());
        for error in errors {
            assert_eq!(error["data"]["reason"], "config_invalid");
            assert_eq!(error["data"]["errors"][0]["pointer"], pointer, "{error}");
            assert!(!error.to_string().contains("hunter22"), "{error}");
        }
    }
    // What is missing, with the schema by server.
    let refused = client.call("plain__whoami", json!({})).await;
    let schema = &refused.response()["error"]["data"]["schema"]["properties"]["plain"];
    assert_eq!(schema["required"], json!(["repo"]), "{refused:?}");
    // At the beginning of a session as well.
    let mut begins = whole(&pool);
    begins.config = Some(encoded(&json!({ "github": { "page": 1000 } })));
    let refused = begins.try_initialize("2025-11-25", json!({})).await;
    let errors = &refused.response()["error"]["data"]["errors"];
    assert_eq!(errors[0]["pointer"], "/github/page", "{refused:?}");
    // Of what is there for others, nothing is said.
    let mut acme = Client::new(format!("{}/t/acme/mcp", pool.url));
    acme.config = Some(encoded(&json!({ "plain": good })));
    let refused = acme.try_initialize("2025-11-25", json!({})).await;
    let mut nobody = Client::new(format!("{}/t/acme/mcp", pool.url));
    nobody.config = Some(encoded(&json!({ "nothing": good })));
    let unknown = nobody.try_initialize("2025-11-25", json!({})).await;
    assert_eq!(
        refused.message().replace("plain", "nothing"),
        unknown.message(),
    );
    assert!(
        refused.message().contains("on offer: `github`, `own`"),
        "{refused:?}"
    );
    assert!(!pool.log().contains("hunter22"), "{}", pool.log());
}

#[tokio::test]
async fn a_request_goes_over_its_session_server_by_server_and_a_restart_keeps_both() {
    let wire = folder();
    let pool = Stdiopool::serve(&servers(wire.path()));
    let token = json!({ "server": "github", "secrets": { "github_token": "of-handle" } });
    let (_, stored) = store(&pool, &token).await;
    let config = json!({ "github": { "repo": "of/session", "page": 7 } });
    let mut client = whole(&pool);
    client.config = Some(encoded(&config));
    let mut client = client.connect().await;
    client.config = None;
    let own = |github: Value| json!({ "clientConfig": { "github": github } });
    let with_token = json!({
        "clientConfig": stored["id"],
        "_meta": { "dev.stdiopool/config": { "github": { "page": 8 } } },
    });
    let told = whoami(&client, "github", with_token.clone()).await;
    assert_eq!(
        [&told["repo"], &told["token"], &told["page"]],
        [&json!("of/session"), &json!("of-handle"), &json!(8)]
    );
    let again = whoami(&client, "github", with_token).await;
    assert_eq!(again["pid"], told["pid"], "it has its way already");
    let (_, more) = store(
        &pool,
        &json!({
            "servers": { "plain": { "config": { "repo": "a/b" } } }
        }),
    )
    .await;
    assert_eq!(more["survivesRestart"], true);
    let pool = pool.restarted_after(nix::sys::signal::Signal::SIGKILL);
    client.url = whole(&pool).url;
    let refused = client
        .ask(
            "tools/call",
            json!({ "name": "github__whoami", "clientConfig": stored["id"] }),
        )
        .await;
    assert_eq!(
        refused.reason(),
        "config_invalid",
        "without a key, it ended with the run"
    );
    let (_, stored) = store(&pool, &token).await;
    let told = whoami(&client, "github", own(stored["id"].clone())).await;
    assert_eq!(
        [&told["repo"], &told["page"]],
        [&json!("of/session"), &json!(7)]
    );
    let url = format!(
        "{}/v1/config/{}",
        pool.url,
        more["id"].as_str().expect("an id")
    );
    let told: Value = reqwest::get(url)
        .await
        .expect("answers")
        .json()
        .await
        .expect("JSON");
    assert_eq!(told, more);
}

#[tokio::test]
async fn a_body_that_is_of_one_and_of_several_is_refused() {
    let wire = folder();
    let pool = Stdiopool::serve(&servers(wire.path()));
    let part = json!({ "config": { "repo": "a/b" } });
    for (body, reason) in [
        (
            json!({ "server": "github", "servers": { "github": part } }),
            "invalid_request",
        ),
        (json!({ "config": {}, "secrets": {} }), "invalid_request"),
        (
            json!({ "servers": { "github": part }, "config": { "repo": "a/b" } }),
            "invalid_request",
        ),
        (
            json!({ "servers": { "github": { "repo": "hunter22" } } }),
            "invalid_request",
        ),
        (
            json!({ "servers": { "github": part, "nothing": part } }),
            "not_found",
        ),
        (json!({ "servers": {} }), "config_invalid"),
        (
            json!({ "servers": { "github": { "config": { "page": 1000 } } } }),
            "config_invalid",
        ),
    ] {
        let (status, refused) = store(&pool, &body).await;
        assert!(status.is_client_error(), "{body}");
        assert_eq!(
            refused["error"]["data"]["reason"], reason,
            "{body}: {refused}"
        );
        assert!(!refused.to_string().contains("hunter22"), "{refused}");
    }
    let answer = reqwest::Client::new()
        .request(Method::PUT, format!("{}/v1/config", pool.url))
        .send()
        .await
        .expect("answers");
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn batches_the_old_transport_and_listeners_have_their_parts_too() {
    let wire = folder();
    let needing = demo(
        "needing",
        "env = { GREETING = \"${config.greeting}\" }\nclient_config = [\"greeting\"]\n[servers.needing.config]\nrequired = [\"greeting\"]\nproperties.greeting = { type = \"string\" }",
    );
    let pool = Stdiopool::serve(&(servers(wire.path()) + &needing));
    let plain = |repo: &str| json!({ "plain": { "repo": repo, "token": "t" } });

    let client = whole(&pool).connect_as("2025-03-26", json!({})).await;
    let call = |n: u32| {
        let params = json!({ "name": "plain__whoami", "clientConfig": plain(&format!("of/{n}")) });
        json!({ "jsonrpc": "2.0", "id": n, "method": "tools/call", "params": params })
    };
    let answer = client.post(&json!([call(1), call(2)])).await;
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

    let http = reqwest::Client::new();
    let url = format!("{}/sse?config={}", pool.url, encoded(&plain("of/url")));
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
    let info = json!({ "name": "old", "version": "1" });
    let hello = json!({ "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": info });
    let own = json!({ "name": "plain__whoami", "clientConfig": plain("of/request") });
    for (id, method, params, expected) in [
        (1, "initialize", hello, "dev.stdiopool/config"),
        (
            2,
            "tools/call",
            json!({ "name": "plain__whoami" }),
            "of/url",
        ),
        (3, "tools/call", own, "of/request"),
    ] {
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let request = http.post(format!("{}{path}", pool.url));
        let sent = request.json(&body).send().await.expect("answers");
        assert_eq!(sent.status(), StatusCode::ACCEPTED);
        read_until(expected).await;
    }

    // Who listens with the same config as another calls with hears of what that one does.
    let mut client = whole(&pool);
    client.config = Some(encoded(&json!({ "needing": { "greeting": "hello" } })));
    let uri = "stdiopool://needing/demo://counter";
    let wanted = json!({ "notifications": { "resourceSubscriptions": [uri] } });
    let response = send(&client, "subscriptions/listen", params(wanted, &json!({}))).await;
    let mut events = client.stream_of(response);
    let first = events.next().await.expect("a message");
    let agreed = &first["params"]["notifications"]["resourceSubscriptions"];
    assert_eq!(*agreed, json!([uri]), "{first}");
    let counted = params(
        json!({ "name": "needing__counter", "arguments": {} }),
        &json!({}),
    );
    let (status, _, answer) = ask(&client, "tools/call", counted).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let told = events.next().await.expect("a message");
    assert_eq!(told["params"]["uri"], uri);
}
