//! Spares: processes that are ready before anyone asks.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::support::{PATIENCE, Stdiopool, demo, environment_of, eventually, faulty, until};

/// Waits until so many spares of that server are ready; their pids.
async fn until_spares(pool: &Stdiopool, server: &str, count: usize) -> Vec<u32> {
    let poll = async {
        loop {
            let workers = pool.workers().await;
            let is_meant = |w: &&Value| w["server"] == server && w["state"] == "spare";
            let pid = |worker: &Value| worker["pid"].as_u64().and_then(|pid| pid.try_into().ok());
            let found: Vec<_> = workers.iter().filter(is_meant).filter_map(pid).collect();
            if found.len() == count {
                return found;
            }
            // There is no event for it.
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, poll).await;
    found.unwrap_or_else(|_| panic!("never {count} spares: {}", pool.log()))
}

fn home_of(pid: u32) -> PathBuf {
    let environment = environment_of(pid);
    let home = environment.iter().find_map(|v| v.strip_prefix("HOME="));
    home.expect("every worker has a home").into()
}

#[tokio::test]
async fn a_spare_becomes_the_process_of_the_first_tenant_who_comes_and_is_made_up_for() {
    let pool = Stdiopool::serve(&demo("demo", "min_idle = 2"));
    let spares = until_spares(&pool, "demo", 2).await;
    let mut served = vec![];
    for tenant in ["anna", "bob"] {
        let client = pool.client_of(tenant, "demo").connect().await;
        let said = client.call("whoami", json!({})).await;
        assert!(!said.text().contains("(spare)"));
        let workers = pool.workers().await;
        let own = workers.iter().find(|worker| worker["tenant"] == tenant);
        let pid = own.expect("its own")["pid"].as_u64().expect("running");
        served.push(u32::try_from(pid).expect("a pid"));
    }
    assert!(
        served.iter().any(|pid| spares.contains(pid)),
        "{served:?} were not {spares:?}"
    );
    assert_ne!(served[0], served[1]);
    assert_ne!(home_of(served[0]), home_of(served[1]), "nothing is shared");
    until_spares(&pool, "demo", 2).await;
    let used = pool.metric("stdiopool_adoption_seconds_count{server=\"demo\"}");
    assert!(used.await >= 1.0);
    // Once its process is gone, so is what it had.
    let home = home_of(served[0]);
    let workers = pool.workers().await;
    let own = workers.iter().find(|worker| worker["tenant"] == "anna");
    let id = own.expect("there")["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let stop = pool.command(&["stop", &id]).output().expect("runs");
    assert!(stop.status.success());
    until("its folder is gone", || (!home.exists()).then_some(()));
}

#[tokio::test]
async fn a_client_that_can_be_asked_gets_a_spare_that_knows_it() {
    let pool = Stdiopool::serve(&demo("demo", "min_idle = 1"));
    until_spares(&pool, "demo", 1).await;
    let client = pool.client("demo");
    let client = client
        .connect_as("2025-11-25", json!({"sampling": {}}))
        .await;
    let said = client.call("whoami", json!({})).await;
    assert!(said.text().contains("sampling"), "{}", said.text());
}

#[tokio::test]
async fn a_spare_that_dies_is_replaced_and_one_that_is_not_wanted_any_more_goes() {
    let pool = Stdiopool::serve(&demo("demo", "min_idle = 1"));
    let [first] = until_spares(&pool, "demo", 1).await[..] else {
        panic!("one");
    };
    let pid = nix::unistd::Pid::from_raw(i32::try_from(first).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("killed");
    let is_another = async || until_spares(&pool, "demo", 1).await != [first];
    eventually("another spare", is_another).await;
    let client = pool.client("demo").connect().await;
    assert_eq!(
        client.call("echo", json!({"message": "x"})).await.text(),
        "x"
    );
    Stdiopool::write_config(
        pool.dir.path(),
        "[auth]\nmode = \"none\"\n",
        &demo("demo", ""),
    );
    let reload = pool.command(&["reload"]).output().expect("runs");
    assert!(reload.status.success());
    until_spares(&pool, "demo", 0).await;
    assert_eq!(
        client.call("echo", json!({"message": "y"})).await.text(),
        "y"
    );
}

#[tokio::test]
async fn a_server_that_does_not_start_has_no_spares_and_says_so_once_asked() {
    let pool = Stdiopool::serve(&faulty("bad", &["--mode", "exit-at-once"], "min_idle = 1"));
    let refused = pool
        .client("bad")
        .try_initialize("2025-11-25", json!({}))
        .await;
    assert_eq!(refused.reason(), "start_failed", "{}", refused.message());
}
