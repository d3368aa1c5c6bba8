//! What is found out about a config before anything is started from it: whether this host has what the file names, and
//! what a start of each server's command will come to.
//!
//! `check` says all of it; whoever puts the file in force refuses what is [`Weight::Fatal`], logs the rest and goes on, as
//! one server's missing program must not take the others from their callers. Each finding has one text everywhere.
//!
//! Invariant: what a start would refuse is found here before it, in the words of the start.
//!
//! This module deliberately runs nothing and asks no registry: packages and JWKs are looked at when they are first needed, and so are
//! commands that print secrets, unless that is asked for ([`printed`]).

mod finding;
mod folders;
mod host;
mod launches;
mod places;
mod secrets;
mod sources;

use crate::config::Config;

pub use finding::{Finding, Weight};
pub use host::state_key;
pub use launches::{ForeseenLaunch, launches};
pub use secrets::printed;
pub use sources::seen_by_installs;

/// All that is found of a config. Looks at files, so that it may block.
pub fn findings(config: &Config) -> Vec<Finding> {
    let mut findings = host::findings(config);
    findings.extend(of_launches(config));
    findings
}

/// What is found of the starts of the servers' commands, and of where their packages come from.
pub fn of_launches(config: &Config) -> Vec<Finding> {
    let launches = launches(config);
    let of_each = launches.iter().filter_map(ForeseenLaunch::finding);
    let mut findings: Vec<_> = of_each.collect();
    findings.extend(sources::findings(config, &launches));
    findings.extend(places::findings(config, &places::own()));
    findings
}
