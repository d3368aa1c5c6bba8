//! The table.

use std::time::Duration;

/// What one measurement gave.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Of every call, in any order.
    pub(crate) latencies: Vec<Duration>,
    pub(crate) took: Duration,
    /// CPU time of the process under test, user and system.
    pub(crate) cpu: Duration,
    /// Resident memory of the process under test, in bytes.
    pub(crate) memory: u64,
}

#[derive(Default)]
pub(crate) struct Report {
    /// Requests a second and microseconds of CPU per request, of the rows since the last ratio.
    rows: Vec<(&'static str, f64, f64)>,
    has_header: bool,
}

impl Report {
    pub(crate) fn add(&mut self, what: &'static str, sessions: usize, measured: &Measured) {
        if !self.has_header {
            self.has_header = true;
            println!(
                "{:<10} {:>8} {:>10} {:>9} {:>9} {:>12} {:>9}",
                "", "sessions", "req/s", "p50 µs", "p99 µs", "CPU µs/req", "RSS MiB"
            );
        }
        let mut sorted: Vec<_> = measured.latencies.iter().map(Duration::as_micros).collect();
        sorted.sort_unstable();
        let at = |percent: usize| {
            sorted
                .get((sorted.len() * percent / 100).min(sorted.len() - 1))
                .copied()
                .unwrap_or(0)
        };
        let count = u32::try_from(sorted.len()).expect("fewer than four billion");
        let rate = f64::from(count) / measured.took.as_secs_f64();
        let cpu = measured.cpu.as_secs_f64() * 1e6 / f64::from(count);
        println!(
            "{what:<10} {sessions:>8} {rate:>10.0} {:>9} {:>9} {cpu:>12.1} {:>9.1}",
            at(50),
            at(99),
            measured.memory as f64 / f64::from(1 << 20),
        );
        self.rows.push((what, rate, cpu));
    }

    /// Relates the last row to those before it.
    pub(crate) fn compare(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        let Some(((what, rate, _), floors)) = rows.split_last() else {
            return;
        };
        let ratios = floors
            .iter()
            .map(|(floor, of_floor, _)| format!("{:.2} of {floor}", rate / of_floor));
        println!("{what}: {}\n", ratios.collect::<Vec<_>>().join(", "));
    }
}
