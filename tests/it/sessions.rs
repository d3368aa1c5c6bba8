//! Many sessions on one worker: everything reaches exactly those it belongs to.

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};

use super::support::{Client, Stdiopool, demo, until};

async fn pid_behind(client: &Client) -> u64 {
    let me: Value =
        serde_json::from_str(client.call("whoami", json!({})).await.text()).expect("JSON");
    me["pid"].as_u64().expect("a pid")
}

#[tokio::test]
async fn two_hundred_sessions_share_one_worker() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let clients = join_all((0..200).map(|_| pool.client("demo").connect())).await;
    let calls = clients.iter().enumerate().map(|(n, client)| async move {
        for round in 0..5 {
            let message = format!("{n}/{round}");
            let answer = client.call("echo", json!({"message": message})).await;
            assert_eq!(answer.text(), message);
        }
    });
    join_all(calls).await;
    let workers = pool.workers().await;
    assert_eq!(workers.len(), 1, "{workers:?}");
    assert_eq!(
        pool.metric("stdiopool_worker_starts_total{outcome=\"ok\",server=\"demo\"}")
            .await,
        1.0
    );
    assert_eq!(
        pool.metric("stdiopool_sessions{era=\"legacy\",server=\"demo\"}")
            .await,
        200.0
    );
}

#[tokio::test]
async fn equal_ids_and_tokens_do_not_meet() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let clients = join_all((0..20).map(|_| pool.client("demo").connect())).await;
    let calls = clients.iter().enumerate().map(|(n, client)| async move {
        let params = json!({"name": "sleep", "arguments": {"seconds": 0.2, "steps": 2}, "_meta": {"progressToken": 1}});
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
        let echo = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": "echo", "arguments": {"message": n.to_string()}}});
        let (slept, echoed) = tokio::join!(client.post(&call), client.post(&echo));
        assert_eq!(echoed.text(), n.to_string());
        assert_eq!(slept.response()["id"], 1);
        let progress = slept.messages.iter().filter(|m| m["method"] == "notifications/progress");
        assert_eq!(progress.count(), 2, "one's own progress and nobody else's: {slept:?}");
    });
    join_all(calls).await;
}

#[tokio::test]
async fn list_changes_reach_all_and_updates_reach_subscribers() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let (anna, bob) = tokio::join!(pool.client("demo").connect(), pool.client("demo").connect());
    let (mut to_anna, mut to_bob) = tokio::join!(anna.listen(), bob.listen());
    anna.call("echo", json!({"message": ""})).await;
    bob.call("echo", json!({"message": ""})).await;
    anna.call("notify", json!({"kind": "tools"})).await;
    for events in [&mut to_anna, &mut to_bob] {
        assert_eq!(
            events.next().await.expect("open")["method"],
            "notifications/tools/list_changed"
        );
    }
    let uri = json!({"uri": "demo://greeting"});
    assert_eq!(
        bob.ask("resources/subscribe", uri.clone()).await.result(),
        &json!({})
    );
    anna.call(
        "notify",
        json!({"kind": "resource", "uri": "demo://greeting"}),
    )
    .await;
    let update = to_bob.next().await.expect("open");
    assert_eq!(
        (&update["method"], &update["params"]["uri"]),
        (&json!("notifications/resources/updated"), &uri["uri"])
    );
    assert_eq!(
        bob.ask("resources/unsubscribe", uri).await.result(),
        &json!({})
    );
    anna.call(
        "notify",
        json!({"kind": "resource", "uri": "demo://greeting"}),
    )
    .await;
    // What would have come is ahead of this in both streams.
    anna.call("notify", json!({"kind": "prompts"})).await;
    for events in [&mut to_anna, &mut to_bob] {
        assert_eq!(
            events.next().await.expect("open")["method"],
            "notifications/prompts/list_changed"
        );
    }
}

