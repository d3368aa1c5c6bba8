//! What a caller may tell the operator of an error, `data.requestId`, finds the log lines of its request.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::support::{Client, Stdiopool, eventually, faulty, until};
use crate::wire::address;

/// With the log for machines.
fn serve(log_filter: &str) -> Stdiopool {
    serve_for("500ms", log_filter)
}

/// With a server whose requests may take so long.
fn serve_for(request_timeout: &str, log_filter: &str) -> Stdiopool {
    let more = format!("request_timeout = \"{request_timeout}\"\ntools = {{ deny = [\"huge\"] }}");
    let servers = faulty("work", &[], &more);
    let toml = format!("[audit]\nfile = \"audit.jsonl\"\n{servers}[tenants.acme]\n");
    let dir = crate::support::open_folder().expect("a folder");
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", &toml);
    let config = dir.path().join("pool.toml").display().to_string();
    let args = ["--config", &config, "--log-format", "json"].map(str::to_owned);
    Stdiopool::run(dir, &args, &[("STDIOPOOL_LOG", log_filter)])
}

fn id_of(response: &Value) -> String {
    let id = response["error"]["data"]["requestId"].as_str();
    id.unwrap_or_else(|| panic!("no id: {response}")).to_owned()
}

/// The lines of that request, as soon as one of them has that text.
fn lines_of(pool: &Stdiopool, id: &str, text: &str) -> Vec<Value> {
    until(&format!("a line of {id} with `{text}`"), || {
        let log = pool.log();
        let lines = log.lines().filter(|line| line.contains(id));
        let lines: Vec<Value> = lines
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert!(lines.iter().all(|line| line["request"]["id"] == id));
        lines
            .iter()
            .any(|line| line.to_string().contains(text))
            .then_some(lines)
    })
}

/// A call that fails.
#[derive(Clone, Copy)]
struct Failing {
    tool: &'static str,
    /// What of the failure is in the log.
    logged: &'static str,
}

/// One for each way to fail.
const FAILING: [Failing; 3] = [
    Failing {
        tool: "die",
        logged: "worker_exited",
    },
    Failing {
        tool: "slow",
        logged: "request_timeout",
    },
    Failing {
        tool: "huge",
        logged: "unknown tool: huge",
    },
];

fn arguments() -> Value {
    json!({ "seconds": 30 })
}

fn check(pool: &Stdiopool, response: &Value, failing: Failing) -> String {
    let tool = failing.tool;
    let id = id_of(response);
    let lines = lines_of(pool, &id, failing.logged);
    for line in lines {
        let of = &line["request"];
        assert_eq!(
            (&of["tenant"], &of["server"], &of["method"]),
            (&json!("acme"), &json!("work"), &json!("tools/call")),
            "{tool}: {line}"
        );
        assert_eq!(
            of["session"].as_str().map(str::len),
            Some(8),
            "{tool}: {line}"
        );
    }
    id
}

#[tokio::test]
async fn an_error_names_its_request_and_the_log_has_it() {
    let pool = serve("info");
    let client = pool.client_of("acme", "work").connect().await;
    let mut ids = vec![];
    for failing in FAILING {
        let answer = client.call(failing.tool, arguments()).await;
        ids.push(check(&pool, answer.response(), failing));
    }
    // A session that nobody knows, and a tenant that there is not.
    let mut stranger = client.clone();
    stranger.session = Some("0".repeat(32));
    let answer = stranger.ask("tools/list", json!({})).await;
    ids.push(id_of(answer.response()));
    let lines = lines_of(&pool, &ids[3], "not_found");
    assert_eq!(lines[0]["request"]["method"], "tools/list", "{lines:?}");
    let nobody = pool.client_of("nobody", "none");
    let answer = nobody.ask("tools/list", json!({})).await;
    ids.push(id_of(answer.response()));
    lines_of(&pool, &ids[4], "not_found");
    // In the audit log too.
    let audit = pool.dir.path().join("audit.jsonl");
    eventually("all of them are in the audit log", async || {
        let audit = std::fs::read_to_string(&audit).unwrap_or_default();
        ids.iter()
            .all(|id| audit.contains(&format!("\"request_id\":\"{id}\"")))
    })
    .await;
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "each has one of its own: {ids:?}");
}

#[tokio::test]
async fn the_messages_of_a_batch_share_the_id_of_their_request() {
    let pool = serve("info");
    let client = pool.client_of("acme", "work");
    let client = client.connect_as("2025-03-26", json!({})).await;
    let call = |id: u64, tool: &str| json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": tool, "arguments": arguments() } });
    let batch = json!([call(1, "huge"), call(2, "slow")]);
    let answer = client.post(&batch).await;
    let answers: Vec<&Value> = match answer.response() {
        Value::Array(answers) => answers.iter().collect(),
        _ => answer.messages.iter().collect(),
    };
    let ids: Vec<_> = answers.iter().map(|answer| id_of(answer)).collect();
    assert_eq!(ids.len(), 2, "{answers:?}");
    assert_eq!(ids[0], ids[1]);
    for text in ["unknown tool: huge", "request_timeout"] {
        lines_of(&pool, &ids[0], text);
    }
}

