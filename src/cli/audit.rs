//! `stdiopool audit`: reads the audit log.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Args;
use miette::miette;

use super::error::CliError;
use super::output;
use super::value::NoValue;
use crate::config;
use crate::counted::counted;
use crate::escape;
use crate::telemetry::audit::{AuditFilter, AuditKind, AuditRecord, read_audit};

/// Shows who called what, who was turned away, and what the operator did
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  stdiopool audit --since 1h
  stdiopool audit --tenant acme --tool delete_repo --json | jq .subject
  stdiopool audit --outcome unauthorized")]
pub struct AuditArgs {
    /// Of this tenant
    #[arg(long)]
    pub tenant: Option<String>,
    /// Of this server
    #[arg(long)]
    pub server: Option<String>,
    /// Of this tool, prompt or resource; of acts, the token, the secret or the file of a backup
    #[arg(long, value_name = "NAME")]
    pub tool: Option<String>,
    /// Of this user
    #[arg(long)]
    pub subject: Option<String>,
    /// With this outcome (ok, error, failed, cancelled) or this reason, such as unauthorized
    #[arg(long)]
    pub outcome: Option<String>,
    /// Not before: a time such as 2026-11-24T08:00:00Z, or how long ago, such as 2h
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub since: Option<SystemTime>,
    /// Print the lines as they stand in the log
    #[arg(long)]
    pub json: bool,
    /// The configuration that says where the log is
    #[arg(long, value_name = "FILE", default_value = "pool.toml")]
    pub config: PathBuf,
}

pub(super) fn since(text: &str) -> Result<SystemTime, NoValue> {
    if let Ok(at) = humantime::parse_rfc3339_weak(text) {
        return Ok(at);
    }
    let ago: Duration = humantime::parse_duration(text).map_err(|_| NoValue::Moment)?;
    SystemTime::now()
        .checked_sub(ago)
        .ok_or(NoValue::TooLongAgo)
}

impl AuditArgs {
    /// Prints the lines that are wanted, oldest first.
    ///
    /// # Errors
    /// When there is no audit log, or it cannot be read.
    pub fn run(self) -> Result<(), miette::Report> {
        let config = config::load(&self.config).map_err(|error| miette!("{error}"))?;
        let file = config.audit.file.ok_or_else(|| {
            miette!(
                help = "set `file` under [audit], such as \"audit.jsonl\", and restart stdiopool",
                "there is no audit log: `audit.file` is not set in {}",
                self.config.display()
            )
        })?;
        let filter = AuditFilter {
            tenant: self.tenant,
            server: self.server,
            object: self.tool,
            subject: self.subject,
            outcome: self.outcome,
            since: self.since,
        };
        let mut failed: Option<CliError> = None;
        let unreadable = read_audit(&file, &filter, |record, line| {
            let printed = if self.json {
                output::print_json(&format!("{line}\n"))
            } else {
                output::print(&shown(record))
            };
            match printed {
                Ok(ControlFlow::Continue(())) => true,
                Ok(ControlFlow::Break(())) => false,
                Err(error) => {
                    failed = Some(error);
                    false
                }
            }
        });
        if let Some(error) = failed {
            return Err(error.into());
        }
        let unreadable = unreadable.map_err(|error| miette!("{}: {error}", file.display()))?;
        if unreadable > 0 {
            output::notice(&format!(
                "{}: not of the audit log, or damaged: {}",
                file.display(),
                counted(unreadable, "line")
            ));
        }
        Ok(())
    }
}

/// A record on a line, for people.
fn shown(record: &AuditRecord) -> String {
    let mut line = record.at.clone();
    let mut add = |text: &str| {
        line.push(' ');
        line.push_str(&escape::for_log(text));
    };
    if let (AuditKind::Lost, Some(lost)) = (record.kind, record.lost) {
        let lost = usize::try_from(lost).unwrap_or(usize::MAX);
        add(&format!("missing here: {}", counted(lost, "line")));
    } else {
        add(record.outcome.as_deref().unwrap_or("-"));
        add(record.method.as_deref().unwrap_or("refused"));
        for part in [&record.object, &record.path].into_iter().flatten() {
            add(part);
        }
        let pairs = [
            ("server", record.server.clone()),
            ("tenant", record.tenant.clone()),
            ("subject", record.subject.clone()),
            ("token", record.token.clone()),
            ("worker", record.worker.clone()),
            ("reason", record.reason.clone()),
            ("host", record.host.clone()),
            ("port", record.port.map(|port| port.to_string())),
            ("sent", record.sent_bytes.map(|bytes| bytes.to_string())),
            (
                "received",
                record.received_bytes.map(|bytes| bytes.to_string()),
            ),
            ("peer", record.peer.clone()),
            ("took", record.duration_ms.map(|ms| format!("{ms}ms"))),
            ("arguments", record.arguments.clone()),
        ];
        for (name, value) in pairs {
            if let Some(value) = value {
                add(&format!("{name}={value}"));
            }
        }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_people() {
        let record = AuditRecord {
            at: "2026-11-24T08:00:00.000Z".to_owned(),
            tenant: Some("acme".to_owned()),
            method: Some("tools/call".to_owned()),
            object: Some("add".to_owned()),
            outcome: Some("ok".to_owned()),
            duration_ms: Some(12),
            ..AuditRecord::default()
        };
        assert_eq!(
            shown(&record),
            "2026-11-24T08:00:00.000Z ok tools/call add tenant=acme took=12ms\n"
        );
        assert!(since("2026-11-24T08:00:00Z").is_ok() && since("2h").is_ok());
        assert!(since("yesterday").is_err());
    }
}
