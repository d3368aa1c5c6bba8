//! What a template says of itself.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// The one line of a template's stdout (`template.py`), and of a probe for node (`probe.mjs`).
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Why the process is no template; it ends then.
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
    /// The modules among them that node loads by `require`.
    pub required: BTreeSet<String>,
    /// The program is an ES module of node.
    pub is_module: bool,
}

/// Why a process became no template.
#[derive(Debug, thiserror::Error)]
pub enum NoTemplate {
    /// The line of its stdout is no report.
    #[error("it said what is no report: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// The process says itself why it is none.
    #[error("{0}")]
    Said(String),
    /// Nothing of the package can be imported before a worker is there.
    #[error("no module of it can be imported ahead")]
    NoModules,
    /// The process ended before its imports were done.
    #[error("it ended before it was ready")]
    Ended,
    /// The imports took longer than a template may need.
    #[error("its imports take too long")]
    TooSlow,
}

impl Report {
    /// Reads the line.
    ///
    /// # Errors
    /// The line is no report, or says that its process is no template.
    pub fn read(line: &[u8]) -> Result<Self, NoTemplate> {
        let report: Self = serde_json::from_slice(line)?;
        match report.error {
            Some(why) => Err(NoTemplate::Said(why)),
            None if report.modules.is_empty() => Err(NoTemplate::NoModules),
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
