//! Whatever keeps bytes is filled by one tenant, while another's calls go on: the memory of stdiopool stays within
//! what the tenant may hold, and the tenant is told whose limit it has reached.

use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::beside::Beside;
use crate::support::{Client, Stdiopool, demo};

/// What each tenant may hold here, in bytes.
const HELD: u64 = 24 << 20;
/// What a debug build takes beside what is counted, in bytes: pages that the allocator keeps, the program itself.
const SLACK: u64 = 48 << 20;

/// The demo server as `good`, and one whose resources change as it is told as `noisy`.
fn serve(more: &str) -> Stdiopool {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/notifying.py");
    let noisy = format!(
        "[servers.noisy]\ncommand = \"python3\"\nargs = [\"{script}\"]\nmax_message = \"6MiB\"\n"
    );
    let good = demo("good", "max_message = \"6MiB\"");
    Stdiopool::serve(&format!(
        "[limits]\nmemory_held = \"{HELD}\"\n{good}{noisy}{more}"
    ))
}

/// Resident memory of the supervisor, in bytes.
fn resident(pool: &Stdiopool) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pool.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.expect("a size")
        .trim()
        .parse::<u64>()
        .expect("a number")
        << 10
}

async fn held(pool: &Stdiopool, kind: &str) -> f64 {
    let series = format!("stdiopool_held_bytes{{kind=\"{kind}\"}}");
    pool.metric(&series).await
}

/// Panics unless the answer is a refusal that names the limit of one tenant's memory.
fn assert_full(status: StatusCode, message: &str) {
    // By what came of it: a body that was not read has no answer that could say so.
    let is_told = [StatusCode::OK, StatusCode::TOO_MANY_REQUESTS].contains(&status);
    assert!(is_told, "{status}: {message}");
    assert!(message.contains("`limits.memory_held`"), "{message}");
}

/// The supervisor has grown by no more than what one tenant may hold.
fn assert_bounded(pool: &Stdiopool, before: u64) {
    let grown = resident(pool).saturating_sub(before);
    assert!(grown < HELD + SLACK, "grown by {} MiB", grown >> 20);
}

#[tokio::test]
async fn what_clients_say_of_themselves_is_bounded_for_each_and_for_all() {
    let pool = serve("");
    let beside = Beside::open(&pool, "bystander", "good").await;
    let hostile = pool.client_of("hostile", "good");
    let introduce = async |len: usize| {
        let info = json!({ "name": "x".repeat(len), "version": "1" });
        let params =
            json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info });
        hostile.ask("initialize", params).await
    };
    let long = introduce(900 << 10).await;
    assert_eq!(long.status, StatusCode::OK);
    assert!(long.message().contains("clientInfo"), "{}", long.message());
    let before = resident(&pool);
    let mut opened = 0;
    let refused = loop {
        let answer = introduce(60 << 10).await;
        if answer.response().get("error").is_some() {
            break answer;
        }
        opened += 1;
        assert!(opened < 1000, "never refused");
    };
    assert_full(refused.status, refused.message());
    assert!(opened > 100, "{opened} sessions of 60 KiB");
    assert_bounded(&pool, before);
    beside.goes_on(5).await;
}

#[tokio::test]
async fn subscriptions_are_bounded_in_length_in_number_and_for_all() {
    let pool = serve("");
    let beside = Beside::open(&pool, "bystander", "good").await;
    let before = resident(&pool);
    let client = pool.client_of("hostile", "noisy").connect().await;
    let uri = |n: usize, len: usize| format!("x://{n}/{:x>len$}", "");
    let subscribe = async |client: &Client, uri: String| {
        client
            .ask("resources/subscribe", json!({ "uri": uri }))
            .await
    };
    let long = subscribe(&client, uri(0, 8 << 10)).await;
    assert_eq!(long.response()["error"]["code"], -32602, "{long:?}");
    let began = Instant::now();
    let mut taken = 0;
    for n in 0..200 {
        let answer = subscribe(&client, uri(n, 8000)).await;
        taken += usize::from(answer.response()["result"].is_object());
    }
    assert_eq!(taken, 32, "256 KiB of one session");
    // Of each session as many, until the tenant has no room.
    let refused = loop {
        let another = pool.client_of("hostile", "noisy");
        let opened = another.try_initialize("2025-11-25", json!({})).await;
        if opened.response().get("error").is_some() {
            break opened;
        }
        let mut another = another;
        let session = opened.headers.get("mcp-session-id").expect("a session id");
        another.session = Some(session.to_str().expect("ASCII").to_owned());
        let mut last = None;
        for n in 0..31 {
            let answer = subscribe(&another, uri(n, 8000)).await;
            if !answer.response()["result"].is_object() {
                last = Some(answer);
                break;
            }
        }
        if let Some(answer) = last {
            break answer;
        }
        assert!(began.elapsed() < Duration::from_secs(50), "never refused");
    };
    assert_full(refused.status, refused.message());
    assert_bounded(&pool, before);
    beside.goes_on(5).await;
    assert!(held(&pool, "subscription").await > 15e6);
}

