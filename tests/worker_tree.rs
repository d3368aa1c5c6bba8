//! No process outlives its worker or its guardian, however it tries.

mod worker_probe;

use stdiopool::worker::{ExitStatusKind, Options};
use worker_probe::*;

#[tokio::test]
async fn a_polite_worker_ends_at_the_end_of_its_input() {
    let (guardian, tag) = (guardian().await, tag());
    let (worker, inbox) = start(&guardian, &spec(&tag, &["cat"]), &Options::default()).await;
    worker.send("last words".into()).expect("room");
    worker.stop();
    assert_eq!(inbox.line().await, "last words");
    let exit = inbox.exit().await;
    assert_eq!((exit.status, exit.asked), (ExitStatusKind::Code(0), true));
    assert_eq!(within(worker.wait()).await, exit);
    assert!(worker.tree().is_empty());
    guardian.shutdown().await;
}

#[tokio::test]
async fn stop_takes_the_whole_brood() {
    let (guardian, tag) = (guardian().await, tag());
    let (worker, inbox) = shell(&guardian, &tag, &brood(&tag, "read line"), &hasty()).await;
    assert_eq!(inbox.line().await, "up");
    until_tagged(&tag, BROOD).await;
    let tree = worker.tree();
    assert_eq!((tree[0], tree.len()), (worker.pid(), BROOD));
    worker.stop();
    inbox.exit().await;
    within(worker.wait()).await;
    assert_none(&tag);
    guardian.shutdown().await;
}

#[tokio::test]
async fn the_crash_of_the_leader_takes_the_rest() {
    let (guardian, tag) = (guardian().await, tag());
    let script = brood(&tag, "read line; kill -SEGV $$");
    let (worker, inbox) = shell(&guardian, &tag, &script, &Options::default()).await;
    assert_eq!(inbox.line().await, "up");
    until_tagged(&tag, BROOD).await;
    worker.send("go".into()).expect("room");
    let exit = inbox.exit().await;
    assert_eq!(exit.to_string(), "was killed by SIGSEGV");
    assert!(!exit.asked);
    within(worker.wait()).await;
    assert_none(&tag);
    guardian.shutdown().await;
}

#[tokio::test]
async fn a_daemon_lives_as_long_as_its_leader_and_dies_with_it_alone() {
    let (guardian, tag, other) = (guardian().await, tag(), tag());
    let script = "setsid -f setsid -f sleep 9000; echo up; read line";
    let (worker, inbox) = shell(&guardian, &tag, script, &hasty()).await;
    let (second, second_inbox) = shell(&guardian, &other, script, &hasty()).await;
    assert_eq!(inbox.line().await, "up");
    assert_eq!(second_inbox.line().await, "up");
    until_tagged(&tag, 2).await;
    until_tagged(&other, 2).await;
    second.kill();
    within(second.wait()).await;
    assert_none(&other);
    assert_eq!(
        tagged(&tag).len(),
        2,
        "the neighbour's daemon was not meant"
    );
    worker.kill();
    let exit = within(worker.wait()).await;
    assert_eq!((exit.status, exit.asked), (ExitStatusKind::Signal(9), true));
    assert_none(&tag);
    guardian.shutdown().await;
}

#[tokio::test]
async fn an_orphan_that_nobody_answers_for_is_found() {
    // Orphaned at once, in its own session, without the marker: known to no scan before.
    let (guardian, tag) = (guardian().await, tag());
    let script = format!("setsid -f env -i setsid -f /bin/sleep 9002.{tag}; echo up; read line");
    let (worker, inbox) = shell(&guardian, &tag, &script, &hasty()).await;
    assert_eq!(inbox.line().await, "up");
    worker.stop();
    within(worker.wait()).await;
    until_tagged(&tag, 0).await;
    guardian.shutdown().await;
}

