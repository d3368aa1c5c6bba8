//! What a server writes to stdout that cannot be read: whoever may be meant by it is told at once or soon, and what is
//! only log hurts nobody.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Stdiopool, eventually};

/// A server that says on stdout what it is told to, with its request's id in place of `ID`.
fn server(more: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/decoders.py");
    format!(
        "[servers.off]\ncommand = \"python3\"\nargs = {}\nrequest_timeout = \"5m\"\n{more}\n",
        json!([script, "last"])
    )
}

fn hex(line: &str) -> String {
    line.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn line(text: &str) -> Value {
    json!({ "line": hex(text) })
}

async fn malformed(pool: &Stdiopool, cause: &str, outcome: &str) -> f64 {
    let series = format!(
        "stdiopool_worker_malformed_total{{cause=\"{cause}\",outcome=\"{outcome}\",server=\"off\"}}"
    );
    pool.metric(&series).await
}

/// Calls that the server never answers: others are under way beside what is tried.
async fn two_calls_that_hang(pool: &Stdiopool) -> Vec<tokio::task::JoinHandle<String>> {
    let mut calls = Vec::new();
    for _ in 0..2 {
        let client = pool.client("off").connect().await;
        calls.push(tokio::spawn(async move {
            let answer = client.call("say", line("working on it")).await;
            answer.reason().to_owned()
        }));
    }
    eventually("both are with the server", async || {
        pool.metric("stdiopool_worker_garbage_lines_total{server=\"off\"}")
            .await
            >= 2.0
    })
    .await;
    calls
}

#[tokio::test]
async fn what_names_its_request_in_any_way_fails_it_at_once_and_no_other() {
    let pool = Stdiopool::serve(&server(""));
    let hanging = two_calls_that_hang(&pool).await;
    let client = pool.client("off").connect().await;
    let deep = "[".repeat(500);
    for text in [
        "{'jsonrpc': '2.0', 'id': ID, 'result': {'content': [{'type': 'text', 'text': 'a'}]}}",
        "{jsonrpc:\"2.0\",id:ID,result:{}}",
        r#"{"jsonrpc"="2.0","id"=ID,"result"={}}"#,
        r#"{"jsonrpc":"2.0";"id":ID;"result":{}}"#,
        r#"{"jsonrpc";"2.0","id";ID,"result";{}}"#,
        r#"{"jsonrpc":"2.0","id":"ID,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":ID"#,
        r#"{"jsonrpc":"2.0","id":[ID],"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":-ID,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":0ID,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":+ID,"result":{}}"#,
        r#""jsonrpc":"2.0","id":ID,"result":{}}"#,
        r#""{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{}}""#,
        &format!(r#"{{"jsonrpc":"2.0","result":{{"a":{deep}1}},"id":ID}}"#),
    ] {
        let start = Instant::now();
        let answer = client.call("say", line(text)).await;
        assert_eq!(answer.reason(), "answer_invalid", "{text}: {answer:?}");
        assert!(
            start.elapsed() < Duration::from_secs(8),
            "{text}: it was waited for"
        );
        assert!(
            answer.message().contains("it begins: "),
            "{}",
            answer.message()
        );
    }
    // For people, over several lines: an answer all the same.
    let result = "{\n  \"jsonrpc\": \"2.0\",\n  \"id\": ID,\n  \"result\": {\n    \"content\": [],\n    \"x\": 1\n  }\n}";
    let answer = client.call("say", line(result)).await;
    assert_eq!(answer.result()["x"], 1, "{answer:?}");
    assert_eq!(malformed(&pool, "lines", "taken").await, 1.0);
    let printed = "{'jsonrpc': '2.0',\n 'id': ID,\n 'result': {'content': []}}";
    let start = Instant::now();
    let answer = client.call("say", line(printed)).await;
    assert_eq!(answer.reason(), "answer_invalid", "{answer:?}");
    // One that does not go on.
    let answer = client
        .call("say", line("{\n  \"jsonrpc\": \"2.0\",\n  \"id\": ID,"))
        .await;
    assert_eq!(answer.reason(), "answer_invalid", "{answer:?}");
    assert!(
        start.elapsed() < Duration::from_secs(9),
        "it was waited for"
    );
    assert!(
        hanging.iter().all(|call| !call.is_finished()),
        "others are not meant"
    );
    assert_eq!(malformed(&pool, "syntax", "suspected").await, 0.0);
}

/// However it is printed, and whatever stands before it: an answer is taken, in time.
#[tokio::test]
async fn an_answer_that_is_whole_is_taken_however_it_is_printed() {
    let pool = Stdiopool::serve(&server(""));
    let client = pool.client("off").connect().await;
    let answer = r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[],"x":1}}"#;
    let pretty = "{\n  \"jsonrpc\": \"2.0\",\n  \"id\": ID,\n  \"result\": {\n    \"content\": [],\n    \"x\": 1\n  }\n}";
    let cases = [
        format!("{}{answer}", "{\"a\":1} ".repeat(20)),
        format!("{}{answer}", "{\"a\":1}".repeat(16)),
        format!("{}{answer}", "{\"k\":{}} ".repeat(2_000)),
        format!("{} {answer}", "{".repeat(17)),
        "{\"jsonrpc\":\"2.0\"\n,\"id\":ID\n,\"result\":{\"content\":[],\"x\":1}}".to_owned(),
        "{ \"jsonrpc\": \"2.0\"\n, \"id\": ID\n, \"result\":\n  { \"content\": []\n  , \"x\": 1\n  }\n}".to_owned(),
        "{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":\n{\"content\":[],\"x\":1}}".to_owned(),
        format!("{{\"a\": 1,\n{pretty}"),
        format!("{{\n{pretty}"),
        format!("[\n1,\n{pretty}"),
        format!("{{\"a\": {{\n> {answer}"),
    ];
    for text in cases {
        let start = Instant::now();
        let answer = client.call("say", line(&text)).await;
        assert_eq!(answer.result()["x"], 1, "{text}: {answer:?}");
        assert!(start.elapsed() < Duration::from_secs(4), "{text}");
    }
    // Behind what names another request, as soon as nothing follows.
    let cut = format!("{{\"jsonrpc\":\"2.0\",\"id\":90000,\"result\":{{\"x\": [\n{pretty}");
    let answer = client.call("say", line(&cut)).await;
    assert_eq!(answer.result()["x"], 1, "{answer:?}");
    // With pauses between the lines.
    let mut slowly =
        line("{\n \"jsonrpc\":\"2.0\",\n \"id\":ID,\"result\":{\"content\":[],\"x\":1}\n}");
    slowly["pause"] = json!(1.5);
    let answer = client.call("say", slowly).await;
    assert_eq!(answer.result()["x"], 1, "{answer:?}");
    assert_eq!(malformed(&pool, "syntax", "failed").await, 0.0);
}

/// An error of which nobody is told whose it is: without an id, which is optional there since MCP 2025-11-25, it says as much as with
/// `null`.
#[tokio::test]
async fn an_error_without_an_id_is_the_only_requests() {
    let answering = |name: &str, error: &str| {
        let script =
            "import os, sys\nfor line in sys.stdin: print(os.environ['ANSWER'], flush=True)";
        let args = json!(["-c", script]);
        format!(
            "[servers.{name}]\ncommand = \"python3\"\nargs = {args}\nenv = {{ ANSWER = '{error}' }}\nstart_timeout = \"5m\"\n"
        )
    };
    let refused = r#"{"jsonrpc":"2.0","error":{"code":-32602,"message":"unsupported client"}}"#;
    let unknown = r#"{"jsonrpc":"2.0","error":{"code":-32601,"message":"unknown client"}}"#;
    let others = answering("refusing", refused) + &answering("unknowing", unknown);
    let pool = Stdiopool::serve(&server(&others));
    // Of the only request of a worker that is new.
    let parse = r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error"}}"#;
    let client = pool.client("off").connect().await;
    let start = Instant::now();
    let answer = client.call("say", line(parse)).await;
    assert!(
        answer.message().contains("Parse error"),
        "the server's words: {answer:?}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "it was waited for"
    );
    assert_eq!(malformed(&pool, "id", "taken").await, 1.0);
    assert!(
        pool.log().contains("has no id that could be a request's"),
        "{}",
        pool.log()
    );
    // Of the handshake, in both eras.
    for (server, words) in [
        ("refusing", "unsupported client"),
        ("unknowing", "unknown client"),
    ] {
        let start = Instant::now();
        let answer = pool
            .client(server)
            .try_initialize("2025-11-25", json!({}))
            .await;
        assert!(answer.message().contains(words), "{server}: {answer:?}");
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "{server}: it was waited for"
        );
    }
}

