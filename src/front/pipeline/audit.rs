//! What the audit log is told of requests.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::ids::{ServerName, WorkerId};
use crate::launch::Redactor;
use crate::protocol::{Envelope, Failure, RawJson};
use crate::telemetry::RequestSpan;
use crate::telemetry::audit::{Audit, AuditKind, AuditRecord};
use crate::tenancy::Principal;
use crate::upstream::Workers;

/// Methods that do something or show something; the others only look around.
const CALLS: [&str; 6] = [
    "tools/call",
    "prompts/get",
    "resources/read",
    "resources/subscribe",
    "completion/complete",
    "initialize",
];
/// Longest name or path that is kept, in bytes.
const MAX_NAME: usize = 256;

/// The requests of one caller with one server in one POST. A request with an outcome is written when its
/// worker is known, or at the latest when this is dropped.
#[derive(Debug)]
pub(in crate::front) struct RequestAudit {
    audit: Arc<Audit>,
    workers: Arc<Workers>,
    principal: Principal,
    server: ServerName,
    /// Without an outcome, in the order asked; `None` for those that are not written.
    asked: VecDeque<Option<AuditRecord>>,
    done: Vec<AuditRecord>,
}

/// The parameters that say what is called.
#[derive(Deserialize)]
struct Called<'a> {
    #[serde(alias = "uri", default)]
    name: Option<String>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

impl RequestAudit {
    pub(in crate::front) fn new(
        audit: &Arc<Audit>,
        workers: &Arc<Workers>,
        principal: &Principal,
        server: &ServerName,
    ) -> Self {
        Self {
            audit: Arc::clone(audit),
            workers: Arc::clone(workers),
            principal: principal.clone(),
            server: server.clone(),
            asked: VecDeque::new(),
            done: vec![],
        }
    }

    pub(in crate::front) fn asks(&mut self, envelope: &Envelope<'_>) {
        let method = envelope.method.as_deref().unwrap_or_default();
        let record = CALLS.contains(&method).then(|| {
            let params = envelope.params.map(RawJson::get).unwrap_or_default();
            let called = serde_json::from_str::<Called<'_>>(params).ok();
            let arguments = called.as_ref().and_then(|called| called.arguments);
            let arguments = arguments.map(RawValue::get);
            let tenant = self.principal.tenant.as_str();
            AuditRecord {
                method: Some(method.to_owned()),
                object: called.and_then(|called| called.name).map(|name| cut(&name)),
                request_bytes: Some(params.len() as u64),
                arguments_digest: arguments
                    .map(|text| self.audit.digester.of(tenant, text.as_bytes())),
                arguments: arguments
                    .filter(|_| self.audit.arguments)
                    .map(str::to_owned),
                ..of(&self.principal, &self.server)
            }
        });
        self.asked.push_back(record);
    }

    /// The next of those asked has its outcome.
    pub(in crate::front) fn outcome(
        &mut self,
        outcome: &str,
        reason: Option<&str>,
        bytes: Option<usize>,
        took: Duration,
    ) {
        let Some(Some(mut record)) = self.asked.pop_front() else {
            return;
        };
        record.outcome = Some(outcome.to_owned());
        record.reason = reason.map(str::to_owned);
        record.duration_ms = u64::try_from(took.as_millis()).ok();
        record.response_bytes = bytes.map(|bytes| bytes as u64);
        self.done.push(record);
    }

    /// Requests with an outcome were that worker's.
    pub(in crate::front) fn was_of(&mut self, worker: Option<WorkerId>) {
        let connection = worker.and_then(|worker| self.workers.connection(worker));
        let redactor = connection
            .as_ref()
            .map(|connection| &connection.plan().spec.redactor);
        let account = self.workers.ledger().account(&self.principal.tenant);
        for mut record in self.done.drain(..) {
            record.worker = worker.map(|worker| worker.to_string());
            // Without its secrets at hand, what is a secret cannot be told.
            record.arguments = record
                .arguments
                .zip(redactor)
                .map(|(arguments, redactor)| masked(&arguments, redactor));
            self.audit.record_of(&account, record);
        }
    }
}

