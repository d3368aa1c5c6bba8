//! Clients that compare every answer with what only their own tenant's process can say, while workers, guardian and supervisor
//! are killed, limits are changed, and a neighbour takes of the host what it gets.
//!
//! Counts what was right, wrong, lost though it was promised (docs/guarantees.md), and left over; `--totals` adds that up over
//! runs. Fails at anything but right answers.

mod client;
mod config;
mod disturber;
mod keeper;
mod leftovers;
mod supervisor;
mod tally;

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use tokio::time::sleep;

use self::client::{Shared, Who};
use self::config::{CALLED, FIRST_TENANT, Setting};
use self::disturber::Disturber;
use self::supervisor::Supervisor;
use self::tally::Tally;
use super::connection::{Endpoint, Era};
use super::process::{Process, stdiopool};
use super::report::{Cell, Column, Section, Table};
use super::served::token;
use super::{Result, at_least_one};

/// How long what was used may take to be given back when nobody calls any more: idle workers, and sessions that were abandoned.
const SETTLES: Duration = Duration::from_secs(420);

#[derive(Args, Debug)]
pub(crate) struct SoakArgs {
    /// How long
    #[arg(long, default_value_t = 5, value_parser = at_least_one::<u64>)]
    minutes: u64,
    /// Clients; two of three have a session that must last, the third has none
    #[arg(long, default_value_t = 48, value_parser = at_least_one::<usize>)]
    clients: usize,
    /// Tenants they belong to
    #[arg(long, default_value_t = 12, value_parser = at_least_one::<usize>)]
    tenants: usize,
    /// Decides what happens when
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Without a neighbour that takes what it gets
    #[arg(long)]
    no_noise: bool,
    /// Adds the counts of this run to those of earlier ones, a line of JSON each, and tells their sum
    #[arg(long, value_name = "FILE")]
    totals: Option<PathBuf>,
}

#[tokio::main]
pub(crate) async fn run(args: &SoakArgs) -> Result<Section> {
    let dir = open_folder()?;
    let mut random = SmallRng::seed_from_u64(args.seed);
    let [front, admin] = ports()?;
    let mut setting = Setting {
        front,
        admin,
        tenants: args.tenants,
        mark: format!(
            "soak-{}-{:016x}",
            std::process::id(),
            random.random::<u64>()
        ),
        has_strict: true,
    };
    config::write_secrets(dir.path(), &setting)?;
    config::write(dir.path(), &setting, &mut random)?;
    setting.has_strict = passes_check(dir.path())?;
    config::write(dir.path(), &setting, &mut random)?;
    let shared = Arc::new(Shared::default());
    let supervisor = Supervisor::start(dir.path(), &setting)?;
    let clients: Vec<_> = (0..args.clients)
        .map(|number| {
            tokio::spawn(client::run(
                who(number, args.tenants, front),
                Arc::clone(&shared),
            ))
        })
        .collect();
    let address = format!("127.0.0.1:{front}");
    let keeper = keeper::run(
        address.clone(),
        args.tenants,
        args.seed,
        Arc::clone(&shared),
    );
    let keeper = tokio::spawn(keeper);
    let noise = (!args.no_noise).then(|| {
        let noise = disturber::noise(address, args.seed, Arc::clone(&shared));
        tokio::spawn(noise)
    });
    let begun = Instant::now();
    let end = begun + Duration::from_secs(args.minutes * 60);
    let mut disturber = Disturber::new(supervisor, &setting, random, Arc::clone(&shared));
    while Instant::now() < end {
        disturber.disturb().await?;
    }
    let supervisor = disturber.into_supervisor();
    shared.is_over.store(true, Ordering::SeqCst);
    for client in clients {
        client.await?;
    }
    keeper.await?;
    if let Some(noise) = noise {
        noise.await??;
    }
    let took = begun.elapsed();
    let memory = settled(&supervisor, &shared).await?;
    ended(supervisor, &shared).await?;
    let mut tally = shared.tally.lock().clone();
    tally.runs = 1;
    tally.seconds = took.as_secs();
    section(args, &setting, &tally, memory)
}

/// A folder that users of tenants pass, for what servers are to reach.
fn open_folder() -> Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let mut builder = tempfile::Builder::new();
    builder.permissions(std::fs::Permissions::from_mode(0o755));
    Ok(builder.tempdir()?)
}

fn ports() -> Result<[u16; 2]> {
    let listeners = [
        TcpListener::bind("127.0.0.1:0")?,
        TcpListener::bind("127.0.0.1:0")?,
    ];
    let [front, admin] = listeners.each_ref().map(TcpListener::local_addr);
    Ok([front?.port(), admin?.port()])
}