#[tokio::test]
async fn what_may_answer_any_of_several_fails_those_that_show_no_life() {
    let pool = Stdiopool::serve(&server(""));
    let hanging = two_calls_that_hang(&pool).await;
    let client = pool.client("off").connect().await;
    let start = Instant::now();
    let answer = client
        .call("say", line(r#"{"jsonrpc":"2.0","result":{"content":["#))
        .await;
    assert_eq!(answer.reason(), "answer_invalid", "{answer:?}");
    let message = answer.message();
    assert!(
        message.contains("may be the answer") && message.contains("is not JSON"),
        "{message}"
    );
    let took = start.elapsed();
    assert!(
        took > Duration::from_secs(9) && took < Duration::from_secs(40),
        "{took:?}"
    );
    for call in hanging {
        assert_eq!(call.await.expect("it ends"), "answer_invalid");
    }
    assert_eq!(malformed(&pool, "syntax", "suspected").await, 1.0);
    assert_eq!(malformed(&pool, "syntax", "failed").await, 3.0);
    // What it answers in the end is too late, and the next call is served.
    let echo = client.call("echo", json!({})).await;
    assert!(echo.response()["result"].is_object(), "{echo:?}");
}

#[tokio::test]
async fn what_is_only_log_fails_no_call() {
    let pool = Stdiopool::serve(&server(""));
    let client = pool.client("off").connect().await;
    let logs = [
        "{level: 'error', id: ID, error: 'boom'}",
        "{ level: 'info', msg: 'ready' }",
        "INFO received {'jsonrpc': '2.0', 'id': ID, 'method': 'tools/call', 'params': {'arguments': {'x': '{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{}}'}}}",
        "root=JSONRPCRequest(method='tools/call', params={}, jsonrpc='2.0', id=ID)",
        "jsonrpc server 2.0 is listening",
        "[INFO] request id=ID result=none",
        "{\"level\":\"info\",\"sent\":{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{}}}",
        "{\n  \"config\": {\n    \"id\": ID,\n    \"error\": null\n  }\n}",
    ];
    let answer = r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[{"type":"text","text":"ok"}]}}"#;
    let all = [&logs[..], &[answer]].concat().join("\n");
    let answer = client.call("say", line(&all)).await;
    assert_eq!(answer.result()["content"][0]["text"], "ok", "{answer:?}");
    // A log that quotes what is about to be sent, as Python prints it, is not taken for it.
    let quoted = "DEBUG sending {'jsonrpc': '2.0', 'id': ID, 'result': {'content': []}}\n{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{\"content\":[],\"x\":2}}";
    let answer = client.call("say", line(quoted)).await;
    assert_eq!(answer.result()["x"], 2, "{answer:?}");
    for outcome in ["failed", "dropped"] {
        assert_eq!(malformed(&pool, "syntax", outcome).await, 0.0, "{outcome}");
    }
    // An error that is about a notification is nobody's answer.
    for code in [-32601, -32602] {
        let error = json!({"jsonrpc": "2.0", "id": null, "error": {"code": code, "message": "Method not found: notifications/initialized"}});
        let text = format!("{error}\n{{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{{\"x\":3}}}}");
        let answer = client.call("say", line(&text)).await;
        assert_eq!(answer.result()["x"], 3, "{answer:?}");
    }
}

