//! `stdiopool usage`: what tenants, users and servers have used.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use serde_json::Value;
use url::form_urlencoded::Serializer;

use super::audit::since;
use super::client::AdminArgs;
use super::output;
use super::table::{self, Align};
use crate::admin::{UsageReport, UsageRow};
use crate::escape;
use crate::usage::Month;

/// In what spans it is told.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Per {
    /// By the hour; what is older than two weeks, by the day
    Hour,
    /// By the day, in UTC
    Day,
    /// By the month, in UTC
    Month,
    /// All at once
    All,
}

/// Shows what tenants, users and servers have used: requests, processor, memory, bytes
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Hours are kept for two weeks, days for 400 days; all times are UTC.

Examples:
  stdiopool usage
  stdiopool usage --tenant acme --per month --since 2026-01-01T00:00:00Z
  stdiopool usage --since 24h --per hour --csv > usage.csv")]
pub struct UsageArgs {
    /// Of this tenant
    #[arg(long, value_name = "T")]
    pub tenant: Option<String>,
    /// Of this user
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Of this server
    #[arg(long, value_name = "NAME")]
    pub server: Option<String>,
    /// Not before: a time such as 2026-11-24T08:00:00Z, or how long ago, such as 2h; else this month
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub since: Option<SystemTime>,
    /// In what spans
    #[arg(long, value_enum, default_value_t = Per::All)]
    pub per: Per,
    /// Print comma-separated values (RFC 4180)
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    /// Print the rows as JSON
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

impl UsageArgs {
    /// Asks and prints.
    ///
    /// # Errors
    /// When nobody answers, or not with what was used.
    pub async fn run(self) -> Result<(), miette::Report> {
        let client = self.admin.client().await?;
        let path = self.path();
        // Nothing comes after it, so it does not matter whether anybody read to the end.
        if self.json {
            let report: Value = client.get(&path).await?;
            let _is_read = output::print_json(&format!("{:#}\n", report["rows"]))?;
            tell_whether_whole(report["is_whole"] == true);
            return Ok(());
        }
        let report: UsageReport = client.get(&path).await?;
        if self.csv {
            let _is_read = output::print(&csv(&report.rows))?;
        } else if report.rows.is_empty() {
            output::notice("nothing was used in that time");
        } else {
            let _is_read = output::print(&render(&report.rows))?;
        }
        tell_whether_whole(report.is_whole);
        Ok(())
    }

