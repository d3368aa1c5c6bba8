//! A call of a tool whose arguments are set (`bind`) reaches its server with them, or not at all: on every way to a tool,
//! also where nobody has listed the tools before.

use std::path::Path;
use std::time::{Duration, Instant};

use http::StatusCode;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::support::stateless::{ask, params};
use super::support::{Client, Events, Stdiopool, eventually};

/// A `[servers.NAME]` table of the server that lists; it writes `NAME.log`.
fn listing(dir: &Path, name: &str, flags: &[&str], more: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/listing.py");
    let record = dir.join(format!("{name}.log")).display().to_string();
    let mut args = vec![script, &record];
    args.extend(flags);
    format!("[servers.{name}]\ncommand = \"python3\"\nargs = {args:?}\n{more}\n")
}

/// Serves what is written for a folder, in which servers may write their logs.
fn serve(toml: impl FnOnce(&Path) -> String) -> Stdiopool {
    let dir = crate::support::open_folder().expect("a temporary folder");
    let toml = toml(dir.path());
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", &toml);
    let config = dir.path().join("pool.toml").display().to_string();
    Stdiopool::run(dir, &["--config".to_owned(), config], &[])
}

/// What a server has heard of that method: the params.
fn heard(pool: &Stdiopool, server: &str, method: &str) -> Vec<Value> {
    let log = pool.dir.path().join(format!("{server}.log"));
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let messages = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let messages = messages.filter(|message| message["method"] == method);
    messages.map(|message| message["params"].clone()).collect()
}

/// Which arguments a tool was called with, or why it was not.
fn outcome(response: &Value) -> Result<Value, (String, String)> {
    if let Some(text) = response["result"]["content"][0]["text"].as_str() {
        let called: Value = serde_json::from_str(text).expect("JSON");
        return Ok(called["arguments"].clone());
    }
    let error = &response["error"];
    let reason = error["data"]["reason"].as_str().unwrap_or("none");
    let message = error["message"].as_str().unwrap_or_default();
    Err((reason.to_owned(), message.to_owned()))
}

/// The ways to a tool.
const WAYS: [&str; 6] = [
    "session",
    "stateless",
    "session of all",
    "stateless of all",
    "batch",
    "sse",
];

/// Calls a tool of a server on that way, as the first that its client does; and the status of the answer.
async fn first_call(
    pool: &Stdiopool,
    way: &str,
    server: &str,
    tool: &str,
    arguments: Value,
) -> (StatusCode, Value) {
    let one = pool.client(server);
    let all = Client::new(format!("{}/mcp", pool.url));
    let named = format!("{server}__{tool}");
    let plain = |name: &str| json!({ "name": name, "arguments": arguments });
    match way {
        "session" => {
            let answer = one.connect().await.ask("tools/call", plain(tool)).await;
            (answer.status, answer.response().clone())
        }
        "session of all" => {
            let answer = all.connect().await.ask("tools/call", plain(&named)).await;
            (answer.status, answer.response().clone())
        }
        "batch" => {
            let client = one.connect_as("2025-03-26", json!({})).await;
            let call =
                json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": plain(tool) });
            let answer = client.post(&json!([call])).await;
            let first = answer.response().get(0).cloned();
            (
                answer.status,
                first.unwrap_or_else(|| answer.response().clone()),
            )
        }
        "sse" => (StatusCode::OK, sse_call(pool, server, plain(tool)).await),
        way => {
            let (client, name) = match way {
                "stateless" => (&one, tool),
                _ => (&all, named.as_str()),
            };
            let asked = params(plain(name), &json!({}));
            let (status, _, response) = ask(client, "tools/call", asked).await;
            (status, response)
        }
    }
}

