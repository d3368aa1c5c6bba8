//! `stdiopool events`: what happens, and what has happened.

use clap::Args;

use super::client::AdminArgs;
use super::error::CliError;
use super::output;
use super::sse;
use crate::admin::Event;
use crate::escape;

/// Shows what happened to workers, sessions, packages and the configuration
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Events are remembered since stdiopool started, the last 512 of each tenant.

Examples:
  stdiopool events --since 10m
  stdiopool events --follow --server github")]
pub struct EventsArgs {
    /// How far back: a span of time; all that is remembered if neither this nor --follow is given
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub since: Option<std::time::Duration>,
    /// Go on with what happens from now on
    #[arg(short, long)]
    pub follow: bool,
    /// Of this server only
    #[arg(long, value_name = "NAME")]
    pub server: Option<String>,
    /// Of this tenant only
    #[arg(long, value_name = "T")]
    pub tenant: Option<String>,
    /// Print each event as a line of JSON
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

impl EventsArgs {
    /// Asks and prints, with `--follow` until stdiopool or the reader is gone.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn run(self) -> Result<(), miette::Report> {
        let client = self.admin.client().await?;
        let since = self
            .since
            .map(|since| match (since.as_secs(), since.subsec_millis()) {
                // In milliseconds, a thousand years are more than is understood.
                (secs, 0) => format!("since={secs}s"),
                _ => format!("since={}ms", since.as_millis()),
            });
        if !self.follow {
            let query = since.map_or_else(String::new, |since| format!("&{since}"));
            let path = format!("api/v1/events?follow=false{query}");
            let events: Vec<Event> = client.get(&path).await?;
            for event in events.iter().filter(|event| self.is_meant(event)) {
                if self.print(event)?.is_break() {
                    break;
                }
            }
            return Ok(());
        }
        let query = since.map_or_else(String::new, |since| format!("?{since}"));
        let path = format!("api/v1/events{query}");
        let shown = sse::each(&client, &path, "events", |event: Event| {
            if self.is_meant(&event) {
                self.print(&event)
            } else {
                Ok(std::ops::ControlFlow::Continue(()))
            }
        });
        Ok(shown.await?)
    }

    fn is_meant(&self, event: &Event) -> bool {
        let server = event.server.as_ref().map(|it| it.as_str());
        let tenant = event.tenant.as_ref().map(|it| it.as_str());
        (self.server.is_none() || self.server.as_deref() == server)
            && (self.tenant.is_none() || self.tenant.as_deref() == tenant)
    }

    fn print(&self, event: &Event) -> Result<std::ops::ControlFlow<()>, CliError> {
        if self.json {
            let line = serde_json::to_string(event);
            let line = line.map_err(|error| CliError::Protocol(error.to_string()))?;
            return output::print_json(&format!("{line}\n"));
        }
        output::print(&format!("{}\n", line_of(event)))
    }
}

/// One line, whatever the message holds.
fn line_of(event: &Event) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(event.at_ms);
    let kind = serde_json::to_value(event.kind).unwrap_or_default();
    let mut line = format!(
        "{} {}",
        humantime::format_rfc3339_seconds(at),
        kind.as_str().unwrap_or_default()
    );
    let worker = event.worker.map(|worker| worker.to_string());
    for (name, value) in [
        ("worker", worker.as_deref()),
        ("server", event.server.as_ref().map(|it| it.as_str())),
        ("tenant", event.tenant.as_ref().map(|it| it.as_str())),
    ] {
        if let Some(value) = value {
            line.push_str(&format!(" {name}={value}"));
        }
    }
    line.push_str(&format!("  {}", escape::for_log(&event.message)));
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::EventKind;
    use crate::ids::{ServerName, WorkerId};

    #[test]
    fn an_event_is_one_line() {
        let event = Event {
            at_ms: 1_772_373_750_000,
            kind: EventKind::WorkerStartFailed,
            server: Some(ServerName::new("github")),
            tenant: None,
            worker: Some(WorkerId(7)),
            reason: None,
            message: "it exited; its last lines on stderr:\nforged".into(),
        };
        assert_eq!(
            line_of(&event),
            "2026-03-01T14:02:30Z worker_start_failed worker=w7 server=github  it exited; its last lines on stderr:\\nforged"
        );
    }
}
