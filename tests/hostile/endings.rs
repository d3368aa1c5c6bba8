//! However a request ends, its client is told: official clients wait for ever for an answer that a stream which has
//! ended did not bring.

use std::time::Duration;

use http::StatusCode;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Client, Events, Stdiopool, demo, eventually, stateless};

/// A token, and its hash as pool.toml has it.
const TOKEN: &str = "correct horse";
const HASH: &str = "sha256:3e41a5c9f9b9e8c0";

fn two(more: &str) -> String {
    demo("gone", "") + &demo("stays", "") + more
}

fn sleep(id: u64, name: &str, seconds: u64) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": name, "arguments": {"seconds": seconds}}})
}

async fn is_in_flight(pool: &Stdiopool, calls: u64) {
    eventually("the calls are under way", async || {
        let workers = pool.workers().await;
        let in_flight = workers.iter().filter_map(|it| it["in_flight"].as_u64());
        in_flight.sum::<u64>() == calls
    })
    .await;
}

/// Calls that are under way in three ways: on a stream, before it is one, and with the session's own stream beside them.
struct UnderWay {
    stream: Events,
    own: Events,
    pending: tokio::task::JoinHandle<Value>,
}

impl UnderWay {
    async fn begin(pool: &Stdiopool, client: &Client, tool: &str) -> Self {
        let own = client.listen().await;
        // Becomes a stream after two seconds.
        let stream = client.stream(&sleep(71, tool, 600)).await;
        let (asks, message) = (client.clone(), sleep(72, tool, 600));
        let pending = tokio::spawn(async move { asks.post(&message).await.response().clone() });
        is_in_flight(pool, 2).await;
        Self {
            stream,
            own,
            pending,
        }
    }

    /// Both have an error with their id, for that reason and with that text; then the streams end.
    async fn ends(mut self, reason: &str, text: &str) {
        let check = |told: &Value, id: u64| {
            assert_eq!(told["id"], id, "{told}");
            assert_eq!(told["error"]["data"]["reason"], reason, "{told}");
            let message = told["error"]["message"].as_str().unwrap_or_default();
            assert!(message.contains(text), "{told}");
        };
        check(&self.stream.next().await.expect("told"), 71);
        assert_eq!(self.stream.next().await, None, "once");
        check(&self.pending.await.expect("no panic"), 72);
        while self.own.next().await.is_some() {}
    }
}

/// Puts another text in place of one of pool.toml, and has it read.
async fn reload(pool: &Stdiopool, change: impl FnOnce(&str) -> String) {
    let file = pool.dir.path().join("pool.toml");
    let text = std::fs::read_to_string(&file).expect("reads");
    let changed = change(&text);
    assert_ne!(changed, text);
    std::fs::write(&file, changed).expect("writes");
    run(pool, &["reload"]).await;
}

async fn run(pool: &Stdiopool, args: &[&str]) {
    let mut command = pool.command(args);
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.expect("runs").expect("runs");
    assert!(output.status.success(), "{output:?}");
}

fn without_the_gone_one(text: &str) -> String {
    text.replace(&demo("gone", ""), "")
}

