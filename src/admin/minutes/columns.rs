//! The day as it is told: a column for each figure.

use serde::{Deserialize, Serialize};

use super::point::{COUNTS, Point, STATES};

/// `GET /api/v1/history`. All columns have one length; `None`: nothing was recorded then.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct History {
    /// When the latest point was taken, in milliseconds since 1970.
    pub at_ms: u64,
    /// The span of one point, in seconds.
    pub step_seconds: u64,
    /// How many points there are, the latest last.
    pub len: usize,
    /// Live workers by state: the mean of the span's minutes.
    pub workers: Levels,
    /// What workers hold, in mebibytes: the mean.
    pub memory: MemoryColumns,
    /// Requests waiting: the most at the end of a minute.
    pub queue_depth: Vec<Option<u32>>,
    /// What was counted in the span.
    pub counts: Counts,
}

/// Live workers by state.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the states of workers, as in `WorkerCounts`")]
pub struct Levels {
    pub starting: Vec<Option<f64>>,
    pub spare: Vec<Option<f64>>,
    pub idle: Vec<Option<f64>>,
    pub hibernated: Vec<Option<f64>>,
    pub busy: Vec<Option<f64>>,
    pub draining: Vec<Option<f64>>,
    pub stopping: Vec<Option<f64>>,
}

/// What workers hold, in mebibytes.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct MemoryColumns {
    /// Of workers that are awake.
    pub awake_mib: Vec<Option<u32>>,
    /// Of hibernated ones.
    pub asleep_mib: Vec<Option<u32>>,
}

/// What was counted.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Counts {
    /// Requests for tools, prompts, resources and completions.
    pub calls: Vec<Option<u64>>,
    /// Requests that were answered with an error, the server's or stdiopool's.
    pub errors: Vec<Option<u64>>,
    /// Requests that were answered with a failure of stdiopool's own.
    pub rejections: Vec<Option<u64>>,
    /// Idle workers that were stopped to make room.
    pub evictions: Vec<Option<u64>>,
    /// Requests that an awake worker had which had served before.
    pub warm: Vec<Option<u64>>,
    /// Requests for which a hibernated worker was woken.
    pub woken: Vec<Option<u64>>,
    /// Spares that became a tenant's worker.
    pub adopted: Vec<Option<u64>>,
    /// Primed starts.
    pub primed: Vec<Option<u64>>,
    /// Starts that ran all of a server's start.
    pub cold: Vec<Option<u64>>,
    /// Starts that failed.
    pub failed: Vec<Option<u64>>,
}

/// Points that are put together.
#[derive(Default)]
struct Group {
    minutes: u32,
    workers: [u64; STATES],
    memory_mib: [u64; 2],
    queue_depth: u32,
    counts: [u64; COUNTS],
}

impl Group {
    fn add(mut self, point: &Point) -> Self {
        self.minutes += 1;
        let sums = self.workers.iter_mut().zip(point.workers);
        sums.for_each(|(sum, level)| *sum += u64::from(level));
        let sums = self.memory_mib.iter_mut().zip(point.memory_mib);
        sums.for_each(|(sum, level)| *sum += u64::from(level));
        self.queue_depth = self.queue_depth.max(point.queue_depth);
        let sums = self.counts.iter_mut().zip(point.counts);
        sums.for_each(|(sum, count)| *sum += u64::from(count));
        self
    }
}

impl History {
    /// The groups, the latest last, of `each` minutes.
    #[allow(clippy::cast_precision_loss, reason = "what is shown has few digits")]
    pub(super) fn of(at_ms: u64, each: usize, groups: &[Vec<Option<Point>>]) -> Self {
        let mut told = Self {
            at_ms,
            step_seconds: 60 * each as u64,
            len: groups.len(),
            ..Self::default()
        };
        for group in groups {
            let points = group.iter().flatten();
            let group = points.fold(Group::default(), Group::add);
            let is_there = group.minutes > 0;
            let mean = |sum: u64| {
                let mean = sum as f64 / f64::from(group.minutes);
                is_there.then(|| (mean * 10.0).round() / 10.0)
            };
            let columns = told.workers.columns().into_iter().zip(group.workers);
            columns.for_each(|(column, sum)| column.push(mean(sum)));
            let columns = told.memory.columns().into_iter().zip(group.memory_mib);
            columns.for_each(|(column, sum)| {
                let mean = sum.checked_div(u64::from(group.minutes));
                column.push(mean.map(|mib| u32::try_from(mib).unwrap_or(u32::MAX)));
            });
            told.queue_depth.push(is_there.then_some(group.queue_depth));
            let columns = told.counts.columns().into_iter().zip(group.counts);
            columns.for_each(|(column, sum)| column.push(is_there.then_some(sum)));
        }
        told
    }
}

impl Levels {
    /// In the order of a point's.
    fn columns(&mut self) -> [&mut Vec<Option<f64>>; STATES] {
        [
            &mut self.starting,
            &mut self.spare,
            &mut self.idle,
            &mut self.hibernated,
            &mut self.busy,
            &mut self.draining,
            &mut self.stopping,
        ]
    }
}

impl MemoryColumns {
    fn columns(&mut self) -> [&mut Vec<Option<u32>>; 2] {
        [&mut self.awake_mib, &mut self.asleep_mib]
    }
}

impl Counts {
    /// In the order of a point's.
    fn columns(&mut self) -> [&mut Vec<Option<u64>>; COUNTS] {
        [
            &mut self.calls,
            &mut self.errors,
            &mut self.rejections,
            &mut self.evictions,
            &mut self.warm,
            &mut self.woken,
            &mut self.adopted,
            &mut self.primed,
            &mut self.cold,
            &mut self.failed,
        ]
    }
}
