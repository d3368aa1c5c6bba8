//! No process outlives its supervisor. Apart from the tests that kill guardians, since the tests of
//! one program share a process that clears up after those.

mod worker_probe;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use stdiopool::worker::{ExitStatusKind, Options};
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
    until_tagged(&tag, BROOD + 1 + 1).await;
    child.kill().expect("kills");
    child.wait().expect("reaps");
    until_tagged(&tag, 0).await;
}

const EVERYTHING: &str = "exec npx -y @modelcontextprotocol/server-everything stdio";
const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"test","version":"0"}}}"#;

async fn everything(
    guardian: &stdiopool::worker::Guardian,
    tag: &str,
) -> (stdiopool::worker::Worker, Vec<u32>) {
    let (worker, inbox) = shell(guardian, tag, EVERYTHING, &Options::default()).await;
    worker.send(INITIALIZE.into()).expect("room");
    let answer = inbox.line().await;
    assert!(answer.contains("serverInfo"), "{answer}");
    let tree = worker.tree();
    assert!(tree.len() >= 2, "npm and the server below it: {tree:?}");
    (worker, tree)
}

#[tokio::test]
#[ignore = "needs npx and the npm registry"]
async fn a_real_npx_tree_ends_whole() {
    let guardian = guardian().await;

    let stopped = tag();
    let (worker, _) = everything(&guardian, &stopped).await;
    worker.stop();
    println!("stop: {}", within(worker.wait()).await);
    assert_none(&stopped);

    let killed = tag();
    let (worker, tree) = everything(&guardian, &killed).await;
    kill9(tree[0]);
    assert_eq!(
        within(worker.wait()).await.status,
        ExitStatusKind::Signal(9)
    );
    assert_none(&killed);

    let moved = tag();
    let (worker, tree) = everything(&guardian, &moved).await;
    let last = *tree.last().expect("some");
    let group = nix::unistd::Pid::from_raw(last.try_into().expect("a pid"));
    // Only a parent may move a process that has executed, so the move is made from within.
    assert_ne!(nix::unistd::setpgid(group, group), Ok(()));
    worker.stop();
    within(worker.wait()).await;
    assert_none(&moved);
    guardian.shutdown().await;
}

#[tokio::test]
#[ignore = "needs npx and the npm registry"]
async fn a_real_npx_tree_moved_to_other_groups_dies_with_its_supervisor() {
    let tag = tag();
    // Below npm the server runs in a session of its own.
    let script = format!(
        "npx -y -c 'setsid -w npx -y @modelcontextprotocol/server-everything stdio' <&0 & \
         echo up; wait; : {tag}"
    );
    let mut child = supervisor(&tag, &script);
    let mut seen = 0;
    within(async {
        while seen < 4 {
            seen = tagged(&tag).len();
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    child.kill().expect("kills");
    child.wait().expect("reaps");
    until_tagged(&tag, 0).await;
}
