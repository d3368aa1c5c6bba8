//! `stdiopool trace`: the way of single requests.

use clap::{Args, ValueEnum};
use serde_json::Value;
use url::form_urlencoded::Serializer;

use super::client::AdminArgs;
use super::output;
use super::table::{self, Align};
use crate::admin::RequestRow;
use crate::ids::WorkerId;

/// Which requests are listed.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Not over yet
    Open,
    /// Failed, or given up by their client
    Failed,
    /// Of a second or more, or open for as long
    Slow,
}

/// Shows where one request spent its time, or lists the last ones, the latest first
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The last 4096 requests are remembered, and 1024 open, failed or slow ones before those.

Examples:
  stdiopool trace 1f0c22ab-3e
  stdiopool trace --state open
  stdiopool trace --state slow --tenant acme --limit 20")]
pub struct TraceArgs {
    /// `data.requestId` of an error, or the id in the log; without it requests are listed
    #[arg(value_name = "REQUEST-ID")]
    pub id: Option<String>,
    /// Of this tenant
    #[arg(long, value_name = "T", conflicts_with = "id")]
    pub tenant: Option<String>,
    /// For this server
    #[arg(long, value_name = "NAME", conflicts_with = "id")]
    pub server: Option<String>,
    /// In this state
    #[arg(long, value_enum, conflicts_with = "id")]
    pub state: Option<State>,
    /// So many at the most
    #[arg(long, value_name = "N", default_value_t = 20, conflicts_with = "id")]
    pub limit: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

impl TraceArgs {
    /// Asks and prints.
    ///
    /// # Errors
    /// When nobody answers, or nothing is known of that request.
    pub async fn run(self) -> Result<(), miette::Report> {
        let client = self.admin.client().await?;
        let path = self.path();
        // Nothing comes after it, so it does not matter whether anybody read to the end.
        if self.json {
            let told: Value = client.get(&path).await?;
            let _is_read = output::print_json(&format!("{told:#}\n"))?;
        } else if self.id.is_some() {
            let row: RequestRow = client.get(&path).await?;
            let _is_read = output::print(&render(&row))?;
        } else {
            let rows: Vec<RequestRow> = client.get(&path).await?;
            if rows.is_empty() {
                output::notice("no such request is remembered");
                return Ok(());
            }
            let _is_read = output::print(&render_all(&rows))?;
        }
        Ok(())
    }

