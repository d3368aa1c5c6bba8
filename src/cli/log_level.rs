//! `stdiopool log-level`: what a running stdiopool logs.

use std::time::Duration;

use clap::Args;
use http::Method;

use super::client::AdminArgs;
use super::output;
use crate::admin::{LogFilterRow, NewLogFilter};

/// Shows what is logged, or changes it while stdiopool runs
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
A filter is a level (error, warn, info, debug, trace), and levels of single modules, as in STDIOPOOL_LOG.

Examples:
  stdiopool log-level
  stdiopool log-level debug --for 10m
  stdiopool log-level info,stdiopool::pool=trace
  stdiopool log-level --reset")]
pub struct LogLevelArgs {
    /// The filter from now on
    #[arg(value_name = "FILTER", conflicts_with = "reset")]
    pub filter: Option<String>,
    /// After that long the filter is again what stdiopool began with
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration, requires = "filter")]
    pub lasting: Option<Duration>,
    /// The filter is again what stdiopool began with
    #[arg(long)]
    pub reset: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

impl LogLevelArgs {
    /// Asks and prints.
    ///
    /// # Errors
    /// When nobody answers, or the filter cannot be read.
    pub async fn run(self) -> Result<(), miette::Report> {
        let path = "api/v1/log-filter";
        let client = self.admin.client().await?;
        let row: LogFilterRow = if self.filter.is_some() || self.reset {
            let new = NewLogFilter {
                seconds: self.lasting.map(|lasting| lasting.as_secs().max(1)),
                filter: self.filter,
            };
            let body = serde_json::json!(new);
            client.ask(Method::PUT, path, Some(&body)).await?
        } else {
            client.get(path).await?
        };
        // Nothing comes after it, so it does not matter whether anybody read to the end.
        let _is_read = match self.json {
            true => output::print_json(&format!("{:#}\n", serde_json::json!(row)))?,
            false => output::print(&render(&row))?,
        };
        Ok(())
    }
}

fn render(row: &LogFilterRow) -> String {
    let LogFilterRow {
        filter,
        first,
        until,
    } = row;
    match until {
        Some(until) => format!("{filter} until {until}, then {first} again\n"),
        None if filter == first => format!("{filter}\n"),
        None => format!("{filter} (at start: {first})\n"),
    }
}
