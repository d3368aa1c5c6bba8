//! What the direct start of packages brings: the same package started by five methods, round by round.

use std::time::{Duration, Instant};

use clap::Args;
use tokio::time::timeout;

use super::cold_start::{ask, millis_since};
use super::connection::{Connection, Endpoint};
use super::density::{held, processes, workers};
use super::first_calls;
use super::latency::median;
use super::process::{is_on_path, tree_of};
use super::report::{Cell, Column, Section, Table};
use super::sandbox_cost;
use super::served::{Config, Served};
use super::{Result, at_least_one};

/// How long an install, or the end of a worker, may take.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Args, Debug)]
pub(crate) struct LaunchArgs {
    /// How often each is started
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: u32,
    /// Only lines with that word
    #[arg(long, default_value = "")]
    pub(crate) only: String,
    /// What each sandbox costs instead: a start, a call, an idle worker
    #[arg(long)]
    pub(crate) sandbox: bool,
    /// First calls of so many tenants at once instead, with ordinary and with primed starts
    #[arg(long, value_name = "TENANTS", conflicts_with = "sandbox", value_parser = at_least_one::<usize>)]
    pub(crate) at_once: Option<usize>,
}

/// Command lines as people write them; the packages are in the caches of npm and uv, or will be.
pub(crate) const LINES: [&[&str]; 5] = [
    &[
        "npx",
        "-y",
        "@modelcontextprotocol/server-everything@2026.8.31",
    ],
    &[
        "npx",
        "-y",
        "@modelcontextprotocol/server-filesystem@2026.8.31",
        "/tmp",
    ],
    &["uvx", "mcp-server-time@2026.10.19"],
    &["uvx", "mcp-server-git@2026.10.19"],
    &["uvx", "mcp-server-fetch@2026.10.24"],
];

/// A method to start a line, and what each round saw.
struct LaunchMethod {
    name: &'static str,
    millis: Vec<f64>,
    processes: usize,
    mib: f64,
}

/// Starts every line by each of five methods, one after the other, round by round.
///
/// # Errors
/// If no line has the word `only` in it.
pub(crate) fn run(args: &LaunchArgs) -> Result<Section> {
    if args.sandbox {
        return sandbox_cost::run(args.count, &args.only);
    }
    if let Some(tenants) = args.at_once {
        return first_calls::run(tenants, &args.only);
    }
    let mut section = Section::new(
        "launch",
        format!(
            "packages started as written and directly, {} times each",
            args.count
        ),
    );
    section.note("from nothing until `initialize` is answered, packages already installed; memory is the proportional share of the process tree");
    let mut table = Table::new(
        "",
        [
            Column::text("line"),
            Column::text("started"),
            Column::number("p50", "ms", 0),
            Column::number("p50, of the entry point", "", 2),
            Column::number("processes", "", 0),
            Column::number("memory", "MiB", 0),
        ],
    );
    let is_meant = |line: &&[&str]| line.iter().any(|word| word.contains(&args.only));
    let lines: Vec<_> = LINES.into_iter().filter(is_meant).collect();
    if lines.is_empty() {
        return Err(format!("no line has `{}` in it", args.only).into());
    }
    for line in lines {
        let name = line[..line.len().min(3)].join(" ");
        if !is_on_path(line[0]) {
            section.note(format!("`{name}`: `{}` is not on PATH", line[0]));
            continue;
        }
        match compare(line, args.count) {
            Ok(methods) => {
                let floor = median(&methods[1].millis);
                for method in &methods {
                    let p50 = median(&method.millis);
                    let row: [Cell; 6] = [
                        name.clone().into(),
                        method.name.into(),
                        p50.into(),
                        (p50 / floor).into(),
                        method.processes.into(),
                        method.mib.into(),
                    ];
                    table.row(row);
                }
            }
            Err(error) => section.failures.push(format!("`{name}`: {error}")),
        }
    }
    section.tables.push(table);
    Ok(section)
}

