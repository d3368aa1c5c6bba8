//! `stdiopool prefetch`: packages into the caches, before anyone waits for them.

use std::path::PathBuf;
use std::process::Command;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use miette::miette;

use super::output;
use crate::config::{self, Arg, Config, Server};
use crate::launch::Package;

/// How many lines of a failed command are quoted.
const QUOTED_LINES: usize = 8;

/// Installs the packages that servers run through npx and uvx, so that no first start waits for them
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
They go where npx and uvx look for them: the caches of the user who runs this, which workers share.

Examples:
  stdiopool prefetch
  stdiopool prefetch github time --config pool.toml")]
pub struct PrefetchArgs {
    /// Only these servers
    pub servers: Vec<String>,
    /// The file that names them
    #[arg(long, value_name = "FILE", default_value = "pool.toml")]
    pub config: PathBuf,
}

impl PrefetchArgs {
    /// Fetches one after the other.
    ///
    /// # Errors
    /// When the config cannot be read, a server is unknown, or a package cannot be had.
    pub fn run(self) -> Result<(), miette::Report> {
        let config = config::load(&self.config).map_err(|error| miette!("{error}"))?;
        let packages = self.packages(&config)?;
        let bar = ProgressBar::new(packages.len() as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:20} {pos}/{len} {wide_msg}") {
            bar.set_style(style);
        }
        let mut text = String::new();
        let mut failed = Vec::new();
        for (server, package) in packages {
            bar.set_message(package.name());
            let outcome = match fetch(&package) {
                Ok(()) => "fetched".to_owned(),
                Err(why) => {
                    failed.push(format!("`{}` of server `{server}`: {why}", package.name()));
                    "failed".to_owned()
                }
            };
            text.push_str(&format!("{server}: {} {outcome}\n", package.name()));
            bar.inc(1);
        }
        bar.finish_and_clear();
        let _is_read = output::print(&text)?;
        if failed.is_empty() {
            return Ok(());
        }
        Err(miette!("{}", failed.join("\n")))
    }

    fn packages(&self, config: &Config) -> Result<Vec<(String, Package)>, miette::Report> {
        if let Some(unknown) = self
            .servers
            .iter()
            .find(|name| config.server_name(name).is_none())
        {
            return Err(miette!(
                "there is no server `{unknown}` in {}",
                self.config.display()
            ));
        }
        let is_meant =
            |name: &str| self.servers.is_empty() || self.servers.iter().any(|s| s == name);
        let meant = config
            .servers
            .iter()
            .filter(|(name, _)| is_meant(name.as_str()));
        Ok(meant
            .filter_map(|(name, server)| Some((name.to_string(), package_of(server)?)))
            .collect())
    }
}

fn package_of(server: &Server) -> Option<Package> {
    let args: Vec<Option<&str>> = server
        .args
        .iter()
        .map(|arg| match arg {
            Arg::Always(template) => template.as_literal(),
            Arg::When { .. } => None,
        })
        .collect();
    Package::of(&server.command, &args)
}

fn fetch(package: &Package) -> Result<(), String> {
    let (program, args) = package.fetch();
    let output = Command::new(program).args(args).output();
    let output = output.map_err(|error| format!("`{program}` cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = said.trim_end().lines().collect();
    let last = lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n");
    Err(format!("`{program}` ended with {}:\n{last}", output.status))
}
