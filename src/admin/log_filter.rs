//! The filter of the log, as the API tells and changes it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::telemetry::FilterInForce;

/// What is logged.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogFilterRow {
    /// The filter, as it was written.
    pub filter: String,
    /// The filter that stdiopool began with (`STDIOPOOL_LOG`).
    pub first: String,
    /// When that one comes back, in UTC.
    pub until: Option<String>,
}

impl From<FilterInForce> for LogFilterRow {
    fn from(now: FilterInForce) -> Self {
        let until = now.until.map(humantime::format_rfc3339_seconds);
        Self {
            filter: now.filter,
            first: now.first,
            until: until.map(|until| until.to_string()),
        }
    }
}

/// What is to be logged.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewLogFilter {
    /// The filter; without one the first comes back.
    pub filter: Option<String>,
    /// For so many seconds; then the first comes back.
    pub seconds: Option<u64>,
}

impl NewLogFilter {
    /// How long it is to hold.
    pub fn lasting(&self) -> Option<Duration> {
        self.seconds.map(Duration::from_secs)
    }
}
