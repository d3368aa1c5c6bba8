//! `stdiopool tune`: what other limits would have cost.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use miette::miette;
use serde_json::json;

use super::output::{self, Output};
use super::value::NoValue;
use crate::config::parse_size;
use crate::counted::counted;
use crate::tune::{self, Goal, Grid, Load, Outcome, Profile, Workload};

/// Plays requests back against other pool limits, and says what each would have cost
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The pool's own code decides, on virtual time: a day takes seconds. What it cannot know is how much
slower starts are when many run at once.

Examples:
  stdiopool serve --record-trace monday.jsonl          # then, with what was recorded:
  stdiopool tune --trace monday.jsonl --p99-wait 1s --max-memory 16GiB
  stdiopool tune --tenants 100000 --calls 1000000 --max-workers 1000,4000 --svg day.svg")]
pub struct TuneArgs {
    /// What `stdiopool serve --record-trace` has written; without it a day is made up
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    grid: GridArgs,
    /// The goal: of 100 calls 99 wait no longer for a worker
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    pub p99_wait: Duration,
    /// Draws memory over time, a curve for each candidate
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// The picture of --svg and the table, as a page for a browser
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Print the outcomes as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "The day that is made up")]
struct LoadArgs {
    /// Tenants
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    tenants: u32,
    /// How unequal tenants are: the exponent of Zipf's law; 0: all alike
    #[arg(long, default_value_t = 1.0, value_parser = parse_number)]
    skew: f64,
    /// Calls of all of them, in all
    #[arg(long, default_value_t = 200_000)]
    calls: u32,
    /// How long the load lasts
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_time)]
    length: Duration,
    /// How much busier than the mean the busiest hour is, 0 to 1
    #[arg(long, default_value_t = 0.6, value_parser = parse_part)]
    swing: f64,
    /// Calls that a client makes one after the other, in the mean
    #[arg(long, default_value_t = 8.0, value_parser = parse_number)]
    burst: f64,
    /// Time between calls of a client, in the mean
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = parse_time)]
    think: Duration,
    /// What a call takes, in the median
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = parse_time)]
    takes: Duration,
    /// What a start takes
    #[arg(long, value_name = "TIME", default_value = "800ms", value_parser = parse_time)]
    start: Duration,
    /// What waking takes
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = parse_time)]
    wake: Duration,
    /// What a worker holds awake
    #[arg(long, value_name = "SIZE", default_value = "50MiB", value_parser = size)]
    awake: u64,
    /// What a worker holds asleep
    #[arg(long, value_name = "SIZE", default_value = "10MiB", value_parser = size)]
    asleep: u64,
    /// Decides what is random: the same seed, the same day
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args, Clone, Debug)]
#[command(
    next_help_heading = "The candidates: every combination of these, each a list with commas"
)]
struct GridArgs {
    /// `pool.max_workers`
    #[arg(long, value_delimiter = ',', default_value = "64,1024", value_parser = count)]
    max_workers: Vec<usize>,
    /// `pool.max_memory`
    #[arg(long, value_delimiter = ',', default_value = "16GiB", value_parser = size)]
    max_memory: Vec<u64>,
    /// `pool.max_starting`
    #[arg(long, value_delimiter = ',', default_value = "2", value_parser = count)]
    max_starting: Vec<usize>,
    /// `pool.idle_timeout`
    #[arg(long, value_delimiter = ',', default_value = "1m,10m,1h", value_parser = parse_time)]
    idle_timeout: Vec<Duration>,
    /// `pool.hibernate_after`
    #[arg(long, value_delimiter = ',', default_value = "30s,never", value_parser = time_or_never)]
    hibernate_after: Vec<Never>,
}

/// A time, or none. (A list of `Option` would mean something else to the parser.)
#[derive(Clone, Copy, Debug)]
struct Never(Option<Duration>);

fn write(path: &Path, text: &str) -> Result<(), miette::Report> {
    std::fs::write(path, text)
        .map_err(|error| miette!("{} cannot be written: {error}", path.display()))
}

fn size(text: &str) -> Result<u64, NoValue> {
    let size = parse_size(text).filter(|size| *size > 0);
    size.ok_or(NoValue::Size)
}

fn count(text: &str) -> Result<usize, NoValue> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or(NoValue::Count)
}

