//! What the bridge keeps between a question and its answer is its tenant's: answers of a round, what a call is sent again with,
//! ids and tokens, the configs of sessions.

use http::StatusCode;
use serde_json::{Value, json};

use crate::beside::Beside;
use crate::support::{Client, Stdiopool, demo};

/// The fixture that asks its clients, as a server of that era.
fn asking(era: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/asking.py");
    format!(
        "[servers.{era}]\ncommand = \"python3\"\nargs = [\"{script}\", \"{era}\"]\nmax_message = \"8MiB\"\n"
    )
}

fn serve(era: &str, held: &str) -> Stdiopool {
    let limits = format!("[limits]\nmemory_held = \"{held}\"\n");
    Stdiopool::serve(&(limits + &demo("good", "max_message = \"1MiB\"") + &asking(era)))
}

async fn asked(pool: &Stdiopool, era: &str) -> Client {
    let client = pool.client_of("hostile", era);
    let capabilities = json!({ "elicitation": {} });
    client.connect_as("2025-06-18", capabilities).await
}

fn call(arguments: &Value) -> Value {
    let params = json!({ "name": "ask", "arguments": arguments });
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params })
}

async fn held(pool: &Stdiopool, kind: &str) -> f64 {
    let series = format!("stdiopool_held_bytes{{kind=\"{kind}\"}}");
    pool.metric(&series).await
}

/// Returns once nothing is held for calls that wait.
async fn all_given_back(pool: &Stdiopool) {
    crate::support::eventually("all is given back", async || {
        held(pool, "suspended").await == 0.0
    })
    .await;
}

/// The answer to a question, with that many zeros in it: as a tree each takes many times what it takes as text.
fn zeros(ask: &Value, many: usize) -> Value {
    let result = json!({ "action": "accept", "content": { "z": vec![0; many] } });
    json!({ "jsonrpc": "2.0", "id": ask, "result": result })
}

#[tokio::test]
async fn answers_that_wait_for_others_of_their_round_are_their_tenants() {
    let pool = serve("rounds", "12MiB");
    let beside = Beside::open(&pool, "bystander", "good").await;
    let client = asked(&pool, "rounds").await;
    let mut events = client.stream(&call(&json!({ "inputs": 64 }))).await;
    let mut asks = vec![];
    while asks.len() < 64 {
        let message = events.next().await.expect("more");
        if message["method"] == "elicitation/create" {
            asks.push(message["id"].clone());
        }
    }
    let mut taken = 0;
    let refused = loop {
        let answer = client.post(&zeros(&asks[taken], 500_000)).await;
        match answer.status {
            StatusCode::ACCEPTED => taken += 1,
            _ => break answer,
        }
        let bytes = held(&pool, "suspended").await;
        assert!(bytes >= 1e6 * taken as f64, "{taken} answers hold {bytes}");
    };
    assert!(taken > 3 && taken < 12, "{taken}");
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{refused:?}");
    assert!(
        refused.message().contains("`limits.memory_held`"),
        "{refused:?}"
    );
    beside.goes_on(3).await;
    // The question that was not taken is open, and shorter answers are.
    for ask in &asks[taken..] {
        let answer = client.post(&zeros(ask, 1)).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    }
    let last = loop {
        let message = events.next().await.expect("more");
        if message["id"] == 1 {
            break message;
        }
    };
    assert_eq!(last["result"]["content"][0]["text"], "got 64", "{last}");
    all_given_back(&pool).await;
}

#[tokio::test]
async fn what_a_call_is_sent_again_with_is_its_tenants() {
    let pool = serve("rounds", "20MiB");
    let client = asked(&pool, "rounds").await;
    let arguments = json!({ "inputs": 1, "state": 7 << 20 });
    let mut events = client.stream(&call(&arguments)).await;
    while events.next().await.expect("more")["method"] != "elicitation/create" {}
    assert!(held(&pool, "suspended").await > f64::from(7 << 20));
    // Beyond half of its limit a tenant is asked nothing more: the call ends, and what it kept is given back.
    let full = client
        .call("ask", json!({ "inputs": 1, "state": 7 << 20 }))
        .await;
    assert!(full.response()["error"].is_object(), "{full:?}");
    assert!(held(&pool, "suspended").await < f64::from(8 << 20));
    assert_eq!(client.delete().await, StatusCode::NO_CONTENT);
    drop(events);
    all_given_back(&pool).await;
}

#[tokio::test]
async fn ids_and_tokens_have_an_end() {
    let pool = serve("requests", "64MiB");
    let client = asked(&pool, "requests").await;
    // The server's.
    for (id, token) in [(2000, 1), (1, 2000), (3 << 20, 3 << 20)] {
        let answer = client
            .call("ask", json!({ "id": id, "token": token }))
            .await;
        assert!(answer.text().contains("at most 1024 bytes"), "{answer:?}");
    }
    let arguments = json!({ "id": 1022, "token": 1022 });
    let mut events = client.stream(&call(&arguments)).await;
    let ask = loop {
        let message = events.next().await.expect("more");
        if message["method"] == "elicitation/create" {
            break message["id"].clone();
        }
    };
    assert_eq!(
        client.post(&zeros(&ask, 1)).await.status,
        StatusCode::ACCEPTED
    );
    // The client's.
    let mut long = call(&json!({}));
    long["id"] = json!("i".repeat(1023));
    let refused = client.post(&long).await;
    assert_eq!(refused.response()["error"]["code"], -32600, "{refused:?}");
    let mut long = call(&json!({}));
    long["params"]["_meta"] = json!({ "progressToken": "t".repeat(1023) });
    let refused = client.post(&long).await;
    assert_eq!(refused.response()["error"]["code"], -32602, "{refused:?}");
}

#[tokio::test]
async fn configs_of_sessions_are_their_tenants() {
    let plain = demo(
        "plain",
        "max_message = \"128KiB\"\nclient_config = [\"a\"]\n[servers.plain.config]\ntype = \"object\"\nproperties.a = { type = \"string\" }\n",
    );
    let limits = "[limits]\nmemory_held = \"3MiB\"\n";
    let good = demo("good", "max_message = \"128KiB\"");
    let pool = Stdiopool::serve(&(limits.to_owned() + &good + &plain));
    let beside = Beside::open(&pool, "bystander", "good").await;
    let client = pool.client_of("hostile", "plain");
    let about = json!({ "name": "t", "version": "1" });
    let params = json!({
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": about,
        "clientConfig": { "a": "x".repeat(40 << 10) },
    });
    let mut opened = 0;
    let refused = loop {
        let answer = client.ask("initialize", params.clone()).await;
        if answer.response()["result"].is_null() {
            break answer;
        }
        opened += 1;
        assert!(opened < 80, "40 KiB each");
    };
    assert!(opened > 10, "{opened}: {refused:?}");
    assert!(
        refused.message().contains("`limits.memory_held`"),
        "{refused:?}"
    );
    let bytes = held(&pool, "session").await;
    assert!(bytes > f64::from(opened * (40 << 10)), "{opened}: {bytes}");
    beside.goes_on(3).await;
}
