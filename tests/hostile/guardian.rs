//! The guardian stopped, killed, short of descriptors; and what stdiopool runs for itself when that is killed.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, rlim_t};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::beside::Beside;
use super::support::{
    Process, Stdiopool, alive, command_line_of, demo, environment_of, eventually, faulty,
    in_tree_of, until, until_gone,
};

/// Longest that stdiopool may take to end with a stopped guardian: it finds out within a few seconds.
const MAX_END: Duration = Duration::from_secs(30);

fn name_of(process: Process) -> String {
    let name = fs::read_to_string(format!("/proc/{}/comm", process.pid));
    name.unwrap_or_default().trim().to_owned()
}

/// The processes of stdiopool's own with that name.
fn named(pool: &Stdiopool, name: &str) -> Vec<Process> {
    let mut tree = in_tree_of(pool.pid());
    tree.retain(|process| name_of(*process) == name);
    tree
}

fn guardian(pool: &Stdiopool) -> Process {
    named(pool, "sp-guardian")[0]
}

fn send(process: Process, signal: Signal) {
    kill(Pid::from_raw(process.pid.cast_signed()), signal).expect("it is there");
}

fn is_stopped(process: Process) -> bool {
    let text = fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap_or_default();
    text.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('T'))
}

#[tokio::test]
async fn a_stopped_guardian_goes_on_and_is_replaced_when_it_is_stopped_again() {
    let pool = Stdiopool::serve(&demo("good", ""));
    let anna = Beside::open(&pool, "anna", "good").await;
    let first = guardian(&pool);
    send(first, Signal::SIGSTOP);
    // A start, which needs it.
    let bob = Beside::open(&pool, "bob", "good").await;
    bob.goes_on(1).await;
    assert!(pool.log().contains("the guardian process was stopped"));
    anna.goes_on(1).await;
    assert!(alive(first), "nothing was lost");

    let workers = in_tree_of(first.pid);
    send(first, Signal::SIGSTOP);
    until_gone(&workers);
    until("it is said what is lost", || {
        let log = pool.log();
        let said = ["does not answer", "sessions of stateful servers end"];
        said.iter().all(|it| log.contains(it)).then_some(())
    });
    anna.goes_on(1).await;
    bob.goes_on(1).await;
    assert_ne!(guardian(&pool), first);
}

#[tokio::test]
async fn a_start_waits_for_the_guardian_that_comes_after_one_that_was_stopped_again() {
    let pool = Stdiopool::serve(&demo("good", ""));
    let first = guardian(&pool);
    send(first, Signal::SIGSTOP);
    Beside::open(&pool, "bob", "good").await.goes_on(1).await;
    send(first, Signal::SIGSTOP);
    until("it is stopped", || is_stopped(first).then_some(()));
    // Its start is what the stopped guardian was asked for.
    let cleo = pool.client_of("cleo", "good");
    let answer = cleo.try_initialize("2025-11-25", json!({})).await;
    assert!(answer.status.is_success(), "{answer:?}");
    assert!(answer.response().get("error").is_none(), "{answer:?}");
    cleo.connect().await;
    assert_ne!(guardian(&pool), first);
}

#[tokio::test]
async fn sigterm_ends_all_though_the_guardian_is_stopped() {
    let mut pool = Stdiopool::serve(&demo("good", ""));
    Beside::open(&pool, "anna", "good").await.goes_on(1).await;
    let tree = in_tree_of(pool.pid());
    let guardian = guardian(&pool);
    send(guardian, Signal::SIGSTOP);
    until("it is stopped", || is_stopped(guardian).then_some(()));
    let asked = Instant::now();
    pool.terminate();
    assert!(asked.elapsed() < MAX_END, "{:?}", asked.elapsed());
    until_gone(&tree);
}

#[tokio::test]
async fn a_killed_guardian_takes_its_workers_and_the_service_goes_on() {
    let pool = Stdiopool::serve(&demo("good", ""));
    let anna = Beside::open(&pool, "anna", "good").await;
    for _ in 0..3 {
        anna.goes_on(1).await;
        let guardian = guardian(&pool);
        let tree = in_tree_of(guardian.pid);
        assert!(tree.len() >= 3, "guardian, init process, worker: {tree:?}");
        send(guardian, Signal::SIGKILL);
        until_gone(&tree);
        // A call that comes before the supervisor has seen that is told that its worker has ended.
        eventually("the loss is seen", async || pool.workers().await.is_empty()).await;
    }
    anna.goes_on(1).await;
    assert!(pool.log().contains("the guardian process was lost"));
}