#[tokio::main]
async fn compare(line: &[&str], rounds: u32) -> Result<Vec<LaunchMethod>> {
    let names = [
        "as written, by hand",
        "its entry point, by hand",
        "stdiopool, launch = \"as-is\"",
        "stdiopool, launch = \"auto\"",
        "stdiopool, prime = \"auto\"",
    ];
    let mut methods = names.map(|name| LaunchMethod {
        name,
        millis: vec![],
        processes: 0,
        mib: 0.0,
    });
    let as_is = Pool::serve(line, "as-is", "off")?;
    let auto = Pool::serve(line, "auto", "off")?;
    // Fills the caches of its tenant.
    as_is.until_installed().await?;
    // Installs the package, and tells what its entry point is.
    auto.until_installed().await?;
    let (session, _) = auto.open().await?;
    let first = auto.pids().await?.first().copied();
    let entry = entry_point(first.ok_or("no worker is listed")?)?;
    session.close().await?;
    let primed = Pool::serve(line, "auto", "auto")?;
    primed.until_installed().await?;
    let written: Vec<String> = line.iter().map(|&word| word.to_owned()).collect();
    for _ in 0..rounds {
        // The process for the next start is not to be made beside measured ones.
        primed.until_primed().await?;
        by_hand(&written, &mut methods[0])?;
        by_hand(&entry, &mut methods[1])?;
        let pools = [&as_is, &auto, &primed];
        for (pool, method) in pools.into_iter().zip(&mut methods[2..]) {
            let (session, millis) = pool.open().await?;
            method.millis.push(millis);
            method.note(&pool.pids().await?)?;
            session.close().await?;
        }
    }
    Ok(methods.into())
}

impl LaunchMethod {
    fn note(&mut self, pids: &[u32]) -> Result<()> {
        self.processes = self.processes.max(pids.len());
        self.mib = self.mib.max(held(pids)?);
        Ok(())
    }
}

/// A stdiopool that serves a line.
pub(crate) struct Pool(Served);

struct Session(Connection);

impl Session {
    async fn close(mut self) -> Result<()> {
        self.0.delete().await
    }
}

impl Pool {
    /// Starts a process for every session of its one tenant.
    fn serve(line: &[&str], launch: &str, prime: &str) -> Result<Self> {
        let config = Config {
            // What it said of itself must not be answered from memory.
            pool: "catalog_age = \"never\"\n".to_owned(),
            server: "share = \"session\"\n".to_owned(),
            tenants: 1,
        };
        Self::serve_with(line, launch, prime, config)
    }

    /// Serves the line as that config says.
    ///
    /// # Errors
    /// If nothing listens.
    pub(crate) fn serve_with(
        line: &[&str],
        launch: &str,
        prime: &str,
        mut config: Config,
    ) -> Result<Self> {
        let (program, args) = line.split_first().ok_or("no command")?;
        config.server.push_str(&format!(
            "command = {program:?}\nargs = {args:?}\nlaunch = {launch:?}\nprime = {prime:?}\n"
        ));
        Ok(Self(Served::start(&config)?))
    }

    /// Where a tenant finds the server.
    pub(crate) fn endpoint(&self, tenant: usize) -> Endpoint {
        self.0.endpoint(tenant)
    }

    /// A client that waits on an install may be told to come again: it does.
    pub(crate) async fn until_installed(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let mut connection = Connection::open(&self.0.endpoint(0)).await?;
            match connection.initialize().await {
                Ok(()) => return connection.delete().await,
                Err(error) if begun.elapsed() > PATIENCE => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
    }

    /// The template, or the process that waits, has imported all it will.
    pub(crate) async fn until_primed(&self) -> Result<()> {
        let admin = self.0.workers.replace("/workers", "/templates");
        let begun = Instant::now();
        loop {
            let told: serde_json::Value = reqwest::Client::builder()
                .no_proxy()
                .build()?
                .get(&admin)
                .send()
                .await?
                .json()
                .await?;
            if told["templates"][0]["state"] == "ready" {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("no template becomes ready: {told}").into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// A session whose server has answered, and how long that took.
    async fn open(&self) -> Result<(Session, f64)> {
        // The one before may still be ending.
        let gone = async {
            while !workers(&self.0.workers).await?.is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Result::<()>::Ok(())
        };
        timeout(PATIENCE, gone)
            .await
            .map_err(|_| "a worker does not end with its session")??;
        let mut connection = Connection::open(&self.0.endpoint(0)).await?;
        let begun = Instant::now();
        connection.initialize().await?;
        Ok((Session(connection), millis_since(begun)))
    }

    /// The processes of its workers, the first one first.
    async fn pids(&self) -> Result<Vec<u32>> {
        Ok(processes(&workers(&self.0.workers).await?))
    }
}

/// What runs as that process, without the interpreter that the script's first line names.
fn entry_point(pid: u32) -> Result<Vec<String>> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline"))?;
    let words = line.split_terminator('\0').map(ToOwned::to_owned);
    Ok(words.skip(1).collect())
}

/// Starts it and asks it; notes how long that took and what it is then.
fn by_hand(argv: &[String], method: &mut LaunchMethod) -> Result<()> {
    let begun = Instant::now();
    let (mut server, pipes) = ask(argv)?;
    method.millis.push(millis_since(begun));
    method.note(&tree_of(server.id())?)?;
    // At the end of its input a server ends, and with it what it started.
    drop(pipes);
    let _status = server.0.wait();
    Ok(())
}
