//! How fast and how dense stdiopool is, beside floors and other bridges measured in the same run.
//!
//! - `all` (also with no subcommand): everything below but `sessions`, `soak` and `hostile`, in one report; in
//!   less than 10 minutes on two CPUs, with `--quick` in about one.
//! - `load`: how many tool calls a second go through it, how long they take, what they cost. Floors:
//!   `raw pipe`, the same demo server spoken to over its own stdin and stdout; `bare http`, an HTTP
//!   server on the same library that answers every request with a constant. Closed loop: every
//!   session has a connection of its own and one call at a time under way. Other bridges are
//!   measured beside them with `--bridge`.
//! - `large`: results of 10 MB: how fast they come, how much of stdiopool's memory they take, and
//!   whether they hold up small calls.
//! - `scale`: whether a call costs more with 10,000 open sessions, and with 1,000 workers.
//! - `bridging`: what a call costs whose client and server are of different eras, over one on the same server
//!   whose client is of the server's own; and what it costs that each request is written anew for its worker.
//! - `starts`: how long a worker takes from nothing until its `initialize` is answered, beside the
//!   same command started and asked directly.
//! - `launch`: packages as npx and uvx run them, and started directly, by hand and by stdiopool; with `--sandbox` what
//!   each sandbox costs: a start, a call, an idle worker.
//! - `density`: how much memory a tenant's server takes while it is awake and while it sleeps, and
//!   how long a call takes to one that is warm, asleep, or not there yet.
//! - `sessions`: what an open session costs, with thousands of them over a few workers.
//! - `soak`: clients that check every answer while everything is killed, stopped and restarted.
//! - `hostile`: what another tenant notices while one floods in every way, and what stdiopool holds of it.
//!
//! Each measurement returns a section of tables, and `report` renders all of them: on stdout as they are done,
//! with `--markdown` and `--json` into files too. One that fails is said in the report and does not
//! lose the others; the exit status is 1 then.
//!
//! ```text
//! scripts/bench
//! scripts/bench --quick --markdown report.md --json report.json
//! scripts/bench load --sessions 200 --seconds 10 --bridge gateway=http://127.0.0.1:8000/mcp,pid=4711
//! scripts/bench large --bytes 50000000 --at-once 2
//! scripts/bench scale --sessions 10 --sessions 10000 --workers 1
//! scripts/bench starts --count 8 npx -y @modelcontextprotocol/server-everything
//! scripts/bench launch --count 8
//! scripts/bench launch --sandbox
//! scripts/bench density --tenants 20
//! scripts/bench bridging --sessions 16
//! scripts/bench sessions --count 10000
//! scripts/bench hostile --seconds 10
//! ```
#![allow(clippy::print_stdout, reason = "the figures are what was asked for")]

mod all;
mod answer;
mod bare_http;
mod bridge;
mod bridging;
mod cold_start;
mod connection;
mod density;
mod first_calls;
mod host;
mod hostile;
mod http_load;
mod large;
mod latency;
mod launch;
mod many_sessions;
mod pipe_load;
mod process;
mod reply;
mod report;
mod rewriting;
mod sandbox_cost;
mod scale;
mod served;
mod soak;
mod throughput;

use std::num::ParseIntError;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

use report::{Facts, Section};
use throughput::BridgeArgs;

/// What went wrong, to be told; nobody reacts to one kind or the other.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Measures stdiopool beside floors and other bridges: everything, if no subcommand is given
#[derive(Parser)]
#[command(
    name = "scripts/bench",
    bin_name = "scripts/bench",
    after_help = "Figures of different runs and machines cannot be compared, the ratios can.\nThe exit status is 1 if a measurement failed; the others are in the report all the same."
)]
struct Cli {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    all: AllArgs,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
struct Output {
    /// Writes the report as Markdown too
    #[arg(long, global = true, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Writes the report as JSON too
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measures this binary instead of the one that was built
    #[arg(long, global = true, value_name = "PATH")]
    stdiopool: Option<PathBuf>,
}

#[derive(Args)]
struct AllArgs {
    /// A minute instead of ten: shorter, without the largest sizes and what needs packages
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    beside: BridgeArgs,
}

#[derive(Subcommand)]
enum What {
    /// Everything but `sessions`, `soak` and `hostile`
    All(AllArgs),
    /// Calls under load
    Load(throughput::LoadArgs),
    /// Large results
    Large(large::LargeArgs),
    /// Cost of a call with many sessions and many workers
    Scale(scale::ScaleArgs),
    /// Calls between the eras
    Bridging(bridging::BridgingArgs),
    /// Starts of workers
    Starts(cold_start::StartsArgs),
    /// Packages run as written and directly
    Launch(launch::LaunchArgs),
    /// Memory of many tenants
    Density(density::DensityArgs),
    /// Thousands of open sessions over a few workers
    Sessions(many_sessions::SessionsArgs),
    /// Clients that check every answer while everything is killed, stopped and restarted
    Soak(soak::SoakArgs),
    /// One tenant that floods in every way, and what another one notices
    Hostile(hostile::HostileArgs),
    /// Serves the floor of the HTTP side (started by this program itself)
    #[command(hide = true)]
    BareHttp { bytes: usize },
    /// Floods (started by `hostile`)
    #[command(hide = true)]
    Flood(hostile::AttackerArgs),
}

/// A number that is not 0, of an option. The error is a text: clap prints it.
fn at_least_one<T>(text: &str) -> Result<T, String>
where
    T: FromStr<Err = ParseIntError> + PartialOrd + From<u8>,
{
    let number: T = text
        .parse()
        .map_err(|error: ParseIntError| error.to_string())?;
    if number < T::from(1) {
        return Err("must be at least 1".to_owned());
    }
    Ok(number)
}

/// Something to measure.
struct Measurement {
    name: &'static str,
    run: Box<dyn FnOnce() -> Result<Section>>,
}

impl Measurement {
    fn new(name: &'static str, run: impl FnOnce() -> Result<Section> + 'static) -> Self {
        Self {
            name,
            run: Box::new(run),
        }
    }

