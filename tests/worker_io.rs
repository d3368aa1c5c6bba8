//! What goes through the pipes of real processes, however they behave.

mod worker_probe;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stdiopool::fair::Scheduler;
use stdiopool::ids::WorkerId;
use stdiopool::launch::{ProcessLimits, Redactor};
use stdiopool::worker::{
    Exit, ExitStatusKind, Guardian, Inbox, Options, Oversized, SendError, SpawnError, spawn,
};
use tokio::sync::broadcast::error::RecvError;
use worker_probe::*;

#[tokio::test]
async fn the_last_words_come_before_the_exit_and_nothing_after() {
    let (guardian, tag) = (guardian().await, tag());
    // The daemon holds both pipes open: neither may wait for their end.
    let script = "setsid -f sleep 9000; seq 1 2000; printf unterminated; exit 3";
    let (worker, inbox) = shell(&guardian, &tag, script, &Options::default()).await;
    for n in 1..=2000 {
        assert_eq!(inbox.line().await, n.to_string());
    }
    assert_eq!(inbox.line().await, "unterminated");
    let exit = inbox.exit().await;
    assert_eq!((exit.status, exit.asked), (ExitStatusKind::Code(3), false));
    within(worker.wait()).await;
    assert_eq!(worker.send("late".into()), Err(SendError::Closed));
    assert_eq!(worker.stats().messages_out, 2001);
    assert_none(&tag);
    guardian.shutdown().await;
}

#[tokio::test]
async fn who_hears_of_the_exit_finds_what_was_said_on_stderr() {
    let (guardian, tag) = (guardian().await, tag());
    for n in 0..40 {
        let script = format!("echo 'dies of {n}' >&2; exit 1");
        let (worker, inbox) = shell(&guardian, &tag, &script, &Options::default()).await;
        inbox.exit().await;
        assert_eq!(worker.stderr_tail(1), [format!("dies of {n}")]);
    }
    guardian.shutdown().await;
}

#[tokio::test]
async fn a_flood_on_stderr_does_not_delay_stdout() {
    let (guardian, tag) = (guardian().await, tag());
    let script = "yes 'noise noise noise' >&2 & exec cat";
    let (worker, inbox) = shell(&guardian, &tag, script, &hasty()).await;
    let (_, mut follower) = worker.stderr_follow(0);
    // A line, or the news that it lags behind already: either way the flood has begun.
    if let Err(error) = within(follower.recv()).await {
        assert!(matches!(error, RecvError::Lagged(_)), "{error}");
    }
    let mut slowest = Duration::ZERO;
    for n in 0..200 {
        let sent = Instant::now();
        worker.send(n.to_string().into()).expect("room");
        assert_eq!(inbox.line().await, n.to_string());
        slowest = slowest.max(sent.elapsed());
    }
    println!("slowest echo beside a flood: {slowest:?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    assert!(worker.stats().stderr_lines > 1000);
    assert_eq!(
        worker.stderr_tail(usize::MAX).len(),
        Options::default().stderr_lines
    );
    worker.kill();
    within(worker.wait()).await;
    guardian.shutdown().await;
}

/// Forgets everything.
struct Deaf;

impl Inbox for Deaf {
    fn message(&self, _: bytes::Bytes) {}
    fn oversized(&self, _: Oversized) {}
    fn exited(&self, _: Exit) {}
}

#[tokio::test]
async fn a_flood_on_stdout_delays_no_other_worker() {
    let (guardian, tag) = (guardian().await, tag());
    let flood = spawn(
        &guardian,
        WorkerId(u64::MAX),
        &spec(&tag, &["yes"]),
        &hasty(),
        Arc::new(Deaf),
        Scheduler::default().flow(),
    )
    .await
    .expect("starts");
    let (worker, inbox) = start(&guardian, &spec(&tag, &["cat"]), &hasty()).await;
    let mut slowest = Duration::ZERO;
    for n in 0..200 {
        let sent = Instant::now();
        worker.send(n.to_string().into()).expect("room");
        assert_eq!(inbox.line().await, n.to_string());
        slowest = slowest.max(sent.elapsed());
    }
    println!("slowest echo beside another worker's flood: {slowest:?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    assert!(flood.stats().messages_out > 1000);
    within(guardian.shutdown()).await;
    assert_none(&tag);
}

#[tokio::test]
async fn who_never_reads_is_full_and_then_killed() {
    let (guardian, tag) = (guardian().await, tag());
    let options = Options {
        max_unsent: 1 << 20,
        stall_timeout: Duration::from_millis(500),
        ..hasty()
    };
    let (worker, inbox) = shell(&guardian, &tag, "sleep 9000", &options).await;
    let message = bytes::Bytes::from(vec![b'x'; 64 << 10]);
    let full = (0..100).find_map(|_| worker.send(message.clone()).err());
    let Some(SendError::Full { unsent }) = full else {
        panic!("expected Full, got {full:?}");
    };
    assert!(unsent <= options.max_unsent && unsent > options.max_unsent / 2);
    let exit = inbox.exit().await;
    assert!(exit.stalled && !exit.asked, "{exit:?}");
    within(worker.wait()).await;
    assert_none(&tag);
    guardian.shutdown().await;
}

#[tokio::test]
async fn a_slow_reader_is_no_stall() {
    let (guardian, tag) = (guardian().await, tag());
    let options = Options {
        stall_timeout: Duration::from_millis(700),
        ..Options::default()
    };
    // Takes 64 KiB every 0.2 s, in all longer than the timeout.
    let script = "for i in 1 2 3 4 5 6 7 8; do sleep 0.2; head -c 65536 >/dev/null; done; wc -c";
    let (worker, inbox) = shell(&guardian, &tag, script, &options).await;
    worker.send(vec![b'x'; 600_000].into()).expect("room");
    worker.stop();
    let heard = inbox.next().await;
    let Heard::Line(rest) = heard else {
        panic!("expected a count, got {heard:?}");
    };
    let rest: usize = String::from_utf8_lossy(&rest)
        .trim()
        .parse()
        .expect("a count");
    assert_eq!(rest, 600_001 - 8 * 65_536);
    assert_eq!(within(worker.wait()).await.status, ExitStatusKind::Code(0));
    guardian.shutdown().await;
}

#[tokio::test]
async fn who_closes_stdout_but_stays_is_killed() {
    let (guardian, tag) = (guardian().await, tag());
    let script = "exec >&-; exec sleep 9000";
    let (worker, inbox) = shell(&guardian, &tag, script, &hasty()).await;
    assert_eq!(inbox.exit().await.status, ExitStatusKind::Signal(9));
    within(worker.wait()).await;
    assert_none(&tag);
    guardian.shutdown().await;
}

#[tokio::test]
async fn a_worker_gets_what_is_declared_and_no_more() {
    let (guardian, tag) = (guardian().await, tag());
    let folder = tempfile::tempdir().expect("a folder");
    let private = folder.path().join("a/b");
    let script = r#"
import os, resource, signal
print(sorted(k for k in os.environ if k not in ("LC_CTYPE", "PATH", "HOME")))
print(sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:4])
print(resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CPU))
status = dict(line.split(":\t", 1) for line in open("/proc/self/status") if ":\t" in line)
print(status["NoNewPrivs"].strip(), int(status["SigBlk"], 16), int(status["SigIgn"], 16) & 0x5003)
print(os.getcwd(), os.getsid(0) == os.getpgid(0) == os.getpid())
"#;
    let mut spec = spec(&tag, &["python3", "-c", script]);
    spec.program = "/usr/bin/python3".to_owned();
    spec.folders = vec![private.clone()];
    spec.cwd = private.clone();
    spec.limits = ProcessLimits {
        open_files: Some(77),
        cpu_seconds: Some(5),
        ..ProcessLimits::default()
    };
    let (worker, inbox) = start(&guardian, &spec, &Options::default()).await;
    assert_eq!(inbox.line().await, "['TEST_TAG']");
    // 3 is the folder that is being listed.
    assert_eq!(inbox.line().await, "[0, 1, 2, 3]");
    assert_eq!(inbox.line().await, "(77, 77) (5, 5)");
    // Python itself ignores SIGPIPE (bit 12); TERM, INT and HUP are at their defaults.
    assert_eq!(inbox.line().await, format!("1 0 {}", 0x1000));
    assert_eq!(inbox.line().await, format!("{} True", private.display()));
    within(worker.wait()).await;
    let mode = private.metadata().expect("created").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    guardian.shutdown().await;
}

