//! Traces: what a request brings along goes on to its worker, and its spans to a collector.

use serde_json::{Value, json};

use super::support::collector::Collector;
use super::support::{Client, Stdiopool, demo, eventually, open_folder, until};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OTHER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A `[servers.NAME]` table that runs the server that tells of traces.
fn tracing_server(name: &str, more: &str) -> String {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/tracing_server.py"
    );
    format!("[servers.{name}]\ncommand = \"python3\"\nargs = [\"{script}\"]\n{more}\n")
}

/// A call of the tool `seen` with that `_meta`, and that header: what the server saw.
async fn seen(client: &Client, meta: Value, header: Option<&str>) -> Value {
    let params = json!({"name": "seen", "arguments": {}, "_meta": meta});
    let answer = with_parent(client.clone(), header)
        .ask("tools/call", params)
        .await;
    let text = answer.response()["result"]["content"][0]["text"].clone();
    let text = text.as_str().unwrap_or_else(|| panic!("{answer:?}"));
    serde_json::from_str(text).expect("JSON")
}

/// A client that sends that header with each request.
fn with_parent(mut client: Client, parent: Option<&str>) -> Client {
    if let Some(parent) = parent {
        let parent = parent.parse().expect("a value");
        client.headers.insert("traceparent", parent);
    }
    client
}

fn named<'a>(spans: &'a [Value], name: &str) -> &'a Value {
    let mut found = spans.iter().filter(|span| span["name"] == name);
    let span = found.next();
    span.unwrap_or_else(|| panic!("no `{name}` in {spans:#?}"))
}

fn kind<'a>(spans: &'a [Value], kind: &str) -> &'a Value {
    let mut found = spans.iter().filter(|span| span["kind"] == kind);
    let span = found.next();
    span.unwrap_or_else(|| panic!("no {kind} in {spans:#?}"))
}

fn nanos(span: &Value, which: &str) -> u64 {
    span[which].as_u64().expect("a time")
}

#[tokio::test]
async fn what_a_request_says_of_its_trace_goes_on_where_nothing_is_exported() {
    let pool = Stdiopool::serve(&tracing_server("t", ""));
    let client = pool.client_of("acme", "t").connect().await;
    let meta = seen(&client, json!({"k": 1}), None).await["meta"].clone();
    assert_eq!(meta, json!({"k": 1}), "nothing is added");
    let meta = seen(
        &client,
        json!({"traceparent": PARENT, "tracestate": "a=1", "baggage": "k=v"}),
        Some(OTHER),
    )
    .await;
    assert_eq!(
        meta["meta"],
        json!({"traceparent": PARENT, "tracestate": "a=1", "baggage": "k=v"})
    );
    let meta = seen(&client, json!({"k": 1}), Some(OTHER)).await;
    assert_eq!(meta["meta"], json!({"k": 1, "traceparent": OTHER}));
    let meta = seen(&client, json!({"k": 1}), Some("00-no-context")).await;
    assert_eq!(meta["meta"], json!({"k": 1}));

    let rows = pool.admin_json("requests?tenant=acme").await;
    let ids = rows.as_array().expect("rows").iter();
    let ids: Vec<_> = ids.filter_map(|row| row["trace_id"].as_str()).collect();
    assert_eq!(
        ids,
        ["0af7651916cd43dd8448eb211c80319c", TRACE],
        "the latest first"
    );
}

#[tokio::test]
async fn the_start_of_a_worker_is_told_which_request_it_is_for() {
    let own = "env = { TRACEPARENT = \"own\" }";
    let pool = Stdiopool::serve(&[tracing_server("t", ""), tracing_server("own", own)].concat());
    let client = with_parent(pool.client_of("acme", "t"), Some(PARENT))
        .connect()
        .await;
    let told = seen(&client, json!({}), Some(PARENT)).await;
    assert_eq!(
        told["environment"],
        json!({"TRACEPARENT": PARENT}),
        "{told}"
    );
    let client = with_parent(pool.client_of("acme", "own"), Some(PARENT))
        .connect()
        .await;
    let told = seen(&client, json!({}), Some(PARENT)).await;
    assert_eq!(told["environment"], json!({"TRACEPARENT": "own"}), "{told}");
}

