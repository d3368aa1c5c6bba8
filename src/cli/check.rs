//! `stdiopool check`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use reqwest::Url;
use secrecy::SecretString;

use super::client::{AdminArgs, base_url};
use super::output;
use crate::admin::RuleCheck;
use crate::config::{Config, Inspection, placed};
use crate::counted::counted;
use crate::preflight::{self, Weight};
use crate::protocol::CommandEnd;

/// Says what is wrong with a pool.toml: every mistake, with its place and what is allowed
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Exit codes: 0 when it can be served, warnings or not; 1 when it cannot, or what it names is missing on this host
(`serve` and `reload` warn of that and go on where it concerns some servers or tenants only; --file-only leaves it out).
Commands that print secrets are run once each, and nothing of what they write is shown; of one that fails, how it ended.

Examples:
  stdiopool check --config pool.toml
  stdiopool check --file-only && stdiopool reload
  stdiopool check --strict
  stdiopool check --live")]
pub struct CheckArgs {
    /// The file to check
    #[arg(long, value_name = "FILE", default_value = "pool.toml")]
    pub config: PathBuf,
    /// Leave out whether this host has what the file names: programs, folders, keys, commands that print secrets
    #[arg(long)]
    pub file_only: bool,
    /// Take warnings for mistakes
    #[arg(long)]
    pub strict: bool,
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
        let verdict = self.of_file().await;
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
            false => CommandEnd::Failed.into(),
        })
    }

    /// All that is found out about the file, in one run.
    #[expect(clippy::print_stdout, reason = "the verdict is what was asked for")]
    async fn of_file(&self) -> ExitCode {
        let shown = self.config.display();
        let inspection = match Inspection::of_file(&self.config) {
            Ok(inspection) => inspection,
            Err(error) => {
                output::notice(&error.to_string());
                return CommandEnd::Failed.into();
            }
        };
        let mistakes = inspection.mistakes();
        if let Some(mistakes) = &mistakes {
            output::notice(&mistakes.to_string());
        }
        let config = inspection.config();
        let (wrong, mut odd) = match config.filter(|_| !self.file_only) {
            Some(config) => of_host(&inspection, config).await,
            None => Default::default(),
        };
        let of_file = config.into_iter().flat_map(|config| &config.warnings);
        let of_file = of_file.map(|it| placed(inspection.file(), it.line, &warning(&it.message)));
        odd.splice(0..0, of_file);
        for message in odd.iter().chain(&wrong) {
            output::notice(message);
        }
        let mistakes = mistakes.map_or(0, |it| it.mistakes.len()) + wrong.len();
        let mistakes = mistakes + if self.strict { odd.len() } else { 0 };
        let (Some(config), 0) = (config, mistakes) else {
            let count = counted(mistakes, "mistake");
            output::notice(&format!("\n{shown}: {count}"));
            return CommandEnd::Failed.into();
        };
        if !self.file_only {
            for launch in preflight::launches(config) {
                println!("{}", launch.text());
            }
        }
        println!(
            "{shown}: ok ({}, {}, {})",
            counted(config.servers.len(), "server"),
            counted(config.tenants.len(), "tenant"),
            counted(odd.len(), "warning"),
        );
        CommandEnd::Done.into()
    }
}

fn warning(message: &str) -> String {
    format!("warning: {message}")
}

/// What is wrong and what is odd on this host, each with its place, of what the file says without a mistake.
async fn of_host(inspection: &Inspection, config: &Config) -> (Vec<String>, Vec<String>) {
    let lines = inspection.lines();
    let (mut wrong, mut odd) = (Vec::new(), Vec::new());
    let mut findings = preflight::findings(config);
    findings.extend(preflight::printed(config).await);
    for finding in findings {
        if !inspection.is_right(&lines, &finding.rests_on()) {
            continue;
        }
        let line = lines.line(&finding.key);
        let place = |message: &str| placed(inspection.file(), line, message);
        match finding.weight {
            Weight::Fatal | Weight::Failing => wrong.push(place(&finding.message)),
            Weight::Odd => odd.push(place(&warning(&finding.message))),
        }
    }
    (wrong, odd)
}