/// Runs as a plain user on a host whose `/proc` hides from it what is not dumpable, its own helper processes among that
/// (`ProtectProc=invisible` of systemd does so). `None` where no `/proc` can be mounted.
fn serve_with_hidden_processes() -> Option<Stdiopool> {
    let hide = "mount -t proc -o hidepid=invisible none /proc";
    let as_nobody = "exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"";
    let script = format!("{hide} && {as_nobody}");
    let in_it = || {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--", "sh", "-c", &script, "sh"]);
        unshare
    };
    #[allow(clippy::disallowed_methods, reason = "a program of the system")]
    let tried = in_it().arg("true").output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        eprintln!("SKIPPED: no other /proc can be mounted here");
        return None;
    }
    let dir = crate::support::open_folder().expect("a folder");
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", &demo("good", ""));
    std::os::unix::fs::chown(dir.path(), Some(65_534), Some(65_534)).expect("given");
    let args = [
        "--config".to_owned(),
        dir.path().join("pool.toml").display().to_string(),
    ];
    let mut program = in_it();
    program.arg(super::support::BINARY).env("HOME", dir.path());
    Some(Stdiopool::start(program, dir, &args, &[]))
}

#[tokio::test]
async fn helper_processes_that_the_host_hides_are_found_and_ended() {
    let Some(mut pool) = serve_with_hidden_processes() else {
        return;
    };
    let anna = Beside::open(&pool, "anna", "good").await;
    eventually("its memory was measured", async || {
        let workers = pool.workers().await;
        workers[0]["memory_bytes"]
            .as_u64()
            .is_some_and(|bytes| bytes > 100_000)
    })
    .await;
    // What falls to the supervisor has to be found as well.
    let mut before = in_tree_of(pool.pid());
    before.retain(|process| process.pid != pool.pid());
    send(guardian(&pool), Signal::SIGKILL);
    until_gone(&before);
    let again = Beside::open(&pool, "bob", "good").await;
    again.goes_on(1).await;
    drop(anna);
    let all = in_tree_of(pool.pid());
    assert!(pool.terminate().success());
    until_gone(&all);
}

#[tokio::test]
async fn supervisor_and_guardian_killed_at_once_leave_nothing() {
    let mut pool = Stdiopool::serve(&demo("good", ""));
    Beside::open(&pool, "anna", "good").await.goes_on(1).await;
    let tree = in_tree_of(pool.pid());
    let guardian = guardian(&pool);
    // Stopped, so that it cannot see the end of its socket.
    send(guardian, Signal::SIGSTOP);
    pool.signal(Signal::SIGKILL);
    send(guardian, Signal::SIGKILL);
    pool.wait();
    until_gone(&tree);
}

#[tokio::test]
async fn helper_processes_hold_no_environment_and_are_closed_to_their_user() {
    const MARK: &str = "a-key-that-nobody-may-find";
    let dir = crate::support::open_folder().expect("a folder");
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", &demo("good", ""));
    let config = dir.path().join("pool.toml").display().to_string();
    let args = ["--config".to_owned(), config];
    let pool = Stdiopool::run(dir, &args, &[("STATE_KEY_OF_TEST", MARK)]);
    Beside::open(&pool, "anna", "good").await.goes_on(1).await;
    assert!(
        environment_of(pool.pid())
            .iter()
            .any(|it| it.contains(MARK))
    );
    let helpers = [guardian(&pool), named(&pool, "sp-init")[0]];
    for helper in helpers {
        assert!(environment_of(helper.pid).is_empty(), "{}", name_of(helper));
        let limits = fs::read_to_string(format!("/proc/{}/limits", helper.pid)).expect("lives");
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"));
        assert!(core.is_some_and(|it| it.contains(" 1 ")), "{limits}");
    }
}