    fn path(&self) -> String {
        let month = || Month::of(SystemTime::now()).begins();
        let since = self.since.unwrap_or_else(month);
        let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
        let per = match self.per {
            Per::Hour => "hour",
            Per::Day => "day",
            Per::Month => "month",
            Per::All => "all",
        };
        let mut query = Serializer::new(String::new());
        query.append_pair("since", &since.as_millis().to_string());
        query.append_pair("per", per);
        let filters = [
            ("tenant", &self.tenant),
            ("user", &self.user),
            ("server", &self.server),
        ];
        for (name, value) in filters {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        format!("api/v1/usage?{}", query.finish())
    }
}

fn tell_whether_whole(is_whole: bool) {
    if !is_whole {
        output::notice(
            "there is more than is told at once: the oldest is missing (--tenant, --server, --since or --per make it less)",
        );
    }
}

/// The columns of a row, as programs read them.
fn fields(row: &UsageRow) -> [String; 15] {
    let or_none = |name: &Option<String>| name.clone().unwrap_or_default();
    [
        row.from.clone(),
        row.span.clone(),
        or_none(&row.tenant),
        or_none(&row.user),
        row.server.clone(),
        row.requests.to_string(),
        row.calls.to_string(),
        row.errors.to_string(),
        format!("{:.3}", row.cpu_seconds),
        format!("{:.6}", row.awake_mib_hours),
        format!("{:.6}", row.asleep_mib_hours),
        row.bytes_in.to_string(),
        row.bytes_out.to_string(),
        row.starts.to_string(),
        format!("{:.6}", row.queue_seconds),
    ]
}

const HEADER: &str = "from,span,tenant,user,server,requests,calls,errors,cpu_seconds,awake_mib_hours,asleep_mib_hours,bytes_in,bytes_out,starts,queue_seconds";

/// Comma-separated values, with a header; a line break in a name is written out.
fn csv(rows: &[UsageRow]) -> String {
    let mut text = format!("{HEADER}\n");
    for row in rows {
        let line: Vec<String> = fields(row).iter().map(|it| quoted(it)).collect();
        text.push_str(&line.join(","));
        text.push('\n');
    }
    text
}

/// A field, in quotes where it needs them (RFC 4180, 2).
fn quoted(field: &str) -> String {
    let field = escape::for_log(field);
    match field.contains(['"', ',']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.into_owned(),
    }
}

fn render(rows: &[UsageRow]) -> String {
    use Align::{Left, Right};
    let or_dash = |name: &Option<String>| match name.as_deref() {
        None => "-".to_owned(),
        Some("*") => "(others)".to_owned(),
        Some(name) => name.to_owned(),
    };
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            [
                shown_time(row),
                or_dash(&row.tenant),
                or_dash(&row.user),
                row.server.clone(),
                row.requests.to_string(),
                row.calls.to_string(),
                row.errors.to_string(),
                format!("{:.1}s", row.cpu_seconds),
                format!("{:.1}", row.awake_mib_hours),
                format!("{:.1}", row.asleep_mib_hours),
                table::size(row.bytes_in),
                table::size(row.bytes_out),
                row.starts.to_string(),
                format!("{:.1}s", row.queue_seconds),
            ]
        })
        .collect();
    let columns = [
        ("FROM", Left),
        ("TENANT", Left),
        ("USER", Left),
        ("SERVER", Left),
        ("REQUESTS", Right),
        ("CALLS", Right),
        ("ERRORS", Right),
        ("CPU", Right),
        ("AWAKE-MIBH", Right),
        ("ASLEEP-MIBH", Right),
        ("IN", Right),
        ("OUT", Right),
        ("STARTS", Right),
        ("QUEUED", Right),
    ];
    table::render(columns, &rows)
}

/// When the span begins, as exactly as it is told.
fn shown_time(row: &UsageRow) -> String {
    let digits = match row.span.as_str() {
        "month" => 7,
        "day" => 10,
        _ => 16,
    };
    row.from.get(..digits).unwrap_or(&row.from).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Span;
    use crate::usage::Amounts;

    fn rows() -> Vec<UsageRow> {
        let names = |tenant: &str, user: &str| [tenant, user, "github"].map(str::to_owned);
        let used = Amounts {
            requests: 1_204,
            calls: 1_100,
            errors: 3,
            bytes_in: 310_000,
            bytes_out: 9_500_000,
            starts: 2,
            queue_us: 1_250_000,
            cpu_ms: 84_210,
            awake_kib_ms: 1024 * 3_600_000 * 70,
            asleep_kib_ms: 1024 * 1_800_000,
        };
        let day = 20_787 * 86_400;
        vec![
            UsageRow::new(
                day + 13 * 3_600,
                Span::Hour,
                names("acme", "ada, \"a\"\n"),
                used,
            ),
            UsageRow::new(day, Span::Day, names("acme", "*"), used),
            UsageRow::new(day, Span::Month, names("", ""), Amounts::default()),
        ]
    }

    #[test]
    fn the_table_of_what_was_used() {
        insta::assert_snapshot!(render(&rows()));
    }

    #[test]
    fn values_for_programs() {
        insta::assert_snapshot!(csv(&rows()));
    }

    #[test]
    fn every_column_has_a_name() {
        assert_eq!(HEADER.split(',').count(), fields(&rows()[0]).len());
    }
}
