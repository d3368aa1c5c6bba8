//! `stdiopool logs`: what a worker wrote to stderr.

use clap::Args;
use serde::Deserialize;

use super::client::{AdminArgs, AdminClient};
use super::error::CliError;
use super::observed;
use super::output;
use super::sse;
use crate::admin::{EndedRow, LogLine, ServerRow, WorkerRow};
use crate::ids::{ServerName, TenantId, WorkerId};

/// Shows what a worker wrote to stderr, secrets redacted
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Workers that have ended are remembered for a while: the last 32 of each tenant, with 100 lines or 16 KiB each.

Examples:
  stdiopool logs w12 -f --lines 20
  stdiopool logs --server github --previous")]
pub struct LogsArgs {
    /// The worker, as `stdiopool ps` shows it, also one that has ended
    #[arg(required_unless_present = "server")]
    pub worker: Option<WorkerId>,
    /// The newest worker of this server, in place of one by its id
    #[arg(long, value_name = "NAME", conflicts_with = "worker")]
    pub server: Option<String>,
    /// Of this tenant only
    #[arg(long, value_name = "T", requires = "server")]
    pub tenant: Option<String>,
    /// The worker that ended last, not one that runs
    #[arg(short, long, requires = "server", conflicts_with = "follow")]
    pub previous: bool,
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
struct LogLines {
    lines: Vec<String>,
}

impl LogsArgs {
    /// Asks and prints, with `--follow` until the worker is gone or the reader is.
    ///
    /// # Errors
    /// When there is no such worker, or nobody answers.
    pub async fn run(self) -> Result<(), miette::Report> {
        let client = self.admin.client().await?;
        let worker = match self.worker {
            Some(worker) => worker,
            None => self.newest(&client).await?,
        };
        let path = format!("api/v1/workers/{worker}/logs?lines={}", self.lines);
        if self.follow {
            let print = |row: LogLine| output::print(&format!("{}\n", row.line));
            let path = format!("{path}&follow=true");
            sse::each(&client, &path, "lines", print).await?;
        } else {
            let kept: LogLines = client.get(&path).await?;
            let mut text = kept.lines.join("\n");
            if !text.is_empty() {
                text.push('\n');
            }
            if output::print(&text)?.is_break() {
                return Ok(());
            }
        }
        // Behind its lines: how it ended is what one who looks at its end wants to know.
        let ended: Vec<EndedRow> = client.get("api/v1/ended").await?;
        let ended = ended.iter().rfind(|row| row.id == worker);
        if let Some(row) = ended {
            output::notice(&row.sentence());
        }
        let live: Vec<WorkerRow> = client.get("api/v1/workers").await?;
        let live = live.iter().find(|row| row.id == worker);
        let server = ended.map(|row| &row.server).or(live.map(|row| &row.server));
        let servers: Vec<ServerRow> = client.get("api/v1/servers").await?;
        let row = servers.iter().find(|row| Some(&row.name) == server);
        if let Some(said) = row.and_then(observed::details) {
            output::notice(&said);
        }
        Ok(())
    }

    /// The newest worker that is meant where only its server is named.
    async fn newest(&self, client: &AdminClient) -> Result<WorkerId, CliError> {
        let is_meant = |server: &ServerName, tenant: Option<&TenantId>| {
            self.server.as_deref() == Some(server.as_str())
                && (self.tenant.is_none() || self.tenant.as_deref() == tenant.map(TenantId::as_str))
        };
        let ended: Vec<EndedRow> = client.get("api/v1/ended").await?;
        let name = self.server.as_deref().unwrap_or_default();
        // One that a reload has removed is asked for as long as its workers are remembered.
        if !ended.iter().any(|row| row.server.as_str() == name) {
            self.is_served(client).await?;
        }
        let ended = ended
            .iter()
            .rfind(|row| is_meant(&row.server, row.tenant.as_ref()));
        if self.previous {
            return ended
                .map(|row| row.id)
                .ok_or_else(|| self.none("no worker that has ended is remembered", None));
        }
        let live: Vec<WorkerRow> = client.get("api/v1/workers").await?;
        let newest = live
            .iter()
            .filter(|row| is_meant(&row.server, Some(&row.tenant)))
            .max_by_key(|row| row.id);
        let help = ended.map(|row| format!("{}: add --previous", row.sentence()));
        newest
            .map(|row| row.id)
            .ok_or_else(|| self.none("no worker runs", help))
    }

    /// # Errors
    /// When there is no server of that name: says which there are.
    async fn is_served(&self, client: &AdminClient) -> Result<(), CliError> {
        let name = self.server.as_deref().unwrap_or_default();
        let servers: Vec<ServerRow> = client.get("api/v1/servers").await?;
        let names: Vec<_> = servers.iter().map(|row| row.name.as_str()).collect();
        if names.contains(&name) {
            return Ok(());
        }
        let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
        let help = match quoted.split_last() {
            None => "pool.toml has no servers".to_owned(),
            Some((only, [])) => format!("there is {only}"),
            Some((last, others)) => format!("there are {} and {last}", others.join(", ")),
        };
        Err(CliError::Refused {
            error: format!("no server `{name}`"),
            reason: "not_found".to_owned(),
            help: Some(help),
        })
    }

    fn none(&self, what: &str, help: Option<String>) -> CliError {
        let server = self.server.as_deref().unwrap_or_default();
        let of_tenant = self.tenant.as_deref();
        let of_tenant = of_tenant.map_or_else(String::new, |it| format!(" and tenant `{it}`"));
        CliError::Refused {
            error: format!("{what} of server `{server}`{of_tenant}"),
            reason: "not_found".to_owned(),
            help,
        }
    }
}
