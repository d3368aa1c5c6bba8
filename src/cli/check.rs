//! `stdiopool check`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::output;
use crate::counted::counted;
use crate::{config, store};

/// Says what is wrong with a pool.toml: every mistake, with its place and what is allowed
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Exit codes: 0 when it can be served, warnings or not; 1 when it cannot.

Example:
  stdiopool check --config pool.toml")]
pub struct CheckArgs {
    /// The file to check
    #[arg(long, value_name = "FILE", default_value = "pool.toml")]
    pub config: PathBuf,
}

impl CheckArgs {
    /// Checks the file and prints what was found.
    #[expect(clippy::print_stdout, reason = "the verdict is what was asked for")]
    pub fn run(self) -> ExitCode {
        let shown = self.config.display();
        let config = match config::load(&self.config) {
            Ok(config) => config,
            Err(error) => {
                output::notice(&error.to_string());
                if let config::ConfigErrors::Mistakes(mistakes) = &error {
                    let count = counted(mistakes.mistakes.len(), "mistake");
                    output::notice(&format!("\n{shown}: {count}"));
                }
                return ExitCode::FAILURE;
            }
        };
        let in_both = store::tenant_names(&config.state.dir)
            .into_iter()
            .find(|name| config.tenants.contains_key(name.as_str()));
        if let Some(name) = in_both {
            output::notice(&format!(
                "tenant `{name}` is in pool.toml and in the state store: remove it from one (`stdiopool tenant remove {name}`)"
            ));
            return ExitCode::FAILURE;
        }
        for warning in &config.warnings {
            output::notice(&format!("warning: {warning}"));
        }
        println!(
            "{shown}: ok ({}, {}, {})",
            counted(config.servers.len(), "server"),
            counted(config.tenants.len(), "tenant"),
            counted(config.warnings.len(), "warning"),
        );
        ExitCode::SUCCESS
    }
}
