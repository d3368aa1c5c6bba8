//! What the tests of real workers share: an inbox that records, specs, and a look at `/proc`.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(unreachable_pub, reason = "a module shared by several test programs")]

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use stdiopool::fair::Scheduler;
use stdiopool::ids::WorkerId;
use stdiopool::launch::{LaunchSpec, ProcessLimits, Redactor};
use stdiopool::worker::{Exit, Guardian, Inbox, Options, Oversized, Worker, spawn};
use tokio::sync::Notify;

/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One call of the inbox.
#[derive(Debug)]
pub enum Heard {
    Line(Bytes),
    Oversized(Oversized),
    Exited(Exit),
}

/// Records every call.
#[derive(Default)]
pub struct Recorder {
    calls: Mutex<VecDeque<Heard>>,
    wake: Notify,
}

impl Recorder {
    fn push(&self, heard: Heard) {
        self.calls.lock().push_back(heard);
        self.wake.notify_one();
    }

    /// The next call; panics when none comes.
    pub async fn next(&self) -> Heard {
        let next = async {
            loop {
                if let Some(heard) = self.calls.lock().pop_front() {
                    return heard;
                }
                self.wake.notified().await;
            }
        };
        within(next).await
    }

    /// The next call, which must be a line.
    pub async fn line(&self) -> String {
        match self.next().await {
            Heard::Line(line) => String::from_utf8(line.into()).expect("UTF-8"),
            other => panic!("expected a line, got {other:?}"),
        }
    }

    /// The next call, which must be the exit, and the last one.
    pub async fn exit(&self) -> Exit {
        match self.next().await {
            Heard::Exited(exit) => {
                assert!(self.calls.lock().is_empty(), "a call after the exit");
                exit
            }
            other => panic!("expected the exit, got {other:?}"),
        }
    }
}

impl Inbox for Recorder {
    fn message(&self, line: Bytes) {
        self.push(Heard::Line(line));
    }
    fn oversized(&self, line: Oversized) {
        self.push(Heard::Oversized(line));
    }
    fn exited(&self, exit: Exit) {
        self.push(Heard::Exited(exit));
    }
}

/// Awaits with a limit.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("took too long")
}

/// A guardian made from the real program.
pub async fn guardian() -> Guardian {
    Guardian::start_with(Path::new(env!("CARGO_BIN_EXE_stdiopool")))
        .await
        .expect("a guardian")
}

/// A value that marks the processes of one test, in their environment or arguments: a decimal
/// number, so that it can also be a fraction of the seconds that `sleep` takes.
pub fn tag() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}9{n:04}", std::process::id())
}

/// A launch of `argv`, whose environment holds the tag.
pub fn spec(tag: &str, argv: &[&str]) -> LaunchSpec {
    let keep = ["PATH", "HOME"].map(|name| {
        let value = std::env::var(name).unwrap_or_default();
        (name.to_owned(), value.into())
    });
    let mut env = BTreeMap::from(keep);
    env.insert("TEST_TAG".to_owned(), tag.into());
    LaunchSpec {
        tenant: None,
        scratch: None,
        program: argv[0].to_owned(),
        args: argv[1..].iter().map(|&arg| arg.into()).collect(),
        env,
        cwd: "/".into(),
        roots: vec![],
        limits: ProcessLimits::default(),
        may_gain_privileges: false,
        sandbox: None,
        folders: vec![],
        packages: Default::default(),
        writable: vec![],
        read_only: vec![],
        secret_files: stdiopool::launch::SecretFiles::default(),
        sourced: std::collections::BTreeMap::new(),
        redactor: Redactor::default(),
        token: None,
    }
}

/// Short graces.
pub fn hasty() -> Options {
    Options {
        stdin_grace: Duration::from_millis(300),
        term_grace: Duration::from_millis(300),
        ..Options::default()
    }
}

/// Starts `sh -c script`.
pub async fn shell(
    guardian: &Guardian,
    tag: &str,
    script: &str,
    options: &Options,
) -> (Worker, Arc<Recorder>) {
    start(guardian, &spec(tag, &["sh", "-c", script]), options).await
}

/// Starts `spec` under a fresh id.
pub async fn start(
    guardian: &Guardian,
    spec: &LaunchSpec,
    options: &Options,
) -> (Worker, Arc<Recorder>) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = WorkerId(NEXT.fetch_add(1, Ordering::Relaxed));
    let inbox = Arc::new(Recorder::default());
    let worker = spawn(
        guardian,
        id,
        spec,
        options,
        inbox.clone(),
        Scheduler::default().flow(),
    )
    .await
    .expect("starts");
    (worker, inbox)
}

/// Pids of living processes with the tag in their environment or arguments.
pub fn tagged(tag: &str) -> Vec<u32> {
    let has = |pid: u32, file: &str| {
        std::fs::read(format!("/proc/{pid}/{file}"))
            .is_ok_and(|text| memchr::memmem::find(&text, tag.as_bytes()).is_some())
    };
    std::fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| has(pid, "environ") || has(pid, "cmdline"))
        .collect()
}

/// Asserts that no process carries the tag.
#[track_caller]
pub fn assert_none(tag: &str) {
    let left = tagged(tag);
    assert!(left.is_empty(), "left over: {left:?}");
}

/// Waits until `count` processes carry the tag, none of them on its way to become another program:
/// a `setsid` that counts now is two processes in a moment, and hidden while it executes.
pub async fn until_tagged(tag: &str, count: usize) -> Vec<u32> {
    let is_passing = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|name| ["setsid", "env"].contains(&name.trim_end()))
    };
    let poll = async {
        loop {
            let pids = tagged(tag);
            if pids.len() == count && !pids.iter().any(is_passing) {
                return pids;
            }
            // There is no event for the birth or death of a stranger.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, poll)
        .await
        .unwrap_or_else(|_| panic!("{:?} remain, wanted {count}", tagged(tag)))
}

/// A field of `/proc/PID/stat` by its number in proc_pid_stat(5), from 4 on.
pub fn stat(pid: u32, field: usize) -> u32 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    let rest = text.rsplit_once(')').expect("a name").1;
    let value = rest.split_whitespace().nth(field - 3).expect("the field");
    value.parse().expect("a number")
}

/// The guardian of a worker: parent of its init process, which is the parent of its first process.
pub fn guardian_of(worker: &Worker) -> u32 {
    stat(stat(worker.pid(), 4), 4)
}

/// SIGKILL.
pub fn kill9(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(pid.try_into().expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("kills");
}

/// A leader that leaves: a child, a daemon in another session, and one with a cleared environment
/// whose only mark is how long it sleeps.
pub fn brood(tag: &str, then: &str) -> String {
    format!(
        "sleep 9000 & setsid -f setsid -f sleep 9001; \
         setsid sh -c 'exec env -i /bin/sleep 9002.{tag}' & \
         echo up; {then}"
    )
}
/// Processes with the tag that [`brood`] makes, when `then` starts none.
pub const BROOD: usize = 4;
