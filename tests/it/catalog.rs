//! A client that connects and lists costs no process, once somebody has.

use serde_json::{Value, json};

use super::support::{Client, Stdiopool, demo, until};

const LISTS: [&str; 4] = [
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
];

async fn lists(client: &Client) -> Vec<Value> {
    let mut results = vec![];
    for method in LISTS {
        results.push(client.ask(method, json!({})).await.result().clone());
    }
    results
}

/// Stops every worker and waits until they are gone.
async fn without_workers(pool: &Stdiopool) {
    for worker in pool.workers().await {
        let id = worker["id"].as_str().expect("an id").to_owned();
        let status = pool.command(&["stop", &id]).status().expect("runs");
        assert!(status.success());
    }
    let gone = async {
        while !pool.workers().await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let gone = tokio::time::timeout(super::support::PATIENCE, gone).await;
    gone.expect("all gone");
}

#[tokio::test]
async fn connecting_and_listing_starts_nothing_and_a_call_does() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let first = pool.client_of("anna", "demo").connect().await;
    let known = lists(&first).await;
    without_workers(&pool).await;

    let second = pool.client_of("anna", "demo").connect().await;
    assert_eq!(second.version, first.version);
    assert_eq!(lists(&second).await, known);
    let level = second.ask("logging/setLevel", json!({"level": "error"}));
    assert_eq!(level.await.result(), &json!({}));
    assert_eq!(lists(&first).await, known);
    assert_eq!(pool.workers().await.len(), 0, "nothing was needed");
    assert!(pool.metric("stdiopool_catalog_hits_total").await >= 10.0);

    // The level holds for the worker that comes now.
    for level in ["info", "error"] {
        let params = json!({"level": level, "message": level});
        let answer = second.call("log", params).await;
        let logged = answer.messages.len() > 1;
        assert_eq!(logged, level == "error", "{answer:?}");
    }
    assert_eq!(pool.workers().await.len(), 1);
}

#[tokio::test]
async fn what_is_known_of_one_tenant_is_not_shown_to_another() {
    let toml = demo("demo", "env = { DEMO_TENANT = \"${tenant.id}\" }");
    let pool = Stdiopool::serve(&toml);
    lists(&pool.client_of("anna", "demo").connect().await).await;
    without_workers(&pool).await;
    lists(&pool.client_of("bob", "demo").connect().await).await;
    let workers = pool.workers().await;
    assert_eq!(workers.len(), 1, "his own");
    assert_eq!(workers[0]["tenant"], "bob");
}

#[tokio::test]
async fn a_list_that_has_changed_is_asked_for_again() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client_of("anna", "demo").connect().await;
    lists(&client).await;
    client.call("notify", json!({"kind": "prompts"})).await;
    without_workers(&pool).await;
    client.ask("tools/list", json!({})).await;
    assert_eq!(pool.workers().await.len(), 0, "still known");
    client.ask("prompts/list", json!({})).await;
    assert_eq!(pool.workers().await.len(), 1);
}

#[tokio::test]
async fn a_worker_can_be_started_when_a_client_connects_and_nothing_be_remembered() {
    let eager = demo("eager", "start = \"on-connect\"");
    let toml = "[pool]\nidle_timeout = \"10m\"\n".to_owned() + &eager;
    let pool = Stdiopool::serve(&toml);
    lists(&pool.client_of("anna", "eager").connect().await).await;
    without_workers(&pool).await;
    let _again = pool.client_of("anna", "eager").connect().await;
    let log = || pool.log().matches("worker ready").count();
    until("the second worker is ready", || (log() == 2).then_some(()));

    let toml = "[pool]\ncatalog_age = \"never\"\n".to_owned() + &demo("demo", "");
    let pool = Stdiopool::serve(&toml);
    let client = pool.client_of("anna", "demo").connect().await;
    lists(&client).await;
    without_workers(&pool).await;
    lists(&client).await;
    assert_eq!(pool.workers().await.len(), 1);
}
