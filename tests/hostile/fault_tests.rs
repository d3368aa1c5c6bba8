//! Faults of the host: a state folder that cannot be written, a store that is locked or damaged, no descriptors left, memory that does
//! not come back. What is promised then is in the table of `docs/guarantees.md`.

use std::fs::{self, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use nix::sys::resource::rlim_t;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

use crate::beside::Beside;
use crate::guardian::set_open_files;
use crate::support::{
    BINARY, Process, Stdiopool, alive, demo, eventually, eventually_within, in_tree_of, open_folder,
};

/// The number of a plain user that nobody is.
const PLAIN: u32 = 65_532;

/// How long the store waits for whoever else has it, once for all that comes, and some more.
const STORE_WAITS: Duration = Duration::from_secs(15);

fn configured() -> TempDir {
    let dir = open_folder().expect("a folder");
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", &demo("good", ""));
    dir
}

/// A start that must fail: what it said.
fn refused(mut command: Command, dir: &Path) -> String {
    command.arg("serve").current_dir(dir).env("NO_COLOR", "1");
    let run = assert_cmd::Command::from_std(command)
        .timeout(Duration::from_secs(60))
        .assert();
    let run = run.failure().code(1);
    String::from_utf8_lossy(&run.get_output().stderr).into_owned()
}

fn supervisor(pool: &Stdiopool) -> Process {
    let mut tree = in_tree_of(pool.pid()).into_iter();
    let found = tree.find(|process| process.pid == pool.pid());
    found.expect("it lives")
}

#[tokio::test]
async fn a_state_folder_that_cannot_be_written_is_said_at_the_start() {
    let dir = configured();
    let state = dir.path().join("state");
    fs::create_dir(&state).expect("made");
    let mount = format!("mount -t tmpfs -o ro none '{}'", state.display());
    // Own mounts, which are gone with the last process that has them; where need be as root of an own range.
    let as_whom = ["", "--user --map-root-user"].into_iter();
    let unshare = |more: &str, then: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(more.split_whitespace());
        unshare.args([
            "--mount",
            "--",
            "sh",
            "-c",
            &format!("{mount} && {then}"),
            BINARY,
        ]);
        unshare
    };
    let mut possible = as_whom.filter(|more| {
        #[allow(clippy::disallowed_methods, reason = "a program of the system")]
        let tried = unshare(more, "true").output();
        tried.is_ok_and(|tried| tried.status.success())
    });
    let Some(more) = possible.next() else {
        eprintln!("SKIPPED: no folder can be made read-only here");
        return;
    };
    let said = refused(unshare(more, "exec \"$0\" \"$@\""), dir.path());
    for part in [
        "Read-only file system",
        &state.display().to_string(),
        "`state.dir`",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

/// Permissions hold for plain users alone.
fn serve_as_a_plain_user() -> Stdiopool {
    let dir = configured();
    if !nix::unistd::geteuid().is_root() {
        let config = dir.path().join("pool.toml").display().to_string();
        return Stdiopool::run(dir, &["--config".to_owned(), config], &[]);
    }
    let config = dir.path().join("pool.toml");
    for path in [dir.path(), &config] {
        std::os::unix::fs::chown(path, Some(PLAIN), Some(PLAIN)).expect("root may");
    }
    let args = ["--config".to_owned(), config.display().to_string()];
    Stdiopool::run_as(PLAIN, dir, &args)
}

/// A folder and those in it, to that depth.
fn folders_in(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    found.push(folder.to_owned());
    let entries = fs::read_dir(folder).expect("a folder");
    for entry in entries.flatten().filter(|_| depth > 0) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            folders_in(&entry.path(), depth - 1, found);
        }
    }
}

/// The permissions are taken rather than the file system's: the kernel makes none read-only while a file of it is written to.
#[tokio::test]
async fn a_state_folder_that_becomes_read_only_fails_new_tenants_alone() {
    let pool = serve_as_a_plain_user();
    let anna = Beside::open(&pool, "anna", "good").await;
    anna.goes_on(1).await;
    let mut folders = Vec::new();
    // The root of the state, the data and temporary folders: not those that a tenant has already.
    folders_in(&pool.dir.path().join("state"), 1, &mut folders);
    let set = |mode: u32| {
        for folder in &folders {
            fs::set_permissions(folder, Permissions::from_mode(mode)).expect("set");
        }
    };
    set(0o500);
    let bob = pool.client_of("bob", "good");
    let answer = bob.try_initialize("2025-11-25", json!({})).await;
    assert_eq!(answer.reason(), "start_failed", "{answer:?}");
    assert!(
        answer.message().contains("Permission denied"),
        "{}",
        answer.message()
    );
    anna.goes_on(3).await;
    set(0o700);
    eventually("it starts again", async || {
        let answer = bob.try_initialize("2025-11-25", json!({})).await;
        answer.response().get("result").is_some()
    })
    .await;
    anna.goes_on(1).await;
}

