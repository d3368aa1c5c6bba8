//! `stdiopool reload`: reads pool.toml again.

use clap::Args;

use super::client::AdminArgs;
use super::output;

/// Reads pool.toml again; a file with mistakes changes nothing
#[derive(Args, Clone, Debug)]
#[command(after_help = "Example:\n  stdiopool check && stdiopool reload")]
pub struct ReloadArgs {
    /// Where the admin API is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

impl ReloadArgs {
    /// Asks for it and says what changed.
    ///
    /// # Errors
    /// When the file has mistakes, or nobody answers.
    pub async fn run(self) -> Result<(), miette::Report> {
        let message = self.admin.client().await?.act("api/v1/reload").await?;
        let _ = output::print(&format!("{message}\n"))?;
        Ok(())
    }
}