#[tokio::test]
async fn log_messages_go_to_the_session_at_work_as_it_asked() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let (anna, bob) = tokio::join!(pool.client("demo").connect(), pool.client("demo").connect());
    let mut to_bob = bob.listen().await;
    bob.call("echo", json!({"message": ""})).await;
    assert_eq!(
        anna.ask("logging/setLevel", json!({"level": "debug"}))
            .await
            .result(),
        &json!({})
    );
    let answer = anna
        .call("log", json!({"level": "debug", "message": "psst"}))
        .await;
    assert!(answer.is_stream);
    assert_eq!(answer.messages[0]["method"], "notifications/message");
    assert_eq!(answer.messages[0]["params"]["level"], "debug");
    assert_eq!(
        bob.ask("logging/setLevel", json!({"level": "error"}))
            .await
            .result(),
        &json!({})
    );
    let quiet = bob
        .call("log", json!({"level": "info", "message": "not for Bob"}))
        .await;
    assert!(!quiet.is_stream, "{quiet:?}");
    bob.call("notify", json!({"kind": "tools"})).await;
    let first = to_bob.next().await.expect("open");
    assert_eq!(
        first["method"], "notifications/tools/list_changed",
        "no log line came before it"
    );
}

#[tokio::test]
async fn a_cancelled_call_is_cancelled_for_its_session_only() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let (anna, bob) = tokio::join!(pool.client("demo").connect(), pool.client("demo").connect());
    let sleep = |seconds: f64| {
        json!({"jsonrpc": "2.0", "id": "same", "method": "tools/call",
            "params": {"name": "sleep", "arguments": {"seconds": seconds}}})
    };
    let of_anna = anna.clone();
    let cancelled = tokio::spawn(async move { of_anna.post(&sleep(50.0)).await });
    let of_bob = bob.clone();
    let kept = tokio::spawn(async move { of_bob.post(&sleep(0.5)).await });
    let in_flight = async |n: u64| {
        loop {
            let workers = pool.workers().await;
            if workers
                .first()
                .is_some_and(|worker| worker["in_flight"] == n)
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    in_flight(2).await;
    let params = json!({"requestId": "same"});
    assert_eq!(
        anna.tell("notifications/cancelled", params).await,
        StatusCode::ACCEPTED
    );
    let cancelled = cancelled.await.expect("no panic");
    assert!(
        cancelled.messages.is_empty(),
        "a cancelled request has no answer: {cancelled:?}"
    );
    assert!(kept.await.expect("no panic").result().is_object());
    in_flight(0).await;
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_call_and_frees_the_slot() {
    let pool = Stdiopool::serve(&demo("demo", "max_in_flight = 1"));
    let client = pool.client("demo").connect().await;
    let params = json!({"name": "sleep", "arguments": {"seconds": 100}});
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    let impatient = client.clone();
    let call = tokio::spawn(async move { impatient.post(&request).await });
    while pool
        .workers()
        .await
        .first()
        .is_none_or(|worker| worker["in_flight"] != 1)
    {
        tokio::task::yield_now().await;
    }
    call.abort();
    // The only slot: it is served once the first call's is free again.
    assert_eq!(
        client.call("echo", json!({"message": "next"})).await.text(),
        "next"
    );
    assert_eq!(pool.workers().await.len(), 1, "by the same worker");
}

#[tokio::test]
async fn sharing_can_be_per_session_or_per_request() {
    let toml = demo("own", "share = \"session\"") + &demo("once", "share = \"request\"");
    let pool = Stdiopool::serve(&toml);
    let (anna, bob) = tokio::join!(pool.client("own").connect(), pool.client("own").connect());
    let (of_anna, of_bob) = tokio::join!(pid_behind(&anna), pid_behind(&bob));
    assert_ne!(of_anna, of_bob);
    assert_eq!(pid_behind(&anna).await, of_anna);
    assert_eq!(anna.delete().await, StatusCode::NO_CONTENT);
    until("the session's process ends with it", || {
        (!std::path::Path::new(&format!("/proc/{of_anna}")).exists()).then_some(())
    });
    let once = pool.client("once").connect().await;
    assert_ne!(pid_behind(&once).await, pid_behind(&once).await);
}

#[tokio::test]
async fn a_session_outlives_its_worker() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client("demo").connect().await;
    assert_eq!(
        client
            .ask("resources/subscribe", json!({"uri": "demo://counter"}))
            .await
            .result(),
        &json!({})
    );
    let first = pid_behind(&client).await;
    let id = pool.workers().await[0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let stopped = pool.command(&["stop", &id]).status().expect("runs");
    assert!(stopped.success());
    until("it is gone", || {
        (!std::path::Path::new(&format!("/proc/{first}")).exists()).then_some(())
    });
    let second = pid_behind(&client).await;
    assert_ne!(first, second);
    let mut events = client.listen().await;
    client
        .call(
            "notify",
            json!({"kind": "resource", "uri": "demo://counter"}),
        )
        .await;
    let update = events.next().await.expect("open");
    assert_eq!(
        update["method"], "notifications/resources/updated",
        "the subscription was made again"
    );
}

#[tokio::test]
async fn a_stateful_server_ends_its_sessions_with_its_worker() {
    let pool = Stdiopool::serve(&demo("demo", "stateful = true"));
    let client = pool.client("demo").connect().await;
    pid_behind(&client).await;
    let id = pool.workers().await[0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    assert!(
        pool.command(&["stop", &id])
            .status()
            .expect("runs")
            .success()
    );
    loop {
        let answer = client.ask("tools/list", json!({})).await;
        if answer.status == StatusCode::NOT_FOUND {
            break;
        }
        assert_eq!(answer.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn questions_of_a_worker_reach_the_session_that_caused_them() {
    let pool = Stdiopool::serve(&demo("demo", "max_workers_per_key = 2"));
    let connect = || {
        pool.client("demo")
            .connect_as("2025-11-25", json!({"sampling": {}, "roots": {}}))
    };
    let (anna, bob) = tokio::join!(connect(), connect());
    let ask = async |client: &Client, name: &str| {
        let call = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call",
            "params": {"name": "ask", "arguments": {"kind": "sampling"}}});
        let mut events = client.stream(&call).await;
        let question = events.next().await.expect("a question");
        assert_eq!(question["method"], "sampling/createMessage", "{question}");
        let content = json!({"type": "text", "text": format!("from {name}")});
        let result = json!({"role": "assistant", "model": "test", "content": content});
        let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": result});
        assert_eq!(client.post(&answer).await.status, StatusCode::ACCEPTED);
        let response = events.next().await.expect("the result");
        let text = response["result"]["content"][0]["text"]
            .as_str()
            .expect("text")
            .to_owned();
        assert!(text.contains(&format!("from {name}")), "{text}");
    };
    for _ in 0..5 {
        tokio::join!(ask(&anna, "Anna"), ask(&bob, "Bob"));
    }
    let plain = pool.client("demo").connect().await;
    let refused = plain.call("ask", json!({"kind": "sampling"})).await;
    assert!(
        refused.result()["isError"] == true || refused.response()["error"].is_object(),
        "{refused:?}"
    );
}

/// One worker, two users of one tenant, each elicited by its own call at the same time: the worker
/// serves one of them at a time, and neither is asked the other's question.
#[tokio::test]
async fn two_users_who_are_elicited_at_once_get_their_own_question_only() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let connect = || {
        pool.client("demo")
            .connect_as("2025-11-25", json!({"elicitation": {}}))
    };
    let (anna, bob) = tokio::join!(connect(), connect());
    let elicited = async |client: &Client, name: &str| {
        let call = json!({"jsonrpc": "2.0", "id": "same", "method": "tools/call",
            "params": {"name": "ask", "arguments": {"kind": "elicitation"}}});
        let mut events = client.stream(&call).await;
        let question = events.next().await.expect("a question");
        assert_eq!(question["method"], "elicitation/create", "{question}");
        let result = json!({"action": "accept", "content": {"answer": name}});
        let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": result});
        assert_eq!(client.post(&answer).await.status, StatusCode::ACCEPTED);
        let response = events.next().await.expect("the result");
        let text = response["result"]["content"][0]["text"].to_string();
        assert!(text.contains(name), "{response}");
    };
    for _ in 0..10 {
        tokio::join!(elicited(&anna, "Anna"), elicited(&bob, "Bob"));
    }
    assert_eq!(pool.workers().await.len(), 1);
}

#[tokio::test]
async fn roots_can_come_from_the_config() {
    let toml = demo("demo", "roots = [\"${dir.data}\", \"file:///srv/shared\"]");
    let pool = Stdiopool::serve(&toml);
    let client = pool.client_of("anna", "demo").connect().await;
    let answer = client.call("ask", json!({"kind": "roots"})).await;
    let roots: serde_json::Value = serde_json::from_str(answer.text()).expect("JSON");
    let uri = |n: usize| roots["roots"][n]["uri"].as_str().expect("a URI").to_owned();
    assert!(
        uri(0).starts_with("file:///") && uri(0).ends_with("/data/anna/demo"),
        "{roots}"
    );
    assert_eq!(uri(1), "file:///srv/shared");
}

/// A broken connection is no cancellation: the call goes on, and its client hears what it missed.
#[tokio::test]
async fn a_stream_that_broke_goes_on_after_the_last_event_its_client_got() {
    goes_on_after_the_last_event(true).await;
}

/// Its client knows before anyone else: to stdiopool the old connection looks as good as ever.
#[tokio::test]
async fn a_stream_is_taken_from_a_connection_that_is_not_seen_to_be_broken() {
    goes_on_after_the_last_event(false).await;
}

async fn goes_on_after_the_last_event(is_seen: bool) {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client("demo").connect().await;
    let call = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": "sleep", "arguments": { "seconds": 1, "steps": 5 }, "_meta": { "progressToken": "p" } },
    });
    let mut broken = client.send_raw(call.to_string()).await;
    let first = broken.chunk().await.expect("reads").expect("an event");
    let first = String::from_utf8_lossy(&first).into_owned();
    // The first event says where the stream begins.
    let mut ids = first.lines().filter_map(|line| line.strip_prefix("id: "));
    let id = ids.next_back().expect("events are named").to_owned();
    if is_seen {
        drop(broken);
    }
    let resume = async || {
        let request = client.request(http::Method::GET);
        let sent = request.header("last-event-id", &id).send().await;
        sent.expect("answers").text().await.expect("whole")
    };
    let rest = resume().await;
    let told: Vec<Value> = rest
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).expect("JSON"))
        .collect();
    assert_eq!(told.len(), 5, "four steps and the answer: {rest}");
    assert_eq!(told.last().expect("some")["id"], 1);
    let progress: Vec<_> = told[..4]
        .iter()
        .map(|m| m["params"]["progress"].clone())
        .collect();
    assert_eq!(json!(progress), json!([2, 3, 4, 5]));
    // And once more, for it may have broken again: what was told is kept for a while.
    let again = resume().await;
    assert_eq!(again, rest);
}