/// A connection that sends a request and reads nothing.
async fn deaf(pool: &Stdiopool, client: &Client, body: &Value) -> TcpStream {
    let address = pool.url.trim_start_matches("http://");
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("set");
    let mut stream = socket
        .connect(address.parse().expect("an address"))
        .await
        .expect("connected");
    let path = client.url.strip_prefix(&pool.url).expect("its own");
    let session = client.session.as_deref().expect("a session");
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nMcp-Session-Id: {session}\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream
}

#[tokio::test]
async fn answers_that_nobody_reads_are_refused_at_the_limit() {
    let pool = serve("");
    let beside = Beside::open(&pool, "bystander", "good").await;
    let client = pool.client_of("hostile", "noisy").connect().await;
    let before = resident(&pool);
    let huge = |id: usize| json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": "huge", "arguments": { "bytes": 5 << 20 } } });
    let mut connections = Vec::new();
    for id in 0..30 {
        connections.push(deaf(&pool, &client, &huge(id)).await);
    }
    crate::support::eventually("one has no room", async || {
        pool.metric("stdiopool_held_refusals_total{of=\"tenant\"}")
            .await
            > 0.0
    })
    .await;
    let refused = client.post(&huge(99)).await;
    assert_full(StatusCode::TOO_MANY_REQUESTS, refused.message());
    assert_eq!(refused.reason(), "tenant_limit");
    assert_bounded(&pool, before);
    beside.goes_on(5).await;
    // Who goes gives back what it held; what is short is answered all the while.
    let said = client.call("echo", json!({ "message": "short" })).await;
    assert_eq!(said.text(), "short");
    connections.clear();
    crate::support::eventually("there is room again", async || {
        client.post(&huge(100)).await.response()["result"].is_object()
    })
    .await;
    crate::support::eventually("nothing is held any more", async || {
        held(&pool, "answer").await == 0.0
    })
    .await;
}

/// Sends a request over a connection of its own and goes when that much has come. What has come.
async fn and_goes(pool: &Stdiopool, client: &Client, body: &Value, until: &str) -> String {
    let mut stream = deaf(pool, client, body).await;
    let mut told = Vec::new();
    let read = async {
        let is_enough = |told: &[u8]| String::from_utf8_lossy(told).contains(until);
        while !is_enough(&told) {
            let len = stream.read_buf(&mut told).await.expect("readable");
            assert!(len > 0, "closed after {}", String::from_utf8_lossy(&told));
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, read)
        .await
        .expect("it comes");
    String::from_utf8_lossy(&told).into_owned()
}

/// The event id in what was told.
fn last_event(told: &str) -> String {
    let id = told
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("id: "));
    id.expect("an id").to_owned()
}

/// Asks for what came after that event.
async fn resume(client: &Client, last: &str) -> reqwest::Response {
    let request = client
        .request(http::Method::GET)
        .header("accept", "text/event-stream")
        .header("last-event-id", last);
    request.send().await.expect("answered")
}

