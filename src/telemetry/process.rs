//! `process_*`: the supervisor itself, under the names every Prometheus client library uses.
//!
//! The client library has a collector of its own; it counts CPU time in whole seconds, too coarse
//! to tell the cost of a request, and brings a second, older copy of the system call bindings.

use std::fs;
use std::time::SystemTime;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, Metric, MetricFamily, MetricType};

use super::registration::STATIC_NAMES;

/// A metric of the process.
#[derive(Clone, Copy)]
struct Described {
    name: &'static str,
    help: &'static str,
}

const CPU: Described = Described {
    name: "process_cpu_seconds_total",
    help: "CPU time of the supervisor, user and system, workers excluded.",
};
const OPEN_FDS: Described = Described {
    name: "process_open_fds",
    help: "File descriptors the supervisor has open.",
};
const MAX_FDS: Described = Described {
    name: "process_max_fds",
    help: "File descriptors the supervisor may have open.",
};
const RESIDENT: Described = Described {
    name: "process_resident_memory_bytes",
    help: "Resident memory of the supervisor.",
};
const VIRTUAL: Described = Described {
    name: "process_virtual_memory_bytes",
    help: "Address space of the supervisor.",
};
const START: Described = Described {
    name: "process_start_time_seconds",
    help: "When the supervisor started, in seconds since 1970.",
};
const THREADS: Described = Described {
    name: "process_threads",
    help: "Threads of the supervisor.",
};

/// Reads the numbers on each scrape. What cannot be read is left out rather than reported as 0.
#[derive(Debug)]
pub(super) struct ProcessCollector {
    descs: Vec<Desc>,
    started: f64,
}

impl ProcessCollector {
    pub(super) fn new() -> Self {
        let descs = [CPU, OPEN_FDS, MAX_FDS, RESIDENT, VIRTUAL, START, THREADS]
            .map(|Described { name, help }| {
                Desc::new(name.into(), help.into(), vec![], Default::default()).expect(STATIC_NAMES)
            })
            .to_vec();
        let started = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0.0, |since| since.as_secs_f64());
        Self { descs, started }
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = vec![gauge(START, self.started)];
        if let Some(seconds) = cpu_seconds() {
            families.push(counter(CPU, seconds));
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            // One of them is the folder being read.
            families.push(gauge(OPEN_FDS, as_float(entries.count().saturating_sub(1))));
        }
        if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
            families.push(gauge(MAX_FDS, soft as f64));
        }
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            let kib = |key| status_number(&status, key).map(|kib| kib * 1024.0);
            let found = [
                (RESIDENT, kib("VmRSS:")),
                (VIRTUAL, kib("VmSize:")),
                (THREADS, status_number(&status, "Threads:")),
            ];
            families.extend(
                found
                    .into_iter()
                    .filter_map(|(metric, value)| Some(gauge(metric, value?))),
            );
        }
        families
    }
}

fn cpu_seconds() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Some(micros as f64 / 1e6)
}

/// The number after `key` in proc_pid_status(5): `VmRSS:\t   1234 kB`.
fn status_number(status: &str, key: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn as_float(count: usize) -> f64 {
    count as f64
}

fn gauge(metric: Described, value: f64) -> MetricFamily {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    family(metric, MetricType::GAUGE, Metric::from_gauge(gauge))
}

fn counter(metric: Described, value: f64) -> MetricFamily {
    let mut counter = Counter::default();
    counter.set_value(value);
    let mut sample = Metric::default();
    sample.set_counter(counter);
    family(metric, MetricType::COUNTER, sample)
}

fn family(metric: Described, kind: MetricType, sample: Metric) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(metric.name.to_owned());
    family.set_help(metric.help.to_owned());
    family.set_field_type(kind);
    family.set_metric(vec![sample]);
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_measured() {
        let families = ProcessCollector::new().collect();
        let value = |name: &str| {
            let family = families
                .iter()
                .find(|family| family.name() == name)
                .unwrap_or_else(|| panic!("{name} is missing"));
            family.get_metric()[0].get_gauge().get_value()
        };
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_threads") >= 1.0);
        assert!(value("process_start_time_seconds") > 1.7e9);
        assert_eq!(families.len(), 7);
    }

    #[test]
    fn cpu_time_is_finer_than_a_second() {
        let before = cpu_seconds().expect("readable");
        let mut sum = 0_u64;
        while cpu_seconds().expect("readable") - before < 0.02 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
        assert!(cpu_seconds().expect("readable") > before);
    }
}
