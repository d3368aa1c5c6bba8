//! As whom servers run.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;

use super::prober::{World, is_root, prober, told, user_of};
use super::support::{BINARY, Stdiopool, eventually};

#[tokio::test]
async fn each_tenant_has_a_user_that_stays_its_own() {
    if !is_root() {
        return;
    }
    let world = World::new().await;
    let code = "result = os.getuid()";
    let (anna, bob) = (told(&world.anna, code).await, told(&world.bob, code).await);
    assert_ne!(anna, bob);
    assert!(anna.as_u64() >= Some(2_100_000_000), "{anna}");
    let World { pool, .. } = world;
    let pool = pool.restarted_after(Signal::SIGKILL);
    // In the other order.
    let of = async |tenant: &str| {
        let client = pool.client_of(tenant, "probe").connect().await;
        told(&client, code).await
    };
    assert_eq!(of("bob").await, bob);
    assert_eq!(of("anna").await, anna);
}

#[tokio::test]
async fn processes_that_are_nobodys_have_a_user_each() {
    if !is_root() {
        return;
    }
    let toml = prober("spare", "min_idle = 2") + &prober("probe", "");
    let pool = Stdiopool::serve(&toml);
    eventually("two spares are there", async || {
        let workers = pool.workers().await;
        workers.iter().filter(|it| it["state"] == "spare").count() == 2
    })
    .await;
    let workers = pool.workers().await;
    let pids = workers.iter().filter_map(|it| it["pid"].as_u64());
    let users: BTreeSet<u32> = pids.map(user_of).collect();
    assert_eq!(users.len(), 2, "{users:?}");
    let own = pool.client_of("anna", "probe").connect().await;
    let own = told(&own, "result = os.getuid()").await;
    let spare = pool.client_of("anna", "spare").connect().await;
    let adopted = told(&spare, "open('x', 'w').write('x')\nresult = os.getuid()").await;
    assert_ne!(adopted, own);
    assert!(users.iter().any(|user| adopted == *user));
}

#[tokio::test]
async fn a_server_without_a_sandbox_runs_as_stdiopool_does() {
    if !is_root() {
        return;
    }
    let pool = Stdiopool::serve(&prober("probe", "sandbox = \"none\""));
    let anna = pool.client_of("anna", "probe").connect().await;
    assert_eq!(told(&anna, "result = os.getuid()").await, 0);
}

#[tokio::test]
async fn what_is_out_of_reach_is_named_with_its_key() {
    if !is_root() {
        return;
    }
    let closed = tempfile::tempdir().expect("a folder");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(closed.path(), mode).expect("it is the test's own");
    let script = closed.path().join("server.py");
    std::fs::write(&script, "").expect("written");
    let toml = format!("[servers.mine]\ncommand = \"python3\"\nargs = [{script:?}]\n");
    let pool = Stdiopool::serve(&toml);
    let check = std::process::Command::new(BINARY)
        .args(["check", "--config"])
        .arg(pool.dir.path().join("pool.toml"))
        .output();
    let check = check.expect("it runs");
    assert_eq!(check.status.code(), Some(1));
    let answer = pool
        .client("mine")
        .try_initialize("2025-06-18", serde_json::json!({}))
        .await;
    let at_start = answer.message().to_owned();
    for said in [
        at_start,
        String::from_utf8_lossy(&check.stderr).into_owned(),
    ] {
        let folder = closed.path().display().to_string();
        for part in [
            "`servers.mine.args`",
            &folder,
            "(mode 0700)",
            "sandbox = \"none\"",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}

#[tokio::test]
async fn supervisor_and_guardian_have_given_up_what_they_never_use() {
    if !is_root() {
        return;
    }
    let world = World::new().await;
    let supervisor = world.pool.pid();
    let below = super::support::in_tree_of(supervisor);
    let is_guardian = |pid: u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.trim() == "sp-guardian")
    };
    let guardian = below
        .iter()
        .find(|it| is_guardian(it.pid))
        .expect("it is there");
    // Raw sockets are the guardian's, for workers' own networks, and so is a change of the root, for processes that have waited.
    for (pid, of_guardian) in [(supervisor, &[13, 18][..]), (guardian.pid, &[])] {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("there");
        let sets = status.lines().filter_map(|line| {
            let (name, set) = line.split_once(":\t")?;
            let is_had = ["CapEff", "CapPrm"].contains(&name);
            is_had.then(|| u64::from_str_radix(set, 16).expect("a set"))
        });
        for set in sets {
            // Modules, raw memory, restarts, the clock, devices, programs in the kernel.
            let never = [16, 17, 22, 25, 27, 38, 39];
            for number in never.iter().chain(of_guardian) {
                assert_eq!(set & (1 << number), 0, "{number}: {status}");
            }
        }
    }
}