#[tokio::test]
async fn answers_of_clients_that_are_gone_are_the_first_to_go() {
    let pool = serve("");
    let beside = Beside::open(&pool, "bystander", "good").await;
    let huge = |id: usize, after: f64| json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": "huge", "arguments": { "bytes": 5 << 20, "after": after } } });
    let kept = async |answers: u32| {
        let least = f64::from(answers * (5 << 20));
        crate::support::eventually("the answers are kept", async || {
            held(&pool, "answer").await >= least
        })
        .await;
    };
    // Nobody needs the room: who comes back in time gets its answer.
    let in_time = pool.client_of("hostile", "noisy").connect().await;
    let told = and_goes(&pool, &in_time, &huge(1, 2.5), "\ndata:").await;
    kept(1).await;
    let again = resume(&in_time, &last_event(&told)).await;
    let mut again = in_time.stream_of(again);
    let answer = again.next().await.expect("an event");
    let text = answer["result"]["content"][0]["text"].as_str();
    assert_eq!(
        (answer["id"].as_u64(), text.map(str::len)),
        (Some(1), Some(5 << 20))
    );
    drop(again);
    in_time.delete().await;
    crate::support::eventually("of a session that has ended nothing is kept", async || {
        held(&pool, "answer").await == 0.0
    })
    .await;

    let gone = pool.client_of("hostile", "noisy").connect().await;
    let told = and_goes(&pool, &gone, &huge(2, 2.5), "\ndata:").await;
    kept(1).await;
    // They go when their streams have begun: who goes before may have asked nothing.
    let bodies = [3, 4, 5].map(|id| huge(id, 2.5));
    let others = bodies.iter();
    let others = others.map(|body| and_goes(&pool, &gone, body, "\ndata:"));
    futures_util::future::join_all(others).await;
    kept(4).await;
    // Another client of the tenant needs more than is left. It is not refused, and neither is the next.
    let here = pool.client_of("hostile", "noisy").connect().await;
    for id in 6..9 {
        let answer = here.post(&huge(id, 0.0)).await;
        let text = answer.response()["result"]["content"][0]["text"]
            .as_str()
            .map(str::len);
        assert_eq!(text, Some(5 << 20), "{}", answer.message());
    }
    let pad = "x".repeat(900 << 10);
    let said = here
        .call("echo", json!({ "message": "short", "pad": pad }))
        .await;
    assert_eq!(said.text(), "short");
    let reclaimed = pool.metric("stdiopool_held_reclaimed_total").await;
    assert!((1.0..=4.0).contains(&reclaimed), "{reclaimed}");
    assert_eq!(
        pool.metric("stdiopool_held_refusals_total{of=\"tenant\"}")
            .await,
        0.0
    );
    // The one that has waited longest has gone, and its client is told so once.
    let late = resume(&gone, &last_event(&told)).await;
    assert_eq!(late.status(), StatusCode::NO_CONTENT);
    beside.goes_on(5).await;
}

#[tokio::test]
async fn one_large_update_for_many_sessions_is_held_once() {
    let pool = serve("");
    let beside = Beside::open(&pool, "bystander", "good").await;
    let mut sessions = Vec::new();
    for _ in 0..50 {
        let client = Client::new(format!("{}/t/hostile/mcp", pool.url));
        let client = client.connect().await;
        let uri = json!({ "uri": "stdiopool://noisy/x://a" });
        let subscribed = client.ask("resources/subscribe", uri).await;
        assert!(
            subscribed.response()["result"].is_object(),
            "{subscribed:?}"
        );
        sessions.push(client);
    }
    let before = resident(&pool);
    let update = json!({ "uri": "x://a/b", "bytes": 5 << 20, "count": 3 });
    sessions[0].call("noisy__update", update).await;
    let messages = held(&pool, "message").await;
    let one = f64::from(5 << 20);
    assert!((one..2.0 * one).contains(&messages), "{messages}");
    assert_bounded(&pool, before);
    beside.goes_on(5).await;
    // It comes, once, though it was told three times.
    let mut events = sessions[1].listen().await;
    let told = events.next().await.expect("an event");
    assert_eq!(told["params"]["uri"], "stdiopool://noisy/x://a/b");
    for client in &sessions {
        client.delete().await;
    }
    crate::support::eventually("nothing is held any more", async || {
        held(&pool, "message").await == 0.0
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_changes_to_many_sessions_leaves_others_their_turn() {
    let pool = serve("");
    let beside = Beside::open(&pool, "bystander", "good").await;
    let client = pool.client_of("hostile", "noisy").connect().await;
    let opened = (0..400).map(async |_| pool.client_of("hostile", "noisy").connect().await);
    let sessions: Vec<_> = futures_util::future::join_all(opened).await;
    let mut events = sessions[7].listen().await;
    let quiet = Instant::now();
    beside.goes_on(20).await;
    let quiet = quiet.elapsed();
    let flood = client.call("flood", json!({ "count": 100_000 }));
    let calls = async {
        let began = Instant::now();
        beside.goes_on(20).await;
        began.elapsed()
    };
    let (answer, loud) = tokio::join!(flood, calls);
    assert_eq!(answer.text(), "done");
    println!("20 calls beside: {quiet:?} before, {loud:?} during the flood");
    let changed = events.next().await.expect("an event");
    assert_eq!(changed["method"], "notifications/tools/list_changed");
    // Of each session at most one waits.
    let messages = held(&pool, "message").await;
    assert!(messages < 401.0 * 1024.0, "{messages}");
}

#[tokio::test]
async fn messages_that_never_end_count_too() {
    let pool = serve("");
    let beside = Beside::open(&pool, "bystander", "good").await;
    let client = pool.client_of("hostile", "noisy").connect().await;
    let partial = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "partial", "arguments": { "bytes": 4 << 20 } } });
    let call = tokio::spawn(async move { client.post(&partial).await });
    crate::support::eventually("the beginning is counted", async || {
        held(&pool, "answer").await > f64::from(3 << 20)
    })
    .await;
    beside.goes_on(3).await;
    call.abort();
}

