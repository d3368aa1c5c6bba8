//! All servers of a tenant as one, at `/mcp`.

use http::StatusCode;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::support::stateless::{ask, call, elicitation, params, send, text};
use super::support::{Client, Stdiopool, demo, faulty, fixture};

fn whole(pool: &Stdiopool) -> Client {
    Client::new(format!("{}/mcp", pool.url))
}

/// Everything in a list that is called so.
fn named<'v>(list: &'v Value, member: &str) -> Vec<&'v str> {
    let items = list.as_array().expect("a list");
    items
        .iter()
        .filter_map(|item| item[member].as_str())
        .collect()
}

fn missing(result: &Value) -> Vec<&str> {
    match &result["_meta"]["dev.stdiopool/missing"] {
        Value::Null => vec![],
        missing => named(missing, "server"),
    }
}

#[tokio::test]
async fn everything_of_every_server_is_there_under_its_name() {
    let servers = [
        demo("demo", ""),
        fixture("old", "initialize", ""),
        fixture(
            "new",
            "stateless",
            "tools = { deny = [\"test_image_content\"] }",
        ),
        demo("own", "aggregate = false"),
    ];
    let pool = Stdiopool::serve(&servers.join("\n"));
    let client = whole(&pool).connect().await;
    assert_eq!(pool.workers().await.len(), 0, "connecting costs nothing");

    let listed = client.ask("tools/list", json!({})).await;
    let tools = named(&listed.result()["tools"], "name");
    for tool in [
        "demo__echo",
        "old__test_simple_text",
        "new__test_simple_text",
    ] {
        assert!(tools.contains(&tool), "{tool} in {tools:?}");
    }
    assert!(!tools.contains(&"new__test_image_content"), "not on offer");
    assert!(!tools.iter().any(|tool| tool.starts_with("own__")));
    assert!(missing(listed.result()).is_empty());

    let said = client.call("demo__echo", json!({"message": "hi"})).await;
    assert_eq!(said.text(), "hi");
    let embedded = client.call("new__test_embedded_resource", json!({})).await;
    let uri = &embedded.result()["content"][0]["resource"]["uri"];
    assert_eq!(uri, "stdiopool://new/test://embedded-resource");
    for (tool, why) in [
        ("own__echo", "unknown tool"),
        ("echo", "unknown tool"),
        ("new__test_image_content", "unknown tool"),
    ] {
        let none = client.call(tool, json!({})).await;
        assert!(none.message().contains(why), "{tool}: {none:?}");
    }

    let listed = client.ask("resources/list", json!({})).await;
    let uris = named(&listed.result()["resources"], "uri");
    assert!(
        uris.contains(&"stdiopool://old/test://static-text"),
        "{uris:?}"
    );
    let read = client
        .ask(
            "resources/read",
            json!({"uri": "stdiopool://new/test://static-text"}),
        )
        .await;
    assert_eq!(
        read.result()["contents"][0]["uri"],
        "stdiopool://new/test://static-text"
    );
    let listed = client.ask("prompts/list", json!({})).await;
    assert!(named(&listed.result()["prompts"], "name").contains(&"old__test_simple_prompt"));
    let prompt =
        json!({"name": "new__test_prompt_with_arguments", "arguments": {"arg1": "a", "arg2": "b"}});
    let got = client.ask("prompts/get", prompt).await;
    assert!(
        got.result()["messages"][0]["content"]["text"]
            .as_str()
            .is_some_and(|t| t.contains("arg1='a'"))
    );
    let reference = json!({"ref": {"type": "ref/prompt", "name": "old__test_prompt_with_arguments"}, "argument": {"name": "arg1", "value": "par"}});
    let completed = client.ask("completion/complete", reference).await;
    assert_eq!(
        completed.result()["completion"]["values"],
        json!(["paris", "park", "party"])
    );
    assert_eq!(client.delete().await, StatusCode::NO_CONTENT);
    assert_eq!(
        pool.admin_json("sessions").await,
        json!([]),
        "its members end with it"
    );
}

#[tokio::test]
async fn one_that_is_broken_or_slow_hides_no_other_and_the_slow_one_is_told_of_later() {
    let servers = [
        "[aggregate]\nlist_timeout = \"1s\"\nseparator = \".\"".to_owned(),
        demo("demo", ""),
        faulty("broken", &["--mode", "exit-at-once"], ""),
        faulty("slow", &["--mode", "slow-start", "--delay-ms", "3000"], ""),
    ];
    let pool = Stdiopool::serve(&servers.join("\n"));
    let client = whole(&pool).connect().await;
    let mut events = client.listen().await;
    let listed = client.ask("tools/list", json!({})).await;
    let tools = named(&listed.result()["tools"], "name");
    assert!(
        tools.contains(&"demo.echo") && !tools.iter().any(|t| t.starts_with("slow.")),
        "{tools:?}"
    );
    assert_eq!(missing(listed.result()), ["broken", "slow"]);
    let told = events.next().await.expect("a message");
    assert_eq!(told["method"], "notifications/tools/list_changed");
    let listed = client.ask("tools/list", json!({})).await;
    let tools = named(&listed.result()["tools"], "name");
    assert!(
        tools.iter().any(|tool| tool.starts_with("slow.")),
        "{tools:?}"
    );
    assert_eq!(missing(listed.result()), ["broken"]);
}