#[tokio::test]
async fn what_a_session_was_told_on_its_own_stream_can_be_told_again() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client("demo").connect().await;
    let mut stream = client.listen().await;
    for kind in ["tools", "prompts"] {
        client.call("notify", json!({"kind": kind})).await;
        assert!(stream.next().await.is_some());
    }
    drop(stream);
    let mut again = client
        .request(http::Method::GET)
        .header("last-event-id", "0-1")
        .send()
        .await
        .expect("answers");
    let mut text = String::new();
    while !text.contains("list_changed") {
        let chunk = again.chunk().await.expect("reads").expect("more");
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(
        text.contains("id: 0-2") && text.contains("prompts") && !text.contains("tools"),
        "{text}"
    );
}

#[tokio::test]
async fn tools_that_are_not_on_offer_are_neither_listed_nor_called() {
    let pool = Stdiopool::serve(&demo(
        "demo",
        "tools = { allow = [\"e*\", \"counter\"], deny = [\"exit\"] }",
    ));
    let client = pool.client("demo").connect().await;
    // The second time from memory.
    for _ in 0..2 {
        let listed = client.ask("tools/list", json!({})).await;
        let names: Vec<_> = listed.result()["tools"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|tool| tool["name"].clone())
            .collect();
        assert_eq!(json!(names), json!(["echo", "counter"]), "{names:?}");
    }
    assert_eq!(
        client.call("echo", json!({"message": "x"})).await.text(),
        "x"
    );
    for hidden in ["exit", "whoami", "never-was"] {
        let refused = client.call(hidden, json!({})).await;
        assert_eq!(refused.response()["error"]["code"], -32602, "{hidden}");
        assert!(refused.message().contains(hidden), "{}", refused.message());
    }
}