fn store_of(dir: &Path) -> PathBuf {
    dir.join("state/state.db")
}

/// Adds a tenant through the admin API: the status, and what was said.
async fn add(pool: &Stdiopool, name: &str) -> (StatusCode, String) {
    let url = format!("{}/api/v1/tenants/{name}", pool.admin);
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]);
    let client = client.build().expect("a client");
    let request = client.request(Method::POST, url).json(&json!({}));
    let answer = request.send().await.expect("answers");
    (answer.status(), answer.text().await.expect("text"))
}

/// As a backup by another program would.
#[tokio::test]
async fn a_store_that_another_program_has_locked_holds_up_no_call() {
    let pool = Stdiopool::serve(&demo("good", ""));
    let anna = Beside::open(&pool, "anna", "good").await;
    let other = Connection::open(store_of(pool.dir.path())).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let begun = Instant::now();
    anna.goes_on(20).await;
    let bob = pool.client_of("bob", "good").connect().await;
    assert_eq!(bob.call("counter", json!({})).await.text(), "1");
    // What has to be kept is refused, and says why.
    let (status, said) = add(&pool, "late").await;
    assert!(status.is_server_error(), "{status} {said}");
    assert!(said.contains("locked"), "{said}");
    assert!(begun.elapsed() < STORE_WAITS, "{:?}", begun.elapsed());
    eventually("a session that is not kept is told", async || {
        pool.log().contains("a session will not survive a restart")
    })
    .await;
    other.execute_batch("ROLLBACK").expect("free");
    let cleo = Beside::open(&pool, "cleo", "good").await;
    let (status, said) = add(&pool, "later").await;
    assert!(status.is_success(), "{status} {said}");
    for beside in [&anna, &cleo] {
        beside.goes_on(1).await;
    }
    let pool = pool.restarted_after(Signal::SIGKILL);
    let kept = pool.admin_json("accounts").await.to_string();
    assert!(
        kept.contains("\"later\"") && !kept.contains("\"late\""),
        "{kept}"
    );
}

#[tokio::test]
async fn a_store_with_damaged_pages_is_refused_and_left_alone() {
    let mut pool = Stdiopool::serve(&demo("good", ""));
    for tenant in ["anna", "bob"] {
        Beside::open(&pool, tenant, "good").await.goes_on(1).await;
    }
    assert!(pool.terminate().success());
    let path = store_of(pool.dir.path());
    // What is in its journal is put into the file first.
    let fold = "PRAGMA wal_checkpoint(TRUNCATE)";
    let folded = Connection::open(&path).and_then(|it| it.execute_batch(fold));
    folded.expect("nobody else has it");
    let mut bytes = fs::read(&path).expect("there");
    // The header stays good: it is a database, and one of this program.
    assert!(bytes.len() > 4096, "{}", bytes.len());
    bytes[4096..].fill(0xa5);
    fs::write(&path, &bytes).expect("written");
    let said = refused(Command::new(BINARY), pool.dir.path());
    for part in ["is damaged", "nothing was changed", "backup"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(fs::read(&path).expect("there") == bytes, "it was changed");
}

/// The lowest descriptor that the supervisor does not use: a limit there leaves it none, and takes none away.
fn lowest_free(pool: &Stdiopool) -> rlim_t {
    let folder = format!("/proc/{}/fd", pool.pid());
    let is_used = |number: &rlim_t| fs::symlink_metadata(format!("{folder}/{number}")).is_ok();
    let free = (0..4096).find(|number| !is_used(number));
    free.expect("one is free")
}

/// Processor time that the supervisor has used, in ticks of the clock.
fn ticks(pool: &Stdiopool) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pool.pid())).expect("lives");
    let (_, rest) = stat.rsplit_once(") ").expect("a name");
    let fields: Vec<&str> = rest.split(' ').collect();
    let used = [11, 12].map(|at| fields[at].parse::<u64>().expect("a number"));
    used.iter().sum()
}