#[tokio::test]
async fn a_stream_that_nobody_reads_loses_its_oldest() {
    let pool = serve("");
    let beside = Beside::open(&pool, "bystander", "good").await;
    let client = pool.client_of("hostile", "noisy").connect().await;
    client
        .ask("resources/subscribe", json!({ "uri": "x://" }))
        .await;
    let before = resident(&pool);
    for n in 0..400 {
        let update = json!({ "uri": format!("x:///{n}"), "bytes": 100 << 10 });
        client.call("update", update).await;
    }
    let held = held(&pool, "message").await;
    assert!(held <= f64::from(1 << 20) * 1.2, "{held}");
    let dropped = pool.metric("stdiopool_notifications_dropped_total{reason=\"queue_full\"}");
    assert!(dropped.await > 300.0);
    assert_bounded(&pool, before);
    let mut events = client.listen().await;
    let mut uris = Vec::new();
    while uris.last() != Some(&"x:///399".to_owned()) {
        let told = events.next().await.expect("an event");
        uris.push(told["params"]["uri"].as_str().expect("a URI").to_owned());
    }
    assert!(uris.len() < 20, "the latest: {uris:?}");
    beside.goes_on(3).await;
}

#[tokio::test]
async fn stored_configs_count_as_what_their_tenant_holds() {
    let own = demo("own", "client_config = [\"a\"]\nmax_message = \"6MiB\"")
        .replace("demo-server\"]", "demo-server\", \"${config.a:-}\"]");
    let schema = "[servers.own.config]\ntype = \"object\"\nproperties.a = { type = \"string\" }\n";
    let pool = serve(&(own + schema));
    let beside = Beside::open(&pool, "bystander", "good").await;
    let before = resident(&pool);
    let http = reqwest::Client::new();
    let store = async |n: usize| {
        let long = format!("{n}{}", "x".repeat(60 << 10));
        let body = json!({ "server": "own", "config": { "a": long } });
        let sent = http.post(format!("{}/t/hostile/v1/config", pool.url));
        sent.json(&body).send().await.expect("answers")
    };
    let mut stored = 0;
    let refused = loop {
        let response = store(stored).await;
        if !response.status().is_success() {
            break response;
        }
        stored += 1;
        assert!(stored < 1000, "never refused");
    };
    let status = refused.status();
    assert_full(status, &refused.text().await.expect("text"));
    assert!(stored > 200, "{stored} configs of 60 KiB");
    assert!(held(&pool, "stored_config").await > 15e6);
    assert_bounded(&pool, before);
    beside.goes_on(5).await;
}

