//! What one worker went through, as the API tells it.

use serde::{Deserialize, Serialize};

/// Something that a worker came to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TimelineRow {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What: `starting`, `ready`, `adopted`, `first_request`, `hibernated`, `woken`, `limited`, `retiring`, `stopping` or `ended`.
    pub state: String,
    /// How, in words, secrets redacted, at most 512 bytes.
    pub message: String,
}

/// What one worker went through: how it began and what happened last.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Timeline {
    /// Oldest first, at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timeline: Vec<TimelineRow>,
    /// How many rows between the first eight and the others are not remembered.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeline_left_out: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
