//! Every kind of call under way, against every kind of end: each is told why, under its id, at once; what it held is given
//! back; and what is another's goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use http::StatusCode;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sha2::Digest;
use tokio::task::JoinHandle;

use crate::support::{Client, Stdiopool, demo, eventually, faulty, stateless};

/// The soonest that anything else than the end would have an answer come: servers and queues have far longer.
const AT_ONCE: Duration = Duration::from_secs(8);

const OWN: &str = "the token of who is ended";
const OTHER: &str = "the token of who goes on";

/// How servers share their processes.
const SHARES: [&str; 3] = ["tenant", "session", "request"];

fn hash(token: &str) -> String {
    let digest = sha2::Sha256::digest(token);
    format!("sha256:{}", data_encoding::HEXLOWER.encode(&digest))
}

/// The servers that are removed, and what the tenant is that is.
fn servers() -> String {
    let shared = SHARES.map(|share| demo(&format!("of-{share}"), &format!("share = \"{share}\"")));
    let narrow = demo("narrow", "max_in_flight = 1\ninteractive = \"never\"");
    shared.concat() + &narrow + &faulty("mute", &["--mode", "never-answers"], "aggregate = false")
}

fn tenant(name: &str, token: &str) -> String {
    format!("[tenants.{name}]\ntokens = [\"{}\"]\n", hash(token))
}

struct Case {
    pool: Stdiopool,
    /// Of the tenant that is ended; by kind of call.
    calls: BTreeMap<String, JoinHandle<Value>>,
    /// Legacy sessions that a client can end.
    sessions: Vec<Client>,
    /// Calls of the other tenant at a server that stays, and in a session of the same tenant there.
    others: usize,
}

fn sleep(id: &str, tool: &str) -> Value {
    let params = json!({"name": tool, "arguments": {"seconds": 600}});
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
}

/// The response to a call, however it comes.
async fn told(client: Client, message: Value) -> Value {
    client.post(&message).await.response().clone()
}

async fn told_without_session(client: Client, method: &'static str, params: Value) -> Value {
    stateless::ask(&client, method, params).await.2
}

fn sleeping(tool: &str) -> Value {
    let params = json!({"name": tool, "arguments": {"seconds": 600}});
    stateless::params(params, &json!({}))
}

impl Case {
    /// Has calls of every kind under way that are there with that end. Of the tenant with that token.
    async fn begin(pool: Stdiopool, token: &str, waits: bool) -> Self {
        let mut case = Self {
            pool,
            calls: BTreeMap::new(),
            sessions: Vec::new(),
            others: 0,
        };
        case.legacy(token).await;
        case.older(token).await;
        case.without_sessions(token);
        let under_way = case.calls.len();
        case.in_flight(under_way).await;
        if waits {
            case.waiting(token, under_way).await;
        }
        case.beside(token).await;
        case
    }

    fn client(&self, server: &str, token: &str) -> Client {
        self.pool.client(server).with_token(token)
    }

    /// The calls of all tenants that workers have.
    async fn all_in_flight(&self) -> usize {
        let workers = self.pool.workers().await;
        let in_flight = workers.iter().filter_map(|it| it["in_flight"].as_u64());
        usize::try_from(in_flight.sum::<u64>()).expect("fits")
    }

    async fn in_flight(&self, calls: usize) {
        eventually("the calls are under way", async || {
            self.all_in_flight().await == calls
        })
        .await;
    }

    fn add(&mut self, kind: String, call: impl Future<Output = Value> + Send + 'static) {
        let before = self.calls.insert(kind, tokio::spawn(call));
        assert!(before.is_none());
    }

