//! Single requests as examples of what a histogram counts: the last one of each bucket whose spans are exported, by the id of its trace.
//!
//! OpenMetrics alone has them. There is one for each bucket of each series at the most.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::protocol::TraceId;

/// One request.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Exemplar {
    trace: TraceId,
    /// What the histogram was told of it, in seconds.
    value: f64,
    at: SystemTime,
}

impl fmt::Display for Exemplar {
    /// As it follows a sample (OpenMetrics 1.0, "Exemplars").
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (trace, value) = (self.trace, self.value);
        let at = since.as_secs_f64();
        write!(f, "# {{trace_id=\"{trace}\"}} {value} {at:.3}")
    }
}

/// The last request of each bucket of one series.
#[derive(Debug, Default)]
pub(super) struct SeriesExemplars(Mutex<Vec<Option<Exemplar>>>);

impl SeriesExemplars {
    /// Notes a request of that trace which took so long, in a histogram with those bounds.
    pub(super) fn note(&self, bounds: &[f64], trace: TraceId, took: Duration) {
        let value = took.as_secs_f64();
        let exemplar = Exemplar {
            trace,
            value,
            at: SystemTime::now(),
        };
        let bucket = bounds.iter().position(|bound| value <= *bound);
        let mut all = self.0.lock();
        all.resize(bounds.len() + 1, None);
        all[bucket.unwrap_or(bounds.len())] = Some(exemplar);
    }

    /// By bucket; empty if there are none.
    pub(super) fn all(&self) -> Vec<Option<Exemplar>> {
        self.0.lock().clone()
    }
}

/// The exemplars of a scrape: of the family `request_seconds`, by server and method.
#[derive(Debug, Default)]
pub struct Exemplars(FxHashMap<(String, &'static str), Vec<Option<Exemplar>>>);

impl Exemplars {
    /// The one family that has some.
    pub(super) const FAMILY: &'static str = "stdiopool_request_seconds";

    /// Adds those of a series.
    pub(super) fn add(&mut self, server: &str, method: &'static str, all: Vec<Option<Exemplar>>) {
        if !all.is_empty() {
            self.0.insert((server.to_owned(), method), all);
        }
    }

    /// The exemplars of a series, by bucket.
    pub(super) fn of(&self, server: &str, method: &str) -> Option<&[Option<Exemplar>]> {
        let found = self.0.iter();
        let mut found = found.filter(|((one, other), _)| one == server && *other == method);
        found.next().map(|(_, all)| all.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_each_bucket_is_kept() {
        let series = SeriesExemplars::default();
        let trace = |n: u8| TraceId::new([n; 16]).expect("not zero");
        for (n, ms) in [(1, 5), (2, 10), (3, 200), (4, 7)] {
            series.note(&[0.01, 0.1], trace(n), Duration::from_millis(ms));
        }
        let all = series.all();
        let of = |at: usize| all[at].map(|exemplar| (exemplar.trace, exemplar.value));
        assert_eq!(of(0), Some((trace(4), 0.007)));
        assert_eq!((of(1), of(2)), (None, Some((trace(3), 0.2))));
        let shown = all[2].expect("there").to_string();
        let start = format!("# {{trace_id=\"{}\"}} 0.2 ", "03".repeat(16));
        assert!(shown.starts_with(&start), "{shown}");
    }
}
