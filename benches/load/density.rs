//! How much memory a tenant takes, and how long its calls take, warm, asleep and cold.

use std::process::Command;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;
use stdiopool::worker::memory::{SwapWeight, can_hibernate, footprint};

use super::cold_start::millis_since;
use super::connection::{Connection, Endpoint};
use super::latency::{median, percentile};
use super::process::{is_on_path, mib};
use super::report::{Cell, Column, Section, Table};
use super::served::{Config, Served};
use super::{Result, at_least_one};

/// How long until a worker is put to sleep: long enough for a runtime's own tidying up before it.
const HIBERNATE_AFTER: Duration = Duration::from_secs(15);
/// Tenants that come when the others sleep.
const COLD: usize = 5;

#[derive(Args, Debug)]
pub(crate) struct DensityArgs {
    /// Tenants, each with a process tree of its own
    #[arg(long, default_value_t = 20, value_parser = at_least_one::<usize>)]
    pub(crate) tenants: usize,
    /// Only this one, such as "node everything"
    #[arg(long)]
    pub(crate) only: Option<String>,
    /// Seconds after they fell asleep at which their memory is measured once more: by then a runtime's own collector of garbage
    /// has brought some of it back, and it was paged out again (0: not)
    #[arg(long, default_value_t = 120)]
    pub(crate) later: u64,
}

/// A server as it is started, and a call to it.
struct Subject {
    argv: Vec<String>,
    call: &'static str,
}

pub(crate) fn run(args: &DensityArgs) -> Result<Section> {
    let mut section = Section::new(
        "density",
        format!(
            "{} tenants, each with a process tree of its own",
            args.tenants
        ),
    );
    section.note("memory is the proportional share of all processes of a tenant, and what zram takes of what is swapped out; wake: the first call to a tenant that sleeps; cold: session and first call of one whose server does not run");
    if let Err(why) = can_hibernate() {
        section.note(format!("nothing sleeps on this host: {why}"));
    }
    let mut figures = Table::new(
        "",
        [
            Column::text("server"),
            Column::number("awake", "MiB", 1),
            Column::number("asleep", "MiB", 1),
            Column::number("most later", "MiB", 1),
            Column::number("later", "MiB", 1),
            Column::number("tenants per GiB awake", "", 1),
            Column::number("tenants per GiB asleep", "", 1),
            Column::number("warm p50", "ms", 1),
            Column::number("wake p50", "ms", 1),
            Column::number("wake max", "ms", 1),
            Column::number("cold p50", "ms", 0),
        ],
    );
    let mut ratios = Table::new(
        "started directly and asleep",
        [
            Column::text("server"),
            Column::number("tenants, of as written and awake", "", 1),
            Column::number("tenants, of itself awake", "", 1),
            Column::number("wake, of a cold start", "", 2),
        ],
    );
    for package in [&EVERYTHING, &TIME] {
        let mut measured = Vec::new();
        for is_direct in [false, true] {
            let name = package.names[usize::from(is_direct)];
            if args.only.as_ref().is_some_and(|only| only != name) {
                continue;
            }
            if !is_on_path(package.runner) {
                section.note(format!("{name}: `{}` is not on PATH", package.runner));
                continue;
            }
            let found = package.subject(is_direct).and_then(|subject| {
                measure(&subject, args.tenants, Duration::from_secs(args.later))
            });
            match found {
                Ok(density) => {
                    figures.row(density.cells(name));
                    measured.push(density);
                }
                Err(error) => section.failures.push(format!("{name}: {error}")),
            }
        }
        if let [as_written, direct] = &measured[..]
            && let (Some(asleep), Some(wake)) = (direct.asleep, direct.wake_p50())
        {
            ratios.row([
                package.names[1].into(),
                (as_written.awake / asleep).into(),
                (direct.awake / asleep).into(),
                Cell::from(wake / median(&direct.cold)),
            ]);
        }
    }
    if figures.is_empty() && section.failures.is_empty() && args.only.is_some() {
        let names = [EVERYTHING.names, TIME.names].concat().join(", ");
        return Err(format!("nothing was measured; --only takes one of: {names}").into());
    }
    section.tables.extend([figures, ratios]);
    Ok(section)
}

