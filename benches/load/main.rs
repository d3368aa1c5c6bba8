//! How many tool calls a second go through stdiopool, how long they take, and what they cost it,
//! beside two floors measured in the same run:
//!
//! - `raw pipe`: the same demo server, spoken to over its own stdin and stdout;
//! - `bare http`: an HTTP server on the same library that answers every request with a constant.
//!
//! Closed loop: every session has a connection of its own and one call at a time under way.
//!
//! Then how long a worker takes from nothing until its `initialize` is answered, beside the same
//! command started and asked directly.
//!
//! ```text
//! scripts/bench                       # 1, 16 and 64 sessions, 5 s each
//! scripts/bench --sessions 200 --seconds 10
//! scripts/bench --seconds 0 --starts 10 npx -y @modelcontextprotocol/server-everything
//! ```
#![allow(clippy::print_stdout, reason = "the figures are what was asked for")]

mod bare_http;
mod cold_start;
mod http_load;
mod pipe_load;
mod process;
mod report;

use std::time::Duration;

use clap::Parser;

use report::Report;

#[derive(Parser)]
struct Args {
    /// How many sessions at once; may be repeated
    #[arg(long, default_values_t = [1_usize, 16, 64])]
    sessions: Vec<usize>,
    /// How long each measurement takes; 0 leaves the load out
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How often a worker is started; 0 leaves that out
    #[arg(long, default_value_t = 30)]
    starts: usize,
    /// Bytes of the echoed text
    #[arg(long, default_value_t = 32)]
    bytes: usize,
    /// Serves the floor of the HTTP side (started by this program itself)
    #[arg(long, hide = true)]
    bare_http: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
    /// What is started; the demo server by default
    #[arg(trailing_var_arg = true)]
    command: Vec<String>,
}

fn main() {
    let mut args = Args::parse();
    // `cargo bench` puts it at the end, behind a command it would then be part of.
    args.command.retain(|arg| arg != "--bench");
    if args.bare_http {
        bare_http::serve();
        return;
    }
    if args.seconds > 0 {
        load(&args);
    }
    if args.starts > 0 {
        cold_start::run(&args.command, args.starts);
    }
}

fn load(args: &Args) {
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
