//! The tenant beside the hostile one: its calls have to go on, each answered, none late by the fault of another.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Client, Stdiopool};

/// Longest that a call of the tenant beside may take while another floods: generous, since machines
/// that run tests are slow. How much slower calls become is measured by `scripts/bench hostile`.
const MAX_CALL: Duration = Duration::from_secs(10);

/// A session of the tenant beside, at a demo server.
pub(crate) struct Beside(Client);

impl Beside {
    /// Opens a session of `tenant` at the demo server of that name.
    pub(crate) async fn open(pool: &Stdiopool, tenant: &str, server: &str) -> Self {
        Self(pool.client_of(tenant, server).connect().await)
    }

    /// Makes `count` calls, one after the other; each must be answered with what it said, in time.
    pub(crate) async fn goes_on(&self, count: usize) {
        for number in 0..count {
            let began = Instant::now();
            let said = format!("beside {number}");
            let answer = self.0.call("echo", json!({ "message": said })).await;
            assert_eq!(answer.text(), said);
            assert!(began.elapsed() < MAX_CALL, "{:?}", began.elapsed());
        }
    }
}

#[tokio::test]
async fn calls_of_a_tenant_beside_are_checked_one_by_one() {
    let pool = Stdiopool::serve(&crate::support::demo("good", ""));
    Beside::open(&pool, "bystander", "good")
        .await
        .goes_on(3)
        .await;
}