fn parse_time(text: &str) -> Result<Duration, NoValue> {
    let time = humantime::parse_duration(text)
        .ok()
        .filter(|t| !t.is_zero());
    time.ok_or(NoValue::Time)
}

fn time_or_never(text: &str) -> Result<Never, NoValue> {
    if text == "never" {
        return Ok(Never(None));
    }
    let time = parse_time(text).map_err(|_| NoValue::TimeOrNever)?;
    Ok(Never(Some(time)))
}

fn parse_number(text: &str) -> Result<f64, NoValue> {
    let number = text
        .parse()
        .ok()
        .filter(|n: &f64| n.is_finite() && *n >= 0.0);
    number.ok_or(NoValue::Number)
}

fn parse_part(text: &str) -> Result<f64, NoValue> {
    let part = parse_number(text).ok().filter(|part| *part <= 1.0);
    part.ok_or(NoValue::Part)
}

impl TuneArgs {
    /// Simulates every candidate and reports.
    ///
    /// # Errors
    /// When the trace cannot be read or the picture not written.
    pub fn run(self) -> Result<(), miette::Report> {
        let workload = self.workload()?;
        let grid = Grid {
            max_workers: self.grid.max_workers.clone(),
            max_memory: self.grid.max_memory.clone(),
            max_starting: self.grid.max_starting.clone(),
            idle_timeout: self.grid.idle_timeout.clone(),
            hibernate_after: self.grid.hibernate_after.iter().map(|n| n.0).collect(),
        };
        let settings = grid.settings();
        output::notice(&format!(
            "{} of {} to {} in {}; {}",
            counted(workload.calls.len(), "call"),
            counted(workload.tenants, "tenant"),
            counted(workload.servers.len(), "server"),
            humantime::format_duration(Duration::from_secs(workload.length.as_secs())),
            counted(settings.len(), "candidate")
        ));
        let outcomes = tune::simulate_all(&workload, &settings);
        let hours = workload.length.as_secs_f64() / 3600.0;
        let p99_wait = self.p99_wait;
        let table = tune::render(&outcomes, Goal { p99_wait });
        if let Some(path) = &self.svg {
            write(path, &tune::svg(&outcomes, hours))?;
        }
        if let Some(path) = &self.html {
            write(path, &tune::html(&table, &outcomes, hours))?;
        }
        let text = if self.json {
            let rows: Vec<_> = outcomes.iter().map(as_json).collect();
            Output::json(&json!(rows))
        } else {
            Output::Text(table)
        };
        let _is_read = text.print()?;
        Ok(())
    }

    fn workload(&self) -> Result<Workload, miette::Report> {
        if let Some(path) = &self.trace {
            let shown = path.display();
            let file = File::open(path).map_err(|error| miette!("{shown}: {error}"))?;
            let read = tune::read_trace(BufReader::new(file));
            return read.map_err(|error| miette!("{shown}: {error}"));
        }
        let load = &self.load;
        let server = Profile {
            start: load.start,
            wake: load.wake,
            awake: load.awake,
            asleep: load.asleep,
            ..Profile::unknown("server")
        };
        let load = Load {
            tenants: load.tenants,
            skew: load.skew,
            calls: load.calls,
            length: load.length,
            swing: load.swing,
            burst: load.burst,
            think: load.think,
            takes: load.takes,
            seed: load.seed,
        };
        Ok(tune::synthetic(&load, vec![server]))
    }
}

fn as_json(outcome: &Outcome) -> serde_json::Value {
    let setting = &outcome.setting;
    json!({
        "max_workers": setting.max_workers,
        "max_memory_bytes": setting.max_memory,
        "max_starting": setting.max_starting,
        "idle_timeout_seconds": setting.idle_timeout.as_secs_f64(),
        "hibernate_after_seconds": setting.hibernate_after.map(|after| after.as_secs_f64()),
        "served": outcome.served,
        "refused": outcome.refused,
        "starts": outcome.starts,
        "cold_start_rate": outcome.cold_start_rate(),
        "woken": outcome.woken,
        "evictions": outcome.evictions,
        "wait_p50_seconds": outcome.wait(50.0).as_secs_f64(),
        "wait_p99_seconds": outcome.wait(99.0).as_secs_f64(),
        "peak_memory_bytes": outcome.peak_memory,
        "peak_workers": outcome.peak_workers,
        "memory_bytes": outcome.memory,
    })
}
