//! Clients that check every answer, while workers are killed, stopped and put to sleep, the config is
//! reloaded, and stdiopool itself is restarted and killed.
//!
//! Fails at a wrong answer, a lost session, a process that is left over, or a supervisor that keeps
//! descriptors or memory.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::process::{Process, mib, stdiopool};
use super::report::{Cell, Column, Section, Table};
use super::{Result, at_least_one};

/// How long a client tries to get an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one life of the supervisor lasts.
const LIFE: Duration = Duration::from_secs(15);
/// Growth of a supervisor during its life that is more than caches filling up.
const MAX_GROWTH: u64 = 64 << 20;
/// Descriptors beside those of connections and workers.
const SPARE_FDS: usize = 64;

#[derive(Args, Debug)]
pub(crate) struct SoakArgs {
    /// How long
    #[arg(long, default_value_t = 5, value_parser = at_least_one::<u64>)]
    minutes: u64,
    /// Clients, each with a session that must last
    #[arg(long, default_value_t = 40, value_parser = at_least_one::<usize>)]
    clients: usize,
    /// Tenants they belong to
    #[arg(long, default_value_t = 10, value_parser = at_least_one::<usize>)]
    tenants: usize,
    /// Decides what happens when
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Default)]
struct Counts {
    answers: AtomicU64,
    repeated: AtomicU64,
    kills: AtomicU64,
    stops: AtomicU64,
    reloads: AtomicU64,
    restarts: AtomicU64,
}

impl Counts {
    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::main]
pub(crate) async fn run(args: &SoakArgs) -> Result<Section> {
    let dir = tempfile::tempdir()?;
    let [front, admin] = ports();
    write_config(dir.path(), front, admin);
    let mut process = start(dir.path())?;
    let (counts, over) = (
        Arc::new(Counts::default()),
        Arc::new(AtomicBool::new(false)),
    );
    let clients: Vec<_> = (0..args.clients)
        .map(|n| {
            let url = format!(
                "http://127.0.0.1:{front}/t/tenant{}/demo/mcp",
                n % args.tenants
            );
            tokio::spawn(client(n, url, Arc::clone(&counts), Arc::clone(&over)))
        })
        .collect();

    let mut random = SmallRng::seed_from_u64(args.seed);
    let end = Instant::now() + Duration::from_secs(args.minutes * 60);
    let admin = format!("http://127.0.0.1:{admin}/api/v1");
    let http = http();
    let mut born = (Instant::now(), process.memory());
    while Instant::now() < end && !clients.iter().any(|client| client.is_finished()) {
        sleep(Duration::from_millis(random.random_range(50..400))).await;
        if born.0.elapsed() >= LIFE {
            check_supervisor(&process, args, born.1);
            let signal = [Signal::SIGTERM, Signal::SIGKILL][random.random_range(0..2)];
            process = restart(process, signal, dir.path()).await?;
            born = (Instant::now(), process.memory());
            Counts::add(&counts.restarts);
            continue;
        }
        let workers = workers(&http, &admin).await;
        let worker = (!workers.is_empty()).then(|| &workers[random.random_range(0..workers.len())]);
        match (random.random_range(0..10), worker) {
            (0..5, Some(worker)) => {
                let pid = worker["pid"]
                    .as_i64()
                    .and_then(|pid| i32::try_from(pid).ok());
                if let Some(pid) = pid {
                    // It may have gone by itself meanwhile.
                    let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
                    Counts::add(&counts.kills);
                }
            }
            (5..8, Some(worker)) => {
                let id = worker["id"].as_str().unwrap_or_default();
                let _gone = http.post(format!("{admin}/workers/{id}/stop")).send().await;
                Counts::add(&counts.stops);
            }
            _ => {
                signal_to(&process, Signal::SIGHUP);
                Counts::add(&counts.reloads);
            }
        }
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("every client had every answer");
    }
    check_supervisor(&process, args, born.1);
    let at_end = process.memory();
    signal_to(&process, Signal::SIGTERM);
    let status = process.0.wait()?;
    assert!(status.success(), "{status}");
    let left = left_over(dir.path());
    assert!(left.is_empty(), "left over: {left:?}");
    let mut section = Section::new(
        "soak",
        format!(
            "{} clients of {} tenants for {} min, while workers and stdiopool itself are ended",
            args.clients, args.tenants, args.minutes
        ),
    );
    section.note("no wrong answer, no lost session, no process left over");
    let columns = [
        ("right answers", &counts.answers),
        ("calls repeated, their worker had died", &counts.repeated),
        ("workers killed", &counts.kills),
        ("workers stopped", &counts.stops),
        ("reloads", &counts.reloads),
        ("restarts", &counts.restarts),
    ];
    let mut table = Table::new(
        "",
        columns
            .iter()
            .map(|(title, _)| Column::number(title, "", 0))
            .chain([Column::number("memory at the end", "MiB", 1)])
            .collect::<Vec<_>>(),
    );
    let row: Vec<Cell> = columns
        .iter()
        .map(|(_, counter)| Cell::from(counter.load(Ordering::Relaxed) as f64))
        .chain([Cell::from(mib(at_end))])
        .collect();
    table.row(row);
    section.tables.push(table);
    Ok(section)
}

