//! Large results: how fast they come, what they hold of stdiopool's memory, and whether they hold
//! up small calls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use super::bare_http;
use super::connection::{Call, Era};
use super::http_load::Load;
use super::latency::Calls;
use super::pipe_load::PipeLoad;
use super::process::{peak, reset_peak};
use super::report::{Cell, Column, Section, Table};
use super::served::{Config, DEMO, Served};
use super::{Result, at_least_one};

/// Calls before the clock starts: of small ones, and of large ones where memory does not matter.
const WARM_UP: usize = 5;

#[derive(Args, Debug)]
pub(crate) struct LargeArgs {
    /// Bytes of a result's text; the demo server gives up to 64 MiB
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..=67_108_864))]
    pub(crate) bytes: u64,
    /// How many at once, each by a worker of its own; may be repeated
    #[arg(long, default_values_t = [1_usize, 4], value_parser = at_least_one::<usize>)]
    pub(crate) at_once: Vec<usize>,
    /// How long each measurement takes
    #[arg(long, default_value_t = 3, value_parser = at_least_one::<u64>)]
    pub(crate) seconds: u64,
}

/// The tables that are filled.
struct Tables {
    results: Table,
    small: Table,
}

#[tokio::main]
pub(crate) async fn run(args: &LargeArgs) -> Result<Section> {
    let mut section = Section::new(
        "large",
        format!(
            "results of {} bytes, {} s each, closed loop",
            args.bytes, args.seconds
        ),
    );
    section.note("each of several at once comes from a server of its own; peak: how far stdiopool's resident memory rose above what it was before the first such result, in sizes of a result, per result in flight");
    section.note("small calls are made one at a time, in another session, while large ones are under way; the demo server has one thread, so that on the same worker as one of these they also wait for it to make and write a large result: with another tenant's worker only stdiopool is shared, and the CPUs");
    let mut tables = Tables {
        results: Table::new(
            "large results",
            [
                Column::text("system"),
                Column::number("at once", "", 0),
                Column::number("results", "", 0),
                Column::number("p50", "ms", 1),
                Column::number("rate", "MB/s", 0),
                Column::number("peak per result in flight", "sizes", 2),
            ],
        ),
        small: Table::new(
            "small calls meanwhile",
            [
                Column::text("worker"),
                Column::number("large at once", "", 0),
                Column::number("small calls", "", 0),
                Column::number("p50", "µs", 0),
                Column::number("p99", "µs", 0),
                Column::number("p50, of no large ones", "", 2),
            ],
        ),
    };
    let call = Call::new(
        Era::Initialize,
        "big",
        &serde_json::json!({"bytes": args.bytes}),
    );
    for &at_once in &args.at_once {
        let failures = &mut section.failures;
        let mut keep = |system: &str, found: Result<()>| {
            if let Err(error) = found {
                failures.push(format!("{system}, {at_once} at once: {error}"));
            }
        };
        keep("raw pipe", pipe(args, &call, at_once, &mut tables));
        keep("bare http", bare(args, &call, at_once, &mut tables).await);
        keep("stdiopool", pool(args, &call, at_once, &mut tables).await);
    }
    section.tables.extend([tables.results, tables.small]);
    Ok(section)
}

impl Tables {
    fn large(&mut self, system: &str, at_once: usize, bytes: u64, calls: &Calls, peak: Cell) {
        let [p50] = calls.micros([50.0]);
        self.results.row([
            system.into(),
            at_once.into(),
            calls.latencies.len().into(),
            (p50 / 1e3).into(),
            (calls.rate() * bytes as f64 / 1e6).into(),
            peak,
        ]);
    }

    /// `alone`: the p50 without large results; itself for that row.
    fn small(&mut self, worker: &str, at_once: usize, calls: &Calls, alone: Option<f64>) -> f64 {
        let [p50, p99] = calls.micros([50.0, 99.0]);
        self.small.row([
            worker.into(),
            at_once.into(),
            calls.latencies.len().into(),
            p50.into(),
            p99.into(),
            (p50 / alone.unwrap_or(p50)).into(),
        ]);
        p50
    }
}

/// A server for each result at once, since one gives them one after the other.
fn pipe(args: &LargeArgs, call: &Call, at_once: usize, tables: &mut Tables) -> Result<()> {
    let period = Duration::from_secs(args.seconds);
    let pipes: Result<Vec<_>> = (0..at_once).map(|_| PipeLoad::start()).collect();
    let mut pipes = pipes?;
    let begun = Instant::now();
    let rounds: Vec<Result<Calls>> = std::thread::scope(|scope| {
        let running: Vec<_> = pipes
            .iter_mut()
            .map(|pipe| scope.spawn(move || pipe.round(call, 1, period)))
            .collect();
        let joined = running.into_iter().map(|thread| {
            let ended = thread.join();
            ended.unwrap_or_else(|_| Err("its thread has panicked".into()))
        });
        joined.collect()
    });
    let mut calls = Calls::default();
    for round in rounds {
        calls.latencies.extend(round?.latencies);
    }
    calls.took = begun.elapsed();
    tables.large("raw pipe", at_once, args.bytes, &calls, Cell::Missing);
    Ok(())
}

async fn bare(
    args: &LargeArgs,
    call: &Arc<Call>,
    at_once: usize,
    tables: &mut Tables,
) -> Result<()> {
    let (_process, endpoint) = bare_http::start(usize::try_from(args.bytes)?)?;
    let mut load = Load::open(&endpoint, call, at_once, WARM_UP).await?;
    let calls = load.round(Duration::from_secs(args.seconds)).await?;
    tables.large("bare http", at_once, args.bytes, &calls, Cell::Missing);
    Ok(())
}

async fn pool(
    args: &LargeArgs,
    call: &Arc<Call>,
    at_once: usize,
    tables: &mut Tables,
) -> Result<()> {
    let config = Config {
        server: format!("{DEMO}max_message = \"128MiB\"\n"),
        tenants: at_once + 1,
        ..Config::default()
    };
    let served = Served::start(&config)?;
    let (pid, period) = (served.process.id(), Duration::from_secs(args.seconds));
    let small = Call::echo(32);
    // Small calls first, so that what a worker and a session cost is not counted as a result's.
    let mut beside = Load::open(&served.endpoint(0), &small, 1, WARM_UP).await?;
    let mut elsewhere = Load::open(&served.endpoint(at_once), &small, 1, WARM_UP).await?;
    // Each by a worker of its own, so that so many are really under way at once.
    let mut large = Load::new(Vec::new(), Arc::clone(call));
    for tenant in 0..at_once {
        let endpoint = served.endpoint(tenant);
        Load::open(&endpoint, &small, 1, 1).await?.close().await;
        large.join(Load::open(&endpoint, call, 1, 0).await?);
    }

    let before = served.process.memory();
    let can_be_reset = reset_peak(pid);
    let calls = large.round(period).await?;
    let peak = match can_be_reset {
        Ok(()) => {
            let grown = peak(pid)?.saturating_sub(before);
            Cell::from(grown as f64 / args.bytes as f64 / at_once as f64)
        }
        Err(error) => format!("not readable: {error}").into(),
    };
    tables.large("stdiopool", at_once, args.bytes, &calls, peak);

    let calls = beside.round(period / 2).await?;
    let alone = tables.small("the same, no large ones", 0, &calls, None);
    for (worker, load) in [
        ("the same as a large one's", &mut beside),
        ("another tenant's", &mut elsewhere),
    ] {
        let (of_large, of_small) = tokio::join!(large.round(period), load.round(period));
        of_large?;
        tables.small(worker, at_once, &of_small?, Some(alone));
    }
    Ok(())
}