    /// In sessions: as an answer that is awaited, as a stream, in a batch, through all servers.
    async fn legacy(&mut self, token: &str) {
        let mut streams = vec![];
        for share in SHARES {
            let server = format!("of-{share}");
            let client = self.client(&server, token).connect().await;
            self.sessions.push(client.clone());
            let id = format!("awaited, {share}");
            self.add(id.clone(), told(client.clone(), sleep(&id, "sleep")));
            let id = format!("stream, {share}");
            streams.push(async move {
                // Becomes one after two seconds.
                let events = client.stream(&sleep(&id, "sleep")).await;
                (id, events)
            });
            let client = self.client(&server, token);
            let client = client.connect_as("2025-03-26", json!({})).await;
            self.sessions.push(client.clone());
            let id = format!("batch, {share}");
            let batch = json!([sleep(&id, "sleep")]);
            self.add(id, async move {
                let answer = client.post(&batch).await;
                let told = answer.response();
                told.get(0).unwrap_or(told).clone()
            });
        }
        let whole = Client::new(format!("{}/mcp", self.pool.url)).with_token(token);
        let whole = whole.connect().await;
        self.sessions.push(whole.clone());
        for share in SHARES {
            let id = format!("all, {share}");
            let call = sleep(&id, &format!("of-{share}__sleep"));
            self.add(id, told(whole.clone(), call));
        }
        for (id, mut events) in join_all(streams).await {
            self.add(id, async move { events.next().await.unwrap_or_default() });
        }
    }

    /// Of HTTP+SSE.
    async fn older(&mut self, token: &str) {
        for share in SHARES {
            let server = format!("of-{share}");
            let id = format!("older, {share}");
            let mut old = Older::open(&self.pool.url, &server, token).await;
            old.post(&sleep(&id, "sleep")).await;
            self.add(id.clone(), async move { old.response(&id).await });
        }
    }

    /// Of the stateless revision.
    fn without_sessions(&mut self, token: &str) {
        let all = Client::new(format!("{}/mcp", self.pool.url)).with_token(token);
        for share in SHARES {
            let client = self.client(&format!("of-{share}"), token);
            let call = told_without_session(client, "tools/call", sleeping("sleep"));
            self.add(format!("stateless, {share}"), call);
            let tool = format!("of-{share}__sleep");
            let call = told_without_session(all.clone(), "tools/call", sleeping(&tool));
            self.add(format!("stateless through all, {share}"), call);
        }
    }

    /// For a place at a worker, and for a process that does not answer.
    async fn waiting(&mut self, token: &str, under_way: usize) {
        let narrow = self.client("narrow", token).connect().await;
        self.sessions.push(narrow.clone());
        self.add(
            "first".into(),
            told(narrow.clone(), sleep("first", "sleep")),
        );
        self.in_flight(under_way + 1).await;
        let queue = async |case: &Self, depth| {
            eventually("it waits", async || {
                case.pool.metric("stdiopool_queue_depth").await >= depth
            })
            .await;
        };
        self.add(
            "waits".into(),
            told(narrow.clone(), sleep("waits", "sleep")),
        );
        queue(self, 1.0).await;
        let batching = self.client("narrow", token);
        let batching = batching.connect_as("2025-03-26", json!({})).await;
        self.sessions.push(batching.clone());
        self.add("batch waits".into(), async move {
            let answer = batching.post(&json!([sleep("batch waits", "sleep")])).await;
            let told = answer.response();
            told.get(0).unwrap_or(told).clone()
        });
        queue(self, 2.0).await;
        let client = self.client("narrow", token);
        let call = told_without_session(client, "tools/call", sleeping("sleep"));
        self.add("stateless waits".into(), call);
        queue(self, 3.0).await;
        let mut old = Older::open(&self.pool.url, "narrow", token).await;
        old.post(&sleep("older waits", "sleep")).await;
        self.add("older waits".into(), async move {
            old.response("older waits").await
        });
        queue(self, 4.0).await;
        // Opens a session, or would.
        let mute = self.client("mute", token);
        let opening = mute.clone();
        self.add("opens".into(), async move {
            let opened = opening.try_initialize("2025-11-25", json!({})).await;
            opened.response().clone()
        });
        queue(self, 5.0).await;
        let params = stateless::params(json!({}), &json!({}));
        let call = told_without_session(mute.clone(), "server/discover", params);
        self.add("discovers".into(), call);
        queue(self, 6.0).await;
        let filter = json!({"notifications": {"toolsListChanged": true}});
        let params = stateless::params(filter, &json!({}));
        let call = told_without_session(mute, "subscriptions/listen", params);
        self.add("listens".into(), call);
        queue(self, 7.0).await;
    }

