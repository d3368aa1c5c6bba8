//! `stdiopool ps`: the workers now.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::Value;

use super::client::AdminArgs;
use super::observed;
use super::output;
use super::table::{self, Align};
use crate::admin::{EndedRow, REMEMBERED_OF_ALL, REMEMBERED_OF_TENANT, ServerRow, WorkerRow};
use crate::counted::counted;

/// How long ago a worker may have failed to be shown unasked, in seconds.
const LATELY: u64 = 600;
/// Workers that have failed lately that are shown unasked, at the most.
const SHOWN: usize = 5;

/// Shows the workers that live now, and those that failed in the last ten minutes
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  stdiopool ps\n  stdiopool ps --all\n  stdiopool ps --json | jq -r '.[] | select(.state == \"idle\") | .id'"
)]
pub struct PsArgs {
    /// Show all that have ended and are remembered, and why
    #[arg(short, long)]
    pub all: bool,
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
        let client = self.admin.client().await?;
        // Nothing comes after it, so it does not matter whether anybody read to the end.
        if self.json {
            let mut rows: Vec<Value> = client.get("api/v1/workers").await?;
            if self.all {
                let ended: Vec<Value> = client.get("api/v1/ended").await?;
                rows.extend(ended.into_iter().map(|mut row| {
                    row["state"] = "ended".into();
                    row
                }));
            }
            let _is_read = output::print_json(&format!("{:#}\n", Value::from(rows)))?;
            return Ok(());
        }
        let rows: Vec<WorkerRow> = client.get("api/v1/workers").await?;
        let mut ended: Vec<EndedRow> = client.get("api/v1/ended").await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs());
        let mut hidden = 0;
        if !self.all {
            ended.retain(|row| row.is_failure() && now <= row.ended_at_ms / 1000 + LATELY);
            hidden = ended.len().saturating_sub(SHOWN);
            ended.drain(..hidden);
        }
        if rows.is_empty() {
            output::notice("no workers now; one is started when a request first needs it");
        } else if output::print(&render(&rows))?.is_break() {
            return Ok(());
        }
        if !ended.is_empty() {
            let gap = if rows.is_empty() { "" } else { "\n" };
            let table = render_ended(&ended, now);
            if output::print(&format!("{gap}{table}"))?.is_break() {
                return Ok(());
            }
        }
        if let Some(notice) = not_shown(&ended, hidden) {
            output::notice(&notice);
        }
        let servers: Vec<ServerRow> = client.get("api/v1/servers").await?;
        for said in servers.iter().filter_map(observed::summary) {
            output::notice(&said);
        }
        Ok(())
    }
}

/// What there is beside those that are shown, and how it is seen.
fn not_shown(shown: &[EndedRow], hidden: usize) -> Option<String> {
    if hidden > 0 {
        return Some(format!(
            "{} failed in the last ten minutes: `stdiopool ps --all` shows all that are remembered, `stdiopool events --since 10m` what happened",
            counted(hidden, "more worker")
        ));
    }
    let mut of_tenants = BTreeMap::<_, usize>::new();
    for row in shown {
        *of_tenants.entry(&row.tenant).or_default() += 1;
    }
    let is_full = of_tenants.values().any(|n| *n >= REMEMBERED_OF_TENANT);
    (is_full || shown.len() >= REMEMBERED_OF_ALL).then(|| {
        format!(
            "of workers that have ended the last {REMEMBERED_OF_TENANT} of each tenant are remembered, {REMEMBERED_OF_ALL} in all: `stdiopool events` goes further back"
        )
    })
}

fn render_ended(rows: &[EndedRow], now: u64) -> String {
    use Align::{Left, Right};
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let tenant = row.tenant.as_ref().map_or("-", |tenant| tenant.as_str());
            let why = row.message.replace('\n', " ");
            [
                row.id.to_string(),
                row.server.to_string(),
                tenant.to_owned(),
                row.reason.clone(),
                row.exit.clone().unwrap_or_else(|| "-".to_owned()),
                table::age(row.age_seconds),
                table::age(now.saturating_sub(row.ended_at_ms / 1000) as f64),
                why.chars().take(160).collect(),
            ]
        })
        .collect();
    let columns = [
        ("ENDED", Left),
        ("SERVER", Left),
        ("TENANT", Left),
        ("REASON", Left),
        ("EXIT", Left),
        ("LIVED", Right),
        ("AGO", Right),
        ("WHY", Left),
    ];
    table::render(columns, &rows)
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
    use crate::admin::Timeline;
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
            start: None,
            life: Timeline::default(),
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

    #[test]
    fn the_table_of_those_that_have_ended() {
        let crashed = EndedRow {
            id: WorkerId(8),
            server: ServerName::new("time"),
            tenant: Some(TenantId::new("acme")),
            ended_at_ms: 1_772_373_750_000,
            reason: "start_failed".into(),
            message: "it exited with status 1 before it answered `initialize`; its last lines:\nx"
                .into(),
            exit: Some("exit 1".into()),
            age_seconds: 0.4,
            stderr_lines: 1,
            life: Timeline::default(),
        };
        assert_eq!(not_shown(std::slice::from_ref(&crashed), 0), None);
        let more = not_shown(std::slice::from_ref(&crashed), 7).expect("a notice");
        assert!(more.starts_with("7 more workers failed"), "{more}");
        assert!(more.contains("`stdiopool ps --all`"), "{more}");
        let all = vec![crashed.clone(); REMEMBERED_OF_TENANT];
        let more = not_shown(&all, 0).expect("there may have been more");
        assert!(more.contains("`stdiopool events`"), "{more}");
        assert_eq!(
            render_ended(&[crashed], 1_772_373_762),
            "ENDED  SERVER  TENANT  REASON        EXIT    LIVED  AGO  WHY\nw8     time    acme    start_failed  exit 1     0s  12s  it exited with status 1 before it answered `initialize`; its last lines: x\n"
        );
    }
}
