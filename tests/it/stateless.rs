//! Clients of the stateless revision, 2026-07-28, in front of servers that begin with `initialize`.

use http::StatusCode;
use serde_json::{Value, json};

use super::support::stateless::{PREFIX, ask, call, elicitation, params, send, text};
use super::support::{Client, Stdiopool, demo, eventually, faulty, until};

/// The request once more, with an answer to everything it was asked.
async fn answer(client: &Client, asked: &Value, arguments: Value, name: &str) -> Value {
    let mut again = json!({"name": "ask", "arguments": arguments, "requestState": asked["result"]["requestState"]});
    for key in asked["result"]["inputRequests"]
        .as_object()
        .expect("questions")
        .keys()
    {
        again["inputResponses"][key] = json!({"action": "accept", "content": {"name": name}});
    }
    ask(client, "tools/call", params(again, &elicitation()))
        .await
        .2
}

/// Waits until no worker has anything to do.
async fn until_idle(pool: &Stdiopool) {
    let is_idle = async || {
        let workers = pool.workers().await;
        workers.iter().all(|worker| worker["in_flight"] == 0)
    };
    eventually("the workers are idle", is_idle).await;
}

#[tokio::test]
async fn a_server_is_discovered_listed_and_called_without_a_session() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client("demo");
    let (status, _, found) = ask(&client, "server/discover", params(json!({}), &json!({}))).await;
    assert_eq!(status, StatusCode::OK);
    let result = &found["result"];
    assert_eq!(result["supportedVersions"], json!(["2026-07-28"]));
    assert_eq!(result["resultType"], "complete");
    assert!(result["capabilities"]["tools"].is_object());
    let (_, _, tools) = ask(&client, "tools/list", params(json!({}), &json!({}))).await;
    assert_eq!(tools["result"]["cacheScope"], "private");
    assert!(tools["result"]["ttlMs"].is_u64());
    let said = call(&client, "echo", json!({"message": "hi"}), &json!({})).await;
    assert_eq!(text(&said), "hi");
    assert_eq!(said["result"]["resultType"], "complete");
    let (status, _, gone) = ask(&client, "ping", params(json!({}), &json!({}))).await;
    assert_eq!(
        (status, &gone["error"]["code"]),
        (StatusCode::NOT_FOUND, &json!(-32601))
    );
    let (status, _, none) = ask(&client, "no/such", params(json!({}), &json!({}))).await;
    assert_eq!(
        (status, &none["error"]["code"]),
        (StatusCode::NOT_FOUND, &json!(-32601))
    );
    assert_eq!(
        pool.admin_json("sessions").await,
        json!([]),
        "nobody has a session"
    );
}

#[tokio::test]
async fn calls_of_clients_that_cannot_be_asked_share_a_worker() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client("demo");
    // The first finds out how the server is spoken to, the second is made where the tool could ask.
    for _ in 0..2 {
        call(&client, "echo", json!({"message": "a"}), &json!({})).await;
    }
    let calls = (0..20).map(|n| {
        let client = client.clone();
        async move {
            let said = call(
                &client,
                "echo",
                json!({"message": n.to_string()}),
                &json!({}),
            )
            .await;
            assert_eq!(text(&said), n.to_string());
        }
    });
    futures_util::future::join_all(calls).await;
    let workers = pool.workers().await;
    let mut requests: Vec<_> = workers.iter().map(|w| w["requests"].as_u64()).collect();
    requests.sort_unstable();
    assert_eq!(requests.len(), 2, "{workers:?}");
    assert_eq!(requests[0], Some(1), "{workers:?}");
}

#[tokio::test]
async fn what_a_worker_asks_comes_back_with_the_next_request() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client("demo");
    let arguments = json!({"kind": "elicitation"});
    let asked = call(&client, "ask", arguments.clone(), &elicitation()).await;
    assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
    let questions = asked["result"]["inputRequests"]
        .as_object()
        .expect("questions");
    let question = questions.values().next().expect("one");
    assert_eq!(question["method"], "elicitation/create");
    let answered = answer(&client, &asked, arguments.clone(), "Anna").await;
    assert!(text(&answered).contains("Anna"), "{answered}");
    // Used once, it is worth nothing.
    let again = answer(&client, &asked, arguments, "Anna").await;
    assert_eq!(again["error"]["code"], -32602, "{again}");
}

#[tokio::test]
async fn two_users_asked_at_once_each_get_their_own_answer() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let (anna, bob) = (pool.client_of("t", "demo"), pool.client_of("t", "demo"));
    let arguments = json!({"kind": "elicitation"});
    let capabilities = elicitation();
    let (first, second) = tokio::join!(
        call(&anna, "ask", arguments.clone(), &capabilities),
        call(&bob, "ask", arguments.clone(), &capabilities),
    );
    assert_ne!(
        first["result"]["requestState"],
        second["result"]["requestState"]
    );
    let for_bob = answer(&bob, &second, arguments.clone(), "Bob").await;
    let for_anna = answer(&anna, &first, arguments, "Anna").await;
    assert!(text(&for_bob).contains("Bob"), "{for_bob}");
    assert!(text(&for_anna).contains("Anna"), "{for_anna}");
}

