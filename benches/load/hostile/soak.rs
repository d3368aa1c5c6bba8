//! All floods in turn on one stdiopool, which then must be as it was before.

use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::poll;
use tokio::time::sleep;

use super::super::Result;
use super::super::process::{mib, tree_of};
use super::super::report::{Cell, Column, Section, Table};
use super::super::served::Served;
use super::answers::Report;
use super::attacker::Attacker;
use super::bystander::Bystander;
use super::floods::Flood;
use super::served;
use super::watch::{Watch, descriptors};
use super::{HostileArgs, Round};

/// What holds a session, a worker or a list for a while lets go of it within the soak's end.
const POOL: &str = "session_timeout = \"20s\"\nidle_timeout = \"10s\"\ncatalog_age = \"20s\"\n";
/// Between two looks whether a flood is set up.
const WHILE_SET_UP: Duration = Duration::from_millis(500);
/// Between two floods.
const PAUSE: Duration = Duration::from_secs(2);
/// Descriptors that may be open more than before: those of calls of the bystander just made.
const SPARE_DESCRIPTORS: usize = 16;
/// What is only touched after a while is there when the clock starts.
const WARM_UP: Duration = Duration::from_secs(5);

/// What the supervisor uses at one time.
#[derive(Debug, Clone, Copy)]
struct ResourceUse {
    /// In bytes.
    memory: u64,
    descriptors: usize,
    /// It and everything descended from it.
    processes: usize,
}

impl ResourceUse {
    fn by(served: &Served) -> Result<Self> {
        let pid = served.process.id();
        Ok(Self {
            memory: served.process.memory(),
            descriptors: descriptors(pid),
            processes: tree_of(pid)?.len(),
        })
    }

    /// What there is more of than before, if it is too much.
    fn over(&self, before: &Self, max_growth: u64) -> Vec<String> {
        let mut over = Vec::new();
        let grown = self.memory.saturating_sub(before.memory) >> 20;
        if grown > max_growth {
            over.push(format!(
                "memory has grown by {grown} MiB, more than {max_growth}"
            ));
        }
        if self.descriptors > before.descriptors + SPARE_DESCRIPTORS {
            let Self { descriptors, .. } = self;
            over.push(format!(
                "{descriptors} descriptors, {} before",
                before.descriptors
            ));
        }
        if self.processes > before.processes {
            let Self { processes, .. } = self;
            over.push(format!(
                "{processes} processes, {} before",
                before.processes
            ));
        }
        over
    }
}

/// Floods for so many minutes, and looks at what is left.
///
/// # Errors
/// If stdiopool does not start or a flood does not run; a target that is missed is a failure of the section.
pub(super) async fn run(args: &HostileArgs, minutes: u64) -> Result<Section> {
    let mut section = Section::new("hostile", format!("all floods in turn for {minutes} min"));
    section.note(format!(
        "then, within {} s, no more processes and descriptors than before, and at most {} MiB more",
        args.settle, args.max_growth
    ));
    let served = Served::serve(&served::toml(POOL)?)?;
    let mut bystander = Bystander::open(&served).await?;
    let warm_up = bystander.measure(WARM_UP).await;
    section.failures.extend(warm_up.failures);
    let before = ResourceUse::by(&served)?;
    let rounds = args.rounds()?;
    let end = Instant::now() + Duration::from_secs(minutes * 60);
    let mut report = Report::default();
    let (mut floods, mut calls, mut most_memory) = (0_usize, 0_usize, 0);
    for Round {
        name,
        floods: those,
        ..
    } in rounds.iter().cycle()
    {
        if Instant::now() >= end {
            break;
        }
        let one = flood(args, &served, &mut bystander, those).await;
        let one = one.map_err(|error| format!("{name}: {error}"))?;
        eprintln!(
            "{name}: {} failed, {:.0} MiB, {}",
            one.failures.len(),
            mib(served.process.memory()),
            one.report.said()
        );
        let failures = one.failures.iter().map(|why| format!("{name}: {why}"));
        section.failures.extend(failures);
        report.add(one.report);
        most_memory = most_memory.max(one.most_memory);
        calls += one.calls;
        floods += 1;
    }
    let after = settled(args, &served, &mut bystander, before).await?;
    section
        .failures
        .extend(after.over(&before, args.max_growth));
    let mut table = Table::new(
        "",
        [
            Column::text("what"),
            Column::number("before", "", 1),
            Column::number("after", "", 1),
        ],
    );
    let rows: [(&str, Cell, Cell); 6] = [
        (
            "memory, MiB",
            mib(before.memory).into(),
            mib(after.memory).into(),
        ),
        ("most memory, MiB", Cell::Missing, mib(most_memory).into()),
        (
            "descriptors",
            before.descriptors.into(),
            after.descriptors.into(),
        ),
        ("processes", before.processes.into(), after.processes.into()),
        ("floods", Cell::Missing, floods.into()),
        ("calls of the bystander", Cell::Missing, calls.into()),
    ];
    for (what, before, after) in rows {
        table.row([what.into(), before, after]);
    }
    section.note(format!("answers to the floods: {}", report.said()));
    section.tables.push(table);
    Ok(section)
}

