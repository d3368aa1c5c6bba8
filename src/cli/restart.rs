//! `stdiopool restart`: ends one worker when it has nothing in flight.

use clap::Args;

use super::client::AdminArgs;
use super::output;
use crate::ids::WorkerId;

/// Restarts a worker; what it has in flight is finished, and the next request starts another
#[derive(Args, Clone, Debug)]
#[command(after_help = "Example:\n  stdiopool restart w12")]
pub struct RestartArgs {
    /// The worker, as `stdiopool ps` shows it
    pub worker: WorkerId,
    /// Where the admin API is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

impl RestartArgs {
    /// Asks for it and says so.
    ///
    /// # Errors
    /// When there is no such worker, or nobody answers.
    pub async fn run(self) -> Result<(), miette::Report> {
        let path = format!("api/v1/workers/{}/restart", self.worker);
        let message = self.admin.client().await?.act(&path).await?;
        let _ = output::print(&format!("{message}\n"))?;
        Ok(())
    }
}
