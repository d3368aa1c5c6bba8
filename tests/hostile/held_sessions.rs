//! Session ids and event ids: another's, guessed, malformed or ended ones are as unknown as none, and change
//! nothing for whom they belong to.

use http::header::HeaderValue;
use http::{Method, StatusCode};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::beside::Beside;
use crate::support::{Client, Stdiopool, demo};
use crate::wire::tenants;

fn serve() -> Stdiopool {
    let toml = demo("good", "") + &demo("other", "") + &tenants(&["acme", "globex"]);
    Stdiopool::serve_with("[auth]\nmode = \"token\"\n", &toml)
}

/// A client without a session.
fn caller(pool: &Stdiopool, tenant: &str, server: &str) -> Client {
    pool.client(server).with_token(tenant)
}

/// Presents a session id in each of the ways that there are; what is told of it.
async fn presented(client: &Client, id: &[u8]) -> String {
    let value = HeaderValue::from_bytes(id).expect("may stand in a head");
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string();
    let tell =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}});
    let mut told = vec![];
    for (method, body) in [
        (Method::POST, list),
        (Method::POST, tell.to_string()),
        (Method::GET, String::new()),
        (Method::DELETE, String::new()),
    ] {
        let request = client.request(method.clone());
        let request = request.header("content-type", "application/json");
        let request = request.header("mcp-session-id", value.clone()).body(body);
        let answer = request.send().await.expect("answers");
        let shown = String::from_utf8_lossy(id);
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{method} {shown}");
        let answer: Value = answer.json().await.expect("JSON");
        told.push(answer["error"]["message"].to_string());
    }
    told.dedup();
    assert_eq!(told.len(), 1, "{told:?}");
    told.remove(0)
}

fn id_of(client: &Client) -> &str {
    client.session.as_deref().expect("a session")
}

#[tokio::test]
async fn nobodys_session_is_found_by_an_id_that_is_not_its_callers_own() {
    let pool = serve();
    let victim = caller(&pool, "globex", "good").connect().await;
    let beside = Beside::of(victim.clone());
    beside.goes_on(1).await;
    let id = id_of(&victim).to_owned();
    let hostile = caller(&pool, "acme", "good");
    let unknown = presented(&hostile, "0".repeat(id.len()).as_bytes()).await;
    // Another tenant's; one's own tenant's at another server, and at all servers as one.
    assert_eq!(presented(&hostile, id.as_bytes()).await, unknown);
    for server in ["other"] {
        let client = caller(&pool, "globex", server);
        assert_eq!(presented(&client, id.as_bytes()).await, unknown, "{server}");
    }
    let mut all = caller(&pool, "globex", "good");
    all.url = format!("{}/mcp", pool.url);
    assert_eq!(presented(&all, id.as_bytes()).await, unknown);
    // Nearly its own, by its own tenant.
    let own = caller(&pool, "globex", "good");
    let mut changed = id.clone().into_bytes();
    changed[0] = if changed[0] == b'0' { b'1' } else { b'0' };
    for nearly in [
        id.as_bytes()[1..].to_vec(),
        id.as_bytes()[..id.len() - 1].to_vec(),
        format!("{id}0").into_bytes(),
        format!("{id} x").into_bytes(),
        format!("{id},{id}").into_bytes(),
        format!("\"{id}\"").into_bytes(),
        format!("%{:02x}{}", id.as_bytes()[0], &id[1..]).into_bytes(),
        format!("{id}\u{0301}").into_bytes(),
        changed,
    ] {
        assert_eq!(presented(&own, &nearly).await, unknown);
    }
    // Those that mean something elsewhere.
    for malformed in [
        &b""[..],
        b"*",
        b"null",
        b"undefined",
        b"0",
        b"-1",
        b"../../state.db",
        b"' OR '1'='1",
        b"${session.id}",
        b"\xff\xfe\xfd",
        &[b'a'; 8000],
    ] {
        assert_eq!(presented(&hostile, malformed).await, unknown);
    }
    // Guessed.
    for n in 0_u128..100 {
        let guess = format!(
            "{:032x}",
            n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
        );
        assert_eq!(presented(&hostile, guess.as_bytes()).await, unknown);
    }
    beside.goes_on(3).await;
}

#[tokio::test]
async fn a_session_that_has_ended_is_as_unknown_after_a_kill() {
    let pool = serve();
    let ended = caller(&pool, "acme", "good").connect().await;
    let kept = caller(&pool, "globex", "good").connect().await;
    assert_eq!(ended.delete().await, StatusCode::NO_CONTENT);
    let hostile = caller(&pool, "acme", "good");
    let unknown = presented(&hostile, "0".repeat(32).as_bytes()).await;
    assert_eq!(presented(&hostile, id_of(&ended).as_bytes()).await, unknown);
    let again = pool.restarted_after(Signal::SIGKILL);
    let hostile = caller(&again, "acme", "good");
    for id in [id_of(&ended), id_of(&kept)] {
        assert_eq!(presented(&hostile, id.as_bytes()).await, unknown);
    }
    // One that its owner has not asked for yet was not ended by another's asking.
    let mut own = caller(&again, "globex", "good");
    own.session.clone_from(&kept.session);
    own.version.clone_from(&kept.version);
    Beside::of(own).goes_on(2).await;
}

