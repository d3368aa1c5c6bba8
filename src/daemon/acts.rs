//! What the operator does to a running stdiopool, as records of the audit log.

use std::sync::Arc;

use crate::ids::WorkerId;
use crate::routing::StartPlan;
use crate::telemetry::audit::{Audit, AuditKind, AuditRecord};

/// Writes down an act of the operator.
pub(super) fn acted(audit: Option<&Audit>, record: AuditRecord) {
    if let Some(audit) = audit {
        audit.record(AuditRecord {
            kind: AuditKind::Act,
            ..record
        });
    }
}

/// The record of an act that was done.
pub(super) fn done(method: &str) -> AuditRecord {
    AuditRecord {
        method: Some(method.to_owned()),
        outcome: Some("ok".to_owned()),
        ..AuditRecord::default()
    }
}

/// The record of an act on a worker, of that plan where one is known.
pub(super) fn on_worker(
    method: &str,
    id: WorkerId,
    plan: Option<&Arc<StartPlan>>,
    is_ok: bool,
) -> AuditRecord {
    let record = AuditRecord {
        worker: Some(id.to_string()),
        server: plan.map(|plan| plan.server.to_string()),
        tenant: plan.map(|plan| plan.whose().to_owned()),
        ..done(method)
    };
    of_outcome(record, is_ok)
}

/// The record, with what became of its act.
pub(super) fn of_outcome(mut record: AuditRecord, is_ok: bool) -> AuditRecord {
    record.outcome = Some(if is_ok { "ok" } else { "failed" }.to_owned());
    record
}
