//! How fast and how dense stdiopool is, beside floors measured in the same run.
//!
//! - `load`: how many tool calls a second go through it, how long they take, what they cost. Floors:
//!   `raw pipe`, the same demo server spoken to over its own stdin and stdout; `bare http`, an HTTP
//!   server on the same library that answers every request with a constant. Closed loop: every
//!   session has a connection of its own and one call at a time under way.
//! - `starts`: how long a worker takes from nothing until its `initialize` is answered, beside the
//!   same command started and asked directly.
//! - `launch`: packages as npx and uvx run them, and started directly, by hand and by stdiopool.
//! - `density`: how much memory a tenant's server takes while it is awake and while it sleeps, and
//!   how long a call takes to one that is warm, asleep, or not there yet.
//! - `bridging`: what a call costs whose client and server are of different eras, over one on the same server
//!   whose client is of the server's own.
//! - `sessions`: what an open session costs, with thousands of them over a few workers.
//!
//! ```text
//! scripts/bench                                  # load and starts
//! scripts/bench load --sessions 200 --seconds 10
//! scripts/bench starts --count 8 npx -y @modelcontextprotocol/server-everything
//! scripts/bench launch --count 8
//! scripts/bench density --tenants 20
//! scripts/bench bridging --sessions 16
//! scripts/bench sessions --count 10000
//! ```
#![allow(clippy::print_stdout, reason = "the figures are what was asked for")]

mod bare_http;
mod bridging;
mod cold_start;
mod density;
mod http_load;
mod launch;
mod many_sessions;
mod pipe_load;
mod process;
mod report;
mod soak;

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use report::Report;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// Calls under load
    Load(LoadArgs),
    /// Starts of workers
    Starts(StartsArgs),
    /// Packages run as written and directly
    Launch(LaunchArgs),
    /// Memory of many tenants
    Density(density::DensityArgs),
    /// Calls between the eras
    Bridging(bridging::BridgingArgs),
    /// Thousands of open sessions over a few workers
    Sessions(many_sessions::SessionsArgs),
    /// Clients that check every answer while everything is killed, stopped and restarted
    Soak(soak::SoakArgs),
    /// Serves the floor of the HTTP side (started by this program itself)
    #[command(hide = true)]
    BareHttp,
}

#[derive(Args)]
struct LoadArgs {
    /// How many sessions at once; may be repeated
    #[arg(long, default_values_t = [1_usize, 16, 64])]
    sessions: Vec<usize>,
    /// How long each measurement takes
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Bytes of the echoed text
    #[arg(long, default_value_t = 32)]
    bytes: usize,
}

#[derive(Args)]
struct StartsArgs {
    /// How often it is started
    #[arg(long, default_value_t = 30)]
    count: usize,
    /// What is started; the demo server by default
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

#[derive(Args)]
struct LaunchArgs {
    /// How often each is started
    #[arg(long, default_value_t = 8)]
    count: usize,
}

fn main() {
    // `cargo bench` puts it at the end, behind a command it would then be part of.
    let args = std::env::args().filter(|arg| arg != "--bench");
    match Cli::parse_from(args).what {
        None => {
            load(&LoadArgs {
                sessions: vec![1, 16, 64],
                seconds: 5,
                bytes: 32,
            });
            cold_start::run(&[], 30);
        }
        Some(What::Load(args)) => load(&args),
        Some(What::Starts(args)) => cold_start::run(&args.command, args.count),
        Some(What::Launch(args)) => launch::run(args.count),
        Some(What::Density(args)) => density::run(&args),
        Some(What::Bridging(args)) => bridging::run(&args),
        Some(What::Sessions(args)) => many_sessions::run(&args),
        Some(What::Soak(args)) => soak::run(&args),
        Some(What::BareHttp) => bare_http::serve(),
    }
}

fn load(args: &LoadArgs) {
    let period = Duration::from_secs(args.seconds);
    println!(
        "echo of {} bytes, {} s each, closed loop, {} CPUs\n",
        args.bytes,
        args.seconds,
        std::thread::available_parallelism().map_or(0, usize::from)
    );
    let mut report = Report::default();
    for &sessions in &args.sessions {
        report.add(
            "raw pipe",
            sessions,
            &pipe_load::run(sessions, period, args.bytes),
        );
        report.add(
            "bare http",
            sessions,
            &http_load::bare(sessions, period, args.bytes),
        );
        report.add(
            "stdiopool",
            sessions,
            &http_load::stdiopool(sessions, period, args.bytes),
        );
        report.compare();
    }
}
