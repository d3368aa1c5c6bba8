use std::time::Duration;

use crate::latency::*;

#[test]
fn a_percentile_is_the_value_at_its_rank() {
    let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
    for (percent, expected) in [
        (0.0, 1.0),
        (50.0, 50.0),
        (99.0, 99.0),
        (99.1, 100.0),
        (100.0, 100.0),
    ] {
        assert_eq!(percentile(&hundred, percent), expected, "{percent}");
    }
    assert_eq!(percentile(&[7.0], 1.0), 7.0);
    assert!(percentile(&[], 50.0).is_nan());
    assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.0);
}

#[test]
fn rounds_are_added_up() {
    let millis = |count: u64| (1..=count).map(Duration::from_millis).collect();
    let mut calls = Calls::default();
    for count in [10, 30] {
        calls.add(Calls {
            latencies: millis(count),
            took: Duration::from_secs(1),
        });
    }
    assert_eq!(calls.rate(), 20.0);
    assert_eq!(calls.per_call(80.0), 2.0);
    assert_eq!(calls.micros([50.0, 100.0]), [10_000.0, 30_000.0]);
}