#[tokio::test]
async fn who_ignores_eof_and_term_is_killed() {
    let (guardian, tag) = (guardian().await, tag());
    let script = "trap '' TERM; echo up; while :; do sleep 9000; done";
    let (worker, inbox) = shell(&guardian, &tag, script, &hasty()).await;
    assert_eq!(inbox.line().await, "up");
    worker.stop();
    let exit = inbox.exit().await;
    assert_eq!((exit.status, exit.asked), (ExitStatusKind::Signal(9), true));
    within(worker.wait()).await;
    assert_none(&tag);
    guardian.shutdown().await;
}

#[tokio::test]
async fn who_ignores_eof_gets_a_term_first() {
    let (guardian, tag) = (guardian().await, tag());
    let script = "trap 'exit 7' TERM; echo up; while :; do sleep 9000 & wait; done";
    let (worker, inbox) = shell(&guardian, &tag, script, &hasty()).await;
    assert_eq!(inbox.line().await, "up");
    worker.stop();
    assert_eq!(inbox.exit().await.status, ExitStatusKind::Code(7));
    within(worker.wait()).await;
    assert_none(&tag);
    guardian.shutdown().await;
}

#[tokio::test]
async fn a_worker_that_forks_all_the_time_is_killed_all_the_same() {
    let (guardian, tag) = (guardian().await, tag());
    let script = "echo up; while :; do setsid -f sleep 9000; done";
    let (worker, inbox) = shell(&guardian, &tag, script, &hasty()).await;
    assert_eq!(inbox.line().await, "up");
    worker.kill();
    within(worker.wait()).await;
    assert_none(&tag);
    guardian.shutdown().await;
}

#[tokio::test]
async fn the_death_of_the_guardian_takes_all_and_a_new_one_serves() {
    let (guardian, tag) = (guardian().await, tag());
    let script = brood(&tag, "trap '' TERM; read line");
    let (worker, inbox) = shell(&guardian, &tag, &script, &Options::default()).await;
    assert_eq!(inbox.line().await, "up");
    until_tagged(&tag, BROOD).await;
    let first = guardian_of(&worker);
    kill9(first);
    let exit = inbox.exit().await;
    assert_eq!(exit.to_string(), "was lost with its guardian");
    assert!(!exit.asked);
    within(worker.wait()).await;
    assert_none(&tag);

    let (worker, inbox) = start(&guardian, &spec(&tag, &["cat"]), &Options::default()).await;
    assert_ne!(guardian_of(&worker), first);
    worker.send("again".into()).expect("room");
    assert_eq!(inbox.line().await, "again");
    guardian.shutdown().await;
    within(worker.wait()).await;
    assert_none(&tag);
}

#[tokio::test]
async fn shutdown_leaves_nothing() {
    let (guardian, tag) = (guardian().await, tag());
    let script = brood(&tag, "trap '' TERM; read line");
    let (worker, inbox) = shell(&guardian, &tag, &script, &Options::default()).await;
    assert_eq!(inbox.line().await, "up");
    until_tagged(&tag, BROOD).await;
    within(guardian.shutdown()).await;
    assert_none(&tag);
    inbox.exit().await;
    within(worker.wait()).await;
}

#[tokio::test]
async fn ctrl_c_and_term_do_not_reach_guardian_or_worker() {
    let (guardian, tag) = (guardian().await, tag());
    let (worker, inbox) = start(&guardian, &spec(&tag, &["cat"]), &Options::default()).await;
    let parent = guardian_of(&worker);
    assert_eq!(stat(parent, 6), parent, "a session of its own");
    assert_eq!(stat(worker.pid(), 6), worker.pid());
    let pid = nix::unistd::Pid::from_raw(parent.try_into().expect("a pid"));
    for signal in ["TERM", "INT", "HUP"] {
        let signal = format!("SIG{signal}").parse().expect("a signal");
        nix::sys::signal::kill::<nix::sys::signal::Signal>(pid, signal).expect("signals");
    }
    worker.send("still".into()).expect("room");
    assert_eq!(inbox.line().await, "still");
    let name = std::fs::read_to_string(format!("/proc/{parent}/comm")).expect("lives");
    assert_eq!(name.trim(), "sp-guardian");
    guardian.shutdown().await;
}