#[tokio::test]
async fn a_state_is_good_for_its_tenant_and_request_alone_and_wrong_answers_are_asked_for_again() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client_of("acme", "demo");
    let arguments = json!({"kind": "elicitation"});
    let asked = call(&client, "ask", arguments.clone(), &elicitation()).await;
    let thief = pool.client_of("globex", "demo");
    let stolen = answer(&thief, &asked, arguments.clone(), "Mallory").await;
    assert_eq!(stolen["error"]["code"], -32602);
    let other = answer(&client, &asked, json!({"kind": "roots"}), "Anna").await;
    assert_eq!(other["error"]["code"], -32602, "another request");
    // Neither has used it up.
    let mut wrong = json!({"name": "ask", "arguments": arguments, "requestState": asked["result"]["requestState"]});
    wrong["inputResponses"]["nonsense"] = json!(1);
    let again = ask(&client, "tools/call", params(wrong, &elicitation()))
        .await
        .2;
    assert_eq!(again["result"]["resultType"], "input_required");
    assert_eq!(
        again["result"]["inputRequests"],
        asked["result"]["inputRequests"]
    );
    let answered = answer(&client, &again, arguments, "Anna").await;
    assert!(text(&answered).contains("Anna"), "{answered}");
}

#[tokio::test]
async fn a_client_that_lacks_what_the_server_needs_is_told_so() {
    let pool = Stdiopool::serve(&demo("demo", "interactive = \"always\""));
    let client = pool.client("demo");
    let asked = params(
        json!({"name": "ask", "arguments": {"kind": "sampling"}}),
        &elicitation(),
    );
    let (status, _, told) = ask(&client, "tools/call", asked).await;
    assert_eq!(
        (status, &told["error"]["code"]),
        (StatusCode::BAD_REQUEST, &json!(-32021))
    );
    assert_eq!(
        told["error"]["data"]["requiredCapabilities"],
        json!({"sampling": {}})
    );
}

#[tokio::test]
async fn a_call_that_nobody_comes_back_for_is_cancelled_in_time() {
    let pool = Stdiopool::serve(&demo("demo", "request_timeout = \"1s\""));
    let client = pool.client("demo");
    let arguments = json!({"kind": "elicitation"});
    let asked = call(&client, "ask", arguments.clone(), &elicitation()).await;
    until_idle(&pool).await;
    let late = answer(&client, &asked, arguments, "Anna").await;
    assert_eq!(late["error"]["code"], -32602, "{late}");
}

#[tokio::test]
async fn progress_comes_under_the_clients_token_and_log_lines_only_if_wanted() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client("demo");
    let mut sleep = params(
        json!({"name": "sleep", "arguments": {"seconds": 0.1, "steps": 2}}),
        &json!({}),
    );
    sleep["_meta"]["progressToken"] = json!("mine");
    let (_, told, _) = ask(&client, "tools/call", sleep).await;
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told.iter()
            .all(|note| note["params"]["progressToken"] == "mine")
    );
    let logging = |level: Option<&str>| {
        let arguments = json!({"level": "warning", "message": "careful"});
        let mut asked = params(json!({"name": "log", "arguments": arguments}), &json!({}));
        if let Some(level) = level {
            asked["_meta"][format!("{PREFIX}/logLevel")] = json!(level);
        }
        asked
    };
    for (level, lines) in [
        (None, 0),
        (Some("info"), 1),
        (Some("error"), 0),
        (Some("debug"), 1),
    ] {
        let (_, told, last) = ask(&client, "tools/call", logging(level)).await;
        assert_eq!(told.len(), lines, "{level:?}: {told:?} {last}");
    }
}

#[tokio::test]
async fn who_goes_away_cancels_the_call() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client("demo");
    let mut asked = params(
        json!({"name": "sleep", "arguments": {"seconds": 60, "steps": 6000}}),
        &json!({}),
    );
    asked["_meta"]["progressToken"] = json!(1);
    let mut stream = send(&client, "tools/call", asked).await;
    stream.chunk().await.expect("reads").expect("progress");
    drop(stream);
    until_idle(&pool).await;
}

