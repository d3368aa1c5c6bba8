//! A line in the log for each request that fails, of each tenant a few.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use tokio::time::Instant;

use super::labels::Outcome;
use super::recent_requests::remember;
use super::request_span::RequestSpan;
use super::warnings::Warnings;

/// Into so many groups tenants are put by chance. The failures of one tenant leave those of other groups their lines.
const GROUPS: usize = 64;
/// Lines of a group in a minute, in the log as it is by default.
const MAX_LINES: u32 = 30;
/// Longest part of a message that is logged, in bytes.
const MAX_MESSAGE: usize = 1000;

/// How many lines there have been of each group, and, at the end, of those who are no tenant's.
static TOLD: LazyLock<Vec<Warnings>> = LazyLock::new(|| {
    let groups = 0..=GROUPS;
    groups.map(|_| Warnings::of(MAX_LINES)).collect()
});

/// Says in the log that the current request is answered with a failure of that reason, and why. Lines that are too many
/// are there with `debug` only, and the next one says how many they were.
pub fn request_failed(reason: &'static str, why: &str) {
    let Some(span) = RequestSpan::current() else {
        return;
    };
    let took = span.began().elapsed();
    span.progress().ended(took, Outcome::Failed, Some(reason));
    remember(&span);
    let why = cut(why);
    let untold = TOLD
        .get(group(&span))
        .and_then(|told| told.next(Instant::now()));
    match untold {
        Some(untold) => tracing::info!(reason, untold, "request failed: {why}"),
        None => tracing::debug!(reason, "request failed: {why}"),
    }
}

fn group(span: &RequestSpan) -> usize {
    /// Nobody can choose a name that is in another's group.
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let Some(tenant) = span.tenant() else {
        return GROUPS;
    };
    let hash = KEY.hash_one(tenant) % GROUPS as u64;
    usize::try_from(hash).unwrap_or_default()
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_MESSAGE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
