//! What came of a soak, in numbers that add up over runs: pure, no process.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Texts of one run that are kept of what must not be.
const MAX_FAULTS: usize = 20;

/// Counts of one run, or of several.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Tally {
    pub(crate) runs: u64,
    pub(crate) seconds: u64,
    /// Answers with the caller's own identity and the text of its own call.
    pub(crate) right: u64,
    /// Answers with anything else.
    pub(crate) wrong: u64,
    /// What was promised and did not come: an answer or a reason in time, a session, a stored config, a result while nothing was ended.
    pub(crate) lost: u64,
    /// What is there at the end and should have gone: processes, descriptors, memory, folders, control groups.
    pub(crate) leaked: u64,
    /// Calls that failed with a reason which the disturbances explain, by reason; each was made again.
    pub(crate) told: BTreeMap<String, u64>,
    /// Calls under way when the supervisor was ended, which nothing is promised of; each was made again.
    pub(crate) cut_off: u64,
    /// Stored configs that were asked for after a restart and found whole, and refused to another tenant.
    pub(crate) configs_kept: u64,
    /// What was done meanwhile, by name.
    pub(crate) disturbances: BTreeMap<String, u64>,
    /// Of wrong, lost and leaked: what was seen, for one run.
    #[serde(skip)]
    pub(crate) faults: Vec<String>,
}

impl Tally {
    /// Something that must not be; its count is the caller's.
    pub(crate) fn fault(&mut self, text: String) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(text);
        }
    }

    /// One more call that failed with that reason.
    pub(crate) fn told(&mut self, reason: &str) {
        count(&mut self.told, reason, 1);
    }

    /// One more disturbance of that name.
    pub(crate) fn did(&mut self, what: &str) {
        count(&mut self.disturbances, what, 1);
    }

    /// Adds what came of another run.
    pub(crate) fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.seconds += other.seconds;
        self.right += other.right;
        self.wrong += other.wrong;
        self.lost += other.lost;
        self.leaked += other.leaked;
        self.cut_off += other.cut_off;
        self.configs_kept += other.configs_kept;
        for (reason, more) in &other.told {
            count(&mut self.told, reason, *more);
        }
        for (what, more) in &other.disturbances {
            count(&mut self.disturbances, what, *more);
        }
    }

    /// The sum of runs, each of which is a line of JSON.
    ///
    /// # Errors
    /// If a line is none: then the sum would be short of a run.
    pub(crate) fn of_lines(text: &str) -> serde_json::Result<Self> {
        let mut sum = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            sum.add(&serde_json::from_str(line)?);
        }
        Ok(sum)
    }

    /// Counts by name, in words.
    pub(crate) fn listed(counts: &BTreeMap<String, u64>) -> String {
        let all = counts.iter().map(|(name, count)| format!("{name} {count}"));
        let all: Vec<_> = all.collect();
        match all.is_empty() {
            true => "none".to_owned(),
            false => all.join(", "),
        }
    }
}

fn count(counts: &mut BTreeMap<String, u64>, name: &str, more: u64) {
    match counts.get_mut(name) {
        Some(count) => *count += more,
        None => _ = counts.insert(name.to_owned(), more),
    }
}
