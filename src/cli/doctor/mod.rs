//! `stdiopool doctor`: whether this host has what stdiopool makes use of, and what follows where it has not. One file for each
//! subject; each check ([`check`]) says what was looked at, what was found and what to do.
//!
//! Invariant: a check that cannot look says so, and is never ok for it.
//!
//! The command changes nothing on the host, and starts nothing but the programs that it asks for their versions.

mod check;
mod checks;
mod packages;
mod registries;

use std::path::PathBuf;

use clap::Args;
use miette::miette;

use super::output::Output;
use crate::config;
use check::Check;
use checks::{checks, installs, read_only_packages, users};

/// Says what this host supports, what is lost without it, and how to get it
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Of the packages in the package cache it says which wanted install scripts that did not run, and what those
downloaded that did; of the servers of the file, which would not see by what variables of this environment their
packages are to be downloaded.

Examples:
  stdiopool doctor
  stdiopool doctor --json | jq '.[] | select(.ok | not)'")]
pub struct DoctorArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// The file that says where the package cache is and what the servers are; none is needed
    #[arg(long, value_name = "FILE", default_value = "pool.toml")]
    pub config: PathBuf,
}

impl DoctorArgs {
    /// Looks and reports.
    ///
    /// # Errors
    /// When the report cannot be written.
    pub async fn run(self) -> Result<(), miette::Report> {
        let mut checks = checks().await;
        if !self.config.exists() {
            checks.push(read_only_packages(None));
            checks.push(users(None));
            checks.push(installs(None));
        } else {
            let config = config::load(&self.config).map_err(|error| miette!("{error}"))?;
            checks.push(read_only_packages(Some(&config)));
            checks.push(users(Some(&config)));
            checks.push(installs(Some(&config)));
            checks.extend(packages::checks(&config));
            checks.extend(registries::checks(&config));
        }
        let text = if self.json {
            Output::json(&serde_json::json!(checks))
        } else {
            Output::Text(render(&checks))
        };
        let _is_read = text.print()?;
        Ok(())
    }
}

fn render(checks: &[Check]) -> String {
    let widest = checks.iter().map(|c| c.what.len()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let mark = match (check.ok, check.old) {
            (true, _) => "ok   ",
            (false, true) => "old  ",
            (false, false) => "lacks",
        };
        text += &format!("{mark}  {:widest$}  {}\n", check.what, check.found);
        let indent = " ".repeat("lacks".len() + 2 + widest + 2);
        if let Some(lost) = &check.lost {
            text += &format!("{indent}lost: {lost}\n");
        }
        if let Some(remedy) = &check.remedy {
            text += &format!("{indent}do:   {remedy}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_well() {
        let checks = [
            Check::ok("node", "v22.1.0"),
            Check::old("npx", "v9", "time", "a newer one"),
            Check::lacks("hibernation", "no swap", "memory", "scripts/zram"),
        ];
        insta::assert_snapshot!(render(&checks), @r"
        ok     node         v22.1.0
        old    npx          v9
                            lost: time
                            do:   a newer one
        lacks  hibernation  no swap
                            lost: memory
                            do:   scripts/zram
        ");
    }

    #[tokio::test]
    async fn this_host_can_be_looked_at() {
        let checks = checks().await;
        let all: Vec<_> = checks.iter().map(|check| check.what).collect();
        assert!(all.contains(&"hibernation") && all.contains(&"open files"));
        for check in checks {
            assert!(!check.found.is_empty(), "{check:?}");
            assert_eq!(check.ok, check.remedy.is_none(), "{check:?}");
        }
    }
}
