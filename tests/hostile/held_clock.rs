//! A clock on the wall that jumps, by years and in both directions: what is under way is answered, sessions go on,
//! and no time that was written under a wrong clock is kept for good.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{Method, StatusCode};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::beside::Beside;
use crate::support::stateless::{ask, call, elicitation, params, text};
use crate::support::{BINARY, Stdiopool, demo, until};

const YEAR: i64 = 365 * 24 * 3600;

/// A clock that stdiopool has instead of the host's.
struct Clock(tempfile::TempDir);

impl Clock {
    fn new() -> Self {
        let clock = Self(crate::support::open_folder().expect("a folder"));
        clock.jump_to(0);
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/clock.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]);
        compiler.arg(clock.library()).arg(source);
        #[allow(clippy::disallowed_methods, reason = "what Rust links with too")]
        let made = compiler.output().expect("a compiler");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        clock
    }

    fn library(&self) -> std::path::PathBuf {
        self.0.path().join("clock.so")
    }

    fn offset(&self) -> std::path::PathBuf {
        self.0.path().join("ahead")
    }

    /// So many seconds ahead of the host's, or behind it.
    fn jump_to(&self, ahead: i64) {
        let mut options = std::fs::OpenOptions::new();
        // In place, since it is mapped.
        let file = options.write(true).create(true).truncate(false);
        let mut file = file.open(self.offset()).expect("opens");
        file.write_all(&ahead.to_ne_bytes()).expect("written");
    }

    fn serve(&self, dir: tempfile::TempDir) -> Stdiopool {
        let mut command = Command::new(BINARY);
        command.env("LD_PRELOAD", self.library());
        command.env("CLOCK_AHEAD", self.offset());
        let config = dir.path().join("pool.toml").display().to_string();
        Stdiopool::start(command, dir, &["--config".to_owned(), config], &[])
    }
}

/// Ends it with SIGKILL; the folder that it served.
fn killed(mut pool: Stdiopool) -> tempfile::TempDir {
    pool.signal(Signal::SIGKILL);
    pool.wait();
    let unused = crate::support::open_folder().expect("a folder");
    std::mem::replace(&mut pool.dir, unused)
}

fn folder() -> tempfile::TempDir {
    let dir = crate::support::open_folder().expect("a folder");
    let toml = format!(
        "{}[pool]\nsession_timeout = \"1h\"\n[audit]\nfile = \"audit.jsonl\"\n",
        demo(
            "good",
            "client_config = [\"a\"]\n[servers.good.config]\ntype = \"object\"\nproperties.a = { type = \"string\" }"
        ),
    );
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", &toml);
    dir
}

/// The year of the audit log's last line.
fn last_year(dir: &Path) -> i64 {
    let text = std::fs::read_to_string(dir.join("audit.jsonl")).expect("text");
    let line: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    line["at"].as_str().expect("a time")[..4]
        .parse()
        .expect("a year")
}

/// The status of a stored config.
async fn status_of(pool: &Stdiopool, handle: &Value) -> StatusCode {
    let mut client = pool.client("good");
    client.url = format!(
        "{}/v1/config/{}",
        pool.url,
        handle.as_str().expect("a handle")
    );
    let answer = client.request(Method::GET).send().await;
    answer.expect("answers").status()
}

async fn stored(pool: &Stdiopool) -> Value {
    let mut client = pool.client("good");
    client.url = format!("{}/v1/config", pool.url);
    let body = json!({ "server": "good", "config": { "a": "b" } });
    let answer = client.request(Method::POST).json(&body).send().await;
    let answer: Value = answer.expect("answers").json().await.expect("JSON");
    answer["id"].clone()
}