#[tokio::test]
async fn a_supervisor_without_descriptors_serves_who_is_there_and_recovers() {
    let pool = Stdiopool::serve(&demo("good", ""));
    let anna = Beside::open(&pool, "anna", "good").await;
    anna.goes_on(1).await;
    let process = supervisor(&pool);
    let before = set_open_files(process, lowest_free(&pool));
    let address = pool.url.trim_start_matches("http://").to_owned();
    // They wait to be accepted; what is freed meanwhile is used up by the first of them.
    let strangers: Vec<TcpStream> = (0..8)
        .map(|_| TcpStream::connect(&address).expect("the kernel takes it"))
        .collect();
    eventually("it is said", async || {
        pool.log().contains("no connection could be accepted")
    })
    .await;
    let (begun, used) = (Instant::now(), ticks(&pool));
    anna.goes_on(5).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let share = (ticks(&pool) - used) as f64 / (begun.elapsed().as_secs_f64() * 100.0);
    assert!(
        share < 0.5,
        "it asks again and again: {share} of a processor"
    );
    set_open_files(process, before);
    drop(strangers);
    Beside::open(&pool, "bob", "good").await.goes_on(1).await;
}

/// As a start fails where the supervisor has no room for a worker's pipes.
#[tokio::test]
async fn a_start_without_descriptors_is_told_and_tried_again() {
    let pool = Stdiopool::serve(&demo("good", ""));
    let anna = Beside::open(&pool, "anna", "good").await;
    // Its connection is there before.
    let bob = pool.client_of("bob", "good");
    let _unknown = bob.ask("ping", json!({})).await;
    let process = supervisor(&pool);
    let before = set_open_files(process, lowest_free(&pool));
    let answer = bob.try_initialize("2025-11-25", json!({})).await;
    assert_eq!(answer.reason(), "start_failed", "{answer:?}");
    assert!(
        answer.message().contains("open files"),
        "{}",
        answer.message()
    );
    anna.goes_on(1).await;
    set_open_files(process, before);
    eventually("it starts again", async || {
        let answer = bob.try_initialize("2025-11-25", json!({})).await;
        answer.response().get("result").is_some()
    })
    .await;
}

/// A page that cannot be read back, because its swap is gone, ends its process with SIGBUS.
#[tokio::test]
async fn a_worker_whose_memory_does_not_come_back_ends_alone() {
    let pool = Stdiopool::serve(&demo("good", ""));
    let anna = pool.client_of("anna", "good").connect().await;
    let beside = Beside::open(&pool, "bob", "good").await;
    let worker = async || {
        let workers = pool.workers().await;
        let of_anna = workers.iter().find(|worker| worker["tenant"] == "anna");
        let pid = of_anna.and_then(|worker| worker["pid"].as_u64());
        u32::try_from(pid.expect("it is there")).expect("a pid")
    };
    let first = worker().await;
    let processes = in_tree_of(pool.pid());
    let process = processes.into_iter().find(|it| it.pid == first);
    let call = {
        let anna = anna.clone();
        tokio::spawn(async move { anna.call("sleep", json!({ "seconds": 60 })).await })
    };
    eventually("it is called", async || {
        let workers = pool.workers().await;
        let is_called = |worker: &serde_json::Value| {
            worker["tenant"] == "anna" && worker["in_flight"].as_u64() > Some(0)
        };
        workers.iter().any(is_called)
    })
    .await;
    let process = process.expect("it lives");
    // Programs in Rust take the first for an overflow of their stack, and end with the next.
    eventually("it ends", async || {
        if alive(process) {
            let _gone = kill(Pid::from_raw(process.pid.cast_signed()), Signal::SIGBUS);
        }
        !alive(process)
    })
    .await;
    let answer = call.await.expect("no panic");
    assert_eq!(answer.reason(), "worker_exited", "{answer:?}");
    assert!(
        answer.message().contains("signal 7") || answer.message().contains("SIGBUS"),
        "{}",
        answer.message()
    );
    beside.goes_on(1).await;
    assert_eq!(anna.call("counter", json!({})).await.text(), "1");
    assert_ne!(worker().await, first);
}

/// Whether the kernel would probe that connection of the server's when it is idle: the timer of it in `/proc/net/tcp` is the
/// one of keep-alive.
#[tokio::test]
async fn an_idle_connection_is_probed_by_the_kernel() {
    let pool = Stdiopool::serve(&demo("good", ""));
    let address = pool.url.trim_start_matches("http://");
    let stream = TcpStream::connect(address).expect("connected");
    let port = |address: std::net::SocketAddr| format!("{:04X}", address.port());
    let (own, its) = (
        port(stream.local_addr().expect("bound")),
        port(stream.peer_addr().expect("connected")),
    );
    eventually_within(STORE_WAITS, "its timer is that of keep-alive", async || {
        let table = fs::read_to_string("/proc/net/tcp").expect("there");
        table.lines().any(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields.len() > 5
                && fields[1].ends_with(&its)
                && fields[2].ends_with(&own)
                && fields[5].starts_with("02:")
        })
    })
    .await;
}
