//! `stdiopool ps`: the workers now.

use clap::Args;
use serde_json::Value;

use super::client::AdminArgs;
use super::output;
use super::table::{self, Align};
use crate::admin::WorkerRow;

/// Shows the workers that live now
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Example:\n  stdiopool ps\n  stdiopool ps --json | jq -r '.[] | select(.state == \"idle\") | .id'"
)]
pub struct PsArgs {
    /// Print the rows as JSON
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

impl PsArgs {
    /// Asks and prints.
    ///
    /// # Errors
    /// When nobody answers, or not with workers.
    pub async fn run(self) -> Result<(), miette::Report> {
        let client = self.admin.client()?;
        // Nothing comes after it, so it does not matter whether anybody read to the end.
        if self.json {
            let rows: Value = client.get("api/v1/workers").await?;
            let _is_read = output::print_json(&format!("{rows:#}\n"))?;
            return Ok(());
        }
        let rows: Vec<WorkerRow> = client.get("api/v1/workers").await?;
        if rows.is_empty() {
            output::notice("no workers now; one is started when a request first needs it");
            return Ok(());
        }
        let _is_read = output::print(&render(&rows))?;
        Ok(())
    }
}

fn render(rows: &[WorkerRow]) -> String {
    use Align::{Left, Right};
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            [
                row.id.to_string(),
                row.server.to_string(),
                or_dash(Some(row.tenant.to_string()).filter(|tenant| !tenant.is_empty())),
                row.state.as_str().to_owned(),
                or_dash(row.pid.map(|pid| pid.to_string())),
                row.processes.len().to_string(),
                row.in_flight.to_string(),
                row.requests.to_string(),
                table::age(row.age_seconds),
                or_dash(row.idle_seconds.map(table::age)),
                or_dash(row.memory_bytes.map(table::size)),
            ]
        })
        .collect();
    let columns = [
        ("WORKER", Left),
        ("SERVER", Left),
        ("TENANT", Left),
        ("STATE", Left),
        ("PID", Right),
        ("PROCS", Right),
        ("IN-FLIGHT", Right),
        ("REQUESTS", Right),
        ("AGE", Right),
        ("IDLE", Right),
        ("MEMORY", Right),
    ];
    table::render(columns, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ServerName, TenantId, WorkerId};
    use crate::telemetry::labels::WorkerState;

    #[test]
    fn the_table_of_workers() {
        let idle = WorkerRow {
            id: WorkerId(7),
            server: ServerName::new("filesystem"),
            tenant: TenantId::new("acme"),
            state: WorkerState::Idle,
            pid: Some(41_234),
            processes: vec![41_234, 41_240],
            in_flight: 0,
            pinned: false,
            requests: 1024,
            age_seconds: 7501.0,
            idle_seconds: Some(31.4),
            key: "00ff".into(),
            memory_bytes: Some(70_254_592),
            stderr_lines: 2,
        };
        let starting = WorkerRow {
            id: WorkerId(12),
            server: ServerName::new("time"),
            tenant: TenantId::new("globex-corporation"),
            state: WorkerState::Starting,
            pid: None,
            processes: vec![],
            in_flight: 1,
            pinned: true,
            requests: 0,
            age_seconds: 0.4,
            idle_seconds: None,
            memory_bytes: None,
            ..idle.clone()
        };
        insta::assert_snapshot!(render(&[idle, starting]));
    }
}
