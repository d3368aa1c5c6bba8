//! What a template says of itself.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// The one line of a template's stdout (`template.py`), and of a probe for node (`probe.mjs`).
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Why it is no template; it ends then.
    pub error: Option<String>,
    /// Modules that it has imported.
    pub modules: Vec<String>,
    /// Modules that each worker imports for itself, and why.
    pub left_out: BTreeMap<String, String>,
    /// Environment variables that the imported ones have read.
    pub reads: BTreeSet<String>,
    /// What went wrong with the program's own import.
    pub failed: Option<String>,
    /// How long the imports took, in milliseconds.
    pub took_ms: u64,
    /// Of node: those of the modules that are loaded by `require`.
    pub required: BTreeSet<String>,
    /// Of node: whether the program is an ES module.
    pub is_module: bool,
}

impl Report {
    /// Reads the line.
    ///
    /// # Errors
    /// In words, when it is none.
    pub fn read(line: &[u8]) -> Result<Self, String> {
        let report: Self = serde_json::from_slice(line)
            .map_err(|error| format!("it said what is no report: {error}"))?;
        match report.error {
            Some(why) => Err(why),
            None if report.modules.is_empty() => {
                Err("no module of it can be imported ahead".to_owned())
            }
            None => Ok(report),
        }
    }

    /// A variable that a launch sets and an imported module has read, beside those that are equal for both.
    pub fn read_of<'a>(
        &self,
        env: &'a BTreeMap<String, SecretString>,
        equal: &BTreeMap<String, String>,
    ) -> Option<&'a str> {
        let mut names = env.keys().map(String::as_str);
        names.find(|name| self.reads.contains(*name) && !equal.contains_key(*name))
    }
}