/// The stream of a call breaks, goes on as the answer to another request, and the call fails then.
#[tokio::test]
async fn an_error_on_a_stream_that_went_on_is_of_the_request_that_began_it() {
    let pool = serve_for("3s", "info");
    let client = pool.client_of("acme", "work").connect().await;
    let call = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": "slow", "arguments": arguments() } });
    let mut broken = client.send_raw(call.to_string()).await;
    let mut told = String::new();
    let place = loop {
        let chunk = broken.chunk().await.expect("open").expect("more");
        told.push_str(&String::from_utf8_lossy(&chunk));
        if let Some(place) = told.lines().find_map(|line| line.strip_prefix("id: ")) {
            break place.to_owned();
        }
    };
    drop(broken);
    let again = client
        .request(Method::GET)
        .header("last-event-id", place)
        .send();
    let mut events = client.stream_of(again.await.expect("answers"));
    let failed = loop {
        let event = events.next().await.expect("an answer");
        if event["id"] == 7 {
            break event;
        }
    };
    // The GET has no method.
    check(&pool, &failed, FAILING[1]);
}

#[tokio::test]
async fn over_http_2_as_well() {
    let pool = serve("info");
    let session = pool.client_of("acme", "work").connect().await;
    let tcp = tokio::net::TcpStream::connect(address(&pool)).await;
    let (client, connection) = h2::client::handshake(tcp.expect("connected"))
        .await
        .expect("HTTP/2");
    let connection = tokio::spawn(connection);
    for failing in FAILING {
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": failing.tool, "arguments": arguments() } });
        let request = http::Request::builder()
            .method(Method::POST)
            .uri(&session.url)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-session-id", session.session.as_deref().expect("one"))
            .body(())
            .expect("a request");
        let mut client = client.clone().ready().await.expect("ready");
        let (response, mut body) = client.send_request(request, false).expect("sent");
        let bytes = Bytes::from(call.to_string());
        body.send_data(bytes, true).expect("sent");
        let mut body = response.await.expect("answers").into_body();
        let mut told = Vec::new();
        while let Some(data) = body.data().await {
            told.extend_from_slice(&data.expect("reads"));
        }
        let told = String::from_utf8(told).expect("UTF-8");
        let message = told.lines().find_map(|line| {
            let line = line.strip_prefix("data: ").unwrap_or(line);
            serde_json::from_str::<Value>(line).ok()
        });
        check(&pool, &message.unwrap_or_else(|| panic!("{told}")), failing);
    }
    drop(client);
    connection.abort();
}

#[tokio::test]
async fn over_http_and_sse_it_is_the_id_of_the_post() {
    let pool = serve("info");
    let mut client = pool.client_of("acme", "work");
    client.url = format!("{}/t/acme/work/sse", pool.url);
    let response = client.request(Method::GET).send().await;
    let mut response = response.expect("answers");
    let mut first = String::new();
    while !first.contains("\n\n") {
        let chunk = response.chunk().await.expect("open").expect("more");
        first.push_str(&String::from_utf8_lossy(&chunk));
    }
    let path = first.lines().find_map(|line| line.strip_prefix("data: "));
    let messages = Client::new(format!("{}{}", pool.url, path.expect("an address")));
    let mut events = client.stream_of(response);
    let about = json!({ "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
    messages.tell("initialize", about.clone()).await;
    let mut asked = async |id: u64, method: &str, params: Value| {
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        messages.send_raw(message.to_string()).await;
        loop {
            let event = tokio::time::timeout(Duration::from_secs(60), events.next());
            let event = event.await.expect("in time").expect("open");
            if event["id"] == id {
                return event;
            }
        }
    };
    assert!(asked(1, "initialize", about).await["result"].is_object());
    let mut ids = vec![];
    for (id, failing) in (2..).zip(FAILING) {
        let params = json!({ "name": failing.tool, "arguments": arguments() });
        let told = asked(id, "tools/call", params).await;
        ids.push(check(&pool, &told, failing));
    }
    ids.dedup();
    assert_eq!(ids.len(), FAILING.len(), "each POST has one of its own");
}

/// Nobody fills the log with failures: of one tenant there are a few, and what comes next says how many there were.
#[tokio::test]
async fn failures_by_the_thousand_are_a_few_lines() {
    let pool = serve("info");
    let client = pool.client_of("acme", "work").connect().await;
    for _ in 0..100 {
        let answer = client.call("huge", json!({})).await;
        id_of(answer.response());
    }
    let lines = || {
        let log = pool.log();
        log.lines()
            .filter(|line| line.contains("unknown tool: huge"))
            .count()
    };
    eventually("some are there", async || lines() >= 30).await;
    assert!(lines() <= 60, "a window may have ended: {}", lines());
}

/// What is logged of a worker or an install, whatever part of the program says it, is in its span.
#[tokio::test]
async fn lines_of_a_worker_are_in_its_span() {
    let pool = serve("debug");
    let client = pool.client_of("acme", "work").connect().await;
    client.call("die", json!({})).await;
    let spans = until("the worker's end is in the log", || {
        let log = pool.log();
        let lines = log.lines().map(|line| {
            let line: Value = serde_json::from_str(line).expect("JSON");
            line
        });
        let of_worker: Vec<Value> = lines
            .filter(|line| line["worker"] == "w1" && line["message"] != Value::Null)
            .collect();
        let ended = |line: &Value| {
            line["message"]
                .as_str()
                .is_some_and(|text| text.contains("exited"))
        };
        of_worker.iter().any(ended).then_some(of_worker)
    });
    for line in spans {
        let span = &line["span"];
        let of = (&span["name"], &span["id"], &span["server"], &span["tenant"]);
        let expected = (
            &json!("worker"),
            &json!("w1"),
            &json!("work"),
            &json!("acme"),
        );
        assert_eq!(of, expected, "{line}");
    }
}
