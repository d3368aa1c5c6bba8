//! Configs that callers store: what was answered with success is there after every restart, whole, and its maker's alone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::super::served::token;
use super::client::Shared;
use super::config::{FIRST_TENANT, STORED};

/// Stored configs that are asked for again; the oldest is deleted when there are more.
const KEPT: usize = 64;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(100);

/// A config that was stored.
struct Stored {
    tenant: usize,
    id: String,
}

/// Stores configs and asks for them, until it is over.
pub(crate) async fn run(front: String, tenants: usize, seed: u64, shared: Arc<Shared>) {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut kept: VecDeque<Stored> = VecDeque::new();
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(60));
    let client = client.build().expect("a client");
    let url = format!("http://{front}/v1/config");
    for number in 0_u64.. {
        if shared.is_over() {
            return;
        }
        sleep(PAUSE).await;
        let tenant = FIRST_TENANT + random.random_range(0..tenants);
        let body = json!({"server": STORED, "config": {"label": format!("{tenant}-{number}")}});
        let made = client.post(&url).bearer_auth(token(tenant)).json(&body);
        // One that is not answered with success is not promised.
        if let Ok(answer) = made.send().await
            && answer.status().is_success()
            && let Ok(told) = answer.json::<Value>().await
            && told["survivesRestart"] == true
            && let Some(id) = told["id"].as_str()
        {
            let id = id.to_owned();
            kept.push_back(Stored { tenant, id });
        }
        if kept.is_empty() {
            continue;
        }
        let asked = &kept[random.random_range(0..kept.len())];
        check(&client, &url, asked, tenants, &shared).await;
        if kept.len() > KEPT
            && let Some(Stored { tenant, id }) = kept.pop_front()
        {
            let delete = client.delete(format!("{url}/{id}"));
            // It may be there still: nobody asks for it any more.
            let _either = delete.bearer_auth(token(tenant)).send().await;
        }
    }
}

async fn check(
    client: &reqwest::Client,
    url: &str,
    stored: &Stored,
    tenants: usize,
    shared: &Shared,
) {
    let Stored { tenant, id } = stored;
    let ask = async |tenant: usize| {
        let epoch = shared.epoch.load(Ordering::SeqCst);
        let asked = client
            .get(format!("{url}/{id}"))
            .bearer_auth(token(tenant))
            .send();
        let status = asked.await.ok().map(|answer| answer.status().as_u16());
        let is_up = epoch.is_multiple_of(2) && shared.epoch.load(Ordering::SeqCst) == epoch;
        // What is asked of a supervisor that ends says nothing, and one that drains refuses.
        status.filter(|status| is_up && *status != 503 && *status != 429)
    };
    match ask(*tenant).await {
        Some(200) => shared.tally.lock().configs_kept += 1,
        Some(status) => shared.lost(format!("stored config {id} of tenant{tenant}: {status}")),
        None => {}
    }
    let other = FIRST_TENANT + (tenant - FIRST_TENANT + 1) % tenants;
    if other != *tenant
        && let Some(status) = ask(other).await
        && status != 404
    {
        let mut tally = shared.tally.lock();
        tally.wrong += 1;
        tally.fault(format!(
            "tenant{other} got {status} for a config of tenant{tenant}"
        ));
    }
}