#[tokio::test]
async fn spans_continue_the_callers_trace_and_the_worker_theirs() {
    let collector = Collector::start();
    let config = [
        collector.tracing("sample_ratio = 0\nservice_name = \"pool\""),
        tracing_server("t", "share = \"request\"\n"),
    ]
    .concat();
    let pool = Stdiopool::serve(&config);
    let client = pool.client_of("acme", "t").connect().await;
    let told = seen(
        &client,
        json!({"traceparent": PARENT, "tracestate": "a=1"}),
        Some(OTHER),
    )
    .await;
    let spans = collector.trace(TRACE);

    let request = kind(&spans, "SPAN_KIND_SERVER");
    assert_eq!(request["name"], "tools/call seen");
    assert_eq!(request["parent"], "00f067aa0ba902b7");
    assert_eq!(request["state"], "a=1");
    // The context of HTTP is another one, which is linked to (semantic conventions for MCP, "Context propagation").
    let linked = json!([{"trace": &OTHER[3..35], "id": &OTHER[36..52]}]);
    assert_eq!(request["links"], linked);
    let attributes = &request["attributes"];
    for (name, value) in [
        ("mcp.method.name", "tools/call"),
        ("gen_ai.tool.name", "seen"),
        ("gen_ai.operation.name", "execute_tool"),
        ("stdiopool.tenant", "acme"),
        ("stdiopool.server", "t"),
        ("stdiopool.outcome", "ok"),
        ("network.transport", "tcp"),
    ] {
        assert_eq!(attributes[name], value, "{name}: {attributes}");
    }
    assert_eq!(request["status"], "STATUS_CODE_UNSET");
    assert_eq!(request["resource"]["service.name"], "pool");
    assert_eq!(request["scope"], "stdiopool");
    // No id of a session leaves.
    let session = client.session.clone().expect("a session");
    assert!(!request.to_string().contains(&session), "{request}");

    let call = kind(&spans, "SPAN_KIND_CLIENT");
    assert_eq!(call["name"], "tools/call seen");
    let id = call["id"].as_str().expect("an id");
    assert_eq!(
        told["meta"],
        json!({"traceparent": format!("00-{TRACE}-{id}-01"), "tracestate": "a=1"})
    );
    for name in ["auth", "queue", "start", "tools/call seen", "answer"] {
        named(&spans, name);
    }
    let start = named(&spans, "start");
    let id = start["id"].as_str().expect("an id");
    assert_eq!(
        told["environment"]["TRACEPARENT"],
        format!("00-{TRACE}-{id}-01")
    );
    // All of them are within the request, one after the other.
    let ways = ["auth", "queue", "start"].map(|name| named(&spans, name));
    let mut until = nanos(request, "start");
    for span in ways.into_iter().chain([call, named(&spans, "answer")]) {
        assert_eq!(span["parent"], request["id"], "{span}");
        assert!(nanos(span, "start") >= until, "{spans:#?}");
        until = nanos(span, "end");
    }
    assert!(until <= nanos(request, "end"), "{spans:#?}");

    // A caller that does not record is not recorded, and its worker is told so.
    let quiet = PARENT
        .replace("-01", "-00")
        .replace(TRACE, "5bf92f3577b34da6a3ce929d0e0e4736");
    let told = seen(&client, json!({"traceparent": quiet}), None).await;
    let told = told["meta"]["traceparent"]
        .as_str()
        .expect("a context")
        .to_owned();
    assert!(
        told.starts_with(&quiet[..36]) && told.ends_with("-00") && told != quiet,
        "{told}"
    );
    // Neither is what begins here, of which none is to be sampled; and a worker is told that, too.
    let told = seen(&client, json!({}), None).await["meta"]["traceparent"].clone();
    assert!(
        told.as_str().is_some_and(|told| told.ends_with("-02")),
        "{told}"
    );
    let last = "6bf92f3577b34da6a3ce929d0e0e4736";
    seen(
        &client,
        json!({"traceparent": PARENT.replace(TRACE, last)}),
        None,
    )
    .await;
    collector.trace(last);
    let traces: std::collections::BTreeSet<_> = collector
        .spans()
        .iter()
        .map(|span| span["trace"].to_string())
        .collect();
    assert_eq!(traces.len(), 2, "{traces:?}");
    assert_eq!(
        pool.metric("stdiopool_trace_requests_exported_total").await,
        2.0
    );
}

