//! `stdiopool stop`: ends one worker.

use clap::Args;

use super::client::AdminArgs;
use super::output;
use crate::ids::WorkerId;

/// Stops a worker; what it has in flight fails, and the next request starts another
#[derive(Args, Clone, Debug)]
#[command(after_help = "Example:\n  stdiopool stop w12")]
pub struct StopArgs {
    /// The worker, as `stdiopool ps` shows it
    pub worker: WorkerId,
    /// Where the admin API is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

impl StopArgs {
    /// Asks for it and says so.
    ///
    /// # Errors
    /// When there is no such worker, or nobody answers.
    pub async fn run(self) -> Result<(), miette::Report> {
        let path = format!("api/v1/workers/{}/stop", self.worker);
        let message = self.admin.client().await?.act(&path).await?;
        let _ = output::print(&format!("{message}\n"))?;
        Ok(())
    }
}
