//! Servers that speak 2026-07-28 and nothing else, behind clients of either era.

use nix::sys::signal::Signal;
use serde_json::json;

use super::support::stateless::{PREFIX, ask, call, elicitation, params, send, text};
use super::support::{Stdiopool, eventually, faulty, fixture, until};

#[tokio::test]
async fn the_era_of_a_server_is_found_out_once_and_kept_across_restarts() {
    let mut pool = Stdiopool::serve(&fixture("new", "stateless", ""));
    let client = pool.client("new").connect().await;
    let tried = |log: &str| log.matches("is not spoken to in this way").count();
    assert_eq!(tried(&pool.log()), 1, "a session begins with `initialize`");
    assert_eq!(
        client.call("test_simple_text", json!({})).await.text(),
        "This is a simple text response for testing."
    );
    drop(client);
    pool = pool.restarted_after(Signal::SIGTERM);
    let client = pool.client("new").connect().await;
    client.call("test_simple_text", json!({})).await.result();
    let (_, _, found) = ask(
        &pool.client("new"),
        "server/discover",
        params(json!({}), &json!({})),
    )
    .await;
    assert_eq!(
        found["result"]["_meta"][format!("{PREFIX}/serverInfo")]["name"],
        "conformance-fixture"
    );
    assert_eq!(tried(&pool.log()), 0, "known by now");
}

#[tokio::test]
async fn a_server_of_the_older_era_that_does_not_know_the_question_is_found_out() {
    // One answers with an error, one not at all, one ends.
    let servers = [
        fixture("refuses", "initialize", ""),
        faulty("silent", &["--mode", "ignores-discover"], ""),
        faulty("ends", &["--mode", "ends-on-discover"], ""),
    ];
    let pool = Stdiopool::serve(&servers.join("\n"));
    for server in ["refuses", "silent", "ends"] {
        let client = pool.client(server);
        let (_, _, found) = ask(&client, "server/discover", params(json!({}), &json!({}))).await;
        assert_eq!(
            found["result"]["supportedVersions"],
            json!(["2026-07-28"]),
            "{server}: {found}"
        );
    }
}

#[tokio::test]
async fn a_server_that_does_not_survive_the_question_is_served_in_the_older_era() {
    let modes = ["closes-on-discover", "killed-on-discover"];
    let servers = modes.map(|mode| faulty(mode, &["--mode", mode], ""));
    let pool = Stdiopool::serve(&servers.join("\n"));
    for server in modes {
        // A process of it serves somebody already.
        let session = pool.client(server).connect().await;
        session.call("echo", json!({"text": "a"})).await.result();
        let before = worker_of(&pool, server).await;
        let client = pool.client(server);
        let asked = (0..3).map(|n| {
            let client = client.clone();
            async move { call(&client, "echo", json!({"n": n}), &json!({})).await }
        });
        for said in futures_util::future::join_all(asked).await {
            assert!(said["result"]["content"].is_array(), "{server}: {said}");
        }
        assert_eq!(
            worker_of(&pool, server).await,
            before,
            "{server}: untouched"
        );
        session.call("echo", json!({"text": "b"})).await.result();
        let log = pool.log();
        assert!(!log.contains("beside another"), "{log}");
        let declined =
            format!("stdiopool_worker_starts_total{{outcome=\"declined\",server=\"{server}\"}}");
        let tried = pool.metric(&declined).await;
        let said = call(&client, "echo", json!({}), &json!({})).await;
        assert!(said["result"]["content"].is_array(), "{server}: {said}");
        assert!(tried >= 1.0, "{server}: it was asked");
        let again = pool.metric(&declined).await;
        assert!((again - tried).abs() < f64::EPSILON, "{server}: remembered");
    }
    let log = pool.log();
    let closed = log
        .lines()
        .filter(|line| line.contains("server `closes-on-discover`"));
    let closed = closed.collect::<Vec<_>>().join("\n");
    assert!(closed.contains("closed its output"), "{closed}");
    assert!(
        !closed.contains("SIGKILL"),
        "that was stdiopool itself: {closed}"
    );
}

/// The worker that serves the first session of that server.
async fn worker_of(pool: &Stdiopool, server: &str) -> serde_json::Value {
    let workers = pool.workers().await;
    let mut of_server = workers.iter().filter(|worker| worker["server"] == server);
    of_server.next().expect("a worker")["id"].clone()
}

#[tokio::test]
async fn what_a_server_wants_to_know_is_asked_of_the_session_that_called() {
    let pool = Stdiopool::serve(&fixture("new", "stateless", ""));
    let capabilities = json!({"elicitation": {}, "sampling": {}, "roots": {}});
    let users = ["anna", "bob"].map(|name| {
        let (client, capabilities) = (pool.client("new"), capabilities.clone());
        async move {
            let client = client.connect_as("2025-11-25", capabilities).await;
            let asking = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "test_input_required_result_multi_round", "_meta": {"progressToken": "t"}}});
            let mut call = client.stream(&asking).await;
            let mut questions = 0;
            loop {
                let message = call.next().await.expect("a message");
                if message.get("method").is_none() {
                    let said = message["result"]["content"][0]["text"].as_str().expect("a text");
                    assert_eq!(said, format!("{name} likes {name}-red"));
                    assert!(message["result"].get("resultType").is_none());
                    return questions;
                }
                assert_eq!(message["method"], "elicitation/create");
                questions += 1;
                let content = json!({"name": name, "color": format!("{name}-red")});
                let reply = json!({"jsonrpc": "2.0", "id": message["id"], "result": {"action": "accept", "content": content}});
                client.post(&reply).await;
            }
        }
    });
    assert_eq!(futures_util::future::join_all(users).await, [2, 2]);
    assert_eq!(pool.workers().await.len(), 1, "they share it");
}

