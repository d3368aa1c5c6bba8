//! `stdiopool drain`: a graceful end.

use clap::Args;

use super::client::AdminArgs;
use super::output;

/// Takes no new work, lets what is in flight finish, then ends the supervisor
#[derive(Args, Clone, Debug)]
#[command(after_help = "Example:\n  stdiopool drain --admin http://10.0.0.5:9090")]
pub struct DrainArgs {
    /// Where the admin API is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

impl DrainArgs {
    /// Asks for it and says so; does not wait for the end.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn run(self) -> Result<(), miette::Report> {
        let message = self.admin.client().await?.act("api/v1/drain").await?;
        let _ = output::print(&format!("{message}\n"))?;
        Ok(())
    }
}
