//! How much memory a tenant takes, and how long its calls take, warm, asleep and cold.

use std::process::Command;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;
use stdiopool::worker::memory::{SwapWeight, can_hibernate, footprint};

use super::http_load::{Connection, INITIALIZED, serve_with};
use super::pipe_load::INITIALIZE;

/// How long until a worker is put to sleep: long enough for a runtime's own tidying up before it.
const HIBERNATE_AFTER: Duration = Duration::from_secs(15);
/// Tenants that come when the others sleep.
const COLD: usize = 5;

#[derive(Args)]
pub(crate) struct DensityArgs {
    /// Tenants, each with a process tree of its own
    #[arg(long, default_value_t = 20)]
    tenants: usize,
    /// Only this one, such as "node everything"
    #[arg(long)]
    only: Option<String>,
}

/// A server as it is started, and a call to it.
struct Subject {
    name: &'static str,
    argv: Vec<String>,
    call: &'static str,
}

pub(crate) fn run(args: &DensityArgs) {
    if let Err(why) = can_hibernate() {
        println!("nothing can be hibernated on this host: {why}");
    }
    println!(
        "{} tenants, each with a process tree of its own; MiB per tenant are the proportional share\n\
         of all its processes, and what zram takes of what is swapped out; calls in ms\n",
        args.tenants
    );
    println!(
        "{:<22} {:>10} {:>11} {:>8} {:>10} {:>11} {:>9} {:>10} {:>9}",
        "",
        "awake MiB",
        "asleep MiB",
        "per GiB",
        "asleep/GiB",
        "warm p50",
        "wake p50",
        "wake max",
        "cold p50"
    );
    let subjects = subjects();
    if let Some(name) = &args.only {
        let subject = subjects.iter().find(|subject| subject.name == name);
        measure(subject.expect("one of the names below"), args.tenants);
        return;
    }
    for pair in subjects.chunks(2) {
        let as_written = measure(&pair[0], args.tenants);
        let direct = measure(&pair[1], args.tenants);
        println!(
            "{} asleep: {:.1} times more tenants per GiB than `{}` awake, {:.1} times more than itself; wake {:.2} of a cold start\n",
            pair[1].name,
            as_written.awake / direct.asleep,
            pair[0].name,
            direct.awake / direct.asleep,
            direct.wake / direct.cold,
        );
    }
}

/// Of each server first as it is written, then started directly.
fn subjects() -> [Subject; 4] {
    const ECHO: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"message":"x"}}}"#;
    const TIME: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_current_time","arguments":{"timezone":"UTC"}}}"#;
    let everything = "@modelcontextprotocol/server-everything@2026.8.31";
    let time = "mcp-server-time@2026.10.19";
    let script = said_by(
        "npm",
        &[
            "exec",
            "--yes",
            &format!("--package={everything}"),
            "--",
            "sh",
            "-c",
            "readlink -f $(command -v mcp-server-everything)",
        ],
    );
    let python = said_by(
        "uvx",
        &[
            "--from",
            time,
            "python",
            "-c",
            "import sys; print(sys.executable)",
        ],
    );
    let argv = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    [
        Subject {
            name: "npx everything",
            argv: argv(&["npx", "-y", everything]),
            call: ECHO,
        },
        Subject {
            name: "node everything",
            argv: argv(&["node", &script]),
            call: ECHO,
        },
        Subject {
            name: "uvx time",
            argv: argv(&["uvx", time]),
            call: TIME,
        },
        Subject {
            name: "python time",
            argv: argv(&[&python, "-m", "mcp_server_time"]),
            call: TIME,
        },
    ]
}

/// The last line that a command prints.
fn said_by(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().last().unwrap_or_default().trim().to_owned()
}

/// MiB per tenant, and milliseconds.
struct Density {
    awake: f64,
    asleep: f64,
    wake: f64,
    cold: f64,
}

