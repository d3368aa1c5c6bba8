//! Reads pool.toml for whoever puts it in force, and says what was found.

use std::path::Path;

use crate::config::{Config, ConfigErrors, Inspection, Warning, placed};
use crate::preflight::{self, Finding, Weight};

/// Warnings of one kind that are logged; how many more there are is said.
const MOST_LOGGED: usize = 50;

/// A pool.toml without mistakes, and what is to be said of it.
#[derive(Debug)]
pub(super) struct LoadedConfig {
    /// What the file says.
    pub(super) config: Config,
    /// What is to be said of the config.
    pub(super) notices: Notices,
}

/// Notices on a pool.toml without mistakes.
#[derive(Debug)]
pub(super) struct Notices {
    /// What is odd in the file, or missing on this host, each with its place.
    warnings: Vec<String>,
    /// Why nothing can be served by the file on this host, each with its place.
    fatal: Vec<String>,
}

/// Reads a file. Looks at what it names, so that it may block.
///
/// # Errors
/// When it cannot be read, or has mistakes.
pub(super) fn read(path: &Path) -> Result<LoadedConfig, ConfigErrors> {
    let inspection = Inspection::of_file(path)?;
    let findings = inspection.config().map(preflight::findings);
    let findings = findings.unwrap_or_default();
    let file = inspection.file().to_owned();
    let lines = inspection.lines();
    let shown = |finding: &Finding| placed(&file, lines.line(&finding.key), &finding.message);
    let (fatal, others): (Vec<_>, Vec<_>) = findings
        .iter()
        .partition(|finding| finding.weight == Weight::Fatal);
    let fatal = fatal.into_iter().map(shown).collect();
    let others: Vec<_> = others.into_iter().map(shown).collect();
    let config = inspection.verdict()?;
    let odd = config.warnings.iter().map(|it| it.placed(&file));
    let warnings = bounded(odd.collect()).chain(bounded(others)).collect();
    let notices = Notices { warnings, fatal };
    Ok(LoadedConfig { config, notices })
}

/// The first of them, and how many more there are.
fn bounded(mut texts: Vec<String>) -> impl Iterator<Item = String> {
    let more = texts.len().saturating_sub(MOST_LOGGED);
    texts.truncate(MOST_LOGGED);
    let told = (more > 0).then(|| format!("and {more} more (`stdiopool check` says all of them)"));
    texts.into_iter().chain(told)
}

impl LoadedConfig {
    /// A config of which everything was said that there is to say.
    pub(super) fn of_config(config: Config) -> Self {
        let notices = Notices {
            warnings: vec![],
            fatal: vec![],
        };
        Self { config, notices }
    }

    /// The config of one command, which is hosted without a file.
    pub(super) fn of_command(config: Config) -> Self {
        let odd = config
            .warnings
            .iter()
            .map(|it: &Warning| it.message.clone());
        let missing = preflight::findings(&config).into_iter();
        let notices = Notices {
            warnings: odd.chain(missing.map(|it| it.message)).collect(),
            fatal: vec![],
        };
        Self { config, notices }
    }
}

impl Notices {
    /// Why nothing can be served by the file on this host; `None` if it can.
    pub(super) fn fatal(&self) -> Option<String> {
        (!self.fatal.is_empty()).then(|| self.fatal.join("\n"))
    }

    /// Logs what is odd or missing.
    pub(super) fn warn(&self) {
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
    }
}