impl Drop for RequestAudit {
    fn drop(&mut self) {
        self.was_of(None);
    }
}

/// A request that was turned away before it was known for what it is.
pub(in crate::front) fn refused(
    audit: &Audit,
    who: Option<&Principal>,
    server: Option<&ServerName>,
    failure: &Failure,
    peer: Option<IpAddr>,
    path: Option<&str>,
) {
    audit.record(AuditRecord {
        kind: AuditKind::Refusal,
        server: server.map(ToString::to_string),
        outcome: Some("failed".to_owned()),
        reason: Some(failure.reason.as_str().to_owned()),
        peer: peer.map(|peer| peer.to_string()),
        path: path.map(cut),
        request_id: request_id(),
        ..who.map_or_else(AuditRecord::default, of_caller)
    });
}

/// Something that was done to a config that is stored, or was to be.
#[derive(Debug)]
pub(in crate::front) struct ConfigAct<'a> {
    /// As it is called in the log.
    pub(in crate::front) name: &'a str,
    /// The server that the config is for.
    pub(in crate::front) server: Option<&'a str>,
    /// The fingerprint of its handle.
    pub(in crate::front) handle: Option<String>,
    /// Why the act was not done; `None` if it was.
    pub(in crate::front) failed: Option<&'a Failure>,
    pub(in crate::front) took: Duration,
}

/// What a caller did to a config that is stored.
pub(in crate::front) fn stored_config(audit: &Audit, principal: &Principal, act: ConfigAct<'_>) {
    let ConfigAct { failed, took, .. } = act;
    audit.record(AuditRecord {
        method: Some(act.name.to_owned()),
        object: act.handle,
        server: act.server.map(cut),
        outcome: Some(if failed.is_none() { "ok" } else { "failed" }.to_owned()),
        reason: failed.map(|failure| failure.reason.as_str().to_owned()),
        duration_ms: u64::try_from(took.as_millis()).ok(),
        ..of_caller(principal)
    });
}

fn of(principal: &Principal, server: &ServerName) -> AuditRecord {
    AuditRecord {
        server: Some(server.to_string()),
        ..of_caller(principal)
    }
}

fn of_caller(principal: &Principal) -> AuditRecord {
    AuditRecord {
        tenant: Some(principal.tenant.to_string()),
        subject: principal.subject.clone(),
        token: principal.token.as_deref().map(str::to_owned),
        request_id: request_id(),
        ..AuditRecord::default()
    }
}

fn request_id() -> Option<String> {
    RequestSpan::current_id().map(|id| id.to_string())
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(MAX_NAME);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// The arguments with secrets masked: in each text of them, so that it does not matter how JSON
/// writes one.
fn masked(arguments: &str, redactor: &Redactor) -> String {
    fn mask(value: &mut Value, redactor: &Redactor) {
        match value {
            Value::String(text) => *text = redactor.redact(text),
            Value::Array(items) => items.iter_mut().for_each(|item| mask(item, redactor)),
            Value::Object(fields) => {
                let old = std::mem::take(fields);
                fields.extend(old.into_iter().map(|(key, mut value)| {
                    mask(&mut value, redactor);
                    (redactor.redact(&key), value)
                }));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let Ok(mut value) = serde_json::from_str(arguments) else {
        return String::new();
    };
    mask(&mut value, redactor);
    // A secret may also be a number.
    redactor.redact(&value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_arguments_are_masked_however_they_are_written() {
        let redactor = Redactor::new(["pass\"word".into(), "12345678".into()]);
        let arguments = r#"{"a":"x pass\u0022word y","pass\"word":[{"b":12345678}],"c":"fine"}"#;
        let masked = masked(arguments, &redactor);
        assert!(!masked.contains("word") && !masked.contains("12345678"));
        assert!(masked.contains("fine") && masked.matches("[redacted]").count() == 3);
    }

    #[test]
    fn what_strangers_send_is_cut() {
        assert_eq!(cut("short"), "short");
        assert!(cut(&"ä".repeat(1000)).len() <= MAX_NAME);
    }
}
