//! What a hostile client was answered, counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Kinds of answers that are shown; the rest is in the number behind them.
const SHOWN: usize = 5;

/// Counts of answers by kind, shared by all connections of a flood.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answers(Arc<Mutex<BTreeMap<String, u64>>>);

/// What a flood ends with, on its way from its own process.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    answers: BTreeMap<String, u64>,
    /// What kept it from flooding.
    pub(crate) failures: Vec<String>,
}

impl Answers {
    /// One more of that kind, such as `429 tenant_limit`.
    pub(crate) fn count(&self, kind: &str) {
        let mut counts = self.0.lock();
        match counts.get_mut(kind) {
            Some(count) => *count += 1,
            None => _ = counts.insert(kind.to_owned(), 1),
        }
    }

    pub(crate) fn report(&self, failures: Vec<String>) -> Report {
        Report {
            answers: self.0.lock().clone(),
            failures,
        }
    }
}

impl Report {
    /// Adds those of another flood.
    pub(crate) fn add(&mut self, other: Self) {
        for (kind, count) in other.answers {
            *self.answers.entry(kind).or_default() += count;
        }
        self.failures.extend(other.failures);
    }

    /// The most frequent kinds first.
    pub(crate) fn said(&self) -> String {
        let mut kinds: Vec<_> = self.answers.iter().collect();
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let shown = kinds.iter().take(SHOWN);
        let mut said: Vec<_> = shown
            .map(|(kind, count)| format!("{kind} x {count}"))
            .collect();
        let rest: u64 = kinds.iter().skip(SHOWN).map(|(_, count)| **count).sum();
        if rest > 0 {
            said.push(format!("others x {rest}"));
        }
        match said.is_empty() {
            true => "none".to_owned(),
            false => said.join(", "),
        }
    }
}
