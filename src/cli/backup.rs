//! `stdiopool backup` and `stdiopool restore`: the state folder's database.

use std::path::PathBuf;

use clap::Args;
use miette::miette;

use super::output;
use crate::config;
use crate::daemon::folder_act;
use crate::store::{self, StateDir};

/// Copies tenants, tokens, sealed secrets and sessions to a file, while stdiopool runs or not
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Not in it: pool.toml, the key of the secrets (keep that elsewhere), and tenants' data folders.

Example:
  stdiopool backup /var/backups/stdiopool-$(date +%F).db")]
pub struct BackupArgs {
    /// The new file
    pub file: PathBuf,
    /// The configuration whose state folder it is
    #[arg(long, value_name = "FILE", default_value = "pool.toml")]
    pub config: PathBuf,
}

impl BackupArgs {
    /// Copies it and says so.
    ///
    /// # Errors
    /// When there is no state, or the file exists or cannot be written.
    pub fn run(self) -> Result<(), miette::Report> {
        let config = config::load(&self.config).map_err(|error| miette!("{error}"))?;
        let outcome = store::backup(&config.state.dir, &self.file);
        folder_act(&config, "backup", Some(&self.file), outcome.is_ok());
        outcome.map_err(|error| miette!("{error}"))?;
        let _ = output::print(&format!("state saved to {}\n", self.file.display()))?;
        Ok(())
    }
}

/// Puts a backup in place of the state, while stdiopool does not run
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
What was there is kept as state.db.before-restore in the state folder.

Example:
  systemctl stop stdiopool && stdiopool restore backup.db && systemctl start stdiopool")]
pub struct RestoreArgs {
    /// A file that `stdiopool backup` made
    pub file: PathBuf,
    /// The configuration whose state folder it is
    #[arg(long, value_name = "FILE", default_value = "pool.toml")]
    pub config: PathBuf,
}

impl RestoreArgs {
    /// Restores it and says so.
    ///
    /// # Errors
    /// When a stdiopool runs, or the file is no backup; then nothing has changed.
    pub fn run(self) -> Result<(), miette::Report> {
        let config = config::load(&self.config).map_err(|error| miette!("{error}"))?;
        let state = StateDir::open(&config.state.dir).map_err(|error| miette!("{error}"))?;
        let outcome = store::restore(&state, &self.file);
        folder_act(&config, "restore", Some(&self.file), outcome.is_ok());
        outcome.map_err(|error| miette!("{error}"))?;
        let _ = output::print(&format!("state restored from {}\n", self.file.display()))?;
        Ok(())
    }
}