#[tokio::test]
async fn levels_subscriptions_and_questions_reach_the_server_they_are_for() {
    let servers = [demo("demo", ""), fixture("old", "initialize", "")];
    let pool = Stdiopool::serve(&servers.join("\n"));
    let client = whole(&pool)
        .connect_as("2025-11-25", json!({"elicitation": {}}))
        .await;
    client
        .ask("logging/setLevel", json!({"level": "debug"}))
        .await
        .result();
    let logged = client.call("old__test_logging_tool", json!({})).await;
    assert_eq!(
        logged.messages[0]["method"], "notifications/message",
        "{logged:?}"
    );

    let mut events = client.listen().await;
    let uri = "stdiopool://demo/demo://counter";
    client
        .ask("resources/subscribe", json!({"uri": uri}))
        .await
        .result();
    client.call("demo__counter", json!({})).await.result();
    let told = events.next().await.expect("a message");
    assert_eq!(
        (&told["method"], &told["params"]["uri"]),
        (&json!("notifications/resources/updated"), &json!(uri))
    );

    let asking = json!({"jsonrpc": "2.0", "id": "q", "method": "tools/call", "params": {"name": "old__test_elicitation", "arguments": {"message": "who?"}}});
    let mut call = client.stream(&asking).await;
    let question = call.next().await.expect("a question");
    assert_eq!(question["method"], "elicitation/create");
    let reply = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"username": "ann", "email": "a@b"}}});
    assert_eq!(client.post(&reply).await.status, StatusCode::ACCEPTED);
    let answer = call.next().await.expect("the answer");
    assert!(
        answer["result"]["content"][0]["text"]
            .as_str()
            .is_some_and(|t| t.contains("ann")),
        "{answer}"
    );
}

#[tokio::test]
async fn tenants_have_the_whole_for_themselves_and_it_outlives_stdiopool() {
    let mut pool = Stdiopool::serve(&demo("demo", ""));
    let acme = Client::new(format!("{}/t/acme/mcp", pool.url))
        .connect()
        .await;
    acme.ask(
        "resources/subscribe",
        json!({"uri": "stdiopool://demo/demo://counter"}),
    )
    .await
    .result();
    let mut other = Client::new(format!("{}/t/globex/mcp", pool.url));
    other.session.clone_from(&acme.session);
    assert_eq!(
        other.ask("tools/list", json!({})).await.status,
        StatusCode::NOT_FOUND
    );
    // Nor is it a session with one server.
    let mut single = Client::new(format!("{}/t/acme/demo/mcp", pool.url));
    single.session.clone_from(&acme.session);
    assert_eq!(
        single.ask("tools/list", json!({})).await.status,
        StatusCode::NOT_FOUND
    );
    pool = pool.restarted_after(Signal::SIGTERM);
    let mut acme = acme;
    acme.url = format!("{}/t/acme/mcp", pool.url);
    let mut events = acme.listen().await;
    acme.call("demo__counter", json!({})).await.result();
    let told = events.next().await.expect("a message");
    assert_eq!(told["params"]["uri"], "stdiopool://demo/demo://counter");
}

#[tokio::test]
async fn clients_of_the_stateless_revision_have_all_servers_too() {
    let servers = [
        demo("demo", ""),
        fixture("old", "initialize", ""),
        fixture("new", "stateless", ""),
    ];
    let pool = Stdiopool::serve(&servers.join("\n"));
    let client = whole(&pool);
    let (_, _, found) = ask(&client, "server/discover", params(json!({}), &json!({}))).await;
    assert_eq!(found["result"]["supportedVersions"], json!(["2026-07-28"]));
    let (_, _, listed) = ask(&client, "tools/list", params(json!({}), &json!({}))).await;
    let tools = named(&listed["result"]["tools"], "name");
    for tool in [
        "demo__echo",
        "old__test_simple_text",
        "new__test_simple_text",
    ] {
        assert!(tools.contains(&tool), "{tool} in {tools:?}");
    }
    assert_eq!(listed["result"]["cacheScope"], "private");
    let said = call(&client, "demo__echo", json!({"message": "hi"}), &json!({})).await;
    assert_eq!(text(&said), "hi");

    for server in ["old", "new"] {
        let tool = format!("{server}__test_input_required_result_elicitation");
        let asked = call(&client, &tool, json!({}), &elicitation()).await;
        assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
        let again = json!({"name": tool, "arguments": {}, "requestState": asked["result"]["requestState"], "inputResponses": {"user_name": {"action": "accept", "content": {"name": "ann"}}}});
        let (_, _, done) = ask(&client, "tools/call", params(again, &elicitation())).await;
        assert_eq!(text(&done), "Hello, ann!");
    }
    let none = call(&client, "nobody__x", json!({}), &json!({})).await;
    assert_eq!(none["error"]["code"], -32602);

    let wanted = json!({"notifications": {"toolsListChanged": true, "resourceSubscriptions": ["stdiopool://demo/demo://counter"]}});
    let response = send(&client, "subscriptions/listen", params(wanted, &json!({}))).await;
    let mut events = client.stream_of(response);
    let first = events.next().await.expect("a message");
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(
        first["params"]["notifications"]["resourceSubscriptions"],
        json!(["stdiopool://demo/demo://counter"])
    );
    call(&client, "demo__counter", json!({}), &json!({})).await;
    let told = events.next().await.expect("a message");
    assert_eq!(told["params"]["uri"], "stdiopool://demo/demo://counter");
    call(
        &client,
        "new__test_trigger_tool_change",
        json!({}),
        &json!({}),
    )
    .await;
    let told = events.next().await.expect("a message");
    assert_eq!(told["method"], "notifications/tools/list_changed");
}