#[tokio::main]
async fn measure(subject: &Subject, tenants: usize) -> Density {
    let pool = format!(
        "max_workers = {}\nmax_workers_per_tenant = 1\nmax_memory = \"95%\"\nhibernate_after = \"{}s\"\n",
        tenants + COLD,
        HIBERNATE_AFTER.as_secs()
    );
    let (program, args) = subject.argv.split_first().expect("not empty");
    let server = format!(
        "command = {program:?}\nargs = {args:?}\nstart_timeout = \"5m\"\nlaunch = \"as-is\"\n"
    );
    let (mut process, _dir) = serve_with(&pool, &server);
    let [front, admin] = process.all_announced(["MCP at http://", "admin at http://"]);
    let address = front.split('/').next().expect("an address");
    let admin = format!("http://{admin}api/v1/workers");

    let mut sessions = Vec::new();
    for tenant in 0..tenants {
        sessions.push(open(address, tenant, subject.call).await.0);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let awake = memory(&admin).await / tenants as f64;
    until_asleep(&admin, tenants).await;
    let asleep = memory(&admin).await / tenants as f64;
    let mut wake = Vec::new();
    let mut warm = Vec::new();
    for session in &mut sessions {
        session.reopen().await;
        wake.push(timed(session, subject.call).await);
        warm.push(timed(session, subject.call).await);
    }
    let mut cold = Vec::new();
    for tenant in tenants..tenants + COLD {
        let (session, took) = open(address, tenant, subject.call).await;
        sessions.push(session);
        cold.push(took);
    }
    for figures in [&mut wake, &mut warm, &mut cold] {
        figures.sort_by(f64::total_cmp);
    }
    let p50 = |figures: &[f64]| figures[figures.len() / 2];
    let wake_max = wake.last().copied().unwrap_or_default();
    println!(
        "{:<22} {awake:>10.1} {asleep:>11.1} {:>8.1} {:>10.1} {:>11.1} {:>9.1} {wake_max:>10.1} {:>9.0}",
        subject.name,
        1024.0 / awake,
        1024.0 / asleep,
        p50(&warm),
        p50(&wake),
        p50(&cold),
    );
    Density {
        awake,
        asleep,
        wake: p50(&wake),
        cold: p50(&cold),
    }
}

/// Opens a tenant's session and calls once; how long both took.
async fn open(address: &str, tenant: usize, call: &str) -> (Connection, f64) {
    let mut connection = Connection::open(address).await;
    connection.path = format!("/t/tenant{tenant}/demo/mcp");
    let begun = Instant::now();
    connection.session = connection.post(INITIALIZE).await;
    connection.post(call).await;
    let took = begun.elapsed().as_secs_f64() * 1e3;
    connection.post(INITIALIZED).await;
    (connection, took)
}

async fn timed(session: &mut Connection, call: &str) -> f64 {
    let begun = Instant::now();
    session.post(call).await;
    begun.elapsed().as_secs_f64() * 1e3
}

pub(crate) async fn workers(admin: &str) -> Vec<Value> {
    let client = reqwest::Client::builder().no_proxy().build();
    let response = client.expect("a client").get(admin).send().await;
    let rows: Value = response.expect("answers").json().await.expect("JSON");
    rows.as_array().cloned().unwrap_or_default()
}

/// MiB that all workers hold now.
#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
async fn memory(admin: &str) -> f64 {
    let processes: Vec<u32> = workers(admin)
        .await
        .iter()
        .flat_map(|worker| worker["processes"].as_array().cloned().unwrap_or_default())
        .filter_map(|pid| u32::try_from(pid.as_u64()?).ok())
        .collect();
    let held = footprint(&processes).map_or(0, |found| found.held(SwapWeight::now()));
    held as f64 / f64::from(1 << 20)
}

async fn until_asleep(admin: &str, tenants: usize) {
    let deadline = Instant::now() + HIBERNATE_AFTER + Duration::from_secs(60);
    while Instant::now() < deadline && can_hibernate().is_ok() {
        let rows = workers(admin).await;
        let asleep = rows.iter().filter(|worker| worker["state"] == "hibernated");
        if asleep.count() >= tenants {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
