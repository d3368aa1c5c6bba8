//! A disk that is full: calls go on, what could not be kept is said and counted, and once there is room again
//! all is as before.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use http::{Method, StatusCode};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::beside::Beside;
use crate::support::registry::Registry;
use crate::support::{BINARY, Client, Stdiopool, demo, eventually, eventually_within};

/// The size of the disk, in bytes.
const DISK: usize = 12 << 20;

/// Serves a folder whose state and audit log are on a small disk of its own, which nobody else sees and which ends
/// with the process. `None` where no disk can be had.
fn serve(more: &str) -> Option<Stdiopool> {
    let dir = crate::support::open_folder().expect("a folder");
    let toml = format!(
        "{}{}{more}[audit]\nfile = \"state/audit.jsonl\"\narguments = true\n",
        demo("good", ""),
        demo(
            "other",
            "client_config = [\"a\"]\n[servers.other.config]\ntype = \"object\"\nproperties.a = { type = \"string\" }"
        ),
    );
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", &toml);
    let state = dir.path().join("state");
    std::fs::create_dir(&state).expect("made");
    let mount = format!("mount -t tmpfs -o size={DISK},mode=0700 none");
    // Own mounts, which are gone with the last process that has them; where need be as root of an own range.
    let unshare = |more: &str, then: &str| {
        let mut unshare = Command::new("unshare");
        let script = format!("{mount} '{}' && {then}", state.display());
        unshare.args(more.split_whitespace());
        unshare.args(["--mount", "--", "sh", "-c", &script, "sh"]);
        unshare
    };
    let as_whom = ["", "--user --map-root-user"].into_iter();
    let mut possible = as_whom.filter(|more| {
        #[allow(clippy::disallowed_methods, reason = "a program of the system")]
        let tried = unshare(more, "true").output();
        tried.is_ok_and(|tried| tried.status.success())
    });
    let Some(more) = possible.next() else {
        eprintln!("no disk of one's own can be mounted here");
        return None;
    };
    let config = dir.path().join("pool.toml").display().to_string();
    let mut program = unshare(more, "exec \"$@\"");
    program.arg(BINARY);
    Some(Stdiopool::start(
        program,
        dir,
        &["--config".to_owned(), config],
        &[],
    ))
}

/// A path as the process sees it.
fn seen_by(pool: &Stdiopool, path: &Path) -> PathBuf {
    let path = path.strip_prefix("/").expect("absolute");
    PathBuf::from(format!("/proc/{}/root", pool.pid())).join(path)
}

/// A file that leaves no room on the disk.
struct Filling(PathBuf);

impl Filling {
    fn of(pool: &Stdiopool) -> Self {
        let path = seen_by(pool, &pool.dir.path().join("state/filling"));
        let mut file = std::fs::File::create(&path).expect("made");
        for len in [1 << 16, 1] {
            while file.write_all(&vec![b'x'; len]).is_ok() {}
        }
        Self(path)
    }

    fn remove(self) {
        std::fs::remove_file(self.0).expect("removed");
    }
}

async fn store(pool: &Stdiopool, client: &Client) -> (StatusCode, Value) {
    let mut client = client.clone();
    client.url = format!("{}/t/acme/v1/config", pool.url);
    let body = json!({ "server": "other", "config": { "a": "b".repeat(20_000) } });
    let answer = client.request(Method::POST).json(&body).send().await;
    let answer = answer.expect("answers");
    (answer.status(), answer.json().await.expect("JSON"))
}

/// The audit log's lines; each must be one.
fn audited(pool: &Stdiopool) -> Vec<Value> {
    let path = seen_by(pool, &pool.dir.path().join("state/audit.jsonl"));
    let text = std::fs::read_to_string(path).expect("text");
    let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("torn: {line}"));
    text.lines().map(line).collect()
}

const LOST: &str = "stdiopool_audit_lines_lost_total";