#[tokio::test]
async fn an_answer_is_taken_whatever_was_begun_before_it() {
    let pool = Stdiopool::serve(&server(""));
    let client = pool.client("off").connect().await;
    for before in [
        "{\"a\": {",
        "[1,",
        "config = {\n{",
        "{\n  \"jsonrpc\": \"2.0\",",
    ] {
        for answer in [
            r#"{"jsonrpc":"2.0","id":ID,"result":{"x":4}}"#,
            r#" { "id": ID, "result": {"x": 4}, "jsonrpc": "2.0" }"#,
            r#"{"jsonrpc":"2.0","id":ID,"result":{"x":4},"error":null}"#,
            // It is not clear that this one is no part of what was begun: it is judged a little later.
            r#"> {"jsonrpc":"2.0","id":ID,"result":{"x":4}}"#,
        ] {
            let start = Instant::now();
            let text = format!("{before}\n{answer}");
            let answer = client.call("say", line(&text)).await;
            assert_eq!(answer.result()["x"], 4, "{text}: {answer:?}");
            assert!(start.elapsed() < Duration::from_secs(8), "{text}");
        }
    }
}

#[tokio::test]
async fn what_is_too_long_fails_whom_it_may_answer_as_what_is_broken_does() {
    let pool = Stdiopool::serve(&server("max_message = \"64KiB\""));
    let client = pool.client("off").connect().await;
    let long = "x".repeat(100 << 10);
    // A log of any length is nobody's answer.
    let text = format!("DEBUG {long}\n{{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{{\"x\":5}}}}");
    let answer = client.call("say", line(&text)).await;
    assert_eq!(answer.result()["x"], 5, "{answer:?}");
    // It names nobody: it is the only call's.
    let nobodys = format!(r#"{{"jsonrpc":"2.0","result":{{"x":"{long}"}}}}"#);
    let start = Instant::now();
    let answer = client.call("say", line(&nobodys)).await;
    assert_eq!(answer.reason(), "answer_too_large", "{answer:?}");
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "it was waited for"
    );
    // Of several, it is one's who shows no life.
    let hanging = two_calls_that_hang(&pool).await;
    let answer = client.call("say", line(&nobodys)).await;
    assert_eq!(answer.reason(), "answer_too_large", "{answer:?}");
    let message = answer.message();
    assert!(
        message.contains("may be the answer") && message.contains("max_message"),
        "{message}"
    );
    for call in hanging {
        assert_eq!(call.await.expect("it ends"), "answer_too_large");
    }
    assert_eq!(malformed(&pool, "too_long", "suspected").await, 1.0);
    assert_eq!(malformed(&pool, "too_long", "failed").await, 4.0);
    let echo = client.call("echo", json!({})).await;
    assert!(echo.response()["result"].is_object(), "{echo:?}");
}