    fn path(&self) -> String {
        if let Some(id) = &self.id {
            // A segment of its own, whatever is in it.
            let id: String = url::form_urlencoded::byte_serialize(id.trim().as_bytes()).collect();
            return format!("api/v1/requests/{id}");
        }
        let mut query = Serializer::new(String::new());
        query.append_pair("limit", &self.limit.to_string());
        let state = self.state.map(|state| match state {
            State::Open => "open".to_owned(),
            State::Failed => "failed".to_owned(),
            State::Slow => "slow".to_owned(),
        });
        let filters = [
            ("tenant", &self.tenant),
            ("server", &self.server),
            ("state", &state),
        ];
        for (name, value) in filters {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        format!("api/v1/requests?{}", query.finish())
    }
}

/// One request and its phases.
fn render(row: &RequestRow) -> String {
    let age = table::age(row.age_ms / 1e3);
    let mut text = String::new();
    let facts = [
        ("request", Some(row.id.clone())),
        ("began", Some(format!("{} ({age} ago)", row.began))),
        ("tenant", row.tenant.as_ref().map(ToString::to_string)),
        ("server", row.server.as_ref().map(ToString::to_string)),
        ("method", row.method.clone()),
        ("session", row.session.clone()),
        ("trace", row.trace_id.clone()),
        ("worker", row.worker.map(|worker| worker.to_string())),
        ("outcome", Some(outcome(row))),
    ];
    for (name, value) in facts {
        let value = value.unwrap_or_else(|| "-".to_owned());
        text.push_str(&format!("{name:<8} {value}\n"));
    }
    let phases = [
        (
            "before",
            row.before_ms,
            "body, credentials, limits, way to a worker",
        ),
        (
            "waited",
            Some(row.waited_ms),
            "for a worker: a place, its install, start or waking",
        ),
        ("worker", row.worker_ms, "until the worker's last answer"),
        ("after", row.after_ms, "until that was handed on"),
        ("total", Some(row.total_ms), ""),
    ];
    let rows: Vec<_> = phases
        .into_iter()
        .map(|(name, ms, about)| [name.to_owned(), duration(ms), about.to_owned()])
        .collect();
    text.push('\n');
    let columns = [
        ("PHASE", Align::Left),
        ("TIME", Align::Right),
        ("", Align::Left),
    ];
    text.push_str(&table::render(columns, &rows));
    text
}

fn render_all(rows: &[RequestRow]) -> String {
    use Align::{Left, Right};
    let name = |name: Option<&str>| name.unwrap_or("-").to_owned();
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            [
                row.id.clone(),
                table::age(row.age_ms / 1e3),
                name(row.tenant.as_ref().map(|tenant| tenant.as_str())),
                name(row.server.as_ref().map(|server| server.as_str())),
                name(row.method.as_deref()),
                row.worker
                    .as_ref()
                    .map_or("-".to_owned(), WorkerId::to_string),
                duration(Some(row.waited_ms)),
                duration(row.worker_ms),
                duration(Some(row.total_ms)),
                outcome(row),
            ]
        })
        .collect();
    let columns = [
        ("REQUEST", Left),
        ("AGO", Right),
        ("TENANT", Left),
        ("SERVER", Left),
        ("METHOD", Left),
        ("WORKER", Left),
        ("WAITED", Right),
        ("AT WORKER", Right),
        ("TOTAL", Right),
        ("OUTCOME", Left),
    ];
    table::render(columns, &rows)
}

fn outcome(row: &RequestRow) -> String {
    match &row.reason {
        Some(reason) => format!("{}: {reason}", row.outcome),
        None => row.outcome.clone(),
    }
}

/// A time in the unit that leaves one to four digits before the point; `-` for none.
fn duration(ms: Option<f64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms) if ms < 1e3 => format!("{ms:.2}ms"),
        Some(ms) if ms < 60e3 => format!("{:.2}s", ms / 1e3),
        Some(ms) => table::age(ms / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ServerName, TenantId};

    fn rows() -> [RequestRow; 3] {
        let ok = RequestRow {
            id: "1f0c22ab-3e".into(),
            began: "2026-11-30T18:20:11.123Z".into(),
            age_ms: 92_000.0,
            tenant: Some(TenantId::new("acme")),
            server: Some(ServerName::new("github")),
            method: Some("tools/call".into()),
            session: Some("ab12cd34".into()),
            trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
            worker: Some(WorkerId(12)),
            outcome: "ok".into(),
            reason: None,
            before_ms: Some(0.214),
            waited_ms: 1_204.0,
            worker_ms: Some(81.5),
            after_ms: Some(0.042),
            total_ms: 1_285.756,
        };
        let open = RequestRow {
            id: "1f0c22ab-40".into(),
            outcome: "open".into(),
            worker_ms: None,
            after_ms: None,
            total_ms: 92_000.0,
            ..ok.clone()
        };
        let refused = RequestRow {
            id: "1f0c22ab-41".into(),
            tenant: None,
            method: None,
            session: None,
            worker: None,
            outcome: "failed".into(),
            reason: Some("unauthenticated".into()),
            before_ms: None,
            waited_ms: 0.0,
            total_ms: 0.2,
            ..open.clone()
        };
        [ok, open, refused]
    }

    #[test]
    fn the_way_of_one_request() {
        insta::assert_snapshot!(render(&rows()[0]));
    }

    #[test]
    fn the_table_of_the_last_ones() {
        insta::assert_snapshot!(render_all(&rows()));
    }
}
