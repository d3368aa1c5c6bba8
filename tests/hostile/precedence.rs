//! Whose turn it is on a processor: the supervisor's before its workers'.

use std::fs;

use super::beside::Beside;
use super::support::{Stdiopool, demo, in_tree_of};

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