/// A stream of a call that tells something before its answer: it, and the id of its first event.
async fn begin_stream(client: &Client, token: &str) -> (reqwest::Response, String) {
    let call = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": "sleep", "arguments": { "seconds": 1.2, "steps": 6 }, "_meta": { "progressToken": token } },
    });
    let mut stream = client.send_raw(call.to_string()).await;
    let first = stream.chunk().await.expect("reads").expect("an event");
    let first = String::from_utf8_lossy(&first).into_owned();
    let id = first.lines().find_map(|line| line.strip_prefix("id: "));
    (stream, id.expect("events are named").to_owned())
}

/// A GET that says which event it had last; its stream.
async fn resume(client: &Client, last: &[u8]) -> reqwest::Response {
    let last = HeaderValue::from_bytes(last).expect("may stand in a head");
    let request = client.request(Method::GET).header("last-event-id", last);
    request.send().await.expect("answers")
}

/// All that comes in a stream up to what it must tell.
async fn told_until(stream: &mut reqwest::Response, mark: &str) -> String {
    let mut told = String::new();
    while !told.contains(mark) {
        let chunk = tokio::time::timeout(crate::support::PATIENCE, stream.chunk()).await;
        let chunk = chunk.expect("in time").expect("reads").expect("more");
        told.push_str(&String::from_utf8_lossy(&chunk));
    }
    told
}

#[tokio::test]
async fn an_event_id_gives_nothing_of_another_session_and_takes_nothing_from_it() {
    let pool = serve();
    let victim = caller(&pool, "globex", "good").connect().await;
    let neighbour = caller(&pool, "globex", "good").connect().await;
    let hostile = caller(&pool, "acme", "good").connect().await;
    let (broken, id) = begin_stream(&victim, "token-of-victim").await;
    drop(broken);
    let (stream, place) = id.split_once('-').expect("two numbers");
    let stream: u64 = stream.parse().expect("a number");
    let max = u64::MAX;
    // Where it is taken for an event of the caller's own, there is none of it.
    let mut ids = vec![id.clone(), format!("{stream}-0"), format!("{stream}-{max}")];
    ids.extend((0..20).map(|n| format!("{n}-{place}")));
    ids.extend([
        format!("0-{max}"),
        format!("{max}-{max}"),
        format!("{max}-1"),
    ]);
    let mut ids: Vec<_> = ids.into_iter().map(String::into_bytes).collect();
    for malformed in [
        "",
        "-",
        "1",
        "1-",
        "-1",
        "1-2-3",
        "+1-+1",
        "1--1",
        "0x1-1",
        "1.0-1",
        "a-b",
        "99999999999999999999-1",
        "'--",
    ] {
        ids.push(malformed.as_bytes().to_vec());
    }
    ids.extend([b"\xff\xff-1".to_vec(), vec![b'9'; 8000]]);
    for client in [&neighbour, &hostile] {
        for id in &ids {
            let mut opened = resume(client, id).await;
            let shown = String::from_utf8_lossy(id);
            // A stream that it never had, or that is over: there is nothing, and it is not to ask again.
            if opened.status() == StatusCode::NO_CONTENT {
                assert_eq!(opened.text().await.expect("an answer"), "", "{shown}");
                continue;
            }
            assert_eq!(opened.status(), StatusCode::OK, "{shown}");
            // Its own events come, after nothing of anybody else.
            client.call("notify", json!({ "kind": "tools" })).await;
            let told = told_until(&mut opened, "tools/list_changed").await;
            let of_victim = told.contains("token-of-victim") || told.contains("\"result\"");
            assert!(!of_victim, "{shown}: {told}");
        }
    }
    // Nor was the stream taken: it goes on for whom it belongs to, answer and all.
    let mut rest = resume(&victim, id.as_bytes()).await;
    let rest = told_until(&mut rest, "\"result\"").await;
    // All six, where the first event was the one that only says where the stream begins.
    let missed = if place == "0" { 6 } else { 5 };
    assert_eq!(
        rest.matches("token-of-victim").count(),
        missed,
        "{id}: {rest}"
    );
}

#[tokio::test]
async fn a_broken_stream_goes_on_from_no_place_that_it_never_told() {
    let pool = serve();
    let client = caller(&pool, "acme", "good").connect().await;
    let (broken, id) = begin_stream(&client, "mine").await;
    drop(broken);
    let (stream, _) = id.split_once('-').expect("two numbers");
    // Far ahead of what was told: nothing is told again, and what comes later is not lost.
    let ahead = format!("{stream}-{}", u64::MAX);
    let told = resume(&client, ahead.as_bytes()).await;
    let told = told.text().await.expect("whole");
    assert!(told.contains("\"result\""), "{told}");
    Beside::of(client).goes_on(1).await;
}
