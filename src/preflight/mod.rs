//! What is found out about a config before anything is started from it: whether this host has what the file names, and
//! what a start of each server's command will come to.
//!
//! `check` says all of it; whoever puts the file in force refuses what is [`Weight::Fatal`], logs the rest and goes on, as
//! one server's missing program must not take the others from their callers. Each is said in the same words everywhere.
//!
//! It deliberately runs nothing and asks no registry: commands that print secrets, packages and JWKs are looked at when
//! they are first needed.

mod folders;
mod host;
mod launches;
mod secrets;
mod sources;

use crate::config::Config;

pub use host::state_key;
pub use launches::{Launch, launches};
pub use sources::seen_by_installs;

/// How much something that was found matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weight {
    /// Nothing is served, and a reload changes nothing.
    Fatal,
    /// Calls of one server or one tenant are refused until it is mended; others go on.
    Failing,
    /// Calls are served, otherwise than may be meant.
    Odd,
}

/// Something that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// How much it matters.
    pub weight: Weight,
    /// The keys that lead to it in pool.toml.
    pub key: Vec<String>,
    /// Further keys on which it rests, below its server: it says nothing while one of them has a mistake.
    rests_on: Vec<Vec<String>>,
    /// What was found and what to do.
    pub message: String,
}

impl Finding {
    fn new<const N: usize>(weight: Weight, key: [&str; N], message: String) -> Self {
        Self {
            weight,
            key: path(key),
            rests_on: vec![],
            message,
        }
    }

    /// The keys on which it rests: while one of them has a mistake, it says nothing.
    pub fn rests_on(&self) -> Vec<Vec<String>> {
        let mut keys = self.rests_on.clone();
        keys.push(self.key.clone());
        keys
    }
}

/// All that is found. Looks at files, so that it may block.
pub fn findings(config: &Config) -> Vec<Finding> {
    let mut findings = host::findings(config);
    findings.extend(of_launches(config));
    findings
}

/// What is found of the starts of the servers' commands, and of where their packages come from.
pub fn of_launches(config: &Config) -> Vec<Finding> {
    let launches = launches(config);
    let of_each = launches.iter().filter_map(Launch::finding);
    let mut findings: Vec<_> = of_each.collect();
    findings.extend(sources::findings(config, &launches));
    findings
}

fn path<const N: usize>(keys: [&str; N]) -> Vec<String> {
    keys.map(ToOwned::to_owned).to_vec()
}
