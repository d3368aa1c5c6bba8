//! How many tool calls a second go through stdiopool, how long they take, and what they cost it,
//! beside two floors measured in the same run:
//!
//! - `raw pipe`: the same demo server, spoken to over its own stdin and stdout;
//! - `bare http`: an HTTP server on the same library that answers every request with a constant.
//!
//! Closed loop: every session has a connection of its own and one call at a time under way.
//!
//! ```text
//! scripts/bench                       # 1, 16 and 64 sessions, 5 s each
//! scripts/bench --sessions 200 --seconds 10
//! ```
#![allow(clippy::print_stdout, reason = "the figures are what was asked for")]

mod bare_http;
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
    /// How long each measurement takes
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Bytes of the echoed text
    #[arg(long, default_value_t = 32)]
    bytes: usize,
    /// Serves the floor of the HTTP side (started by this program itself)
    #[arg(long, hide = true)]
    bare_http: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    if args.bare_http {
        bare_http::serve();
        return;
    }
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
