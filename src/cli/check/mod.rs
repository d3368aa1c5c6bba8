//! `stdiopool check`.

mod host;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use reqwest::Url;
use secrecy::SecretString;

use super::client::{AdminArgs, base_url};
use super::output;
use crate::admin::RuleCheck;
use crate::counted::counted;
use crate::{config, store};

/// Says what is wrong with a pool.toml: every mistake, with its place and what is allowed
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Exit codes: 0 when it can be served, warnings or not; 1 when it cannot, or what it names is missing on this host.

Examples:
  stdiopool check --config pool.toml
  stdiopool check --file-only
  stdiopool check --live")]
pub struct CheckArgs {
    /// The file to check
    #[arg(long, value_name = "FILE", default_value = "pool.toml")]
    pub config: PathBuf,
    /// Leave out whether this host has what the file names: programs, folders, keys
    #[arg(long)]
    pub file_only: bool,
    /// Ask the stdiopool that runs whether bindings, filters and policy rules match the tools there are
    #[arg(long)]
    pub live: bool,
    /// Address of its admin API, instead of the one in the file
    #[arg(long, value_name = "URL", env = "STDIOPOOL_ADMIN", requires = "live", value_parser = base_url)]
    pub admin: Option<Url>,
    /// Token of its admin API, instead of the one in the file
    #[arg(
        long,
        value_name = "TOKEN",
        env = "STDIOPOOL_ADMIN_TOKEN",
        hide_env_values = true
    )]
    pub admin_token: Option<SecretString>,
}

impl CheckArgs {
    /// Checks the file and prints what was found.
    ///
    /// # Errors
    /// When `--live` is asked for and nobody answers.
    pub async fn run(self) -> Result<ExitCode, miette::Report> {
        let verdict = self.of_file();
        if !self.live {
            return Ok(verdict);
        }
        let admin = AdminArgs {
            config: Some(self.config),
            admin: self.admin,
            admin_token: self.admin_token,
        };
        let told: RuleCheck = admin.client().await?.get("api/v1/rules").await?;
        for message in &told.unmatched {
            output::notice(message);
        }
        for server in &told.unknown {
            output::notice(&format!(
                "warning: nobody has listed the tools of server `{server}` yet, so its rules could not be checked (`stdiopool call {server}` lists them)"
            ));
        }
        let found = counted(told.unmatched.len(), "rule");
        let verb = match told.unmatched.len() {
            1 => "does",
            _ => "do",
        };
        let _is_read = output::print(&format!("live: {found} {verb} not match any tool\n"))?;
        Ok(match told.unmatched.is_empty() {
            true => verdict,
            false => ExitCode::FAILURE,
        })
    }

    #[expect(clippy::print_stdout, reason = "the verdict is what was asked for")]
    fn of_file(&self) -> ExitCode {
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
        let mut wrong = config.doubts.clone();
        if !self.file_only {
            wrong.extend(host::missing(&config));
        }
        if !wrong.is_empty() {
            for message in &wrong {
                output::notice(&format!("{shown}: {message}"));
            }
            let count = counted(wrong.len(), "mistake");
            output::notice(&format!("\n{shown}: {count}"));
            return ExitCode::FAILURE;
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
