//! No process outlives its supervisor. Apart from the tests that kill guardians, since the tests of
//! one program share a process that clears up after those.

mod worker_probe;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use stdiopool::worker::Options;
use worker_probe::*;

/// Environment variable by which this test program, started again, becomes a supervisor.
const ROLE: &str = "STDIOPOOL_TEST_SUPERVISES";

/// Not a test of its own: the supervisor that others kill. Serves one worker until then.
#[tokio::test]
async fn supervisor_role() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let (tag, script) = role.split_once('\n').expect("tag and script");
    let guardian = guardian().await;
    let (worker, inbox) = shell(&guardian, tag, script, &Options::default()).await;
    println!("\nready {} {}", worker.pid(), inbox.line().await);
    std::future::pending::<()>().await;
}

/// Starts this program as a supervisor, waits for its worker's first line.
fn supervisor(tag: &str, script: &str) -> std::process::Child {
    let me = std::env::current_exe().expect("own path");
    #[allow(clippy::disallowed_methods, reason = "a supervisor, not a worker")]
    let mut child = Command::new(me)
        .args(["--exact", "supervisor_role", "--nocapture"])
        .env(ROLE, format!("{tag}\n{script}"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let stdout = BufReader::new(child.stdout.take().expect("piped"));
    assert!(
        stdout
            .lines()
            .any(|line| line.expect("reads").starts_with("ready"))
    );
    child
}

#[tokio::test]
async fn the_death_of_the_supervisor_takes_all() {
    let tag = tag();
    let script = brood(&tag, "trap '' TERM; read line; sleep 9000");
    let mut child = supervisor(&tag, &script);
    // The supervisor has the tag in its environment too.
    until_tagged(&tag, BROOD + 1).await;
    child.kill().expect("kills");
    child.wait().expect("reaps");
    until_tagged(&tag, 0).await;
}