#[tokio::test]
async fn calls_of_a_server_that_a_reload_removes_are_told_so_and_their_session_is_unknown() {
    let pool = Stdiopool::serve(&two(""));
    let client = pool.client("gone").connect().await;
    let under_way = UnderWay::begin(&pool, &client, "sleep").await;
    reload(&pool, without_the_gone_one).await;
    under_way
        .ends(
            "session_ended",
            "a reload of pool.toml has removed server `gone`",
        )
        .await;
    let next = client.call("echo", json!({"message": "x"})).await;
    assert_eq!(next.status, StatusCode::NOT_FOUND);
    let again = client.request(http::Method::GET).send().await;
    assert_eq!(again.expect("answers").status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_client_with_all_servers_is_told_of_calls_of_the_one_that_is_removed_and_keeps_its_session()
 {
    let pool = Stdiopool::serve(&two(""));
    let client = Client::new(format!("{}/mcp", pool.url)).connect().await;
    let mut stream = client.stream(&sleep(7, "gone__sleep", 600)).await;
    let mut other = client.stream(&sleep(8, "stays__sleep", 5)).await;
    reload(&pool, without_the_gone_one).await;
    let told = stream.next().await.expect("told");
    assert_eq!(told["id"], 7, "{told}");
    assert_eq!(told["error"]["data"]["reason"], "session_ended", "{told}");
    assert_eq!(stream.next().await, None);
    let told = other.next().await.expect("told");
    assert!(told["id"] == 8 && told["result"].is_object(), "{told}");
    let next = client.call("stays__echo", json!({"message": "x"})).await;
    assert!(next.result().is_object());
}

#[tokio::test]
async fn calls_of_a_tenant_that_is_removed_are_told_so() {
    let hash = stdiopool_hash(TOKEN);
    let tenants = format!(
        "[tenants.acme]\ntokens = [\"{hash}\"]\n[tenants.globex]\ntokens = [\"{HASH}{}\"]\n",
        "0".repeat(48)
    );
    let pool = Stdiopool::serve_with("[auth]\nmode = \"token\"\n", &two(&tenants));
    let client = pool.client("gone").with_token(TOKEN).connect().await;
    let under_way = UnderWay::begin(&pool, &client, "sleep").await;
    reload(&pool, |text| {
        text.replace(&format!("[tenants.acme]\ntokens = [\"{hash}\"]\n"), "")
    })
    .await;
    under_way
        .ends("session_ended", "its tenant was removed")
        .await;
    // Through the admin API, of one in the state folder.
    run(&pool, &["tenant", "add", "late"]).await;
    let mut made = pool.command(&["token", "create", "late", "ci"]);
    let made = tokio::task::spawn_blocking(move || made.output()).await;
    let made = made.expect("runs").expect("runs").stdout;
    let token = String::from_utf8(made).expect("text");
    let client = pool.client("gone").with_token(token.trim());
    let client = client.connect().await;
    let under_way = UnderWay::begin(&pool, &client, "sleep").await;
    run(&pool, &["tenant", "remove", "late"]).await;
    under_way
        .ends("session_ended", "its tenant was removed")
        .await;
}

fn stdiopool_hash(token: &str) -> String {
    use sha2::Digest;
    format!(
        "sha256:{}",
        data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(token))
    )
}

#[tokio::test]
async fn calls_of_a_session_that_its_client_ends_elsewhere_are_told_so() {
    let pool = Stdiopool::serve(&two(""));
    let client = pool.client("gone").connect().await;
    let under_way = UnderWay::begin(&pool, &client, "sleep").await;
    assert_eq!(client.delete().await, StatusCode::NO_CONTENT);
    under_way
        .ends("session_ended", "its client has ended it")
        .await;
    // What the client has cancelled itself is not answered.
    let client = pool.client("gone").connect().await;
    let mut cancelled = client.stream(&sleep(5, "sleep", 600)).await;
    let told = client.tell("notifications/cancelled", json!({"requestId": 5}));
    assert_eq!(told.await, StatusCode::ACCEPTED);
    assert_eq!(client.delete().await, StatusCode::NO_CONTENT);
    assert_eq!(cancelled.next().await, None);
}

#[tokio::test]
async fn calls_of_a_worker_that_an_operator_stops_are_told_so() {
    let pool = Stdiopool::serve(&two(""));
    let client = pool.client("gone").connect().await;
    let mut stream = client.stream(&sleep(7, "sleep", 600)).await;
    let mut old = OldClient::open(&pool.url, "gone").await;
    old.post(&sleep(9, "sleep", 600)).await;
    is_in_flight(&pool, 2).await;
    let workers = pool.workers().await;
    let worker = workers[0]["id"].as_str().expect("an id");
    run(&pool, &["stop", worker]).await;
    let told = stream.next().await.expect("told");
    assert_eq!(told["id"], 7, "{told}");
    assert_eq!(told["error"]["data"]["reason"], "worker_exited", "{told}");
    let message = told["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("stopped by an operator"), "{told}");
    assert_eq!(stream.next().await, None);
    old.read_until("\"id\":9").await;
    assert!(old.told.contains("stopped by an operator"), "{}", old.told);
}

#[tokio::test]
async fn calls_that_outlast_the_shutdown_are_told_so() {
    let mut pool = Stdiopool::serve(&two("[pool]\ndrain_timeout = \"1s\"\n"));
    let client = pool.client("gone").connect().await;
    let under_way = UnderWay::begin(&pool, &client, "sleep").await;
    let mut old = OldClient::open(&pool.url, "stays").await;
    old.post(&sleep(9, "sleep", 600)).await;
    is_in_flight(&pool, 3).await;
    pool.signal(Signal::SIGTERM);
    under_way
        .ends("worker_exited", "stopped: stdiopool shuts down")
        .await;
    old.read_until("\"id\":9").await;
    assert!(old.told.contains("stdiopool shuts down"), "{}", old.told);
    let status = tokio::task::spawn_blocking(move || pool.wait()).await;
    assert!(status.expect("waits").success());
}

#[tokio::test]
async fn calls_of_the_older_transport_are_told_before_its_stream_ends() {
    let pool = Stdiopool::serve(&two(""));
    let mut old = OldClient::open(&pool.url, "gone").await;
    old.post(&sleep(9, "sleep", 600)).await;
    is_in_flight(&pool, 1).await;
    reload(&pool, without_the_gone_one).await;
    old.read_until("\"id\":9").await;
    assert!(old.told.contains("session_ended"), "{}", old.told);
    assert!(old.ends().await, "then it ends: {}", old.told);
}

#[tokio::test]
async fn requests_without_a_session_are_answered_whatever_is_removed() {
    let pool = Stdiopool::serve(&two(""));
    let client = pool.client("gone");
    // A stream of changes is a request, too.
    let filter = json!({"notifications": {"toolsListChanged": true}});
    let params = stateless::params(filter, &json!({}));
    let listening = stateless::send(&client, "subscriptions/listen", params).await;
    let mut listening = client.stream_of(listening);
    assert!(listening.next().await.is_some(), "acknowledged");
    reload(&pool, without_the_gone_one).await;
    let last = listening.next().await.expect("told");
    assert!(last["id"] == "r1" && last["result"].is_object(), "{last}");
    assert_eq!(listening.next().await, None);
    // Calls are told as those of sessions are: see `ends`.
}

/// A client of HTTP+SSE.
struct OldClient {
    http: reqwest::Client,
    stream: reqwest::Response,
    told: String,
    url: String,
}

impl OldClient {
    async fn open(base: &str, server: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().build();
        let http = http.expect("a client");
        let stream = http.get(format!("{base}/{server}/sse")).send().await;
        let mut client = Self {
            http,
            stream: stream.expect("answers"),
            told: String::new(),
            url: String::new(),
        };
        client.read_until("\n\n").await;
        let mut lines = client.told.lines();
        let path = lines.find_map(|line| line.strip_prefix("data: "));
        client.url = format!("{base}{}", path.expect("where to POST"));
        let info = json!({ "name": "old", "version": "1" });
        let params =
            json!({ "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": info });
        let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
        client.post(&hello).await;
        client.read_until("serverInfo").await;
        client
    }

    async fn post(&self, message: &Value) {
        let request = self.http.post(&self.url);
        let request = request.header("content-type", "application/json");
        let sent = request.body(message.to_string()).send().await;
        assert_eq!(sent.expect("answers").status(), StatusCode::ACCEPTED);
    }

    async fn read_until(&mut self, what: &str) {
        while !self.told.contains(what) {
            let chunk = tokio::time::timeout(Duration::from_secs(30), self.stream.chunk()).await;
            let chunk = chunk.expect("in time").expect("reads");
            let chunk = chunk.unwrap_or_else(|| panic!("ended before {what}: {}", self.told));
            self.told.push_str(&String::from_utf8_lossy(&chunk));
        }
    }

    /// Whether the stream ends now.
    async fn ends(&mut self) -> bool {
        let rest = tokio::time::timeout(Duration::from_secs(10), self.stream.chunk()).await;
        matches!(rest, Ok(Ok(None)))
    }
}
