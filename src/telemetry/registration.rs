//! How metrics are named and registered.

use prometheus::{HistogramOpts, Opts, Registry};

/// First part of every name but the `process_*` ones, whose names are a convention of their own.
pub(super) const NAMESPACE: &str = "stdiopool";

/// Registration of fixed names can only fail for a mistake in this source, which every test that
/// builds a [`Metrics`] finds.
pub(super) const STATIC_NAMES: &str = "metric names are valid and distinct";

pub(super) fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(NAMESPACE)
}

pub(super) fn histogram(name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::new(name, help)
        .namespace(NAMESPACE)
        .buckets(buckets.to_vec())
}

pub(super) fn register<M>(registry: &Registry, metric: prometheus::Result<M>) -> M
where
    M: prometheus::core::Collector + Clone + 'static,
{
    let metric = metric.expect(STATIC_NAMES);
    registry
        .register(Box::new(metric.clone()))
        .expect(STATIC_NAMES);
    metric
}

/// A count as a gauge's value; no count of this process comes near the bound.
pub(super) fn gauge_value(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