#[tokio::test]
async fn a_clock_that_jumps_ends_no_session_and_no_call() {
    let clock = Clock::new();
    let pool = clock.serve(folder());
    let client = pool.client("good").connect().await;
    let beside = Beside::of(client.clone());
    beside.goes_on(1).await;
    let year = last_year(pool.dir.path());
    let pid = pool.workers().await[0]["pid"].clone();
    for ahead in [YEAR, -YEAR, 60 * YEAR, -20 * YEAR, 0] {
        // Under way across the jump: a call, and one that waits for its client.
        let sleeper = client.clone();
        let slow =
            tokio::spawn(async move { sleeper.call("sleep", json!({ "seconds": 0.5 })).await });
        let modern = pool.client("good");
        let arguments = json!({ "kind": "elicitation" });
        let asked = call(&modern, "ask", arguments.clone(), &elicitation()).await;
        let handle = stored(&pool).await;
        clock.jump_to(ahead);
        beside.goes_on(3).await;
        let mut again = json!({ "name": "ask", "arguments": arguments, "requestState": asked["result"]["requestState"] });
        for key in asked["result"]["inputRequests"]
            .as_object()
            .expect("questions")
            .keys()
        {
            again["inputResponses"][key] =
                json!({ "action": "accept", "content": { "name": "Anna" } });
        }
        let (_, _, told) = ask(&modern, "tools/call", params(again, &elicitation())).await;
        assert!(text(&told).contains("Anna"), "{ahead}: {told}");
        let slow = slow.await.expect("ran");
        assert!(slow.result()["content"].is_array(), "{ahead}: {slow:?}");
        // A config is stored until a time on the wall, and is as it was after the way back.
        let expected = if ahead > 0 {
            StatusCode::NOT_FOUND
        } else {
            StatusCode::OK
        };
        if ahead != 0 {
            assert_eq!(status_of(&pool, &handle).await, expected, "{ahead}");
        }
        pool.client("good")
            .connect()
            .await
            .call("counter", json!({}))
            .await
            .text();
        // And the jump was one.
        until("the audit log has the other time", || {
            let moved = last_year(pool.dir.path()) - year;
            ((moved - ahead / YEAR).abs() <= 1).then_some(())
        });
    }
    assert!(
        pool.workers()
            .await
            .iter()
            .any(|worker| worker["pid"] == pid)
    );
    let log = pool.log();
    assert!(!log.contains("panic"), "{log}");
}

#[tokio::test]
async fn what_was_written_under_a_clock_that_was_ahead_ends_in_its_time() {
    let clock = Clock::new();
    clock.jump_to(2 * YEAR);
    let pool = clock.serve(folder());
    let client = pool.client("good").connect().await;
    let forgotten = pool.client("good").connect().await;
    let handle = stored(&pool).await;
    assert_eq!(status_of(&pool, &handle).await, StatusCode::OK);
    // The clock was put right while it did not run.
    clock.jump_to(0);
    let pool = clock.serve(killed(pool));
    Beside::of(moved(&pool, &client)).goes_on(1).await;
    assert_eq!(status_of(&pool, &handle).await, StatusCode::OK);
    let info: Value = {
        let mut client = pool.client("good");
        client.url = format!(
            "{}/v1/config/{}",
            pool.url,
            handle.as_str().expect("a handle")
        );
        let answer = client.request(Method::GET).send().await;
        answer.expect("answers").json().await.expect("JSON")
    };
    // A day, as it was given, from now on.
    let expires = info["expires"].as_u64().expect("seconds");
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let rest = expires.checked_sub(now.expect("after 1970").as_secs());
    assert!(rest.is_some_and(|rest| rest <= 24 * 3600), "{info}");
    // Far ahead of what was noted, that is over, and what begins now goes on.
    clock.jump_to(YEAR);
    let pool = clock.serve(killed(pool));
    let over = moved(&pool, &forgotten)
        .call("echo", json!({ "message": "m" }))
        .await;
    assert_eq!(over.status, StatusCode::NOT_FOUND, "{over:?}");
    assert_eq!(status_of(&pool, &handle).await, StatusCode::NOT_FOUND);
    Beside::open(&pool, "acme", "good").await.goes_on(1).await;
}

/// The client of a session at a stdiopool that has come after another.
fn moved(pool: &Stdiopool, client: &crate::support::Client) -> crate::support::Client {
    let mut moved = pool.client("good");
    moved.session.clone_from(&client.session);
    moved.version.clone_from(&client.version);
    moved
}
