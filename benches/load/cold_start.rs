//! How long a worker takes from nothing until its `initialize` is answered.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use tokio::time::timeout;

use super::Result;
use super::connection::{Connection, INITIALIZE};
use super::density::workers;
use super::latency::{median, percentile};
use super::process::{Process, is_on_path, stdiopool};
use super::report::{Column, Section, Table};
use super::served::{Config, Served};

/// How long spares may take to be ready.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Args, Debug)]
pub(crate) struct StartsArgs {
    /// How often it is started
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: u32,
    /// What is started; the demo server by default
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

/// Starts the command directly, then through stdiopool.
///
/// # Errors
/// If the command cannot be run or does not answer.
pub(crate) fn run(args: &StartsArgs) -> Result<Section> {
    let demo = ["stdiopool".to_owned(), "demo-server".to_owned()];
    let command = if args.command.is_empty() {
        &demo[..]
    } else {
        &args.command
    };
    if command[0] != "stdiopool" && !command[0].contains('/') && !is_on_path(&command[0]) {
        return Err(format!("`{}` is not on PATH", command[0]).into());
    }
    let mut section = Section::new(
        "starts",
        format!(
            "{} starts of `{}`, one after the other",
            args.count,
            command.join(" ")
        ),
    );
    section.note("from nothing until `initialize` is answered: by hand; as a new session of a server with share = \"session\" that nothing is remembered of; the same with a spare process ready (min_idle)");
    let mut table = Table::new(
        "",
        [
            Column::text("started"),
            Column::number("p50", "ms", 1),
            Column::number("max", "ms", 1),
            Column::number("p50, of direct", "", 3),
        ],
    );
    let direct: Result<Vec<f64>> = (0..args.count).map(|_| directly(command)).collect();
    let direct = direct?;
    let floor = median(&direct);
    let mut add = |name: &str, mut millis: Vec<f64>| {
        millis.sort_unstable_by(f64::total_cmp);
        let (p50, max) = (median(&millis), percentile(&millis, 100.0));
        table.row([name.into(), p50.into(), max.into(), (p50 / floor).into()]);
    };
    add("direct", direct);
    for (name, spares) in [("stdiopool", 0), ("stdiopool, a spare", 2)] {
        match through(command, args.count, spares) {
            Ok(millis) => add(name, millis),
            Err(error) => section.failures.push(format!("{name}: {error}")),
        }
    }
    section.tables.push(table);
    Ok(section)
}

/// Milliseconds until it has answered.
fn directly(command: &[String]) -> Result<f64> {
    let begun = Instant::now();
    let (mut server, pipes) = ask(command)?;
    let took = millis_since(begun);
    // At the end of its input a server ends, and with it what it started.
    drop(pipes);
    let _status = server.0.wait();
    Ok(took)
}

/// A server's stdin and stdout.
pub(crate) type Pipes = (ChildStdin, BufReader<ChildStdout>);

/// Starts a server, sends `initialize` and waits for a line; it ends when its pipes are dropped.
pub(crate) fn ask(command: &[String]) -> Result<(Process, Pipes)> {
    let (program, args) = command.split_first().ok_or("no command")?;
    let mut command = if program == "stdiopool" {
        stdiopool()
    } else {
        Command::new(program)
    };
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut server = Process::start(&mut command)?;
    let mut stdin = server.0.stdin.take().ok_or("its stdin is not piped")?;
    let stdout = server.0.stdout.take().ok_or("its stdout is not piped")?;
    let mut stdout = BufReader::new(stdout);
    writeln!(stdin, "{INITIALIZE}")?;
    if stdout.read_line(&mut String::new())? == 0 {
        return Err(format!("`{program}` ended without an answer").into());
    }
    Ok((server, (stdin, stdout)))
}

pub(crate) fn millis_since(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}

/// Waits until so many spares are ready.
async fn until_spares(admin: &str, count: usize) -> Result<()> {
    let ready = async {
        loop {
            let rows = workers(admin).await?;
            if rows.iter().filter(|row| row["state"] == "spare").count() == count {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = timeout(PATIENCE, ready).await;
    waited.map_err(|_| format!("{count} spares were not ready in {} s", PATIENCE.as_secs()))?
}

/// A process for every session: each `initialize` starts one. Milliseconds of each.
#[tokio::main]
async fn through(command: &[String], starts: u32, spares: usize) -> Result<Vec<f64>> {
    let (program, args) = command.split_first().ok_or("no command")?;
    let config = Config {
        // What it said of itself must not be answered from memory.
        pool: "catalog_age = \"never\"\n".to_owned(),
        server: format!(
            "command = {program:?}\nargs = {args:?}\nshare = \"session\"\nmin_idle = {spares}\n"
        ),
        tenants: 1,
    };
    let served = Served::start(&config)?;
    let mut took = Vec::new();
    for _ in 0..starts {
        until_spares(&served.workers, spares).await?;
        let mut connection = Connection::open(&served.endpoint(0)).await?;
        let begun = Instant::now();
        connection.initialize().await?;
        took.push(millis_since(begun));
        connection.delete().await?;
    }
    Ok(took)
}