#[tokio::test]
async fn a_helper_process_of_a_plain_user_belongs_to_root() {
    if !nix::unistd::Uid::effective().is_root() {
        eprintln!("not root: nobody else to run it as");
        return;
    }
    let user = 65_534;
    let dir = crate::support::open_folder().expect("a folder");
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", &demo("good", ""));
    let config = dir.path().join("pool.toml");
    for path in [dir.path(), &config] {
        std::os::unix::fs::chown(path, Some(user), Some(user)).expect("root may");
    }
    let args = ["--config".to_owned(), config.display().to_string()];
    let pool = Stdiopool::run_as(user, dir, &args);
    Beside::open(&pool, "anna", "good").await.goes_on(1).await;
    for helper in [guardian(&pool), named(&pool, "sp-init")[0]] {
        // The owner of what the kernel shows of a process that is not dumpable (proc(5)).
        let shown = fs::metadata(format!("/proc/{}/environ", helper.pid)).expect("lives");
        assert_eq!(shown.uid(), 0, "{}", name_of(helper));
    }
}

/// Sets the limit on open files of another process; what it was.
#[allow(
    unsafe_code,
    reason = "prlimit of another process has no safe wrapper in nix"
)]
pub(super) fn set_open_files(process: Process, soft: rlim_t) -> rlim_t {
    let mut old = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let pid = process.pid.cast_signed();
    let kind = Resource::RLIMIT_NOFILE as _;
    // SAFETY: `old` is a valid place for the whole call; nothing is set by it.
    let got = unsafe { libc::prlimit(pid, kind, std::ptr::null(), &raw mut old) };
    assert_eq!(got, 0);
    let new = libc::rlimit {
        rlim_cur: soft,
        rlim_max: old.rlim_max,
    };
    // SAFETY: `new` is valid for the whole call; nothing is returned.
    let set = unsafe { libc::prlimit(pid, kind, &raw const new, std::ptr::null_mut()) };
    assert_eq!(set, 0);
    old.rlim_cur
}

#[tokio::test]
async fn a_guardian_short_of_descriptors_says_so_and_recovers() {
    let pool = Stdiopool::serve(&demo("good", ""));
    let anna = Beside::open(&pool, "anna", "good").await;
    let guardian = guardian(&pool);
    // Of what it needs for a start, some has room and some has not.
    let before = set_open_files(guardian, 9);
    let client = pool.client_of("bob", "good");
    let start = async || client.try_initialize("2025-06-18", json!({})).await;
    let answer = start().await;
    assert_eq!(answer.reason(), "start_failed", "{answer:?}");
    assert!(
        answer.message().contains("open files"),
        "{}",
        answer.message()
    );
    anna.goes_on(1).await;
    set_open_files(guardian, before);
    eventually("it starts again", async || {
        start().await.response().get("result").is_some()
    })
    .await;
}

/// A limit on processes holds for plain users only, so that is who it is tried as.
#[tokio::test]
async fn a_guardian_at_the_limit_on_processes_says_so_and_recovers() {
    if !nix::unistd::Uid::effective().is_root() {
        eprintln!("not root: nobody else to run it as");
        return;
    }
    let user = 65_533;
    let dir = crate::support::open_folder().expect("a folder");
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", &demo("good", ""));
    let config = dir.path().join("pool.toml");
    for path in [dir.path(), &config] {
        std::os::unix::fs::chown(path, Some(user), Some(user)).expect("root may");
    }
    let args = ["--config".to_owned(), config.display().to_string()];
    let pool = Stdiopool::run_as(user, dir, &args);
    let anna = Beside::open(&pool, "anna", "good").await;
    anna.goes_on(1).await;
    let guardian = guardian(&pool);
    // Only the user itself, or who may do it to everyone, changes the limits of its processes.
    let set_limit = |soft: &str| {
        let mut prlimit = Command::new("prlimit");
        prlimit.uid(user).gid(user);
        prlimit
            .arg(format!("--pid={}", guardian.pid))
            .arg(format!("--nproc={soft}:"));
        let output = prlimit.output().expect("util-linux is there");
        assert!(output.status.success(), "{output:?}");
    };
    set_limit("1");
    let client = pool.client_of("bob", "good");
    let start = async || client.try_initialize("2025-06-18", json!({})).await;
    let answer = start().await;
    assert_eq!(answer.reason(), "start_failed", "{answer:?}");
    for part in ["the limit on processes is reached", "`ulimit -u`"] {
        assert!(answer.message().contains(part), "{}", answer.message());
    }
    anna.goes_on(1).await;
    set_limit("4096");
    eventually("it starts again", async || {
        start().await.response().get("result").is_some()
    })
    .await;
}