/// A published server, as it is written in configs and started directly.
struct Package {
    names: [&'static str; 2],
    runner: &'static str,
    package: &'static str,
    call: &'static str,
}

const EVERYTHING: Package = Package {
    names: ["npx everything", "node everything"],
    runner: "npx",
    package: "@modelcontextprotocol/server-everything@2026.8.31",
    call: r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"message":"x"}}}"#,
};
const TIME: Package = Package {
    names: ["uvx time", "python time"],
    runner: "uvx",
    package: "mcp-server-time@2026.10.19",
    call: r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_current_time","arguments":{"timezone":"UTC"}}}"#,
};

impl Package {
    fn subject(&self, is_direct: bool) -> Result<Subject> {
        let from = format!("--package={}", self.package);
        let argv = match (self.runner, is_direct) {
            ("npx", false) => vec!["npx".to_owned(), "-y".to_owned(), self.package.to_owned()],
            ("npx", true) => {
                let find = "readlink -f $(command -v mcp-server-everything)";
                let script = said_by("npm", &["exec", "--yes", &from, "--", "sh", "-c", find])?;
                vec!["node".to_owned(), script]
            }
            (_, false) => vec!["uvx".to_owned(), self.package.to_owned()],
            (_, true) => {
                let show = "import sys; print(sys.executable)";
                let python = said_by("uvx", &["--from", self.package, "python", "-c", show])?;
                vec![python, "-m".to_owned(), "mcp_server_time".to_owned()]
            }
        };
        let call = self.call;
        Ok(Subject { argv, call })
    }
}

/// The last line that a command prints.
fn said_by(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().last().unwrap_or_default().trim();
    if !output.status.success() || line.is_empty() {
        let said = String::from_utf8_lossy(&output.stderr);
        let why = said.lines().last().unwrap_or_default();
        return Err(format!("{program} does not say where the server is: {why}").into());
    }
    Ok(line.to_owned())
}

/// MiB per tenant, and milliseconds.
struct Density {
    awake: f64,
    /// `None` where nothing sleeps.
    asleep: Option<f64>,
    /// The most that was held in the time after that, and what was at its end.
    later: Option<(f64, f64)>,
    warm: Vec<f64>,
    wake: Vec<f64>,
    cold: Vec<f64>,
}

impl Density {
    fn wake_p50(&self) -> Option<f64> {
        self.asleep.map(|_| median(&self.wake))
    }

    fn cells(&self, name: &str) -> [Cell; 11] {
        let mut wake = self.wake.clone();
        wake.sort_unstable_by(f64::total_cmp);
        [
            name.into(),
            self.awake.into(),
            self.asleep.into(),
            self.later.map(|(most, _)| most).into(),
            self.later.map(|(_, last)| last).into(),
            (1024.0 / self.awake).into(),
            self.asleep.map(|asleep| 1024.0 / asleep).into(),
            median(&self.warm).into(),
            self.wake_p50().into(),
            self.asleep.map(|_| percentile(&wake, 100.0)).into(),
            median(&self.cold).into(),
        ]
    }
}