#[tokio::test]
async fn calls_go_on_while_the_disk_is_full_and_what_is_lost_is_said() {
    let Some(pool) = serve("") else { return };
    let beside = Beside::open(&pool, "bystander", "good").await;
    let acme = pool.client_of("acme", "good").connect().await;
    // Long ones in several scripts, so that the disk ends in the middle of a character.
    let long = "\u{5b57}\u{1F600}".repeat(1500);
    acme.call("echo", json!({ "message": long })).await.text();
    let filling = Filling::of(&pool);
    // Whoever has a session goes on, and whoever has none begins one.
    for _ in 0..20 {
        assert_eq!(
            acme.call("echo", json!({ "message": long })).await.text(),
            long
        );
    }
    beside.goes_on(5).await;
    let begun = pool.client_of("newcomer", "good").connect().await;
    assert_eq!(begun.call("counter", json!({})).await.text(), "1");
    let (status, stored) = store(&pool, &acme).await;
    // It is kept, or it is said that it is not.
    let is_said = status.is_server_error() || stored["survivesRestart"] == false;
    assert!(is_said, "{status} {stored}");
    eventually("lost lines are counted", async || {
        pool.metric(LOST).await > 0.0
    })
    .await;
    let log = pool.log();
    assert_eq!(
        log.matches("the audit log cannot be written").count(),
        1,
        "once, not with each line: {log}"
    );
    for said in [
        "No space left on device",
        "a session will not survive a restart",
    ] {
        assert!(log.contains(said), "{said}: {log}");
    }
    // A server that is not there yet needs a folder: it starts, or it is said why not.
    let other = pool.client_of("acme", "other");
    let answer = other.try_initialize("2025-11-25", json!({})).await;
    let is_said = answer.status == StatusCode::OK
        || answer.message().contains("No space left on device")
        || answer.message().contains("disk is full");
    assert!(is_said, "{answer:?}");
    // Room again: what comes now is kept, and how much is missing stands where it is missing.
    filling.remove();
    acme.call("echo", json!({ "message": "after" }))
        .await
        .text();
    eventually("the log says how many lines are lost", async || {
        let lines = audited(&pool);
        let missing: u64 = lines.iter().filter_map(|line| line["lost"].as_u64()).sum();
        missing > 0 && missing as f64 == pool.metric(LOST).await
    })
    .await;
    let (status, stored) = store(&pool, &acme).await;
    assert_eq!(
        (status, &stored["survivesRestart"]),
        (StatusCode::CREATED, &json!(true)),
        "{stored}"
    );
    let kept = pool.client_of("acme", "other").connect().await;
    assert_eq!(kept.call("counter", json!({})).await.text(), "1");
    beside.goes_on(3).await;
}

/// A state folder that is full from the start, and one that fills up before a kill: it starts, or says why not.
#[tokio::test]
async fn what_was_kept_before_the_disk_was_full_is_there_after_a_kill() {
    let Some(pool) = serve("") else { return };
    let before = pool.client_of("acme", "good").connect().await;
    let filling = Filling::of(&pool);
    let unkept = pool.client_of("acme", "good").connect().await;
    assert_eq!(
        unkept.call("echo", json!({ "message": "m" })).await.text(),
        "m"
    );
    // What was written is taken from the disk as it is left, since the disk ends with the process.
    let copied = crate::support::open_folder().expect("a folder");
    pool.signal(Signal::SIGSTOP);
    std::fs::create_dir(copied.path().join("state")).expect("made");
    for name in ["state.db", "state.db-wal"] {
        let from = seen_by(&pool, &pool.dir.path().join("state").join(name));
        std::fs::copy(from, copied.path().join("state").join(name)).expect("copied");
    }
    pool.signal(Signal::SIGCONT);
    filling.remove();
    let toml = demo("good", "");
    Stdiopool::write_config(copied.path(), "[auth]\nmode = \"none\"\n", &toml);
    let config = copied.path().join("pool.toml").display().to_string();
    let again = Stdiopool::run(copied, &["--config".to_owned(), config], &[]);
    let mut client = again.client_of("acme", "good");
    client.session.clone_from(&before.session);
    client.version.clone_from(&before.version);
    Beside::of(client.clone()).goes_on(1).await;
    client.session.clone_from(&unkept.session);
    let gone = client.call("echo", json!({ "message": "m" })).await;
    assert_eq!(
        gone.status,
        StatusCode::NOT_FOUND,
        "it was said that it would not survive"
    );
}

/// Entries of the package cache, and whether each is whole.
fn entries(pool: &Stdiopool) -> Vec<bool> {
    let entries = seen_by(pool, &pool.dir.path().join("state/packages/_npx"));
    let found = std::fs::read_dir(entries).into_iter().flatten().flatten();
    let is_whole = |path: PathBuf| path.join("entry.json").is_file();
    found.map(|entry| is_whole(entry.path())).collect()
}

#[tokio::test]
async fn an_install_on_a_full_disk_is_told_and_leaves_nothing_half() {
    let Some(pool) = serve("") else { return };
    let beside = Beside::open(&pool, "bystander", "good").await;
    let filling = Filling::of(&pool);
    let registry = Registry::start();
    let path = pool.dir.path().join("pool.toml");
    let before = std::fs::read_to_string(&path).expect("there");
    let keeper = format!(
        "[servers.keeper]\ncommand = \"npx\"\nargs = [\"-y\", \"keeper@1.0.0\"]\nstart_timeout = \"60s\"\nenv = {{ npm_config_registry = {:?} }}\n",
        registry.url
    );
    std::fs::write(&path, format!("{before}{keeper}")).expect("written");
    pool.signal(Signal::SIGHUP);
    let keeper = pool.client_of("acme", "keeper");
    eventually("the install is told to have failed", async || {
        let answer = keeper.try_initialize("2025-11-25", json!({})).await;
        let told = format!("{answer:?}");
        ["ENOSPC", "o space left"]
            .iter()
            .any(|why| told.contains(why))
    })
    .await;
    assert!(!entries(&pool).contains(&false), "{}", pool.log());
    beside.goes_on(3).await;
    filling.remove();
    eventually_within(
        Duration::from_secs(180),
        "with room it is served",
        async || {
            let answer = keeper.try_initialize("2025-11-25", json!({})).await;
            answer.status == StatusCode::OK && answer.response().get("error").is_none()
        },
    )
    .await;
    // Until the install is tried again, the line runs as written.
    assert!(!entries(&pool).contains(&false), "{}", pool.log());
    beside.goes_on(3).await;
}