/// A start goes on while the guardian is stopped; when that is replaced for it, the start is told as failed or tried
/// again, and in no case waited for without end.
#[tokio::test]
async fn a_guardian_that_is_stopped_while_a_start_is_under_way_holds_nobody_up() {
    let slow = faulty("slow", &["--delay-ms", "3000"], "");
    let pool = Stdiopool::serve(&(slow + &demo("good", "")));
    let anna = Beside::open(&pool, "anna", "good").await;
    let first = guardian(&pool);
    for tenant in ["bob", "carl"] {
        let client = pool.client_of(tenant, "slow");
        let began = Instant::now();
        let start =
            tokio::spawn(async move { client.try_initialize("2025-06-18", json!({})).await });
        eventually("its process is there", async || {
            let workers = pool.workers().await;
            let is_meant = |worker: &serde_json::Value| {
                worker["tenant"] == tenant
                    && worker["pid"].is_u64()
                    && worker["state"] == "starting"
            };
            workers.iter().any(is_meant)
        })
        .await;
        send(first, Signal::SIGSTOP);
        let answer = start.await.expect("no panic");
        assert!(began.elapsed() < MAX_END, "{:?}", began.elapsed());
        if tenant == "bob" {
            assert!(answer.response().get("result").is_some(), "{answer:?}");
            eventually("it goes on", async || !is_stopped(first)).await;
        }
        anna.goes_on(1).await;
    }
    let client = pool.client_of("dora", "slow");
    eventually("others start", async || {
        let answer = client.try_initialize("2025-06-18", json!({})).await;
        answer.response().get("result").is_some()
    })
    .await;
}

/// A program that starts a process in another session and waits, as a script in `folder`.
fn waits(folder: &std::path::Path, name: &str) -> String {
    let path = folder.join(name);
    let text = "#!/bin/sh\nsetsid sleep 4711 &\nsetsid -f setsid -f sleep 4712\nsleep 4713\n";
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
    path.display().to_string()
}

/// Kills a supervisor whose client waits for that program of a folder; nothing may be left of it.
async fn dies_with_its_supervisor(mut pool: Stdiopool, program: &str) {
    let client = pool.client("thing");
    let waiting = tokio::spawn(async move { client.connect().await });
    eventually("the command and all it starts run", async || {
        let tree = in_tree_of(pool.pid());
        let of = |part: &str| tree.iter().any(|it| command_line_of(*it).contains(part));
        of(program) && (4711..4714).all(|seconds| of(&format!("sleep {seconds}")))
    })
    .await;
    let tree = in_tree_of(pool.pid());
    let above = named(&pool, "sp-command")[0];
    assert!(environment_of(above.pid).is_empty());
    pool.signal(Signal::SIGKILL);
    pool.wait();
    until_gone(&tree);
    waiting.abort();
}

#[tokio::test]
async fn an_install_and_all_it_started_end_with_a_supervisor_that_is_killed() {
    let folder = crate::support::open_folder().expect("a folder");
    let npm = waits(folder.path(), "npm");
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", folder.path().display());
    let server = format!(
        "[servers.thing]\ncommand = \"npx\"\nargs = [\"-y\", \"thing@1.0.0\"]\nenv = {{ PATH = {path:?} }}\n"
    );
    dies_with_its_supervisor(Stdiopool::serve(&server), &npm).await;
}

#[tokio::test]
async fn a_command_that_prints_a_secret_ends_with_a_supervisor_that_is_killed() {
    let folder = crate::support::open_folder().expect("a folder");
    let program = waits(folder.path(), "secret");
    let toml = demo("thing", "env = { KEY = \"${secret.key}\" }")
        + &format!("[tenants.default]\nsecrets.key = {{ command = [{program:?}] }}\n");
    dies_with_its_supervisor(Stdiopool::serve(&toml), &program).await;
}