/// Whether this host can serve that config: strict servers above all.
fn passes_check(dir: &std::path::Path) -> Result<bool> {
    let mut command = stdiopool();
    command.arg("check").current_dir(dir);
    command.stdout(std::process::Stdio::null());
    command.stderr(std::process::Stdio::null());
    let mut check = Process::start(&mut command)?;
    Ok(check.0.wait()?.success())
}

/// The client of that number: tenants in turn, both servers, and of three clients two in sessions.
fn who(number: usize, tenants: usize, front: u16) -> Who {
    let tenant = FIRST_TENANT + number % tenants;
    let server = CALLED[number / tenants % CALLED.len()];
    let endpoint = Endpoint {
        address: format!("127.0.0.1:{front}"),
        path: format!("/{server}/mcp"),
        token: Some(token(tenant)),
    };
    let era = match number % 3 {
        2 => Era::Stateless,
        _ => Era::Initialize,
    };
    Who {
        number,
        endpoint,
        identity: config::identity(tenant),
        era,
    }
}

/// Waits until the supervisor holds no more than at its begin, or has had the time for it; its memory then, in bytes.
async fn settled(supervisor: &Supervisor, shared: &Shared) -> Result<u64> {
    let deadline = Instant::now() + SETTLES;
    loop {
        let held = supervisor.held()?;
        let mut over = held.over(&supervisor.at_begin);
        let workers = supervisor.workers().await;
        let working: Vec<_> = workers
            .iter()
            .filter(|worker| worker["pid"].is_number())
            .collect();
        if !working.is_empty() {
            over.push(format!("{} workers that nobody uses", working.len()));
        }
        if over.is_empty() || Instant::now() >= deadline {
            let mut tally = shared.tally.lock();
            tally.leaked += over.len() as u64;
            for what in over {
                tally.fault(format!(
                    "{} s after the last call, {what}",
                    SETTLES.as_secs()
                ));
            }
            return Ok(held.memory);
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Ends it, and looks at what is left.
async fn ended(supervisor: Supervisor, shared: &Shared) -> Result<()> {
    let left = supervisor.end().await?;
    let mut tally = shared.tally.lock();
    tally.leaked += left.len() as u64;
    for what in left {
        tally.fault(format!("left over: {what}"));
    }
    Ok(())
}

fn section(args: &SoakArgs, setting: &Setting, tally: &Tally, memory: u64) -> Result<Section> {
    let mut section = Section::new(
        "soak",
        format!(
            "{} clients of {} tenants for {} min, seed {}",
            args.clients, args.tenants, args.minutes, args.seed
        ),
    );
    section.note("each answer has the text of its call and the secret of its caller's tenant, which the process was started with");
    if !setting.has_strict {
        section.note("this host has no strict sandbox: both servers are standard");
    }
    section.note(format!("done: {}", Tally::listed(&tally.disturbances)));
    section.note(format!(
        "calls made again, by reason: {}",
        Tally::listed(&tally.told)
    ));
    section.note(format!("the supervisor at the end: {} MiB", memory >> 20));
    let columns = [
        Column::text("what"),
        Column::number("runs", "", 0),
        Column::number("time", "min", 1),
        Column::number("right", "", 0),
        Column::number("wrong", "", 0),
        Column::number("lost", "", 0),
        Column::number("leaked", "", 0),
        Column::number("made again", "", 0),
        Column::number("cut off with the supervisor", "", 0),
        Column::number("stored configs found", "", 0),
    ];
    let mut table = Table::new("", columns);
    table.row(row("this run", tally));
    if let Some(path) = &args.totals {
        let line = serde_json::to_string(tally)?;
        let earlier = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error.into()),
        };
        let text = format!("{earlier}{line}\n");
        let sum = Tally::of_lines(&text)?;
        std::fs::write(path, text)?;
        table.row(row("all runs", &sum));
    }
    section.tables.push(table);
    section.failures.extend(tally.faults.iter().cloned());
    let faults = tally.wrong + tally.lost + tally.leaked;
    if faults > 0 {
        section.failures.push(format!("{faults} faults"));
    }
    Ok(section)
}

fn row(what: &str, tally: &Tally) -> Vec<Cell> {
    let made_again = tally.told.values().sum::<u64>();
    let counts = [
        tally.right,
        tally.wrong,
        tally.lost,
        tally.leaked,
        made_again,
        tally.cut_off,
        tally.configs_kept,
    ];
    let begin = [
        what.into(),
        Cell::from(tally.runs as f64),
        (tally.seconds as f64 / 60.0).into(),
    ];
    let counts = counts.map(|count| Cell::from(count as f64));
    begin.into_iter().chain(counts).collect()
}

/// A list of the admin API; empty while nobody answers.
async fn listed(client: &reqwest::Client, url: &str) -> Vec<Value> {
    let Ok(response) = client.get(url).send().await else {
        return vec![];
    };
    let rows: Value = response.json().await.unwrap_or_default();
    rows.as_array().cloned().unwrap_or_default()
}
