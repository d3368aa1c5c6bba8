//! What another tenant notices while one floods: memory, work, connections, servers.
//!
//! A fresh stdiopool for each flood. A bystander, a tenant of its own, makes calls at a steady pace, first in quiet, then
//! with the flood beside it. Clients would not run on the host: the flood comes from a process of its own that runs when
//! nothing else wants to, and the bystander's calls go before everything else, where the system allows that. The servers
//! that the flood makes flood run as all servers do.
//!
//! Fails when a call of the bystander fails, when its 99th percentile rises too far over what it was before, or when
//! stdiopool holds too much memory. A flood is broken off as soon as stdiopool holds far too much, so that the host outlives a bound
//! that is not there.

mod answers;
mod attacker;
mod bystander;
mod floods;
mod served;
mod soak;
mod watch;
mod wire;

use std::time::Duration;

use clap::Args;

pub(crate) use attacker::{Attacker, AttackerArgs, flood as flood_as_attacker};
pub(crate) use floods::{Flood, NOISE};
pub(crate) use served::HOSTILE;
pub(crate) use watch::descriptors;

use self::answers::Report;
use self::bystander::{Bystander, Seen};
use self::floods::FLOODS;
use self::watch::Watch;
use super::process::mib;
use super::report::{Cell, Column, Section, Table};
use super::served::Served;
use super::{Result, at_least_one};

/// How much further than `--max-memory` memory may rise before a flood is broken off.
const BROKEN_OFF_AT: u64 = 4;

#[derive(Args, Debug)]
pub(crate) struct HostileArgs {
    /// How long each flood lasts, in seconds; the quiet before it half of that
    #[arg(long, default_value_t = 10, value_parser = at_least_one::<u64>)]
    seconds: u64,
    /// Only floods with that word in their name; `all` is all of them at once
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
    /// All floods in turn on one stdiopool for so many minutes, which must end with what it began with
    #[arg(long, value_name = "MINUTES", value_parser = at_least_one::<u64>)]
    soak: Option<u64>,
    /// How often the bystander's 99th percentile before may go into that during a flood
    #[arg(long, default_value_t = 3.0)]
    max_ratio: f64,
    /// The same beside what servers do to their host
    #[arg(long, default_value_t = 1.5)]
    max_noise_ratio: f64,
    /// How far stdiopool's resident memory may rise during a flood, in MiB
    #[arg(long, default_value_t = 256, value_parser = at_least_one::<u64>)]
    max_memory: u64,
    /// How much more it may hold after a soak than before, in MiB
    #[arg(long, default_value_t = 24, value_parser = at_least_one::<u64>)]
    max_growth: u64,
    /// How long after a soak until it must be down to that, in seconds
    #[arg(long, default_value_t = 120, value_parser = at_least_one::<u64>)]
    settle: u64,
}

impl HostileArgs {
    /// Bytes of memory at which a flood is broken off, when it began with that.
    fn too_much(&self, before: u64) -> u64 {
        before + self.max_memory * BROKEN_OFF_AT * (1 << 20)
    }

    /// What is to be run, in that order.
    fn rounds(&self) -> Result<Vec<Round>> {
        let kinds = [
            (FLOODS, "all of them", self.max_ratio),
            (NOISE, "all noise", self.max_noise_ratio),
        ];
        let rounds = kinds.into_iter().flat_map(|(kind, name, max_ratio)| {
            let round = move |name, floods| Round {
                name,
                floods,
                max_ratio,
            };
            let each = kind.iter().map(move |flood| round(flood.name, vec![flood]));
            each.chain([round(name, kind.iter().collect())])
        });
        let Some(word) = &self.only else {
            return Ok(rounds.collect());
        };
        let (meant, others): (Vec<_>, Vec<_>) =
            rounds.partition(|round| round.name.contains(word.as_str()));
        if meant.is_empty() {
            let names: Vec<_> = others.iter().map(|round| round.name).collect();
            return Err(format!("no flood has that word in its name: {}", names.join(", ")).into());
        }
        Ok(meant)
    }
}

/// What is run at once, on a stdiopool of its own.
struct Round {
    name: &'static str,
    floods: Vec<&'static Flood>,
    /// How often the bystander's 99th percentile before may go into that during it.
    max_ratio: f64,
}

