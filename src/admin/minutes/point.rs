//! One minute.

use crate::admin::model::WorkerCounts;
use crate::pool::Grants;
use crate::telemetry::Totals;

/// Counters since the start.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Totalled {
    /// What is counted of requests and starts.
    pub totals: Totals,
    /// How requests came to their workers.
    pub grants: Grants,
}

/// What is looked at once a minute.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Sample {
    /// Live workers.
    pub workers: WorkerCounts,
    /// What workers hold that are awake, in bytes.
    pub awake_bytes: u64,
    /// What hibernated workers hold, in bytes.
    pub asleep_bytes: u64,
    /// Requests waiting.
    pub queue_depth: usize,
    /// Counters since the start.
    pub totalled: Totalled,
}

/// States of workers, in the order of [`Point`]'s.
pub(super) const STATES: usize = 7;
/// Figures that are counted, in the order of [`Point`]'s.
pub(super) const COUNTS: usize = 10;

/// A minute: what was at its end, and what was counted in it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Point {
    /// Workers by state: starting, spare, idle, hibernated, busy, draining, stopping.
    pub(super) workers: [u32; STATES],
    /// Mebibytes, awake and asleep.
    pub(super) memory_mib: [u32; 2],
    pub(super) queue_depth: u32,
    /// Calls, errors, rejections, evictions, warm, woken, adopted, primed, cold, failed.
    pub(super) counts: [u32; COUNTS],
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn size(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Point {
    /// The minute that ends with that sample, where counters stood so when it began.
    pub fn of(sample: &Sample, before: &Totalled) -> Self {
        let workers = &sample.workers;
        let mib = |bytes: u64| narrow(bytes.div_ceil(1 << 20));
        Self {
            workers: [
                workers.starting,
                workers.spare,
                workers.idle,
                workers.hibernated,
                workers.busy,
                workers.draining,
                workers.stopping,
            ]
            .map(size),
            memory_mib: [mib(sample.awake_bytes), mib(sample.asleep_bytes)],
            queue_depth: size(sample.queue_depth),
            counts: counted(&sample.totalled, before).map(narrow),
        }
    }
}

/// What was counted between two looks. A counter that is lower than before is of a server that was removed: nothing is told of it.
pub(super) fn counted(now: &Totalled, before: &Totalled) -> [u64; COUNTS] {
    let of = |all: &Totalled| {
        let Totalled { totals, grants } = all;
        [
            totals.calls,
            totals.errors,
            totals.rejections.iter().sum(),
            totals.evictions.iter().sum(),
            grants.warm,
            grants.woken,
            totals.adopted,
            totals.primed,
            totals.started.saturating_sub(totals.primed),
            totals.failed,
        ]
    };
    let (now, before) = (of(now), of(before));
    std::array::from_fn(|at| now[at].saturating_sub(before[at]))
}
