//! What was measured of calls, and its percentiles.

use std::time::Duration;

/// Calls of one system, of one or several rounds.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// Of every call, in any order.
    pub(crate) latencies: Vec<Duration>,
    /// How long the rounds took together.
    pub(crate) took: Duration,
}

impl Calls {
    /// Adds those of another round.
    pub(crate) fn add(&mut self, round: Self) {
        self.latencies.extend(round.latencies);
        self.took += round.took;
    }

    /// Calls a second.
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }

    /// A cost of all of them, per call.
    pub(crate) fn per_call(&self, all: f64) -> f64 {
        all / self.latencies.len() as f64
    }

    /// The latencies at these percentiles, in microseconds; NaN without a call.
    pub(crate) fn micros<const N: usize>(&self, percentiles: [f64; N]) -> [f64; N] {
        let mut sorted: Vec<f64> = self
            .latencies
            .iter()
            .map(|latency| latency.as_secs_f64() * 1e6)
            .collect();
        sorted.sort_unstable_by(f64::total_cmp);
        percentiles.map(|percent| percentile(&sorted, percent))
    }
}

/// The smallest value that at least `percent` of the sorted values do not exceed (nearest rank);
/// NaN if there is none.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank between 0 and the number of values"
)]
pub(crate) fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let rank = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    let at = rank.clamp(1, sorted.len().max(1)) - 1;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// The median of values in any order; NaN if there is none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    percentile(&sorted, 50.0)
}
