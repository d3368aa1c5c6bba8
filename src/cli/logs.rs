//! `stdiopool logs`: what a worker wrote to stderr.

use clap::Args;
use serde::Deserialize;

use super::client::{AdminArgs, AdminClient};
use super::error::CliError;
use super::output;
use crate::admin::LogLine;
use crate::ids::WorkerId;
use crate::protocol::sse;

/// Largest event of a followed log, in bytes; lines are cut far below by whoever keeps them.
const MAX_EVENT: usize = 16 << 20;

/// Shows what a worker wrote to stderr, secrets redacted
#[derive(Args, Clone, Debug)]
#[command(after_help = "Example:\n  stdiopool logs w12 -f --lines 20")]
pub struct LogsArgs {
    /// The worker, as `stdiopool ps` shows it
    pub worker: WorkerId,
    /// Go on until the worker is gone
    #[arg(short, long)]
    pub follow: bool,
    /// How many of the last lines to start with
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    pub lines: usize,
    /// Where the admin API is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// The lines that are there.
#[derive(Deserialize)]
struct Kept {
    lines: Vec<String>,
}

impl LogsArgs {
    /// Asks and prints, with `--follow` until the worker is gone or the reader is.
    ///
    /// # Errors
    /// When there is no such worker, or nobody answers.
    pub async fn run(self) -> Result<(), miette::Report> {
        let client = self.admin.client()?;
        let path = format!("api/v1/workers/{}/logs?lines={}", self.worker, self.lines);
        if self.follow {
            follow(&client, &format!("{path}&follow=true")).await?;
        } else {
            let kept: Kept = client.get(&path).await?;
            let mut text = kept.lines.join("\n");
            if !text.is_empty() {
                text.push('\n');
            }
            let _ = output::print(&text)?;
        }
        Ok(())
    }
}

async fn follow(client: &AdminClient, path: &str) -> Result<(), CliError> {
    let mut response = client.stream(path).await?;
    let (mut parser, mut events) = (sse::Parser::new(MAX_EVENT), Vec::new());
    while let Some(piece) = response
        .chunk()
        .await
        .map_err(|error| CliError::transport(client.target(), &error))?
    {
        parser
            .push(&piece, &mut events)
            .map_err(|error| CliError::Protocol(error.to_string()))?;
        for event in events.drain(..) {
            if event.event.as_deref() == Some("lagged") {
                let missed = String::from_utf8_lossy(&event.data);
                output::notice(&format!("({missed} lines came too fast and were left out)"));
                continue;
            }
            let row: LogLine = serde_json::from_slice(&event.data)
                .map_err(|error| CliError::Protocol(error.to_string()))?;
            if output::print(&format!("{}\n", row.line))?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}
