//! Whether a call costs more the more sessions are open, and the more workers there are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::task::JoinSet;

use super::connection::{Call, Connection, Endpoint};
use super::http_load::{Caller, Load, all};
use super::latency::Calls;
use super::process::Cpu;
use super::report::{Cell, Column, Section, Table};
use super::served::{Config, DEMO, Served};
use super::{Result, at_least_one};

/// Connections that open sessions.
const OPENERS: usize = 16;
/// How long it is watched while nobody calls.
const IDLE: Duration = Duration::from_secs(3);
/// How long opening all of them may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// Of fewer, growth of memory says little of one.
const ENOUGH: usize = 50;

#[derive(Args, Debug)]
pub(crate) struct ScaleArgs {
    /// Open sessions on one worker; may be repeated
    #[arg(long, default_values_t = [10_usize, 1_000, 10_000], value_parser = at_least_one::<usize>)]
    pub(crate) sessions: Vec<usize>,
    /// Workers, a session on each; may be repeated
    #[arg(long, default_values_t = [1_usize, 10, 100, 1_000], value_parser = at_least_one::<usize>)]
    pub(crate) workers: Vec<usize>,
    /// How many call at once, whatever there is
    #[arg(long, default_value_t = 16, value_parser = at_least_one::<usize>)]
    pub(crate) callers: usize,
    /// How long each measurement takes, in turns of a second
    #[arg(long, default_value_t = 4, value_parser = at_least_one::<u64>)]
    pub(crate) seconds: u64,
}

/// A stdiopool with so many of what is counted.
struct Size {
    count: usize,
    served: Served,
    load: Load,
    calls: Calls,
    cpu: Cpu,
    /// Seconds of CPU time a second while nobody calls.
    idle: f64,
    /// KiB of stdiopool's memory for each beyond the first.
    kib: Option<f64>,
}

/// What there is many of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Many {
    Sessions,
    Workers,
}

#[tokio::main]
pub(crate) async fn run(args: &ScaleArgs) -> Result<Section> {
    let mut section = Section::new(
        "scale",
        format!(
            "{} connections call, {} s each, whatever else is open",
            args.callers, args.seconds
        ),
    );
    section.note("CPU and memory are stdiopool's own, without its workers; memory is what its resident memory grew by for each session or worker beyond the first");
    if cfg!(debug_assertions) {
        section.note("a debug build checks the state of the whole pool after each event, which costs more the more there is");
    }
    section.note(
        "with many workers each call wakes a process whose caches are cold: its part of p50 is no cost of stdiopool's",
    );
    for (many, counts) in [
        (Many::Sessions, &args.sessions),
        (Many::Workers, &args.workers),
    ] {
        let table = measure(many, counts, args, &mut section.failures).await;
        section.tables.push(table);
    }
    Ok(section)
}

/// All sizes at once, by turns, so that a host which becomes slower does so for all of them.
async fn measure(
    many: Many,
    counts: &[usize],
    args: &ScaleArgs,
    failures: &mut Vec<String>,
) -> Table {
    let (title, of_each, kib) = match many {
        Many::Sessions => ("sessions on one worker", "sessions", "memory per session"),
        Many::Workers => (
            "workers, a session on each",
            "workers",
            "memory per worker and its session",
        ),
    };
    let mut table = Table::new(
        title,
        [
            Column::number(of_each, "", 0),
            Column::number("req/s", "", 0),
            Column::number("p50", "µs", 0),
            Column::number("p99", "µs", 0),
            Column::number("CPU per call", "µs", 1),
            Column::number("CPU while idle", "ms/s", 1),
            Column::number(kib, "KiB", 1),
            Column::number("p50, of the first", "", 2),
            Column::number("CPU, of the first", "", 2),
        ],
    );
    let mut sizes = Vec::new();
    for &count in counts {
        match open(many, count, args.callers).await {
            Ok(size) => sizes.push(size),
            Err(error) => failures.push(format!("{count} {of_each}: {error}")),
        }
    }
    if let Err(error) = watch_idle(&mut sizes).await {
        failures.push(format!("idle {of_each}: {error}"));
    }
    for _ in 0..args.seconds.max(1) {
        let mut working = Vec::new();
        for mut size in sizes {
            match size.turn().await {
                Ok(()) => working.push(size),
                Err(error) => failures.push(format!("{} {of_each}: {error}", size.count)),
            }
        }
        sizes = working;
    }
    let mut first = None;
    for size in &sizes {
        let [p50, p99] = size.calls.micros([50.0, 99.0]);
        let cpu = size.calls.per_call(size.cpu.own * 1e6);
        let (first_p50, first_cpu) = *first.get_or_insert((p50, cpu));
        let row: [Cell; 9] = [
            size.count.into(),
            size.calls.rate().into(),
            p50.into(),
            p99.into(),
            cpu.into(),
            (size.idle * 1e3).into(),
            size.kib.into(),
            (p50 / first_p50).into(),
            (cpu / first_cpu).into(),
        ];
        table.row(row);
    }
    table
}