#[tokio::test]
async fn listeners_hear_of_what_they_asked_for_from_any_worker_of_their_tenant() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client_of("acme", "demo");
    let wanted = json!({"notifications": {"toolsListChanged": true, "resourceSubscriptions": ["demo://counter"]}});
    let mut stream = client.stream_of(
        send(
            &client,
            "subscriptions/listen",
            params(wanted.clone(), &json!({})),
        )
        .await,
    );
    let mut other = client.stream_of(
        send(
            &pool.client_of("globex", "demo"),
            "subscriptions/listen",
            params(wanted, &json!({})),
        )
        .await,
    );
    let id = format!("{PREFIX}/subscriptionId");
    let first = stream.next().await.expect("open");
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(first["params"]["_meta"][&id], "r1");
    assert_eq!(
        first["params"]["notifications"]["resourceSubscriptions"],
        json!(["demo://counter"])
    );
    other.next().await.expect("open");
    // From the worker that serves clients which can be asked, and from the other.
    for capabilities in [elicitation(), json!({})] {
        call(&client, "notify", json!({"kind": "prompts"}), &capabilities).await;
        call(&client, "notify", json!({"kind": "tools"}), &capabilities).await;
        let changed = stream.next().await.expect("open");
        assert_eq!(
            changed["method"], "notifications/tools/list_changed",
            "{changed}"
        );
        assert_eq!(changed["params"]["_meta"][&id], "r1");
    }
    call(&client, "counter", json!({}), &json!({})).await;
    let updated = stream.next().await.expect("open");
    assert_eq!(updated["params"]["uri"], "demo://counter");
    // Another tenant's changes are its own.
    let elsewhere = pool.client_of("globex", "demo");
    call(&elsewhere, "counter", json!({}), &json!({})).await;
    let theirs = other.next().await.expect("open");
    assert_eq!(theirs["params"]["uri"], "demo://counter");
    drop((stream, other));
    let none_left = async || pool.admin_json("sessions").await == json!([]);
    eventually("no session is left", none_left).await;
}

#[tokio::test]
async fn a_listener_is_told_when_stdiopool_ends() {
    let mut pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client("demo");
    let wanted = json!({"notifications": {"toolsListChanged": true}});
    let mut stream =
        client.stream_of(send(&client, "subscriptions/listen", params(wanted, &json!({}))).await);
    stream.next().await.expect("open");
    pool.signal(nix::sys::signal::Signal::SIGTERM);
    let last = stream.next().await.expect("a last word");
    assert_eq!(
        (&last["id"], &last["result"]["resultType"]),
        (&json!("r1"), &json!("complete"))
    );
    assert!(stream.next().await.is_none());
    assert!(pool.wait().success());
}

#[tokio::test]
async fn a_worker_that_dies_in_a_call_fails_it() {
    let pool = Stdiopool::serve(&faulty("bad", &["--mode", "die-mid-call"], ""));
    let client = pool.client("bad");
    let asked = params(json!({"name": "die", "arguments": {}}), &json!({}));
    let (status, _, told) = ask(&client, "tools/call", asked).await;
    assert_eq!(status, StatusCode::OK, "{told}");
    assert_eq!(told["error"]["data"]["reason"], "worker_exited");
    until("the log says so", || {
        pool.log().contains("worker").then_some(())
    });
}

#[tokio::test]
async fn faults_have_the_status_and_code_that_clients_decide_by() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client("demo");
    let fault = async |version: &str, method_header: Option<&str>, body: Value| {
        let mut request = client
            .request(http::Method::POST)
            .header("content-type", "application/json")
            .header("mcp-protocol-version", version);
        if let Some(method) = method_header {
            request = request.header("mcp-method", method);
        }
        let response = request
            .body(body.to_string())
            .send()
            .await
            .expect("answers");
        let status = response.status().as_u16();
        let told: Value = response.json().await.expect("JSON");
        assert_eq!(told["id"], 7);
        (status, told["error"]["code"].as_i64().expect("a code"))
    };
    let body = |version: &str| {
        let mut params = params(json!({}), &json!({}));
        params["_meta"][format!("{PREFIX}/protocolVersion")] = json!(version);
        json!({"jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": params})
    };
    let no_meta = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/list"});
    let method = Some("tools/list");
    assert_eq!(fault("2026-07-28", method, no_meta).await, (400, -32602));
    assert_eq!(
        fault("2025-11-25", method, body("2026-07-28")).await,
        (400, -32020)
    );
    assert_eq!(
        fault("2026-07-28", None, body("2026-07-28")).await,
        (400, -32020)
    );
    assert_eq!(
        fault("2099-01-01", method, body("2099-01-01")).await,
        (400, -32022)
    );
    assert_eq!(pool.workers().await.len(), 0, "nothing was started for it");
}

/// Processes of a server that were started so far, in vain or not.
async fn starts(pool: &Stdiopool, name: &str) -> u64 {
    let servers = pool.admin_json("servers").await;
    let all = servers.as_array().expect("rows");
    let row = all.iter().find(|row| row["name"] == name).expect("a row");
    let count = |outcome: &str| row["starts"][outcome].as_u64().expect("a number");
    count("ok") + count("failed")
}

#[tokio::test]
async fn the_process_that_shows_how_a_server_is_spoken_to_serves_the_request() {
    let toml = demo("each", "share = \"request\"") + &demo("one", "max_requests = 1");
    let pool = Stdiopool::serve(&toml);
    for name in ["each", "one"] {
        let client = pool.client(name);
        // Nothing is known of the server yet.
        let (_, _, list) = ask(&client, "tools/list", params(json!({}), &json!({}))).await;
        assert!(list["result"]["tools"].is_array(), "{list}");
        assert_eq!(starts(&pool, name).await, 1, "{name}");
        call(&client, "echo", json!({"message": "x"}), &json!({})).await;
        assert_eq!(starts(&pool, name).await, 2, "{name}");
    }
}