/// Floods and measures, or the soak.
///
/// # Errors
/// If stdiopool does not start, or nothing is to be run. Targets that are missed are failures of the section.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(args: &HostileArgs) -> Result<Section> {
    if let Some(minutes) = args.soak {
        return soak::run(args, minutes).await;
    }
    let mut section = Section::new(
        "hostile",
        format!(
            "what a bystander notices of one hostile tenant, {} s each",
            args.seconds
        ),
    );
    section.note("a fresh stdiopool for each row; memory and descriptors are the supervisor's own");
    section.note(format!(
        "targets: no call of the bystander fails, its p99 at most {} times of before ({} beside noise), memory at most {} MiB more",
        args.max_ratio, args.max_noise_ratio, args.max_memory
    ));
    if !bystander::go_first()? {
        section.note("the bystander's own client waits for a processor beside the servers: `SCHED_RR` is not allowed here");
    }
    let mut table = Table::new(
        "",
        [
            Column::text("flood"),
            Column::number("p50 before", "ms", 2),
            Column::number("p50 during", "ms", 2),
            Column::number("p99 before", "ms", 2),
            Column::number("p99 during", "ms", 2),
            Column::number("p99 ratio", "", 1),
            Column::number("slowest start before", "ms", 0),
            Column::number("slowest start during", "ms", 0),
            Column::number("calls", "", 0),
            Column::number("failed", "", 0),
            Column::number("memory before", "MiB", 0),
            Column::number("most memory", "MiB", 0),
            Column::number("most descriptors", "", 0),
            Column::text("answers to the flood"),
        ],
    );
    for round in args.rounds()? {
        let name = round.name;
        eprintln!("{name}: quiet, then {} s", args.seconds);
        match one(args, &round.floods).await {
            Ok(row) => {
                section.failures.extend(row.missed(args, &round));
                table.row(row.cells(name));
                eprintln!("{name}: {}", row.said());
            }
            Err(error) => section.failures.push(format!("{name}: {error}")),
        }
    }
    section.tables.push(table);
    Ok(section)
}

/// What was seen of one round.
struct Row {
    before: Seen,
    during: Seen,
    memory_before: u64,
    most_memory: u64,
    most_descriptors: usize,
    broken_off: bool,
    report: Report,
}

/// One stdiopool, in quiet and with these floods.
async fn one(args: &HostileArgs, floods: &[&Flood]) -> Result<Row> {
    let period = Duration::from_secs(args.seconds);
    let served = Served::serve(&served::toml("")?)?;
    let mut bystander = Bystander::open(&served).await?;
    let before = bystander.measure(period / 2).await;
    let memory_before = served.process.memory();
    let (mut attacker, handle) = Attacker::start(&served.front, floods, period)?;
    let watch = Watch::begin(served.process.id(), args.too_much(memory_before), handle);
    attacker.until_ready().await?;
    let during = bystander.measure(period).await;
    let report = attacker.finish().await?;
    let watched = watch.end();
    Ok(Row {
        before,
        during,
        memory_before,
        most_memory: watched.most_memory,
        most_descriptors: watched.most_descriptors,
        broken_off: watched.broken_off,
        report,
    })
}

impl Row {
    fn ratio(&self) -> f64 {
        self.during.calls.micros([99.0])[0] / self.before.calls.micros([99.0])[0]
    }

    /// The targets it missed.
    fn missed(&self, args: &HostileArgs, round: &Round) -> Vec<String> {
        let (name, max_ratio) = (round.name, round.max_ratio);
        let mut missed = Vec::new();
        let ratio = self.ratio();
        // Not a number, if there was no call: that is no pass either.
        if ratio.is_nan() || ratio > max_ratio {
            missed.push(format!(
                "{name}: p99 is {ratio:.1} times of before, more than {max_ratio}"
            ));
        }
        let grown = self.most_memory.saturating_sub(self.memory_before) >> 20;
        if grown > args.max_memory {
            let end = if self.broken_off {
                ", and the flood was broken off"
            } else {
                ""
            };
            missed.push(format!(
                "{name}: memory rose by {grown} MiB, more than {}{end}",
                args.max_memory
            ));
        }
        let failed = self.before.failures.iter().chain(&self.during.failures);
        let count = failed.clone().count();
        if let Some(first) = failed.clone().next() {
            missed.push(format!("{name}: {count} calls failed, the first: {first}"));
        }
        let unable = self.report.failures.iter();
        missed.extend(unable.map(|why| format!("{name}: the flood could not be set up: {why}")));
        missed
    }

    fn cells(&self, name: &str) -> [Cell; 14] {
        let [p50_before, p99_before] = self.before.calls.micros([50.0, 99.0]);
        let [p50_during, p99_during] = self.during.calls.micros([50.0, 99.0]);
        let failed = self.before.failures.len() + self.during.failures.len();
        [
            name.into(),
            (p50_before / 1e3).into(),
            (p50_during / 1e3).into(),
            (p99_before / 1e3).into(),
            (p99_during / 1e3).into(),
            self.ratio().into(),
            self.before.slowest_start().into(),
            self.during.slowest_start().into(),
            self.during.calls.latencies.len().into(),
            failed.into(),
            mib(self.memory_before).into(),
            mib(self.most_memory).into(),
            self.most_descriptors.into(),
            self.report.said().into(),
        ]
    }

    /// A line for whoever watches it run.
    fn said(&self) -> String {
        format!(
            "p99 x {:.1}, {} failed, {:.0} MiB, {}",
            self.ratio(),
            self.during.failures.len(),
            mib(self.most_memory),
            self.report.said()
        )
    }
}
