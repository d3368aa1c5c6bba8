//! Who gets a processor first: the supervisor's before its workers', and a busy worker's behind the others'.

use std::fs;

use serde_json::json;

use super::beside::Beside;
use super::support::{Stdiopool, demo, eventually, faulty, in_tree_of};

/// Niceness of that thread (proc_pid_stat(5), field 19).
fn niceness(stat: &str) -> i32 {
    let text = fs::read_to_string(stat).expect("it runs");
    let (_, after_name) = text.rsplit_once(") ").expect("a name in parentheses");
    let field = after_name.split(' ').nth(16).expect("19 fields");
    field.parse().expect("a number")
}

/// What this process could take: the same as the supervisor that it starts.
fn can_go_first() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("it is there");
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = u64::from_str_radix(capabilities.expect("always").trim(), 16);
    const CAP_SYS_NICE: u64 = 1 << 23;
    capabilities.expect("hexadecimal") & CAP_SYS_NICE != 0
}

#[tokio::test]
async fn the_supervisor_goes_before_its_workers() {
    let pool = Stdiopool::serve(&demo("good", ""));
    Beside::open(&pool, "anna", "good").await.goes_on(1).await;
    let own = niceness("/proc/self/stat");
    let threads = fs::read_dir(format!("/proc/{}/task", pool.pid())).expect("it runs");
    let threads = threads.map(|thread| thread.expect("it is read").path());
    let of_runtime = threads.filter(|thread| {
        // One that has ended has no name.
        let name = fs::read_to_string(thread.join("comm")).unwrap_or_default();
        name.starts_with("tokio-")
    });
    let of_runtime: Vec<_> = of_runtime
        .map(|thread| niceness(&thread.join("stat").display().to_string()))
        .collect();
    let meant = match (own, can_go_first()) {
        (0, true) => -10,
        _ => own,
    };
    assert!(!of_runtime.is_empty());
    assert!(
        of_runtime.iter().all(|nice| *nice == meant),
        "{of_runtime:?}"
    );
    // The guardian and the worker: as everything else of the host.
    let others = in_tree_of(pool.pid())
        .into_iter()
        .filter(|process| process.pid != pool.pid());
    let others: Vec<_> = others
        .map(|process| niceness(&format!("/proc/{}/stat", process.pid)))
        .collect();
    assert!(others.len() >= 2, "{others:?}");
    assert!(others.iter().all(|nice| *nice == own), "{others:?}");
}

/// Niceness of that process's session (sched(7), "The autogroup feature"); nothing where the kernel does not group by sessions.
fn niceness_of_session(pid: &serde_json::Value) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/autogroup")).ok()?;
    let (_, nice) = text.trim_end().rsplit_once(" nice ")?;
    nice.parse().ok()
}

#[tokio::test]
async fn a_busy_worker_goes_behind_the_others_until_it_is_quiet() {
    if niceness_of_session(&json!(std::process::id())).is_none() {
        eprintln!("this kernel does not group by sessions");
        return;
    }
    let servers = [
        demo("good", ""),
        faulty("greedy", &["--mode", "floods"], ""),
    ];
    let pool = Stdiopool::serve(&servers.concat());
    let anna = Beside::open(&pool, "anna", "good").await;
    let mallory = pool.client_of("mallory", "greedy").connect().await;
    let begun = mallory
        .call("consume", json!({ "kind": "processors", "seconds": 3 }))
        .await;
    assert_eq!(begun.text(), "begun");
    let pid_of = async |server: &str| {
        let workers = pool.workers().await;
        let worker = workers.iter().find(|worker| worker["server"] == server);
        worker.expect("it runs")["pid"].clone()
    };
    let (good, greedy) = (pid_of("good").await, pid_of("greedy").await);
    eventually("it goes behind", async || {
        anna.goes_on(1).await;
        niceness_of_session(&greedy) == Some(10)
    })
    .await;
    assert_eq!(niceness_of_session(&good), Some(0));
    eventually("it goes as usual again", async || {
        niceness_of_session(&greedy) == Some(0)
    })
    .await;
}