#[tokio::test]
async fn a_client_that_can_be_asked_nothing_is_told_what_is_missing() {
    let pool = Stdiopool::serve(&fixture("new", "stateless", ""));
    let client = pool.client("new").connect().await;
    let refused = client.call("test_missing_capability", json!({})).await;
    assert_eq!(refused.response()["error"]["code"], -32021);
    assert_eq!(
        refused.response()["error"]["data"]["requiredCapabilities"],
        json!({"sampling": {}})
    );
}

#[tokio::test]
async fn log_levels_and_subscriptions_of_a_session_are_kept_for_it() {
    let pool = Stdiopool::serve(&fixture("new", "stateless", ""));
    let client = pool.client("new").connect().await;
    let silent = client.call("test_logging_tool", json!({})).await;
    assert_eq!(silent.messages.len(), 1, "no level, no lines");
    client
        .ask("logging/setLevel", json!({"level": "info"}))
        .await
        .result();
    let logged = client.call("test_logging_tool", json!({})).await;
    assert_eq!(logged.messages[0]["method"], "notifications/message");
    let mut events = client.listen().await;
    client
        .ask(
            "resources/subscribe",
            json!({"uri": "test://watched-resource"}),
        )
        .await
        .result();
    client
        .call("test_trigger_resource_update", json!({}))
        .await
        .result();
    let told = events.next().await.expect("a message");
    assert_eq!(told["params"], json!({"uri": "test://watched-resource"}));
    // Another worker is told the same.
    let worker = pool.workers().await[0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let stopped = pool.command(&["stop", &worker]).status().expect("runs");
    assert!(stopped.success());
    client
        .call("test_trigger_resource_update", json!({}))
        .await
        .result();
    client
        .call("test_trigger_resource_update", json!({}))
        .await
        .result();
    let told = events.next().await.expect("a message");
    assert_eq!(told["params"], json!({"uri": "test://watched-resource"}));
    client
        .ask(
            "resources/unsubscribe",
            json!({"uri": "test://watched-resource"}),
        )
        .await
        .result();
    client
        .call("test_trigger_tool_change", json!({}))
        .await
        .result();
    let mut told = events.next().await.expect("a message");
    while told["method"] == "notifications/resources/updated" {
        told = events.next().await.expect("a message");
    }
    assert_eq!(told["method"], "notifications/tools/list_changed");
}

#[tokio::test]
async fn requests_of_its_own_era_are_passed_on_as_they_are() {
    let pool = Stdiopool::serve(&fixture("new", "stateless", "max_workers_per_key = 2"));
    let client = pool.client("new");
    let said = call(&client, "test_simple_text", json!({}), &json!({})).await;
    assert_eq!(
        said["result"]["_meta"][format!("{PREFIX}/serverInfo")]["name"],
        "conformance-fixture"
    );
    let mut progress = json!({"name": "test_tool_with_progress", "_meta": {"progressToken": "p"}});
    progress["_meta"][format!("{PREFIX}/logLevel")] = json!("debug");
    let (_, before, _) = ask(&client, "tools/call", params(progress, &json!({}))).await;
    assert_eq!(before.len(), 3, "{before:?}");
    assert!(
        before
            .iter()
            .all(|told| told["params"]["progressToken"] == "p")
    );
    // The state is the server's own, and opens for the process that sealed it.
    let calls = (0..6).map(|n| {
        let client = client.clone();
        async move {
            let tool = "test_input_required_result_multi_round";
            let asked = call(&client, tool, json!({"n": n}), &elicitation()).await;
            let mut again = json!({"name": tool, "arguments": {"n": n}, "requestState": asked["result"]["requestState"]});
            again["inputResponses"]["step1"] = json!({"action": "accept", "content": {"name": n.to_string()}});
            let (_, _, asked) = ask(&client, "tools/call", params(again.clone(), &elicitation())).await;
            again["requestState"] = asked["result"]["requestState"].clone();
            again["inputResponses"] = json!({"step2": {"action": "accept", "content": {"color": "red"}}});
            let (_, _, done) = ask(&client, "tools/call", params(again, &elicitation())).await;
            assert_eq!(text(&done), format!("{n} likes red"), "{asked}");
        }
    });
    futures_util::future::join_all(calls).await;
    let (status, _, none) = ask(&client, "no/such", params(json!({}), &json!({}))).await;
    assert_eq!(
        (status.as_u16(), &none["error"]["code"]),
        (404, &json!(-32601))
    );
}

#[tokio::test]
async fn whoever_goes_away_cancels_the_call_at_the_server() {
    let pool = Stdiopool::serve(&fixture("new", "stateless", ""));
    let client = pool.client("new");
    // The first call finds out how the server is spoken to, which takes a slot as well.
    call(&client, "test_simple_text", json!({}), &json!({})).await;
    let wait = params(json!({"name": "test_waits_for_ever"}), &json!({}));
    let gone = tokio::spawn(async move { send(&client, "tools/call", wait).await });
    eventually("the call is under way", async || {
        pool.workers()
            .await
            .iter()
            .any(|worker| worker["in_flight"] == 1)
    })
    .await;
    gone.abort();
    assert!(gone.await.is_err(), "it has no answer");
    // The first call of a tool has a worker of its own.
    let logs = || {
        let of = |worker: &str| {
            pool.command(&["logs", worker])
                .output()
                .expect("runs")
                .stdout
        };
        String::from_utf8([of("w1"), of("w2")].concat()).expect("UTF-8")
    };
    until("the server is told", || {
        logs().contains("cancelled").then_some(())
    });
}
