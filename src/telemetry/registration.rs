//! How metrics are named and registered.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

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

pub(super) fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::with_opts(opts(name, help)))
}

pub(super) fn counter_by(
    registry: &Registry,
    name: &str,
    labels: &[&str],
    help: &str,
) -> IntCounterVec {
    register(registry, IntCounterVec::new(opts(name, help), labels))
}

pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::with_opts(opts(name, help)))
}

pub(super) fn gauge_by(
    registry: &Registry,
    name: &str,
    labels: &[&str],
    help: &str,
) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(opts(name, help), labels))
}

pub(super) fn seconds(registry: &Registry, name: &str, buckets: &[f64], help: &str) -> Histogram {
    register(
        registry,
        Histogram::with_opts(histogram(name, help, buckets)),
    )
}

pub(super) fn seconds_by(
    registry: &Registry,
    name: &str,
    labels: &[&str],
    buckets: &[f64],
    help: &str,
) -> HistogramVec {
    let options = histogram(name, help, buckets);
    register(registry, HistogramVec::new(options, labels))
}

/// Metric families as one table: a row is `field: type = maker(name, …, help)`, where the maker gets the registry first.
/// The help is what a scrape says of the family.
macro_rules! families {
    (
        $(#[$meta:meta])*
        $vis:vis struct $table:ident {
            $($field:ident: $family:ty = $maker:ident($($arg:expr),+);)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug)]
        $vis struct $table {
            $($vis $field: $family,)+
        }

        impl $table {
            /// Registers every family of the table.
            $vis fn new(registry: &Registry) -> Self {
                Self { $($field: $maker(registry, $($arg),+),)+ }
            }
        }
    };
}
pub(super) use families;