/// What all of them use while nobody calls: it is part of what calls seem to cost.
async fn watch_idle(sizes: &mut [Size]) -> Result<()> {
    let begun = Instant::now();
    let cpu = |size: &Size| Cpu::of(size.served.process.id());
    let before: Result<Vec<_>> = sizes.iter().map(cpu).collect();
    let before = before?;
    tokio::time::sleep(IDLE).await;
    for (size, before) in sizes.iter_mut().zip(before) {
        let mut used = Cpu::default();
        used.add(before, Cpu::of(size.served.process.id())?);
        size.idle = used.own / begun.elapsed().as_secs_f64();
    }
    Ok(())
}

/// Opens so many, each called once, and the connections that call.
async fn open(many: Many, count: usize, callers: usize) -> Result<Size> {
    let config = match many {
        Many::Sessions => Config {
            pool: format!(
                "hibernate_after = \"never\"\nmax_sessions_per_tenant = {}\n",
                count + callers
            ),
            server: format!("{DEMO}max_in_flight = {}\n", callers.max(32)),
            tenants: 1,
        },
        Many::Workers => Config {
            pool: format!(
                "hibernate_after = \"never\"\nidle_timeout = \"1h\"\nmax_memory = \"90%\"\nmax_starting = 4\nqueue_timeout = \"2m\"\nmax_workers = {}\nmax_workers_per_tenant = {}\n",
                count + OPENERS,
                count + OPENERS
            ),
            server: format!("{DEMO}share = \"session\"\n"),
            tenants: 1,
        },
    };
    let served = Served::start(&config)?;
    let (endpoint, call) = (served.endpoint(0), Call::echo(32));
    let mut sessions = open_sessions(&endpoint, &call, 1).await?;
    let before = served.process.memory();
    sessions.extend(open_sessions(&endpoint, &call, count.saturating_sub(1)).await?);
    let grown = served.process.memory().saturating_sub(before) as f64 / 1024.0;
    let mut calling = Vec::new();
    for at in 0..callers {
        let own = turns(&sessions, at, callers, many);
        let connection = Connection::open(&endpoint).await?;
        calling.push(Caller::new(connection, own));
    }
    let mut load = Load::new(calling, call);
    // Caches of every size fill before the clock starts.
    load.round(Duration::from_millis(300)).await?;
    Ok(Size {
        count,
        served,
        load,
        calls: Calls::default(),
        cpu: Cpu::default(),
        idle: 0.0,
        kib: (count >= ENOUGH).then(|| grown / (count - 1) as f64),
    })
}

/// The sessions of one caller. Of many sessions each calls in one, far from the others'; many
/// workers are called by turns, each by one caller as long as there are enough of them.
fn turns(sessions: &[Arc<str>], caller: usize, callers: usize, many: Many) -> Vec<Arc<str>> {
    let own: Vec<_> = match many {
        Many::Sessions => vec![caller * sessions.len() / callers],
        Many::Workers => (caller..sessions.len()).step_by(callers).collect(),
    };
    let own = if own.is_empty() {
        vec![caller % sessions.len()]
    } else {
        own
    };
    own.into_iter()
        .map(|session| Arc::clone(&sessions[session]))
        .collect()
}

/// Opens sessions and calls once in each, some at a time.
async fn open_sessions(
    endpoint: &Endpoint,
    call: &Arc<Call>,
    count: usize,
) -> Result<Vec<Arc<str>>> {
    let mut opening = JoinSet::new();
    for opener in 0..OPENERS {
        let share = (opener..count).step_by(OPENERS).count();
        if share == 0 {
            continue;
        }
        let (endpoint, call) = (endpoint.clone(), Arc::clone(call));
        opening.spawn(async move {
            let mut connection = Connection::open(&endpoint).await?;
            let mut ids = Vec::new();
            for id in 0..share {
                connection.initialize().await?;
                connection.initialized().await?;
                connection.call(&call, id).await?;
                ids.push(connection.session.clone().ok_or("no session id")?);
            }
            Ok(ids)
        });
    }
    Ok(all(opening, PATIENCE).await?.concat())
}

impl Size {
    async fn turn(&mut self) -> Result<()> {
        let pid = self.served.process.id();
        let before = Cpu::of(pid)?;
        let round = self.load.round(Duration::from_secs(1)).await?;
        self.cpu.add(before, Cpu::of(pid)?);
        self.calls.add(round);
        Ok(())
    }
}