    /// What is not ended: of another tenant, and of another session of the same.
    async fn beside(&mut self, token: &str) {
        let before = self.all_in_flight().await;
        for token in [OTHER, token] {
            let client = self.client("stays", token).connect().await;
            tokio::spawn(told(client, sleep("x", "sleep")));
        }
        let other = self.client("stays", OTHER);
        tokio::spawn(told_without_session(other, "tools/call", sleeping("sleep")));
        self.in_flight(before + 3).await;
        self.others = 3;
    }

    /// Each of the calls that are `meant` is told so, at once and under its id.
    async fn told(&mut self, meant: impl Fn(&str) -> bool, reasons: &[&str], text: &str) {
        let ends = tokio::time::Instant::now() + AT_ONCE;
        let calls = std::mem::take(&mut self.calls);
        let (meant, others) = calls
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(kind, _)| meant(kind));
        self.calls = others;
        assert!(!meant.is_empty());
        let mut wrong = vec![];
        for (kind, call) in meant {
            let Ok(told) = tokio::time::timeout_at(ends, call).await else {
                wrong.push(format!("{kind}: nothing"));
                continue;
            };
            let told = told.expect("no panic");
            let id = match &*kind {
                kind if kind.starts_with("stateless") => json!("r1"),
                "discovers" | "listens" => json!("r1"),
                "opens" => told["id"].clone(),
                kind => json!(kind),
            };
            let (reason, why) = (&told["error"]["data"]["reason"], &told["error"]["message"]);
            let is_right = told["id"] == id
                && reasons.iter().any(|it| reason == it)
                && why.as_str().is_some_and(|why| why.contains(text));
            if !is_right {
                wrong.push(format!("{kind}: {told}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// Nothing is left of them, and the others are still under way.
    async fn gave_all_back(&self) {
        self.in_flight(self.others).await;
        assert_eq!(self.pool.metric("stdiopool_queue_depth").await, 0.0);
        // Of processes that served one session or request, none is left.
        eventually("they are stopped", async || {
            let workers = self.pool.workers().await;
            let alone = workers.iter().filter(|it| {
                it["server"] == "of-session"
                    || it["server"] == "of-request"
                    || it["server"] == "mute"
            });
            alone.count() == 0
        })
        .await;
    }
}

const POOL: &str = "[pool]\nmax_workers = 90\nmax_workers_per_tenant = 80\nqueue_timeout = \"60s\"\nmax_starting = 4\n";

fn serve(own: &str) -> Stdiopool {
    let toml = [
        &servers(),
        &demo("stays", ""),
        own,
        &tenant("globex", OTHER),
        POOL,
    ]
    .concat();
    Stdiopool::serve_with("[auth]\nmode = \"token\"\n", &toml)
}

async fn reload_without(pool: &Stdiopool, what: &str) {
    let file = pool.dir.path().join("pool.toml");
    let text = std::fs::read_to_string(&file).expect("reads");
    let changed = text.replace(what, "");
    assert_ne!(changed, text);
    std::fs::write(&file, changed).expect("writes");
    run(pool, &["reload"]).await;
}

async fn run(pool: &Stdiopool, args: &[&str]) -> String {
    let mut command = pool.command(args);
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.expect("runs").expect("runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test]
async fn whatever_is_under_way_when_its_server_is_removed_is_told_so() {
    let pool = serve(&tenant("acme", OWN));
    let mut case = Case::begin(pool, OWN, true).await;
    reload_without(&case.pool, &servers()).await;
    let text = "a reload of pool.toml has removed server";
    case.told(|_| true, &["session_ended"], text).await;
    case.gave_all_back().await;
}

#[tokio::test]
async fn whatever_is_under_way_when_its_tenant_is_removed_is_told_so() {
    let pool = serve(&tenant("acme", OWN));
    let mut case = Case::begin(pool, OWN, true).await;
    reload_without(&case.pool, &tenant("acme", OWN)).await;
    case.others -= 1;
    let text = "its tenant was removed";
    case.told(|_| true, &["session_ended"], text).await;
    case.gave_all_back().await;
}

#[tokio::test]
async fn whatever_is_under_way_when_an_operator_removes_its_tenant_is_told_so() {
    let pool = serve("");
    run(&pool, &["tenant", "add", "acme"]).await;
    let token = run(&pool, &["token", "create", "acme", "ci"]).await;
    let mut case = Case::begin(pool, token.trim(), true).await;
    run(&case.pool, &["tenant", "remove", "acme"]).await;
    case.others -= 1;
    let text = "its tenant was removed";
    case.told(|_| true, &["session_ended"], text).await;
    case.gave_all_back().await;
}

#[tokio::test]
async fn whatever_is_under_way_in_a_session_when_its_client_ends_it_is_told_so() {
    let pool = serve(&tenant("acme", OWN));
    let mut case = Case::begin(pool, OWN, true).await;
    for session in &case.sessions {
        assert_eq!(session.delete().await, StatusCode::NO_CONTENT);
    }
    let is_in_one = |kind: &str| {
        !["stateless", "older", "opens", "discovers", "listens"]
            .iter()
            .any(|other| kind.starts_with(other))
    };
    let text = "its client has ended it";
    case.told(is_in_one, &["session_ended"], text).await;
    // Others of the same tenant go on; the streams of HTTP+SSE end with their connections.
    let older: Vec<_> = case
        .calls
        .extract_if(.., |kind, _| kind.starts_with("older"))
        .collect();
    let left = case.calls.len();
    for (_, call) in older {
        call.abort();
    }
    let queued = 4;
    // One of those that waited at the narrow one has its place.
    case.in_flight(case.others + left - queued + 1).await;
    assert!(case.calls.values().all(|call| !call.is_finished()));
}

#[tokio::test]
async fn whatever_workers_have_when_an_operator_stops_them_is_told_so() {
    let pool = serve(&tenant("acme", OWN));
    let mut case = Case::begin(pool, OWN, false).await;
    for worker in case.pool.workers().await {
        if worker["server"] != "stays" {
            run(&case.pool, &["stop", worker["id"].as_str().expect("an id")]).await;
        }
    }
    let text = "stopped by an operator";
    case.told(|_| true, &["worker_exited"], text).await;
    case.gave_all_back().await;
}

#[tokio::test]
async fn whatever_is_under_way_when_it_shuts_down_is_told_so() {
    let pool = serve(&(tenant("acme", OWN)));
    let drain = "drain_timeout = \"1s\"\n";
    let file = pool.dir.path().join("pool.toml");
    let text = std::fs::read_to_string(&file).expect("reads");
    std::fs::write(&file, text + drain).expect("writes");
    run(&pool, &["reload"]).await;
    let mut case = Case::begin(pool, OWN, true).await;
    case.pool.signal(Signal::SIGTERM);
    let waits = |kind: &str| {
        ["waits", "opens", "discovers", "listens"]
            .iter()
            .any(|other| kind.ends_with(other))
    };
    case.told(waits, &["draining"], "").await;
    let text = "stopped: stdiopool shuts down";
    case.told(|_| true, &["worker_exited"], text).await;
    let status = tokio::task::spawn_blocking(move || case.pool.wait()).await;
    assert!(status.expect("waits").success());
}

/// A token is looked at when a request comes: what came with it is served.
#[tokio::test]
async fn what_is_under_way_when_its_token_is_revoked_is_served() {
    let pool = serve("");
    run(&pool, &["tenant", "add", "acme"]).await;
    let token = run(&pool, &["token", "create", "acme", "ci"]).await;
    for share in SHARES {
        let client = pool.client(&format!("of-{share}")).with_token(token.trim());
        let call = sleep("x", "sleep");
        let mut call = call;
        call["params"]["arguments"]["seconds"] = json!(3);
        let session = client.clone().connect().await;
        let calls = [
            tokio::spawn(told(session, call.clone())),
            tokio::spawn(async move {
                let params = json!({"name": "sleep", "arguments": {"seconds": 3}});
                let params = stateless::params(params, &json!({}));
                stateless::ask(&client, "tools/call", params).await.2
            }),
        ];
        eventually("they are under way", async || {
            let workers = pool.workers().await;
            let in_flight = workers.iter().filter_map(|it| it["in_flight"].as_u64());
            in_flight.sum::<u64>() == 2
        })
        .await;
        if share == "request" {
            run(&pool, &["token", "revoke", "acme", "ci"]).await;
        }
        for call in calls {
            let told = call.await.expect("no panic");
            assert!(told["result"].is_object(), "{share}: {told}");
        }
    }
    let next = pool.client("of-tenant").with_token(token.trim());
    let next = next.try_initialize("2025-11-25", json!({})).await;
    assert_eq!(next.status, StatusCode::UNAUTHORIZED);
}

/// Nobody waits for it here: its client would have to come back, and cannot.
#[tokio::test]
async fn a_call_that_waits_for_its_clients_answer_ends_with_its_server_and_its_tenant() {
    for (what, of_tenant) in [(servers(), false), (tenant("acme", OWN), true)] {
        let pool = serve(&tenant("acme", OWN));
        for share in SHARES {
            let client = pool.client(&format!("of-{share}")).with_token(OWN);
            let arguments = json!({"kind": "elicitation"});
            let capabilities = stateless::elicitation();
            let asked = stateless::call(&client, "ask", arguments, &capabilities).await;
            assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
        }
        let suspended = "stdiopool_held_bytes{kind=\"suspended\"}";
        assert!(pool.metric(suspended).await > 0.0);
        reload_without(&pool, &what).await;
        assert_eq!(pool.metric(suspended).await, 0.0, "{of_tenant}");
        eventually("their workers are gone", async || {
            pool.workers().await.is_empty()
        })
        .await;
    }
}

/// What a client cancels itself is not answered, and its worker is told.
#[tokio::test]
async fn a_call_that_is_cancelled_ends_however_its_worker_is_shared() {
    let pool = serve(&tenant("acme", OWN));
    for share in SHARES {
        let client = pool.client(&format!("of-{share}")).with_token(OWN);
        let client = client.connect().await;
        let call = tokio::spawn(told(client.clone(), sleep("x", "sleep")));
        eventually("it is under way", async || {
            let workers = pool.workers().await;
            workers.iter().any(|it| it["in_flight"] == 1)
        })
        .await;
        let cancelled = client.tell("notifications/cancelled", json!({"requestId": "x"}));
        assert_eq!(cancelled.await, StatusCode::ACCEPTED);
        let told = tokio::time::timeout(AT_ONCE, call).await;
        let told = told.unwrap_or_else(|_| panic!("{share}: it goes on"));
        assert_eq!(told.expect("no panic"), Value::Null, "{share}");
        eventually("its place is free", async || {
            let workers = pool.workers().await;
            workers.iter().all(|it| it["in_flight"] == 0)
        })
        .await;
    }
}

/// A client of HTTP+SSE.
struct Older {
    http: reqwest::Client,
    stream: reqwest::Response,
    told: String,
    url: String,
    token: String,
}

impl Older {
    async fn open(base: &str, server: &str, token: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().build();
        let http = http.expect("a client");
        let url = format!("{base}/{server}/sse");
        let stream = http.get(url).bearer_auth(token).send().await;
        let mut client = Self {
            http,
            stream: stream.expect("answers"),
            told: String::new(),
            url: String::new(),
            token: token.to_owned(),
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
        let request = self.http.post(&self.url).bearer_auth(&self.token);
        let request = request.header("content-type", "application/json");
        let sent = request.body(message.to_string()).send().await;
        assert_eq!(sent.expect("answers").status(), StatusCode::ACCEPTED);
    }

    async fn read_until(&mut self, what: &str) {
        while !self.told.contains(what) {
            let chunk = tokio::time::timeout(Duration::from_secs(60), self.stream.chunk()).await;
            let chunk = chunk.expect("in time").expect("reads");
            let chunk = chunk.unwrap_or_else(|| panic!("ended before {what}: {}", self.told));
            self.told.push_str(&String::from_utf8_lossy(&chunk));
        }
    }

    async fn response(&mut self, id: &str) -> Value {
        let id = format!("\"id\":\"{id}\"");
        self.read_until(&id).await;
        self.read_until("}\n\n").await;
        let mut lines = self.told.lines().filter(|line| line.contains(&id));
        let line = lines.next().and_then(|line| line.strip_prefix("data: "));
        serde_json::from_str(line.expect("an event")).expect("JSON")
    }
}