#[tokio::test]
async fn an_error_is_one_in_its_spans_and_says_which() {
    let collector = Collector::start();
    let config = [
        collector.tracing(""),
        tracing_server("t", ""),
        demo("slow", "request_timeout = \"1s\"\n"),
    ];
    let pool = Stdiopool::serve(&config.concat());
    let client = pool.client_of("acme", "t").connect().await;
    let slow = pool.client_of("acme", "slow").connect().await;
    let context = |n: usize| format!("00-{n:032x}-00f067aa0ba902b7-01");
    let call = |tool: &str, arguments: Value, n: usize| json!({"name": tool, "arguments": arguments, "_meta": {"traceparent": context(n)}});
    client.ask("tools/call", call("fails", json!({}), 1)).await;
    client.ask("tools/call", call("breaks", json!({}), 2)).await;
    slow.ask("tools/call", call("sleep", json!({"seconds": 30}), 3))
        .await;
    for (n, error) in [(1, "tool_error"), (2, "-32001"), (3, "request_timeout")] {
        let spans = collector.trace(&format!("{n:032x}"));
        let request = kind(&spans, "SPAN_KIND_SERVER");
        assert_eq!(request["status"], "STATUS_CODE_ERROR", "{request}");
        assert_eq!(request["attributes"]["error.type"], error, "{request}");
    }
    let broken = collector.trace(&format!("{:032x}", 2));
    let call = kind(&broken, "SPAN_KIND_CLIENT");
    assert_eq!(call["attributes"]["rpc.response.status_code"], "-32001");
    assert!(
        !format!("{broken:?}").contains("it is broken"),
        "messages stay here"
    );
}

#[tokio::test]
async fn without_a_collector_requests_are_served_and_it_is_said_once_and_they_go_on_when_it_is_back()
 {
    let collector = Collector::start();
    let port = collector.port();
    let pool = Stdiopool::serve(&[collector.tracing(""), tracing_server("t", "")].concat());
    let client = pool.client_of("acme", "t").connect().await;
    drop(collector);
    let context = |n: usize| format!("00-{n:032x}-00f067aa0ba902b7-01");
    seen(&client, json!({"traceparent": context(1)}), None).await;
    until("it is said", || {
        pool.log().contains("spans are not exported").then_some(())
    });
    seen(&client, json!({"traceparent": context(2)}), None).await;
    let collector = Collector::at(port);
    // What could not be sent for a while is sent again, and what came meanwhile after that.
    for n in [1, 2] {
        collector.trace(&format!("{n:032x}"));
    }
    let log = pool.log();
    assert_eq!(log.matches("spans are not exported").count(), 1, "{log}");
    until("it is said", || {
        pool.log()
            .contains("spans are exported again")
            .then_some(())
    });
    assert_eq!(
        pool.metric("stdiopool_trace_requests_dropped_total{reason=\"export_failed\"}")
            .await,
        0.0
    );
}

#[tokio::test]
async fn a_shutdown_sends_what_is_there_with_headers_of_the_environment() {
    let collector = Collector::start();
    let dir = open_folder().expect("a temporary folder");
    Stdiopool::write_config(
        dir.path(),
        "[auth]\nmode = \"none\"\n",
        &tracing_server("t", ""),
    );
    let config = dir.path().join("pool.toml").display().to_string();
    let endpoint = format!("http://127.0.0.1:{}", collector.port());
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20one"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        ),
    ];
    let mut pool = Stdiopool::run(dir, &["--config".to_owned(), config], &variables);
    let client = pool.client_of("acme", "t").connect().await;
    seen(&client, json!({"traceparent": PARENT}), None).await;
    assert!(pool.terminate().success());
    // What a batch waits for others is not waited for.
    let spans = collector.trace(TRACE);
    let request = kind(&spans, "SPAN_KIND_SERVER");
    assert_eq!(request["headers"]["authorization"], "Bearer one");
    assert_eq!(request["resource"]["deployment.environment.name"], "test");
    assert_eq!(request["resource"]["service.name"], "stdiopool");
}

#[tokio::test]
async fn the_messages_of_callers_without_sessions_and_lines_of_the_log_say_the_trace() {
    let pool = Stdiopool::serve(&demo("demo", "request_timeout = \"1s\"\n"));
    let client = pool.client_of("acme", "demo").connect().await;
    let params =
        json!({"name": "sleep", "arguments": {"seconds": 30}, "_meta": {"traceparent": PARENT}});
    let late = client.ask("tools/call", params).await;
    assert_eq!(late.reason(), "request_timeout");
    eventually("the line is there", async || {
        pool.log().lines().any(|line| {
            line.contains("request failed") && line.contains(&format!("trace_id={TRACE}"))
        })
    })
    .await;
}