/// Who fills a bound, or why nobody needs to.
enum Filled {
    /// A test, by the name of its function.
    By(&'static str),
    /// What is bounded is not what a client or a server sent, or is a time.
    NeedNot(&'static str),
}

use Filled::{By, NeedNot};

/// Every row of the table of bounds, by what its first cell begins with.
const ROWS: &[(&str, Filled)] = &[
    (
        "servers of tenants that were found to have one process at a time",
        NeedNot("entries of fixed size, of servers that are in pool.toml"),
    ),
    (
        "nesting and numbers of a client's message",
        By("nothing_that_a_server_would_drop_is_waited_for"),
    ),
    (
        "warnings of messages of a worker that are off",
        By("an_answer_of_which_nothing_can_be_made_fails_its_request_at_once"),
    ),
    (
        "a message of a worker over several lines",
        By("what_names_its_request_in_any_way_fails_it_at_once_and_no_other"),
    ),
    (
        "messages of a worker that may have answered any of several requests",
        By("what_may_answer_any_of_several_fails_those_that_show_no_life"),
    ),
    ("connections", By("strangers_are_the_first_to_make_room")),
    (
        "connections of an address",
        By("an_address_may_have_so_many_connections"),
    ),
    (
        "time of a connection",
        By("idle_connections_end_in_both_versions_and_clients_are_told_before"),
    ),
    (
        "requests at once over one connection of HTTP/2",
        NeedNot("a setting of the HTTP library, which its own tests fill"),
    ),
    (
        "heads that have not ended",
        By("what_strangers_connections_hold_has_a_bound"),
    ),
    (
        "connections of the admin listener",
        By("event_streams_of_the_admin_api_do_not_keep_the_operator_out"),
    ),
    ("request body", By("faults_of_a_request_are_told_apart")),
    (
        "what is held for tenants",
        By("a_tenant_is_refused_at_its_limit_and_another_is_not"),
    ),
    (
        "bodies of requests under way",
        By("bodies_that_do_not_end_are_refused_at_the_limit_of_their_tenant"),
    ),
    (
        "messages of a batch",
        By("batches_belong_to_the_one_revision_that_has_them"),
    ),
    (
        "requests that wait",
        NeedNot("a number of requests, whose bodies are counted"),
    ),
    (
        "rates, requests under way",
        By("what_is_remembered_is_charged_to_its_tenant"),
    ),
    (
        "requests in flight of a worker that is to be replaced",
        By(
            "a_call_that_takes_long_holds_up_the_next_worker_for_drain_timeout_and_is_told_why_it_ended",
        ),
    ),
    (
        "log lines of requests that fail",
        By("failures_by_the_thousand_are_a_few_lines"),
    ),
    (
        "log lines of a server's circuits",
        By("the_log_is_told_of_a_few_and_how_many_there_were"),
    ),
    (
        "lines that wait for the audit log",
        By("what_is_lost_is_counted_where_it_is_missed"),
    ),
    ("secrets read again", NeedNot("sources are the operator's")),
    (
        "what a client says of itself",
        By("what_clients_say_of_themselves_is_bounded_for_each_and_for_all"),
    ),
    (
        "subscriptions",
        By("subscriptions_are_bounded_in_length_in_number_and_for_all"),
    ),
    (
        "sessions that have set something",
        By("what_is_set_often_takes_one_place_in_the_queue_and_the_last_of_it_is_kept"),
    ),
    (
        "sessions",
        NeedNot("each is counted; `max_sessions_per_tenant` has a test of its own"),
    ),
    (
        "configs of one session",
        NeedNot("each is at most 64 KiB, of the session's own tenant"),
    ),
    (
        "stored configs",
        By("stored_configs_count_as_what_their_tenant_holds"),
    ),
    (
        "message from a worker",
        By("a_line_of_fifty_megabytes_fails_its_call_only"),
    ),
    (
        "messages of workers that are not whole yet",
        By("messages_that_never_end_count_too"),
    ),
    (
        "bytes that wait for a worker's stdin",
        By("what_waits_is_charged_until_the_pipe_has_it"),
    ),
    (
        "messages that wait for a client",
        By("a_stream_that_nobody_reads_loses_its_oldest"),
    ),
    (
        "answers that wait for a client",
        By("answers_that_nobody_reads_are_refused_at_the_limit"),
    ),
    (
        "notifications for many sessions",
        By("a_flood_of_changes_to_many_sessions_leaves_others_their_turn"),
    ),
    (
        "GET streams of one session",
        By("a_reader_that_goes_on_with_a_stream_ends_the_one_before"),
    ),
    (
        "calls of a session that nobody can hear of",
        By("calls_that_nobody_can_hear_of_make_room"),
    ),
    (
        "broken event streams",
        By("a_tenant_without_room_loses_what_was_kept"),
    ),
    (
        "calls that wait for a stateless client",
        NeedNot("a table of each tenant, whose own tests fill it"),
    ),
    (
        "answers that wait for a client of HTTP+SSE",
        By("answers_that_nobody_reads_are_refused_at_the_limit"),
    ),
    (
        "a client's roots",
        By("what_is_no_answer_or_too_long_is_refused"),
    ),
    (
        "sets of roots that have workers",
        By("sets_of_roots_are_bounded_and_never_mixed_up"),
    ),
    (
        "what of a server was called once",
        NeedNot("hashes of fixed size, of the operator's servers"),
    ),
    (
        "packages kept track of",
        NeedNot("command lines are the operator's"),
    ),
    (
        "files taken over from a private view",
        NeedNot("files of the tenant's own server, on its disk: what is beyond stays where it is"),
    ),
    (
        "links to authorise",
        NeedNot("a number of rows of fixed size"),
    ),
    (
        "answers of providers",
        NeedNot("providers are the operator's choice"),
    ),
    ("silence of the guardian", NeedNot("a time")),
    ("exec of a worker's program", NeedNot("a time")),
    ("a shutdown", NeedNot("a time")),
    (
        "starts at once",
        By("servers_of_one_tenant_that_never_answer_keep_no_other_from_starting"),
    ),
    (
        "requests of one session",
        By("a_session_that_hangs_all_it_may_leaves_the_others_of_its_worker_their_slots"),
    ),
    (
        "callers without sessions",
        By("callers_with_large_configs_take_their_tenants_own_memory"),
    ),
    (
        "states that stateless workers",
        NeedNot("a table of each tenant, whose own tests fill it; entries of fixed size"),
    ),
    (
        "what servers said of themselves",
        NeedNot("a table of each tenant, whose own tests fill it; counted"),
    ),
    (
        "config of a caller",
        By("a_config_that_is_too_long_is_refused_wherever_it_stands"),
    ),
    (
        "checks of callers' configs",
        By("checks_of_configs_that_take_long_keep_nobody_waiting"),
    ),
    (
        "failing keys",
        NeedNot("entries of fixed size; the tests of circuits fill it"),
    ),
    ("the log", By("a_log_whose_reader_has_gone_stops_nothing")),
    (
        "what is to be removed",
        By("a_folder_is_empty_at_once_and_its_trash_goes_later"),
    ),
    (
        "stderr kept",
        NeedNot("a ring of fixed size for each worker; `worker_io` fills it"),
    ),
    (
        "workers that have ended",
        NeedNot(
            "by its own tests: `one_tenants_workers_do_not_push_out_what_is_known_of_anothers` and a property",
        ),
    ),
    (
        "events that are remembered",
        NeedNot(
            "the list of ended workers, with other numbers: `the_bounds_hold_and_the_latest_is_there`",
        ),
    ),
    (
        "tools that filters and policy rules are held against",
        NeedNot("what a server says of itself, looked at once and cut"),
    ),
    (
        "a list that is read before a call whose arguments are set",
        By("a_list_that_cannot_be_had_refuses_the_call_in_time_and_nobody_elses"),
    ),
    (
        "different lists of a server",
        By("the_lists_that_are_looked_at_are_bounded"),
    ),
];

/// The text of every test there is.
fn sources() -> String {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    let mut folders = vec![root.join("src"), root.join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                text.push_str(&std::fs::read_to_string(path).expect("text"));
            }
        }
    }
    text
}

