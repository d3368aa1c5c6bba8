//! Servers that take of their host what they can get, beside another tenant's calls. How late those become is measured
//! by `scripts/bench hostile`, what ends or holds up each such server is tested in `tests/attacks/limits.rs`.

use std::time::Duration;

use serde_json::json;

use super::beside::Beside;
use super::support::{Stdiopool, alive, demo, eventually, faulty, in_tree_of};

/// How long it takes what it can for each kind, in seconds.
const PERIOD: u64 = 2;
const LIMITS: &str = "limits = { memory = \"128MiB\", pids = 64, disk = \"16MiB\" }";

#[tokio::test]
async fn what_a_server_takes_of_its_host_leaves_others_their_calls() {
    let servers = [
        demo("good", ""),
        faulty("greedy", &["--mode", "floods"], LIMITS),
    ];
    let pool = Stdiopool::serve(&servers.concat());
    let anna = Beside::open(&pool, "anna", "good").await;
    anna.goes_on(1).await;
    let before = in_tree_of(pool.pid()).len();
    for kind in ["processors", "processes", "disk", "connections", "memory"] {
        let mallory = pool.client_of("mallory", "greedy").connect().await;
        let asked = mallory
            .call("consume", json!({ "kind": kind, "seconds": PERIOD }))
            .await;
        assert_eq!(asked.text(), "begun", "{kind}");
        let end = tokio::time::Instant::now() + Duration::from_secs(PERIOD);
        while tokio::time::Instant::now() < end {
            anna.goes_on(5).await;
        }
    }
    // The last of them was ended for it, which its owner can read.
    eventually("its memory was too much", async || {
        pool.log().contains("servers.greedy.limits.memory")
    })
    .await;
    anna.goes_on(5).await;
    eventually("nothing of it is left", async || {
        let left = in_tree_of(pool.pid());
        left.iter().filter(|process| alive(**process)).count() <= before
    })
    .await;
}
