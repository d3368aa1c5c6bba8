//! Which rows come first.

use std::cmp::Ordering;

use super::query::Sort;
use super::rows::{ServerUse, TenantUse, WorkerUse};

/// What a row is ranked by.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Figures<'a> {
    cpu: f64,
    memory: u64,
    workers: u64,
    in_flight: usize,
    queued: usize,
    calls: f64,
    errors: f64,
    /// Where names are equal, or there are none: the number of a worker.
    name: (&'a str, u64),
}

/// A row that can be ranked.
pub(super) trait Ranked {
    /// What the row is ranked by.
    fn figures(&self) -> Figures<'_>;
}

impl Ranked for TenantUse {
    fn figures(&self) -> Figures<'_> {
        Figures {
            cpu: self.cpu_cores,
            memory: self.memory_awake_bytes + self.memory_asleep_bytes,
            workers: self.workers as u64,
            in_flight: self.in_flight,
            queued: self.queued,
            calls: self.calls_per_minute,
            errors: self.errors_per_minute,
            name: (self.name.as_str(), 0),
        }
    }
}

impl Ranked for ServerUse {
    fn figures(&self) -> Figures<'_> {
        Figures {
            cpu: self.cpu_cores,
            memory: self.memory_awake_bytes + self.memory_asleep_bytes,
            workers: self.workers as u64,
            in_flight: self.in_flight,
            queued: self.queued,
            calls: self.calls_per_minute,
            errors: self.errors_per_minute,
            name: (self.name.as_str(), 0),
        }
    }
}

impl Ranked for WorkerUse {
    #[allow(clippy::cast_precision_loss, reason = "ranks, of no more than 2^53")]
    fn figures(&self) -> Figures<'_> {
        Figures {
            cpu: self.cpu_cores,
            memory: self.memory_bytes.unwrap_or(0),
            workers: self.requests,
            in_flight: self.in_flight,
            queued: self.in_flight,
            calls: self.requests as f64,
            errors: self.in_flight as f64,
            name: ("", self.id.0),
        }
    }
}

/// Whether `a` comes before `b`: what is sorted by first, then processor time, memory and workers, then the name. No two rows are equal.
fn order(sort: Sort, a: &Figures<'_>, b: &Figures<'_>) -> Ordering {
    let first = match sort {
        Sort::Cpu => Ordering::Equal,
        Sort::Memory => b.memory.cmp(&a.memory),
        Sort::Workers => b.workers.cmp(&a.workers),
        Sort::InFlight => b.in_flight.cmp(&a.in_flight),
        Sort::Queued => b.queued.cmp(&a.queued),
        Sort::Calls => b.calls.total_cmp(&a.calls),
        Sort::Errors => b.errors.total_cmp(&a.errors),
        Sort::Name => a.name.cmp(&b.name),
    };
    first
        .then_with(|| b.cpu.total_cmp(&a.cpu))
        .then_with(|| b.memory.cmp(&a.memory))
        .then_with(|| b.workers.cmp(&a.workers))
        .then_with(|| a.name.cmp(&b.name))
}

/// The first `most` of the rows, in order. Costs little where there are many more.
pub(super) fn top<T: Ranked>(mut rows: Vec<&T>, sort: Sort, most: usize) -> Vec<&T> {
    let compare = |a: &&T, b: &&T| order(sort, &a.figures(), &b.figures());
    if most == 0 {
        return vec![];
    }
    if rows.len() > most {
        rows.select_nth_unstable_by(most - 1, compare);
        rows.truncate(most);
    }
    rows.sort_unstable_by(compare);
    rows
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::TenantId;

    const ALL: [Sort; 8] = [
        Sort::Cpu,
        Sort::Memory,
        Sort::Workers,
        Sort::InFlight,
        Sort::Queued,
        Sort::Calls,
        Sort::Errors,
        Sort::Name,
    ];

    fn row((n, figures): (usize, [u8; 7])) -> TenantUse {
        let [cpu, awake, asleep, workers, in_flight, queued, calls] = figures;
        TenantUse {
            name: TenantId::new(format!("t{n}")),
            workers: workers.into(),
            max_workers: 8,
            in_flight: in_flight.into(),
            queued: queued.into(),
            calls_per_minute: calls.into(),
            errors_per_minute: (calls / 2).into(),
            cpu_cores: cpu.into(),
            memory_awake_bytes: awake.into(),
            memory_asleep_bytes: asleep.into(),
        }
    }

    #[test]
    fn the_highest_come_first_and_names_from_a_to_z() {
        let rows = [
            row((1, [0, 5, 0, 9, 0, 0, 0])),
            row((0, [1, 1, 1, 1, 0, 3, 0])),
            row((2, [0, 5, 0, 9, 7, 0, 0])),
        ];
        let names = |sort, most| {
            let top = top(rows.iter().collect(), sort, most);
            top.iter()
                .map(|row| row.name.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(Sort::Cpu, 3), ["t0", "t1", "t2"]);
        assert_eq!(names(Sort::Memory, 3), ["t1", "t2", "t0"]);
        assert_eq!(names(Sort::InFlight, 1), ["t2"]);
        assert_eq!(names(Sort::Queued, 1), ["t0"]);
        assert_eq!(names(Sort::Name, 2), ["t0", "t1"]);
        assert!(names(Sort::Name, 0).is_empty());
    }

    proptest! {
        #[test]
        fn the_first_are_those_of_the_whole_order(
            figures in prop::collection::vec(any::<[u8; 7]>(), 0..60),
            most in 0_usize..70,
        ) {
            let rows: Vec<_> = figures.into_iter().enumerate().map(row).collect();
            for sort in ALL {
                let mut whole: Vec<_> = rows.iter().collect();
                whole.sort_by(|a, b| order(sort, &a.figures(), &b.figures()));
                whole.truncate(most);
                prop_assert_eq!(top(rows.iter().collect(), sort, most), whole);
            }
        }
    }
}