/// A long answer is put together as a short one is, also where its id comes behind its result.
#[tokio::test]
async fn a_long_answer_is_taken_however_it_is_printed() {
    let pool = Stdiopool::serve(&server("max_message = \"4MiB\""));
    let hanging = two_calls_that_hang(&pool).await;
    let client = pool.client("off").connect().await;
    let printed = "{\n  \"jsonrpc\": \"2.0\",\n  \"result\": {\n    \"content\": [\n      MANY{\"type\": \"text\", \"text\": \"0123456789 {it's}\"},\n      {}\n    ]\n  },\n  \"id\": ID\n}";
    let call = |many: usize| {
        let mut arguments = line(printed);
        arguments["many"] = json!(many);
        let (client, start) = (&client, Instant::now());
        async move { (client.call("say", arguments).await, start.elapsed()) }
    };
    for many in [1, 10_000, 60_000] {
        let (answer, _) = call(many).await;
        let items = answer.result()["content"].as_array().map(Vec::len);
        assert_eq!(items, Some(many + 1), "{}", answer.reason());
    }
    // More than a message may have: whose it is, is known all the same.
    let (answer, took) = call(120_000).await;
    assert_eq!(answer.reason(), "answer_too_large", "{answer:?}");
    assert!(answer.message().contains("max_message"), "{answer:?}");
    assert!(took < Duration::from_secs(8), "it was waited for: {took:?}");
    // A line of it alone may be too long.
    let mut arguments = line(
        "{\n\"jsonrpc\": \"2.0\",\n\"result\": {\n\"content\": [],\n\"x\":\n\"LONG\"\n},\n\"id\": ID\n}",
    );
    arguments["long"] = json!(5 << 20);
    let start = Instant::now();
    let answer = client.call("say", arguments).await;
    assert_eq!(answer.reason(), "answer_too_large", "{answer:?}");
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "it was waited for"
    );
    assert!(
        hanging.iter().all(|call| !call.is_finished()),
        "others are not meant"
    );
    assert_eq!(malformed(&pool, "too_long", "suspected").await, 0.0);
    let echo = client.call("echo", json!({})).await;
    assert!(echo.response()["result"].is_object(), "{echo:?}");
}