    /// What it found, or a section that says why it found nothing.
    fn section(self) -> Section {
        // A panic is a failed check, as of a wrong answer; its message is on stderr already.
        let found = catch_unwind(AssertUnwindSafe(self.run)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(text.unwrap_or("it panicked").into())
        });
        found.unwrap_or_else(|error| {
            let mut section = Section::new(self.name, "failed");
            section.failures.push(error.to_string());
            section
        })
    }
}

fn main() -> ExitCode {
    // `cargo bench` puts it at the end, behind a command it would then be part of.
    let args = std::env::args().filter(|arg| arg != "--bench");
    let Cli { what, all, output } = Cli::parse_from(args);
    if what.is_some() && (all.quick || !all.beside.bridge.is_empty()) {
        return refuse("--quick and --bridge go behind the subcommand, if it has them");
    }
    if let Some(path) = &output.stdiopool {
        // Servers run in folders of their own, where a relative path would lead elsewhere.
        match path.canonicalize() {
            Ok(path) => process::measure_binary(path),
            Err(error) => return refuse(&format!("--stdiopool {}: {error}", path.display())),
        }
    }
    let one = |name, run: Box<dyn FnOnce() -> Result<Section>>| vec![Measurement { name, run }];
    let measurements = match what.unwrap_or(What::All(all)) {
        What::All(args) => all::measurements(args.beside, args.quick),
        What::Load(args) => one("load", Box::new(move || throughput::run(&args))),
        What::Large(args) => one("large", Box::new(move || large::run(&args))),
        What::Scale(args) => one("scale", Box::new(move || scale::run(&args))),
        What::Bridging(args) => one("bridging", Box::new(move || bridging::run(&args))),
        What::Starts(args) => one("starts", Box::new(move || cold_start::run(&args))),
        What::Launch(args) => one("launch", Box::new(move || launch::run(&args))),
        What::Density(args) => one("density", Box::new(move || density::run(&args))),
        What::Sessions(args) => one("sessions", Box::new(move || many_sessions::run(&args))),
        What::Soak(args) => one("soak", Box::new(move || soak::run(&args))),
        What::Hostile(args) => one("hostile", Box::new(move || hostile::run(&args))),
        What::BareHttp { bytes } => return ended(bare_http::serve(bytes)),
        What::Flood(args) => {
            // Without it, fewer connections are opened, which the report says.
            let _as_it_is = process::raise_open_files();
            return ended(hostile::flood_as_attacker(&args));
        }
    };
    if let Err(error) = process::raise_open_files() {
        eprintln!("the limit on open files stays as it is: {error}");
    }
    let facts = host::facts();
    print!("{}", report::terminal_head(&facts));
    let mut sections = Vec::new();
    for measurement in measurements {
        let section = measurement.section();
        print!("{}", report::terminal(&section));
        sections.push(section);
        // After each of them, so that an interrupted run leaves what it has.
        if let Err(error) = output.write(&facts, &sections) {
            return refuse(&error.to_string());
        }
    }
    let has_failed = sections.iter().any(|section| !section.failures.is_empty());
    ExitCode::from(u8::from(has_failed))
}

/// How a helper process of this program ends.
fn ended(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error.to_string()),
    }
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::FAILURE
}

impl Output {
    fn write(&self, facts: &Facts, sections: &[Section]) -> Result<()> {
        let write = |path: &PathBuf, text: String| {
            let written = std::fs::write(path, text);
            written.map_err(|error| format!("{}: {error}", path.display()))
        };
        if let Some(path) = &self.markdown {
            let tables: String = sections.iter().map(report::markdown).collect();
            write(path, report::markdown_head(facts) + &tables)?;
        }
        if let Some(path) = &self.json {
            let report = report::json(facts, sections);
            write(path, format!("{report:#}\n"))?;
        }
        Ok(())
    }
}