/// A call over the transport of 2024-11-05.
async fn sse_call(pool: &Stdiopool, server: &str, params: Value) -> Value {
    let mut client = pool.client(server);
    client.url = format!("{}/{server}/sse", pool.url);
    let response = client.request(http::Method::GET).send().await;
    let mut response = response.expect("answers");
    let mut first = String::new();
    while !first.contains("\n\n") {
        let chunk = response.chunk().await.expect("open").expect("more");
        first.push_str(&String::from_utf8_lossy(&chunk));
    }
    let address = first.lines().find_map(|line| line.strip_prefix("data: "));
    let messages = Client::new(format!("{}{}", pool.url, address.expect("an address")));
    let mut events: Events = client.stream_of(response);
    let about = json!({ "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
    for (id, method, params) in [(1, "initialize", about), (2, "tools/call", params)] {
        let asked = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let answer = messages.send_raw(asked.to_string()).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        let told = events.next().await.expect("an answer");
        assert_eq!(told["id"], id, "{told}");
        if id == 2 {
            return told;
        }
    }
    unreachable!("the second one returns");
}

fn slips(dir: &Path, era: &str) -> String {
    let flags = ["--era", era];
    listing(dir, "tool", &flags, "bind.git_statsu = { repo = \"a/b\" }")
        + &listing(
            dir,
            "argument",
            &flags,
            "bind.git_status = { rpeo = \"a/b\" }",
        )
        + &listing(dir, "glob", &flags, "bind.\"gi?_*\" = { rpeo = \"a/b\" }")
        + &listing(
            dir,
            "slipglob",
            &flags,
            "bind.\"gti_*\" = { repo = \"a/b\" }",
        )
        + &listing(
            dir,
            "right",
            &flags,
            "bind.git_status = { repo = \"of-${tenant.id}\" }",
        )
}

/// Fails on every way where the list is only looked at once a client has asked for it.
#[tokio::test]
async fn the_first_call_is_bound_or_refused_on_every_way() {
    for era in ["initialize", "stateless"] {
        let mut pool = serve(|dir| slips(dir, era));
        for (n, way) in WAYS.into_iter().enumerate() {
            if n == 2 {
                // Nothing of what was learnt is left.
                pool = pool.restarted_after(Signal::SIGTERM);
            }
            for server in ["tool", "argument", "glob", "slipglob"] {
                let given = json!({ "repo": "mine" });
                let (status, response) = first_call(&pool, way, server, "git_status", given).await;
                let (reason, why) = outcome(&response).expect_err("refused");
                let place = format!("{era} {way} {server}");
                assert_eq!(
                    (status, &*reason),
                    (StatusCode::OK, "config_invalid"),
                    "{place}: {response}"
                );
                assert!(
                    why.contains(&format!("`servers.{server}.bind.")),
                    "{place}: {why}"
                );
            }
            let given = json!({ "path": "p" });
            let (_, response) = first_call(&pool, way, "right", "git_status", given).await;
            let bound = outcome(&response).unwrap_or_else(|why| panic!("{era} {way}: {why:?}"));
            assert_eq!(
                bound,
                json!({ "path": "p", "repo": "of-default" }),
                "{era} {way}"
            );
            let given = json!({ "repo": "mine" });
            let (_, response) = first_call(&pool, way, "right", "git_status", given).await;
            let (_, why) = outcome(&response).expect_err("not to be given");
            assert!(
                why.contains("`repo` is set by the server's operator"),
                "{era} {way}: {why}"
            );
        }
        for server in ["tool", "argument", "glob", "slipglob"] {
            assert_eq!(
                heard(&pool, server, "tools/call"),
                [json!(null); 0],
                "{era} {server}"
            );
        }
    }
}

#[tokio::test]
async fn a_refusal_is_told_and_the_session_and_other_tools_go_on() {
    let pool = serve(|dir| slips(dir, "initialize") + "[tenants.default]\n");
    let client = pool.client("tool").connect().await;
    let refused = client.call("git_status", json!({})).await;
    assert_eq!(
        (refused.status, refused.reason()),
        (StatusCode::OK, "config_invalid")
    );
    let log = client.call("git_log", json!({ "repo": "mine" })).await;
    assert_eq!(outcome(log.response()), Ok(json!({ "repo": "mine" })));
    let told = "`servers.tool.bind.git_statsu` matches no tool of the server; did you mean `git_status`? Until it is mended, calls of `git_status` are refused";
    let warnings = || {
        let log = pool.log();
        let lines = log.lines();
        lines
            .filter(|line| line.contains("WARN") && line.contains(told))
            .count()
    };
    eventually("it is in the log", async || warnings() > 0).await;
    assert_eq!(warnings(), 1, "{}", pool.log());
    let file = pool.dir.path().join("pool.toml").display().to_string();
    let run = |args: &[&str]| {
        let output = pool.command(args).output().expect("runs");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    let (ok, said) = run(&["check", "--live", "--config", &file]);
    assert!(!ok && said.contains(told), "{said}");
    let (_, said) = run(&["events", "--server", "tool"]);
    assert!(
        said.lines()
            .any(|line| line.contains("rule_unmatched") && line.contains(told)),
        "{said}"
    );
    let explain = |server: &str, tool: &str| {
        run(&[
            "explain", "--config", &file, "--server", server, "--tool", tool,
        ])
        .1
    };
    let said = explain("tool", "git_status");
    assert!(
        said.contains("`servers.tool.bind.git_statsu` may be meant for it"),
        "{said}"
    );
    let said = explain("right", "git_status");
    assert!(
        said.contains("if the tool has no such argument, it is not called"),
        "{said}"
    );
    let said = explain("glob", "git_log");
    assert!(
        said.contains("where no tool that the pattern matches has it, none of them is called"),
        "{said}"
    );
    // By status where balancers want to see it.
    let text = std::fs::read_to_string(&file).expect("there");
    std::fs::write(
        &file,
        text.replace("[http]\n", "[http]\nfailure_status = \"http\"\n"),
    )
    .expect("written");
    let (ok, said) = run(&["reload"]);
    assert!(ok, "{said}");
    let refused = client.call("git_status", json!({})).await;
    assert_eq!(
        (refused.status, refused.reason()),
        (StatusCode::BAD_REQUEST, "config_invalid")
    );
    // Mended, it is called, and bound.
    let text = std::fs::read_to_string(&file).expect("there");
    std::fs::write(&file, text.replace("bind.git_statsu", "bind.git_status")).expect("written");
    let (ok, said) = run(&["reload"]);
    assert!(ok, "{said}");
    let bound = client.call("git_status", json!({})).await;
    assert_eq!(outcome(bound.response()), Ok(json!({ "repo": "a/b" })));
}

#[tokio::test]
async fn a_list_is_read_once_unseen_and_not_at_all_where_nothing_is_bound() {
    let pool = serve(|dir| {
        listing(
            dir,
            "right",
            &["--pages", "3"],
            "bind.git_status = { repo = \"x\" }",
        ) + &listing(
            dir,
            "free",
            &[],
            "tools.deny = [\"delete_*\"]\n[policy.a]\ntools.deny = [\"drop_*\"]",
        )
    });
    let mut client = pool.client("right").connect().await;
    // The client's own ids are its own.
    for id in [json!(0), json!("dev.stdiopool/tools"), json!(1)] {
        let call = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": "git_status" } });
        let answer = client.post(&call).await;
        assert_eq!(answer.messages.len(), 1, "{answer:?}");
        assert_eq!(answer.response()["id"], id);
        assert_eq!(outcome(answer.response()), Ok(json!({ "repo": "x" })));
    }
    assert_eq!(
        heard(&pool, "right", "tools/list").len(),
        3,
        "three pages, once"
    );
    // Another session, and another process of the same way: as the catalog knows it.
    client = pool.client("right").connect().await;
    client.call("git_status", json!({})).await.result();
    assert_eq!(heard(&pool, "right", "tools/list").len(), 3);
    let free = pool.client("free").connect().await;
    free.call("git_status", json!({ "repo": "mine" }))
        .await
        .result();
    assert_eq!(heard(&pool, "free", "tools/list"), [json!(null); 0]);
    // What is not listed is not called.
    let unknown = client.call("git_push", json!({})).await;
    assert_eq!(unknown.message(), "unknown tool: git_push");
    assert!(
        heard(&pool, "right", "tools/call")
            .iter()
            .all(|call| call["name"] != "git_push")
    );
}

#[tokio::test]
async fn many_first_calls_at_once_read_one_list() {
    let pool = serve(|dir| listing(dir, "right", &[], "bind.git_status = { repo = \"x\" }"));
    let client = pool.client("right").connect().await;
    let calls = (0..20).map(|_| client.call("git_status", json!({})));
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(outcome(answer.response()), Ok(json!({ "repo": "x" })));
    }
    assert_eq!(heard(&pool, "right", "tools/list").len(), 1);
}

/// Where lists are not remembered, each process is asked for its own.
#[tokio::test]
async fn every_kind_of_worker_is_asked_itself_where_nothing_is_remembered() {
    for more in [
        "share = \"session\"",
        "share = \"request\"",
        "stateful = true",
        "share = \"tenant\"",
    ] {
        let pool = serve(|dir| {
            let bind = "bind.git_status = { repo = \"x\" }";
            let slip = "bind.git_statsu = { repo = \"x\" }";
            "[pool]\ncatalog_age = \"never\"\n".to_owned()
                + &listing(dir, "right", &["--pages", "2"], &format!("{more}\n{bind}"))
                + &listing(dir, "slip", &["--pages", "2"], &format!("{more}\n{slip}"))
        });
        for stateless in [false, true] {
            let way = WAYS[usize::from(stateless)];
            for _ in 0..2 {
                let (_, response) = first_call(&pool, way, "right", "git_status", json!({})).await;
                assert_eq!(
                    outcome(&response),
                    Ok(json!({ "repo": "x" })),
                    "{more} {way}"
                );
                let (_, response) = first_call(&pool, way, "slip", "git_status", json!({})).await;
                assert!(outcome(&response).is_err(), "{more} {way}: {response}");
            }
        }
        let starts = heard(&pool, "right", "initialize").len();
        let lists = heard(&pool, "right", "tools/list").len();
        assert_eq!(lists % 2, 0, "whole lists");
        assert!(
            lists / 2 <= starts,
            "{more}: {lists} pages of {starts} processes"
        );
        assert_eq!(
            heard(&pool, "slip", "tools/call"),
            [json!(null); 0],
            "{more}"
        );
    }
}

#[tokio::test]
async fn a_list_that_changed_is_read_again_before_the_next_call() {
    for age in ["1h", "never"] {
        let pool = serve(|dir| {
            format!("[pool]\ncatalog_age = \"{age}\"\n")
                + &listing(dir, "right", &[], "bind.git_status = { repo = \"x\" }")
        });
        let client = pool.client("right").connect().await;
        let bound = client.call("git_status", json!({})).await;
        assert_eq!(outcome(bound.response()), Ok(json!({ "repo": "x" })));
        client.call("change", json!({})).await.result();
        let refused = client
            .call("git_status", json!({ "repository": "mine" }))
            .await;
        assert_eq!(refused.reason(), "config_invalid", "{refused:?}");
        assert!(
            refused
                .message()
                .contains("`servers.right.bind.git_status.repo`"),
            "{refused:?}"
        );
        assert_eq!(heard(&pool, "right", "tools/list").len(), 2);
        // In another process nothing has changed.
        let others = pool.client_of("other", "right").connect().await;
        let bound = others.call("git_status", json!({})).await;
        assert_eq!(outcome(bound.response()), Ok(json!({ "repo": "x" })));
    }
}

#[tokio::test]
async fn a_list_that_cannot_be_had_refuses_the_call_in_time_and_nobody_elses() {
    let of = |how: &str| {
        [
            "--list".to_owned(),
            how.to_owned(),
            "--of".to_owned(),
            "bad".to_owned(),
            "--for=${tenant.id}".to_owned(),
        ]
    };
    let cases = [
        (
            "hang",
            "request_timeout",
            "did not answer `tools/list` within 2s (raise `servers.hang.start_timeout`",
        ),
        (
            "error",
            "answer_invalid",
            "it answered `tools/list` with an error: {\"code\": -32000",
        ),
        ("endless", "answer_invalid", "the list does not end"),
        ("dies", "worker_exited", "while this request was in flight"),
    ];
    let pool = serve(|dir| {
        let server = |how: &str| {
            let flags = of(how);
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            listing(
                dir,
                how,
                &flags,
                "start_timeout = \"2s\"\nbind.git_status = { repo = \"x\" }",
            )
        };
        cases.iter().map(|(how, _, _)| server(how)).collect()
    });
    for (how, reason, told) in cases {
        let bad = pool.client_of("bad", how).connect().await;
        let since = Instant::now();
        let refused = tokio::spawn(async move {
            tokio::join!(
                bad.call("git_status", json!({})),
                bad.call("git_log", json!({}))
            )
        });
        let good = pool.client_of("good", how).connect().await;
        let bound = good.call("git_status", json!({})).await;
        assert_eq!(
            outcome(bound.response()),
            Ok(json!({ "repo": "x" })),
            "{how}"
        );
        let (first, second) = refused.await.expect("ran");
        for refused in [first, second] {
            // One that comes to the next process, or when the circuit is open, is told that of this.
            if how == "dies" && ["start_failed", "circuit_open"].contains(&refused.reason()) {
                assert_eq!(refused.status, StatusCode::OK, "{refused:?}");
                continue;
            }
            assert_eq!(
                (refused.status, refused.reason()),
                (StatusCode::OK, reason),
                "{how}: {refused:?}"
            );
            assert!(
                refused.message().contains(told),
                "{how}: {}",
                refused.message()
            );
            assert!(
                refused.message().contains("(`servers."),
                "{}",
                refused.message()
            );
        }
        assert!(since.elapsed() < Duration::from_secs(30), "{how}");
        let calls = heard(&pool, how, "tools/call");
        assert_eq!(calls.len(), 1, "{how}: {calls:?}");
    }
    // Whoever waits no more has cancelled the list.
    eventually("the list is cancelled", async || {
        !heard(&pool, "hang", "notifications/cancelled").is_empty()
    })
    .await;
}

/// What a server asks while it lists is for no client.
#[tokio::test]
async fn a_question_during_a_list_reaches_no_client() {
    let pool = serve(|dir| {
        let more = "share = \"session\"\nbind.git_status = { repo = \"x\" }";
        listing(dir, "asks", &["--list", "asks"], more)
    });
    let client = pool
        .client("asks")
        .connect_as("2025-11-25", json!({ "elicitation": {} }))
        .await;
    let answer = client.call("git_status", json!({})).await;
    assert_eq!(answer.messages.len(), 1, "{answer:?}");
    assert_eq!(outcome(answer.response()), Ok(json!({ "repo": "x" })));
}

#[tokio::test]
async fn a_glob_sets_an_argument_where_there_is_one_and_nobody_gives_it_elsewhere() {
    let pool = serve(|dir| listing(dir, "git", &[], "bind.\"*\" = { path = \"bound\" }"));
    let client = pool.client("git").connect().await;
    for (tool, given, expected) in [
        (
            "git_status",
            json!({ "repo": "r" }),
            Ok(json!({ "repo": "r", "path": "bound" })),
        ),
        (
            "git_log",
            json!({ "repo": "r" }),
            Ok(json!({ "repo": "r" })),
        ),
        ("version", json!({}), Ok(json!({}))),
        ("odd", json!({}), Ok(json!({ "path": "bound" }))),
    ] {
        let answer = client.call(tool, given).await;
        assert_eq!(outcome(answer.response()), expected, "{tool}");
    }
    for tool in ["git_status", "git_log", "version", "odd"] {
        for name in ["path", "Path"] {
            let refused = client.call(tool, json!({ name: "mine" })).await;
            let (_, why) = outcome(refused.response()).expect_err("refused");
            assert!(
                why.contains("`path` is set by the server's operator"),
                "{tool} {why}"
            );
        }
    }
}