/// What came of one flood.
struct Flooded {
    report: Report,
    failures: Vec<String>,
    calls: usize,
    most_memory: u64,
}

async fn flood(
    args: &HostileArgs,
    served: &Served,
    bystander: &mut Bystander,
    floods: &[&Flood],
) -> Result<Flooded> {
    let period = Duration::from_secs(args.seconds);
    let begun_with = served.process.memory();
    let (mut attacker, handle) = Attacker::start(&served.front, floods, period)?;
    let watch = Watch::begin(served.process.id(), args.too_much(begun_with), handle);
    let mut failures = Vec::new();
    {
        let mut is_ready = pin!(attacker.until_ready());
        // The bystander goes on, so that its sessions do not end meanwhile.
        loop {
            match poll!(is_ready.as_mut()) {
                Poll::Ready(set_up) => break set_up?,
                Poll::Pending => failures.extend(bystander.measure(WHILE_SET_UP).await.failures),
            }
        }
    }
    let during = bystander.measure(period).await;
    let mut report = attacker.finish().await?;
    let watched = watch.end();
    let after = bystander.measure(PAUSE).await;
    failures.extend(during.failures);
    failures.extend(after.failures);
    failures.append(&mut report.failures);
    if watched.broken_off {
        let grown = watched.most_memory.saturating_sub(begun_with) >> 20;
        failures.push(format!(
            "memory rose by {grown} MiB, and the flood was broken off"
        ));
    }
    Ok(Flooded {
        report,
        failures,
        calls: during.calls.latencies.len() + after.calls.latencies.len(),
        most_memory: watched.most_memory,
    })
}

/// Waits until it holds no more than before, or the time for that is over; what it holds then. The bystander goes on meanwhile,
/// so that its own sessions and workers stay.
async fn settled(
    args: &HostileArgs,
    served: &Served,
    bystander: &mut Bystander,
    before: ResourceUse,
) -> Result<ResourceUse> {
    let deadline = Instant::now() + Duration::from_secs(args.settle);
    loop {
        let seen = bystander.measure(Duration::from_secs(2)).await;
        // The last session of the bystander with a server of its own has ended, but its worker may be on its way out.
        sleep(Duration::from_secs(1)).await;
        let now = ResourceUse::by(served)?;
        let over = now.over(&before, args.max_growth);
        if over.is_empty() || Instant::now() >= deadline {
            if let Some(failure) = seen.failures.first() {
                return Err(format!("after the floods: {failure}").into());
            }
            return Ok(now);
        }
        eprintln!("waiting: {}", over.join("; "));
    }
}
