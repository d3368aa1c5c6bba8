//! What is counted since stdiopool started, read from `/metrics`.

use std::collections::BTreeMap;

/// The counters that are shown, over all servers.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Counters {
    /// Starts that led to a ready worker, primed ones and spares among them.
    started: u64,
    /// Starts of those that were forked from a template.
    pub(super) primed: u64,
    /// Spares that became a tenant's worker.
    pub(super) adopted: u64,
    /// Hibernated workers that were woken.
    pub(super) woken: u64,
    /// Starts that failed.
    pub(super) failed: u64,
    /// Idle workers that went so that another could start, by the limit that needed it.
    pub(super) evictions: BTreeMap<String, u64>,
    /// Requests that were answered with a failure of stdiopool's, by its reason.
    pub(super) rejections: BTreeMap<String, u64>,
}

impl Counters {
    /// Reads the text of `/metrics`. Lines that are not understood, and metrics that are not shown, are passed over.
    pub(super) fn read(text: &str) -> Self {
        let mut counters = Self::default();
        for line in text.lines() {
            if let Some(series) = Series::read(line) {
                counters.add(&series);
            }
        }
        counters
    }

    /// Starts that ran all of a server's start.
    pub(super) fn cold(&self) -> u64 {
        self.started.saturating_sub(self.primed)
    }

    fn add(&mut self, series: &Series<'_>) {
        let count = series.value;
        let by_reason = |of: &mut BTreeMap<String, u64>| {
            if let Some(reason) = series.label("reason").filter(|_| count > 0) {
                *of.entry(reason.to_owned()).or_default() += count;
            }
        };
        match (series.name, series.label("outcome")) {
            ("worker_starts_total", Some("ok")) => self.started += count,
            // Neither is a fault: an operator ended it, or it was tried in another way.
            ("worker_starts_total", Some("cancelled" | "declined")) => {}
            ("worker_starts_total", Some(_)) => self.failed += count,
            ("worker_primed_starts_total", Some("ok")) => self.primed += count,
            ("adoption_seconds_count", _) => self.adopted += count,
            ("wake_seconds_count", _) => self.woken += count,
            ("evictions_total", _) => by_reason(&mut self.evictions),
            ("rejections_total", _) => by_reason(&mut self.rejections),
            _ => {}
        }
    }
}

/// One line of the exposition: `stdiopool_NAME{LABELS} VALUE`.
struct Series<'t> {
    name: &'t str,
    labels: &'t str,
    value: u64,
}

impl<'t> Series<'t> {
    fn read(line: &'t str) -> Option<Self> {
        let (series, value) = line.strip_prefix("stdiopool_")?.rsplit_once(' ')?;
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}')?),
            None => (series, ""),
        };
        let value: f64 = value.parse().ok()?;
        // A cast of a float saturates; counters are whole numbers.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole numbers that are not negative"
        )]
        let value = value as u64;
        Some(Self {
            name,
            labels,
            value,
        })
    }

    /// The value of a label of a closed set, in which there is neither a comma nor a quote.
    fn label(&self, name: &str) -> Option<&'t str> {
        self.labels.split(',').find_map(|label| {
            let value = label.strip_prefix(name)?.strip_prefix("=\"")?;
            value.strip_suffix('"')
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_all_servers_are_added_up() {
        let text = "\
# HELP stdiopool_worker_starts_total attempts
# TYPE stdiopool_worker_starts_total counter
stdiopool_worker_starts_total{outcome=\"ok\",server=\"a\"} 7
stdiopool_worker_starts_total{outcome=\"ok\",server=\"b\"} 3
stdiopool_worker_starts_total{outcome=\"exited\",server=\"b\"} 2
stdiopool_worker_starts_total{outcome=\"cancelled\",server=\"b\"} 9
stdiopool_worker_primed_starts_total{outcome=\"ok\",server=\"a\"} 4
stdiopool_adoption_seconds_bucket{server=\"a\",le=\"+Inf\"} 5
stdiopool_adoption_seconds_count{server=\"a\"} 5
stdiopool_wake_seconds_count{server=\"a\"} 6
stdiopool_evictions_total{reason=\"max_workers\"} 1
stdiopool_rejections_total{reason=\"busy\"} 12
stdiopool_rejections_total{reason=\"draining\"} 0
process_cpu_seconds_total 1.5
stdiopool_queue_depth nonsense
";
        let counters = Counters::read(text);
        assert_eq!((counters.cold(), counters.primed), (6, 4));
        assert_eq!((counters.adopted, counters.woken), (5, 6));
        assert_eq!(counters.failed, 2);
        assert_eq!(
            counters.evictions,
            BTreeMap::from([("max_workers".into(), 1)])
        );
        assert_eq!(counters.rejections, BTreeMap::from([("busy".into(), 12)]));
    }
}