#[tokio::main]
async fn measure(subject: &Subject, tenants: usize, later: Duration) -> Result<Density> {
    let (program, args) = subject.argv.split_first().ok_or("no command")?;
    // One download for all, as for the commands by hand: users of their own, as servers have under root, would not come to it.
    let home = std::env::var("HOME")?;
    let caches = format!(
        "env = {{ npm_config_cache = \"{home}/.npm\", UV_CACHE_DIR = \"{home}/.cache/uv\" }}"
    );
    let config = Config {
        pool: format!(
            "max_workers = {}\nmax_workers_per_tenant = 1\nmax_memory = \"95%\"\nhibernate_after = \"{}s\"\n",
            tenants + COLD,
            HIBERNATE_AFTER.as_secs()
        ),
        server: format!(
            "command = {program:?}\nargs = {args:?}\nstart_timeout = \"5m\"\nlaunch = \"as-is\"\nsandbox = \"none\"\n{caches}\n"
        ),
        tenants: 0,
    };
    let served = Served::start(&config)?;
    let mut sessions = Vec::new();
    for tenant in 0..tenants {
        sessions.push(open(&served.open_endpoint(tenant), subject.call).await?.0);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let awake = memory(&served.workers).await? / tenants as f64;
    let (mut asleep, mut afterwards) = (None, None);
    if can_hibernate().is_ok() {
        until_asleep(&served.workers, tenants).await?;
        asleep = Some(memory(&served.workers).await? / tenants as f64);
        if !later.is_zero() {
            let (most, last) = watched(&served.workers, later).await?;
            afterwards = Some((most / tenants as f64, last / tenants as f64));
        }
    }
    let (mut wake, mut warm, mut cold) = (Vec::new(), Vec::new(), Vec::new());
    for session in &mut sessions {
        // An idle connection may have been closed: that is not to be measured.
        session.reopen().await?;
        wake.push(timed(session, subject.call).await?);
        warm.push(timed(session, subject.call).await?);
    }
    for tenant in tenants..tenants + COLD {
        let (session, took) = open(&served.open_endpoint(tenant), subject.call).await?;
        sessions.push(session);
        cold.push(took);
    }
    Ok(Density {
        awake,
        asleep,
        later: afterwards,
        warm,
        wake,
        cold,
    })
}

/// Opens a tenant's session and calls once; how long both took.
async fn open(endpoint: &Endpoint, call: &str) -> Result<(Connection, f64)> {
    let mut connection = Connection::open(endpoint).await?;
    let begun = Instant::now();
    connection.initialize().await?;
    connection.request(call).await?;
    let took = millis_since(begun);
    connection.initialized().await?;
    Ok((connection, took))
}

async fn timed(session: &mut Connection, call: &str) -> Result<f64> {
    let begun = Instant::now();
    session.request(call).await?;
    Ok(millis_since(begun))
}

/// What the admin API says of the workers.
///
/// # Errors
/// If it does not answer with a list.
pub(crate) async fn workers(admin: &str) -> Result<Vec<Value>> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    Ok(client.get(admin).send().await?.json().await?)
}

/// The processes of those workers, the first one of each first.
pub(crate) fn processes(workers: &[Value]) -> Vec<u32> {
    let of_one = |worker: &Value| worker["processes"].as_array().cloned();
    let pids = workers.iter().filter_map(of_one).flatten();
    pids.filter_map(|pid| u32::try_from(pid.as_u64()?).ok())
        .collect()
}

/// MiB that those processes hold now.
pub(crate) fn held(pids: &[u32]) -> Result<f64> {
    let found = footprint(pids).ok_or("the workers' memory cannot be read")?;
    Ok(mib(found.held(SwapWeight::now())))
}

/// MiB that all workers hold now.
async fn memory(admin: &str) -> Result<f64> {
    held(&processes(&workers(admin).await?))
}

/// The most MiB that all workers hold within that time, and what they hold at its end.
async fn watched(admin: &str, time: Duration) -> Result<(f64, f64)> {
    let end = Instant::now() + time;
    let (mut most, mut last) = (0.0_f64, 0.0);
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_secs(1)).await;
        last = memory(admin).await?;
        most = most.max(last);
    }
    Ok((most, last))
}

async fn until_asleep(admin: &str, tenants: usize) -> Result<()> {
    let deadline = Instant::now() + HIBERNATE_AFTER + Duration::from_secs(60);
    while Instant::now() < deadline {
        let rows = workers(admin).await?;
        let asleep = rows.iter().filter(|worker| worker["state"] == "hibernated");
        if asleep.count() >= tenants {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Err("not all workers fell asleep".into())
}