/// Words before an answer that is printed for people hide it as little as they do on one line.
#[tokio::test]
async fn a_printed_answer_is_taken_behind_words() {
    let pool = Stdiopool::serve(&server(""));
    let client = pool.client("off").connect().await;
    let members = "  \"jsonrpc\": \"2.0\",\n  \"id\": ID,\n  \"result\": {\n    \"content\": [],\n    \"x\": 1\n  }\n}";
    let one = r#"{"jsonrpc":"2.0","id":ID,"result":{"x":1}}"#;
    for text in [
        format!("mcp> {{\n{members}"),
        format!("[INFO] 12:00:01 sending response: {{\n{members}"),
        format!(
            "Response: {{\"jsonrpc\": \"2.0\",\n{}",
            members.split_once('\n').expect("two").1
        ),
        format!("don't panic: {{}} {{\n{members}"),
        // What is a log's holds nobody up.
        format!("function() {{\n{one}"),
        format!("config = {{\n\"a\": 1,\n{one}"),
        format!("config = {{\n\"a\": {{\n{{\n{members}"),
        format!("starting {{\nready\n{{\n{members}"),
        format!("mcp> {{\nmcp> {{\n{members}"),
    ] {
        let start = Instant::now();
        let answer = client.call("say", line(&text)).await;
        assert_eq!(answer.result()["x"], 1, "{text}: {answer:?}");
        assert!(start.elapsed() < Duration::from_secs(4), "{text}");
    }
    // A request behind them may be a quote of what it was sent, and is none.
    let quoted = format!(
        "got {{\n  \"jsonrpc\": \"2.0\",\n  \"id\": ID,\n  \"method\": \"ping\"\n}}\n{one}"
    );
    let answer = client.call("say", line(&quoted)).await;
    assert_eq!(answer.result()["x"], 1, "{answer:?}");
}

/// What is whole needs no line end, and what is not is not waited for without end.
#[tokio::test]
async fn a_line_end_that_never_comes_is_not_waited_for() {
    let pool = Stdiopool::serve(&server("max_message = \"1MiB\""));
    let hanging = two_calls_that_hang(&pool).await;
    let client = pool.client("off").connect().await;
    let unended = |text: &str| {
        let mut arguments = line(text);
        arguments["end"] = json!(false);
        let (client, start) = (&client, Instant::now());
        async move { (client.call("say", arguments).await, start.elapsed()) }
    };
    let pretty = "{\n  \"jsonrpc\": \"2.0\",\n  \"id\": ID,\n  \"result\": {\n    \"x\": 1\n  }\n}";
    for text in [
        pretty,
        r#"{"jsonrpc":"2.0","id":ID,"result":{"x":1}}"#,
        r#"> [{"jsonrpc":"2.0","id":ID,"result":{"x":1}}] "#,
        &format!("{{\n{pretty}"),
        &format!("mcp> {pretty}"),
    ] {
        let (answer, took) = unended(text).await;
        assert_eq!(answer.result()["x"], 1, "{text}: {answer:?}");
        assert!(took < Duration::from_secs(4), "{text}: {took:?}");
    }
    // Whole, and none.
    for text in [
        "{'jsonrpc': '2.0', 'id': ID, 'result': {}}",
        "{'jsonrpc': '2.0',\n'id': ID,\n'result': {}}",
    ] {
        let (answer, took) = unended(text).await;
        assert_eq!(answer.reason(), "answer_invalid", "{text}: {answer:?}");
        assert!(took < Duration::from_secs(4), "{text}: {took:?}");
    }
    // Cut off.
    let cut = [
        (
            r#"{"jsonrpc":"2.0","id":ID,"result":{"x":"#,
            "answer_invalid",
        ),
        (
            "{\n\"jsonrpc\": \"2.0\",\n\"id\": ID,\n\"result",
            "answer_invalid",
        ),
    ];
    for (text, reason) in cut {
        let (answer, took) = unended(text).await;
        assert_eq!(answer.reason(), reason, "{text}: {answer:?}");
        assert!(took < Duration::from_secs(16), "{text}: {took:?}");
        // Where it goes on after all, its rest is nobody's.
        let rest = client
            .call(
                "say",
                line("1}}\n{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{\"x\":2}}"),
            )
            .await;
        assert_eq!(rest.result()["x"], 2, "{rest:?}");
    }
    assert!(
        hanging.iter().all(|call| !call.is_finished()),
        "others are not meant"
    );
}