#[tokio::test]
async fn stderr_is_kept_without_secrets() {
    let (guardian, tag) = (guardian().await, tag());
    let mut spec = spec(
        &tag,
        &["sh", "-c", "echo \"token $TOKEN\" >&2; echo done >&2"],
    );
    spec.env.insert("TOKEN".to_owned(), "hunter22".into());
    spec.redactor = Redactor::new(["hunter22".into()]);
    let (worker, _inbox) = start(&guardian, &spec, &Options::default()).await;
    within(worker.wait()).await;
    assert_eq!(worker.stderr_tail(9), ["token [redacted]", "done"]);
    assert_eq!(worker.stderr_tail(1), ["done"]);
    guardian.shutdown().await;
}

async fn fails(guardian: &Guardian, spec: &stdiopool::launch::LaunchSpec) -> SpawnError {
    let inbox = Arc::new(Recorder::default());
    spawn(
        guardian,
        WorkerId(0),
        spec,
        &Options::default(),
        inbox,
        Scheduler::default().flow(),
    )
    .await
    .expect_err("cannot start")
}

#[tokio::test]
async fn a_start_that_fails_says_why() {
    let (guardian, tag) = (guardian().await, tag());
    let error = fails(&guardian, &spec(&tag, &["no-such-program"])).await;
    assert!(
        matches!(error, SpawnError::CommandNotFound { .. }),
        "{error}"
    );

    let mut nowhere = spec(&tag, &["true"]);
    nowhere.cwd = "/no/such/folder".into();
    let error = fails(&guardian, &nowhere).await;
    assert!(matches!(error, SpawnError::NoSuchFolder { .. }), "{error}");

    let error = fails(&guardian, &spec(&tag, &["/etc/passwd"])).await;
    assert!(matches!(error, SpawnError::NotExecutable { .. }), "{error}");

    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("script");
    let write = |text: &str| {
        std::fs::write(&script, text).expect("writes");
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).expect("chmod");
    };
    let path = script.display().to_string();
    write("#!/no/such/interpreter\n");
    let error = fails(&guardian, &spec(&tag, &[&path])).await;
    assert!(error.to_string().contains("interpreter"), "{error}");

    // The id was given back each time.
    let (worker, _inbox) = start(&guardian, &spec(&tag, &["true"]), &Options::default()).await;
    assert_eq!(within(worker.wait()).await.status, ExitStatusKind::Code(0));
    guardian.shutdown().await;
    let error = fails(&guardian, &spec(&tag, &["true"])).await;
    assert!(matches!(error, SpawnError::Guardian(_)), "{error}");
}

#[tokio::test]
async fn a_program_that_is_no_guardian_is_refused() {
    let error = Guardian::start_with(std::path::Path::new("/bin/true")).await;
    let text = error.expect_err("no guardian").to_string();
    assert!(text.contains("run_guardian_if_asked"), "{text}");
}