/// One session, which must last however often it is used.
async fn client(n: usize, url: String, counts: Arc<Counts>, over: Arc<AtomicBool>) {
    let http = http();
    let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "soak", "version": "1"}}});
    let (_, session) = answer(&http, &url, None, &hello, &counts).await;
    let session = session.expect("a session id");
    for turn in 0_u64.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let text = format!("client {n} turn {turn}");
        let list = turn % 7 == 3;
        let message = if list {
            json!({"jsonrpc": "2.0", "id": turn, "method": "tools/list"})
        } else {
            json!({"jsonrpc": "2.0", "id": turn, "method": "tools/call",
                "params": {"name": "echo", "arguments": {"message": text}}})
        };
        let (got, _) = answer(&http, &url, Some(&session), &message, &counts).await;
        assert_eq!(got["id"], turn, "{got}");
        if list {
            let tools = got["result"]["tools"].as_array();
            assert!(tools.is_some_and(|tools| tools.len() > 5), "{got}");
        } else {
            assert_eq!(got["result"]["content"][0]["text"], text, "{got}");
        }
        Counts::add(&counts.answers);
        // Now and then long enough for its worker to fall asleep.
        let pause = if turn % 50 == 49 {
            1500
        } else {
            5 + (n as u64 * 7) % 40
        };
        sleep(Duration::from_millis(pause)).await;
    }
}

/// The answer to a message, asked for again where that is what a client would do: nobody listens,
/// or the answer says that a later try may help.
async fn answer(
    http: &reqwest::Client,
    url: &str,
    session: Option<&str>,
    message: &Value,
    counts: &Counts,
) -> (Value, Option<String>) {
    let deadline = Instant::now() + PATIENCE;
    let mut last = String::from("nothing");
    while Instant::now() < deadline {
        let mut request = http
            .post(url)
            .header("Accept", "application/json, text/event-stream")
            .header("Content-Type", "application/json")
            .body(message.to_string());
        if let Some(session) = session {
            request = request.header("Mcp-Session-Id", session);
        }
        let response = match request.send().await {
            Ok(response) => response,
            // Between two lives of the supervisor.
            Err(error) => {
                last = error.to_string();
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let status = response.status();
        let id = response.headers().get("mcp-session-id");
        let id = id.and_then(|id| id.to_str().ok()).map(ToOwned::to_owned);
        let Ok(text) = response.text().await else {
            last = "the answer was cut off".to_owned();
            continue;
        };
        assert_ne!(status.as_u16(), 404, "a lost session: {text}");
        if status.is_success() {
            return (serde_json::from_str(&text).expect("JSON"), id);
        }
        assert!(
            matches!(status.as_u16(), 502 | 503),
            "{status} to {message}: {text}"
        );
        Counts::add(&counts.repeated);
        last = text;
        sleep(Duration::from_millis(20)).await;
    }
    panic!("no answer to {message} in {PATIENCE:?}: {last}");
}

fn http() -> reqwest::Client {
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE);
    client.build().expect("a client")
}

fn ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}

fn write_config(dir: &Path, front: u16, admin: u16) {
    let toml = format!(
        "[http]\nlisten = \"127.0.0.1:{front}\"\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n\
         [pool]\nmax_workers = 6\nhibernate_after = \"1s\"\nidle_timeout = \"3s\"\ndrain_timeout = \"5s\"\n\
         [servers.demo]\ncommand = \"stdiopool\"\nargs = [\"demo-server\"]\nmax_requests = 500\n"
    );
    std::fs::write(dir.join("pool.toml"), toml).expect("written");
}

fn start(dir: &Path) -> Result<Process> {
    let mut command = stdiopool();
    command.arg("serve").current_dir(dir).env("NO_COLOR", "1");
    let mut process = Process::start(&mut command)?;
    process.announced(["admin at http://"])?;
    Ok(process)
}

async fn restart(mut process: Process, signal: Signal, dir: &Path) -> Result<Process> {
    signal_to(&process, signal);
    let deadline = Instant::now() + PATIENCE;
    while process.0.try_wait().expect("waitable").is_none() {
        assert!(Instant::now() < deadline, "it does not end at {signal}");
        sleep(Duration::from_millis(10)).await;
    }
    let gone = Instant::now() + Duration::from_secs(10);
    while !left_over(dir).is_empty() {
        assert!(
            Instant::now() < gone,
            "left over after {signal}: {:?}",
            left_over(dir)
        );
        sleep(Duration::from_millis(10)).await;
    }
    start(dir)
}

fn signal_to(process: &Process, signal: Signal) {
    let pid = i32::try_from(process.0.id()).expect("a pid");
    kill(Pid::from_raw(pid), signal).expect("it lives");
}

async fn workers(http: &reqwest::Client, admin: &str) -> Vec<Value> {
    let Ok(response) = http.get(format!("{admin}/workers")).send().await else {
        return vec![];
    };
    let rows: Value = response.json().await.unwrap_or_default();
    rows.as_array().cloned().unwrap_or_default()
}

/// Processes whose folder is one of this run's tenants.
fn left_over(dir: &Path) -> Vec<u32> {
    let state = dir.canonicalize().expect("it is there").join(".stdiopool");
    std::fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let cwd = std::fs::read_link(format!("/proc/{pid}/cwd"));
            cwd.is_ok_and(|cwd| cwd.starts_with(&state))
        })
        .collect()
}

fn check_supervisor(process: &Process, args: &SoakArgs, at_birth: u64) {
    let fds = std::fs::read_dir(format!("/proc/{}/fd", process.0.id())).expect("it lives");
    let (fds, most) = (fds.count(), args.clients * 2 + SPARE_FDS);
    assert!(fds <= most, "{fds} descriptors, more than {most}");
    let grown = process.memory().saturating_sub(at_birth);
    assert!(grown < MAX_GROWTH, "it has grown by {} MiB", grown >> 20);
}