#[test]
fn every_bound_is_filled_by_a_test_or_says_why_not() {
    let text = include_str!("../../docs/architecture.md");
    let table = text.split("\n## Bounds\n").nth(1).expect("there");
    let table = table.split("\n## ").next().expect("its end");
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let cells = rows.map(|row| {
        row.trim_matches(['|', ' '])
            .split(" | ")
            .collect::<Vec<_>>()
    });
    let rows: Vec<_> = cells
        .filter(|cells| cells[0] != "what" && cells[0] != "---")
        .collect();
    assert!(rows.len() > 30, "{}", rows.len());
    let sources = sources();
    let mut used = std::collections::BTreeSet::new();
    for cells in &rows {
        assert_eq!(cells.len(), 3, "what happens at the bound: {cells:?}");
        // The longest that fits is the one that is meant.
        let known = ROWS.iter().filter(|(what, _)| cells[0].starts_with(what));
        let Some((what, filled)) = known.max_by_key(|(what, _)| what.len()) else {
            panic!("nobody fills `{}`", cells[0])
        };
        used.insert(*what);
        match filled {
            By(test) => assert!(
                sources.contains(&format!("fn {test}(")),
                "`{what}` is to be filled by `{test}`, which is not there"
            ),
            NeedNot(why) => assert!(!why.is_empty(), "{what}"),
        }
    }
    let stale: Vec<_> = ROWS
        .iter()
        .filter(|(what, _)| !used.contains(what))
        .map(|(what, _)| what)
        .collect();
    assert!(stale.is_empty(), "no such bounds any more: {stale:?}");
}
